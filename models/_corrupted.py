"""The task of the recycling trunk: CA atoms of a chain's crop, from its sequence and what noise has left of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from deqops._errors import InputError

from ._backbones import KINDS, Chain

NEIGHBOURS = 4
PAIR_FEATURES = 2 + NEIGHBOURS
_CONTACT = 8.0


class Crops(NamedTuple):
    """Crops of one length, a problem each.

    Attributes:
        sequence: (crops, residues, 21) one-hot.
        pairs: (crops, residues, residues, 6): in contact by the corrupted map; 1 to 4 places apart; 1 / (1 + places).
        noisy: (crops, residues, 3), coordinates with noise, in angstrom.
        true: (crops, residues, 3), the coordinates, centred; what is to be found.
    """

    sequence: Tensor
    pairs: Tensor
    noisy: Tensor
    true: Tensor

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of the operator."""
        return self.sequence, self.pairs, self.noisy


@dataclass(frozen=True)
class Corruption:
    """What is done to a crop.

    Args:
        noise: standard deviation of each coordinate, in angstrom.
        missing: share of the contacts (CA nearer than 8 angstrom, at least 3 places apart) that the map lacks.
        false: share of the other pairs that it has in addition.
    """

    noise: float = 2.0
    missing: float = 0.2
    false: float = 0.02

    def __post_init__(self) -> None:
        if not 0 <= self.noise < 1e3:
            raise InputError(f"noise: got {self.noise}; choose 0 or a few angstrom")
        if not 0 <= self.missing <= 1 or not 0 <= self.false <= 1:
            raise InputError(f"missing, false: got {self.missing} and {self.false}; choose shares from 0 to 1")


def corrupted(
    chains: Sequence[Chain], residues: int, count: int, corruption: Corruption, generator: torch.Generator | None = None
) -> Crops:
    """Crops drawn from chains, as often from each residue, with noise.

    Args:
        chains: of which those with at least `residues` residues are used.
        residues: of a crop.
        count: of crops.
        corruption: what is done to each.
        generator: None for torch's global one.

    Raises:
        InputError: no chain is long enough.
    """
    long = [chain for chain in chains if len(chain) >= residues]
    if not long:
        raise InputError(f"residues: got {residues}; no chain is so long, choose fewer")
    rooms = torch.tensor([len(chain) - residues + 1 for chain in long])
    places = torch.randint(int(rooms.sum()), (count,), generator=generator)
    which = torch.searchsorted(rooms.cumsum(0), places, right=True)
    starts = places - (rooms.cumsum(0) - rooms)[which]
    cuts = [(long[chain], slice(start, start + residues)) for chain, start in zip(which, starts, strict=True)]
    atoms = torch.stack([chain.backbone[cut, 1] for chain, cut in cuts])
    kinds = torch.stack([chain.residue[cut] for chain, cut in cuts])
    true = (atoms - atoms.mean(dim=1, keepdim=True)).float()
    noise = corruption.noise * torch.randn(true.shape, generator=generator)
    sequence = torch.nn.functional.one_hot(kinds, KINDS).float()
    return Crops(sequence, _pairs(true, corruption, generator), true + noise, true)


def _pairs(true: Tensor, corruption: Corruption, generator: torch.Generator | None) -> Tensor:
    count, residues, _ = true.shape
    gaps = (true[:, :, None] - true[:, None]).norm(dim=-1)
    draws = torch.rand(gaps.shape, generator=generator).triu(1)
    draws = draws + draws.transpose(1, 2)  # the map is symmetric
    contact = torch.where(gaps < _CONTACT, draws >= corruption.missing, draws < corruption.false)
    index = torch.arange(residues)
    apart = (index[:, None] - index).abs()
    contact = contact & (apart > 2)
    near = [(apart == places).float().expand(count, -1, -1) for places in range(1, NEIGHBOURS + 1)]
    return torch.stack([contact.float(), *near, (1 / (1 + apart)).expand(count, -1, -1)], dim=-1)

"""Protein chains as residues and backbone atoms, and chains that are built from torsion angles."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deqops._errors import InputError

_NAMES = "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL"
RESIDUES = tuple(_NAMES.split())
"""Names by number; 20 is any other."""
KINDS = len(RESIDUES) + 1

_N_CA, _CA_C, _C_N = 1.458, 1.525, 1.329  # angstrom: Engh and Huber 1991
_AT_N, _AT_CA, _AT_C = (math.radians(angle) for angle in (121.7, 111.0, 117.2))
_NEAREST = 3.6
_AT_ONCE = 256
_ATTEMPTS = 100

# phi and psi in degrees, their spread, and the residues that are common there
_STATES = (
    (-62.0, -42.0, 6.0, "ALA LEU GLU LYS GLN MET ARG"),
    (-119.0, 130.0, 12.0, "VAL ILE THR TYR PHE TRP CYS"),
    (-75.0, 145.0, 15.0, "PRO SER ASP HIS"),
    (57.0, 40.0, 10.0, "GLY ASN"),
)
_HELIX, _STRAND, _COIL, _TURN = range(4)
_LOOP = (_COIL, _COIL, _TURN, _STRAND, _HELIX)


@dataclass(frozen=True, eq=False)
class Chain:
    """One chain without a gap.

    Attributes:
        name: for messages.
        residue: (length,) int64, numbers of `RESIDUES`.
        backbone: (length, 3, 3) float64, the atoms N, CA, C in angstrom.
    """

    name: str
    residue: Tensor
    backbone: Tensor

    def __len__(self) -> int:
        return len(self.residue)


def synthetic_chains(count: int = 50, length: int = 64, seed: int = 0) -> list[Chain]:
    """Chains of helices, strands and loops: torsion angles drawn around those of proteins, ideal bonds and angles.

    A residue's kind goes with its place: those that are common in helices there, and so on, with one in four drawn
    from all. Of the chains drawn those are kept in which no two CA atoms, neighbours aside, are nearer than 3.6
    angstrom.

    Args:
        count: of chains.
        length: residues of each.
        seed: of everything drawn.

    Raises:
        InputError: a number is below 1, or so long a chain without a clash is hardly ever drawn.
    """
    if count < 1 or length < 1:
        raise InputError(f"count, length: got {count} and {length}; choose at least 1")
    generator = torch.Generator().manual_seed(seed)
    chains: list[Chain] = []
    for _ in range(_ATTEMPTS):
        states = torch.stack([_states(length, generator) for _ in range(_AT_ONCE)])
        backbones = build(*_torsions(states, generator))
        for number in _without_clash(backbones[:, :, 1]):
            chains.append(Chain(f"synthetic-{len(chains)}", _kinds(states[number], generator), backbones[number]))
            if len(chains) == count:
                return chains
    raise InputError(f"length: chains of {length} residues nearly always run into themselves; choose shorter ones")


def build(phi: Tensor, psi: Tensor) -> Tensor:
    """Backbone atoms from torsion angles, by ideal bonds, angles and trans peptides (omega = 180 degrees).

    Args:
        phi: (chains, length) float64, in radians; the first of a chain plays no part.
        psi: likewise; the last of a chain plays no part.

    Returns:
        Tensor: (chains, length, 3, 3), N, CA, C of each residue; the first N lies in the origin.

    Source: Parsons and others, Practical conversion from torsion space to Cartesian space (NeRF), 2005.
    """
    first = [[0.0, 0.0, 0.0], [_N_CA, 0.0, 0.0], [_N_CA - _CA_C * math.cos(_AT_CA), _CA_C * math.sin(_AT_CA), 0.0]]
    atoms = [phi.new_tensor(atom).expand(len(phi), 3) for atom in first]
    omega = torch.full_like(phi[:, 0], math.pi)
    for place in range(1, phi.shape[1]):
        atoms.append(_next(atoms, _C_N, _AT_C, psi[:, place - 1]))
        atoms.append(_next(atoms, _N_CA, _AT_N, omega))
        atoms.append(_next(atoms, _CA_C, _AT_CA, phi[:, place]))
    return torch.stack(atoms, dim=1).reshape(len(phi), -1, 3, 3)


def _next(atoms: list[Tensor], bond: float, angle: float, torsion: Tensor) -> Tensor:
    """The atom at `bond` from the last one, `angle` with the last bond, `torsion` about it: (chains, 3)."""
    a, b, c = atoms[-3:]
    along = torch.nn.functional.normalize(c - b, dim=1)
    normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, along), dim=1)
    across = torch.linalg.cross(normal, along)
    turned = torsion.cos()[:, None] * across + torsion.sin()[:, None] * normal
    found: Tensor = c + bond * (math.sin(angle) * turned - math.cos(angle) * along)
    return found


def _states(length: int, generator: torch.Generator) -> Tensor:
    """What each residue of a chain is part of: (length,), helices and strands with loops between."""
    parts: list[int] = []
    while len(parts) < length:
        parts += [_LOOP[_below(len(_LOOP), generator)] for _ in range(2 + _below(4, generator))]
        kind = (_HELIX, _STRAND)[_below(2, generator)]
        parts += [kind] * (8 + _below(8, generator) if kind == _HELIX else 4 + _below(4, generator))
    return torch.tensor(parts[:length])


def _below(end: int, generator: torch.Generator) -> int:
    return int(torch.randint(end, (), generator=generator))


def _torsions(states: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """phi and psi of states (chains, length), in radians."""
    table = torch.tensor([state[:3] for state in _STATES], dtype=torch.float64).deg2rad()[states]
    noise = torch.randn(2, *states.shape, generator=generator, dtype=torch.float64) * table[..., 2]
    return table[..., 0] + noise[0], table[..., 1] + noise[1]


def _without_clash(ca: Tensor) -> list[int]:
    """Which of (chains, length, 3) have no two atoms, neighbours aside, that are too near."""
    near = torch.cdist(ca, ca, compute_mode="donot_use_mm_for_euclid_dist") < _NEAREST
    clashes = near.triu(2).flatten(1).any(dim=1)
    return [number for number, clash in enumerate(clashes.tolist()) if not clash]


def _kinds(states: Tensor, generator: torch.Generator) -> Tensor:
    """A residue for each state."""
    common = [[RESIDUES.index(name) for name in names.split()] for *_, names in _STATES]
    chosen = [common[state][_below(len(common[state]), generator)] for state in states.tolist()]
    any_of_all = torch.randint(len(RESIDUES), states.shape, generator=generator)
    drawn = torch.rand(states.shape, generator=generator) < 0.25
    return torch.where(drawn, any_of_all, torch.tensor(chosen))

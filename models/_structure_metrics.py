"""How near two structures are: lDDT, which no rigid motion changes, and RMSD after the best one."""

from __future__ import annotations

import torch
from torch import Tensor

from deqops._errors import InputError

INCLUSION = 15.0
THRESHOLDS = (0.5, 1.0, 2.0, 4.0)


def lddt(model: Tensor, reference: Tensor) -> Tensor:
    """Local distance difference test on one atom a residue: part of the short distances that are kept.

    Over the pairs of residues that are less than 15 angstrom apart in the reference: the mean, over the thresholds
    0.5, 1, 2 and 4 angstrom, of the share whose distance differs by less. 1 is best. It does not see reflections.

    Args:
        model: (..., residues, 3) in angstrom.
        reference: of the same shape.

    Returns:
        Tensor: (...) float64; NaN where no pair is so near.

    Raises:
        InputError: other shapes.

    Source: Mariani, Biasini, Barbato, Schwede: lDDT, Bioinformatics 29 (2013) 2722.
    """
    _check(model, reference)
    found, true = _distances(model), _distances(reference)
    pairs = (true < INCLUSION) & ~torch.eye(true.shape[-1], dtype=torch.bool, device=true.device)
    error = (found - true).abs()
    kept = torch.stack([(error < threshold) & pairs for threshold in THRESHOLDS]).double().mean(dim=0)
    return kept.sum(dim=(-2, -1)) / pairs.double().sum(dim=(-2, -1))


def rmsd(model: Tensor, reference: Tensor) -> Tensor:
    """Root of the mean squared distance of corresponding atoms, after the rotation and shift that make it least.

    With H = M^T R of the centred structures and its singular values s, reflections excluded:
    `n rmsd^2 = ||M||^2 + ||R||^2 - 2 (s_1 + s_2 + sign(det H) s_3)`; computed from the moved structure itself, since
    the difference would lose half of the digits.

    Args:
        model: (..., residues, 3).
        reference: of the same shape.

    Returns:
        Tensor: (...) float64, in the coordinates' unit.

    Raises:
        InputError: other shapes.

    Source: Kabsch, Acta Crystallographica A 32 (1976) 922.
    """
    _check(model, reference)
    moved, fixed = _centred(model), _centred(reference)
    left, _, right = torch.linalg.svd(moved.transpose(-2, -1) @ fixed)
    sign = torch.linalg.det(left @ right).sign()
    left = torch.cat([left[..., :2], left[..., 2:] * sign[..., None, None]], dim=-1)
    gaps = moved @ (left @ right) - fixed
    found: Tensor = gaps.square().sum(dim=-1).mean(dim=-1).sqrt()
    return found


def _check(model: Tensor, reference: Tensor) -> None:
    if model.shape != reference.shape or model.dim() < 2 or model.shape[-1] != 3 or model.shape[-2] < 1:
        raise InputError(
            f"model, reference: got shapes {tuple(model.shape)} and {tuple(reference.shape)};"
            " give two of (..., residues, 3)"
        )


def _distances(x: Tensor) -> Tensor:
    """(..., residues, residues) float64."""
    x = x.double()
    return (x[..., :, None, :] - x[..., None, :, :]).square().sum(dim=-1).sqrt()


def _centred(x: Tensor) -> Tensor:
    x = x.double()
    return x - x.mean(dim=-2, keepdim=True)

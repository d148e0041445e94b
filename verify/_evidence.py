"""What a certificate rests on, by kind: proven numbers, counts and tensors (`docs/certificate.md`, E)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ._rounding import div_up, mul_up, sub_down


@dataclass(frozen=True)
class Fields:
    """The names of one kind's parts, in the order of the document."""

    numbers: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()
    tensors: tuple[str, ...] = ()


KINDS: dict[str, Fields] = {
    "absorbing": Fields(("bound",), ("sweeps",), ("lower", "upper")),
    "box": Fields(("bound", "outside")),
    "chain": Fields(("bound",), tensors=("multipliers",)),
    "local_chain": Fields(("bound", "residual"), tensors=("multipliers",)),
    "causal": Fields(counts=("depth",), tensors=("levels",)),
    "componentwise": Fields(("contraction", "size", "inverse_size", "factor", "image"), tensors=("vector",)),
    "lipschitz": Fields(("bound",)),
    "local": Fields(("bound", "residual")),
    "lyapunov": Fields(("defect", "contraction", "size", "inverse_size", "factor"), tensors=("form", "inverse")),
    "log_norm": Fields(("mu", "least", "factor")),
    "monotone": Fields(("mu", "factor")),
    "newton": Fields(("defect", "contraction", "factor"), tensors=("inverse",)),
    "one_sided": Fields(("mu", "bound", "multiplier", "factor")),
    "powers": Fields(("contraction", "factor"), ("doublings",)),
    "quadratic": Fields(("contraction", "size", "inverse_size", "factor"), tensors=("form", "inverse")),
    "two_points": Fields(counts=("problem",), tensors=("first", "second")),
    "eigenvalue": Fields(("radius", "growth"), ("problem",), ("point", "form")),
    "two_equilibria": Fields(("first_radius", "second_radius"), ("problem",), ("first", "second")),
    "cycle": Fields(("radius",), ("problem",), ("points",)),
    "unstable": Fields(("radius", "growth"), ("problem",), ("point", "form")),
    "index": Fields(("radius",), ("problem",), ("point",)),
}
"""Each kind's parts; a reader refuses any other kind, and a part that is missing or not named here."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """The parts of one kind.

    Attributes:
        kind: a key of `KINDS`.
        numbers: proven bounds and parameters, finite float64.
        counts: whole numbers, at least 0.
        tensors: witnesses, each a tuple of float64 tensors (one per leaf of the state, or as the kind says).
    """

    kind: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    tensors: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict)


def center_error(evidence: Evidence) -> float | None:
    """Bound of `||c - y*||` for the centre c of the ball of T2, T6 or T12; None for other kinds."""
    numbers = evidence.numbers
    if evidence.kind not in ("local", "newton", "lyapunov"):
        return None
    moved = numbers["residual" if evidence.kind == "local" else "defect"]
    if evidence.kind == "lyapunov":
        moved = float(mul_up(moved, numbers["inverse_size"]))
    gap = sub_down(1.0, numbers["bound" if evidence.kind == "local" else "contraction"])
    return float(div_up(moved, gap)) if gap > 0 else None

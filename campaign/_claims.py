"""`certify` on layers whose constants, spectral radii and equilibria are known exactly: no verdict may be wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from deqops.verify import Ball, Box, Certificate, Norm, Verdict, _theorems, certify, check

from ._drawing import Random
from ._judge import is_known, judge
from ._operators import Operator, draw_operator
from ._section import Section, Tally

_NAMED = ("l1", "l2", "linf", "weighted_l1", "weighted_l2", "weighted_linf")
_FURTHER = sorted({*getattr(_theorems, "THEOREMS", {})} - {"picard", "damped", "monotone", "local_picard"})
_DAMPINGS = (0.5, 0.25, 0.75, 0.9, 1.0, 1.25, 1.5, -0.25)


def case(seed: int, number: int) -> Tally:
    """One operator: any request, then contraction in plain and weighted norms, then in a ball or a box."""
    rng = np.random.default_rng([seed, 3, number])
    tally = Tally()
    operator, certificate, asked = drawn(rng)
    _judged(tally, operator, certificate, asked)
    if certificate.verdict is not Verdict.UNKNOWN and number % 4 == 0:
        accepted = check(certificate, operator.graph, operator.state, *operator.inputs).accepted
        tally.count("checked again, accepted" if accepted else "checked again, beyond the checker")
    for options in _contractions(rng, operator):
        _judged(tally, operator, _certified(operator, options), _described(options))
    return tally


def drawn(rng: Random) -> tuple[Operator, Certificate, str]:
    """An operator, what was certified of it, and what was asked."""
    operator = draw_operator(rng)
    options = _request(rng, operator)
    return operator, _certified(operator, options), _described(options)


def _certified(operator: Operator, options: dict[str, Any]) -> Certificate:
    return certify(operator.graph, operator.state, *operator.inputs, **options)


def _judged(tally: Tally, operator: Operator, certificate: Certificate, asked: str) -> None:
    found = f"{certificate.verdict.value} {certificate.theorem or ''}".strip()
    tally.count("calls of certify")
    tally.count(found)
    document = certificate.document()
    if not is_known(document):
        tally.count("in a region that is not judged")
    wrong = judge(document, operator)
    tally.violations += [f"{asked} of {operator.label}: {found}, but {reason}" for reason in wrong]


def _described(options: dict[str, Any]) -> str:
    return ", ".join(f"{name}={_shown(value)}" for name, value in options.items())


def _contractions(rng: Random, operator: Operator) -> list[dict[str, Any]]:
    """Claims of contraction: in each plain norm, in given weights, and on a ball."""
    norms: list[str | Norm] = ["l1", "l2", "linf", _weighted(rng, operator)]
    local = {"theorem": "local_picard", "norm": _norm(rng, operator), "region": _region(rng, operator)}
    return [*({"theorem": "picard", "norm": norm} for norm in norms), local]


def _shown(value: Any) -> str:
    return str(value.describe()) if isinstance(value, Norm | Ball | Box) else repr(value)


def _request(rng: Random, operator: Operator) -> dict[str, Any]:
    kind = rng.random()
    if kind < 0.3:
        return {"theorem": "picard", "norm": _norm(rng, operator)}
    if kind < 0.4:
        return {"theorem": "damped", "norm": _norm(rng, operator), "damping": float(rng.choice(_DAMPINGS))}
    if kind < 0.5:
        return {"theorem": "monotone", "norm": str(rng.choice(["auto", "l2", "weighted_l2"]))}
    if kind < 0.65:
        return {"theorem": "local_picard", "norm": _norm(rng, operator), "region": _region(rng, operator)}
    if kind < 0.73:
        return {"norm": _norm(rng, operator)}
    if kind < 0.94 and _FURTHER:
        return _further(rng, operator)
    if kind < 0.97:
        return {"region": _region(rng, operator), "damping": float(rng.choice(_DAMPINGS))}
    return {"damping": float(rng.choice(_DAMPINGS))}


def _further(rng: Random, operator: Operator) -> dict[str, Any]:
    """One of the theorems that the requests above do not name."""
    theorem = _FURTHER[int(rng.integers(len(_FURTHER)))]
    region = getattr(_theorems, "THEOREMS", {})[theorem].region
    local = region == "ball" or (region == "any" and rng.random() < 0.5)
    drawn = _region if region == "any" else _ball
    options: dict[str, Any] = {"theorem": theorem, **({"region": drawn(rng, operator)} if local else {})}
    if region == "any":
        options["norm"] = str(rng.choice(["auto", "linf", "weighted_linf"]))
        options["damping"] = float(rng.choice(_DAMPINGS))
    return options


def _norm(rng: Random, operator: Operator) -> str | Norm:
    return str(rng.choice(_NAMED)) if rng.random() < 0.7 else _weighted(rng, operator)


def _weighted(rng: Random, operator: Operator) -> Norm:
    shape = operator.state.shape[operator.graph.batch_dims :]
    weights = torch.from_numpy(2.0 ** rng.integers(-4, 5, tuple(shape)))
    order: Any = str(rng.choice(["l1", "l2", "linf"]))
    return Norm(order, (weights,))


def _region(rng: Random, operator: Operator) -> Ball | Box:
    """A ball, or a box of other widths in each coordinate, some of them 0 on a side."""
    center, radius = _center(rng, operator), float(10.0 ** rng.uniform(-6, 2))
    if rng.random() < 0.6:
        return Ball(center, radius)
    shares = (torch.from_numpy(rng.uniform(-0.1, 1, tuple(center.shape))).clamp(min=0) for _ in range(2))
    below, above = (radius * share for share in shares)
    return Box(center - below, center + above)


def _ball(rng: Random, operator: Operator) -> Ball:
    return Ball(_center(rng, operator), float(10.0 ** rng.uniform(-6, 2)))


def _center(rng: Random, operator: Operator) -> Tensor:
    """Around a point that damped Picard steps reached, or around anything."""
    state = operator.state
    if rng.random() < 0.8:
        for _ in range(60):
            state = (state + operator.graph(state, *operator.inputs)) / 2
    state = torch.where(state.isfinite() & (state.abs() < 1e6), state, torch.zeros_like(state))
    moved: Tensor = float(rng.choice([0.0, 1e-8, 1e-3])) * torch.from_numpy(rng.standard_normal(tuple(state.shape)))
    return state.double() + moved


CLAIMS = Section("claims", "operators known exactly, six calls of certify each", 20_000, 25, case)

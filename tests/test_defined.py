"""G must be a map: no claim where a constant, an attribute or an input's value leaves it undefined (NaN, infinity)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from deqops.graph import trace
from deqops.testing import assert_accepted
from deqops.verify import Converges, Global, UnsupportedOperationError, Verdict, certify, check, lipschitz_bound
from deqops.verify._document import digest

Z = torch.zeros(1, 3)
NAN, INF = math.nan, math.inf


def full(value: float) -> Tensor:
    return torch.full((3,), value)


UNDEFINED: dict[str, Callable[[Tensor], Tensor]] = {
    "added NaN": lambda z: 0.5 * torch.tanh(z + full(NAN)),
    "added infinity": lambda z: 0.5 * torch.tanh(z) + full(INF),
    "subtracted NaN": lambda z: 0.5 * z - full(NAN),
    "logarithm of a negative constant": lambda z: 0.5 * torch.tanh(z) + torch.log(full(-1.0)),
    "quotient of constants by 0": lambda z: 0.5 * torch.tanh(z) + full(1.0) / full(0.0),
    "maximum with NaN": lambda z: 0.5 * torch.tanh(torch.maximum(z, full(NAN))),
    "maximum with infinity": lambda z: 0.5 * torch.maximum(z, full(INF)),
    "minimum with minus infinity": lambda z: 0.5 * torch.minimum(z, full(-INF)),
    "where": lambda z: 0.5 * torch.where(torch.tensor([True, False, True]), z, full(NAN)),
    "masked fill": lambda z: 0.5 * torch.tanh(z).masked_fill(torch.tensor([True, False, False]), -INF),
    "cat": lambda z: 0.5 * torch.cat([z[:, :2], torch.full((1, 1), NAN)], 1),
    "constant result": lambda z: torch.full((1, 3), NAN) + 0 * z,
    "clamp from NaN": lambda z: 0.5 * z.clamp(min=NAN),
    "clamp from infinity": lambda z: 0.5 * z.clamp(min=INF),
    "scaled by NaN while adding": lambda z: torch.add(0.5 * z, torch.ones(3), alpha=NAN),
    "leaky_relu": lambda z: 0.5 * F.leaky_relu(z, NAN),
    "softplus, beta 0": lambda z: 0.5 * F.softplus(z, beta=0.0),
    "softplus, beta infinite": lambda z: 0.5 * F.softplus(z, beta=INF),
    "power": lambda z: 0.1 * torch.tanh(z) ** NAN,
}


@pytest.mark.parametrize("name", UNDEFINED)
def test_what_is_not_a_finite_number_makes_no_map(name: str) -> None:
    G = UNDEFINED[name]
    for request in ({}, {"norm": "l2"}, {"theorem": "picard", "norm": "linf"}, {"theorem": "absorbing"}):
        arguments: dict[str, Any] = request
        certificate = certify(G, Z, **arguments)
        assert certificate.verdict is Verdict.UNKNOWN, request
        assert certificate.reason
    with pytest.raises(UnsupportedOperationError):
        lipschitz_bound(G, Z)


def test_a_softplus_that_jumps_has_no_constant() -> None:
    """torch returns x above the threshold: at 1 a jump of 0.3, so that pairs of states are driven apart."""
    assert certify(lambda z: 0.5 * F.softplus(z, threshold=1.0), Z).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("name", UNDEFINED)
def test_the_checker_accepts_no_claim_about_it(name: str) -> None:
    """A certificate of the same map with numbers in place of NaN, signed anew for this graph."""
    G = UNDEFINED[name]
    document = certify(lambda z: 0.5 * torch.tanh(z), Z, theorem="picard", norm="l2").document()
    document["model"]["fingerprint"] = trace(G, Z).fingerprint
    document["digest"] = digest(document)
    report = check(document, G, Z)
    assert not report.accepted
    assert "fingerprint" not in report.reasons[0]
    assert "digest" not in report.reasons[0]


def test_a_free_input_may_take_every_value() -> None:
    """log(x) is undefined for x < 0: the claim is about the given x, and is free where every operation is total."""
    x = torch.full((1, 3), 2.0)
    fixed = certify(lambda z, x: 0.5 * torch.tanh(z) + torch.log(x), Z, x)
    assert fixed.verdict is Verdict.CERTIFIED
    assert fixed.claim == Converges(Global())
    assert fixed.inputs[0].sha256 is not None
    assert_accepted(fixed, lambda z, x: 0.5 * torch.tanh(z) + torch.log(x), Z, x)
    assert certify(lambda z, x: 0.5 * torch.tanh(z) + torch.log(x), Z, -x).verdict is Verdict.UNKNOWN
    for total in (torch.exp, torch.tanh, F.softplus, lambda x: F.layer_norm(x, (3,)), lambda x: x / 3.0):
        free = certify(lambda z, x, total=total: 0.5 * torch.tanh(z) + total(x), Z, x)
        assert free.verdict is Verdict.CERTIFIED
        assert free.inputs[0].sha256 is None


def test_open_clamps_and_unused_infinities_are_fine() -> None:
    assert certify(lambda z: 0.5 * z.clamp(min=-INF, max=1.0), Z).verdict is Verdict.CERTIFIED
    assert certify(lambda z: 0.5 * z + torch.where(full(1.0) > 0, full(1.0), full(INF)), Z).verdict is Verdict.CERTIFIED


@pytest.mark.parametrize(
    "hidden",
    [
        lambda: torch.tanh(torch.zeros(3) / torch.zeros(3)),
        lambda: torch.softmax(torch.zeros(3) / torch.zeros(3), -1),
        lambda: torch.softmax(torch.ones(3) / torch.zeros(3), -1),
        lambda: torch.softmax(torch.zeros(3).masked_fill(torch.ones(3, dtype=torch.bool), -math.inf), -1),
        lambda: (torch.zeros(3) / torch.zeros(3)).clamp(0, 1),
    ],
)
def test_a_bounded_function_does_not_hide_what_is_no_number(hidden: Callable[[], Tensor]) -> None:
    """NaN for every state, though an enclosure of tanh lies in [-1, 1] whatever it is taken of."""
    z = torch.zeros(2, 3)
    assert certify(lambda z: 0.1 * z + hidden(), z).verdict is not Verdict.CERTIFIED
    assert certify(lambda z: 0.1 * z + torch.tanh(torch.ones(3)), z).verdict is Verdict.CERTIFIED

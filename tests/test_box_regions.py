"""Claims about a box of states: T2 and T13 on it, refutations inside it, certificates; against exact arithmetic."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from exact import rational, rational_matrix, relu_equilibria, seeded
from flint import fmpq, fmpq_mat
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn
from truth import Layer, difference, equilibrium, exact, norm_of

from deqops import InputError, ModelFileError, UnsupportedOperationError
from deqops.graph import trace
from deqops.verify import (
    Ball,
    Box,
    Certificate,
    Contraction,
    Norm,
    Verdict,
    certify,
    check,
    componentwise_error_bound,
    enclose,
    lipschitz_bound,
    nonexpansive_bound,
    rounding_floor,
)
from deqops.verify._invariant_box import outside_bound
from deqops.verify._local import local_jacobian
from deqops.verify._problem import Problem


class Activated(nn.Module):
    """`s(W z + x)`."""

    def __init__(self, weight: Tensor, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.W = nn.Parameter(weight)
        self.activation = activation

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return self.activation(z @ self.W.T + x)


def zeros(*shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.float64)


def matrix(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def highest(W: Tensor, x: Tensor, low: Tensor, high: Tensor) -> list[Any]:
    """The exact maxima of `W z + x` over a box, row by row."""
    maxima = []
    for row, shift in zip(W.tolist(), x.reshape(-1).tolist(), strict=True):
        ends = zip(row, low.reshape(-1).tolist(), high.reshape(-1).tolist(), strict=True)
        maxima.append(sum((rational(a) * rational(h if a > 0 else b) for a, b, h in ends), rational(shift)))
    return maxima


def around(center: Tensor, radius: float) -> Box:
    return Box(center - radius, center + radius)


# ------------------------------------------------------------------------------------------------------ T2 and T13


@given(
    seed=st.integers(0, 10**6),
    size=st.integers(1, 3),
    radius=st.floats(0.05, 4.0),
    shift=st.floats(-0.05, 0.05),
    asked=st.sampled_from([{}, {"norm": "linf"}, {"theorem": "local_picard"}, {"theorem": "componentwise"}]),
)
def test_t2_local_picard_a_certified_box_holds_the_one_equilibrium_of_a_relu_layer(
    seed: int, size: int, radius: float, shift: float, asked: dict[str, str]
) -> None:
    W = drawn(seed, size, size)
    W *= 0.7 / float(W.abs().sum(dim=1).max())
    x = drawn(seed + 1, 1, size)
    found = relu_equilibria(W, x[0])
    box = around(matrix([[float(v) for v in found[0]]]) + shift * radius, radius)
    layer, z = trace(Activated(W, torch.relu), zeros(1, size), x), zeros(1, size)
    certificate = certify(layer, z, x, region=box, **asked)
    assume(certificate.verdict is Verdict.CERTIFIED)
    low, high = (leaves[0] for leaves in box.ends)
    top = [max(v, fmpq(0)) for v in highest(W, x, low, high)]
    bottom = [max(-v, fmpq(0)) for v in highest(-W, -x, low, high)]
    ends = zip(bottom, top, low.reshape(-1).tolist(), high.reshape(-1).tolist(), strict=True)
    assert all(rational(a) <= lowest and v <= rational(b) for lowest, v, a, b in ends)
    inside = [
        y
        for y in found
        if all(a <= float(v) <= b for v, a, b in zip(y, low[0].tolist(), high[0].tolist(), strict=True))
    ]
    assert len(inside) == 1
    y = low + (high - low) * torch.rand(1, size, generator=seeded(seed), dtype=torch.float64)
    errors = certificate.error_bound(layer, y, x).linf
    assert bool(errors.isfinite().all())
    truth = [fmpq(v.numerator, v.denominator) for v in inside[0]]
    apart = [abs(rational(a) - b) for a, b in zip(y[0].tolist(), truth, strict=True)]
    assert max(apart) <= rational(float(errors[0]))
    assert check(certificate, layer, z, x).accepted


@given(seed=st.integers(0, 10**6), size=st.integers(1, 4), radius=st.floats(0.01, 2.0))
def test_t2_local_picard_the_constant_on_a_box_is_exact_for_relu_layers_in_linf(
    seed: int, size: int, radius: float
) -> None:
    """Rows that no state of the box activates count nothing; the others their sum of moduli."""
    W, x = drawn(seed, size, size), drawn(seed + 1, 1, size)
    box = around(zeros(1, size), radius)
    layer = trace(Activated(W, torch.relu), x, x)
    bound = lipschitz_bound(layer, x, x, norm="linf", region=box)
    tops = highest(W, x, *(leaves[0] for leaves in box.ends))
    moduli = rational_matrix(W.abs()) * fmpq_mat(size, 1, [1] * size)
    true = max((moduli[i, 0] for i in range(size) if tops[i] > 0), default=fmpq(0))
    assert true <= rational(bound.upper) <= true * fmpq(1000001, 1000000)
    assert bound.lower_estimate <= bound.upper


@given(seed=st.integers(0, 10**6), size=st.integers(1, 4), radius=st.floats(0.01, 2.0), terms=st.sampled_from([1, 2]))
def test_t2_local_picard_how_far_an_affine_map_leaves_a_box_is_exact(
    seed: int, size: int, radius: float, terms: int
) -> None:
    """Also where W comes in two terms, whose interval image is too wide: the slopes make up for that."""
    W, x = drawn(seed, size, size), drawn(seed + 1, 1, size)
    half = W / 2
    G = (lambda z, x: z @ W.T + x) if terms == 1 else (lambda z, x: 2 * (z @ W.T) + (x - z @ half.T - z @ half.T))
    problem = Problem(trace(G, x, x), x, (x,))
    box = around(drawn(seed + 2, 1, size), radius)
    low, high = (leaves[0] for leaves in box.ends)
    found = rational(outside_bound(problem, local_jacobian(problem, box, Norm("linf")), box))
    above = [v - rational(h) for v, h in zip(highest(W, x, low, high), high[0].tolist(), strict=True)]
    below = [v + rational(b) for v, b in zip(highest(-W, -x, low, high), low[0].tolist(), strict=True)]
    true = max(*above, *below)
    assert true <= found <= true + fmpq(1, 10**9)


def test_t2_local_picard_a_map_that_attains_the_end_is_not_said_to_keep_the_box() -> None:
    """`0.5 z` keeps [0, 1], but its values reach the end 0: only a slightly larger box is certified."""
    z = zeros(1, 1)
    layer = Activated(matrix([[0.5]]), torch.relu)
    assert certify(layer, z, z, region=Box(z, z + 1)).verdict is Verdict.UNKNOWN
    certificate = certify(layer, z, z, region=Box(z - 1e-6, z + 1))
    assert certificate.verdict is Verdict.CERTIFIED
    assert check(certificate, layer, z, z).accepted


def test_t2_local_picard_wants_the_box_kept_and_the_constant_below_one() -> None:
    shifted = Activated(matrix([[0.5]]), torch.clone)
    z, x = zeros(1, 1), torch.full((1, 1), 1.0, dtype=torch.float64)
    assert certify(shifted, z, x, region=around(z, 1.0)).verdict is Verdict.UNKNOWN  # contracts towards 2
    assert certify(shifted, z, x, region=around(z + 2, 1.0)).verdict is Verdict.CERTIFIED
    turn = Activated(matrix([[0.0, -1.0], [1.0, 0.0]]), torch.clone)
    z = zeros(1, 2)
    assert certify(turn, z, z, region=around(z, 1.0)).verdict is not Verdict.CERTIFIED


def test_t2_local_picard_in_a_box_serves_maps_that_expand_elsewhere() -> None:
    """tanh(4 z) has three equilibria and contracts on the boxes around the outer two."""
    layer, z = Activated(matrix([[4.0]]), torch.tanh), torch.tensor([[0.9], [-0.9]], dtype=torch.float64)
    x = zeros(2, 1)
    box = Box(matrix([[0.8], [-1.1]]), matrix([[1.1], [-0.8]]))
    certificate = certify(layer, z, x, region=box)
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.theorem == "local_picard"
    assert certificate.rate is not None
    assert certificate.rate < 0.03
    assert check(certificate, layer, z, x).accepted
    error = certificate.error_bound(layer, torch.tensor([[0.9], [0.9]], dtype=torch.float64), x)
    assert bool(error.value[0].isfinite())
    assert bool(error.value[1].isinf())  # outside of its own problem's box
    enclosure = enclose(certificate, layer, z, x)
    assert bool(enclosure.contains(torch.tensor([[0.9993], [-0.9993]], dtype=torch.float64)).all())
    with pytest.raises(InputError, match="proves no constant"):
        rounding_floor(certify(layer, z, x, region=box, theorem="componentwise"), layer, z, x)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf", "weighted_l1", "weighted_l2", "weighted_linf"])
@pytest.mark.parametrize("damping", [1.0, 0.5])
def test_t2_local_picard_in_a_box_in_every_norm(norm: str, damping: float) -> None:
    W = 0.15 * drawn(3, 4, 4)
    x = 0.3 * drawn(4, 2, 4)
    layer, z = Layer(W, "tanh", torch.eye(4, dtype=torch.float64)), zeros(2, 4)
    certificate = certify(layer, z, x, region=around(z, 0.9), norm=norm, damping=damping)
    assert certificate.verdict is Verdict.CERTIFIED
    assert isinstance(certificate.claim, Contraction)
    assert check(certificate, layer, z, x).accepted
    y = drawn(5, 2, 4).clamp(-0.9, 0.9)
    value = certificate.error_bound(layer, y, x).value
    chosen = certificate.norm
    assert chosen is not None
    weights = None if chosen.weights is None else chosen.weights[0]
    for number in range(2):
        apart = difference(exact(y[number]), equilibrium(layer, exact(x[number])))
        assert norm_of(apart, chosen.order, weights) <= float(value[number])


def test_t2_local_picard_in_a_box_promises_steps_and_damps_only_up_to_one() -> None:
    layer, z = Activated(matrix([[0.5, 0.1], [0.0, 0.4]]), torch.tanh), zeros(1, 2)
    x, box = torch.full((1, 2), 0.1, dtype=torch.float64), around(zeros(1, 2), 1.0)
    certificate = certify(layer, z, x, region=box, damping=0.5)
    assert certificate.verdict is Verdict.CERTIFIED
    assert check(certificate, layer, z, x).accepted
    assert certificate.iterations(1e-6, certificate.distance_bound(0.5 * x, z)) > 10
    assert certify(layer, z, x, region=box, damping=1.2, norm="linf", theorem="local_picard").claim is not None
    assert certify(layer, z, x, region=box, damping=1.2).theorem == "componentwise"  # one equilibrium, no more


def test_t13_componentwise_in_a_box_bounds_each_component() -> None:
    W = matrix([[0.5, 0.4], [0.0, 0.001]])
    layer, z = Layer(W, "tanh", torch.eye(2, dtype=torch.float64)), zeros(1, 2)
    x = torch.full((1, 2), 0.1, dtype=torch.float64)
    certificate = certify(layer, z, x, region=around(z, 1.0), theorem="componentwise")
    assert certificate.verdict is Verdict.CERTIFIED
    assert check(certificate, layer, z, x).accepted
    y = zeros(1, 2)
    (bound,) = componentwise_error_bound(certificate, layer, y, x)
    truth = difference(exact(y), equilibrium(layer, exact(x)))
    assert all(abs(e) <= b for e, b in zip(truth, bound[0].tolist(), strict=True))
    assert bool(componentwise_error_bound(certificate, layer, y + 2, x)[0].isinf().all())


def test_t2_local_picard_in_a_box_of_several_leaves() -> None:
    class Pair(nn.Module):
        def forward(self, state: tuple[Tensor, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
            u, v = state
            return 0.4 * torch.tanh(v.sum(dim=1)) + x, 0.25 * v + 0.125 * u[:, None]

    x = torch.tensor([0.5, -0.25, 0.0], dtype=torch.float64)
    state = (x.clone(), zeros(3, 2))
    box = Box((x - 1.0, zeros(3, 2) - 1.0), (x + 1.0, zeros(3, 2) + 1.0))
    certificate = certify(Pair(), state, x, region=box)
    assert certificate.verdict is Verdict.CERTIFIED
    assert check(certificate, Pair(), state, x).accepted


def test_t4_damped_a_box_may_be_the_invariant_set() -> None:
    turn = matrix([[0.0, -1.0], [1.0, 0.0]])
    z = torch.ones(1, 2, dtype=torch.float64)
    half = lambda y: (y + y @ turn.T) / 2  # noqa: E731 - a map without a bound, constant 1/sqrt 2
    with pytest.raises(UnsupportedOperationError, match="without a bound"):
        nonexpansive_bound(half, z)
    with pytest.raises(UnsupportedOperationError, match="leave it"):
        nonexpansive_bound(half, z, region=around(zeros(1, 2), 2.0))  # the corners stay at the boundary
    found = nonexpansive_bound(lambda y: 0.9 * half(y), z, region=around(zeros(1, 2), 2.0))
    assert float(found.distance) <= math.sqrt(2) * 3
    with pytest.raises(InputError, match="outside"):
        nonexpansive_bound(lambda y: y.square() / 2, z, region=around(zeros(1, 2), 0.5))


def test_the_floor_of_rounding_needs_a_ball_inside_the_box() -> None:
    layer, z = Activated(matrix([[0.25]]), torch.relu), zeros(1, 1)
    x = torch.ones(1, 1, dtype=torch.float64)
    certificate = certify(layer, z, x, region=Box(z - 1, z + 3), norm="l2", theorem="local_picard")
    assert certificate.verdict is Verdict.CERTIFIED
    y = torch.full((1, 1), 4 / 3, dtype=torch.float64)
    assert float(rounding_floor(certificate, layer, y, x, radius=0.5).floor.value) < 1e-14
    with pytest.raises(InputError, match="larger box"):
        rounding_floor(certificate, layer, y, x, radius=2.5)


# -------------------------------------------------------------------------------------------------- refutations


def _inside(box: Box, leaves: tuple[Tensor, ...]) -> bool:
    return all(bool(((a <= x) & (x <= b)).all()) for x, a, b in zip(leaves, *box.ends, strict=True))


@pytest.mark.parametrize(
    ("weight", "options", "kind"),
    [
        ([[4.0]], {"norm": "l2"}, "two_points"),
        ([[4.0]], {"norm": "weighted_linf"}, "two_points"),
        ([[4.0]], {}, "two_equilibria"),
        ([[-4.0]], {}, "cycle"),
    ],
)
def test_t9_refute_finds_its_witness_inside_the_box(weight: list[list[float]], options: Any, kind: str) -> None:
    layer, z, x = Activated(matrix(weight), torch.tanh), zeros(1, 1), zeros(1, 1)
    box = Box(z - 1.25, z + 1.5)
    certificate = certify(layer, z, x, region=box, **options)
    assert certificate.verdict is Verdict.REFUTED
    assert certificate.evidence is not None
    assert certificate.evidence.kind == kind
    assert check(certificate, layer, z, x).accepted
    for name in ("first", "second"):
        if name in certificate.evidence.tensors:
            assert _inside(box, certificate.evidence.tensors[name])
    small = dataclasses.replace(certificate, region=around(z + 0.3, 0.01))
    claim = dataclasses.replace(small.claim, region=small.region)
    report = check(dataclasses.replace(small, claim=claim), layer, z, x)
    assert not report.accepted
    assert "inside the region" in report.reasons[0]


def test_t9_refute_an_eigenvalue_inside_a_box() -> None:
    W = matrix([[0.0, 4.0], [1.0, 0.0]])
    layer, z = Activated(W, torch.tanh), zeros(2, 2)
    weights = (torch.tensor([1.0, 2.0], dtype=torch.float64),)
    certificate = certify(layer, z, z, region=Box(z - 0.01, z + 0.02), norm=Norm("l2", weights))
    assert certificate.verdict is Verdict.REFUTED
    assert check(certificate, layer, z, z).accepted


@pytest.mark.parametrize(
    "region", [Box(zeros(1, 2), matrix([[0, 1]])), Box(zeros(1, 2), zeros(1, 2)), Ball(zeros(1, 2), 5e-324)]
)
@pytest.mark.parametrize("norm", ["auto", "l2"])
def test_t9_refute_finds_nothing_inside_a_flat_box(region: Box | Ball, norm: str) -> None:
    """The eigenvalue 4 belongs to a direction in which the box is a point; no two states of it are moved apart."""
    G = Activated(torch.diag(torch.tensor([4.0, 0.5], dtype=torch.float64)), torch.tanh)
    found = certify(G, zeros(1, 2), zeros(1, 2), region=region, norm=norm)
    assert found.verdict is Verdict.UNKNOWN or isinstance(region, Ball)


def test_t9_refute_says_nothing_of_what_is_outside() -> None:
    """tanh(4 z) expands near 0, and the box is away from there."""
    layer, x = Activated(matrix([[4.0]]), torch.tanh), zeros(1, 1)
    box = Box(x + 0.7, x + 1.1)
    for options in ({}, {"norm": "l2"}, {"norm": "linf"}):
        assert certify(layer, x, x, region=box, **options).verdict is Verdict.CERTIFIED
    narrow = Box(x + 0.7, x + 0.8)  # not kept, no equilibrium inside
    assert certify(layer, x, x, region=narrow).verdict is Verdict.UNKNOWN


# ------------------------------------------------------------------------------------------------- certificates


Given = tuple[nn.Module, Tensor, Tensor, Certificate]


@pytest.fixture(scope="module", params=["local_picard", "componentwise"])
def boxed(request: pytest.FixtureRequest) -> Given:
    W = matrix([[0.4, 0.3, 0.0], [0.1, 0.5, 0.2], [0.3, 0.0, 0.4]])
    layer, x = Activated(W, torch.tanh), matrix([[0.3, -0.2, 0.1], [0.0, 0.1, -0.1]])
    z = zeros(2, 3)
    certificate = certify(layer, z, x, region=Box(z - 0.9, z + 1.0), theorem=request.param, norm="linf")
    assert certificate.verdict is Verdict.CERTIFIED
    assert check(certificate, layer, z, x).accepted
    return layer, z, x, certificate


def _sealed(document: dict[str, Any]) -> dict[str, Any]:
    from deqops.verify.checker._document import _digest

    return {**document, "digest": _digest(document)}


def _rejected(given_certificate: Given, region: Any, **changes: Any) -> str:
    layer, z, x, certificate = given_certificate
    claim = dataclasses.replace(certificate.claim, region=region)
    spoilt = dataclasses.replace(certificate, region=region, claim=claim, **changes)
    report = check(spoilt.document(), layer, z, x)
    assert not report.accepted
    return report.reasons[0]


@pytest.mark.parametrize("side", ["lower", "upper", "both", "elsewhere", "one entry", "shape"])
def test_other_boxes_are_rejected(boxed: Given, side: str) -> None:
    """A narrower side is not kept, a farther one is not what was proven."""
    region = boxed[3].region
    assert isinstance(region, Box)
    (low,), (high,) = region.ends
    one = zeros(2, 3)
    one[1, 2] = 0.85
    other = {
        "lower": Box(low + 0.85, high),
        "upper": Box(low, high - 0.95),
        "both": Box(low / 8, high / 8),
        "elsewhere": Box(low + 2, high + 2),
        "one entry": Box(low + one, high),
        "shape": Box(low[:1], high[:1]),
    }[side]
    _rejected(boxed, other)


@pytest.mark.parametrize("kind", ["global", "ball"])
def test_the_evidence_of_a_box_proves_nothing_elsewhere(boxed: Given, kind: str) -> None:
    layer, z, x, certificate = boxed
    document = copy.deepcopy(certificate.document())
    if kind == "ball":
        _rejected(boxed, Ball(z, 0.5, certificate.norm), hypotheses=())
        return
    document["region"] = document["claim"]["region"] = {"kind": "global"}
    document["hypotheses"] = []
    document["witnesses"] = {k: v for k, v in document["witnesses"].items() if not k.startswith("box")}
    assert not check(_sealed(document), layer, z, x).accepted


@pytest.mark.parametrize("theorem", ["picard", "damped", "absorbing", "powers", "one_sided", "monotone", "causal"])
def test_a_theorem_about_every_state_is_rejected_in_a_box(boxed: Given, theorem: str) -> None:
    """A region that a rule does not know must not read as "everywhere"."""
    layer, z, x, certificate = boxed
    document = copy.deepcopy(certificate.document())
    document["theorem"], document["hypotheses"] = theorem, []
    document["evidence"] = {"kind": "lipschitz", "bound": (0.99).hex()}
    document["rate"] = (0.99).hex()
    document["witnesses"] = {k: v for k, v in document["witnesses"].items() if not k.startswith("vector")}
    report = check(_sealed(document), layer, z, x)
    assert not report.accepted
    if theorem in ("picard", "damped"):
        assert "whole space" in report.reasons[0]


def test_edited_numbers_are_rejected(boxed: Given) -> None:
    layer, z, x, certificate = boxed
    document = certificate.document()
    name = "bound" if certificate.theorem == "local_picard" else "contraction"
    for part, factor in ((name, 1 - 1e-6), ("outside", 1 + 1e-6), ("image", 1 + 1e-6), ("outside", -1), ("image", -1)):
        if part in document["evidence"]:
            spoilt = copy.deepcopy(document)
            spoilt["evidence"][part] = (float.fromhex(spoilt["evidence"][part]) * factor).hex()
            spoilt["hypotheses"] = []
            assert not check(_sealed(spoilt), layer, z, x).accepted


@pytest.mark.parametrize("what", ["crossed", "missing", "extra", "not finite", "kind"])
def test_malformed_boxes_are_refused_by_both_readers(boxed: Given, what: str) -> None:
    layer, z, x, certificate = boxed
    document = copy.deepcopy(certificate.document())
    region = document["region"]
    if what == "crossed":
        region["lower"], region["upper"] = region["upper"], region["lower"]
    elif what == "missing":
        del region["upper"]
    elif what == "extra":
        region["norm"] = document["norm"]
    elif what == "kind":
        region["kind"] = "cube"
    else:
        from checker_builder import witness

        document["witnesses"]["box_upper_0"] = witness(torch.full((2, 3), math.inf, dtype=torch.float64))
    document["claim"]["region"] = region
    document = _sealed(document)
    assert not check(document, layer, z, x).accepted
    if what != "extra":
        with pytest.raises(ModelFileError):
            Certificate.from_document(document)


def test_the_file_gives_the_same_certificate(tmp_path: Path, boxed: Given) -> None:
    layer, z, x, certificate = boxed
    certificate.save(tmp_path / "c.json")
    loaded = Certificate.load(tmp_path / "c.json")
    assert loaded.document() == certificate.document()
    assert isinstance(loaded.region, Box)
    assert "in a box" in loaded.explain()
    assert check(tmp_path / "c.json", layer, z, x).accepted
    assert torch.equal(loaded.error_bound(layer, z, x).value, certificate.error_bound(layer, z, x).value)


# ---------------------------------------------------------------------------------------------------- arguments


def test_a_box_is_two_ends_in_order() -> None:
    z = zeros(1, 2)
    with pytest.raises(InputError, match="above"):
        Box(z + 1, z)
    with pytest.raises(InputError, match="shapes"):
        Box(z, zeros(1, 3))
    with pytest.raises(InputError, match="finite"):
        Box(z - math.inf, z)
    with pytest.raises(InputError, match="finite"):
        Box(z, z * math.nan)
    with pytest.raises(InputError, match="dtype"):
        Box(z.long(), z.long())
    assert Box(z, z).width == 0.0
    assert torch.equal(Box(z - 1e308, z + 1e308).middle[0], z)


def test_a_box_must_fit_the_state_and_the_theorem() -> None:
    layer, z = Activated(matrix([[0.5]]), torch.tanh), zeros(1, 1)
    with pytest.raises(InputError, match="shape"):
        certify(layer, z, z, region=around(zeros(1, 2), 1.0))
    with pytest.raises(InputError, match="shape"):
        lipschitz_bound(layer, z, z, region=around(zeros(1, 2), 1.0))
    with pytest.raises(InputError, match="Ball"):
        certify(layer, z, z, region=around(z, 1.0), theorem="newton_kantorovich")
    with pytest.raises(InputError, match="for a Box"):
        certify(layer, z, z, region=around(z, 1.0), theorem="picard")
    with pytest.raises(InputError, match="linf"):
        certify(layer, z, z, region=around(z, 1.0), theorem="componentwise", norm="l2")


def test_the_bound_on_a_ball_is_for_the_norm_of_the_ball() -> None:
    """An l2 ball of radius 1 is smaller than the linf ball of radius 1 by far, in 16 dimensions."""
    layer, z = Activated(torch.ones(1, 16, dtype=torch.float64).expand(16, 16) / 8, torch.square), zeros(1, 16)
    small, large = (lipschitz_bound(layer, z, z, region=Ball(z, 1.0, Norm(order))).upper for order in ("l2", "linf"))
    assert 2.0 <= small < large / 3.9

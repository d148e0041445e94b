"""Claims for every value of an input between two ends, against equilibria with 40 digits and exact constants."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mpmath
import pytest
import torch
from checker_builder import witness
from exact import seeded
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from truth import DIGITS, Layer, difference, equilibrium, exact, norm_of, step

from deqops import EquilibriumLayer, InputError, ModelFileError, UnsupportedOperationError
from deqops.graph import between, trace
from deqops.verify import (
    Around,
    Ball,
    Box,
    Certificate,
    InputBox,
    Verdict,
    certify,
    certify_each,
    check,
    componentwise_error_bound,
    lipschitz_bound,
    sensitivity_bound,
)


@pytest.fixture(autouse=True)
def _digits() -> Iterator[None]:
    with mpmath.workdps(DIGITS):
        yield


def sealed(document: dict[str, Any]) -> dict[str, Any]:
    from deqops.verify.checker._document import _digest

    return {**document, "digest": _digest(document)}


def zeros(*shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.float64)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def around(x: Tensor, radius: float) -> InputBox:
    return InputBox(x - radius, x + radius)


def layer_of(seed: int, size: int, name: str, scale: float = 1.0) -> Layer:
    W, U = drawn(seed, size, size), drawn(seed + 1, size, 2)
    return Layer(scale * W / float(torch.linalg.matrix_norm(W, 2)), name, U)


def values(box: InputBox, seed: int) -> list[Tensor]:
    """The corners of the box, and a value inside."""
    ends = zip(box.lower.reshape(-1).tolist(), box.upper.reshape(-1).tolist(), strict=True)
    corners = [torch.tensor([corner], dtype=torch.float64) for corner in itertools.product(*ends)]
    share = torch.rand(box.lower.shape, generator=seeded(seed), dtype=torch.float64)
    return [*corners, torch.minimum(box.lower + share * (box.upper - box.lower), box.upper)]


# ------------------------------------------------------------------------------------------------------- soundness


@settings(max_examples=5)
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(1, 3),
    name=st.sampled_from(["tanh", "gelu", "softplus", "silu"]),
    width=st.sampled_from([1e-6, 1e-3, 0.02]),
    theorem=st.sampled_from(["auto", "local_picard", "local_lyapunov", "newton_kantorovich"]),
)
def test_t2_local_picard_each_value_of_the_input_has_its_equilibrium_in_the_ball(
    seed: int, size: int, name: str, width: float, theorem: str
) -> None:
    layer, z = layer_of(seed, size, name, 0.8), zeros(1, size)
    box = around(drawn(seed + 2, 1, 2), width)
    certificate = certify(layer, z, box, region=Around(), theorem=theorem)
    assume(certificate.verdict is Verdict.CERTIFIED)
    ball, norm = certificate.region, certificate.norm
    assert isinstance(ball, Ball)
    assert norm is not None
    weights = None if norm.weights is None else norm.weights[0]
    center, error = exact(ball.leaves[0]), certificate.center_error
    assert error is not None
    for x in values(box, seed):
        truth = equilibrium(layer, exact(x))
        apart = norm_of(difference(center, truth), norm.order, weights)
        assert apart <= error <= ball.radius * (1 + 1e-12)
        residual = difference(step(layer, center, exact(x)), center)
        assert certificate.factor is not None
        assert apart <= certificate.factor * norm_of(residual, norm.order, weights)
    report = check(certificate, layer, z, box.lower)
    assert report.accepted, report.reasons


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), radius=st.floats(0.0, 2.0), order=st.sampled_from(["l1", "l2", "linf"]))
def test_the_constant_over_a_box_of_gates_is_that_of_its_steepest_value(seed: int, radius: float, order: str) -> None:
    """`0.9 sigmoid(x) z`: the constant is 0.9 times the sigmoid of the largest entry."""
    z, x = zeros(1, 3), drawn(seed, 1, 3)
    box = around(x, radius)
    gated = lambda y, g: 0.9 * torch.sigmoid(g) * y  # noqa: E731
    bound = lipschitz_bound(gated, z, box, norm=order).upper
    true = mpmath.mpf(0.9) / (1 + mpmath.exp(-mpmath.mpf(float(box.upper.max()))))
    assert true <= bound <= true * (1 + 1e-5)
    single = lipschitz_bound(gated, z, x, norm=order).upper
    assert single <= bound
    certificate = certify(gated, z, box, norm=order)
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.inputs[0].status == "box"
    report = check(certificate, gated, z, x)
    assert report.accepted, report.reasons


def test_a_box_of_states_is_kept_for_each_value() -> None:
    layer, z = layer_of(0, 3, "tanh", 0.5), zeros(2, 3)
    x = 0.1 * drawn(7, 2, 2)
    for theorem in ("local_picard", "componentwise"):
        certificate = certify(layer, z, around(x, 0.05), region=Box(z - 1, z + 1), theorem=theorem)
        assert certificate.verdict is Verdict.CERTIFIED
        assert check(certificate, layer, z, x).accepted
    y = torch.full_like(z, 0.25)
    (bound,) = componentwise_error_bound(certificate, layer, y, x + 0.05)
    for number in range(2):
        apart = difference(exact(y[number]), equilibrium(layer, exact((x + 0.05)[number])))
        assert all(abs(e) <= b for e, b in zip(apart, bound[number].tolist(), strict=True))


def test_an_encoder_before_the_layer_is_enclosed_over_the_box() -> None:
    U = drawn(3, 4, 2)
    W = 0.5 * drawn(4, 4, 4) / float(torch.linalg.matrix_norm(drawn(4, 4, 4), 2))
    G = lambda z, x: 0.9 * torch.tanh(z @ W.T + torch.tanh(x).square() @ U.T)  # noqa: E731
    z, x = zeros(1, 4), drawn(5, 1, 2)
    certificate = certify(G, z, around(x, 0.05), region=Around(), theorem="local_picard")
    assert certificate.verdict is Verdict.CERTIFIED
    report = check(certificate, G, z, x)
    assert report.accepted, report.reasons


def test_the_wider_the_box_the_weaker_the_claim() -> None:
    layer, z, x = layer_of(5, 3, "tanh", 1.2), zeros(1, 3), drawn(6, 1, 2)
    errors = []
    for width in (1e-9, 1e-6, 1e-3):
        certificate = certify(layer, z, around(x, width), region=Around(), theorem="newton_kantorovich")
        assert certificate.verdict is Verdict.CERTIFIED
        assert certificate.center_error is not None
        errors.append(certificate.center_error)
    assert errors == sorted(errors)
    assert certify(layer, z, around(x, 100.0), region=Around(), norm="l2").verdict is Verdict.UNKNOWN


# -------------------------------------------------------------------------------------- which inputs count, and how


def test_an_input_that_does_not_count_stays_free() -> None:
    layer, z = layer_of(0, 3, "tanh", 0.5), zeros(1, 3)
    certificate = certify(layer, z, around(zeros(1, 2), 1.0))
    assert certificate.inputs[0].free
    assert check(certificate, layer, z, zeros(1, 2) + 9).accepted


def test_t8_causal_takes_no_entry_of_the_box_for_zero() -> None:
    """Strictly lower triangular where x is 0, the middle of the box, and nowhere else."""
    lower = torch.tensor([[0.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    upper = lower.T.contiguous()
    G = lambda z, x: z @ lower.T + x * (z @ upper.T)  # noqa: E731
    z = zeros(1, 2)
    fixed = certify(G, z, zeros(1, 2), theorem="causal")
    assert fixed.verdict is Verdict.CERTIFIED
    box = InputBox(zeros(1, 2) - 1, zeros(1, 2) + 1)
    assert torch.equal(box.middle, zeros(1, 2))
    assert certify(G, z, box, theorem="causal").verdict is Verdict.REFUTED  # at its ends: a spectral radius of 3
    document = copy.deepcopy(fixed.document())
    document["inputs"][0] |= {"status": "box", "sha256": None, "lower": "input_lower_0", "upper": "input_upper_0"}
    document["witnesses"] |= {"input_lower_0": witness(box.lower), "input_upper_0": witness(box.upper)}
    assert not check(sealed(document), G, z, zeros(1, 2)).accepted


def gated(z: Tensor, x: Tensor) -> Tensor:
    """The constant is x; convergence everywhere takes |x| < 1."""
    return x * z


@pytest.mark.parametrize(
    ("low", "high", "where", "value"),
    [(0.5, 4.0, "middle", 2.25), (-2.0, 1.0, "lower end", -2.0), (-0.75, 1.5, "upper end", 1.5)],
)
@pytest.mark.parametrize("norm", ["auto", "l2"])
def test_t9_one_value_of_the_box_refutes_the_claim_for_all(
    low: float, high: float, where: str, value: float, norm: str, tmp_path: Path
) -> None:
    z, x = zeros(1, 2), zeros(1, 2)
    certificate = certify(gated, z, InputBox(x + low, x + high), norm=norm)
    assert certificate.verdict is Verdict.REFUTED, certificate.explain()
    assert any("found" in text and where in text for text in certificate.attempts)
    assert certificate.inputs[0].status == "fixed"
    certificate.save(tmp_path / "found.json")
    assert check(tmp_path / "found.json", gated, z, x + value).accepted
    assert not check(tmp_path / "found.json", gated, z, x + (low + high) / 4).accepted


def test_t9_a_box_at_whose_middle_and_ends_the_claim_holds_is_not_refuted() -> None:
    """The constant is 1/2 at 0, 1/2 and 1, and nearly 1.3 between them."""
    steep = lambda z, x: (0.5 + 350 * x**2 * (1 - x) ** 2 * (x - 0.5) ** 2) * z  # noqa: E731
    certificate = certify(steep, zeros(1, 2), InputBox(zeros(1, 2), zeros(1, 2) + 1), norm="l2")
    assert certificate.verdict is Verdict.UNKNOWN


def test_a_box_where_check_needs_a_value_is_refused_with_what_to_give() -> None:
    box = InputBox(zeros(1, 2), zeros(1, 2) + 1)
    certificate = certify(gated, zeros(1, 2), box, norm="l2")
    report = check(certificate, gated, zeros(1, 2), box)
    assert not report.accepted
    assert "got InputBox; give one value between its ends" in report.reasons[0]


def test_t9_the_other_inputs_stay_as_they_are() -> None:
    G, z, x = (lambda y, v, w: v * y + w), zeros(1, 2), zeros(1, 2)
    certificate = certify(G, z, InputBox(x, x + 2), x + 0.5, norm="l2")
    assert certificate.verdict is Verdict.REFUTED
    assert check(certificate, G, z, x + 1, x + 0.5).accepted
    assert not check(certificate, G, z, x + 1, x).accepted


def test_each_problem_of_a_batch_is_refuted_at_its_own_value() -> None:
    z, low = zeros(3, 2), torch.tensor([[0.5, 0.5], [-2.0, -2.0], [-0.25, -0.25]], dtype=torch.float64)
    high = torch.tensor([[4.0, 4.0], [1.0, 1.0], [0.75, 0.75]], dtype=torch.float64)
    found = certify_each(gated, z, InputBox(low, high), batched=("problem",), norm="l2")
    assert [v.value for v in found.verdicts] == ["refuted", "refuted", "certified"]
    assert all(report.accepted for report in found.check())


def test_a_condition_that_the_box_does_not_decide_is_unknown_by_name() -> None:
    G = lambda z, x: torch.where(x > 0, 0.5 * z, 0.25 * z)  # noqa: E731
    z = zeros(1, 2)
    assert certify(G, z, around(zeros(1, 2) + 1, 0.5)).verdict is Verdict.CERTIFIED
    certificate = certify(G, z, around(zeros(1, 2), 0.5), theorem="picard")
    assert certificate.verdict is Verdict.UNKNOWN
    assert "gt" in certificate.reason


def test_a_layer_takes_a_box_in_the_place_of_its_input() -> None:
    operator = layer_of(2, 3, "tanh", 0.5)
    layer = EquilibriumLayer(operator, initial=lambda x: zeros(len(x), 3))
    x = drawn(1, 2, 2)
    certificate = certify(layer, around(x, 0.01), region=Around())
    assert certificate.verdict is Verdict.CERTIFIED
    assert check(certificate, operator, zeros(2, 3), x).accepted


def test_t10_sensitivity_wants_a_free_input() -> None:
    gated = lambda y, g: 0.9 * torch.sigmoid(g) * y  # noqa: E731
    z, x = zeros(1, 3), drawn(0, 1, 3)
    certificate = certify(gated, z, around(x, 0.1), norm="l2")
    with pytest.raises((InputError, UnsupportedOperationError)):
        sensitivity_bound(certificate, gated, z, x)


# ---------------------------------------------------------------------------------------------------- conclusions


def test_errors_are_bounded_for_the_values_in_the_box_only() -> None:
    layer, z, x = layer_of(1, 3, "tanh", 0.9), zeros(1, 3), drawn(2, 1, 2)
    box = around(x, 0.01)
    certificate = certify(layer, z, box, region=Around())
    ball = certificate.region
    assert isinstance(ball, Ball)
    y = ball.leaves[0]
    for value in values(box, 0):
        bound = certificate.error_bound(layer, y, value)
        truth = difference(exact(y), equilibrium(layer, exact(value)))
        assert norm_of(truth, "linf") <= float(bound.linf)
    with pytest.raises(InputError, match="outside of the box"):
        certificate.error_bound(layer, y, box.upper + 1e-9)
    with pytest.raises(InputError, match="shape"):
        certificate.error_bound(layer, y, zeros(1, 3))


# ---------------------------------------------------------------------------------------------------- certificates


Given = tuple[nn.Module, Tensor, InputBox, Certificate]


@pytest.fixture(scope="module")
def boxed() -> Given:
    """In linf every number only grows with the box, so that it alone decides what the checker accepts."""
    layer, z = layer_of(1, 3, "tanh", 0.6), zeros(1, 3)
    box = around(0.1 * drawn(2, 1, 2), 0.01)
    certificate = certify(layer, z, box, region=Box(z - 1, z + 1), theorem="local_picard", norm="linf")
    assert certificate.verdict is Verdict.CERTIFIED
    return layer, z, box, certificate


def test_the_file_gives_the_same_certificate(tmp_path: Path, boxed: Given) -> None:
    layer, z, box, certificate = boxed
    certificate.save(tmp_path / "c.json")
    loaded = Certificate.load(tmp_path / "c.json")
    assert loaded.document() == certificate.document()
    assert "any value between its two ends" in loaded.explain()
    assert loaded.inputs[0].ends is not None
    assert torch.equal(loaded.inputs[0].ends[0], box.lower)
    for x in values(box, 3):
        assert check(tmp_path / "c.json", layer, z, x).accepted


def test_a_value_outside_is_not_what_the_certificate_is_about(boxed: Given) -> None:
    layer, z, box, certificate = boxed
    report = check(certificate, layer, z, box.upper + 1e-9)
    assert not report.accepted
    assert "outside" in report.reasons[0]


@pytest.mark.parametrize("change", ["wider", "shifted", "one entry", "free"])
def test_other_boxes_are_rejected(boxed: Given, change: str) -> None:
    layer, z, box, certificate = boxed
    record = certificate.inputs[0]
    shift = zeros(1, 2)
    shift[0, 0] = 0.5
    ends = {
        "wider": (box.lower - 0.5, box.upper + 0.5),
        "shifted": (box.lower, box.upper + 0.5),
        "one entry": (box.lower - shift, box.upper),
        "free": None,
    }[change]
    spoilt = dataclasses.replace(certificate, inputs=(dataclasses.replace(record, ends=ends),))
    report = check(spoilt.document(), layer, z, box.middle)
    assert not report.accepted


@pytest.mark.parametrize("what", ["crossed", "not finite", "shape", "digest", "missing", "status"])
def test_malformed_ends_are_refused_by_both_readers(boxed: Given, what: str) -> None:
    layer, z, box, certificate = boxed
    document = copy.deepcopy(certificate.document())
    entry = document["inputs"][0]
    if what == "crossed":
        entry["lower"], entry["upper"] = entry["upper"], entry["lower"]
    elif what == "not finite":
        document["witnesses"][entry["upper"]] = witness(torch.full((1, 2), math.inf, dtype=torch.float64))
    elif what == "shape":
        document["witnesses"][entry["upper"]] = witness(zeros(2))
    elif what == "digest":
        entry["sha256"] = "0" * 64
    elif what == "missing":
        del entry["upper"]
    else:
        entry["status"] = "open"
    document = sealed(document)
    assert not check(document, layer, z, box.middle).accepted
    if what != "status":
        with pytest.raises(ModelFileError):
            Certificate.from_document(document)


def test_a_refutation_with_a_box_is_rejected() -> None:
    G, z, x = (lambda y, v: (1 + v) * 2 * y), zeros(1, 2), zeros(1, 2)
    certificate = certify(G, z, x, norm="l2")
    assert certificate.verdict is Verdict.REFUTED
    record = dataclasses.replace(certificate.inputs[0], sha256=None, ends=(x - 1, x + 1))
    assert not check(dataclasses.replace(certificate, inputs=(record,)).document(), G, z, x).accepted


# ------------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("lower", "upper", "words"),
    [
        (zeros(2), zeros(3), "shape"),
        (zeros(2), zeros(2).float(), "dtype"),
        (zeros(2).long(), zeros(2).long(), "floating"),
        (zeros(2) + 1, zeros(2), "lower"),
        (zeros(2), zeros(2) + math.inf, "finite"),
        (zeros(2) * math.nan, zeros(2), "finite"),
    ],
)
def test_an_input_box_is_two_ends_in_order(lower: Tensor, upper: Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        InputBox(lower, upper)


def test_the_middle_is_in_the_box_in_its_dtype() -> None:
    for low, high in ((1.0, 1.0000001), (-3e38, 3e38), (1e-45, 3e-45)):
        box = InputBox(torch.tensor([low]), torch.tensor([high]))
        assert bool((box.lower <= box.middle).all() & (box.middle <= box.upper).all())
        assert box.middle.dtype == torch.float32


def test_a_graph_between_two_ends_refuses_what_was_computed_from_the_value() -> None:
    def sized(z: Tensor, index: Tensor) -> Tensor:
        return 0.5 * z.index_select(1, index)

    z, index = zeros(1, 3), torch.tensor([2, 0, 1])
    graph = trace(sized, z, index).concrete(z, index)
    with pytest.raises(InputError, match="floating"):
        between(graph, {0: (index.double(), index.double())})
    layer, x = layer_of(1, 3, "tanh"), zeros(1, 2)
    graph = trace(layer, z, x).concrete(z, x)
    with pytest.raises(InputError, match="shape"):
        between(graph, {0: (zeros(2), zeros(2))})
    with pytest.raises(InputError, match="finite"):
        between(graph, {0: (x + 1, x)})
    assert between(graph, {}) is graph

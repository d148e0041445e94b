"""Certificates: what they record, refuse, survive on disk, and bound."""

from __future__ import annotations

import json
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from cli_cases import edit_certificate
from torch import Tensor, nn

import deqops.testing as kit
from deqops import EquilibriumLayer, OperatorEquation, Picard, Tolerance, export, load, solve
from deqops.graph import trace
from deqops.testing import assert_accepted
from deqops.verify import (
    Ball,
    Certificate,
    Contraction,
    Converges,
    InputBox,
    InputError,
    ModelFileError,
    Norm,
    Verdict,
    certify,
    certify_each,
    check,
    componentwise_error_bound,
    enclose,
    gradient_error_bound,
    lipschitz_bound,
    nonexpansive_bound,
    rounding_bound,
    rounding_floor,
    sensitivity_bound,
)
from deqops.verify.prove import prove


def layer(gain: float = 0.5, size: int = 6) -> kit.Layer:
    g = torch.Generator().manual_seed(3)
    weight, U, b = (
        torch.randn(*shape, generator=g, dtype=torch.float64) for shape in ((size, size), (size, 2), (size,))
    )
    return kit.Layer(gain * weight / torch.linalg.matrix_norm(weight, 2), "tanh", U, b)


def arguments(batch: int = 3, size: int = 6) -> tuple[Tensor, Tensor]:
    return torch.zeros(batch, size, dtype=torch.float64), torch.ones(batch, 2, dtype=torch.float64)


def test_auto_claims_convergence_and_records_a_free_input() -> None:
    y0, x = arguments()
    certificate = certify(layer(), y0, x)
    assert certificate.verdict is Verdict.CERTIFIED
    assert isinstance(certificate.claim, Converges)
    assert certificate.theorem == "picard"
    assert [record.free for record in certificate.inputs] == [True]
    assert certificate.rate == pytest.approx(0.5, rel=1e-9)
    assert "free" in certificate.explain()


def test_an_input_that_enters_the_bound_is_fixed() -> None:
    class Gate(nn.Module):
        def forward(self, z: Tensor, x: Tensor) -> Tensor:
            return torch.sigmoid(x) * torch.tanh(z)

    y0 = torch.zeros(3, 6, dtype=torch.float64)
    certificate = certify(Gate(), y0, y0 + 1)
    assert [record.free for record in certificate.inputs] == [False]
    assert certificate.verdict is Verdict.CERTIFIED
    with pytest.raises(InputError, match="another value"):
        certificate.error_bound(Gate(), y0, y0 + 2)


@pytest.mark.parametrize(
    ("damping", "rate", "region"),
    [
        (0.5, 0.75, None),
        (0.1, 0.95, None),
        (1.2, 0.8, None),
        (0.5, 0.75, Ball(torch.zeros(2, 3), 5.0)),
        (0.1, 0.95, Ball(torch.zeros(2, 3), 5.0)),
    ],
)
def test_the_rate_is_that_of_the_damped_iteration(
    tmp_path: Path, damping: float, rate: float, region: Ball | None
) -> None:
    half, state = HalfTanh(), torch.zeros(2, 3)
    certificate = certify(half, state, region=region, damping=damping)
    assert certificate.rate is not None
    assert rate <= certificate.rate <= rate + 1e-6
    assert certificate.bound is not None
    assert 0.5 <= certificate.bound <= 0.5 + 1e-6
    certificate.save(tmp_path / "c.json")
    assert Certificate.load(tmp_path / "c.json").document() == certificate.document()
    assert_accepted(tmp_path / "c.json", half, state)
    too_fast = edit_certificate(tmp_path / "c.json", rate=(certificate.bound).hex())
    assert certificate.bound < rate - 1e-3
    assert not check(too_fast, half, state).accepted


class HalfTanh(nn.Module):
    """`tanh(z / 2)`, with constant 1/2."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(0.5 * z)


def test_a_layer_brings_its_start_and_its_damping() -> None:
    equation = OperatorEquation(lambda y, x: torch.tanh(y), f=lambda x: x, scale=0.5)
    model = EquilibriumLayer(equation, solver=Picard(damping=0.5))
    certificate = certify(model, torch.ones(2, 3))
    assert isinstance(certificate.claim, Converges)
    assert certificate.claim.damping == 0.5
    assert certificate.verdict is Verdict.CERTIFIED


def test_saved_and_loaded_certificates_say_the_same(tmp_path: Path) -> None:
    y0, x = arguments()
    weights = torch.tensor([1.0, 2.0, 1.0, 0.5, 1.0, 1.5], dtype=torch.float64)
    model = layer(0.1)
    certificate = certify(model, y0, x, norm=Norm("linf", (weights,)))
    assert certificate.verdict is Verdict.CERTIFIED
    path = tmp_path / "c.json"
    certificate.save(path)
    again = Certificate.load(path)
    assert again.document() == certificate.document()
    assert again.explain().split("\n")[0] == certificate.explain().split("\n")[0]
    assert again.error_bound(model, y0, x).value.equal(certificate.error_bound(model, y0, x).value)


def test_large_witnesses_go_to_a_sibling_file(tmp_path: Path) -> None:
    size = 2**17 + 1
    module = nn.Hardtanh()
    y0 = torch.zeros(1, size, dtype=torch.float64)
    weights = torch.ones(size, dtype=torch.float64)
    certificate = certify(lambda z: 0.5 * module(z), y0, norm=Norm("linf", (weights,)))
    certificate.save(tmp_path / "c.json")
    siblings = list(tmp_path.glob("*.safetensors"))
    assert len(siblings) == 1
    assert Certificate.load(tmp_path / "c.json").document() == certificate.document()
    siblings[0].write_bytes(siblings[0].read_bytes()[:-8])
    with pytest.raises(ModelFileError):
        Certificate.load(tmp_path / "c.json")


@pytest.mark.parametrize("damage", ["cut", "foreign", "schema", "edited", "not json", "list"])
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, damage: str) -> None:
    y0, x = arguments()
    path = tmp_path / "c.json"
    certify(layer(), y0, x).save(path)
    text = path.read_text()
    document = json.loads(text)
    if damage == "cut":
        text = text[: len(text) // 2]
    elif damage == "not json":
        text = "\x00\x01"
    elif damage == "list":
        text = "[]"
    else:
        key, value = {"foreign": ("format", "x"), "schema": ("schema", 2), "edited": ("rate", (0.25).hex())}[damage]
        text = json.dumps(document | {key: value})
    path.write_text(text)
    with pytest.raises(ModelFileError) as caught:
        Certificate.load(path)
    assert "\n" not in str(caught.value)


def test_error_bounds_refuse_other_weights_and_shapes() -> None:
    y0, x = arguments()
    certificate = certify(layer(), y0, x)
    with pytest.raises(InputError, match="weights"):
        certificate.error_bound(layer(0.6), y0, x)
    with pytest.raises(InputError, match="shape"):
        certificate.error_bound(layer(), y0[:, :5], x)
    with pytest.raises(InputError, match="NaN"):
        certificate.error_bound(layer(), y0 * float("nan"), x)


def test_error_bound_shrinks_to_the_rounding_floor_at_the_equilibrium() -> None:
    y, x = arguments()
    model = layer()
    certificate = certify(model, y, x)
    with torch.no_grad():
        for _ in range(80):
            y = model(y, x)
    bound = certificate.error_bound(model, y, x)
    assert bound.value.shape == (3,)
    assert float(bound.l2.max()) < 1e-13
    ball = enclose(certificate, model, y, x)
    assert bool(ball.contains(y).all())
    assert not bool(ball.contains(y + 1).any())


@pytest.mark.parametrize(("norm", "distance"), [("l1", 16.0), ("l2", 8.0), ("linf", 4.0)])
def test_the_error_bound_is_attained_on_a_line(norm: str, distance: float) -> None:
    """T1: from 0 the equilibrium of `z -> 3/4 z + 1` is at 4, in four unknowns; the residual is 1 in each."""

    def line(z: Tensor) -> Tensor:
        return 0.75 * z + 1.0

    zero = torch.zeros(1, 4, dtype=torch.float64)
    bound = certify(line, zero, theorem="picard", norm=norm).error_bound(line, zero)
    assert distance <= float(bound.value) <= distance * (1 + 1e-9)
    assert 8.0 <= float(bound.l2) <= max(distance, 8.0) * (1 + 1e-9)
    assert 4.0 <= float(bound.linf) <= distance * (1 + 1e-9)


def test_local_certificates_bound_no_error_outside_their_ball() -> None:
    module = nn.Tanh()
    center = torch.zeros(2, 3, dtype=torch.float64) + 2.0

    def G(z: Tensor) -> Tensor:
        return 2 * module(z)

    y = center
    for _ in range(200):
        y = G(y)
    certificate = certify(G, y, region=Ball(y, 0.2), theorem="local_picard", norm="linf")
    assert certificate.verdict is Verdict.CERTIFIED, certificate.explain()
    far = y.clone()
    far[1] += 1
    bound = certificate.error_bound(G, far)
    assert bool(bound.value[0].isfinite())
    assert bool(bound.value[1].isinf())


def test_auto_falls_back_to_a_ball_around_the_computed_equilibrium() -> None:
    def G(z: Tensor) -> Tensor:
        return 2 * torch.tanh(z)

    certificate = certify(G, torch.ones(2, 3, dtype=torch.float64))
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.theorem == "local_picard"
    assert isinstance(certificate.region, Ball)


@pytest.mark.parametrize(
    ("operator", "name"),
    [
        (lambda z: z * z, "mul"),
        (lambda z: z.argmax(1, keepdim=True) * z, "argmax"),
        (lambda z: torch.round(z), "round"),
        (lambda z: torch.where(z > 0, z, 0.1 * z), "gt"),
        (lambda z: torch.sort(z, dim=1).indices * z, "sort"),
        (lambda z: torch.nn.functional.dropout(z, 0.5), "dropout"),
        (lambda z: z + torch.rand_like(z), "rand"),
        (lambda z: z - z.mean(0), "mean"),
        (lambda z: z.flip(0), "flip"),
    ],
)
def test_what_has_no_rule_is_unknown_by_name(operator: object, name: str) -> None:
    certificate = certify(operator, torch.ones(3, 4, dtype=torch.float64), norm="l2")
    assert certificate.verdict is not Verdict.CERTIFIED
    if certificate.verdict is Verdict.UNKNOWN:
        assert name in certificate.reason, certificate.reason


def test_dropout_in_training_mode_is_unknown() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).train()
    certificate = certify(module, torch.ones(3, 4), norm="l2")
    assert certificate.verdict is Verdict.UNKNOWN
    assert "dropout" in certificate.reason


def test_nan_weights_and_inputs_are_refused_by_name() -> None:
    y0, x = arguments()
    model = layer()
    with torch.no_grad():
        model.weight[0, 0] = float("nan")
    with pytest.raises(InputError, match="weight"):
        certify(model, y0, x)
    with pytest.raises(InputError, match="input"):
        certify(layer(), y0, x * float("inf"))


def test_contraction_above_one_is_refuted_with_a_witness_in_the_norm_named() -> None:
    y0, x = arguments()
    certificate = certify(layer(1.5), y0, x, norm="l2", theorem="picard")
    assert certificate.verdict is Verdict.REFUTED
    assert isinstance(certificate.claim, Contraction)
    assert certificate.witness is not None
    assert certificate.rate is None


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"theorem": "picrad"}, "theorem"),
        ({"norm": "l3"}, "norm"),
        ({"damping": 0.0}, "damping"),
        ({"theorem": "local_picard"}, "region"),
        ({"batch_dims": 2}, "batch_dims"),
        ({"norm": Norm("l2", (torch.ones(3, dtype=torch.float64),))}, "norm"),
        ({"region": Ball(torch.zeros(2, 2, dtype=torch.float64), 0.1)}, "region"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], word: str) -> None:
    y0, x = arguments()
    with pytest.raises(InputError, match=word):
        certify(layer(), y0, x, **options)  # type: ignore[arg-type]


def test_an_input_that_only_sets_a_size_is_fixed_too() -> None:
    """The number of kept edges enters through shapes; another edge list of the same shape may keep others."""
    from torch_geometric.nn import GCNConv

    conv = GCNConv(2, 2).double()
    with torch.no_grad():
        conv.lin.weight.copy_(0.5 * torch.eye(2))
    edges = torch.tensor([[0, 1, 2, 2], [1, 0, 1, 2]])
    z = torch.zeros(3, 2, dtype=torch.float64)
    certificate = certify(lambda z, e: torch.tanh(conv(z, e)), z, edges, batch_dims=0)
    assert [record.free for record in certificate.inputs] == [False]


def test_a_ball_in_another_norm_than_the_one_named_is_refused() -> None:
    y0, x = arguments()
    with pytest.raises(InputError, match="norm"):
        certify(layer(), y0, x, norm="l1", region=Ball(y0, 0.1, Norm("l2")))


def rows(z: Tensor) -> Tensor:
    """One problem of two rows, its equilibrium (90 / 19, 100 / 19)."""
    mixing = torch.tensor([[0.0, 0.9], [0.9, 0.0]], dtype=torch.float64)
    return mixing @ z + torch.tensor([[0.0], [1.0]], dtype=torch.float64)


def test_an_operator_graph_that_counts_problems_differently_is_refused(tmp_path: Path) -> None:
    """The fingerprint does not hold batch_dims: row by row the bounds would be below the true distances."""
    start, y = torch.zeros(2, 1, dtype=torch.float64), torch.tensor([[2.7], [3.0]], dtype=torch.float64)
    certificate = certify(rows, start, batch_dims=0, norm="linf")
    export(tmp_path / "m.pt2", rows, start)
    graph, own = load(tmp_path / "m.pt2"), load(tmp_path / "m.pt2", batch_dims=0)
    assert (graph.batch_dims, graph.fingerprint) == (1, certificate.fingerprint)
    assert certificate.error_bound(own, y).value >= (y - torch.tensor([[90.0], [100.0]]) / 19).abs().max()
    for bound in (
        lambda: certificate.error_bound(graph, y),
        lambda: enclose(certificate, graph, y),
        lambda: rounding_bound(certificate, graph, y),
        lambda: rounding_floor(certificate, graph, y),
        lambda: componentwise_error_bound(certificate, graph, y),
        lambda: sensitivity_bound(certificate, graph, y),
        lambda: gradient_error_bound(certificate, graph, y),
        lambda: solve(graph, y, tolerance=Tolerance(error=1.0, certificate=certificate), throw=False),
    ):
        with pytest.raises(InputError, match=r"batch_dims=1, the certificate is for batch_dims=0"):
            bound()
    assert not check(certificate, graph, y).accepted
    assert prove(certificate, graph, None, tier="exact").verdict == "rejected"


def test_batch_dims_given_beside_an_operator_graph_must_be_its_own() -> None:
    y = torch.zeros(2, 1, dtype=torch.float64)
    graph = trace(rows, y, batch_dims=0)
    assert lipschitz_bound(graph, y).upper >= 0.9
    assert certify(graph, y, batch_dims=0).batch_dims == 0
    for wrong in (
        lambda: certify(graph, y, batch_dims=1),
        lambda: lipschitz_bound(graph, y, batch_dims=1),
        lambda: nonexpansive_bound(graph, y, batch_dims=1),
        lambda: certify_each(graph, y),
    ):
        with pytest.raises(InputError, match="batch_dims: the operator graph has 0, got 1"):
            wrong()


def test_arguments_that_are_no_floats_enter_on_the_safe_side() -> None:
    y = torch.zeros(1, 2, dtype=torch.float64)
    certificate = certify(lambda z: 0.5 * z, y, theorem="picard", norm="linf")
    third = Fraction(1, 3)
    steps = certificate.iterations(third, 2**53 + 1)
    assert Fraction(certificate.rate or 0) ** steps * 2 * (2**53 + 1) <= third
    assert Fraction(Ball(y, third).radius) >= third
    assert lipschitz_bound(lambda z: z * (2**53 + 2), y, norm="linf").upper >= 2**53 + 2
    for operator in (lambda z: z * (2**53 + 1), lambda z: z / (2**53 + 1), lambda z: torch.add(z, z, alpha=2**53 + 1)):
        with pytest.raises(InputError, match=r"beyond 2\^53"):
            lipschitz_bound(operator, y, norm="linf")
    for options in ({}, {"theorem": "damped"}):
        with pytest.raises(InputError, match="damping: got Fraction"):
            certify(lambda z: 0.5 * z, y, damping=third, **options)
    with pytest.raises(InputError, match="damping: got Fraction"):
        nonexpansive_bound(lambda z: z.clamp(-1, 1), y, damping=third)


@pytest.mark.parametrize(("eps", "step"), [(5e-324, 1.7e308), (1e-300, 1e-300), (1.7e308, 5e-324)])
def test_any_positive_numbers_have_a_number_of_steps_or_are_refused(eps: float, step: float) -> None:
    certificate = certify(lambda z: 0.5 * z, torch.zeros(1, 2, dtype=torch.float64))
    try:
        steps = certificate.iterations(eps, step)
    except InputError as error:
        assert str(error).startswith("iterations: eps")  # noqa: PT017
    else:
        assert Fraction(certificate.rate or 0) ** steps * 2 * Fraction(step) <= Fraction(eps) * (1 + Fraction(1, 10**9))


@pytest.mark.parametrize("depth", [900, 970, 990, 5000, 100_000])
def test_a_file_that_is_nested_deeply_is_refused(tmp_path: Path, depth: int) -> None:
    y = torch.zeros(1, 2, dtype=torch.float64)
    text = json.dumps(certify(lambda z: 0.5 * z, y).document())
    path = tmp_path / "deep.json"
    path.write_text(text.replace('"attempts": [', '"attempts": [' + "[" * depth + "]" * depth + ", ", 1))
    with pytest.raises(ModelFileError):
        Certificate.load(path)
    with suppress(ModelFileError):
        assert not check(path, lambda z: 0.5 * z, y).accepted


def test_a_file_with_a_rate_that_shrinks_nothing_is_refused(tmp_path: Path) -> None:
    y0, x = arguments()
    path = tmp_path / "c.json"
    certify(layer(), y0, x).save(path)
    with pytest.raises(ModelFileError, match="rate: must be below 1"):
        Certificate.load(edit_certificate(path, rate=(1.0).hex()))


def test_a_file_about_fewer_inputs_bounds_no_error(tmp_path: Path) -> None:
    y0, x = arguments()
    path = tmp_path / "c.json"
    certify(layer(), y0, x).save(path)
    edited = Certificate.load(edit_certificate(path, inputs=[]))
    with pytest.raises(InputError, match="inputs: the certificate is for 0, got 1"):
        edited.error_bound(layer(), y0, x)


@pytest.mark.parametrize("shape", [(), (2,), (3, 1), (1, 2), (6,), (2, 3, 2)])
def test_a_constant_in_a_norm_whose_weights_do_not_fit_is_refused(shape: tuple[int, ...]) -> None:
    y, norm = torch.zeros(2, 3, 2, dtype=torch.float64), Norm("linf", (torch.ones(shape, dtype=torch.float64),))
    with pytest.raises(InputError, match="norm: weights of shape"):
        lipschitz_bound(lambda z: torch.tanh(z), y, norm=norm)


def test_a_box_of_inputs_has_no_error_bound() -> None:
    y, x = arguments(1)
    certificate = certify(layer(), y, x)
    with pytest.raises(InputError, match="inputs: got an InputBox"):
        certificate.error_bound(layer(), y, InputBox(x - 1, x + 1))


def test_a_leaf_without_numbers_is_refused_as_the_checker_refuses_it() -> None:
    state = (torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, 0, dtype=torch.float64))
    with pytest.raises(InputError, match=r"state: a leaf of shape \(2, 0\) holds no numbers"):
        certify(lambda s: (0.5 * s[0], s[1]), state)


def test_auto_leaves_out_what_is_about_another_norm_than_the_ball_names() -> None:
    y = torch.zeros(2, 3, dtype=torch.float64)
    certificate = certify(lambda z: 1.5 * torch.tanh(3 * z), y, region=Ball(y, 5.0, Norm("linf")), budget=3)
    assert certificate.verdict is not Verdict.CERTIFIED
    with pytest.raises(InputError, match="local_lyapunov"):
        certify(torch.tanh, y, region=Ball(y, 5.0, Norm("linf")), theorem="local_lyapunov")

"""A slice of `campaign/`, and proof that it sees what is wrong and goes on where it stopped."""

from __future__ import annotations

import base64
import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flint import arb, ctx, fmpq, fmpq_mat, fmpz_mat

from campaign import _modules as modules
from campaign import _sections as sections
from campaign.__main__ import main
from campaign._balls import definiteness, enclosed, is_bound
from campaign._claims import drawn
from campaign._exact import identity, integers, is_semidefinite, is_stable, norm_at_most, rational_matrix, shifted
from campaign._judge import judge
from campaign._judge_numbers import _rational
from campaign._layers import ACTIVATIONS, Layer
from campaign._matrices import is_norm_bound, overshoot
from campaign._operators import FAMILIES, Operator, draw_operator
from campaign._section import Section, Tally, run_cases
from deqops.graph import trace
from deqops.verify import Ball, Box, Verdict, certify

SLICES = {
    "matrices": 360,
    "balls": 36,
    "claims": 60,
    "tampered": 150,
    "structured": 200,
    "modules": 16,
    "transforms": 8,
    "sorts": 8,
    "choices": 8,
}


@pytest.mark.parametrize("name", list(SLICES))
def test_a_slice_without_violations(name: str) -> None:
    tally = run_cases(sections.SECTIONS[name], 12, 0, SLICES[name])
    assert not tally.violations
    assert tally.counts["cases"] == SLICES[name]
    for found in {
        "matrices": ["eigenvalue bounds", "l2 bounds of enclosures", "l2 bounds of sparse matrices"],
        "balls": ["eigenvalue bounds"],
        "claims": ["certified picard", "refuted refute", "unknown", "checked again, accepted"],
        "structured": [
            "sparse eigenvalue bounds",
            "block-tridiagonal eigenvalue bounds",
            "called positive definite",
            "residuals of wrong factors",
            "l2 bounds of signed matrices",
        ],
        "tampered": ["rejected", "refused as no certificate", "accepted"],
        "modules": ["bounds everywhere", "bounds on a ball", "bounds on a box", "accepted"],
        "transforms": ["bounds everywhere", "bounds on a ball", "bounds on a box", "accepted"],
        "sorts": ["bounds everywhere", "bounds on a ball", "bounds on a box"],
        "choices": ["bounds on a ball", "bounds on a box", "no constant everywhere"],
    }[name]:
        assert tally.counts[found] > 0
    if name == "matrices":
        assert 0 < tally.largest["overshoot of the l2 bound"] < 1e-13


def test_the_judge_of_modules_sees_a_box_where_starts_do_not_meet_and_one_that_is_left() -> None:
    """A certificate of `z/2` on a box, held against `2 z`, and against `z/2 + 5`, whose equilibrium is elsewhere."""
    z = torch.zeros(1, modules.ROWS, modules.COLUMNS, dtype=torch.float64)
    half, twice = (modules.Module((linear(gain),), 1.0) for gain in (0.5, 2.0))
    certificate = certify(half, z, z, region=Box(z - 1, z + 2))
    assert certificate.verdict is Verdict.CERTIFIED
    for module, x, wrong in ((half, z, ""), (twice, z, "do not meet"), (half, z + 5, "leaves its box")):
        tally = Tally()
        modules._judged(tally, module, (z, x), certificate, np.random.default_rng(0), "")
        assert bool(tally.violations) == bool(wrong)
        assert not wrong or any(wrong in violation for violation in tally.violations)


def test_the_judge_of_modules_waits_no_longer_than_the_certificates_rate_demands() -> None:
    """Case 6272 of seed 31: certified with a rate of 0.99997, starts are still apart after all steps."""
    tally = modules.case(31, 6272)
    assert tally.counts["certified one_sided"] == 1
    assert tally.violations == []


def linear(gain: float) -> modules.Step:
    return modules.Step("linear", (0,), gain * torch.eye(modules.COLUMNS, dtype=torch.float64))


# ------------------------------------------------------------------------------------- the exact arithmetic


def test_semidefinite_matrices_are_told_from_those_that_are_not_by_one_unit() -> None:
    """[[1, 1], [1, 1]] is singular; less by any multiple of I it is indefinite."""
    ones = fmpz_mat([[1, 1], [1, 1]])
    assert is_semidefinite(ones)
    assert not is_semidefinite(ones, definite=True)
    assert is_semidefinite(shifted(fmpq(2), ones, 0))
    assert not is_semidefinite(shifted(fmpq(2) - fmpq(1, 2**200), ones, 0))


def test_a_norm_bound_that_is_one_unit_short_is_seen() -> None:
    matrix = np.array([[0.6, -0.8], [0.8, 0.6]])
    exact, exponent = integers(matrix)
    assert is_norm_bound(exact, exponent, 1.0 + 2.0**-52)
    assert not is_norm_bound(*integers(np.eye(3)), 1.0 - 2.0**-53)
    assert is_norm_bound(*integers(np.eye(3)), 1.0)
    assert is_bound(np.eye(40), 1.0 - 2.0**-53) is False
    assert is_bound(np.eye(40), 1.0 + 2.0**-52) is True
    assert overshoot(*integers(np.diag([0.5, 2.0])), 2.5) == pytest.approx((2.5**2 / 2**2 - 1) / 2)


@pytest.mark.parametrize("scale", [2.0**-1060, 1e-300, 1.0, 1e300])
def test_integers_are_the_floats(scale: float) -> None:
    matrix = np.array([[1.0, -0.75], [0.0, 2.0**-10]]) * scale
    exact, exponent = integers(matrix)
    back = [[fmpq(int(x)) * fmpq(2) ** exponent for x in row] for row in exact.tolist()]
    assert rational_matrix(torch.from_numpy(matrix)).tolist() == back


def test_balls_decide_definiteness_or_say_that_they_do_not() -> None:
    before, ctx.prec = ctx.prec, 200
    try:
        assert definiteness(enclosed(np.array([[2.0, 1.0], [1.0, 1.0]]))) is True
        assert definiteness(enclosed(np.array([[1.0, 2.0], [2.0, 1.0]]))) is False
        assert definiteness(enclosed(np.array([[1.0, 1.0], [1.0, 1.0]]))) is None
    finally:
        ctx.prec = before


@pytest.mark.parametrize("seed", range(20))
def test_norms_and_stability_agree_with_floats_away_from_the_limit(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    exact = rational_matrix(W)
    for order, number in (("l1", 1), ("l2", 2), ("linf", float("inf"))):
        norm = float(torch.linalg.matrix_norm(W, number))
        assert norm_at_most(exact, order, fmpq(*(norm * 1.001).as_integer_ratio()))
        assert not norm_at_most(exact, order, fmpq(*(norm * 0.999).as_integer_ratio()))
    radius = float(torch.linalg.eigvals(W).abs().max())
    for factor in (0.99, 1.01):
        scaled = exact * fmpq(*(factor / radius).as_integer_ratio())
        assert is_stable(scaled) is (factor < 1)


def test_a_spectral_radius_of_one_is_not_stable() -> None:
    assert not is_stable(fmpq_mat([[0, 1], [-1, 0]]))
    assert is_stable(fmpq_mat([[0, 100], [0, 0]]))


# ---------------------------------------------------------------------------------------- layers and twins


def test_the_rational_twin_is_the_traced_operator() -> None:
    labels = []
    for number in range(90):
        operator = draw_operator(np.random.default_rng([7, number]))
        labels.append(operator.label)
        state = operator.state
        image = operator.graph(state, *operator.inputs).double()
        problems = state.shape[0] if operator.graph.batch_dims else 1
        exact = [_values(operator.layer, row) for row in state.double().reshape(problems, -1).tolist()]
        tolerance = 1e-12 if state.dtype == torch.float64 else 1e-4
        expected = torch.tensor(exact, dtype=torch.float64)
        torch.testing.assert_close(image.reshape(problems, -1), expected, rtol=tolerance, atol=tolerance)
    assert {name for name in FAMILIES if any(label.startswith(name) for label in labels)} == set(FAMILIES)
    assert {name for name in ACTIVATIONS if any(name in label.split() for label in labels)} == set(ACTIVATIONS)


def _values(layer: Layer, row: list[float]) -> list[float]:
    image = layer([fmpq(*v.as_integer_ratio()) for v in row])
    return [int(v.p) / int(v.q) if isinstance(v, fmpq) else float(v) for v in image]


def test_all_equilibria_of_a_relu_layer_are_found() -> None:
    """T1's trap: relu(W z + (-1/2, -1)) has 0 and one more."""
    trap = _trap()
    found = trap.layer.equilibria()
    assert found is not None
    assert len(found) == 2
    for y in found:
        assert trap.layer(y) == y


# -------------------------------------------------------------------------------------------------- the judge


def _single(weight: torch.Tensor, bias: torch.Tensor, name: str = "relu") -> Operator:
    functions = {"relu": torch.relu, "tanh": torch.tanh}
    form = FAMILIES["single"]
    state = torch.zeros(1, len(bias), dtype=torch.float64)
    graph = trace(form.function(functions[name]), state, weight, bias)
    layer = form.twin((weight, bias), ACTIVATIONS[name])
    return Operator(graph, state, (weight, bias), layer, form.biases, "single")


def _trap() -> Operator:
    weight = torch.tensor([[1.5, -2.0], [1.0, -1.2]], dtype=torch.float64)
    return _single(weight, torch.tensor([-0.5, -1.0], dtype=torch.float64))


def _document(operator: Operator, **options: Any) -> dict[str, Any]:
    certificate = certify(operator.graph, operator.state, *operator.inputs, **options)
    assert certificate.verdict is not Verdict.UNKNOWN
    return certificate.document()


def _half() -> Operator:
    weight = torch.tensor([[0.5, 0.25], [0.0, 0.5]], dtype=torch.float64)
    return _single(weight, torch.tensor([1.0, 2.0], dtype=torch.float64))


@pytest.mark.parametrize("order", ["l1", "l2", "linf", "weighted_l1", "weighted_l2", "weighted_linf"])
def test_the_judge_sees_a_rate_or_bound_that_is_too_small(order: str) -> None:
    document = _document(_half(), theorem="picard", norm=order)
    assert judge(document, _half()) == []
    lower = (float.fromhex(document["rate"]) * (1 - 2.0**-20)).hex()
    for change in ({"rate": lower}, {"evidence": {"kind": "lipschitz", "bound": lower}}):
        assert judge(document | change, _half()) != []


def test_the_judge_sees_a_wrong_verdict() -> None:
    certified = _document(_half(), theorem="picard", norm="l2")
    doubled = _half()
    weight = 2 * doubled.inputs[0]
    expanding = _single(weight, doubled.inputs[1])
    refuted = _document(expanding, theorem="picard", norm="l2")
    assert judge(refuted, expanding) == []
    assert judge(certified, replace(expanding, graph=_half().graph)) != []
    assert any("contraction" in reason for reason in judge(refuted, _half()))


def test_the_judge_sees_a_local_claim_made_everywhere_and_a_free_weight() -> None:
    trap = _trap()
    ball = Ball(torch.zeros(1, 2, dtype=torch.float64), 0.1)
    document = _document(trap, theorem="local_picard", norm="l2", region=ball)
    assert judge(document, trap) == []
    everywhere = copy.deepcopy(document)
    everywhere["region"] = everywhere["claim"]["region"] = {"kind": "global"}
    assert "there are 2 equilibria" in judge(everywhere, trap)
    free = copy.deepcopy(document)
    for number in (0, 1):
        free["inputs"][number]["status"] = "free"
        assert judge(free, trap) != []
    wider = copy.deepcopy(document)
    wider["region"]["radius"] = wider["claim"]["region"]["radius"] = (100.0).hex()
    assert "the ball holds 2 equilibria" in judge(wider, trap)


def test_the_judge_rounds_what_an_orbit_comes_to() -> None:
    """The sigmoid of a start far away has an exponent of a billion; exactly it would fill the memory."""
    assert _rational(arb(-(10**9)).exp()) == 0
    assert _rational(-(arb(-(10**9)).exp())) == -fmpq(1, 2**300)
    assert abs(_rational(fmpq(1, 3)) - fmpq(1, 3)) <= fmpq(1, 2**300)
    assert _rational(arb(2) ** 400) == 2**400


def test_the_judge_sees_a_claim_about_a_box_that_is_too_good() -> None:
    layer, box = (
        _half(),
        Box(torch.full((1, 2), 1.5, dtype=torch.float64), torch.full((1, 2), 6.0, dtype=torch.float64)),
    )
    document = _document(layer, theorem="local_picard", norm="linf", region=box)
    assert document["verdict"] == "certified"
    assert judge(document, layer) == []
    for name, value in (("bound", 0.5), ("outside", -1.0), ("outside", 1.0)):
        better = copy.deepcopy(document)
        better["evidence"][name] = value.hex()
        assert judge(better, layer) != [], name
    elsewhere = copy.deepcopy(document)
    moved = np.array([[5.5, 5.5]]).tobytes()
    elsewhere["witnesses"]["box_lower_0"]["data"] = base64.b64encode(moved).decode()
    assert "the box holds 0 equilibria" in judge(elsewhere, layer)


def test_the_judge_sees_a_witness_outside_of_its_box() -> None:
    expanding = _single(2 * _half().inputs[0], _half().inputs[1])
    box = Box(torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64))
    document = _document(expanding, theorem="local_picard", norm="l2", region=box)
    assert document["verdict"] == "refuted"
    assert judge(document, expanding) == []
    narrower = copy.deepcopy(document)
    narrower["witnesses"]["box_upper_0"]["data"] = base64.b64encode(np.full((1, 2), 2.0**-20).tobytes()).decode()
    assert "a point lies outside the box" in judge(narrower, expanding)


def test_the_judge_sees_monotone_numbers_that_are_too_good() -> None:
    weight = torch.tensor([[0.5, -3.0], [3.0, 0.5]], dtype=torch.float64)
    layer = _single(weight, torch.tensor([1.0, 2.0], dtype=torch.float64))
    document = _document(layer, theorem="monotone", norm="l2")
    assert judge(document, layer) == []
    for name, factor in (("mu", 1 + 2.0**-20), ("factor", 0.2)):
        better = copy.deepcopy(document)
        better["evidence"][name] = (float.fromhex(better["evidence"][name]) * factor).hex()
        assert judge(better, layer) != []


def test_the_judge_sees_componentwise_numbers_that_are_too_good() -> None:
    weight = torch.tensor([[0.5, 0.25], [0.25, 0.5]], dtype=torch.float64)
    layer = _single(weight, torch.tensor([1.0, 2.0], dtype=torch.float64))
    ball = Ball(torch.tensor([[5.25, 6.5]], dtype=torch.float64), 2.0)
    for region in (None, ball):
        document = _document(layer, theorem="componentwise", norm="auto", region=region)
        assert judge(document, layer) == []
        for name in ("contraction", "size", "inverse_size"):
            better = copy.deepcopy(document)
            better["evidence"][name] = (float.fromhex(better["evidence"][name]) * 0.9).hex()
            assert judge(better, layer) != []
        for name, value in (("factor", 0.5), *((("image", 0.1),) if region else ())):
            better = copy.deepcopy(document)
            better["evidence"][name] = value.hex()
            assert judge(better, layer) != []


def test_a_layer_with_one_equilibrium_for_this_bias_only_is_not_unique_for_every_bias() -> None:
    """A principal minor of I - W below 0 (T9), while I - W itself has a positive determinant."""
    weight = torch.tensor([[1.5, -2.0], [1.0, -1.2]], dtype=torch.float64)
    layer = _single(weight, torch.tensor([1.0, 1.0], dtype=torch.float64)).layer
    assert (identity(2) - layer.W).det() > 0
    determinants = [(identity(2) - M).det() for M in replace(layer, every_c=True).reached]
    assert min(determinants) < 0 < max(determinants)


# ------------------------------------------------------------------------------------------------ the runner


def _counting(name: str, calls: list[int], wrong: int | None = None, stop: int | None = None) -> Section:
    def case(seed: int, number: int) -> Tally:
        if number == stop:
            raise KeyboardInterrupt
        calls.append(number)
        if number == wrong:
            raise ArithmeticError("broken")
        return Tally(counts={"seen": 1}, largest={"number": float(number)})

    return Section(name, "counts", 40, 10, case)


def _run(folder: Path, section: Section, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setitem(sections.SECTIONS, "matrices", section)
    return main(["matrices", "--state", str(folder), "--workers", "1", *options])


def test_an_interrupted_run_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[int] = []
    assert _run(tmp_path, _counting("matrices", calls, stop=25), monkeypatch) == 130
    assert calls == list(range(25))
    calls.clear()
    assert _run(tmp_path, _counting("matrices", calls), monkeypatch) == 0
    assert calls == list(range(20, 40))
    (saved,) = tmp_path.iterdir()
    assert json.loads(saved.read_text())["tally"]["counts"] == {"seen": 40, "cases": 40}
    printed = capsys.readouterr()
    assert "40/40 cases" in printed.err
    assert "violations" in printed.out
    calls.clear()
    assert _run(tmp_path, _counting("matrices", calls), monkeypatch, "--count", "51") == 0
    assert calls == list(range(40, 60))
    assert _run(tmp_path, _counting("matrices", calls), monkeypatch, "--seed", "1", "--count", "10") == 0
    assert len(list(tmp_path.iterdir())) == 2


def test_a_violation_is_told_with_how_to_repeat_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = _counting("matrices", [], wrong=17)
    assert _run(tmp_path, section, monkeypatch) == 1
    printed = capsys.readouterr().out
    assert "ArithmeticError: broken" in printed
    assert "python -m campaign matrices --seed 0 --case 17" in printed
    assert _run(tmp_path, section, monkeypatch, "--case", "17") == 1
    assert _run(tmp_path, section, monkeypatch, "--case", "16") == 0


def test_cases_are_the_same_in_any_order() -> None:
    first = [drawn(np.random.default_rng([0, 3, number]))[0].label for number in (5, 6)]
    again = [drawn(np.random.default_rng([0, 3, number]))[0].label for number in (6, 5)]
    assert first == again[::-1]


def test_two_workers_find_what_one_finds(tmp_path: Path) -> None:
    options = ["balls", "--count", "100", "--seed", "3"]
    found = []
    for workers in ("1", "2"):
        folder = tmp_path / workers
        assert main([*options, "--workers", workers, "--state", str(folder)]) == 0
        (saved,) = folder.iterdir()
        found.append(json.loads(saved.read_text())["tally"])
    assert found[0]["counts"] == found[1]["counts"]
    assert found[0]["largest"] == found[1]["largest"]


def test_a_causal_claim_with_free_weights_is_judged_at_other_weights() -> None:
    """On a graph without cycles any W does; a W that is triangular by chance does not."""
    assert not run_cases(sections.SECTIONS["tampered"], 0, 5714, 1).violations
    rng = np.random.default_rng(3)
    while True:
        operator = draw_operator(rng)
        if operator.label.startswith("single relu 2 torch.float64"):
            break
    weight = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    inputs = tuple(weight if v.shape == weight.shape else v for v in operator.inputs)
    place = next(number for number, v in enumerate(inputs) if v is weight)
    assert operator.twin is not None
    operator = replace(operator, inputs=inputs, layer=operator.twin(inputs))
    document = certify(operator.graph, operator.state, *inputs, theorem="causal").document()
    assert document["verdict"] == "certified"
    assert not judge(document, operator)
    document["inputs"][place] |= {"status": "free", "sha256": None}
    assert judge(document, operator)

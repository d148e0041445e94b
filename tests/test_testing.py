"""The test kit: what its operators are said to be, they are; its assertions fail where they should, readably."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from fractions import Fraction
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flint import fmpq
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deqops.testing as kit
import pytest_deqops
from deqops import Anderson, Broyden, InputError, ModelFileError
from deqops.testing._certificates import spoilt
from deqops.verify import Ball, Norm, Region, Verdict, certify, check
from tests.exact import rational_matrix

EPS = Fraction(1, 10**9)
FIND = settings(max_examples=500, phases=[Phase.generate, Phase.shrink])
QUICK = settings(max_examples=20, phases=[Phase.generate, Phase.shrink])
"""For `find`: nothing is explained afterwards."""


@functools.cache
def half_document() -> dict[str, Any]:
    """The certificate of z/2 + x, its weights a witness."""
    zero = torch.zeros(1, 1, dtype=torch.float64)
    layer = kit.Layer(0.5 * torch.eye(1, dtype=torch.float64))
    return certify(layer, zero, zero, theorem="picard", norm=Norm("l2", (zero[0] + 1,))).document()


@pytest.mark.parametrize("kind", kit.KINDS)
def test_equilibria_are_exact(kind: str) -> None:
    @settings(max_examples=10)
    @given(kit.operators((kind,)))
    def holds(known: kit.Known) -> None:
        assert torch.equal(known.operator(known.equilibrium, *known.inputs), known.equilibrium)

    holds()


@pytest.mark.parametrize("shape", kit.GRAPHS)
def test_graphs_are_what_they_are_called(shape: str) -> None:
    @settings(max_examples=10)
    @given(kit.graphs((shape,)))
    def holds(graph: kit.Graph) -> None:
        found = {tuple(pair) for pair in graph.edges.T.tolist()}
        assert len(found) == graph.edges.shape[1] == len(graph.strengths)
        assert all(0 <= node < graph.nodes for pair in found for node in pair)
        if shape in ("path", "ring", "star"):
            assert {(target, source) for source, target in found} == found
            assert len(found) == 2 * (graph.nodes - 1 + (shape == "ring" and graph.nodes > 2))
        assert shape != "isolated" or not found
        assert shape != "directed" or all(source < target for source, target in found)

    holds()


def test_graphs_have_loops_and_isolated_nodes_and_shrink_to_few_nodes() -> None:
    looped = find(kit.graphs(("any",)), lambda graph: bool((graph.edges[0] == graph.edges[1]).any()))
    assert looped.edges.tolist() == [[0], [0]]
    alone = find(kit.graphs(), lambda graph: graph.edges.numel() > 0 and len(graph.edges.unique()) < graph.nodes)
    assert alone.nodes <= 3
    assert repr(alone).startswith("Graph(nodes=")


@given(kit.matrices(4, Fraction(5, 16)))
def test_matrices_have_the_norm_exactly(weight: Tensor) -> None:
    """W^T W has the eigenvalue norm^2, and no larger one."""
    W = rational_matrix(weight)
    values = (W.transpose() * W).charpoly().roots()
    assert max(root for root, _ in values) == fmpq(25, 256)


@given(kit.weights(4, ("norm", "permutation")))
def test_weights_are_off_a_norm_of_one_by_a_step(weight: Tensor) -> None:
    """The largest singular value of D + E is 1 + s exactly, s = 0 or a power of two."""
    W = rational_matrix(weight)
    largest = max(root for root, _ in (W.transpose() * W).charpoly().roots())
    off = [fmpq(0), *(sign * fmpq(1, 2**k) for k in range(1, 37) for sign in (1, -1))]
    assert any(largest in ((1 + step) ** 2, max((1 + step) ** 2, fmpq(9, 16))) for step in off)


@settings(max_examples=10)
@given(kit.regions(torch.ones(2, 3, dtype=torch.float64)))
def test_t2_regions_can_be_asked_about(region: Region) -> None:
    """tanh(z / 2) is a contraction by 1/2 in any diagonal norm: a verdict in a ball is right if it holds 0."""
    state = torch.zeros(2, 3, dtype=torch.float64)
    layer = kit.Layer(0.5 * torch.eye(3, dtype=torch.float64), "tanh")
    certificate = certify(layer, state, region=region, theorem="local_picard" if isinstance(region, Ball) else "picard")
    if isinstance(region, Ball) and certificate.verdict is Verdict.CERTIFIED:
        weights = region.norm.weights[0] if region.norm and region.norm.weights else torch.ones(3).double()
        moved = (region.leaves[0] * weights).norm(p={"l1": 1, "l2": 2, "linf": torch.inf}[region.norm.order], dim=1)
        assert bool((moved <= region.radius).all())
    assert isinstance(region, Ball) or certificate.verdict is Verdict.CERTIFIED


@given(kit.layers(), st.data())
def test_layers_take_other_inputs(case: tuple[kit.Layer, Tensor, Tensor], data: st.DataObject) -> None:
    layer, state, x = case
    (other,) = data.draw(kit.inputs(x))
    assert other.shape == x.shape
    assert layer(state, other).shape == state.shape


@pytest.mark.parametrize("kind", kit.KINDS)
def test_t1_nothing_is_certified_below_its_constant(kind: str) -> None:
    """Monotone and causal layers have constants of any size in linf; contractive ones are certified at theirs."""

    @settings(max_examples=10)
    @given(kit.operators((kind,)))
    def holds(known: kit.Known) -> None:
        options = {"theorem": "picard", "norm": known.norm, "batch_dims": known.batch_dims}
        certificate = certify(known.operator, known.start, *known.inputs, **options)
        assert (certificate.verdict is Verdict.CERTIFIED) == (known.constant < 1)
        if certificate.rate is not None:
            assert known.constant <= Fraction(certificate.rate) <= known.constant * (1 + EPS) + EPS

    holds()


@settings(max_examples=10)
@given(kit.operators(("monotone",)))
def test_t5_monotone_layers_have_their_margin(known: kit.Known) -> None:
    certificate = certify(known.operator, known.start, *known.inputs, theorem="monotone", norm="l2")
    assert certificate.verdict is Verdict.CERTIFIED
    assert known.margin is not None
    assert certificate.evidence is not None
    assert certificate.evidence.numbers["mu"] >= float(known.margin) * (1 - 1e-9)
    states = [known.start, known.equilibrium, known.equilibrium - 1]
    kit.assert_bounds_hold(certificate, known.operator, known.equilibrium, *known.inputs, states=states)


@settings(max_examples=10)
@given(kit.contractions())
def test_t1_contractions_have_their_constant(known: kit.Known) -> None:
    certificate = kit.assert_contractive(
        known.operator, known.start, *known.inputs, norm=known.norm, batch_dims=known.batch_dims
    )
    assert certificate.rate is not None
    assert certificate.rate >= known.constant
    assert certificate.rate <= float(known.constant) * (1 + 1e-9) + 1e-9
    states = [known.start, known.equilibrium, known.equilibrium + 1]
    kit.assert_bounds_hold(certificate, known.operator, known.equilibrium, *known.inputs, states=states)
    kit.assert_accepted(certificate, known.operator, known.start, *known.inputs)
    kit.assert_converges(known.operator, known.start, *known.inputs, within=400, batch_dims=known.batch_dims)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", [*kit.CONTRACTING, "saturated"])
def test_t1_t2_certificates_are_accepted(kind: str, weighted: bool) -> None:
    @settings(max_examples=4)
    @given(kit.certificates((kind,), weighted=weighted))
    def holds(certified: kit.Certified) -> None:
        known = certified.known
        kit.assert_accepted(certified.certificate, known.operator, known.start, *known.inputs)

    holds()


@pytest.mark.parametrize("kind", kit.LIES)
def test_lies_are_rejected(kind: str) -> None:
    @settings(max_examples=5)
    @given(kit.lies((kind,)))
    def holds(lie: kit.Lie) -> None:
        kit.assert_rejected(lie.document, lie.known.operator, lie.known.start, *lie.known.inputs)

    holds()


@pytest.mark.parametrize("kind", kit.TAMPERINGS)
def test_t1_tampered_certificates_are_rejected_or_true(kind: str) -> None:
    """What the checker accepts in the end is a constant that is right."""

    @settings(max_examples=6)
    @given(kit.tampered((kind,)))
    def holds(case: kit.Tampered) -> None:
        known, document = case.known, case.document
        try:
            report = check(document, known.operator, known.start, *known.inputs)
        except ModelFileError:
            return
        if report.accepted:
            kept = document["norm"] == case.original.document()["norm"]
            assert document["verdict"] == "certified"
            assert not kept or known.constant <= Fraction(float.fromhex(document["rate"])) < 1
            assert not kept or known.constant <= Fraction(float.fromhex(document["evidence"]["bound"]))

    holds()


def test_lies_and_tampered_certificates_shrink_to_something_to_read() -> None:
    lie = find(kit.lies(("rate",), operators=("linear",)), lambda lie: True, settings=QUICK)
    assert lie.document["rate"] == "0x0.0p+0"
    assert lie.known.equilibrium.tolist() == [[0.0]]
    case = find(kit.tampered(("a number",), operators=("linear",)), lambda case: True, settings=QUICK)
    before, after = case.original.document(), case.document
    changed = [path for path in kit.paths(before) if kit.part(after, path) != kit.part(before, path)]
    assert case.known.equilibrium.tolist() == [[0.0]]
    assert [kit.part(after, path) for path in changed if "0x" in str(kit.part(after, path))] == [(1.0).hex()]


@given(st.integers(0, 10**6), st.sampled_from(sorted(kit.TAMPERINGS)))
def test_seeded_choices_tamper_as_hypothesis_does(seed: int, kind: str) -> None:
    """Long campaigns use the same constructors: one seed, one document, which says what its digest is of."""
    made = [spoilt(kit.Seeded(np.random.default_rng(seed)), half_document(), kind) for _ in range(2)]
    assert made[0] == made[1] == kit.signed(made[0])


TestLifecycle = kit.Lifecycle.TestCase
TestLifecycle.settings = settings(max_examples=6, stateful_step_count=12)


def test_the_machine_finds_a_certificate_of_other_weights() -> None:
    machine = kit.Lifecycle()
    machine.begin()
    machine.certify()
    machine.check()
    machine.train(rate=0.1, seed=0)
    machine.check()  # refused, and rightly
    machine.is_current = True
    with pytest.raises(AssertionError, match="fingerprint differs"):
        machine.check()


@settings(max_examples=8)
@given(kit.operators())
def test_t1_t5_t8_equilibria_are_certified_to_be_the_only_ones(known: kit.Known) -> None:
    kit.assert_unique_equilibrium(known.operator, known.start, *known.inputs, batch_dims=known.batch_dims)


@settings(max_examples=10)
@given(kit.expansions(("linear", "activation", "graph", "convolution")))
def test_t9_expansions_are_refuted(known: kit.Known) -> None:
    options = {"theorem": "picard", "norm": known.norm, "batch_dims": known.batch_dims}
    certificate = certify(known.operator, known.start, *known.inputs, **options)
    assert certificate.verdict is Verdict.REFUTED
    kit.assert_accepted(certificate, known.operator, known.start, *known.inputs)


@settings(max_examples=4)
@given(kit.ambiguous())
def test_several_equilibria_are_not_certified_to_be_one(known: kit.Known) -> None:
    for other in known.others:
        assert torch.equal(known.operator(other, *known.inputs), other)
    with pytest.raises(AssertionError, match=r"\[T1, T5, T8, T11\] no unique equilibrium"):
        kit.assert_unique_equilibrium(known.operator, known.start, *known.inputs)


@pytest.mark.parametrize("solver", [None, Broyden(), Anderson(memory=2)])
def test_our_solvers_keep_problems_apart(solver: Anderson | None) -> None:
    layer = kit.Layer(torch.tensor([[0.5, 0.25], [0.0, -0.5]], dtype=torch.float64), "tanh")
    kit.assert_batch_independent(layer, torch.zeros(3, 2, dtype=torch.float64), torch.ones(3, 2), solver=solver)


def test_examples_shrink_to_something_to_read() -> None:
    known = find(kit.contractions(), lambda known: known.constant > Fraction(1, 4), settings=FIND)
    assert known.equilibrium.numel() == 1
    assert known.constant == Fraction(5, 16)
    assert len(repr(known)) < 400


@pytest.mark.parametrize("kind", kit.KINDS)
def test_every_kind_shrinks_to_few_unknowns_and_whole_numbers(kind: str) -> None:
    known = find(kit.operators((kind,)), lambda known: bool((known.equilibrium > 0.75).any()), settings=FIND)
    assert known.equilibrium.numel() <= 9
    assert known.equilibrium.unique().tolist() in ([0.0, 1.0], [1.0], [0.0, 0.875], [0.875])


@pytest.mark.parametrize("kind", [*kit.KINDS, "saturated"])
def test_what_is_printed_makes_the_operator_again(kind: str) -> None:
    drawn = kit.saturated() if kind == "saturated" else kit.operators((kind,))
    known = find(drawn, lambda known: bool(known.equilibrium.any()), settings=FIND)
    scope = {name: getattr(kit, name) for name in kit.__all__} | {"torch": torch, "Fraction": Fraction, "Ball": Ball}
    again = eval(repr(known), scope)  # noqa: S307
    assert torch.equal(again.operator(again.equilibrium, *again.inputs), known.equilibrium)


class Bad(nn.Module):
    """Mixes problems: its first problem's image depends on the others."""

    def forward(self, z: Tensor) -> Tensor:
        return 0.5 * z.mean(dim=0, keepdim=True).expand_as(z) + 1


def test_failures_name_the_theorem_and_reproduce_the_example() -> None:
    expanding = kit.Layer(2 * torch.eye(2, dtype=torch.float64))
    zeros = torch.zeros(1, 2, dtype=torch.float64)
    with pytest.raises(AssertionError, match=r"\[T1 picard\] not certified(.|\n)*state = torch.full\(\(1, 2\), 0.0"):
        kit.assert_contractive(expanding, zeros, zeros)
    with pytest.raises(AssertionError, match=r"\[T1 picard\] certified with rate"):
        kit.assert_contractive(kit.Layer(0.5 * torch.eye(2, dtype=torch.float64)), zeros, zeros, rate=0.25)
    with pytest.raises(AssertionError, match=r"\[T1 picard\] solve: "):
        kit.assert_converges(expanding, zeros, zeros + 1)
    with pytest.raises(AssertionError, match=r"\[independence\] "):
        kit.assert_batch_independent(Bad(), torch.zeros(2, 2, dtype=torch.float64))


def test_bounds_that_do_not_hold_are_found() -> None:
    layer = kit.Layer(0.5 * torch.eye(1, dtype=torch.float64))
    zeros = torch.zeros(1, 1, dtype=torch.float64)
    certificate = certify(layer, zeros, zeros)
    kit.assert_bounds_hold(certificate, layer, zeros, zeros, states=[zeros + 1])
    with pytest.raises(AssertionError, match="is below the distance"):
        kit.assert_bounds_hold(certificate, layer, zeros + 1, zeros, states=[zeros])  # no equilibrium


def test_gradients_that_differ_are_found() -> None:
    """Two unrolled steps are far from the equilibrium's gradient."""
    zeros = torch.zeros(1, 1, dtype=torch.float64)
    layer = kit.Layer(0.5 * torch.eye(1, dtype=torch.float64))
    kit.assert_gradients_match(layer, zeros, zeros + 1)
    with pytest.raises(AssertionError, match=r"\[T14 implicit_gradient\] gradients differ by"):
        kit.assert_gradients_match(layer, zeros, zeros + 1, steps=2)


def test_small_gradients_that_differ_are_found() -> None:
    zeros = torch.zeros(1, 1, dtype=torch.float64)

    def small(z: Tensor, x: Tensor, unused: Tensor) -> Tensor:
        return 0.5 * z + 1e-9 * x

    kit.assert_gradients_match(small, zeros, zeros + 1, zeros)
    with pytest.raises(AssertionError, match=r"gradients differ by"):
        kit.assert_gradients_match(small, zeros, zeros + 1, zeros, steps=2)
    kit.assert_gradients_match(lambda z, x: 0.5 * z, zeros, zeros)  # both are 0


def test_assertions_that_would_compare_nothing_are_refused() -> None:
    zeros = torch.zeros(2, 1, dtype=torch.float64)
    layer = kit.Layer(0.5 * torch.eye(1, dtype=torch.float64))
    with pytest.raises(InputError, match="state: got 1 problem; give at least two"):
        kit.assert_batch_independent(Bad(), zeros[:1])
    with pytest.raises(AssertionError, match=r"\[independence\] the first problem has no value"):
        kit.assert_batch_independent(lambda z: z.mean(dim=0, keepdim=True).expand_as(z) * torch.nan, zeros)
    with pytest.raises(InputError, match="inputs: none is a floating tensor"):
        kit.assert_gradients_match(lambda z, i: 0.5 * z + i, zeros, 1)
    with pytest.raises(InputError, match="states: there are none to compare"):
        kit.assert_bounds_hold(certify(layer, zeros, zeros), layer, zeros, zeros, states=[])


# ------------------------------------------------------------------------------------------------ the plugin

ROOT = Path(__file__).parent.parent
PROJECT = """
import torch
from deqops.testing import Layer

def model(rate):
    return Layer(rate * torch.eye(2, dtype=torch.float64), "tanh")

def test_the_model_is_certified(certified):
    zeros = torch.zeros(1, 2, dtype=torch.float64)
    certified("model", model(RATE), zeros, zeros, rate=0.95, norm="l2", theorem="picard")
"""


MARKED = """
import pytest
import torch
from deqops.testing import Layer

G, zeros = Layer(0.5 * torch.eye(2, dtype=torch.float64), "tanh"), torch.zeros(1, 2, dtype=torch.float64)

@pytest.mark.deqops(norm="linf", theorem="picard", rate=RATE)
def test_options_of_the_marker_are_those_of_every_call(certified):
    assert certified("first", G, zeros, zeros).norm.order == "linf"
    assert certified("second", G, zeros, zeros).theorem == "picard"

@pytest.mark.deqops(norm="linf", theorem="picard", rate=0.25)
def test_options_of_a_call_go_before(certified):
    assert certified("third", G, zeros, zeros, norm="l2", rate=0.75).norm.order == "l2"

@pytest.mark.deqops(theorem="picard", rate=0.25)
def test_the_rate_of_the_marker_fails_a_test(certified):
    certified("too slow", G, zeros, zeros)

@pytest.mark.deqops
def test_a_marker_without_options(certified):
    certified("fourth", G, zeros, zeros)

def test_without_the_fixture():
    raise AssertionError("not selected")
"""


def run(folder: Path, rate: float, *options: str, project: str = PROJECT) -> subprocess.CompletedProcess[str]:
    (folder / "test_model.py").write_text(project.replace("RATE", repr(rate)))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "deqops", *options]
    if not any(point.value == "pytest_deqops" for point in entry_points(group="pytest11")):
        command += ["-p", "pytest_deqops"]  # deqops is on the path, but was installed before the plugin was there
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_ten_lines_of_a_users_project_under_the_plugin(tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    options = ("--deqops-baseline", str(baseline))
    first = run(tmp_path, 0.5, *options, "--deqops-update")
    assert first.returncode == 0, first.stdout
    assert "certified  model  picard rate 0.5" in first.stdout
    assert json.loads(baseline.read_text())["models"]["model"]["verdict"] == "certified"
    worse = run(tmp_path, 0.625, *options)
    assert worse.returncode == 1
    assert "is worse than the baseline's 0.5" in worse.stdout
    lost = run(tmp_path, 2.0)
    assert lost.returncode == 1
    assert "model: refuted" in lost.stdout


def test_the_markers_options_are_those_of_each_call(tmp_path: Path) -> None:
    found = run(tmp_path, 0.75, "--strict-markers", project=MARKED)
    assert "1 failed, 3 passed, 1 deselected" in found.stdout, found.stdout
    assert re.search(r"too slow: its rate 0\.5\d* is above 0\.25", found.stdout)
    assert all(f"certified  {name}" in found.stdout for name in ("first", "second", "third", "fourth", "too slow"))


def test_an_update_without_a_file_is_refused(tmp_path: Path) -> None:
    found = run(tmp_path, 0.5, "--deqops-update")
    assert found.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--deqops-update: say which file" in found.stderr


def test_a_module_with_a_start_of_its_own_is_checked_as_it_is_certified() -> None:
    module, zeros = Bad(), torch.zeros(2, 2)
    module.initial_state = zeros + 1
    assert pytest_deqops._checked_arguments(module, (zeros,)) == (zeros, ())


def test_baselines_and_rates_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    with pytest.raises(pytest.UsageError, match="make it by --deqops-update"):
        pytest_deqops.read_baseline(path)
    text = '{"models": {"a": {"verdict": "certified", "rate": "0.5"}}}'
    for content in ("{}", "[]", "nothing", '{"models": {"a": {}}}', '{"models": 3}', text):
        path.write_text(content)
        with pytest.raises(pytest.UsageError, match="is no baseline"):
            pytest_deqops.read_baseline(path)
    before = {"verdict": "certified", "rate": 0.5}
    assert pytest_deqops._worse({"rate": 0.5, "before": before}, 0.5) == ""
    assert pytest_deqops._worse({"rate": 0.5 * (1 + 1e-12), "before": before}, None) == ""
    assert "worse than the baseline" in pytest_deqops._worse({"rate": 0.51, "before": before}, None)
    assert "worse than the baseline" in pytest_deqops._worse({"rate": None, "before": before}, None)
    assert "above 0.4" in pytest_deqops._worse({"rate": 0.5, "before": None}, 0.4)
    assert "above 0.4" in pytest_deqops._worse({"rate": None, "before": None}, 0.4)

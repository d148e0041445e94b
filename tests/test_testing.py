"""The test kit: what its operators are said to be, they are; its assertions fail where they should, readably."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch
from flint import fmpq
from hypothesis import find, given, settings
from torch import Tensor, nn

import deqops.testing as kit
import pytest_deqops
from deqops import Anderson, Broyden
from deqops.verify import Verdict, certify
from tests.exact import rational_matrix


@pytest.mark.parametrize("kind", kit.KINDS)
def test_equilibria_are_exact(kind: str) -> None:
    @settings(max_examples=10)
    @given(kit.operators((kind,)))
    def holds(known: kit.Known) -> None:
        assert torch.equal(known.operator(known.equilibrium, *known.inputs), known.equilibrium)

    holds()


@given(kit.matrices(4, Fraction(5, 16)))
def test_matrices_have_the_norm_exactly(weight: Tensor) -> None:
    """W^T W has the eigenvalue norm^2, and no larger one."""
    W = rational_matrix(weight)
    values = (W.transpose() * W).charpoly().roots()
    assert max(root for root, _ in values) == fmpq(25, 256)


@settings(max_examples=10)
@given(kit.contractions())
def test_t1_contractions_have_their_constant(known: kit.Known) -> None:
    certificate = kit.assert_contractive(
        known.operator, known.start, *known.inputs, norm=known.norm, batch_dims=known.batch_dims
    )
    assert known.constant is not None
    assert certificate.rate is not None
    assert certificate.rate >= known.constant
    assert certificate.rate <= float(known.constant) * (1 + 1e-9) + 1e-9
    states = [known.start, known.equilibrium, known.equilibrium + 1]
    kit.assert_bounds_hold(certificate, known.operator, known.equilibrium, *known.inputs, states=states)
    kit.assert_accepted(certificate, known.operator, known.start, *known.inputs)
    kit.assert_converges(known.operator, known.start, *known.inputs, within=400, batch_dims=known.batch_dims)


@settings(max_examples=6)
@given(kit.certificates())
def test_certificates_are_accepted(certified: kit.Certified) -> None:
    known = certified.known
    kit.assert_accepted(certified.certificate, known.operator, known.start, *known.inputs)


@settings(max_examples=20)
@given(kit.lies())
def test_lies_are_rejected(lie: kit.Lie) -> None:
    kit.assert_rejected(lie.document, lie.known.operator, lie.known.start, *lie.known.inputs)


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


@settings(max_examples=4)
@given(kit.expansions())
def test_expansions_are_refuted(known: kit.Known) -> None:
    certificate = certify(known.operator, known.start, *known.inputs, theorem="picard", norm="l2")
    assert certificate.verdict is Verdict.REFUTED


@settings(max_examples=4)
@given(kit.ambiguous())
def test_several_equilibria_are_not_certified_to_be_one(known: kit.Known) -> None:
    with pytest.raises(AssertionError, match=r"\[T1, T5, T8, T11\] no unique equilibrium"):
        kit.assert_unique_equilibrium(known.operator, known.start, *known.inputs)


@settings(max_examples=5)
@given(kit.contractions(("linear", "layers"), rate=kit.rates(most=Fraction(1, 2))))
def test_t14_gradients_of_contractions_match(known: kit.Known) -> None:
    kit.assert_gradients_match(known.operator, known.start, *known.inputs, steps=60)


@pytest.mark.parametrize("solver", [None, Broyden(), Anderson(memory=2)])
def test_our_solvers_keep_problems_apart(solver: Anderson | None) -> None:
    layer = kit.Layer(torch.tensor([[0.5, 0.25], [0.0, -0.5]], dtype=torch.float64), "tanh")
    kit.assert_batch_independent(layer, torch.zeros(3, 2, dtype=torch.float64), torch.ones(3, 2), solver=solver)


def test_examples_shrink_to_something_to_read() -> None:
    known = find(kit.contractions(), lambda known: known.constant is not None and known.constant > Fraction(1, 4))
    assert known.equilibrium.numel() == 1
    assert len(repr(known)) < 400


def test_what_is_printed_makes_the_operator_again() -> None:
    known = find(kit.operators(("graph",)), lambda known: bool(known.equilibrium.any()))
    scope = {name: getattr(kit, name) for name in kit.__all__} | {"torch": torch, "Fraction": Fraction}
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


def run(folder: Path, rate: float, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_model.py").write_text(PROJECT.replace("RATE", repr(rate)))
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


def test_baselines_and_rates_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    with pytest.raises(pytest.UsageError, match="make it by --deqops-update"):
        pytest_deqops.read_baseline(path)
    for content in ("{}", "[]", "nothing", '{"models": {"a": {}}}', '{"models": 3}'):
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

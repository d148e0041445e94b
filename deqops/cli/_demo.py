"""`deqops demo`: train on a real graph, solve, certify, check."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deqops._tensorfile import read_tensors, write_tensors
from deqops.models import RECIPES, train_pign

from ._certify import VERDICT_CODES, summary
from ._exit import DONE, FAILED, writing
from ._output import at_most, emit, json_option
from ._progress import stage
from ._run_folder import RunFolder
from ._settings import parse_settings, set_option
from ._training import TrainingRun, epochs, one_thread, runs_option, seed_option

if TYPE_CHECKING:
    from torch_geometric.data import Data

    from deqops import Solution
    from deqops.graph import OperatorGraph
    from deqops.models import TrainedPIGN
    from deqops.verify import Certificate, CheckReport


@click.command("demo")
@click.argument("model", type=click.Choice(("pign",)), default="pign")
@click.option("--name", help="The run's folder within --runs. Default: the model's name.")
@runs_option
@seed_option
@set_option
@json_option
def demo_command(
    model: str, name: str | None, runs: Path, seed: int, assignments: tuple[str, ...], as_json: bool
) -> int:
    """Train a graph network on scikit-learn's digits, solve it, prove that it converges, check the proof."""
    from deqops.report import write_report

    run = TrainingRun(model, "digits", seed, *parse_settings(RECIPES[model], "digits", assignments))
    with run.folder(runs, model if name is None else name) as folder:
        data = run.load(Path())
        trained, baseline = run.train(data, folder), without_iteration(run, data)
        run.export(trained, data, folder)
        findings = prove(folder)
        metrics = run.metrics(trained, data) | _metrics(baseline, findings)
        folder.write_json(folder.metrics, metrics)
        with stage("writing the report"), writing(folder.report):
            write_report(folder.path, check=findings.report)
    emit(as_json, {**metrics, "folder": str(folder.path)}, _lines(folder, metrics, findings))
    return findings.exit_code


def without_iteration(run: TrainingRun, data: Data) -> TrainedPIGN:
    """The same network and training without iteration: the operator applied once, to f(X)."""
    with stage("training the same network without iteration") as advance, one_thread():
        return train_pign(data, replace(run.settings, steps=1), seed=run.seed, progress=epochs(advance))


@dataclass(frozen=True)
class Findings:
    """What solving, certifying and checking a run's files gave."""

    solution: Solution
    certificate: Certificate
    report: CheckReport
    error: dict[str, float] | None

    @property
    def exit_code(self) -> int:
        """Certified and verified, or the code of what is missing."""
        code = VERDICT_CODES[self.certificate.verdict.value]
        return FAILED if code == DONE and not self.report.accepted else code


def prove(folder: RunFolder) -> Findings:
    """Solve, certify and check what the run's files say; only the files are used.

    Writes the equilibrium and the certificate.
    """
    from deqops.graph import read_model
    from deqops.verify import Verdict, certify, check

    graph, given = read_model(folder.model), read_tensors(folder.inputs)
    solution = _solved(graph, given.state, given.inputs)
    with writing(folder.state):
        write_tensors(folder.state, solution.value, given.inputs)
    with stage("certifying") as advance:
        certificate = certify(graph, given.state, *given.inputs, progress=lambda text: advance(0, None, text))
        with writing(folder.certificate):
            certificate.save(folder.certificate)
    error = None
    if certificate.verdict is Verdict.CERTIFIED and certificate.factor is not None:
        with stage("bounding the error of the computed equilibrium"):
            bound = certificate.error_bound(graph, solution.value, *given.inputs)
            error = {"l2": float(bound.l2.max()), "linf": float(bound.linf.max())}
    with stage("checking the certificate independently"):
        report = check(folder.certificate, graph, given.state, *given.inputs)
    return Findings(solution, certificate, report, error)


def _solved(graph: OperatorGraph, state: Any, inputs: tuple[Any, ...]) -> Solution:
    """The equilibrium by Picard's iteration, which is the one the certificate is about."""
    from deqops import Picard, Tolerance, solve

    with stage("solving") as advance:
        return solve(
            graph,
            state,
            *inputs,
            solver=Picard(),
            tolerance=Tolerance(relative=1e-6),
            max_evaluations=1000,
            batch_dims=graph.batch_dims,
            callback=lambda done, residual: advance(done, 1000, f"residual {float(residual.max()):.2e}"),
        )


def _metrics(baseline: TrainedPIGN, findings: Findings) -> dict[str, Any]:
    return {
        "accuracy_without_iteration": baseline.accuracy,
        "evaluations": int(findings.solution.evaluations.max()),
        "residual": float(findings.solution.residual.max()),
        **summary(findings.certificate, None),
        "proven_error": findings.error,
        "verified": findings.report.accepted,
        "reasons": findings.report.reasons,
    }


def _lines(folder: RunFolder, metrics: dict[str, Any], findings: Findings) -> list[str]:
    own, plain = metrics["accuracy"]["test"], metrics["accuracy_without_iteration"]["test"]
    checked = "verified by the independent checker" if findings.report.accepted else "not verified: "
    lines = [
        f"test accuracy  {own:.1%} at the equilibrium, {plain:.1%} for the same network without iteration",
        f"verdict        {metrics['verdict']}: {metrics['reason'] or metrics['claim']}",
    ]
    if findings.error is not None:
        lines += [
            f"rate           {at_most(metrics['rate'], 9)} per step (theorem {metrics['theorem']})",
            f"proven error   {at_most(findings.error['l2'], 3)} after {metrics['evaluations']} steps"
            " (l2 distance to the true equilibrium, so in every entry too)",
        ]
    return [
        *lines,
        f"check          {checked}{'; '.join(findings.report.reasons)}",
        f"files          {folder.path}: {folder.model.name}, {folder.inputs.name}, {folder.state.name},"
        f" {folder.certificate.name}, {folder.metrics.name}",
        f"report         {folder.report}",
        f"check again    deqops check {folder.certificate} --model {folder.model} --inputs {folder.inputs}",
    ]

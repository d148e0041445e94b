"""`deqops solve`: the equilibrium of a model file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deqops._tensorfile import write_tensors

from ._arguments import (
    DAMPING,
    FILE,
    NOT_NEGATIVE,
    POSITIVE,
    batch_dims_option,
    inputs_option,
    read_certified_operator,
    read_inputs,
    read_operator,
)
from ._exit import DONE, FAILED, require_place, writing
from ._output import at_most, emit, json_option
from ._progress import stage

if TYPE_CHECKING:
    from deqops import Solution, Solver, Tolerance
    from deqops.graph import OperatorGraph


@click.command("solve")
@click.argument("model", type=FILE)
@inputs_option
@click.option("-o", "--output", type=FILE, required=True, help="Where the equilibrium goes (.safetensors).")
@click.option(
    "--certificate", type=FILE, help="A certificate of this model: the distance to the equilibrium is proven."
)
@click.option("--error", type=POSITIVE, help="Stop at this proven distance (l2); needs --certificate.")
@click.option("--solver", type=click.Choice(["anderson", "picard"]), default="anderson", show_default=True)
@click.option("--damping", type=DAMPING, default=1.0, show_default=True, help="b of z <- (1-b) z + b G(z).")
@click.option(
    "--tolerance", type=NOT_NEGATIVE, default=1e-5, show_default=True, help="Of the residual, relative to the state."
)
@click.option("--max-evaluations", type=click.IntRange(min=1), default=200, show_default=True)
@batch_dims_option
@json_option
def solve_command(
    model: Path,
    inputs_path: Path,
    output: Path,
    certificate: Path | None,
    error: float | None,
    solver: str,
    damping: float,
    tolerance: float,
    max_evaluations: int,
    batch_dims: int | None,
    as_json: bool,
) -> int:
    """Solve MODEL (.pt2) to its equilibrium, from the state in the inputs file.

    The output holds the equilibrium and the inputs, so it serves as --inputs again.
    """
    from deqops import solve

    if error is not None and certificate is None:
        raise click.UsageError("--error needs --certificate: only a certificate proves a distance")
    require_place(output, model, inputs_path, certificate)
    given, graph = read_inputs(inputs_path), _operator(model, certificate, batch_dims)
    chosen, stop = _solver(solver, damping), _tolerance(tolerance, error, certificate)
    with stage("solving") as advance:
        solution = solve(
            graph,
            given.state,
            *given.inputs,
            solver=chosen,
            tolerance=stop,
            max_evaluations=max_evaluations,
            batch_dims=graph.batch_dims,
            throw=False,
            callback=lambda done, residual: advance(done, max_evaluations, f"residual {float(residual.max()):.2e}"),
        )
    if solution.converged:
        with writing(output):
            write_tensors(output, solution.value, given.inputs)
    document = _document(solution, output)
    emit(as_json, document, _lines(solution, document))
    return DONE if solution.converged else FAILED


def _operator(model: Path, certificate: Path | None, batch_dims: int | None) -> OperatorGraph:
    if certificate is None:
        return read_operator(model, batch_dims)
    return read_certified_operator(model, certificate, batch_dims)


def _solver(name: str, damping: float) -> Solver:
    from deqops import Anderson, Picard

    return Picard(damping=damping) if name == "picard" else Anderson(damping=damping)


def _tolerance(relative: float, error: float | None, path: Path | None) -> Tolerance:
    from deqops import Tolerance
    from deqops.verify import Certificate

    if path is None:
        return Tolerance(relative=relative)
    return Tolerance(relative=relative, error=error, certificate=Certificate.load(path))


def _document(solution: Solution, output: Path) -> dict[str, Any]:
    bound = solution.error_bound
    return {
        "converged": solution.converged,
        "result": [result.name for result in solution.results],
        "residual": solution.residual.tolist(),
        "evaluations": solution.evaluations.tolist(),
        "error_bound": None if bound is None else {"l2": bound.l2.tolist(), "linf": bound.linf.tolist()},
        "output": str(output) if solution.converged else None,
    }


def _lines(solution: Solution, document: dict[str, Any]) -> list[str]:
    if not solution.converged:
        return [f"not converged: {solution.describe_failure()}", "nothing was written"]
    problems, most = len(document["result"]), max(document["evaluations"])
    lines = [
        f"converged: {problems} problem{'s' if problems != 1 else ''}, at most {most} evaluations, "
        f"residual {max(document['residual']):.3g}"
    ]
    if document["error_bound"] is not None:
        distance = at_most(max(document["error_bound"]["l2"]), 3)
        lines.append(f"proven distance to the equilibrium: {distance} (l2)")
    return [*lines, f"wrote {document['output']}"]

"""`deqops report`: one self-contained page about a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._arguments import FILE
from ._exit import DONE, MISSING_FILE, CommandError, require_place, writing
from ._output import emit, json_option
from ._progress import stage
from ._run_folder import RunFolder

if TYPE_CHECKING:
    from deqops.verify import CheckReport


@click.command("report")
@click.argument("folder", metavar="DIR", type=FILE)
@click.option("-o", "--output", type=FILE, help="Where the page goes. Default: DIR/report.html.")
@click.option("--check/--no-check", default=True, show_default=True, help="Re-check the certificate first.")
@json_option
def report_command(folder: Path, output: Path | None, check: bool, as_json: bool) -> int:
    """Write a self-contained HTML page about the run in DIR: verdict, proof, convergence, measurements."""
    from deqops.report import write_report

    require_run(folder)
    require_place(output or folder / "report.html", *RunFolder(folder).results)
    found = checked(folder) if check else None
    with stage("writing the page"), writing(output or folder / "report.html"):
        path = write_report(folder, output, found)
    document = {"report": str(path), "checked": found.accepted if found is not None else None}
    emit(as_json, document, [*_warning(found), f"wrote {path}; open it in a browser"])
    return DONE


def _warning(found: CheckReport | None) -> list[str]:
    if found is None or found.accepted or found.verdict == "unknown":
        return []
    return [f"the independent checker rejects the certificate: {'; '.join(found.reasons)}"]


def require_run(folder: Path) -> None:
    """Raises CommandError (66) where there is no run to report on."""
    if not folder.is_dir():
        raise CommandError(MISSING_FILE, f"no such folder: {folder}; give a run's folder, as runs/pign")
    for needed in ("model.pt2", "inputs.safetensors"):
        if not (folder / needed).is_file():
            raise CommandError(MISSING_FILE, f"{folder} has no {needed}; give a run's folder, as runs/pign")


def checked(folder: Path) -> CheckReport | None:
    """What the independent checker says of the folder's certificate, if there is one."""
    from deqops._tensorfile import read_tensors
    from deqops.graph import read_model
    from deqops.verify import check

    certificate = folder / "certificate.json"
    if not certificate.is_file():
        return None
    graph, given = read_model(folder / "model.pt2"), read_tensors(folder / "inputs.safetensors")
    with stage("checking the certificate independently"):
        return check(certificate, graph, given.state, *given.inputs)

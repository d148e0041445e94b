"""`deqops check`: re-verify a certificate with the independent checker."""

from __future__ import annotations

from pathlib import Path

import click

from ._arguments import FILE, batch_dims_option, inputs_option, read_certified_operator, read_inputs
from ._exit import DONE, FAILED, UNKNOWN
from ._output import emit, json_option
from ._progress import stage


@click.command("check")
@click.argument("certificate", type=FILE)
@click.option("--model", type=FILE, required=True, help="The model file (.pt2) that the certificate is about.")
@inputs_option
@batch_dims_option
@json_option
def check_command(certificate: Path, model: Path, inputs_path: Path, batch_dims: int | None, as_json: bool) -> int:
    """Check CERTIFICATE (.json) against a model and its inputs, believing nothing it says.

    Exit code 0: verified, 1: rejected, 2: the certificate's verdict is unknown, so there is nothing to check.
    """
    from deqops.verify import check

    graph, given = read_certified_operator(model, certificate, batch_dims), read_inputs(inputs_path)
    with stage("checking"):
        report = check(certificate, graph, given.state, *given.inputs)
    document = {
        "accepted": report.accepted,
        "verdict": report.verdict,
        "reasons": report.reasons,
        "verified": report.verified,
    }
    if report.accepted:
        emit(as_json, document, [f"verified: the certificate's verdict is {report.verdict}", *report.verified])
        return DONE
    emit(as_json, document, ["rejected:", *(f"  {reason}" for reason in report.reasons)])
    return UNKNOWN if report.verdict == "unknown" else FAILED

"""`deqops prove`: a machine-checked proof about a model's exact weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deqops._atomic import write_atomically

from ._arguments import FILE, SECONDS, batch_dims_option, read_certified_operator, read_inputs
from ._exit import DONE, FAILED, MISSING_TOOL, UNKNOWN, CommandError, require_place, writing
from ._output import emit, json_option
from ._progress import stage

if TYPE_CHECKING:
    from deqops.verify.prove import Proof

VERDICT_CODES = {"proven": DONE, "rejected": FAILED, "unknown": UNKNOWN}
TIERS = ("coq-kernel", "extracted", "exact")


@click.command("prove")
@click.argument("certificate", type=FILE)
@click.option("--model", type=FILE, required=True, help="The model file (.pt2) that the certificate is about.")
@click.option(
    "--inputs",
    "inputs_path",
    type=FILE,
    help="A .safetensors file with the keys state, input_0, ...: the fixed point for them is located. Default: the "
    "theorem is for all inputs.",
)
@click.option("-o", "--output", type=FILE, help="Where the Coq file goes (.v).")
@click.option(
    "--tier",
    type=click.Choice(TIERS),
    default="coq-kernel",
    show_default=True,
    help="What stands behind the verdict: Coq's kernel; its checker extracted to OCaml, for larger models; or the same "
    "inequalities in Python's whole numbers, no proof.",
)
@click.option("--problem", type=click.IntRange(0), default=0, show_default=True, help="Which problem of the batch.")
@click.option("--seconds", type=SECONDS, default=600.0, show_default=True, help="Limit of Coq's time.")
@click.option("--memory", type=click.IntRange(256), default=6144, show_default=True, help="Limit of its memory, MiB.")
@batch_dims_option
@json_option
def prove_command(
    certificate: Path,
    model: Path,
    inputs_path: Path | None,
    output: Path | None,
    tier: Any,
    problem: int,
    seconds: float,
    memory: int,
    batch_dims: int | None,
    as_json: bool,
) -> int:
    """Prove in Coq what CERTIFICATE (.json) says of a model: a contraction with exactly one fixed point.

    The theorem is about the map in exact arithmetic with the model's exact weights. Exit code 0: proven, 1: rejected,
    2: nothing of the kind could be proven, 69: no Coq on this machine.
    """
    from deqops.verify import Certificate
    from deqops.verify.prove import MissingToolError, prove

    require_place(output, certificate, model, inputs_path)
    graph = read_certified_operator(model, certificate, batch_dims)
    given = None if inputs_path is None else read_inputs(inputs_path)
    claimed = Certificate.load(certificate)
    with stage("proving") as advance:
        try:
            proof = prove(
                claimed,
                graph,
                given,
                tier=tier,
                problem=problem,
                seconds=seconds,
                megabytes=memory,
                progress=lambda text: advance(0, None, text),
            )
        except MissingToolError as error:
            raise CommandError(MISSING_TOOL, str(error)) from error
    if output is not None and proof.source:
        with writing(output):
            write_atomically(output, proof.source.encode("utf-8"))
    emit(as_json, _document(proof, output), _lines(proof, output))
    return VERDICT_CODES[proof.verdict]


def _document(proof: Proof, output: Path | None) -> dict[str, Any]:
    location = proof.location
    return {
        "verdict": proof.verdict,
        "tier": proof.tier,
        "claim": proof.claim,
        "norm": proof.norm,
        "own_norm": proof.own_norm,
        "rate": None if proof.rate is None else str(proof.rate),
        "radius": None if location is None else location.radius,
        "statement": proof.statement if proof.tier == "coq-kernel" else "",
        "axioms": list(proof.axioms),
        "reason": proof.reason,
        "notes": list(proof.notes),
        "file": str(output) if output is not None and proof.source else None,
    }


def _lines(proof: Proof, output: Path | None) -> list[str]:
    notes = [f"note: {note}" for note in proof.notes]
    if proof.verdict != "proven":
        return [f"{proof.verdict}: {proof.reason}", f"tier: {proof.tier}", *notes]
    lines = [f"proven: {proof.claim}", f"tier: {proof.tier}", *notes]
    if proof.tier == "coq-kernel":
        lines += [f"statement: {proof.statement}", f"axioms: {_axioms(proof.axioms)}"]
    return lines + ([f"wrote {output}"] if output is not None else [])


def _axioms(names: tuple[str, ...]) -> str:
    """The classical axioms by name; the many facts about machine integers as one."""
    own = [name.rsplit(".", 1)[-1] for name in names if name.split(".")[0] not in ("PrimInt63", "Uint63")]
    return ", ".join([*own, *(["machine integers"] if len(own) < len(names) else [])]) or "none"

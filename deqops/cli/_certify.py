"""`deqops certify`: is this model's iteration proven to converge?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ._arguments import FILE, NOT_ZERO, SECONDS, batch_dims_option, inputs_option, read_inputs, read_operator
from ._exit import DONE, FAILED, UNKNOWN, require_place, writing
from ._output import emit, json_option
from ._progress import stage

if TYPE_CHECKING:
    from deqops.verify import Around, Certificate, Region

VERDICT_CODES = {"certified": DONE, "refuted": FAILED, "unknown": UNKNOWN}
NORMS = ("auto", "l1", "l2", "linf")
THEOREMS = (
    "auto",
    "picard",
    "powers",
    "quadratic",
    "local_picard",
    "local_lyapunov",
    "damped",
    "log_norm",
    "one_sided",
    "monotone",
    "newton_kantorovich",
    "causal",
    "absorbing",
    "componentwise",
)


@click.command("certify")
@click.argument("model", type=FILE)
@inputs_option
@click.option("-o", "--output", type=FILE, help="Where the certificate goes (.json), whatever the verdict.")
@click.option("--norm", type=click.Choice(NORMS), default="auto", show_default=True)
@click.option("--theorem", type=click.Choice(THEOREMS), default="auto", show_default=True)
@click.option("--damping", type=NOT_ZERO, help="b of the iteration y <- (1-b) y + b G(y) that is claimed to converge.")
@click.option(
    "--region",
    metavar="global|ball:R|box:R|around",
    help="Where the claim holds: everywhere, or in the ball of radius R around the state in the inputs file, or in the "
    "box of all states within R of it entry by entry; around: the largest ball found around the computed equilibrium. "
    "Default: everywhere, or a ball around the computed equilibrium where that can be proven.",
)
@click.option("--budget", type=SECONDS, help="Seconds after which no further proof is tried. Default: no limit.")
@batch_dims_option
@json_option
def certify_command(
    model: Path,
    inputs_path: Path,
    output: Path | None,
    norm: str,
    theorem: Any,
    damping: float | None,
    region: str | None,
    budget: float | None,
    batch_dims: int | None,
    as_json: bool,
) -> int:
    """Prove, refute or leave open that the iteration of MODEL (.pt2) converges.

    Exit code 0: certified, 1: refuted, 2: unknown.
    """
    from deqops.verify import certify

    where = parse_region(region)
    require_place(output, model, inputs_path)
    given, graph = read_inputs(inputs_path), read_operator(model, batch_dims)
    with stage("certifying") as advance:
        certificate = certify(
            graph,
            given.state,
            *given.inputs,
            norm=norm,
            region=_region(where, given.state),
            theorem=theorem,
            damping=damping,
            budget=budget,
            progress=lambda text: advance(0, None, text),
        )
    if output is not None:
        with writing(output):
            certificate.save(output)
    written = [f"wrote {output}"] if output is not None else []
    emit(as_json, summary(certificate, output), [certificate.explain().rstrip(), *written])
    return VERDICT_CODES[certificate.verdict.value]


def parse_region(text: str | None) -> tuple[str, float] | None:
    """The kind of a region and its radius, 0 for those that have none; None where nothing is asked."""
    if text is None:
        return None
    if text in ("global", "around"):
        return text, 0.0
    kind, _, number = text.partition(":")
    try:
        radius = float(number)
    except ValueError:
        radius = math.nan
    if kind not in ("ball", "box") or not 0 < radius < math.inf:
        raise click.BadParameter(
            f"{text!r}: write global, around, or ball:0.1 or box:0.1 with a positive radius", param_hint="--region"
        )
    return kind, radius


def _region(where: tuple[str, float] | None, state: Any) -> Region | Around | None:
    from torch.utils import _pytree as pytree

    from deqops.verify import Around, Ball, Box, Global

    if where is None:
        return None
    kind, radius = where
    if kind in ("global", "around"):
        return Global() if kind == "global" else Around()
    leaves = tuple(leaf.double() for leaf in pytree.tree_leaves(state))
    if kind == "ball":
        return Ball(leaves, radius)
    return Box(tuple(leaf - radius for leaf in leaves), tuple(leaf + radius for leaf in leaves))


def summary(certificate: Certificate, path: Path | None) -> dict[str, Any]:
    """What a certificate says, for --json."""
    return {
        "verdict": certificate.verdict.value,
        "claim": certificate.claim.describe(),
        "theorem": certificate.theorem,
        "rate": certificate.rate,
        "reason": certificate.reason,
        "certificate": str(path) if path is not None else None,
    }

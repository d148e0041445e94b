"""Recycling on protein backbones: does it help, and what of it can be proven?"""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments._study import Circumstances, Found, Study, of_variant, spread

EPOCHS = {"equilibrium": 15, "recycled": 120, "once": 180}
"""About the same processor time for each."""
SMOOTHINGS = (1.0, 0.4)
SHOWN = (0, 1, 2, 4, 8, 16)
CERTIFIED = {"equilibrium": 3, "recycled": 1, "once": 0}
"""Short crops for T6."""
BUDGET = 150.0
PART = 1e-3
MOST_PASSES = 5000


class Recycling(Study):
    """Three trainings of one trunk."""

    name = "recycling"
    title = "Recycling: protein backbones refined by one trunk"
    variants = ("equilibrium", "recycled", "once")

    def measure(self, variant: str, seed: int, here: Circumstances) -> dict[str, Any]:
        """lDDT and RMSD against passes and at the equilibrium, certificates of short crops, cost."""
        from deqops.models import RECIPES, RecyclingSettings, by_recycle, train_recycler
        from deqops.models._recycling_training import at_equilibrium

        if here.root is None:
            raise SystemExit("recycling: give --root, a folder with proteins/ts50.npz")
        recipe, settings = RECIPES[self.name], RecyclingSettings(training=variant, epochs=EPOCHS[variant])
        crops = recipe.datasets["ts50"][1]
        if here.smoke:
            settings = replace(settings, epochs=1, steps=1, batch=1, single=1, pair=1, hidden=2)
            crops = replace(crops, residues=8, tests=2)
        data = recipe.load("ts50", crops, here.root / "proteins", seed)
        checkpoint = here.work / f"{self.name}-{variant}-{seed}.checkpoint"
        begin = time.process_time()
        trained = train_recycler(data, settings, seed=seed, checkpoint=checkpoint)
        training = time.process_time() - begin
        found = {
            "training_seconds": training,
            "equilibrium": at_equilibrium(trained.model, data.tests),
            "curves": {str(b): by_recycle(trained.model, data.tests, smoothing=b) for b in SMOOTHINGS},
            "unique": [] if here.smoke else [unique(trained, data, n) for n in range(CERTIFIED[variant])],
            "converges": None if here.smoke or variant != "equilibrium" else convergent(trained, data),
        }
        checkpoint.unlink(missing_ok=True)
        return found

    def section(self, found: Found) -> str:
        """Tables of quality, then of certificates."""
        return f"""CA atoms of crops of 32 residues of the TS50 set (40 chains for training, 64 crops of 10 others for
tests) from their sequence, coordinates with noise of 2 angstrom in each direction, and a contact map that lacks 20 %
of the contacts and has 2 % of the other pairs too much. One trunk, trained through its equilibrium (Anderson's method,
implicit gradients, a penalty on the Jacobian), by random recycling (1 to 4 passes, gradients through the last one, as
AlphaFold's), or applied once; about the same processor time each. lDDT (1 is best) and RMSD in angstrom on test crops:

{quality_table(found)}

lDDT against the number of passes `y <- (1 - b) y + b G(y)`; 0 passes are the noisy input:

{curve_table(found)}

{statement(found)}

Local certificates, on test crops of {SHORT_TEXT}: T6 proves one equilibrium in a ball (linf, largest
found), T12 that passes with this b converge to it from everywhere in a ball (l2):

{certificate_table(found)}

The search for T12's ball ends after {BUDGET:.0f} s of wall time: on a busy machine, its balls are not the largest.
{reasons(found)}

{iterations_text(found)}
"""

    def plot(self, found: Found, path: Path) -> None:
        """lDDT against passes."""
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5, 3.2), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for variant in self.variants:
            b = own_smoothing(variant)
            curves = [[row["lddt"] for row in cell["curves"][str(b)]] for cell in of_variant(found, variant)]
            mean = [statistics.fmean(values) for values in zip(*curves, strict=True)]
            axes.plot(range(len(mean)), mean, label=f"{variant}, b = {b:g}")
        axes.set_xlabel("passes")
        axes.set_ylabel("lDDT")
        axes.legend()
        figure.savefig(path, format="svg", metadata={"Date": None})


SHORT_TEXT = "8 residues (184 unknowns: 8 x 4 single, 64 x 2 pair, 8 x 3 coordinates)"


def unique(trained: Any, data: Any, number: int) -> dict[str, Any]:
    """T6 around the equilibrium of a short test crop."""
    from deqops.verify import Around

    state, inputs = short(trained, data, number)
    return proven(trained, state, inputs, theorem="newton_kantorovich", norm="linf", region=Around())


def convergent(trained: Any, data: Any) -> dict[str, Any]:
    """T12 for the smoothed passes around the equilibrium of a short test crop."""
    from deqops.verify import Around

    damping = own_smoothing(trained.settings.training)
    state, inputs = short(trained, data, 0)
    return proven(trained, state, inputs, theorem="local_lyapunov", damping=damping, region=Around(), budget=BUDGET)


def short(trained: Any, data: Any, number: int) -> tuple[Any, tuple[Any, ...]]:
    """Start and inputs."""
    inputs = tuple(part[number : number + 1] for part in data.short.inputs)
    return trained.model.layer.initial_state(*inputs), inputs


def proven(trained: Any, state: Any, inputs: tuple[Any, ...], **choices: Any) -> dict[str, Any]:
    """Verdict, radius, seconds, and whether the checker agrees."""
    from deqops.verify import Ball, Verdict, certify, check

    trunk, begin = trained.model.trunk, time.process_time()
    certificate = certify(trunk, state, *inputs, **choices)
    seconds = time.process_time() - begin
    certified = certificate.verdict is Verdict.CERTIFIED
    found = {
        "verdict": certificate.verdict.value,
        "radius": certificate.region.radius if certified and isinstance(certificate.region, Ball) else None,
        "reason": certificate.reason,
        "seconds": seconds,
        "accepted": check(certificate, trunk, state, *inputs).accepted if certified else None,
    }
    if certified and "damping" in choices:
        found |= passes(trained, certificate, inputs, choices["damping"])
    return found


def passes(trained: Any, certificate: Any, inputs: tuple[Any, ...], damping: float) -> dict[str, int]:
    """Passes until the error is PART of the first step: proven to be enough in the ball, and observed there."""
    import torch

    trunk, given = copy.deepcopy(trained.model.trunk).double(), [part.double() for part in inputs]
    centre = certificate.region.leaves
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(leaf.shape, generator=generator, dtype=torch.float64) for leaf in centre]
    size = certificate.region.radius / 2 / float(torch.cat([part.flatten() for part in noise]).norm())
    state, first, count = [c + size * n for c, n in zip(centre, noise, strict=True)], None, 0
    with torch.no_grad():
        while count < MOST_PASSES and (first is None or gap(state, centre) > PART * first):
            image = trunk(tuple(state), *given)
            new = [torch.lerp(old, to, damping) for old, to in zip(state, image, strict=True)]
            first = gap(new, state) if first is None else first
            state, count = new, count + 1
    return {"certified_passes": certificate.iterations(PART, 1.0), "observed_passes": count}


def gap(first: Any, second: Any) -> float:
    """l2 distance of two states; an estimate."""
    return float(sum(float((a - b).square().sum()) for a, b in zip(first, second, strict=True)) ** 0.5)


def own_smoothing(variant: str) -> float:
    """The passes that a variant is meant for."""
    return SMOOTHINGS[1] if variant == "equilibrium" else SMOOTHINGS[0]


def quality_table(found: Found) -> str:
    """At the input, after the passes that a training is meant for, and at the equilibrium."""
    rows = ["| | lDDT | RMSD | passes | solved | training, s |", "|---|---|---|---|---|---|"]
    noisy = [cell["curves"]["1.0"][0] for cell in found.values()]
    rows.append(f"| noisy input | {noisy[0]['lddt']:.3f} | {noisy[0]['rmsd']:.2f} | 0 | | |")
    for variant, count in (("once", 1), ("recycled", 4)):
        cells = of_variant(found, variant)
        at = [cell["curves"]["1.0"][count] for cell in cells]
        rows.append(f"| {variant}, as trained | {both(at)} | {count} | | {cost(cells)} |")
    for variant in Recycling.variants:
        cells = of_variant(found, variant)
        at = [cell["equilibrium"] for cell in cells]
        solved = statistics.fmean(a["converged"] for a in at)
        passes = spread([a["evaluations"] for a in at], 1)
        rows.append(f"| {variant}, equilibrium | {both(at)} | {passes} | {solved:.0%} | {cost(cells)} |")
    return "\n".join(rows)


def both(rows: list[dict[str, float]]) -> str:
    """lDDT and RMSD over seeds."""
    return f"{spread([row['lddt'] for row in rows])} | {spread([row['rmsd'] for row in rows], 2)}"


def cost(cells: list[dict[str, Any]]) -> str:
    """Processor seconds of training."""
    return spread([cell["training_seconds"] for cell in cells], 0)


def curve_table(found: Found) -> str:
    """lDDT by passes."""
    rows = [
        f"| training | b | {' | '.join(map(str, SHOWN))} |",
        f"|---|---|{'---|' * len(SHOWN)}",
    ]
    for variant in Recycling.variants:
        for b in SMOOTHINGS:
            curves = [cell["curves"][str(b)] for cell in of_variant(found, variant)]
            values = [spread([curve[n]["lddt"] for curve in curves]) for n in SHOWN]
            rows.append(f"| {variant} | {b:g} | {' | '.join(values)} |")
    return "\n".join(rows)


def statement(found: Found) -> str:
    """What the numbers say of iterating, worked out from them."""
    seeds = sorted({seed for _, seed in found})
    once = [lddt_after(found, "once", seed, 1) for seed in seeds]
    lines = []
    for variant in ("equilibrium", "recycled"):
        at = [found[variant, seed]["equilibrium"]["lddt"] for seed in seeds]
        gains = [a - b for a, b in zip(at, once, strict=True)]
        helps = "helps in every training" if min(gains) > 0 else "does not help in every training"
        lines.append(
            f"**Iterating {helps}** of the kind `{variant}`: its equilibrium is {spread(gains)} lDDT above the trunk"
            f" trained for one pass and applied once ({', '.join(f'{gain:+.3f}' for gain in gains)})."
        )
    both_at = [[found[v, s]["equilibrium"]["lddt"] for s in seeds] for v in ("recycled", "equilibrium")]
    gaps = [a - b for a, b in zip(*both_at, strict=True)]
    lines.append(
        f"For about the same processor time the equilibrium of `recycled` is {spread(gaps)} lDDT above that of"
        f" `equilibrium` ({', '.join(f'{gap:+.3f}' for gap in gaps)}): a step of the latter costs several times"
        " as much, so it makes fewer."
    )
    for variant, first in (("recycled", 4), ("equilibrium", 4), ("once", 1)):
        drift = [lddt_after(found, variant, s, 16) - lddt_after(found, variant, s, first) for s in seeds]
        lines.append(f"From {first} to 16 plain passes `{variant}` changes by {spread(drift)} lDDT.")
    return "\n".join(f"- {line}" for line in lines)


def lddt_after(found: Found, variant: str, seed: int, passes: int) -> float:
    """Of plain passes."""
    value: float = found[variant, seed]["curves"]["1.0"][passes]["lddt"]
    return value


def certificate_table(found: Found) -> str:
    """Shares and radii."""
    rows = [
        "| training | theorem | certified | checker agrees | radius, least to largest | seconds, mean |",
        "|---|---|---|---|---|---|",
    ]
    for variant in Recycling.variants:
        cells = of_variant(found, variant)
        rows.append(row_of(variant, "T6", [one for cell in cells for one in cell["unique"]]))
        rows.append(
            row_of(
                variant,
                f"T12, b = {own_smoothing(variant):g}",
                [cell["converges"] for cell in cells if cell["converges"]],
            )
        )
    return "\n".join(row for row in rows if row)


def reasons(found: Found) -> str:
    """Why what was not certified was not."""
    asked = [one for cell in found.values() for one in (*cell["unique"], cell["converges"]) if one]
    without = [f"  - {one['reason']}" for one in asked if one["verdict"] != "certified"]
    return "Not certified:\n" + "\n".join(without) if without else "All that were asked are certified."


def row_of(variant: str, theorem: str, asked: list[dict[str, Any]]) -> str:
    """One line; none where nothing was asked."""
    if not asked:
        return ""
    proven = [one for one in asked if one["verdict"] == "certified"]
    agreed = sum(one["accepted"] is True for one in proven)
    radii = [one["radius"] for one in proven]
    size = f"{min(radii):.1e} to {max(radii):.1e}" if radii else ""
    seconds = statistics.fmean(one["seconds"] for one in asked)
    return f"| {variant} | {theorem} | {len(proven)} of {len(asked)} | {agreed} | {size} | {seconds:.0f} |"


def iterations_text(found: Found) -> str:
    """Certified against observed passes."""
    asked = [cell["converges"] for cell in found.values() if cell["converges"]]
    pairs = [(one["certified_passes"], one["observed_passes"]) for one in asked if "certified_passes" in one]
    if not pairs:
        return "No T12 certificate, so no number of passes is proven."
    text = "; ".join(f"{certified} and {observed}" for certified, observed in pairs)
    return f"""Passes that are proven to be enough for an error of a thousandth of the first step, and passes that
it took from a start in the ball: {text}."""

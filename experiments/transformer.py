"""A transformer on Navier-Stokes fields: does iterating one block help, and does it converge?"""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments._study import Circumstances, Found, Study, of_variant, spread
from experiments._verdict import verdict_of

STEPS = 4
ITERATIONS = 24
SHOWN = (1, 2, 4, 8, 24)


class Transformer(Study):
    """One block through its equilibrium, iterated four times, applied once; four blocks of their own."""

    name = "transformer"
    title = "Transformer: fields of a Navier-Stokes flow"
    variants = ("equilibrium", "four steps", "once", "four blocks")

    def measure(self, variant: str, seed: int, here: Circumstances) -> dict[str, Any]:
        """Errors by iteration, evaluations, and for one block the local certificate at a test field."""
        from deqops.models import RECIPES, FlowSettings, TransformerSettings, error_by_iteration, train_transformer
        from deqops.verify import Around

        recipe = RECIPES[self.name]
        chosen: dict[str, dict[str, Any]] = {
            "equilibrium": {},
            "four steps": {"steps": STEPS},
            "once": {"steps": 1},
            "four blocks": {"steps": STEPS, "tied": 0},
        }
        small = {"epochs": 1, "width": 8, "heads": 2} if here.smoke else {}
        settings = replace(TransformerSettings(), **chosen[variant], **small)
        flows = recipe.load("navier-stokes", FlowSettings(**SMALL) if here.smoke else FlowSettings(), Path(), seed)
        checkpoint = here.work / f"{self.name}-{variant.replace(' ', '_')}-{seed}.checkpoint"
        trained = train_transformer(flows, settings, seed=seed, checkpoint=checkpoint)
        found = recipe.metrics(trained, flows)
        found["parameters"] = sum(parameter.numel() for parameter in trained.model.parameters())
        found["by_iteration"] = error_by_iteration(trained.model, flows, ITERATIONS)
        if variant in ("equilibrium", "four steps"):
            operator, state, inputs, batch_dims = recipe.example(trained, flows)
            found |= verdict_of(operator, state, inputs, batch_dims, region=Around())
        checkpoint.unlink()
        return found

    def section(self, found: Found) -> str:
        """Errors, errors by iteration, certificates."""
        head = "| trained as | parameters | test error | after 1, 2, 4, 8, 24 steps |\n|---|---|---|---|"
        rows = []
        for variant in self.variants:
            cells = of_variant(found, variant)
            by_step = [
                statistics.fmean(
                    cell["by_iteration"][min(step, len(cell["by_iteration"]) - 1)]["error"] for cell in cells
                )
                for step in SHOWN
            ]
            rows.append(
                f"| {variant} | {cells[0]['parameters']} | {spread([cell['error'] for cell in cells])} |"
                f" {', '.join(f'{value:.3f}' for value in by_step)} |"
            )
        unchanged = of_variant(found, "once")[0]["error_unchanged"]
        return f"""Vorticity 0.5 later from vorticity now, on 16 x 16 points of decaying flows
(`deqops.models.navier_stokes`): 240 trajectories for training, 60 for tests, eight pairs each,
shifted and reflected at random in training; 16 patches of width 32, 30 epochs.
Relative l2 error; predicting no change gives {unchanged:.3f}.

{head}
{chr(10).join(rows)}

{said(found)}
Around the computed equilibrium of a test field (512 unknowns), nothing constrained:
{certified(found, "equilibrium")} of the networks trained through the equilibrium,
{certified(found, "four steps")} of those trained by four steps.
"""

    def plot(self, found: Found, path: Path) -> None:
        """Test error against iterations."""
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5, 3.2), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for variant in self.variants:
            curves = [[row["error"] for row in cell["by_iteration"]] for cell in of_variant(found, variant)]
            axes.plot([statistics.fmean(values) for values in zip(*curves, strict=True)], label=variant)
        axes.set_xlabel("iterations at test")
        axes.set_ylabel("relative l2 error")
        axes.legend()
        figure.savefig(path, format="svg", metadata={"Date": None})


SMALL = {"trajectories": 5, "pairs": 1, "side": 8}
"""Flows of a smoke run."""


def said(found: Found) -> str:
    """What the means say, whichever way they fall out."""
    means = {name: statistics.fmean(c["error"] for c in of_variant(found, name)) for name in Transformer.variants}
    helps = "helps" if means["four steps"] < means["once"] else "does not help"
    equal = "better than" if means["four steps"] < means["four blocks"] else "no better than"
    through = "below" if means["equilibrium"] < means["four steps"] else "above"
    return (
        f"Iterating one block four times {helps} against applying it once, and is {equal} four blocks of their own at"
        f" four times the parameters of a block. Training through the equilibrium, with a penalty on its Jacobian, ends"
        f" {through} four unrolled steps."
    )


def certified(found: Found, variant: str) -> str:
    """Verdicts of a variant, with theorem and radius."""
    cells = of_variant(found, variant)
    good = [cell for cell in cells if cell["verdict"] == "certified" and cell["accepted"] is True]
    theorems = ", ".join(sorted({cell["theorem"] for cell in good}))
    return f"{len(good)} of {len(cells)} are certified and checked{f' ({theorems})' if good else ''}"

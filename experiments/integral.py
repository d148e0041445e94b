"""Neural integral equations: learned from solutions that are known and from Burgers' trajectories, and T7 on truth."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments._study import Circumstances, Found, Study, of_variant, spread
from experiments._verdict import observed_iterations, verdict_of

ITERATIONS = 24
PANELS = (4, 8, 16, 32)
"""Of the equations with known solutions, and where the Fredholm models are evaluated."""
DATASETS = {
    "fredholm": "y(t) = f(t) + 0.9 ∫ sin(y(s)) / (1 + (t - s)²) ds over [0, 1], 16 points",
    "volterra": "y(t) = f(t) + 3 ∫ cos(2 (t - s)) sin(y(s)) ds over [0, t], 17 points",
    "burgers": "Burgers' equation, viscosity 0.01: 16 frames from the first one, 16 places",
    "flows": "Navier-Stokes flows: 8 frames of vorticity from the first one, 8 x 8 places",
}
METHODS = (
    ("tanh", "midpoint"),
    ("tanh", "gauss2"),
    ("exponential", "trapezoid"),
    ("exponential", "gauss3"),
    ("linear", "collocation"),
)
KINDS = {
    "": "solved",
    "attention": "attention, solved",
    "once": "applied once, trained so",
    "plain": "no iteration",
    "longer": "no iteration, ten times the epochs",
}


class Integral(Study):
    """Equilibria against the same networks applied once and plain networks of the same size."""

    name = "integral"
    title = "Neural integral equations"
    variants = (
        "fredholm",
        "fredholm attention",
        "fredholm once",
        "fredholm plain",
        "fredholm longer",
        "volterra",
        "volterra once",
        "volterra plain",
        "volterra longer",
        "burgers",
        "burgers once",
        "burgers plain",
        "burgers longer",
        "flows",
        "flows once",
        "flows plain",
    )

    def measure(self, variant: str, seed: int, here: Circumstances) -> dict[str, Any]:
        """Train, measure, certify and check."""
        from deqops.models import errors_by_iteration, train_integral, train_plain
        from deqops.models._integral_training import count_weights

        dataset, _, kind = variant.partition(" ")
        data, settings = _data(dataset, seed, here), _settings(dataset, kind, here)
        checkpoint = here.work / f"integral-{variant.replace(' ', '_')}-{seed}.checkpoint"
        train = train_plain if kind in ("plain", "longer") else train_integral
        trained: Any = train(data, settings, seed=seed, checkpoint=checkpoint)
        x, y = data.part("test")
        found: dict[str, Any] = {
            "error": trained.error,
            "unchanged": _unchanged(x, y),
            "weights": count_weights(trained.model),
            "settings": {name: str(value) for name, value in vars(settings).items()},
        }
        if kind not in ("plain", "longer"):
            found["curve"] = errors_by_iteration(trained.model, data, ITERATIONS)
        if kind in ("", "attention"):
            found |= _certified(trained.model, data, dataset, kind)
        if variant == "fredholm":
            found["panels"] = {str(panels): _on_points(trained.model, panels, seed, here) for panels in PANELS}
            if seed == 0:
                found["bounds"] = _bounds(here.smoke)
        checkpoint.unlink(missing_ok=True)
        return found

    def section(self, found: Found) -> str:
        """Tables of errors, of certificates, of points, and of T7's bounds."""
        parts = [_opening(), _errors(found), _says(found), _verdicts(found), _points(found), _t7(found), _command()]
        return "\n\n".join(part for part in parts if part)

    def plot(self, found: Found, path: Path) -> None:
        """Test error against iterations, one panel for each data set."""
        from matplotlib.figure import Figure

        names = [name for name in DATASETS if of_variant(found, name)]
        figure = Figure(figsize=(3.3 * max(1, len(names)), 3.2), layout="constrained")
        for axes, name in zip(figure.subplots(1, max(1, len(names)), squeeze=False)[0], names, strict=False):
            _panel(axes, found, name)
        figure.savefig(path, metadata={"Date": None})


def _data(dataset: str, seed: int, here: Circumstances) -> Any:
    from deqops.models import burgers_functions, flow_functions, fredholm_functions, volterra_functions

    count = 40 if here.smoke else 1000
    if dataset == "fredholm":
        return fredholm_functions(count, seed=seed)
    if dataset == "volterra":
        return volterra_functions(count, seed=seed)
    if dataset == "flows":
        return flow_functions(20 if here.smoke else 400, seed=seed)
    if here.root is None:
        raise SystemExit("integral: Burgers' trajectories are needed; pass --root")
    return burgers_functions(here.root, training=20 if here.smoke else 900, validation=10 if here.smoke else 100)


def _settings(dataset: str, kind: str, here: Circumstances) -> Any:
    from deqops.models import FREDHOLM, TRAJECTORIES, VOLTERRA

    settings = {"fredholm": FREDHOLM, "volterra": VOLTERRA}.get(dataset, TRAJECTORIES)
    if kind == "attention":
        settings = replace(settings, kernel="attention")
    if kind == "once":
        settings = replace(settings, steps=1, constant=math.inf)
    if kind == "longer":
        settings = replace(settings, epochs=10 * settings.epochs)
    return replace(settings, epochs=1, hidden=8) if here.smoke else settings


def _unchanged(x: Any, y: Any) -> float:
    """The error of x itself."""
    from deqops.models._integral_training import relative_error

    return float(relative_error(x.expand_as(y), y))


def _certified(model: Any, data: Any, dataset: str, kind: str) -> dict[str, Any]:
    """Fredholm networks in the sup norm (T1), attention locally, Volterra's equations by their structure (T8)."""
    from deqops.verify import Around, certify

    x = data.part("test")[0][:1]
    example = model.operator, model.layer.initial_state(x), (x,)
    choices: dict[str, Any] = {"theorem": "causal"}
    if kind == "attention":
        choices = {"region": Around()}
    elif dataset == "fredholm":
        choices = {"theorem": "picard", "norm": "linf"}
    found = verdict_of(*example, 1, **choices)
    if found["theorem"] == "picard":
        rate = found["rate"]
        found["certified iterations"] = math.ceil(math.log(1e-3 * (1 - rate)) / math.log(rate))
    if found["theorem"] == "causal":
        found["certified iterations"] = certify(model.operator, *example[1:2], x, theorem="causal").depth
    found["observed iterations"] = observed_iterations(*example)
    return {"certificate": found}


def _on_points(model: Any, panels: int, seed: int, here: Circumstances) -> float:
    """The same functions at other points, the kernel's integrals by the rule of these."""
    import torch

    from deqops.models import fredholm_functions
    from deqops.models._integral_training import relative_error

    data = fredholm_functions(40 if here.smoke else 1000, panels=panels, seed=seed)
    model.on(data.rule("fredholm"))
    x, y = data.part("test")
    with torch.no_grad():
        return float(relative_error(model(x), y))


def _opening() -> str:
    return """An NIE solves `y(t) = E x(t) + ∫ K(t, s, y(s)) ds` on points; K is in `models/_integral.py`. *Solved*
is trained through the equilibrium; *applied once* is the same network with one application from `E x`, trained so and
free of the bound on its constant; *no iteration* is a plain network of at most as many weights that sees x everywhere.
All train for the same epochs with the same settings, but for the row that says otherwise. Errors are relative, in l2
over all points, mean over the test functions; "y = x" returns what was given. CPU seconds are those of training,
measuring and certifying together, one thread on a shared machine."""


def _errors(found: Found) -> str:
    rows = [
        "| data | model | weights | test error, % | iterations to within 1 % of it | CPU s |",
        "|---|---|---|---|---|---|",
    ]
    for dataset in DATASETS:
        for kind, name in KINDS.items():
            cells = of_variant(found, f"{dataset} {kind}".strip())
            if not cells:
                continue
            error = spread([100 * cell["error"]["test"] for cell in cells], 2)
            needed = spread([_needed(cell) for cell in cells], 1) if kind in ("", "attention") else "-"
            cost = spread([cell["cpu_seconds"] for cell in cells if "cpu_seconds" in cell] or [0.0], 0)
            rows.append(f"| {dataset} | {name} | {cells[0]['weights']} | {error} | {needed} | {cost} |")
        cells = of_variant(found, dataset)
        if cells:
            rows.append(f"| {dataset} | y = x | 0 | {spread([100 * cell['unchanged'] for cell in cells], 2)} | - | - |")
    said = "\n".join(f"- {name}: {title}." for name, title in DATASETS.items() if of_variant(found, name))
    return f"{said}\n\n" + "\n".join(rows)


def _says(found: Found) -> str:
    """Factors between the means."""
    lines = []
    for dataset in DATASETS:
        cells = [of_variant(found, f"{dataset} {kind}".strip()) for kind in ("", "once", "plain", "longer")]
        if all(cells[:3]):
            means = [statistics.fmean(cell["error"]["test"] for cell in some) for some in cells if some]
            solved, once, plain = means[:3]
            longer = f", {means[3] / solved:.1f} times when it trains ten times as long" if cells[3] else ""
            end = "." if min(means[2:]) > 1.1 * solved else ": here a plain network does as well or better."
            lines.append(
                f"- {dataset}: the same network applied once has {once / solved:.1f} times the error of the solved one,"
                f" the plain network {plain / solved:.1f} times{longer}{end}"
            )
    return "\n".join(lines)


def _needed(cell: dict[str, Any]) -> int:
    """The first iteration from which on the error stays within a hundredth of the last one's."""
    rows = cell["curve"]
    last = rows[-1]["test"]
    far = [row["iteration"] for row in rows if abs(row["test"] - last) > 0.01 * last]
    return int(far[-1]) + 1 if far else 0


def _verdicts(found: Found) -> str:
    rows = [
        "| model | certified, accepted | theorem | rate | certified iterations | observed | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for dataset in DATASETS:
        for kind in ("", "attention"):
            variant = f"{dataset} {kind}".strip()
            cells = [cell["certificate"] for cell in of_variant(found, variant)]
            if cells:
                rows.append(_verdict_row(variant, cells))
    return (
        "Iterations are Picard's, until the residual's bound (T1), or the residual (observed), is a thousandth of the\n"
        "first step; under T8 they are the sweeps after which the exact map's iteration is at the solution. The last\n"
        "of the observed ones only finds that the residual is small.\n\n" + "\n".join(rows)
    )


def _verdict_row(variant: str, cells: list[dict[str, Any]]) -> str:
    proven = sum(cell["verdict"] == "certified" for cell in cells)
    accepted = sum(cell["accepted"] is True for cell in cells)
    theorems = ", ".join(sorted({str(cell["theorem"]) for cell in cells}))
    rates = [cell["rate"] for cell in cells if cell["rate"] is not None and cell["theorem"] == "picard"]
    steps = [cell["certified iterations"] for cell in cells if cell.get("certified iterations") is not None]
    return (
        f"| {variant} | {proven}, {accepted} of {len(cells)} | {theorems} | {spread(rates) if rates else '-'} "
        f"| {spread(steps, 0) if steps else '-'} | {spread([cell['observed iterations'] for cell in cells], 1)} "
        f"| {spread([cell['seconds'] for cell in cells], 1)} |"
    )


def _points(found: Found) -> str:
    cells = of_variant(found, "fredholm")
    if not cells:
        return ""
    rows = ["| points | test error, % |", "|---|---|"]
    for panels in PANELS:
        values = [100 * cell["panels"][str(panels)] for cell in cells]
        rows.append(f"| {2 * panels}{' (trained)' if panels == 8 else ''} | {spread(values, 2)} |")
    return (
        'The Fredholm models know functions, not points: the same weights on other points of "gauss2", the test\n'
        "functions evaluated there.\n\n" + "\n".join(rows)
    )


def _bounds(smoke: bool) -> list[dict[str, Any]]:
    """Errors and bounds of T7 on equations whose solutions are known; nothing in it is drawn."""
    from deqops.models import KNOWN_EQUATIONS, collocation_compared, nystrom_compared

    panels, rows = PANELS[:1] if smoke else PANELS, []
    for name, rule in METHODS[:1] if smoke else METHODS:
        equation = KNOWN_EQUATIONS[name]
        if rule == "collocation":
            cells = [collocation_compared(equation, count) for count in panels]
        else:
            cells = [nystrom_compared(equation, rule, count) for count in panels]
        pairs = [[cell.error, cell.bound] for cell in cells]
        rows.append({"title": equation.title, "method": rule, "pairs": pairs})
    return rows


def _t7(found: Found) -> str:
    measured = [cell["bounds"] for cell in of_variant(found, "fredholm") if "bounds" in cell]
    if not measured:
        return ""
    counts = PANELS[: len(measured[0][0]["pairs"])]
    rows = [
        "| equation | method | " + " | ".join(f"{n} panels" for n in counts) + " |",
        "|---" * (2 + len(counts)) + "|",
    ]
    for row in measured[0]:
        cells = " | ".join(f"{error:.1e} / {bound:.1e}" for error, bound in row["pairs"])
        rows.append(f"| {row['title']} | {row['method']} | {cells} |")
    return (
        "T7 against truth, on equations whose solutions are known: the largest error / its proven bound, by panels.\n"
        "The bound takes in quadrature or projection, rounding, and how far the computed values are from the discrete\n"
        "solution.\n\n" + "\n".join(rows)
    )


def _command() -> str:
    return "Every figure: `python -m experiments.results --root <folder with pde> --only integral`."


def _panel(axes: Any, found: Found, dataset: str) -> None:
    """One data set: lines for what iterates, a level for what does not."""
    for kind, name in KINDS.items():
        cells = of_variant(found, f"{dataset} {kind}".strip())
        if cells and kind in ("plain", "longer"):
            color = "0.5" if kind == "plain" else "0.75"
            axes.axhline(statistics.fmean(cell["error"]["test"] for cell in cells), color=color, ls=":", label=name)
        elif cells and kind == "once":
            axes.axhline(statistics.fmean(cell["error"]["test"] for cell in cells), color="0.2", ls="--", label=name)
        elif cells:
            curves = [[row["test"] for row in cell["curve"]] for cell in cells]
            axes.plot([statistics.fmean(values) for values in zip(*curves, strict=True)], label=name)
    axes.set(title=dataset, xlabel="iterations", ylabel="relative test error", yscale="log")
    axes.legend(fontsize="x-small")

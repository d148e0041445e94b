"""Tables and plot of `certified_training.py`, written between the marks of a page; the words around them stay."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- begin: made by experiments/certified_training.py -->", "<!-- end -->"
DESCRIPTIONS = {
    "free": "unconstrained, through the equilibrium",
    "unrolled": "unconstrained, 15 unrolled steps",
    "jacobian": "penalty on the Jacobian",
    "penalty": "penalty on the norm, l2",
    "penalty linf": "penalty on the norm, linf",
    "bounded": "parametrised, l2",
    "bounded linf": "parametrised, linf",
    "damped": "parametrised, l2, and damped by 1/2",
    "propagation": "no free weights, Z = f(X) + rate A Z",
    "repair": "repaired, l2",
    "repair linf": "repaired, linf",
    "tuned": "parametrised after training, l2, and tuned",
}
MARKS = dict(zip(DESCRIPTIONS, "sSP^v<>*doXD", strict=False))
Rows = dict[tuple[str, float | None], list[dict[str, Any]]]


def mean_and_spread(values: list[float]) -> tuple[float, float]:
    """Mean and sample standard deviation."""
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else 0.0
    return mean, spread


def rows_of(found: Mapping[Any, dict[str, Any]], task: Any) -> Rows:
    """The seeds' results by kind and rate, in the task's order."""
    rows: Rows = {}
    for kind in task.kinds:
        for cell, result in found.items():
            if (cell.task, cell.kind) == (task.name, kind):
                rows.setdefault((kind, cell.rate), []).append(result)
    return rows


def shown(task: Any, values: list[float]) -> str:
    """Mean and spread, in percent or dB."""
    mean, spread = mean_and_spread(values)
    return f"{mean:.2f} ± {spread:.2f} dB" if "dB" in task.metric else f"{100 * mean:.1f} ± {100 * spread:.1f} %"


def least_upper(values: list[float], digits: int = 4) -> str:
    """The largest, rounded up."""
    return f"{math.ceil(max(values) * 10**digits) / 10**digits:.{digits}f}"


def verdicts(chosen: list[dict[str, Any]]) -> str:
    """How many of each, and how many certificates the checker accepted."""
    said = [result["verdict"] for result in chosen]
    text = ", ".join(f"{said.count(v)} {v}" for v in sorted(set(said)))
    accepted = sum(result["accepted"] is True for result in chosen)
    return text if said.count("certified") == accepted else f"{text} ({accepted} accepted by the checker)"


def table(found: Mapping[Any, dict[str, Any]], task: Any) -> list[str]:
    """One task's results in Markdown."""
    rows = rows_of(found, task)
    base = rows.get((task.free, None), [])
    lines = [
        f"### {task.title}",
        "",
        f"| training | rate asked for | verdict | constant of G at most | {task.metric} | time | evaluations |",
        "|---|---|---|---|---|---|---|",
    ]
    for (kind, rate), chosen in rows.items():
        entries = [
            DESCRIPTIONS[kind],
            "–" if rate is None else f"{rate:g}",
            verdicts(chosen),
            least_upper([result["constant"] for result in chosen]),
            shown(task, [result["value"] for result in chosen]),
            f"{times(chosen, base, kind):.2f}" if base else "–",
            evaluations(chosen),
        ]
        lines.append(f"| {' | '.join(entries)} |")
    return [*lines, ""]


def times(chosen: list[dict[str, Any]], base: list[dict[str, Any]], kind: str) -> float:
    """Of the training against the unconstrained one; a repair or a tuning comes on top of that."""
    whole = sum(result["seconds"] for result in base) / len(base)
    own = sum(result["seconds"] for result in chosen) / len(chosen)
    return own / whole + kind.startswith(("repair", "tuned"))


def evaluations(chosen: list[dict[str, Any]]) -> str:
    """Of G for an equilibrium, and the problems that were not solved."""
    mean, _ = mean_and_spread([result["evaluations"] for result in chosen])
    unsolved = sum(result["unsolved"] for result in chosen)
    return f"{mean:.1f}" + (f" ({unsolved} unsolved)" if unsolved else "")


def plot(found: Mapping[Any, dict[str, Any]], tasks: list[Any], path: Path) -> None:
    """Accuracy against the proven rate; the unconstrained baseline as a band, mean and range over the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "deqops"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(tasks), figsize=(4 * len(tasks), 4.5), layout="constrained", squeeze=False)
    for axis, task in zip(axes[0], tasks, strict=True):
        for (kind, rate), chosen in rows_of(found, task).items():
            values = [result["value"] for result in chosen]
            proven = [(result["proven"], result["value"]) for result in chosen if result["proven"] is not None]
            color = f"C{list(DESCRIPTIONS).index(kind) % 10}"
            if kind == task.free:
                axis.axhspan(min(values), max(values), color="0.85")
                axis.axhline(sum(values) / len(values), color="0.4", label=f"{DESCRIPTIONS[kind]} (not proven)")
            elif proven:
                fill = color if rate != 0.9 else "none"
                axis.scatter(*zip(*proven, strict=True), marker=MARKS[kind], facecolors=fill, edgecolors=color)
        axis.set_title(task.title, fontsize="medium")
        axis.set_xlabel("proven rate")
        axis.set_ylabel(task.metric)
    present = {kind for task in tasks for kind in task.kinds if kind not in ("free", "unrolled")}
    handles = [
        pyplot.Line2D([], [], ls="", marker=MARKS[kind], color=f"C{number % 10}", label=DESCRIPTIONS[kind])
        for number, kind in enumerate(DESCRIPTIONS)
        if kind in present
    ]
    handles.append(pyplot.Line2D([], [], color="0.4", label="unconstrained, mean and range (nothing proven)"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize="small")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def write_page(found: Mapping[Any, dict[str, Any]], tasks: Mapping[str, Any], seeds: int, page: Path) -> None:
    """Tables and plot into the page."""
    from deqops._atomic import write_atomically

    text = page.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    picture = page.with_suffix(".svg")
    plot(found, list(tasks.values()), picture)
    lines = [BEGIN, "", f"Mean ± standard deviation over {seeds} seeds; the constants are the largest of them.", ""]
    for task in tasks.values():
        lines += table(found, task)
    lines += [f"![accuracy against proven rate]({picture.name})", ""]
    write_atomically(page, (before + "\n".join(lines) + END + after).encode("utf-8"))

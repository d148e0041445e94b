"""The page's figures, as SVG pictures in data URLs."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ._trajectory import Trajectory

# Okabe and Ito's colours, told apart by colour-blind readers too; lines differ in style as well.
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#666666"
# The part of the logarithmic axis that is shown: what lies lower is rounding, and would flatten the curves.
LOWEST = 1e-12
# How many times its smallest value a number's largest one is where its axis is logarithmic.
DECADES = 100
LONGEST = 40
_STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "svg.hashsalt": "deqops",
    "svg.fonttype": "path",
    "legend.frameon": False,
}


def convergence(found: Trajectory) -> str:
    """Distance to the equilibrium under its proven bound, or the residual alone."""

    def draw(axes: Axes) -> None:
        if found.bound:
            _line(axes, found.bound, "proven bound", BLUE, "-")
        if found.distance:
            _line(axes, found.distance, "measured distance", ORANGE, "--")
        if not found.bound or not found.distance:
            _line(axes, found.residual, "residual", GREEN, "-.")
        if found.error is not None and found.error > 0:
            axes.axhline(
                found.error, color=GREY, linewidth=1, linestyle=":", label="proven error of the computed state"
            )
        axes.set_xlabel("iterations")
        axes.set_ylabel(f"{found.norm} norm")
        if any(value > 0 for values in (found.bound, found.distance, found.residual) for value in values):
            axes.set_yscale("log")
            bottom, top = axes.get_ylim()
            axes.set_ylim(bottom=max(bottom, top * LOWEST))
        if axes.lines:
            axes.legend(loc="upper right", fontsize=8)

    return _picture(draw)


def accuracy(rows: Sequence[dict[str, Any]], splits: Sequence[str]) -> str:
    """Accuracy of the read-out on each split against the number of iterations."""
    styles = {"test": (BLUE, "-"), "validation": (ORANGE, "--"), "train": (GREY, ":")}

    def draw(axes: Axes) -> None:
        steps = [row["iteration"] for row in rows]
        for name, (colour, style) in styles.items():
            if name in splits:
                axes.plot(steps, [100 * row[name] for row in rows], color=colour, linestyle=style, label=name)
        axes.set_xlabel("iterations")
        axes.set_ylabel("accuracy in %")
        axes.legend(loc="lower right", fontsize=8)

    return _picture(draw)


def number(rows: Sequence[dict[str, Any]], name: str, label: str) -> str:
    """One number of each row against the number of iterations, on a logarithmic axis where it spans decades."""
    values = [float(row[name]) for row in rows]

    def draw(axes: Axes) -> None:
        axes.plot([row["iteration"] for row in rows], values, color=BLUE)
        axes.set_xlabel("iterations")
        axes.set_ylabel(_plain(label))
        if min(values) > 0 and max(values) > DECADES * min(values):
            axes.set_yscale("log")
            axes.set_ylim(bottom=max(axes.get_ylim()[0], max(values) * LOWEST))

    return _picture(draw)


def _plain(text: str) -> str:
    """A name from a file as an axis shows it: short, and no formula."""
    return text.encode("ascii", "replace").decode("ascii").replace("\\", " ").replace("$", " ")[:LONGEST]


def _line(axes: Axes, values: Sequence[float], label: str, colour: str, style: str) -> None:
    """Zeros have no place on a logarithmic axis: they are left out."""
    points = [(step, value) for step, value in enumerate(values) if value > 0]
    axes.plot(*zip(*points, strict=True), color=colour, linestyle=style, label=label) if points else None


def _picture(draw: Callable[[Axes], None]) -> str:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(4.4, 3.0), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")

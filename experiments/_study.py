"""What an architecture's study is, and how its results are kept and read."""

from __future__ import annotations

import json
import statistics
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

Found = dict[tuple[str, int], dict[str, Any]]
"""What was measured, by variant and seed."""


class Cell(NamedTuple):
    """One training of a study."""

    study: str
    variant: str
    seed: int

    @property
    def name(self) -> str:
        """Its file's stem."""
        return f"{self.study}-{self.variant.replace(' ', '_')}-{self.seed}"


@dataclass(frozen=True)
class Circumstances:
    """Where and how a cell runs.

    Attributes:
        root: the folder with planetoid/, proteins/, pde/, or None; a study that cannot do without raises SystemExit.
        work: a folder for checkpoints.
        smoke: a tiny training: does all of it run?
    """

    root: Path | None
    work: Path
    smoke: bool


class Study(ABC):
    """One section of `docs/results.md`.

    Attributes:
        name: of its files, and on the command line.
        title: of its section.
        variants: what is compared; the baselines are among them.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    variants: ClassVar[tuple[str, ...]]

    @abstractmethod
    def measure(self, variant: str, seed: int, here: Circumstances) -> dict[str, Any]:
        """Train, measure, certify and check one variant: plain numbers, strings, lists and dicts."""

    @abstractmethod
    def section(self, found: Found) -> str:
        """The section's Markdown below its title: settings, tables, what they say, the command for each figure."""

    def plot(self, found: Found, path: Path) -> None:  # noqa: B027  a study may have none
        """Write the section's SVG plot: the metric against iterations, each variant a line."""

    def cells(self, seeds: int) -> list[Cell]:
        """All trainings, seed by seed."""
        return [Cell(self.name, variant, seed) for seed in range(seeds) for variant in self.variants]


def file_of(cell: Cell, out: Path) -> Path:
    """Where a cell's results are kept."""
    return out / f"{cell.name}.json"


def results(cells: Iterable[Cell], out: Path) -> Found:
    """What has been measured already."""
    paths = {(cell.variant, cell.seed): file_of(cell, out) for cell in cells}
    return {key: json.loads(path.read_text(encoding="utf-8")) for key, path in paths.items() if path.exists()}


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and standard deviation, as text."""
    mean = statistics.fmean(values)
    return f"{mean:.{digits}f} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else f"{mean:.{digits}f}"


def of_variant(found: Found, variant: str) -> list[dict[str, Any]]:
    """A variant's measurements, by seed."""
    return [values for (name, _), values in sorted(found.items()) if name == variant]

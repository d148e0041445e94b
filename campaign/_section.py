"""What a section of the campaign is: numbered cases, each deterministic, and what they add up to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Tally:
    """Counts, largest values, and violations with the number of their case."""

    counts: dict[str, int] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def count(self, name: str, number: int = 1) -> None:
        """Add to a count."""
        self.counts[name] = self.counts.get(name, 0) + number

    def peak(self, name: str, value: float) -> None:
        """Keep the largest value."""
        self.largest[name] = max(self.largest.get(name, value), value)

    def add(self, other: Tally) -> None:
        """Take in another tally."""
        for name, number in other.counts.items():
            self.count(name, number)
        for name, value in other.largest.items():
            self.peak(name, value)
        self.violations += other.violations


Case = Callable[[int, int], Tally]


@dataclass(frozen=True)
class Section:
    """One part of the campaign.

    Attributes:
        name: on the command line.
        about: one line.
        default: cases of a full run.
        chunk: cases that are run and saved together.
        case: `case(seed, number)`; the same two numbers give the same case on every machine.
    """

    name: str
    about: str
    default: int
    chunk: int
    case: Case


def run_cases(section: Section, seed: int, first: int, count: int) -> Tally:
    """Some cases of a section; whatever is raised in a case is a violation too."""
    total = Tally()
    for number in range(first, first + count):
        try:
            found = section.case(seed, number)
        except Exception as error:
            found = Tally(violations=[f"{type(error).__name__}: {error}"[:1000]])
        total.count("cases")
        found.violations = [f"case {number}: {violation}" for violation in found.violations]
        total.add(found)
    return total


def as_json(tally: Tally) -> dict[str, Any]:
    """The tally for a state file."""
    return {"counts": tally.counts, "largest": tally.largest, "violations": tally.violations}


def from_json(entry: dict[str, Any]) -> Tally:
    """The tally of a state file."""
    return Tally(dict(entry["counts"]), dict(entry["largest"]), list(entry["violations"]))

"""What a run measured of its model, as tables and curves; nothing here is proven."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import _plots, _words

SPLITS = ("train", "validation", "test")
MOST_CURVES = 12
LARGEST = 1e100
"""What lies beyond is drawn by no axis: differences of its numbers overflow."""
# What the certificate and the other sections say, or what the accuracies say: it is not repeated.
_ELSEWHERE = ("rate", "proven_error", "accuracy", "accuracy_without_iteration")


@dataclass(frozen=True)
class Curve:
    """A figure: its picture, what it shows in words, and its caption."""

    picture: str
    alt: str
    caption: str


def accuracies(metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Split, accuracy at the equilibrium and without iteration, as text; nothing where there are none."""
    own, plain = (metrics.get(key) for key in ("accuracy", "accuracy_without_iteration"))
    if not isinstance(own, dict):
        return []
    plain = plain if isinstance(plain, dict) else {}
    known = [split for split in SPLITS if split in own] or list(SPLITS)
    return [(split, _words.percent(own.get(split)), _words.percent(plain.get(split))) for split in known]


def numbers(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The other plain numbers, also those of records of numbers, by name and as text."""
    found: list[tuple[str, str]] = []
    for key, value in metrics.items():
        if key in _ELSEWHERE:
            continue
        parts = value if isinstance(value, dict) else {"": value}
        found += [(_named(key, part), f"{number:.6g}") for part, number in parts.items() if _words.is_number(number)]
    return found


def curves(metrics: Mapping[str, Any]) -> list[Curve]:
    """A figure for the accuracies and one for each other number of "by_iteration" and the like."""
    found = []
    for key, rows in metrics.items():
        if not key.startswith("by_") or not is_curve(rows):
            continue
        suffix = "" if key == "by_iteration" else f" ({key.removeprefix('by_').replace('_', ' ')})"
        names = [name for name in rows[0] if name != "iteration"]
        splits = [name for name in SPLITS if name in names and all(0 <= row[name] <= 1 for row in rows)]
        if splits:
            found.append(_accuracy(rows, splits, suffix))
        rest = [name for name in names if name not in splits]
        found += [_number(rows, name, suffix) for name in rest]
    return found[:MOST_CURVES]


def is_curve(rows: Any) -> bool:
    """Whether it is a list of records of the same drawable numbers, "iteration" and at least one other among them."""
    if not isinstance(rows, list) or not rows or not isinstance(rows[0], dict):
        return False
    names = set(rows[0])
    return (
        "iteration" in names
        and len(names) > 1
        and all(isinstance(row, dict) and set(row) == names and all(map(_is_shown, row.values())) for row in rows)
    )


def _is_shown(value: Any) -> bool:
    """Whether an axis can show it."""
    return _words.is_number(value) and abs(value) <= LARGEST


def _accuracy(rows: list[dict[str, Any]], splits: list[str], suffix: str) -> Curve:
    shown = "test" if "test" in splits else splits[-1]
    first, last = rows[0], rows[-1]
    alt = (
        f"{shown} accuracy from {_words.percent(first[shown])} after {first['iteration']} iterations to "
        f"{_words.percent(last[shown])} after {last['iteration']}"
    )
    return Curve(_plots.accuracy(rows, splits), alt, f"Accuracy of the read-out after so many iterations{suffix}.")


def _number(rows: list[dict[str, Any]], name: str, suffix: str) -> Curve:
    first, last = rows[0], rows[-1]
    alt = (
        f"{_named(name)} from {first[name]:.4g} after {first['iteration']} iterations to {last[name]:.4g} after "
        f"{last['iteration']}"
    )
    picture = _plots.number(rows, name, _named(name))
    return Curve(picture, alt, f"{_named(name).capitalize()} after so many iterations{suffix}, as measured.")


def _named(key: str, part: str = "") -> str:
    return " ".join(f"{key} {part}".replace("_", " ").split())

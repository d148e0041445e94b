"""`--set key=value`: settings of the model, its training and its data."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import click

from deqops.models import CITATION, DIGITS, PIGNSettings

set_option = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting, for example --set epochs=40 --set labels_per_class=10. May be repeated.",
)


@dataclass(frozen=True)
class DigitsSettings:
    """How the digits graph is built; see `deqops.models.digits_graph`."""

    neighbours: int = 10
    labels_per_class: int = 5
    validation: int = 300


@dataclass(frozen=True)
class CitationSettings:
    """How Cora or CiteSeer is prepared; see `deqops.models.planetoid_graph`."""

    missing: float = 0.0


DataSettings = DigitsSettings | CitationSettings
DATASETS: dict[str, tuple[PIGNSettings, DataSettings]] = {
    "digits": (DIGITS, DigitsSettings()),
    "Cora": (CITATION, CitationSettings()),
    "CiteSeer": (CITATION, CitationSettings()),
}


def parse_settings(dataset: str, assignments: Sequence[str]) -> tuple[PIGNSettings, DataSettings]:
    """The data set's settings with the assignments made.

    Raises:
        click.BadParameter: an assignment is malformed, its key unknown or its value no number.
        InputError: a value is out of range.
    """
    training, data = DATASETS[dataset]
    known = {field.name: type(field.default) for record in (training, data) for field in fields(record)}
    chosen: dict[str, Any] = {}
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator or key not in known:
            raise click.BadParameter(_unknown(assignment, key, list(known)), param_hint="--set")
        chosen[key] = _value(key, text, known[key])
    trained, built = ({f.name: chosen[f.name] for f in fields(r) if f.name in chosen} for r in (training, data))
    return replace(training, **trained), replace(data, **built)


def _unknown(assignment: str, key: str, known: list[str]) -> str:
    if "=" not in assignment:
        return f"{assignment!r}: write KEY=VALUE"
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"
    return f"unknown setting {key!r}; {hint}"


def _value(key: str, text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise click.BadParameter(f"{key}={text}: {key} is {what}", param_hint="--set") from None

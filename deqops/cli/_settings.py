"""`--set key=value`: settings of the model, its training and its data."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import click

from deqops.models import PIGNSettings

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


def parse_settings(assignments: Sequence[str]) -> tuple[PIGNSettings, DigitsSettings]:
    """The settings with the assignments made.

    Raises:
        click.BadParameter: an assignment is malformed, its key unknown or its value no number.
        InputError: a value is out of range.
    """
    known: dict[str, tuple[type, type]] = {
        field.name: (record, type(field.default))
        for record in (PIGNSettings, DigitsSettings)
        for field in fields(record)
    }
    chosen: dict[type, dict[str, Any]] = {PIGNSettings: {}, DigitsSettings: {}}
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator or key not in known:
            raise click.BadParameter(_unknown(assignment, key, list(known)), param_hint="--set")
        record, kind = known[key]
        chosen[record][key] = _number(key, text, kind)
    return PIGNSettings(**chosen[PIGNSettings]), DigitsSettings(**chosen[DigitsSettings])


def _unknown(assignment: str, key: str, known: list[str]) -> str:
    if "=" not in assignment:
        return f"{assignment!r}: write KEY=VALUE"
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"
    return f"unknown setting {key!r}; {hint}"


def _number(key: str, text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise click.BadParameter(f"{key}={text}: {key} is {what}", param_hint="--set") from None

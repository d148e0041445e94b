"""`--set key=value`: settings of the model, its training and its data."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import click

from deqops._errors import InputError

if TYPE_CHECKING:
    from deqops.models import Recipe

set_option = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting, for example --set epochs=40 --set labels_per_class=10. May be repeated.",
)


def chosen_dataset(recipe: Recipe, name: str | None) -> str:
    """The data set named, or the recipe's first one.

    Raises:
        click.BadParameter: the recipe has no such data set.
    """
    if name is None:
        return next(iter(recipe.datasets))
    if name not in recipe.datasets:
        known = ", ".join(map(repr, recipe.datasets))
        raise click.BadParameter(f"{name!r} is not one of {known}", param_hint="--dataset")
    return name


def parse_settings(recipe: Recipe, dataset: str, assignments: Sequence[str]) -> tuple[Any, Any]:
    """The settings of training and of the data that suit the data set, with the assignments made.

    Raises:
        click.BadParameter: an assignment is malformed, its key unknown, or its value no number or out of range.
    """
    records = recipe.datasets[dataset]
    known = {field.name: type(getattr(record, field.name)) for record in records for field in fields(record)}
    chosen: dict[str, Any] = {}
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator or key not in known:
            raise click.BadParameter(_unknown(assignment, key, list(known)), param_hint="--set")
        chosen[key] = _value(key, text, known[key])
    with settings_named(known):
        training, data = (
            replace(record, **{field.name: chosen[field.name] for field in fields(record) if field.name in chosen})
            for record in records
        )
    return training, data


@contextmanager
def settings_named(names: Collection[str]) -> Iterator[None]:
    """Blame `--set` for an InputError that names one of these settings.

    Raises:
        click.BadParameter: there was one.
    """
    try:
        yield
    except InputError as error:
        words = re.findall(r"\w+", str(error).partition(": ")[0])
        if not set(names).intersection(words):
            raise
        raise click.BadParameter(str(error), param_hint="--set") from error


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

"""Results on stdout: lines for people, or one JSON object."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Context
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")


def emit(as_json: bool, document: Mapping[str, Any], lines: Sequence[str]) -> None:
    """Print the document as JSON, or the lines."""
    if as_json:
        click.echo(json.dumps(plain(document), indent=1, allow_nan=False))
    else:
        click.echo("\n".join(lines))


def at_most(bound: float, digits: int) -> str:
    """A proven upper bound in so many significant digits, rounded up: what is printed is proven too."""
    rounded = Context(prec=digits, rounding=ROUND_CEILING).create_decimal_from_float(bound)
    return f"at most {rounded:g}"


def plain(value: Any) -> Any:
    """Values that JSON has: a number that is not finite becomes its name ("inf"), a path its text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)

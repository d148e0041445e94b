"""Reading JSON that somebody else wrote: bounded, without duplicate keys, with typed access."""

from __future__ import annotations

import json
from typing import NoReturn, TypeVar

from deqops._errors import ModelFileError

_T = TypeVar("_T")


def parse_json(data: bytes, what: str) -> object:
    """Parse UTF-8 JSON; raises ModelFileError for damage, duplicate keys, deep nesting or huge numbers."""
    try:
        parsed: object = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:
        raise ModelFileError(f"model file: {what} is nested too deeply") from None
    except ValueError as error:
        raise ModelFileError(f"model file: {what} is not valid JSON ({_short(error)})") from None
    return parsed


def get(record: object, key: str, kind: type[_T]) -> _T:
    """`record[key]`, which must be of type `kind` (bool is not int)."""
    if not isinstance(record, dict):
        raise ModelFileError(f"model file: expected an object that has {key!r}, found {type(record).__name__}")
    value = record.get(key)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ModelFileError(f"model file: {key!r} is missing or is not of type {kind.__name__}")
    return value


def union(record: object) -> tuple[str, object]:
    """The one tag and value of a serialised union such as {"as_int": 3}."""
    if not isinstance(record, dict) or len(record) != 1:
        raise ModelFileError("model file: expected an object with exactly one tag")
    ((tag, value),) = record.items()
    return tag, value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("duplicate key")
    return record


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:100]

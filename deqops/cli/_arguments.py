"""Options that several commands share, and reading what they name."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deqops._errors import ModelFileError
from deqops._tensorfile import TensorFile, read_tensors

from ._exit import MISSING_FILE, CommandError

if TYPE_CHECKING:
    from deqops.graph import OperatorGraph

FILE = click.Path(path_type=Path)


class Number(click.types.FloatParamType):
    """A number in a range.

    Args:
        words: the range, to follow "a number".
        holds: whether a number is in it; never NaN.
    """

    def __init__(self, words: str, holds: Callable[[float], bool]) -> None:
        self._words, self._holds = words, holds

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number that the text says."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not self._holds(number):
            self.fail(f"got {value}; give a number {self._words}", param, ctx)
        return number


POSITIVE = Number("above 0", lambda number: 0 < number < math.inf)
DAMPING = Number("above 0 and at most 1e38", lambda number: 0 < number <= 1e38)
NOT_NEGATIVE = Number("of at least 0", lambda number: 0 <= number < math.inf)
NOT_ZERO = Number("other than 0", lambda number: 0 < abs(number) < math.inf)
SECONDS = Number("of seconds above 0", lambda number: number > 0)

inputs_option = click.option(
    "--inputs",
    "inputs_path",
    type=FILE,
    required=True,
    help="A .safetensors file with the keys state (or state.a.b for a tree), input_0, input_1, ...",
)
batch_dims_option = click.option(
    "--batch-dims",
    type=click.IntRange(0, 1),
    default=None,
    help="1: dimension 0 of the state counts independent problems; 0: the state is one problem. "
    "Default: what the certificate says where one is given, then the model file, else 1.",
)


def read_operator(model: Path, batch_dims: int | None) -> OperatorGraph:
    """The operator in a model file, read without running its code."""
    from deqops.graph import read_model

    require_file(model)
    try:
        return read_model(model, batch_dims=batch_dims)
    except ModelFileError as error:
        raise ModelFileError(f"{model}: {error}") from error


def read_certified_operator(model: Path, certificate: Path, batch_dims: int | None) -> OperatorGraph:
    """The operator in a model file; where `batch_dims` is not given, with that of a certificate about it.

    Raises:
        ModelFileError: the certificate is no certificate, besides what `read_operator` raises.
    """
    from deqops.verify._document import json_of

    require_file(certificate)
    if batch_dims is None:
        stated = json_of(certificate).get("batch_dims")
        batch_dims = stated if type(stated) is int and stated in (0, 1) else None
    return read_operator(model, batch_dims)


def read_inputs(path: Path) -> TensorFile:
    """The state and inputs in a file."""
    require_file(path)
    return read_tensors(path)


def require_file(path: Path) -> None:
    """Raises CommandError (66) where there is no plain file."""
    try:
        exists = path.exists()
    except OSError as error:  # a name that is too long
        raise CommandError(MISSING_FILE, f"cannot read {path}: {error.strerror}; check the path") from error
    if not exists:
        raise CommandError(MISSING_FILE, f"no such file: {path}; check the path")
    if path.is_dir():
        raise CommandError(MISSING_FILE, f"{path} is a folder; give a file")
    if not path.is_file():
        raise CommandError(MISSING_FILE, f"{path} is a pipe or a device; save its content to a file and give that")

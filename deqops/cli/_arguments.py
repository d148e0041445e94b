"""Options that several commands share, and reading what they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from deqops._errors import ModelFileError
from deqops._tensorfile import TensorFile, read_tensors

from ._exit import MISSING_FILE, CommandError

if TYPE_CHECKING:
    from deqops.graph import OperatorGraph

FILE = click.Path(path_type=Path)

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
    if not path.exists():
        raise CommandError(MISSING_FILE, f"no such file: {path}; check the path")
    if path.is_dir():
        raise CommandError(MISSING_FILE, f"{path} is a folder; give a file")
    if not path.is_file():
        raise CommandError(MISSING_FILE, f"{path} is a pipe or a device; save its content to a file and give that")

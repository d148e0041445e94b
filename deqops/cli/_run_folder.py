"""`runs/<name>/`: the folder of one run, never shared between runs of other settings."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from deqops._atomic import write_atomically
from deqops._errors import ModelFileError
from deqops._files import require_plain

from ._exit import CANNOT_CREATE, CommandError, writing
from ._output import plain

_FORMAT = "deqops-run-1"
_LABEL = "run.json"


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def model(self) -> Path:
        """The exported operator."""
        return self.path / "model.pt2"

    @property
    def inputs(self) -> Path:
        """Where the iteration starts, and the operator's inputs."""
        return self.path / "inputs.safetensors"

    @property
    def state(self) -> Path:
        """The computed equilibrium."""
        return self.path / "state.safetensors"

    @property
    def certificate(self) -> Path:
        """The certificate."""
        return self.path / "certificate.json"

    @property
    def metrics(self) -> Path:
        """Accuracies, verdict, rate, proven error."""
        return self.path / "metrics.json"

    @property
    def report(self) -> Path:
        """The page about it all."""
        return self.path / "report.html"

    @property
    def checkpoint(self) -> Path:
        """Where training resumes."""
        return self.path / "checkpoint.pt"

    @property
    def results(self) -> tuple[Path, ...]:
        """What the report is made of, and where training resumes."""
        label = self.path / _LABEL
        return label, self.model, self.inputs, self.state, self.certificate, self.metrics, self.checkpoint

    def write_json(self, path: Path, document: Mapping[str, Any]) -> None:
        """Write a JSON file of the run, whole or not at all."""
        text = json.dumps(plain(document), indent=1, sort_keys=True, allow_nan=False) + "\n"
        with writing(path):
            write_atomically(path, text.encode("utf-8"))


def check_name(name: str) -> None:
    """Refuse what is no plain folder name.

    Raises:
        click.BadParameter: it has separators, blanks or other signs, or is empty or very long.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise click.BadParameter(f"{name!r}: use letters, digits, '.', '_' and '-'", param_hint="--name")


@contextmanager
def claimed_folder(root: Path, name: str, identity: Mapping[str, Any]) -> Iterator[RunFolder]:
    """The folder of the run with this identity (model, data, seed, settings), new or its own from before.

    It belongs to this process alone until the block or the process ends.

    Raises:
        CommandError: (73) the folder cannot be made, is in use, holds other files, or a run with another identity.
        click.BadParameter: the name is no plain folder name.
    """
    check_name(name)
    folder = RunFolder(root / name)
    label = {"format": _FORMAT, **plain(identity)}
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(
            CANNOT_CREATE, f"cannot make the folder {folder.path}: {error.strerror}; choose another --runs"
        ) from error
    with _locked(folder.path):
        if all(entry.match(f".{_LABEL}.*.part") for entry in folder.path.iterdir()):  # new, or killed at once
            folder.write_json(folder.path / _LABEL, label)
        _check_owner(folder.path, label)
        _remove_litter(folder.path)
        yield folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the folder's advisory lock, which ends with the process; where the system has none, go without."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"{path} is in use by another run; wait for it or choose another --name"
            raise CommandError(CANNOT_CREATE, message) from None
        except OSError:  # some network file systems have no locks
            pass
        yield
    finally:
        os.close(handle)


def _remove_litter(path: Path) -> None:
    """Remove the half-written files of a run that was killed."""
    for part in path.glob(".*.part"):
        part.unlink(missing_ok=True)


def _check_owner(path: Path, label: dict[str, Any]) -> None:
    try:
        require_plain(path / _LABEL)
        found = json.loads((path / _LABEL).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, ModelFileError):
        found = None
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise CommandError(CANNOT_CREATE, f"{path} holds files of something else; choose another --name")
    if found != label:
        other = ", ".join(sorted(key for key in {*found, *label} if found.get(key) != label.get(key)))
        raise CommandError(
            CANNOT_CREATE,
            f"{path} holds a run that differs in {other}; choose another --name or remove the folder",
        )

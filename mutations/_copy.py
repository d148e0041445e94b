"""A copy of the tracked tree, as it lies in the working folder, to spoil and to test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ._defect import ROOT, Defect, DefectError


@contextmanager
def copied(defect: Defect | None) -> Iterator[Path]:
    """A temporary folder with the tree, the defect applied; links stay links, now to folders of the copy.

    Raises:
        DefectError: the patch does not apply, or Python would import another deqops there.
    """
    with tempfile.TemporaryDirectory(prefix="deqops-mutation-") as name:
        folder = Path(name).resolve()
        for path in _tracked():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, folder / path, follow_symlinks=False)
        if defect is not None:
            apply(defect, folder)
        _check_import(folder)
        yield folder


def apply(defect: Defect, folder: Path, *, only_check: bool = False) -> None:
    """Apply a patch, or find out whether it applies.

    Raises:
        DefectError: it does not.
    """
    options = ["--check"] if only_check else []
    # Inside another repository, git would silently leave out every path that it does not know.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    command = ["git", "apply", *options, str(defect.patch)]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if run.returncode:
        raise DefectError(f"{defect.name}: the patch does not apply; make it anew: {run.stderr.strip()}")


def environment_of(folder: Path) -> dict[str, str]:
    """Of a run in the copy: one thread, and the copy first of all places that modules come from."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}  # of a run around it
    return {**outer, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


def _tracked() -> list[str]:
    """Paths that git knows and that are there."""
    run = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        raise DefectError(f"git: it does not list the files of {ROOT}, use a clone: {run.stderr.strip()}")
    return [path for path in run.stdout.split("\0") if path and os.path.lexists(ROOT / path)]


def _check_import(folder: Path) -> None:
    """An installed deqops, editable or not, must not be what is tested."""
    code = "import importlib.util; print(importlib.util.find_spec('deqops').origin)"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=folder, env=environment_of(folder), capture_output=True, text=True)
    if Path(run.stdout.strip()) != folder / "deqops" / "__init__.py":
        raise DefectError(f"deqops: it would come from {run.stdout.strip() or run.stderr.strip()}, not from the copy")

"""A seeded defect: what is wrong, which tests have to see it, and the patch."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent


class DefectError(Exception):
    """A defect that says nothing about the tests: its file is wrong, or the run was not a run of them."""


@dataclass(frozen=True)
class Defect:
    """The two lines that begin a patch file; `git apply` skips them."""

    patch: Path
    sentence: str  # after `defect: `
    tests: tuple[str, ...]  # after `tests: `, as pytest takes them, quoted as in a shell; at least one fails

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.patch.stem


def read(patch: Path) -> Defect:
    """The defect of a patch file.

    Raises:
        DefectError: one of the two lines is missing or empty.
    """
    lines = patch.read_text().splitlines()[:2]
    found = dict(line.split(": ", 1) for line in lines if ": " in line)
    sentence, tests = (found.get(key, "").strip() for key in ("defect", "tests"))
    if not sentence or not tests:
        raise DefectError(f"{patch.name}: it must begin with the lines `defect: sentence` and `tests: path ...`")
    return Defect(patch, sentence, tuple(shlex.split(tests)))


def _number(patch: Path) -> tuple[float, str]:
    """By number, not by letters; a file without one comes last, for the tests to find."""
    number = patch.name.split("-")[0]
    return (float(number) if number.isdecimal() else float("inf")), patch.name


def defects(names: list[str] | None = None) -> list[Defect]:
    """All defects, or those whose names begin with one of these, in the order of their numbers.

    Raises:
        DefectError: a name that no defect has, or a patch file that is wrong.
    """
    known = [read(patch) for patch in sorted(FOLDER.glob("*.patch"), key=_number)]
    if not names:
        return known
    for name in names:
        if not any(defect.name.startswith(name) for defect in known):
            raise DefectError(f"{name}: there is no such defect; `python -m mutations --list` shows all")
    return [defect for defect in known if defect.name.startswith(tuple(names))]

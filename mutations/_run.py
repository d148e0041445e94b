"""Whether the tests see a defect."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ._copy import copied, environment_of
from ._defect import Defect, DefectError

LONGEST = 300.0
"""Seconds after which a run is given up; a defect may never end."""


@dataclass(frozen=True)
class Outcome:
    """What a run said of a defect."""

    test: str | None  # the first test that failed; None where all passed
    seconds: float


def judged(defect: Defect) -> Outcome:
    """Run the defect's tests under it.

    Raises:
        DefectError: the patch does not apply, or the tests did not run: what is broken is not what they look at.
    """
    with copied(defect) as folder:
        return _tested(defect.name, folder, defect.tests)


def check_sound(defects: Sequence[Defect]) -> Outcome:
    """Run the same tests without any defect: a test that fails anyway would catch everything.

    Raises:
        DefectError: one fails.
    """
    tests = sorted({test for defect in defects for test in defect.tests})
    with copied(None) as folder:
        outcome = _tested("no defect", folder, tests)
    if outcome.test is not None:
        raise DefectError(f"{outcome.test} fails without a defect; mend it first")
    return outcome


def _tested(name: str, folder: Path, tests: Sequence[str]) -> Outcome:
    """0 and 1 are pytest's codes of tests that passed and failed; any other says that they were not run."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    start = time.monotonic()
    try:
        run = subprocess.run(
            command,
            cwd=folder,
            env=environment_of(folder),
            capture_output=True,
            text=True,
            timeout=LONGEST,
        )
    except subprocess.TimeoutExpired:
        raise DefectError(f"{name}: the tests did not end within {LONGEST:g} seconds") from None
    if run.returncode not in (0, 1):
        raise DefectError(f"{name}: pytest ended with code {run.returncode}: {_last_line(run.stdout + run.stderr)}")
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", run.stdout, re.MULTILINE)
    test = None if run.returncode == 0 else failed.group(1) if failed else "a test without a name"
    return Outcome(test, time.monotonic() - start)


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")

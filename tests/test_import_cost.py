"""`import deqops` loads torch and nothing else that is heavy."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import deqops

HEAVY = ("scipy", "flint", "torchdeq", "torch_geometric", "sympy", "matplotlib", "sklearn", "safetensors", "rich")


def test_heavy_modules_are_absent_after_import() -> None:
    # torch itself may bring some of them: what counts is what deqops adds.
    program = (
        "import sys, torch; before = set(sys.modules); import deqops; "
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules and m not in before]; "
        "own = [m for m in ('deqops.verify', 'deqops.models', 'deqops.cli', 'deqops.graph') if m in sys.modules]; "
        "assert not heavy + own, heavy + own"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_public_name_is_there() -> None:
    for name in deqops.__all__:
        assert getattr(deqops, name) is not None


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    assert deqops.__version__ == project["version"]

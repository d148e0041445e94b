"""The table of verdicts: all models that it has of papers are certified, and their certificates accepted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "coverage.py"


def test_equilibrium_models_of_papers_are_certified_and_checked() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--check", "--cells"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "18 certified, 18 checked"


def test_a_wrong_option_is_told() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--cells", "--transformers"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "not allowed with argument" in done.stderr

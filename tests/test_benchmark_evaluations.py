"""The table of evaluations by kind of layer: it runs, and counts what is solved alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "evaluations.py"


def test_the_script_counts_on_every_kind_of_layer() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--quick"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("  deqops Anderson")]
    assert len(rows) == 7
    assert all(int(row[-1]) <= 60 for row in rows)  # 12 unknowns; an unsolved layer's row ends in "-"

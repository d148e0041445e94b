"""The command line of the campaign; exit code 0 without, 1 with violations, 130 interrupted."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from ._runner import run_section
from ._section import run_cases
from ._sections import SECTIONS
from ._state import State
from ._table import table


def main(arguments: list[str] | None = None) -> int:
    """Run sections and print their counts."""
    options = _options().parse_args(arguments)
    torch.set_num_threads(1)
    names = list(SECTIONS) if options.section == "all" else [options.section]
    if options.case is not None:
        return _single(names, options.seed, options.case)
    states = [State.load(SECTIONS[name], options.seed, options.state) for name in names]
    try:
        for state in states:
            run_section(state, options.count or state.section.default, options.workers)
    except KeyboardInterrupt:
        sys.stdout.write(table(states))
        sys.stderr.write("interrupted; the same command goes on from here\n")
        return 130
    sys.stdout.write(table(states))
    return 1 if any(state.tally.violations for state in states) else 0


def _single(names: list[str], seed: int, case: int) -> int:
    """One case again, for whoever mends it."""
    found = [run_cases(SECTIONS[name], seed, case, 1) for name in names]
    for name, tally in zip(names, found, strict=True):
        sys.stdout.write(f"{name}: {tally}\n")
    return 1 if any(tally.violations for tally in found) else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m campaign", description=__doc__)
    parser.add_argument("section", choices=[*SECTIONS, "all"])
    parser.add_argument("--count", type=int, help="cases of each section, rounded up to whole chunks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--state", type=Path, default=Path("runs/campaign"), help="folder of the results so far")
    parser.add_argument("--case", type=int, help="run this one case and print what it gave")
    return parser


if __name__ == "__main__":
    sys.exit(main())

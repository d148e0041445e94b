"""Seed each defect in a copy of the tree and run its tests; exit code 0 where all are caught, 1 otherwise."""

from __future__ import annotations

import argparse
import sys

from ._defect import Defect, DefectError, defects
from ._run import check_sound, judged


def main(arguments: list[str] | None = None) -> int:
    """One line for each defect, and their count."""
    options = _options().parse_args(arguments)
    try:
        chosen = defects(options.names)
        if options.list:
            sys.stdout.writelines(f"{defect.name}: {defect.sentence}\n" for defect in chosen)
            return 0
        seconds = check_sound(chosen).seconds
    except DefectError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"no defect: all tests pass, {seconds:.1f} s\n")
    caught = sum(_caught(defect, number, len(chosen)) for number, defect in enumerate(chosen, 1))
    sys.stdout.write(f"{caught} of {len(chosen)} defects caught\n")
    return 0 if caught == len(chosen) else 1


def _caught(defect: Defect, number: int, count: int) -> bool:
    """Say how one defect fared."""
    try:
        outcome = judged(defect)
    except DefectError as error:
        _say(number, count, f"error: {error}")
        return False
    found = f"SURVIVED {' '.join(defect.tests)}" if outcome.test is None else f"caught by {outcome.test}"
    _say(number, count, f"{defect.name}: {found}, {outcome.seconds:.1f} s")
    return outcome.test is not None


def _say(number: int, count: int, line: str) -> None:
    sys.stdout.write(f"[{number}/{count}] {line}\n")
    sys.stdout.flush()


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mutations", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="names of defects, or how they begin; all without")
    parser.add_argument("--list", action="store_true", help="say what the defects are and run nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())

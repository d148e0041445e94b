"""All of it: problem by problem, then the verdicts."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from deqops import InputError

from ._catalogue import PLANETOID, methods, problems
from ._measure import BUDGET, Row, measured
from ._memory import Use, uses, warm_up
from ._tables import print_ladder, print_memory, print_problem
from ._verdicts import print_verdicts

WITH_MEMORY = ("b", "b-hard")


def note(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def run(
    names: Sequence[str], *, threads: int, repeats: int, quick: bool, planetoid: Path | None = None, skip: bool = False
) -> None:
    """Measure and print.

    Args:
        names: of problems.
        threads: of torch; the peers' are set before they are imported.
        repeats: rounds of each table.
        quick: tiny problems.
        planetoid: folder with `Cora/raw`.
        skip: leave out a problem whose data are missing, and say so; False raises.
    """
    torch.set_num_threads(threads)
    found, missing = methods()
    print(f"threads {threads}, at most {repeats} repeats" + (", quick" if quick else ""))
    for package in missing:
        print(f"{package}: not installed")
    results: dict[str, list[Row]] = {}
    memory: dict[str, dict[str, list[Use]]] = {}
    for name in names:
        try:
            for problem in problems(name, quick, planetoid or PLANETOID):
                note(f"{problem.name}: built")
                refused: dict[str, str] = {}
                budget = 0.0 if quick else BUDGET
                rows = results[problem.name] = measured(found, problem, repeats, budget, note, refused)
                print_problem(problem, rows, refused)
                print_ladder(problem, rows)
                if name in WITH_MEMORY:
                    warm_up()
                    memory[name] = uses(problem)
                    print_memory(problem, memory[name])
                sys.stdout.flush()
        except InputError as error:
            if not skip:
                raise
            print(f"\n({name}) left out: {error}")
    print_verdicts(results, memory, threads)

"""The tables that are printed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ._measure import GOAL, PATIENCE, Row
from ._memory import Use
from ._problem import Problem

CLAIMS = {True: "yes", False: "no", None: "-"}


def print_problem(problem: Problem, rows: Sequence[Row], refused: Mapping[str, str]) -> None:
    print(f"\n({problem.name}) {problem.title}; relative tolerance {problem.tolerance:g}")
    print(
        f"{'method':<28} {'evaluations':>11} {'rows':>8} {'true error':>11} {'claims':>7} {'wall/bare':>10} "
        f"{'at best':>8}  setting"
    )
    for row in rows:
        outcome, table = row.table.outcome, row.table
        print(
            f"{row.method:<28} {outcome.evaluations:>11} {outcome.rows:>8} {table.error:>11.1e} "
            f"{CLAIMS[outcome.claim]:>7} {row.ratio:>10.2f} {row.quiet_ratio:>8.2f}  {setting(table.setting)}"
        )
    for method, reason in refused.items():
        print(f"{method:<28} refuses: {reason[:120]}")


def print_ladder(problem: Problem, rows: Sequence[Row]) -> None:
    """Wall times to the goal, relative to deqops' best; who never reaches it is named."""
    ours = best_wall(rows, "deqops ")
    unit = ours if ours < math.inf else min(row.wall for row in rows)
    quiet = min((row.quiet_wall for row in rows if row.method.startswith("deqops ")), default=math.inf)
    quiet = quiet if quiet < math.inf else min(row.quiet_wall for row in rows)
    print(f"\n({problem.name}) wall time to a true error of {GOAL:g}, relative to deqops' best")
    print(f"{'method':<28} {'tolerance':>11} {'evaluations':>11} {'true error':>11} {'wall':>10} {'at best':>8}")
    for row in sorted(rows, key=lambda row: row.wall):
        if row.best is not None:
            print(
                f"{row.method:<28} {row.best.tolerance:>11.0e} {row.best.outcome.evaluations:>11} "
                f"{row.best.error:>11.1e} {row.wall / unit:>10.2f} {row.quiet_wall / quiet:>8.2f}"
            )
    never = [row.method for row in rows if row.best is None]
    if never:
        print(f"never, or not before a rung took more than {PATIENCE:g} s: {', '.join(never)}")


def best_wall(rows: Sequence[Row], package: str) -> float:
    return min((row.wall for row in rows if row.method.startswith(package)), default=math.inf)


def setting(options: dict[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())


def print_memory(problem: Problem, uses: dict[str, list[Use]]) -> None:
    print(f"\n({problem.name}) Broyden, 200 iterations allowed: peak memory in states against evaluations done")
    for package, found in uses.items():
        print(f"{package:<10}", "  ".join(f"{use.evaluations:>4}: {use.peak:>6.1f}" for use in found))

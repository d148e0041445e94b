"""Solvers beside torchdeq's, scipy's, jaxopt's and optimistix's on the same problems, in one run.

    python benchmarks/solvers.py [--problem a b b-hard c d e f g] [--threads 1|2] [--quick] [--repeats N]

For each problem and method: evaluations (one counter around the operator), operator evaluations times the problems in
them ("rows"), the true error (the worst problem's, relative, in l2, against float64), what the method claims, and its
wall time over that of a bare loop of as many applications. Then the wall time to a true error of 1e-5: the loosest
tolerance that reaches it counts, each peer at its best setting. At the end, each target is met or not.

Times are medians, taken in turns, the short ones each after an untimed run of its own, and beside them the shortest
ones ("at best"): where the two ratios differ much, the machine was not quiet. On operators of a few microseconds they
are the price of a step's small kernels.
Peers under jax are compiled before they are timed, and compared to a loop that is compiled too. Packages that are
missing are named and left out. Problem d needs Cora's files (--planetoid FOLDER, with Cora/raw in it).
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

PROBLEMS = ("a", "b", "b-hard", "c", "d", "e", "f", "g")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Solvers and their peers: evaluations, true errors and time.")
    parser.add_argument("--problem", nargs="+", choices=PROBLEMS, metavar="NAME", help=f"of {', '.join(PROBLEMS)}")
    parser.add_argument("--threads", type=int, choices=(1, 2), default=1)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="tiny problems, to see that it runs")
    parser.add_argument("--planetoid", type=Path, help="folder with Cora/raw")
    return parser


def set_threads(count: int) -> None:
    """Read by the libraries when they are first imported; XLA takes its number of threads from NPROC."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC"):
        os.environ[name] = str(count)
    os.environ["KINETO_LOG_LEVEL"] = "99"  # torch's profiler announces each start
    if count == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"


def main() -> None:
    parser = arguments()
    given = parser.parse_args()
    set_threads(given.threads)
    from _solvers._run import run

    from deqops import InputError

    repeats = min(given.repeats, 2) if given.quick else given.repeats
    options = {"threads": given.threads, "repeats": repeats, "quick": given.quick, "planetoid": given.planetoid}
    try:
        run(given.problem or PROBLEMS, **options, skip=given.problem is None)
    except InputError as error:
        sys.exit(f"{parser.prog}: error: {error}")


if __name__ == "__main__":
    main()

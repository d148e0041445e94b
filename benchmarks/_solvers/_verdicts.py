"""The targets, each met or not, with the figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from ._measure import Row
from ._memory import Use
from ._tables import best_wall

Results = Mapping[str, Sequence[Row]]
"""The rows of each problem, by its name."""
Verdict = tuple[bool, str]
PEERS = ("torchdeq ", "scipy ", "jaxopt ", "optimistix ")
PER_ITERATION = 2.2
"""States that Broyden may add to its peak with each iteration: two vectors, and a little that is not like the state."""


def named(rows: Sequence[Row], method: str) -> Row:
    return next(row for row in rows if row.method == method)


def overheads(results: Results, problems: Sequence[str], method: str, most: float) -> Iterator[Verdict]:
    for name in problems:
        if name in results:
            ratio = named(results[name], f"deqops {method}").ratio
            yield ratio <= most, f"{method} on ({name}): {ratio:.2f} of a bare loop, at most {most:g} asked"


def picard(results: Results, threads: int) -> Iterator[Verdict]:
    yield from overheads(results, ("a", "b", "c"), "Picard", 1.10 if threads == 1 else 1.20)


def evaluations(row: Row) -> int | None:
    """To the goal's true error."""
    return None if row.best is None else row.best.outcome.evaluations


def anderson(results: Results, threads: int) -> Iterator[Verdict]:
    scales = [name for name in results if name.startswith("f ")]
    for name in [name for name in ("a", "b-hard", *scales) if name in results]:
        ours, plain = (evaluations(named(results[name], f"deqops {solver}")) for solver in ("Anderson", "Picard"))
        fewer = ours is not None and (plain is None or ours < plain)
        yield fewer, f"evaluations to the true error on ({name}): {ours} where Picard needs {plain}"
    counts = [named(results[name], "deqops Anderson").table.outcome.evaluations for name in scales]
    if counts:
        plain = [named(results[name], "deqops Picard").table.outcome.evaluations for name in scales]
        yield max(counts) - min(counts) <= 2, f"(f) at each scale: {counts} evaluations, within 2 of each other asked"
        yield max(counts) <= 90, f"(f): {max(counts)} where Picard needs {max(plain)}, at most 90 asked"
    yield from overheads(results, ("a", "b-hard", *scales), "Anderson", 1.5)


def slow_sample(results: Results, threads: int) -> Iterator[Verdict]:
    if "g" in results:
        theirs = named(results["g"], "torchdeq fixed_point_iter").wall
        for label, wall in (
            ("Picard", named(results["g"], "deqops Picard").wall),
            ("the best", best_wall(results["g"], "deqops ")),
        ):
            part = wall / theirs if theirs < math.inf else 0.0
            yield part <= 0.4, f"(g), deqops {label}: {part:.0%} of torchdeq's fixed_point_iter, at most 40 % asked"


def broyden(results: Results, memory: Mapping[str, Mapping[str, Sequence[Use]]]) -> Iterator[Verdict]:
    for name, uses in memory.items():
        first, last = uses["deqops"][0], uses["deqops"][-1]
        if last.evaluations > first.evaluations:
            slope = (last.peak - first.peak) / (last.evaluations - first.evaluations)
            text = f"Broyden's peak on ({name}): {slope:.2f} states an iteration done, torchdeq's {flat(uses)}"
            yield slope <= PER_ITERATION, f"{text}; at most {PER_ITERATION} asked"
    yield from overheads(results, ("a", "b", "b-hard"), "Broyden", 5.0)


def flat(uses: Mapping[str, Sequence[Use]]) -> str:
    use = uses["torchdeq"][0]
    return f"{use.peak:.0f} states after {use.evaluations}"


def walls(results: Results, threads: int) -> Iterator[Verdict]:
    leads = []
    for name, rows in results.items():
        ours = best_wall(rows, "deqops ")
        peer = min((row for row in rows if row.method.startswith(PEERS)), key=lambda row: row.wall)
        ahead, lead = peer.wall / ours, best_wall(rows, "torchdeq ") / ours
        leads.append(lead >= 1.5)
        text = f"({name}): the best peer, {peer.method}, takes {ahead:.2f} times as long, torchdeq's best {lead:.2f}"
        yield ahead >= 1.0, text
    if leads:
        yield 2 * sum(leads) > len(leads), f"1.5 times ahead of torchdeq's best on {sum(leads)} of {len(leads)}"


def print_verdicts(results: Results, memory: Mapping[str, Mapping[str, Sequence[Use]]], threads: int) -> None:
    parts = (
        picard(results, threads),
        anderson(results, threads),
        slow_sample(results, threads),
        broyden(results, memory),
        walls(results, threads),
    )
    for number, verdicts in enumerate(parts, start=1):
        found = list(verdicts)
        state = "not measured" if not found else "met" if all(ok for ok, _ in found) else "NOT MET"
        print(f"\ntarget {number}: {state}")
        for ok, text in found:
            print(f"  {'met' if ok else 'NOT MET':<8} {text}")

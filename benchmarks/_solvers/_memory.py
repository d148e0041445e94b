"""Broyden's peak memory against the iterations done, as torch's allocator reports it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

from deqops import Broyden

from . import _torchdeq
from ._ours import solution
from ._problem import Counter, Problem

TOLERANCES = (1e-1, 1e-3, 1e-5, 1e-7)


@dataclass(frozen=True)
class Use:
    """Evaluations done, and the peak of what was allocated meanwhile, in states."""

    evaluations: int
    peak: float


def peak_bytes(task: Callable[[], object]) -> int:
    """The largest sum of what a task had allocated and not freed."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        task()
    changes = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def uses(problem: Problem) -> dict[str, list[Use]]:
    """Ours without a restart, and torchdeq's, both allowed 200 iterations."""
    state = problem.start.numel() * problem.start.element_size()
    peer = _torchdeq.torchdeq("broyden")
    found: dict[str, list[Use]] = {"deqops": [], "torchdeq": []}
    for tolerance in TOLERANCES:
        counter = Counter(problem)
        peak = peak_bytes(lambda c=counter, t=tolerance: solution(problem, c, Broyden(memory=200), t, True))
        found["deqops"].append(Use(counter.evaluations, peak / state))
        task = peer.prepare(problem, {}, tolerance)
        found["torchdeq"].append(Use(task.counted().evaluations, peak_bytes(task.run) / state))
    return found


def warm_up() -> None:
    """The first profile of a process misses events."""
    peak_bytes(lambda: torch.zeros(8) + 1)

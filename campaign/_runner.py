"""Runs a section's chunks, in this process or in workers, saving each as it finishes."""

from __future__ import annotations

import itertools
import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from typing import TextIO

import torch

from ._section import Tally, run_cases
from ._state import State

Result = tuple[int, Tally, float]


def run_section(state: State, count: int, workers: int) -> None:
    """Run the first `count` cases (rounded up to whole chunks) that are not yet done.

    Raises:
        KeyboardInterrupt: interrupted; every finished chunk is saved.
    """
    chunks = -(-count // state.section.chunk)
    todo = [chunk for chunk in range(chunks) if chunk not in state.done]
    progress = _Progress(state, chunks, sys.stderr)
    for chunk, tally, seconds in _results(state, todo, workers):
        state.finish(chunk, tally, seconds)
        progress.show()
    progress.close()


def _results(state: State, todo: list[int], workers: int) -> Iterator[Result]:
    if workers <= 1 or len(todo) <= 1:
        for chunk in todo:
            yield _run_chunk(state.section.name, state.seed, chunk)
        return
    with _pool(workers) as pool:
        remaining, running = iter(todo), set[Future[Result]]()
        while True:
            for chunk in itertools.islice(remaining, 2 * workers - len(running)):
                running.add(pool.submit(_run_chunk, state.section.name, state.seed, chunk))
            if not running:
                return
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes; an interruption ends them at once."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        yield pool
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    torch.set_num_threads(1)


def _run_chunk(name: str, seed: int, chunk: int) -> Result:
    from ._sections import SECTIONS

    section, start = SECTIONS[name], time.monotonic()
    tally = run_cases(section, seed, chunk * section.chunk, section.chunk)
    return chunk, tally, time.monotonic() - start


class _Progress:
    """A line on stderr: done, total, rate, violations; rewritten on a terminal, else every half minute."""

    def __init__(self, state: State, chunks: int, stream: TextIO) -> None:
        self._state, self._chunks, self._stream = state, chunks, stream
        self._start, self._before = time.monotonic(), len(state.done)
        self._shown = 0.0

    def show(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if not last and not self._stream.isatty() and now - self._shown < 30:
            return
        self._shown = now
        state, size = self._state, self._state.section.chunk
        rate = (len(state.done) - self._before) * size / max(now - self._start, 1e-9)
        line = (
            f"{state.section.name}: {len(state.done) * size}/{self._chunks * size} cases, {rate:.1f}/s, "
            f"{len(state.tally.violations)} violations"
        )
        self._stream.write(f"\r{line}\x1b[K" if self._stream.isatty() else f"{line}\n")
        self._stream.flush()

    def close(self) -> None:
        self.show(last=True)
        if self._stream.isatty():
            self._stream.write("\n")

"""Solvers of other packages as stepping solvers: each problem's own call of one runs in a thread of its own.

The foreign solver calls a function for an image; that call hands the point to the loop and waits. So the loop
counts, judges, stops and batches the evaluations, whoever chooses the points.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deqops._errors import InputError
from deqops._tree import row_norms

Image = Callable[[Tensor], Tensor]
Search = Callable[[Image, Tensor], object]
"""A foreign solver: asks for images of (1, unknowns), starts at (1, unknowns); what it returns is not used."""

REPEATS = 100
"""A run that asks so often in a row for nothing new is ended: it can no longer move in the state's dtype."""


class _Released(BaseException):
    """Thrown into a foreign solver to end it; no `except Exception` of its own may keep it."""


class _Unusable(Exception):
    """The foreign solver ended by an error of its own before it asked for anything; that error is the cause."""


class _Run:
    """One call of the foreign solver, in its thread; only one of the two threads ever works."""

    def __init__(self, search: Search, point: Tensor, image: Tensor) -> None:
        self.known, self.repeats = (point, image), 0
        self.error: Exception | None = None  # what the foreign solver ended by
        self.asked: SimpleQueue[Tensor | None] = SimpleQueue()
        self.answers: SimpleQueue[Tensor | None] = SimpleQueue()
        self.thread = threading.Thread(target=self._work, args=(search, point), daemon=True, name="deqops-foreign")
        self.thread.start()

    def _work(self, search: Search, start: Tensor) -> None:
        try:
            with torch.no_grad(), np.errstate(all="ignore"):
                search(self._image, start.clone())
        except _Released:
            pass
        except Exception as error:  # whatever it gave up for, the loop judges the points
            self.error = error
        finally:
            self.asked.put(None)

    def _image(self, asked: Tensor) -> Tensor:
        """Asks the loop, except for the point whose image is known."""
        point = asked.detach().to(self.known[0].dtype).clone()
        if not torch.equal(point, self.known[0]):
            if not bool(point.isfinite().all()):
                raise _Released
            self.repeats = 0
            self.asked.put(point)
            image = self.answers.get()
            if image is None:
                raise _Released
            self.known = (point, image)
        self.repeats += 1
        if self.repeats > REPEATS:
            raise _Released
        return self.known[1].clone()

    def next(self) -> Tensor | None:
        """The next point it asks for; None where it has ended."""
        point = self.asked.get()
        if point is None:
            self.thread.join()
        return point

    def release(self) -> None:
        """Ends the run and its thread."""
        if self.thread.is_alive():
            self.answers.put(None)
            self.thread.join()


class _Problem:
    """One problem: its run, and the best point so far, from which a run starts anew."""

    def __init__(self) -> None:
        self.run: _Run | None = None
        self.last: Tensor | None = None
        self.best: tuple[float, Tensor, Tensor] | None = None
        self.improved = False
        self.asked = False  # some run of it has asked for a point

    def step(self, search: Search, z: Tensor, image: Tensor) -> Tensor:
        """The next point; the image where the loop has frozen the problem or nothing new is asked.

        Raises:
            _Unusable: the first run ended by an error before it asked for anything, so no run ever will.
        """
        if (self.last is not None and torch.equal(z, self.last)) or not bool(image.isfinite().all()):
            return image
        self.last = z.clone()
        self._remember(z, image)
        point = None
        if self.run is not None:
            self.run.answers.put(image.clone())
            point = self.run.next()
        return self._anew(search, image) if point is None else point

    def _remember(self, z: Tensor, image: Tensor) -> None:
        residual = float(row_norms((image - z).double())[0])
        if self.best is None or residual < self.best[0]:
            self.best, self.improved = (residual, z.clone(), image.clone()), True

    def _anew(self, search: Search, image: Tensor) -> Tensor:
        """The first point that a new run asks for; Picard's where the last run found nothing better."""
        self.run = None
        if self.best is None or not self.improved:
            self.improved = True
            return image
        self.improved = False
        self.run = _Run(search, self.best[1], self.best[2])
        point = self.run.next()
        if point is None:
            error, self.run = self.run.error, None
            if error is not None and not self.asked:
                raise _Unusable from error
            return image
        self.asked = True
        return point

    def close(self) -> None:
        if self.run is not None:
            self.run.release()


def as_options(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy of the options, none for None.

    Raises:
        InputError: they are no mapping from names.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise InputError(f"options: a dict from names to values is needed, got {given!r}")
    return dict(given)


class Foreign:
    """Base of the adapters: `search` calls the foreign solver for one problem."""

    def search(self, image: Image, start: Tensor) -> object:
        """Calls the foreign solver, without a tolerance of its own."""
        raise NotImplementedError

    def init(self, z: Tensor) -> list[_Problem]:
        """No run has begun before the first evaluation."""
        return [_Problem() for _ in range(z.shape[0])]

    def step(self, memory: list[_Problem], z: Tensor, image: Tensor) -> tuple[Tensor, list[_Problem]]:
        """The point that each problem's foreign solver asks for next.

        Raises:
            InputError: it fails before its first step, so its options are wrong.
        """
        try:
            rows = [p.step(self.search, z[i : i + 1], image[i : i + 1]) for i, p in enumerate(memory)]
        except _Unusable as unusable:
            error = unusable.__cause__
            told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise InputError(f"options: {self!r} failed before its first step ({told}); change them") from error
        return torch.cat(rows), memory

    def close(self, memory: list[_Problem]) -> None:
        """Ends every run and its thread."""
        for problem in memory:
            problem.close()

"""Which problem each entry of a source or of its form belongs to, wherever the network keeps its problems.

The largest moduli of derivatives say what an entry depends on, and problems do not mix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _arithmetic as ball
from ._affine import Source
from ._gains import magnitude_of, sloped_magnitude

_APART = 0.1  # from a whole number: more shows that the numbers were too large or too small to tell


@dataclass(frozen=True, eq=False)
class Owners:
    """The numbers of the problems, one for each entry, -1 for what may be any one's; None for one, or where unknown."""

    numbers: NDArray[Any] | None
    problems: int

    def parts(self, columns: ball.Balls) -> list[ball.Balls]:
        """The rows of (*shape, n) that each problem may have; all of them where it is unknown."""
        rows = columns.reshape(-1, columns.shape[-1])
        if self.numbers is None:
            return [rows]
        return [rows[(self.numbers == number) | (self.numbers < 0)] for number in range(self.problems)]


def problems_of_entries(sources: list[Source], problems: int) -> list[Owners]:
    """Those of each source."""
    if problems == 1:
        return [Owners(None, 1) for _ in sources]
    found: list[Owners] = []
    counts, labels = list[ball.Balls](), list[ball.Balls]()
    for source in sources:
        if source.form is None:
            count = ball.full(1, source.shape)
            each = np.arange(1, problems + 1).reshape(-1, *(1,) * (len(source.shape) - 1))
            label = ball.times(count, np.broadcast_to(each, source.shape).astype(object))
        else:
            count, label = (sloped_magnitude(source, magnitude_of(source.form, known)) for known in (counts, labels))
        numbers = _told(count, label)
        if numbers is None:
            return [Owners(None, problems) for _ in sources]
        found.append(Owners(numbers - 1, problems))
        counts.append(ball.balls((numbers > 0).astype(int).tolist(), source.shape))
        labels.append(ball.balls(numbers.tolist(), source.shape))
    return found


def _told(count: ball.Balls, label: ball.Balls) -> NDArray[np.int64] | None:
    """The number of each entry's problem, from 1; 0 where nothing is there, None where they cannot be told."""
    top = np.array([float(x.mid()) for x in count.reshape(-1)]), np.array([float(x.mid()) for x in label.reshape(-1)])
    if not all(np.isfinite(part).all() for part in top):
        return None
    ratio = np.divide(top[1], top[0], out=np.zeros_like(top[0]), where=top[0] > 0)
    numbers = np.rint(ratio)
    return numbers.astype(np.int64) if not len(ratio) or np.abs(ratio - numbers).max() <= _APART else None

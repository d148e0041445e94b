"""Operators that write into what they were given, or into what they returned before, are refused: no iterate lasts.

torch counts the writes to a tensor; not those to tensors made in inference mode, whose numbers are compared in the
first evaluations.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from deqops._errors import InputError

COMPARED = 2
"""Evaluations whose numbers are compared in inference mode: the second shows a buffer that is used again."""


class Unwritten:
    """The same call, watched.

    Args:
        evaluate: an operator on (problems, unknowns), plain tensors.
    """

    def __init__(self, evaluate: Callable[[Tensor], Tensor]) -> None:
        self._evaluate = evaluate
        self._image: Tensor | None = None  # the last one, which the loop holds as well
        self._left = COMPARED

    def __call__(self, rows: Tensor) -> Tensor:
        """The image of these rows.

        Raises:
            InputError: it was written to them, or to the image before.
        """
        before = rows if self._image is None else self._image
        if rows.is_inference() or before.is_inference():
            self._image = self._compared(rows, before)
            return self._image
        counts = rows._version, before._version
        image = self._evaluate(rows)
        if (rows._version, before._version) != counts:
            raise _refusal()
        self._image = image
        return image

    def _compared(self, rows: Tensor, before: Tensor) -> Tensor:
        if not self._left:
            return self._evaluate(rows)
        self._left -= 1
        kept = rows.clone(), before.clone()
        image = self._evaluate(rows)
        for tensor, numbers in zip((rows, before), kept, strict=True):
            if not torch.equal(tensor.nan_to_num(), numbers.nan_to_num()):
                raise _refusal()
        return image


def _refusal() -> InputError:
    return InputError(
        "G: it writes into the state it is given, or into what it returned before (an in-place operation, out=, "
        "ReLU(inplace=True)); let it return new tensors, or work on state.clone()"
    )

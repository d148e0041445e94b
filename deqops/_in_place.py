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
        watched = [rows] if self._image is None else [rows, self._image]
        before = [self._state(tensor) for tensor in watched]
        image = self._evaluate(rows)
        for tensor, state in zip(watched, before, strict=True):
            if state is not None and not _is_same(tensor, state):
                raise InputError(
                    "G: it writes into the state it is given, or into what it returned before (an in-place "
                    "operation, out=, ReLU(inplace=True)); let it return new tensors, or work on state.clone()"
                )
        self._left = max(0, self._left - 1)
        self._image = image
        return image

    def _state(self, tensor: Tensor) -> int | Tensor | None:
        if not tensor.is_inference():
            return tensor._version
        return tensor.clone() if self._left else None


def _is_same(tensor: Tensor, before: int | Tensor) -> bool:
    if isinstance(before, Tensor):
        return torch.equal(tensor, before) or bool(tensor.isnan().any())
    return tensor._version == before

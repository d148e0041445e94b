"""What an image's gradients would reach."""

from __future__ import annotations

from typing import Any

from torch import Tensor

CHECKPOINT = "CheckpointFunctionBackward"
"""Of torch.utils.checkpoint with use_reentrant=True; its backward pass says that it cannot serve ours."""


def needs_gradients_beyond(image: Tensor, start: Tensor) -> bool:
    """Whether anything but `start`, a result of a function of ours, takes part in the image's graph.

    The walk ends at the first leaf that it meets, or at a reentrant checkpoint, whose weights are not in the graph.
    """
    if image.grad_fn is None:
        return image.requires_grad  # a leaf itself
    seen: set[Any] = {start.grad_fn}
    waiting: list[Any] = [image.grad_fn]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)  # alive, so that its identity is not given away
        behind = [following for following, _ in node.next_functions if following is not None]
        if not behind or type(node).__name__ == CHECKPOINT:
            return True
        waiting.extend(behind)
    return False

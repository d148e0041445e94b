"""Which entries of tensors that were made without values have been written since."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Unwritten:
    """Tensors made by `new_empty`, until every entry of their memory is written.

    `masks` says of each entry of the memory whether it was written; the tensors are kept, so that no memory is used
    again under the same address.
    """

    masks: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)  # memory: (the tensor, written)

    def add(self, tensor: Tensor) -> None:
        """A contiguous tensor that holds no values yet."""
        if tensor.numel():
            self.masks[memory_of(tensor)] = tensor, torch.zeros(tensor.numel(), dtype=torch.bool)

    def __contains__(self, tensor: Tensor) -> bool:
        """Whether a tensor shares memory of which some entries were never written."""
        return memory_of(tensor) in self.masks

    def write(self, tensor: Tensor, key: Any = ...) -> None:
        """The tensor's entries, or those that an index names, were written."""
        found = self.masks.get(memory_of(tensor))
        if found is None or tensor.dtype != found[0].dtype:  # of another dtype: a place is not an entry
            return
        written = found[1]
        written.as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())[key] = True
        if bool(written.all()):
            del self.masks[memory_of(tensor)]


def memory_of(tensor: Tensor) -> int:
    """The address of a tensor's memory, which its views share."""
    return int(tensor.untyped_storage().data_ptr())

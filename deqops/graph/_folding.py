"""Numbers that a module reads from its own constant tensors, computed while it is exported.

`int(index.max()) + 1` of an index that is not an argument is a constant, but `torch.export` does not know that: it
sees a number that depends on data. `folded` wraps a module so that the functions listed here, applied to such constant
tensors alone, are computed at once. Each of them gives exactly the real numbers it stands for: it moves, compares or
counts. Whatever reaches an argument or a parameter is left to `torch.export`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes

from deqops._errors import UnsupportedOperationError
from deqops.graph._operations import FRESH

_EXACT = frozenset(
    """__getitem__ select narrow unbind reshape view flatten t transpose permute squeeze unsqueeze clone detach
    contiguous max min amax amin eq ne lt le gt ge __eq__ __ne__ all any triu tril unique bincount nonzero
    expand expand_as view_as item tolist __int__ __bool__ __index__ __len__""".split()  # noqa: SIM905 - reads as one
)
_OF_INTEGERS = frozenset("add sub mul __add__ __sub__ __mul__ __radd__ __rmul__ sum cumsum diff argsort sort".split())  # noqa: SIM905
_FACTORIES = frozenset("full zeros ones arange eye".split())  # noqa: SIM905
_LIKE = frozenset("new_zeros new_ones new_full new_empty zeros_like ones_like full_like".split())  # noqa: SIM905
_INTEGERS = (None, torch.int64, torch.int32, torch.bool)
_FILLING = frozenset("scatter_add_ index_add_ fill_ zero_ __setitem__".split())  # noqa: SIM905 - what was just made


_WRITING = frozenset("__setitem__ __set__ __iadd__ __isub__ __imul__ __iand__ __ior__ __ixor__".split())  # noqa: SIM905
_FRESH_NAMES = frozenset(name.split(".")[1] for name in FRESH)


class _Folding(TorchFunctionMode):
    """Computes at once what is only asked of constants.

    Args:
        factories: whether tensors that the module makes itself count as constants too.
    """

    def __init__(self, factories: bool) -> None:
        super().__init__()
        self._factories = factories
        self._aliased: set[torch.dtype] = set()  # of results that may share a constant's memory
        self._private: dict[int, Tensor] = {}  # integers made here that no graph holds, by their memory

    def __torch_function__(
        self, function: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        tensors = [leaf for leaf in pytree.tree_leaves((args, given)) if isinstance(leaf, Tensor)]
        constant = [_is_constant(tensor) for tensor in tensors]
        name = str(getattr(function, "__name__", ""))
        if all(constant) and (self._folds(name, tensors, given) or self._fills(name, tensors, args, given)):
            with _disable_current_modes():
                result = function(*args, **given)
            if name in _LIKE | _FACTORIES and _are_integers([result]):
                self._private[_memory(result)] = result
            return result
        self._refuse_changes(name, args, given)
        for tensor, is_own in zip(tensors, constant, strict=True):
            if is_own:
                self._private.pop(_memory(tensor), None)
        result = function(*args, **given)
        if name.strip("_") not in _FRESH_NAMES:
            own = {tensor.dtype for tensor, is_own in zip(tensors, constant, strict=True) if is_own}
            self._aliased |= own & {leaf.dtype for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)}
        return result

    def _refuse_changes(self, name: str, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        """Nothing may be written to a constant, nor to what may share its memory: it was, or will be, looked at."""
        written = [given.get("out")]
        if (name.endswith("_") and not name.endswith("__")) or name in _WRITING:
            written += args[:1]
        for tensor in pytree.tree_leaves(written):
            if isinstance(tensor, Tensor) and (_is_constant(tensor) or tensor.dtype in self._aliased):
                raise UnsupportedOperationError(f"torch.{name}", "may change a constant of the module")

    def _folds(self, name: str, tensors: list[Tensor], given: dict[str, Any]) -> bool:
        if given.get("out") is not None:
            return False
        if not tensors:
            return self._factories and name in _FACTORIES
        if name in _LIKE:
            return _are_integers(tensors) and given.get("dtype") in _INTEGERS
        return name in _EXACT or (_are_integers(tensors) and name in _OF_INTEGERS)

    def _fills(self, name: str, tensors: list[Tensor], args: tuple[Any, ...], given: dict[str, Any]) -> bool:
        """Whether integers are written into integers that were made here and that nothing but folding has seen."""
        target = given.get("out") if name in _OF_INTEGERS else args[0] if args and name in _FILLING else None
        return isinstance(target, Tensor) and _memory(target) in self._private and _are_integers(tensors)


def _are_integers(tensors: list[Tensor]) -> bool:
    return not any(tensor.is_floating_point() or tensor.is_complex() for tensor in tensors)


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage().data_ptr())


def _is_constant(tensor: Tensor) -> bool:
    """A tensor with values of its own: no argument under export, no parameter, nothing that a transform wraps."""
    wrapped = torch._is_functional_tensor(tensor) or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    return type(tensor) is Tensor and tensor.device.type == "cpu" and not wrapped


class _Folded(nn.Module):
    def __init__(self, module: nn.Module, factories: bool) -> None:
        super().__init__()
        self.module, self.factories = module, factories
        self.training = module.training

    def forward(self, state: Any, *inputs: Any) -> Any:
        with _Folding(self.factories):
            return self.module(state, *inputs)


def folded(module: nn.Module) -> list[nn.Module]:
    """The module with its constants looked at: those it holds, then also those it makes."""
    return [_Folded(module, factories) for factories in (False, True)]

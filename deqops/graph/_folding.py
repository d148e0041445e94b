"""Numbers that a module reads from its own constant tensors, computed while it is exported.

`int(index.max()) + 1` of an index that is not an argument is a constant, but `torch.export` does not know that: it
sees a number that depends on data. `folded` wraps a module so that the functions listed here, applied to such constant
tensors alone, are computed at once. Each of them gives exactly the real numbers it stands for: it moves, compares or
counts. Whatever reaches an argument or a parameter is left to `torch.export`. Integers that the module makes and fills
itself are computed as well, until a graph sees them; memory that it reads without having written to it is refused.
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
from deqops.graph._unwritten import Unwritten, memory_of

_EXACT = frozenset(
    """__getitem__ select narrow unbind reshape view flatten t transpose permute squeeze unsqueeze clone detach
    contiguous max min amax amin eq ne lt le gt ge __eq__ __ne__ all any triu tril unique bincount nonzero
    expand expand_as view_as item tolist __int__ __bool__ __index__ __len__""".split()  # noqa: SIM905 - reads as one
)
_OF_INTEGERS = frozenset("add sub mul __add__ __sub__ __mul__ __radd__ __rmul__ sum cumsum diff argsort sort".split())  # noqa: SIM905
_FACTORIES = frozenset("full zeros ones arange eye".split())  # noqa: SIM905
_LIKE = frozenset("new_zeros new_ones new_full new_empty zeros_like ones_like full_like".split())  # noqa: SIM905
_INTEGERS = (None, torch.int64, torch.int32, torch.bool)
_ADDING = frozenset("scatter_add_ index_add_".split())  # noqa: SIM905 - to what was made here
_FILLING = frozenset("fill_ zero_ __setitem__".split())  # noqa: SIM905 - what was made here, whatever it held
_ASKING = frozenset("size dim numel stride __get__ __len__".split())  # noqa: SIM905 - for the shape, no value
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
        self._unwritten = Unwritten()

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
                self._note(name, result, args, given, tensors)
            return result
        self._refuse_changes(name, args, given)
        own = [tensor for tensor, is_own in zip(tensors, constant, strict=True) if is_own]
        for tensor in own:
            self._private.pop(memory_of(tensor), None)
        result = function(*args, **given)
        if any(tensor in self._unwritten for tensor in own) and not _says_nothing(name, result):
            raise _unwritten(name)
        if name.strip("_") not in _FRESH_NAMES:
            dtypes = {tensor.dtype for tensor in own}
            self._aliased |= dtypes & {leaf.dtype for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)}
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
        target = _target(name, args, given)
        return isinstance(target, Tensor) and memory_of(target) in self._private and _are_integers(tensors)

    def _note(
        self, name: str, result: Any, args: tuple[Any, ...], given: dict[str, Any], tensors: list[Tensor]
    ) -> None:
        """Keep account of what was computed at once: of memory that was made, and of what was written to it."""
        target = _target(name, args, given)
        filled = target if name not in _ADDING else None
        read = [tensor for tensor in tensors if tensor is not filled]
        looks = target is None and _is_view(result, read)
        if any(tensor in self._unwritten for tensor in read) and not looks:
            raise _unwritten(name)
        if isinstance(filled, Tensor):
            self._unwritten.write(filled, args[1] if name == "__setitem__" else ...)
        if name in _LIKE | _FACTORIES and _are_integers([result]):
            self._private[memory_of(result)] = result
            if name == "new_empty":
                self._unwritten.add(result)


def _target(name: str, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
    """What an operation writes to; None where it is not one of those that may."""
    if name in _FILLING | _ADDING:
        return args[0] if args else None
    return given.get("out") if name in _OF_INTEGERS else None


def _is_view(result: Any, tensors: list[Tensor]) -> bool:
    """Whether all of a result is memory of these tensors, so that no value was read."""
    memory = {memory_of(tensor) for tensor in tensors}
    leaves = pytree.tree_leaves(result)
    return all(isinstance(leaf, Tensor) and memory_of(leaf) in memory for leaf in leaves)


def _says_nothing(name: str, result: Any) -> bool:
    """Whether an operation only asked for what is known without values."""
    return name in _ASKING and not any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(result))


def _unwritten(name: str) -> UnsupportedOperationError:
    return UnsupportedOperationError(f"torch.{name}", "reads memory that nothing was written to")


def _are_integers(tensors: list[Tensor]) -> bool:
    return not any(tensor.is_floating_point() or tensor.is_complex() for tensor in tensors)


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

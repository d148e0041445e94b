"""torch.func's transforms around a solve: what is inside them as plain rows, and back again.

A tensor inside transforms is wrapped once per transform that concerns it. Beneath the wrappers lies a plain tensor that
has a dimension more for each `vmap`: to the loop these are further problems. G itself is always called inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch as functorch
from torch.autograd import forward_ad

from deqops._errors import InputError

Rows = Callable[[Tensor], Tensor]


_ONE_LEVEL = RLock()
"""Forward differentiation has one level for the whole process: solves in threads take turns."""


def is_transformed() -> bool:
    """Whether this runs inside a transform of torch.func, or inside a level of forward differentiation."""
    return functorch.maybe_current_level() is not None or is_dual()


def is_dual() -> bool:
    """Whether a level of forward differentiation is open that another thread's solve has not opened for itself."""
    if forward_ad._current_level < 0:
        return False
    with _ONE_LEVEL:
        return forward_ad._current_level >= 0


@contextmanager
def dual_level() -> Iterator[None]:
    """A level of forward differentiation of one's own, without backward derivatives.

    Raises:
        InputError: one is open already.
    """
    with _ONE_LEVEL, torch.no_grad(), forward_ad._set_fwd_grad_enabled(True):
        if forward_ad._current_level >= 0:
            raise InputError(
                "solver: NewtonKrylov differentiates forward itself and so cannot run inside torch.func.jvp, jacfwd or "
                "forward_ad; use Anderson(), or torch.func.jacrev"
            )
        with forward_ad.dual_level():
            yield


@dataclass(frozen=True)
class Level:
    """A transform: `size` is how many calls a `vmap` maps over, None for a derivative."""

    number: int
    size: int | None = None
    forward: bool = False
    randomness: str = "error"

    def begun(self) -> Callable[[], Any]:
        """Begin one of the same kind; returns what ends it."""
        if self.size is not None:
            functorch._vmap_increment_nesting(self.size, self.randomness)
            return functorch._vmap_decrement_nesting
        if self.forward:
            functorch._jvp_increment_nesting()
            return functorch._jvp_decrement_nesting
        functorch._grad_increment_nesting()
        return functorch._grad_decrement_nesting


class Levels:
    """The transforms around the current call, outermost first."""

    def __init__(self, levels: list[Level], layers: list[Any]) -> None:
        self.levels, self._layers = levels, layers
        self.dual = is_dual()  # forward differentiation without torch.func, or below it

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Back inside, from `outside()`."""
        pushed = 0
        try:
            for layer in self._layers:
                functorch.push_dynamic_layer_stack(layer)
                pushed += 1
            yield
        finally:
            for _ in range(pushed):
                functorch.pop_dynamic_layer_stack()

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Inside the same transforms, begun where gradients are enabled: plain autograd records what happens.

        Beneath those that were begun without gradients it does not, whatever is enabled inside.
        """
        ends: list[Callable[[], Any]] = []
        try:
            for level in self.levels:
                ends.append(level.begun())
            yield
        finally:
            for end in reversed(ends):
                end()

    def beneath(self, tensor: Tensor) -> tuple[Tensor, list[int]]:
        """The plain tensor, and for each dimension of it the number of its `vmap`, or its own place from the end."""
        labels = list(range(-tensor.ndim, 0))
        for level in reversed(self.levels):
            if level.size is None:
                tensor = functorch._unwrap_for_grad(tensor, level.number)
            else:
                tensor, place = functorch._unwrap_batched(tensor, level.number)
                if place is not None:
                    labels.insert(place, level.number)
        return tensor, labels

    def orders(self, tensor: Tensor, most: int) -> int:
        """How many derivatives of the tensor may be asked for: one by each transform, `most` by plain autograd."""
        count = 0
        for level in reversed(self.levels):
            if level.size is not None:
                tensor, _ = functorch._unwrap_batched(tensor, level.number)
            else:
                wrapped = functorch.maybe_get_level(tensor) == level.number
                count += wrapped and (level.forward or tensor.requires_grad)
                tensor = functorch._unwrap_for_grad(tensor, level.number)
        tangent = self.dual and forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]
        return count + int(tangent) + (most if tensor.requires_grad else 0)


@contextmanager
def outside() -> Iterator[Levels]:
    """Outside of all transforms: operations see and make plain tensors only."""
    levels = [_level(interpreter) for interpreter in functorch.get_interpreter_stack() or ()]
    layers: list[Any] = []
    try:
        while functorch.peek_interpreter_stack() is not None:
            layers.append(functorch.pop_dynamic_layer_stack())
        yield Levels(levels, layers[::-1])
    finally:
        while layers:
            functorch.push_dynamic_layer_stack(layers.pop())


def _level(interpreter: Any) -> Level:
    kind, number = interpreter.key(), interpreter.level()
    if kind == functorch.TransformType.Vmap:
        mapped = functorch.CVmapInterpreterPtr(interpreter)
        return Level(number, mapped.batchSize(), randomness=mapped.randomness().name.lower())
    if kind not in (functorch.TransformType.Grad, functorch.TransformType.Jvp):
        raise InputError(
            f"solve: it does not run inside torch.func's {kind.name}; use vmap, grad, vjp, jvp or the like"
        )
    return Level(number, forward=kind == functorch.TransformType.Jvp)


@dataclass(frozen=True, eq=False)
class Lift:
    """Rows of one call as plain rows of all mapped calls, one after the other; used outside.

    Attributes:
        levels: the transforms.
        mapped: the `vmap`s that the problems differ in, outermost first.
        shape: of the rows of one call, (problems, unknowns).
    """

    levels: Levels
    mapped: tuple[Level, ...]
    shape: torch.Size

    @staticmethod
    def of(levels: Levels, *rows: Tensor) -> Lift:
        """The lift for rows of the same shape that may be mapped differently."""
        numbers = {label for tensor in rows for label in levels.beneath(tensor)[1]}
        return Lift(levels, tuple(level for level in levels.levels if level.number in numbers), rows[0].shape)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many calls each `vmap` maps over."""
        return tuple(level.size or 0 for level in self.mapped)

    def plain(self, tensor: Tensor) -> Tensor:
        """What one call has, for all calls: (*sizes, *shape of one call's)."""
        return self._arranged(*self.levels.beneath(tensor))

    def _arranged(self, inner: Tensor, labels: list[int]) -> Tensor:
        numbers = [level.number for level in self.mapped]
        if any(label > 0 and label not in numbers for label in labels):
            raise InputError("G: its images are mapped by a vmap that its first image was not; map the start y0 too")
        here = [number for number in numbers if number in labels]
        own = [label for label in labels if label < 0]
        inner = inner.permute([labels.index(label) for label in (*here, *own)])
        for place, number in enumerate(numbers):
            if number not in here:
                inner = inner.unsqueeze(place)
        return inner.expand(*self.sizes, *inner.shape[len(numbers) :])

    def rows(self, tensor: Tensor) -> Tensor:
        """(problems, unknowns) of one call as (all problems, unknowns)."""
        return self.plain(tensor).reshape(-1, tensor.shape[-1])

    def wrapped(self, plain: Tensor) -> Tensor:
        """What one call sees of (*sizes, ..)."""
        for level in self.mapped:
            plain = functorch._add_batch_dim(plain, 0, level.number)
        return plain

    def of_problems(self, numbers: Tensor) -> Tensor:
        """What one call sees of (all problems, ..): (problems, ..)."""
        return self.wrapped(numbers.reshape(*self.sizes, self.shape[0], *numbers.shape[1:]))

    def lifted(self, operator: Rows, *, recorded: bool = False) -> Rows:
        """The operator, called inside, on all problems; `recorded` by plain autograd.

        Raises:
            InputError: (by a call) it is to be recorded, and is not.
        """

        def on_all(rows: Tensor) -> Tensor:
            state = self.of_problems(rows)
            with self.levels.recorded() if recorded else self.levels.inside():
                if recorded and not self.levels.beneath(1 * state)[0].requires_grad:
                    raise InputError(
                        "solve: nothing records derivatives here, as in inference_mode; use torch.no_grad() there"
                    )
                image = self.levels.beneath(operator(state))
            return self._arranged(*image).reshape(rows.shape)

        return on_all


@contextmanager
def without_derivatives() -> Iterator[None]:
    """Neither backward nor forward ones."""
    with torch.no_grad(), forward_ad._set_fwd_grad_enabled(False):
        yield


def placed(tensor: Tensor, dim: int | None, place: int, size: int) -> Tensor:
    """The mapped dimension at that place; one of this size is made where there is none."""
    if dim is not None:
        return tensor.movedim(dim, place)
    shape = (*tensor.shape[:place], size, *tensor.shape[place:])
    return tensor.unsqueeze(place).expand(shape)

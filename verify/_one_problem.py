"""The Jacobian expression of one problem of a batch, and which problems have the same one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ._conv_map import Convolution
from ._jacobian import Basis, Combination, Elementwise, Jacobian, StateLeaf, Subtotal
from ._linear import Diagonal, Kron, LinearMap, Reshape, Stage
from ._stack import Stack


def distinct_problems(jacobian: Jacobian, batch_dims: int) -> tuple[int, ...] | None:
    """For each problem the first one that has the same expression; None where maps do not act problem by problem.

    Slopes over a region differ from problem to problem, and so may an entrywise factor; all other maps are shared.
    """
    if not batch_dims:
        return (0,)
    if not all(isinstance(basis, Elementwise | StateLeaf | Subtotal) for basis in jacobian.bases):
        return None
    if not all(_acts_on_each(stage) for one in _maps(jacobian) for stage in one.stages):
        return None
    problems = jacobian.outputs[0].shape[0]
    varying = [part.reshape(problems, -1) for part in _varying(jacobian) if bool((part != part[:1]).any())]
    first: dict[bytes, int] = {}
    keys = [b"".join(part[number].numpy().tobytes() for part in varying) for number in range(problems)]
    return tuple(first.setdefault(key, number) for number, key in enumerate(keys))


def one_problem(jacobian: Jacobian, number: int, batch_dims: int) -> Jacobian:
    """The expression of one problem, its leading dimension kept with size 1; maps act problem by problem."""
    if not batch_dims or jacobian.outputs[0].shape[0] == 1:
        return jacobian
    bases = tuple(_basis(basis, number) for basis in jacobian.bases)
    return Jacobian(bases, tuple(_combination(output, number) for output in jacobian.outputs))


def _maps(jacobian: Jacobian) -> Iterator[LinearMap]:
    sources = [basis.source for basis in jacobian.bases if not isinstance(basis, StateLeaf)]
    for combination in (*sources, *jacobian.outputs):
        for several in combination.terms.values():
            yield from several


def _acts_on_each(stage: Stage) -> bool:
    if isinstance(stage, Kron):
        return bool(stage.perm) and stage.perm[0] == 0 and stage.matrices[0] is None
    if isinstance(stage, Reshape):
        return stage.in_shape[:1] == stage.out_shape[:1] != ()
    return not isinstance(stage, Stack)


def _varying(jacobian: Jacobian) -> Iterator[Tensor]:
    """What may differ from problem to problem, each with the problems along dimension 0."""
    for basis in jacobian.bases:
        if isinstance(basis, Elementwise):
            yield from (end.expand(basis.shape) for end in (basis.lower, basis.upper) if isinstance(end, Tensor))
    for one in _maps(jacobian):
        for stage in one.stages:
            if isinstance(stage, Diagonal):
                yield from (stage.values.mid, stage.values.rad)


def _basis(basis: Basis, number: int) -> Basis:
    shape = (1, *basis.shape[1:])
    if isinstance(basis, StateLeaf):
        return replace(basis, shape=shape)
    if isinstance(basis, Subtotal):
        return replace(basis, source=_combination(basis.source, number), shape=shape)
    if not isinstance(basis, Elementwise):
        raise ValueError(f"{basis.name} is not taken apart")
    ends = (_row(end, basis.shape, number) for end in (basis.lower, basis.upper))
    lower, upper = ends
    return Elementwise(basis.name, _combination(basis.source, number), shape, lower, upper, basis.function)


def _row(end: Tensor | float, shape: tuple[int, ...], number: int) -> Tensor | float:
    return end.expand(shape)[number : number + 1] if isinstance(end, Tensor) else end


def _combination(combination: Combination, number: int) -> Combination:
    terms = {k: tuple(_map(one, number) for one in several) for k, several in combination.terms.items()}
    return Combination((1, *combination.shape[1:]), terms)


def _map(one: LinearMap, number: int) -> LinearMap:
    return LinearMap((1, *one.in_shape[1:]), tuple(_stage(stage, number) for stage in one.stages))


def _stage(stage: Stage, number: int) -> Stage:
    if isinstance(stage, Diagonal):
        return Diagonal(stage.values.apply_exact(lambda t: t[number : number + 1]))
    if isinstance(stage, Reshape):
        return Reshape((1, *stage.in_shape[1:]), (1, *stage.out_shape[1:]))
    if isinstance(stage, Stack):
        raise ValueError("matrices that differ or vary are not taken apart")
    if isinstance(stage, Convolution):
        return replace(stage, in_shape=(1, *stage.in_shape[1:]))
    return replace(stage, in_shape=(1, *stage.in_shape[1:]))


def size_of_problem(shape: tuple[int, ...], batch_dims: int) -> int:
    """Entries of a value that belong to one problem."""
    return math.prod(shape[batch_dims:])


def per_problem(values: list[Tensor]) -> Tensor:
    """One tensor with a row for each problem from tensors with a leading dimension 1."""
    return torch.cat(values, dim=0)

"""T9 `refute`: two points that G does not bring closer, found by search and verified in enclosures."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from . import _midrad as midrad
from ._evidence import Evidence
from ._membership import within
from ._midrad import MidRad
from ._norm import Norm
from ._problem import Problem
from ._region import Ball, Box, Region
from ._rounding import exact_float64, sub_down
from ._steepest import steepest_states

_STEPS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
_STARTS = 3
_CLEARLY = 0.98  # a gain below this is not rounding
_ALIGNED = 1e-7  # a direction that moves less has been found
Flat = Callable[[Tensor], Tensor]


def refuting_points(problem: Problem, inputs: tuple[object, ...], norm: Norm, region: Region) -> Evidence | None:
    """Two states y, z with `||G(y) - G(z)|| >= ||y - z|| > 0` proven, in the region; None where none was found.

    The search maximises the gain `||J(y) v|| / ||v||` over y and v in the model's own arithmetic; what it finds is
    only a proposal. Finding none proves nothing.
    """
    search = _Search(problem, inputs, norm, region)
    for point in search.points():
        direction = search.direction(point)
        for step in _STEPS:
            witness = search.verified(point, direction, step)
            if witness is not None:
                return witness
    return None


class _Search:
    def __init__(self, problem: Problem, inputs: tuple[object, ...], norm: Norm, region: Region) -> None:
        self._problem, self._norm, self._region = problem, norm, region
        self._inputs = inputs
        self._examples = problem.example
        self._batch = self._examples[0].shape[0] if problem.batch_dims else 1
        self._weights = self._flat_weights()

    def points(self) -> Iterator[Tensor]:
        """Where the Jacobian may be large: steepest arguments, the centre, zero, ascents of the gain."""
        if isinstance(self._region, Ball):
            starts = [self._flatten(list(self._region.leaves))]
        elif isinstance(self._region, Box):
            starts = [self._flatten(list(self._region.middle))]
        else:
            yield from (self._flatten(leaves) for leaves in steepest_states(self._problem))
            generator = torch.Generator().manual_seed(0)
            base = self._flatten(self._examples)
            noise = [torch.randn(base.shape, generator=generator, dtype=base.dtype) for _ in range(_STARTS - 2)]
            starts = [base, torch.zeros_like(base), *noise]
        yield from starts
        yield from (self._ascend(start) for start in starts)

    def direction(self, point: Tensor) -> Tensor:
        """A direction whose image under the Jacobian at a point is nearly longest, each problem of norm 1."""
        finder = {"l2": self._power, "linf": self._row, "l1": self._column}[self._norm.order]
        try:
            return finder(point)
        except RuntimeError:  # G has no derivatives here, or torch none of them
            return self._any_direction(point)

    def verified(self, point: Tensor, direction: Tensor, step: float) -> Evidence | None:
        """The pair point +- step/2 * direction, if it refutes in enclosures."""
        size = step * max(1.0, float(point.abs().max()))
        if isinstance(self._region, Ball):
            size = min(size, self._region.radius)
        first, second = (self._kept(point + side * size / 2 * direction) for side in (1, -1))
        if not bool(first.isfinite().all() & second.isfinite().all()) or self._hopeless(first, second):
            return None
        y, z = self._leaves(first), self._leaves(second)
        growth = self._growth(y, z)
        inside = self._inside(y) & self._inside(z)
        best = torch.where(inside, growth, torch.full_like(growth, -1.0))
        number = int(best.argmax())
        if not bool(best[number] >= 0):
            return None
        points = {"first": tuple(map(exact_float64, y)), "second": tuple(map(exact_float64, z))}
        return Evidence("two_points", counts={"problem": number}, tensors=points)

    def _kept(self, point: Tensor) -> Tensor:
        """The nearest point of a box; the point itself elsewhere."""
        if not isinstance(self._region, Box):
            return point
        low, high = (self._flatten(list(leaves)) for leaves in self._region.ends)
        return torch.maximum(low, torch.minimum(point, high))

    def _hopeless(self, first: Tensor, second: Tensor) -> bool:
        """Whether the model's own arithmetic sees a pair come clearly closer, in every problem."""
        power = {"l1": 1.0, "l2": 2.0, "linf": torch.inf}[self._norm.order]
        x, z = first * self._weights, second * self._weights
        with torch.no_grad():
            after = torch.linalg.vector_norm(self._map(x) - self._map(z), power, dim=1)
        return bool((after < _CLEARLY * torch.linalg.vector_norm(x - z, power, dim=1)).all())

    def _growth(self, y: list[Tensor], z: list[Tensor]) -> Tensor:
        """Lower bound of `||G(y) - G(z)|| - ||y - z||` where y differs from z, else -1; per problem."""
        image_y, image_z = self._problem.image(y), self._problem.image(z)
        exact_y, exact_z = ([MidRad.exact(exact_float64(t)) for t in leaves] for leaves in (y, z))
        batch_dims = self._problem.batch_dims
        after = [midrad.sub(a, b).mignitude() for a, b in zip(image_y, image_z, strict=True)]
        before = [midrad.sub(a, b) for a, b in zip(exact_y, exact_z, strict=True)]
        far = self._norm.upper([gap.magnitude() for gap in before], batch_dims)
        distinct = self._norm.upper([gap.mignitude() for gap in before], batch_dims) > 0
        near = self._norm.lower(after, batch_dims)
        growth = sub_down(near, far)
        # Where every entry is at least as large after as before, the norm is too, without any rounding.
        rows = [(a >= b.magnitude()).reshape(len(growth), -1).all(dim=1) for a, b in zip(after, before, strict=True)]
        dominated = torch.stack(rows).all(dim=0)
        growth = torch.where(dominated, growth.clamp(min=0.0), growth)
        return torch.where(distinct & growth.isfinite(), growth, torch.full_like(growth, -1.0))

    def _inside(self, leaves: list[Tensor]) -> Tensor:
        return within(self._region, self._norm, leaves, self._problem.batch_dims)

    # ------------------------------------------------------------------------------ the model as a flat map

    def _flatten(self, leaves: list[Tensor]) -> Tensor:
        dtype = self._examples[0].dtype
        return torch.cat([leaf.detach().to(dtype).reshape(self._batch, -1) for leaf in leaves], dim=1)

    def _leaves(self, flat: Tensor) -> list[Tensor]:
        sizes = [leaf.numel() // self._batch for leaf in self._examples]
        parts = torch.split(flat, sizes, dim=1)
        return [p.reshape(leaf.shape).to(leaf.dtype) for p, leaf in zip(parts, self._examples, strict=True)]

    def _map(self, flat: Tensor) -> Tensor:
        """G in the norm's coordinates: `x -> P G(P^-1 x)`."""
        state = pytree.tree_unflatten(self._leaves(flat / self._weights), self._problem.tree)
        image = self._problem.operator(state, *self._inputs)
        leaves = [leaf.reshape(self._batch, -1) for leaf in pytree.tree_leaves(image)]
        return torch.cat(leaves, dim=1).to(flat.dtype) * self._weights

    def _flat_weights(self) -> Tensor:
        dtype = self._examples[0].dtype
        if self._norm.weights is None:
            return torch.ones((), dtype=dtype)
        return torch.cat([w.reshape(1, -1) for w in self._norm.weights], dim=1).to(dtype)

    def _pull(self, x: Tensor, covector: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self._map(x), x, covector)
        return gradient

    def _push(self, x: Tensor, vector: Tensor) -> Tensor:
        """J v by the double-backward trick, which needs reverse mode only."""
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            image = self._map(x)
            dummy = torch.zeros_like(image, requires_grad=True)
            (pulled,) = torch.autograd.grad(image, x, dummy, create_graph=True)
            (pushed,) = torch.autograd.grad(pulled, dummy, vector)
        return pushed.detach()

    def _power(self, point: Tensor) -> Tensor:
        x = point * self._weights
        vector = _unit(torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype))
        for _ in range(60):
            before, vector = vector, _unit(self._pull(x, self._push(x, vector)))
            if bool((vector - before).abs().max() <= _ALIGNED):
                break
        return vector / self._weights

    def _any_direction(self, point: Tensor) -> Tensor:
        """A seeded direction, each problem of norm 1."""
        vector = torch.randn(point.shape, generator=torch.Generator().manual_seed(1), dtype=point.dtype)
        power = {"l1": 1.0, "l2": 2.0, "linf": torch.inf}[self._norm.order]
        length: Tensor = torch.linalg.vector_norm(vector, power, dim=1, keepdim=True)
        return vector / length / self._weights

    def _row(self, point: Tensor) -> Tensor:
        """linf: the signs of the row of J with the largest sum of moduli (Boyd's power method)."""
        x = point * self._weights
        vector = torch.ones_like(x)
        for _ in range(5):
            image = self._push(x, vector)
            peak = torch.zeros_like(x).scatter(1, image.abs().argmax(dim=1, keepdim=True), 1.0)
            vector = torch.where(self._pull(x, peak) < 0, -1.0, 1.0).to(x.dtype)
        return vector / self._weights

    def _column(self, point: Tensor) -> Tensor:
        """l1: the coordinate whose column of J has the largest sum of moduli (Boyd's power method)."""
        x = point * self._weights
        vector = torch.full_like(x, 1.0 / x.shape[1])
        for _ in range(5):
            image = self._push(x, vector)
            slope = self._pull(x, torch.where(image < 0, -1.0, 1.0).to(x.dtype))
            vector = torch.zeros_like(x).scatter(1, slope.abs().argmax(dim=1, keepdim=True), 1.0)
        return vector / self._weights

    def _ascend(self, start: Tensor) -> Tensor:
        """A point where the gain along its best direction is larger, by L-BFGS on both."""
        x = (start * self._weights).detach().clone().requires_grad_(True)
        with torch.no_grad():
            seed = self.direction(start) * self._weights
        vector = seed.detach().clone().requires_grad_(True)
        optimiser = torch.optim.LBFGS([x, vector], max_iter=40, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimiser.zero_grad()
            with torch.enable_grad():
                image = self._map(x)
                dummy = torch.zeros_like(image, requires_grad=True)
                (pulled,) = torch.autograd.grad(image, x, dummy, create_graph=True)
                (pushed,) = torch.autograd.grad(pulled, dummy, vector, create_graph=True)
                gain = pushed.square().sum(dim=1) / vector.square().sum(dim=1)
                loss = -gain.sum()
                loss.backward()  # type: ignore[no-untyped-call]
            return loss

        try:
            with torch.enable_grad():
                optimiser.step(closure)  # type: ignore[no-untyped-call]
        except RuntimeError:  # G has no derivatives here, or torch none of them
            return start
        found = x.detach() / self._weights
        return found if bool(found.isfinite().all()) else start


def _unit(vector: Tensor) -> Tensor:
    length = vector.norm(dim=1, keepdim=True)
    return vector / torch.where(length > 0, length, torch.ones_like(length))

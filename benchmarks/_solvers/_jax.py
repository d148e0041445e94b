"""jaxopt and optimistix: the same operator in jax.numpy, compiled as a whole before it is timed.

The whole state is one problem to them, as their own documentation uses them; their tolerances are absolute, so that
they are told the size of the answer. Evaluations are counted in a second compilation, by a callback in the operator.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ._method import Method, Outcome, Setting, Task
from ._problem import Problem

LARGE = 10**5
"""Unknowns beyond which a Newton step by lineax' GMRES takes minutes."""
Solve = Callable[[Any, Any, Any, Problem, Setting], tuple[Any, Any]]
"""From the operator, the start and an absolute tolerance: the value, and whether it says that it converged."""


def fixed_point(operator: Any, z: Any, tolerance: Any, problem: Problem, setting: Setting) -> tuple[Any, Any]:
    import jaxopt

    solver = jaxopt.FixedPointIteration(operator, maxiter=problem.most, tol=tolerance, implicit_diff=False)
    found = solver.run(z)
    return found.params, found.state.error <= tolerance


def anderson(operator: Any, z: Any, tolerance: Any, problem: Problem, setting: Setting) -> tuple[Any, Any]:
    import jaxopt

    options = {"maxiter": problem.most, "tol": tolerance, "implicit_diff": False, **setting}
    found = jaxopt.AndersonAcceleration(operator, **options).run(z)
    return found.params, found.state.error <= tolerance


def picard(operator: Any, z: Any, tolerance: Any, problem: Problem, setting: Setting) -> tuple[Any, Any]:
    import optimistix

    solver = optimistix.FixedPointIteration(rtol=0.0, atol=tolerance, norm=optimistix.two_norm)
    return optimistix_value(solver, operator, z, problem.most)


def newton(operator: Any, z: Any, tolerance: Any, problem: Problem, setting: Setting) -> tuple[Any, Any]:
    import lineax
    import optimistix

    inner = lineax.GMRES(
        rtol=setting["forcing"], atol=0.1 * tolerance, norm=lineax_two_norm, max_steps=problem.most // 10
    )
    options = {"norm": optimistix.two_norm, "linear_solver": inner}
    return optimistix_value(optimistix.Newton(rtol=0.0, atol=tolerance, **options), operator, z, 20)


def lineax_two_norm(vector: Any) -> Any:
    import optimistix

    return optimistix.two_norm(vector)


def optimistix_value(solver: Any, operator: Any, z: Any, most: int) -> tuple[Any, Any]:
    import optimistix

    found = optimistix.fixed_point(lambda y, _: operator(y), solver, z, max_steps=most, throw=False)
    return found.value, found.result == optimistix.RESULTS.successful


def counting(operator: Any, calls: list[int]) -> Any:
    """The operator with a callback at each application, of its derivative too."""
    import jax

    def note(_: Any) -> None:
        calls[0] += 1

    @jax.custom_jvp
    def counted(z: Any) -> Any:
        jax.debug.callback(note, z.ravel()[0])
        return operator(z)

    @counted.defjvp
    def derivative(primals: Any, tangents: Any) -> Any:
        image, tangent = jax.jvp(operator, primals, tangents)
        jax.debug.callback(note, tangents[0].ravel()[0])
        return image, tangent

    return counted


def precision(problem: Problem) -> contextlib.AbstractContextManager[object]:
    import jax

    return jax.enable_x64(problem.start.dtype is torch.float64)


class Compiled:
    """A peer's solve of one problem with one setting, compiled for any tolerance."""

    def __init__(self, solve: Solve, problem: Problem, setting: Setting) -> None:
        import jax

        self.jax, self.problem, self.calls = jax, problem, [0]
        with precision(problem):
            operator, self.start = problem.in_jax(jax), jax.numpy.asarray(problem.start.numpy())
            self.plain, self.watched = (
                jax.jit(lambda z, tolerance, G=G: solve(G, z, tolerance, problem, setting))
                for G in (operator, counting(operator, self.calls))
            )
            self.loop = jax.jit(lambda z, count: jax.lax.fori_loop(0, count, lambda _, z: operator(z), z))
        self.called(self.plain, self.absolute(1.0))  # compiles: no time is taken before
        self.called(self.loop, 1)

    def called(self, function: Any, argument: Any) -> Any:
        with precision(self.problem):
            return self.jax.block_until_ready(function(self.start, argument))

    def absolute(self, tolerance: float) -> Any:
        return np.asarray(tolerance * self.problem.size, dtype=self.problem.start.numpy().dtype)

    def counted(self, tolerance: float) -> Outcome:
        self.calls[0] = 0
        value, claim = self.called(self.watched, self.absolute(tolerance))
        self.jax.effects_barrier()
        count, value = self.calls[0], torch.from_numpy(np.array(value))
        return Outcome(value, count, count * self.problem.problems, bool(claim))


def peer(name: str, solve: Solve, settings: tuple[Setting, ...] = ({},), most: float = math.inf) -> Method:
    """The method; `most` is the number of unknowns up to which it is measured."""
    ready: dict[tuple[int, str], Compiled] = {}

    def prepare(problem: Problem, setting: Setting, tolerance: float) -> Task:
        key = (id(problem), repr(setting))
        compiled = ready[key] = ready.get(key) or Compiled(solve, problem, setting)
        return Task(
            lambda: compiled.called(compiled.plain, compiled.absolute(tolerance)),
            lambda: compiled.counted(tolerance),
            lambda count: compiled.called(compiled.loop, count),
        )

    return Method(name, prepare, settings, lambda problem: problem.start.numel() <= most)


def jaxopt() -> list[Method]:
    import jaxopt as _  # noqa: F401

    histories = tuple({"history_size": m, "ridge": ridge} for m, ridge in ((5, 1e-5), (10, 1e-5), (10, 1e-8)))
    return [peer("jaxopt fixed point", fixed_point), peer("jaxopt anderson", anderson, histories)]


def optimistix() -> list[Method]:
    import optimistix as _  # noqa: F401

    forcing = ({"forcing": 1e-1}, {"forcing": 1e-3})
    return [peer("optimistix fixed point", picard), peer("optimistix newton gmres", newton, forcing, LARGE)]

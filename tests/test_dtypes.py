"""Every dtype has a floor: what is asked for below it ends soon as STAGNATED, what is slow above it goes on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deqops import (
    Anderson,
    Broyden,
    ConvergenceError,
    ImplicitAdjoint,
    InputError,
    JacobianFree,
    NewtonKrylov,
    Picard,
    Result,
    Solution,
    Solver,
    Tolerance,
    Unrolled,
    solve,
)
from deqops._precision import CoarsestUnit
from deqops.verify import certify, rounding_floor

DOUBLE, BFLOAT16 = torch.float64, torch.bfloat16
SOLVERS: list[Solver] = [Picard(), Picard(0.5), Anderson(), Broyden(), NewtonKrylov()]
every_solver = pytest.mark.parametrize("solver", SOLVERS, ids=repr)


class Layer(nn.Module):
    """`tanh(W z + x)`; in bfloat16 all of it, or the product alone, where one of the flags says so."""

    def __init__(self, norm: float = 0.9, size: int = 24) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        W = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=DOUBLE))[0]
        self.W = nn.Parameter((norm * W).float())
        self.inside = self.adds_float32 = False

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        if self.inside:
            with torch.autocast("cpu", dtype=BFLOAT16):
                return self.image(z, x).to(z.dtype)
        return self.image(z, x)

    def image(self, z: Tensor, x: Tensor) -> Tensor:
        product = z @ self.W.T
        return torch.tanh(product + (x if self.adds_float32 else x.to(product.dtype)))


def inputs(problems: int = 6, size: int = 24) -> Tensor:
    return 0.3 * torch.randn(problems, size, generator=torch.Generator().manual_seed(2))


def exact(layer: Layer, x: Tensor) -> Tensor:
    wide, x = copy.deepcopy(layer).double(), x.double()
    y = torch.zeros_like(x)
    with torch.no_grad():
        for _ in range(600):
            y = wide.image(y, x)
    return y


def run(G: Callable[..., Any], start: Tensor, *x: Any, solver: Solver, **options: Any) -> Solution:
    tolerance = Tolerance(**{"relative": 1e-6, **options.pop("tolerance", {})})
    options = {"max_evaluations": 5000, **options}
    return solve(G, start, *x, solver=solver, tolerance=tolerance, throw=False, trace=True, **options)


def waited(solution: Solution) -> int:
    """The most rounds that a problem went on after its best residual improved by 1 % for the last time."""
    assert solution.trace is not None
    most = 0
    for residuals in solution.trace.T.double():
        best, last, count = float("inf"), 0, int((~residuals.isnan()).sum())
        for n, length in enumerate(residuals[:count].tolist()):
            best, last = (length, n) if length < 0.99 * best else (best, last)
        most = max(most, count - 1 - last)
    return most


KNOWN, SEEN = 21, 147
"""Rounds without improvement: at a floor that is known from the start, at one that has to be looked for.

The second is looked for every 20 rounds, and later wherever such a round happens to be the best of those looked at: how
often it is, the processor's bfloat16 decides (on two kinds of processors, at most 105 and 110 rounds went by).
"""


def assert_at_the_floor(
    solution: Solution, relative: float, layer: Layer, x: Tensor, unit: float, patience: int = KNOWN
) -> None:
    """Ended soon; CONVERGED only where the very residual says so; near the equilibrium as T3 has it."""
    assert waited(solution) <= patience
    assert set(solution.results) <= {Result.STAGNATED, Result.CONVERGED}
    size = torch.linalg.vector_norm(solution.value.double(), dim=1)
    met = solution.residual.double() <= relative * size
    assert torch.equal(met, solution.result == Result.CONVERGED)
    error = torch.linalg.vector_norm(solution.value.double() - exact(layer, x), dim=1)
    assert bool((error <= 4 * unit / (1 - 0.9) * size).all())


# ------------------------------------------------------------------------------------ the floor of the state's dtype


@every_solver
@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32, BFLOAT16])
def test_a_tolerance_below_the_states_floor(solver: Solver, dtype: torch.dtype) -> None:
    x, unit = inputs().to(dtype), torch.finfo(dtype).eps
    G = Layer().to(dtype).requires_grad_(False)
    solution = run(G, torch.zeros_like(x), x, solver=solver, tolerance={"relative": unit / 1000})
    assert solution.value.dtype == dtype
    assert_at_the_floor(solution, unit / 1000, G, x, unit)


# ------------------------------------------------------------------------------------------------- bfloat16 autocast


@every_solver
@pytest.mark.parametrize("adds_float32", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_a_tolerance_below_autocasts_floor(solver: Solver, adds_float32: bool, inside: bool) -> None:
    """A float32 state; the operator rounds to bfloat16, whether or not its result shows it."""
    G, x = Layer().requires_grad_(False), inputs()
    G.inside, G.adds_float32 = inside, adds_float32
    with torch.autocast("cpu", dtype=BFLOAT16, enabled=not inside):
        solution = run(G, torch.zeros_like(x), x, solver=solver)
    assert solution.value.dtype == torch.float32
    assert_at_the_floor(solution, 1e-6, G, x, torch.finfo(BFLOAT16).eps, SEEN if inside else KNOWN)


def test_without_knowing_the_floor_the_loop_would_go_on_for_ever() -> None:
    """What is asked for is out of reach: the tests above are about something."""
    G, x = Layer().requires_grad_(False), inputs()
    with torch.autocast("cpu", dtype=BFLOAT16):
        ended = run(G, torch.zeros_like(x), x, solver=Picard())
    assert Result.STAGNATED in ended.results
    z, least = torch.zeros_like(x), torch.full((len(x),), torch.inf)
    with torch.autocast("cpu", dtype=BFLOAT16):
        for _ in range(1000):
            z, before = G(z, x).float(), z
            least = torch.minimum(least, torch.linalg.vector_norm(z - before, dim=1))
    assert bool((least[ended.result == Result.STAGNATED] > 1e-4).all())


@every_solver
@pytest.mark.parametrize("inside", [False, True])
def test_a_tolerance_above_autocasts_floor_is_met(solver: Solver, inside: bool) -> None:
    G, x = Layer(0.8).requires_grad_(False), inputs()
    G.inside = inside
    with torch.autocast("cpu", dtype=BFLOAT16, enabled=not inside):
        solution = run(G, torch.zeros_like(x), x, solver=solver, tolerance={"relative": 2e-2})
    assert solution.converged
    assert int(solution.evaluations.max()) < 60


@pytest.mark.parametrize("coarse", [torch.float32, torch.float16, BFLOAT16])
def test_a_coarser_dtype_inside_of_a_float64_operator(coarse: torch.dtype) -> None:
    W = Layer().W.detach()

    def G(z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh((z.to(coarse) @ W.T.to(coarse)).to(DOUBLE) + x)

    x = inputs().double()
    solution = run(G, torch.zeros_like(x), x, solver=Anderson(), tolerance={"relative": 1e-13})
    assert_at_the_floor(solution, 1e-13, Layer(), x, torch.finfo(coarse).eps, SEEN)
    assert Result.STAGNATED in solution.results


def test_a_bfloat16_image_of_a_float32_state_is_converted_under_autocast_only() -> None:
    x = inputs()
    with pytest.raises(InputError, match=r"to torch\.bfloat16; return torch\.float32"):
        run(lambda z: z.to(BFLOAT16) / 2, x, solver=Picard())
    with torch.autocast("cpu", dtype=BFLOAT16):
        tree = solve(lambda z: {"a": z["a"].to(BFLOAT16) / 2}, {"a": x}, tolerance=Tolerance(relative=0.0), throw=False)
        assert tree.value["a"].dtype == torch.float32
        with pytest.raises(InputError, match=r"to torch\.float16; return torch\.float32"):
            run(lambda z: z.to(torch.float16) / 2, x, solver=Picard())
        with pytest.raises(InputError, match="return the same structure"):
            run(lambda z: [z], x, solver=Picard())


# ------------------------------------------------------------------------------------------- slow is not stagnated


@pytest.mark.parametrize(
    ("dtype", "rate", "relative", "autocast"),
    [
        (torch.float32, 0.999, 1e-5, False),
        (torch.float32, 0.999, 1e-5, True),
        (torch.float32, 0.9998, 5e-5, True),
        (DOUBLE, 0.999, 1e-6, False),
        (DOUBLE, 0.9998, 5e-5, True),
    ],
)
def test_slow_convergence_is_not_stagnation(dtype: torch.dtype, rate: float, relative: float, autocast: bool) -> None:
    """Of an operator without products, which autocast leaves in the state's dtype."""
    start, b = torch.zeros(2, 3, dtype=dtype), torch.tensor([[1.0], [-3.0]], dtype=dtype)
    with torch.autocast("cpu", dtype=BFLOAT16, enabled=autocast):
        solution = run(
            lambda z: rate * z + b,
            start,
            solver=Picard(),
            tolerance={"relative": relative},
            max_evaluations=40_000,
        )
    assert solution.converged
    assert int(solution.evaluations.min()) > 1000


@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32])
def test_an_orbit_that_stays_where_it_is_is_not_stagnation(dtype: torch.dtype) -> None:
    """A turn, a reflection and a translation: no residual improves, and none is near the floor."""
    Q = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=dtype)
    for G in (lambda z: z @ Q.T, lambda z: 1 - z, lambda z: z + 1):
        solution = run(G, torch.ones(1, 2, dtype=dtype), solver=Picard(), max_evaluations=300)
        assert solution.results == [Result.MAX_EVALUATIONS]


def test_a_coarse_part_that_does_not_limit_is_no_obstacle() -> None:
    """bfloat16 in a term that vanishes: the residual goes on improving, so nobody asks."""
    start = torch.zeros(1, 3, dtype=DOUBLE)
    solution = run(
        lambda z: 0.9 * z + 1 + 0.0 * z.to(BFLOAT16),
        start,
        solver=Picard(),
        tolerance={"relative": 1e-12},
    )
    assert solution.converged


def test_the_floor_of_one_problem_does_not_depend_on_its_companions() -> None:
    """Which stop improving from the first step on, or never, and so raise the question earlier or not at all."""
    W = Layer(1.0).W.detach().to(BFLOAT16)

    def G(z: Tensor, x: Tensor, rates: Tensor) -> Tensor:
        return rates * torch.tanh((z.to(BFLOAT16) @ W.T).float()) + x

    x, rates = inputs(), torch.full((6, 1), 0.97)
    ends = []
    for others in (0.0, -1e3):
        rates[::2] = others
        ends.append(run(G, torch.zeros_like(x), x, rates, solver=Picard()))
    assert int(ends[0].evaluations[1::2].min()) > 60
    assert Result.STAGNATED in ends[0].results[1::2]
    for name in ("value", "residual", "evaluations", "result"):
        assert torch.equal(getattr(ends[0], name)[1::2], getattr(ends[1], name)[1::2]), name


@pytest.mark.parametrize("solver", [Picard(), Anderson(), Broyden()], ids=repr)
def test_problems_at_a_floor_that_was_looked_for_are_dropped(solver: Solver) -> None:
    G, x = Layer().requires_grad_(False), inputs(16)
    G.inside = G.adds_float32 = True
    solution = run(G, torch.zeros_like(x), x, solver=solver, batched=("problem",))
    assert set(solution.results) <= {Result.STAGNATED, Result.CONVERGED}
    assert waited(solution) <= SEEN


# ------------------------------------------------------------------------------------------------ the coarsest unit


def seen(computation: Callable[[Tensor], object], dtype: torch.dtype = torch.float32) -> float:
    root = torch.ones(2, 3, dtype=dtype)
    with CoarsestUnit(root) as observed:
        computation(root)
    return observed.unit


def test_the_coarsest_unit_is_that_of_what_is_computed_from_the_root() -> None:
    eps = {dtype: torch.finfo(dtype).eps for dtype in (DOUBLE, torch.float32, BFLOAT16)}
    assert seen(lambda z: z + 1) == eps[torch.float32]
    assert seen(lambda z: z + 1, DOUBLE) == eps[DOUBLE]
    assert seen(lambda z: (z.T.to(BFLOAT16) + 1).to(DOUBLE)) == eps[BFLOAT16]
    assert seen(lambda z: z + torch.ones(3, dtype=BFLOAT16).to(DOUBLE).sum(), DOUBLE) == eps[DOUBLE]
    assert seen(lambda z: torch.zeros(2, 3, dtype=BFLOAT16).copy_(z)) == eps[BFLOAT16]
    assert seen(lambda z: z.to(DOUBLE) @ torch.ones(3, 2, dtype=DOUBLE)) == eps[DOUBLE]


def test_higher_order_and_sparse_operations_are_no_obstacle() -> None:
    """Their results count; a branch that is taken inside of one is not seen."""
    chosen = lambda z: torch.cond(z.sum() > 0, lambda z: z.to(BFLOAT16) * 0.5, lambda z: z.to(BFLOAT16), (z,))  # noqa: E731
    assert seen(lambda z: chosen(z).float()) == torch.finfo(BFLOAT16).eps
    assert seen(lambda z: torch.sparse.mm(torch.eye(2).to_sparse(), z)) == torch.finfo(torch.float32).eps


@pytest.mark.parametrize(("precision", "unit"), [("highest", 2.0**-23), ("high", 2.0**-10), ("medium", 2.0**-7)])
def test_products_that_may_be_coarser_than_float32_count_as_such(precision: str, unit: float) -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        assert seen(lambda z: torch.tanh(z @ torch.ones(3, 2))) == unit
        assert seen(lambda z: z + 1) == 2.0**-23
    finally:
        torch.set_float32_matmul_precision(before)


def test_an_operator_is_looked_at_once_and_only_when_it_has_stopped_improving() -> None:
    modes = 0

    def G(z: Tensor) -> Tensor:
        nonlocal modes
        modes += torch._C._len_torch_dispatch_stack()
        return 1 - z if z.shape[1] == 2 else 0.5 * z + 1

    with torch.no_grad():
        run(G, torch.zeros(1, 3), solver=Picard())
        assert modes == 0
        run(G, torch.zeros(1, 2), solver=Picard(), max_evaluations=300)
    assert modes == 1


@pytest.mark.parametrize("autocast", [False, True])
def test_an_operator_that_refuses_to_be_looked_at_is_evaluated_as_ever(autocast: bool) -> None:
    """As one compiled with `fullgraph=True` does in some versions of torch; autocast's dtype is taken at its word."""
    layer, x = Layer().requires_grad_(False), inputs()

    def G(z: Tensor) -> Tensor:
        if torch._C._len_torch_dispatch_stack():
            raise RuntimeError("torch.compile with fullgraph=True found no compiled frames")
        return layer.image(z, x).float() if autocast else 1 - z

    with torch.autocast("cpu", dtype=BFLOAT16, enabled=autocast):
        solution = run(G, torch.zeros_like(x), solver=Picard(), max_evaluations=300)
    assert (Result.STAGNATED in solution.results) == autocast

    def faulty(z: Tensor) -> Tensor:
        raise ValueError("a fault of its own")

    with torch.autocast("cpu", dtype=BFLOAT16), pytest.raises(ValueError, match="a fault of its own"):
        run(faulty, x, solver=Picard())


@pytest.mark.parametrize("fullgraph", [False, True])
def test_a_compiled_operator_stays_compiled(fullgraph: bool) -> None:
    """It is looked at as it was written, once; in a look of the compiled one torch would give it up for good."""
    calls = 0

    def backend(module: Any, example: Any) -> Any:
        def compiled(*values: Any) -> Any:
            nonlocal calls
            calls += 1
            return module(*values)

        return compiled

    W, x = Layer().W.detach(), inputs()
    G = torch.compile(
        lambda z: torch.tanh((z.to(BFLOAT16) @ W.T.to(BFLOAT16)).float() + x), fullgraph=fullgraph, backend=backend
    )
    with torch.no_grad():
        solution = run(G, torch.zeros_like(x), solver=Picard())
    assert Result.STAGNATED in solution.results
    assert solution.trace is not None
    assert calls == len(solution.trace) - 1


def test_under_torch_func_nothing_is_looked_at() -> None:
    """G works on wrapped tensors there; the solve goes on with the floor of the state's dtype."""

    def value(x: Tensor) -> Tensor:
        options: dict[str, Any] = {"solver": Picard(), "max_evaluations": 50, "throw": False}
        solution = solve(lambda z: x - z, torch.zeros(1, 2), adjoint=JacobianFree(), **options)
        assert solution.results == [Result.MAX_EVALUATIONS]
        return torch.as_tensor(solution.value.sum())

    assert torch.equal(torch.func.grad(value)(torch.ones(1, 2)), torch.ones(1, 2))


@pytest.mark.parametrize("autocast", [False, True])
def test_under_torch_func_autocasts_dtype_is_taken_at_its_word(autocast: bool) -> None:
    G, x = Layer(), inputs()

    def value(x: Tensor) -> Tensor:
        options: dict[str, Any] = {"solver": Picard(), "adjoint": JacobianFree(), "throw": False}
        solution = solve(lambda z: G.image(z, x).float(), torch.zeros(6, 24), **options)
        assert (Result.STAGNATED in solution.results) == autocast
        return torch.as_tensor(solution.value.sum())

    with torch.autocast("cpu", dtype=BFLOAT16, enabled=autocast):
        assert torch.func.grad(value)(x).shape == x.shape


# ------------------------------------------------------------------------------------------------ a certified error


@every_solver
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_t3_a_certified_error_below_the_floor_stagnates_and_one_above_it_is_reached(
    solver: Solver, dtype: torch.dtype
) -> None:
    """T3 `perturbed`: no float is nearer to the equilibrium than their grid; `rounding_floor` is promised."""
    G, x = Layer(0.5, 8).to(dtype).requires_grad_(False), inputs(2, 8).to(dtype)
    star = exact(G, x).to(dtype)
    certificate = certify(G, star, x, theorem="picard", norm="l2")
    floor = float(rounding_floor(certificate, G, star, x).floor.l2.max())
    for error, expected in ((floor / 1e4, Result.STAGNATED), (3 * floor, Result.CONVERGED)):
        tolerance = {"relative": 1e-3, "error": error, "certificate": certificate}
        solution = run(G, torch.zeros_like(x), x, solver=solver, tolerance=tolerance)
        assert solution.results == [expected] * 2
        assert int(solution.evaluations.max()) < 200
        assert bool((solution.error_bound.l2 <= error).all()) == (expected is Result.CONVERGED)


# --------------------------------------------------------------------------------------- gradients under autocast


@every_solver
@pytest.mark.parametrize("adjoint", [ImplicitAdjoint, Unrolled])
def test_gradients_under_autocast_are_near_float64s(solver: Solver, adjoint: Any) -> None:
    """Weights' gradients too: what autocast caches without gradients is not used again with them."""
    G, x = Layer(0.7), inputs().requires_grad_()
    tolerance = Tolerance(relative=2e-2)
    chosen = adjoint(solver, tolerance) if adjoint is ImplicitAdjoint else adjoint(15)
    with torch.autocast("cpu", dtype=BFLOAT16):
        y = solve(G, torch.zeros_like(x), x, solver=solver, tolerance=tolerance, adjoint=chosen).value
    assert y.dtype == torch.float32
    got = torch.autograd.grad((y**2).sum(), (G.W, x))
    wide, wide_x = copy.deepcopy(G).double(), x.detach().double().requires_grad_()
    z = torch.zeros_like(wide_x)
    for _ in range(200):
        z = wide(z, wide_x)
    for gradient, truth in zip(got, torch.autograd.grad((z**2).sum(), (wide.W, wide_x)), strict=True):
        assert gradient.dtype == torch.float32
        assert torch.linalg.vector_norm(gradient - truth) <= 0.1 * torch.linalg.vector_norm(truth)


@pytest.mark.parametrize("adjoint", [ImplicitAdjoint(derivatives=1), Unrolled(3)], ids=repr)
@pytest.mark.parametrize("enabled", [False, True])
def test_the_backward_pass_evaluates_the_operator_as_the_solve_did(adjoint: Any, enabled: bool) -> None:
    """Called outside of autocast, or, where the solve was outside, under it."""
    states: list[bool] = []

    def G(z: Tensor, x: Tensor) -> Tensor:
        states.append(torch.is_autocast_enabled("cpu"))
        return 0.5 * torch.tanh(z) + x

    x = torch.ones(2, 3, requires_grad=True)
    with torch.autocast("cpu", dtype=BFLOAT16, enabled=enabled):
        y = solve(G, torch.zeros_like(x), x, adjoint=adjoint).value
    forward = len(states)
    with torch.autocast("cpu", dtype=BFLOAT16, enabled=not enabled):
        y.sum().backward()
    assert (len(states) > forward) == isinstance(adjoint, Unrolled)  # the other's graph was there already
    assert set(states) == {enabled}


def test_a_backward_solve_below_its_floor_fails_soon_and_by_name() -> None:
    G, x = Layer(), inputs().requires_grad_()
    adjoint = ImplicitAdjoint(Picard(), Tolerance(relative=1e-7), max_evaluations=100_000)
    with torch.autocast("cpu", dtype=BFLOAT16):
        y = solve(G, torch.zeros_like(x), x, tolerance=Tolerance(relative=2e-2), adjoint=adjoint).value
    with pytest.raises(ConvergenceError, match=r"backward solve of ImplicitAdjoint: .*STAGNATED") as caught:
        (y**2).sum().backward()
    assert int(caught.value.solution.evaluations.max()) < 200

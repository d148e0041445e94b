"""Newton's method with GMRES: its rates, its line search, its count of evaluations, each problem by itself."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deqops import Anderson, ImplicitAdjoint, InputError, NewtonKrylov, Picard, Result, Solution, Tolerance, solve
from deqops._equation import Equation
from deqops._loop import _Run
from deqops._solver._gmres import _begin, _extend, _orthogonalised, gmres
from tests.test_solve_anderson import symmetric

DOUBLE = torch.float64
EXACT = NewtonKrylov(forcing=1e-13)


def run(
    G: Callable[[Tensor], Tensor], start: Tensor, solver: NewtonKrylov, relative: float = 1e-10, most: int = 1000
) -> Solution:
    tolerance = Tolerance(relative=relative)
    return solve(G, start, solver=solver, tolerance=tolerance, max_evaluations=most, throw=False, trace=True)


def random_system(problems: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    J = torch.randn(problems, size, size, generator=generator, dtype=DOUBLE) / math.sqrt(size)
    r = torch.randn(problems, size, generator=generator, dtype=DOUBLE)
    return J, r / torch.linalg.vector_norm(r, dim=1, keepdim=True)


@given(size=st.integers(1, 12), most=st.integers(1, 14), seed=st.integers(0, 1000))
def test_gmres_is_the_least_squares_step_of_its_krylov_space(size: int, most: int, seed: int) -> None:
    J, r = random_system(3, size, seed)
    limits = torch.tensor([most, 0, min(most, 2)])
    found = gmres(lambda v, _: (J @ v[:, :, None])[:, :, 0], r, torch.full((3,), 1e-13, dtype=DOUBLE), limits)
    for number, limit in enumerate(limits.tolist()):
        A = torch.eye(size, dtype=DOUBLE) - J[number]
        powers = [r[number]]
        for _ in range(min(limit, size) - 1):
            powers.append(J[number] @ powers[-1])
            powers[-1] /= torch.linalg.vector_norm(powers[-1])
        space = torch.linalg.qr(torch.stack(powers, dim=1))[0] if limit else torch.zeros(size, 1, dtype=DOUBLE)
        best = torch.linalg.lstsq(A @ space, r[number][:, None], driver="gelsd").solution
        least = torch.linalg.vector_norm(r[number] - (A @ space @ best)[:, 0])
        left = torch.linalg.vector_norm(r[number] - A @ found.step[number])
        assert abs(float(left - found.left[number])) < 1e-9
        assert abs(float(left - least)) < 1e-6


def test_gmres_steps_are_frozen_bit_for_bit() -> None:
    """A problem's step does not depend on how long its companions go on."""
    J, r = random_system(4, 20, 5)
    product = lambda v, _: (J @ v[:, :, None])[:, :, 0]  # noqa: E731
    limits = torch.tensor([3, 20, 7, 3])
    together = gmres(product, r, torch.tensor([0.0, 1e-12, 0.3, 0.0], dtype=DOUBLE), limits)
    other = gmres(product, r, torch.tensor([0.0, 0.9, 0.3, 0.0], dtype=DOUBLE), limits)
    for number in (0, 2, 3):
        assert torch.equal(together.step[number], other.step[number])
        assert together.left[number] == other.left[number]


@pytest.mark.parametrize("J", [torch.eye(3), torch.tensor([[1.0, 1.0], [0.0, 1.0]]), torch.full((2, 2), torch.nan)])
def test_gmres_on_singular_problems_breaks_down_without_noise(J: Tensor) -> None:
    r = torch.zeros(1, len(J))
    r[0, -1] = 1.0
    found = gmres(lambda v, _: v @ J.mT, r, torch.zeros(1), torch.tensor([9]))
    assert not bool(found.left < 1 - 1e-6)
    assert bool((found.step == 0).all()) or bool(found.left.isnan())


@given(inside=st.sampled_from([0.0, 0.5, 1.0, 1e3, 1e9]), count=st.integers(1, 20), seed=st.integers(0, 99))
def test_gmres_directions_are_orthogonal_however_much_lay_in_the_others(inside: float, count: int, seed: int) -> None:
    """The companion, of which nothing lay there, is not touched again."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(2, 30, 30, generator=generator, dtype=DOUBLE))[0].mT
    image = basis[:, count:].sum(dim=1)
    image[0] += inside * basis[0, :count].sum(dim=0)
    length = torch.linalg.vector_norm(image, dim=1)
    rest, along, beyond = _orthogonalised(basis[:, :count], image, length)
    left = (basis[:, :count] @ rest[:, :, None]).abs().amax(dim=(1, 2))
    assert (left <= 1e-14 * beyond).all()
    assert torch.allclose(beyond, torch.full_like(beyond, (30 - count) ** 0.5), rtol=1e-6)
    assert torch.allclose(
        rest + (along[:, None] @ basis[:, :count])[:, 0], image, rtol=0, atol=1e-14 * (1 + inside) * 30
    )
    alone = _orthogonalised(basis[1:, :count], image[1:], length[1:])
    assert all(torch.equal(one[0], both[1]) for one, both in zip(alone, (rest, along, beyond), strict=True))


@pytest.mark.parametrize("distinct", [1, 2, 5])
def test_linear_problems_take_as_many_products_as_distinct_eigenvalues(distinct: int) -> None:
    basis = torch.linalg.qr(torch.randn(30, 30, dtype=DOUBLE))[0]
    values = torch.linspace(-3, 0.9, distinct, dtype=DOUBLE).repeat(30 // distinct)
    W, b = basis @ torch.diag(values) @ basis.mT, torch.randn(2, 30, dtype=DOUBLE)
    solution = run(lambda z: z @ W + b, torch.zeros_like(b), EXACT, relative=1e-11)
    assert solution.converged
    assert solution.evaluations.tolist() == [distinct + 2] * 2  # the products, the start and the end
    assert torch.allclose(solution.value, b @ torch.linalg.inv(torch.eye(30, dtype=DOUBLE) - W), atol=1e-9)


def test_convergence_is_quadratic() -> None:
    """Digits double: ||F_(k+1)|| <= c ||F_k||^2 with the same c, step after step."""
    W = 0.9 * torch.linalg.qr(torch.randn(20, 20, dtype=DOUBLE))[0]
    b = torch.randn(1, 20, dtype=DOUBLE)
    solution = run(lambda z: torch.tanh(z @ W + b), torch.zeros_like(b), EXACT, relative=1e-13)
    assert solution.trace is not None
    residuals = solution.trace[:, 0]
    assert solution.converged
    ratios = residuals[2:-1] / residuals[1:-2].square()
    assert len(ratios) >= 2
    assert float(ratios.max()) < 1.0


def monotone(slope: float, size: int = 20) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """tanh(z W + c) with `W + W^T <= -2 I`, ||W|| large: I - J is regular everywhere, and Picard diverges."""
    A = torch.randn(size, size, dtype=DOUBLE)
    W = -slope * (torch.eye(size, dtype=DOUBLE) + A @ A.mT / size) + slope * (A - A.mT) / math.sqrt(size)
    c = torch.randn(3, size, dtype=DOUBLE)
    return (lambda z: torch.tanh(z @ W + c)), torch.zeros_like(c)


@pytest.mark.parametrize("slope", [1.0, 3.0])
def test_monotone_layer_where_picard_does_not_converge(slope: float) -> None:
    G, start = monotone(slope)
    picard = solve(G, start, solver=Picard(), max_evaluations=1000, throw=False)
    solution = run(G, start, NewtonKrylov())
    assert not picard.converged
    assert solution.converged
    assert torch.allclose(G(solution.value), solution.value, atol=1e-8)


@pytest.mark.parametrize("start", [3.0, 30.0])
def test_a_bad_start_needs_the_line_search(start: float) -> None:
    """z = z - arctan(z): Newton's whole steps diverge from |z| > 1.39; shortened ones do not."""
    G = lambda z: z - torch.arctan(z)  # noqa: E731
    far = torch.full((1, 2), start, dtype=DOUBLE)
    step = -torch.arctan(far) * (1 + far.square())
    assert (torch.arctan(far + step).abs() > torch.arctan(far).abs()).all()  # the whole step is worse
    solution = solve(G, far, solver=EXACT, tolerance=Tolerance(absolute=1e-12, relative=0.0), throw=False, trace=True)
    assert solution.converged
    assert int(solution.evaluations) < 60
    assert solution.value.abs().max() < 1e-10


def test_where_gmres_finds_nothing_the_step_is_picards() -> None:
    """J = I at the start and far beyond it: no Newton step exists."""
    points: list[Tensor] = []

    def G(z: Tensor) -> Tensor:
        points.append(torch.autograd.forward_ad.unpack_dual(z).primal.clone())
        return torch.where(z < 2.5, z + 1, 3 + 0 * z)

    with torch.no_grad():
        solution = run(G, torch.zeros(1, 2, dtype=DOUBLE), NewtonKrylov())
    assert solution.converged
    assert [float(z[0, 0]) for z in points] == [0, 0, 1, 1, 2, 2, 3]


def test_where_the_line_search_fails_the_step_is_picards() -> None:
    """F's tangent points away from every decrease, as a derivative at a kink may."""

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(z: Tensor) -> Tensor:
            return 0.5 * z + 1

        @staticmethod
        def setup_context(ctx: object, inputs: object, output: object) -> None:
            return None

        @staticmethod
        def jvp(ctx: object, tangent: Tensor) -> Tensor:
            return 3 * tangent

    solution = run(Wrong.apply, torch.zeros(1, 4, dtype=DOUBLE), NewtonKrylov())
    assert solution.converged
    assert torch.allclose(solution.value, torch.full((1, 4), 2.0, dtype=DOUBLE), rtol=1e-9)
    assert solution.trace is not None
    assert torch.allclose(solution.trace[:13:12, 0], torch.tensor([2.0, 1.0], dtype=DOUBLE))  # 1 + 10 tries, Picard


@pytest.mark.parametrize("most", range(1, 16))
def test_every_evaluation_counts_and_none_is_beyond_the_limit(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products too, though most of them do not call G."""
    calls = points = products = 0
    W, b, _ = symmetric(0.95)
    jvp, evaluate = Equation.jvp, _Run.evaluate

    def G(z: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return torch.tanh(z @ W + b)

    def counted(self: Equation, *given: Tensor) -> Tensor:
        nonlocal products
        products += 1
        return jvp(self, *given)

    def evaluated(self: _Run, observed: bool) -> None:
        nonlocal points
        points += 1
        evaluate(self, observed)

    monkeypatch.setattr(Equation, "jvp", counted)
    monkeypatch.setattr(_Run, "evaluate", evaluated)
    with torch.no_grad():
        solution = run(G, torch.zeros_like(b), NewtonKrylov(), most=most)
    assert int(solution.evaluations) == points + products == most
    assert calls <= most
    assert solution.results == [Result.MAX_EVALUATIONS]


def test_a_problem_that_has_ended_spends_nothing() -> None:
    W, b, _ = symmetric(0.95)
    far = torch.cat([b, torch.zeros_like(b)])
    solution = run(lambda z: z @ W + far, torch.zeros_like(far), NewtonKrylov())
    assert solution.converged
    assert solution.evaluations[1] == 1


@given(
    seed=st.integers(0, 10**6),
    size=st.integers(1, 10),
    norm=st.floats(0.0, 4.0),
    krylov=st.integers(1, 12),
    forcing=st.sampled_from([1e-10, 1e-3, 0.1, 0.9]),
)
def test_what_converged_is_an_equilibrium_and_companions_do_not_matter(
    seed: int, size: int, norm: float, krylov: int, forcing: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    W = norm * torch.randn(size, size, generator=generator, dtype=DOUBLE) / math.sqrt(size)
    c = torch.randn(3, size, generator=generator, dtype=DOUBLE)
    other = torch.cat([c[:1], 10 * c[1:]])
    solver = NewtonKrylov(krylov, forcing)
    first, second = (
        run(lambda z, x=x: torch.tanh(z @ W + x), torch.zeros_like(c), solver, most=150) for x in (c, other)
    )
    assert torch.equal(first.value[0], second.value[0])
    assert first.evaluations[0] == second.evaluations[0]
    assert int(first.evaluations.max()) <= 150
    defect = torch.linalg.vector_norm(torch.tanh(first.value @ W + c) - first.value, dim=1)
    done = first.result == Result.CONVERGED
    assert (defect[done] <= 1e-9 * (1 + norm) * math.sqrt(size)).all()
    assert bool(done.all()) or norm > 0.5


@pytest.mark.parametrize("scale", [1e-8, 1e25, 2.0**-40, 2.0**30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scaling_the_problem_changes_nothing(scale: float, dtype: torch.dtype) -> None:
    """Units whose squares over- or underflow in float32 included; a power of 2 changes no count at all."""
    W, b = (torch.randn(30, 30) / math.sqrt(30)).to(dtype), torch.randn(2, 30).to(dtype)

    def count(factor: float) -> Tensor:
        G = lambda z: factor * torch.tanh(0.8 * (z / factor) @ W.mT + b)  # noqa: E731
        return solve(G, torch.zeros(2, 30, dtype=dtype), solver=NewtonKrylov()).evaluations

    assert (count(scale) - count(1.0)).abs().max() <= (0 if math.frexp(scale)[0] == 0.5 else 2)


def test_memory_is_what_the_products_take() -> None:
    """However many are allowed: the room doubles as it is used up."""
    J, r = random_system(2, 40, 3)
    krylov = _begin(r)
    for size in range(1, 20):
        _extend(krylov, (J @ krylov.basis[:, krylov.size][:, :, None])[:, :, 0])
        assert krylov.size == size
        assert size < krylov.basis.shape[1] <= 2 * size
    basis = krylov.basis[:, : krylov.size + 1]
    assert torch.allclose(basis @ basis.mT, torch.eye(20, dtype=DOUBLE), atol=1e-14)
    W, b, _ = symmetric(0.5, size=40)
    assert run(lambda z: z @ W + b, torch.zeros_like(b), NewtonKrylov(krylov=10**9)).converged


def test_fewer_evaluations_than_anderson_where_the_layer_is_ill_conditioned_and_not_symmetric() -> None:
    torch.manual_seed(0)
    W, b = torch.randn(100, 100, dtype=DOUBLE), torch.randn(1, 100, dtype=DOUBLE)
    W *= 0.999 / torch.linalg.eigvals(W).abs().max()
    exact = torch.linalg.solve(torch.eye(100, dtype=DOUBLE) - W, b, left=False)
    newton, anderson = (
        solve(
            lambda z: z @ W + b,
            torch.zeros_like(b),
            solver=solver,
            tolerance=Tolerance(relative=1e-8),
            max_evaluations=3000,
        )
        for solver in (NewtonKrylov(), Anderson())
    )
    assert 4 * int(newton.evaluations) < 3 * int(anderson.evaluations)
    assert torch.linalg.vector_norm(newton.value - exact) < 1e-5 * torch.linalg.vector_norm(exact)


def test_it_solves_the_adjoint_equation_too() -> None:
    W, b, _ = symmetric(0.9, size=8)
    b.requires_grad_()
    adjoint = ImplicitAdjoint(solver=NewtonKrylov(), tolerance=Tolerance(relative=1e-12))
    solution = solve(lambda z: z @ W + b, torch.zeros_like(b), solver=NewtonKrylov(), adjoint=adjoint)
    (gradient,) = torch.autograd.grad(solution.value.sum(), b)
    exact = torch.linalg.solve(torch.eye(8, dtype=DOUBLE) - W, torch.ones(8, dtype=DOUBLE))
    assert torch.allclose(gradient[0], exact, rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_arithmetic_is_at_least_float32_and_the_point_is_the_states_dtype(dtype: torch.dtype) -> None:
    z = torch.zeros(2, 3, dtype=dtype)
    G = lambda z: 3 * z + 1  # noqa: E731
    proposal, kept = NewtonKrylov().prepared(Equation(G)).step(None, z, G(z))
    assert proposal.dtype == dtype
    assert kept.residual.dtype == (DOUBLE if dtype == DOUBLE else torch.float32)
    assert torch.allclose(proposal, torch.full_like(z, -0.5), rtol=2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"krylov": 0}, "krylov"),
        ({"krylov": True}, "krylov"),
        ({"krylov": 2.0}, "krylov"),
        ({"forcing": 0.0}, "forcing"),
        ({"forcing": 1.0}, "forcing"),
        ({"forcing": math.nan}, "forcing"),
        ({"decrease": 0.5}, "decrease"),
        ({"decrease": "much"}, "decrease"),
    ],
)
def test_settings_out_of_range(settings: dict[str, object], name: str) -> None:
    with pytest.raises(InputError, match=name):
        NewtonKrylov(**settings)


def test_unprepared_it_says_so() -> None:
    for call in (
        lambda: NewtonKrylov().init(torch.ones(1, 1)),
        lambda: NewtonKrylov().step(None, *torch.ones(2, 1, 1)),
    ):
        with pytest.raises(InputError, match="prepared"):
            call()

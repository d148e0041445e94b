"""Layer, group and RMS norms: slopes over boxes and everywhere, and T11 behind a final normalisation."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from exact import seeded
from flint import arb, ctx
from hypothesis import given
from hypothesis import strategies as st
from normalisations import derivative, normalised
from torch import Tensor, nn
from torch.nn import functional as F

from deqops import InputError
from deqops.graph import trace
from deqops.testing import assert_accepted
from deqops.verify import (
    Ball,
    Certificate,
    Norm,
    UnsupportedOperationError,
    Verdict,
    certify,
    check,
    lipschitz_bound,
    nonexpansive_bound,
    sensitivity_bound,
)
from deqops.verify import _midrad as midrad
from deqops.verify._absorbing import absorbing_box
from deqops.verify._enclosures import enclose_image
from deqops.verify._gains import lipschitz_gain
from deqops.verify._interval_jacobian import interval_jacobian
from deqops.verify._jacobian import Builder, Normalised
from deqops.verify._midrad import MidRad
from deqops.verify._monotone import single_layer
from deqops.verify._normalisation import Normalisation
from deqops.verify._problem import Problem
from deqops.verify._smooth import is_analytic, is_differentiable
from deqops.verify.checker import _arithmetic as ball
from deqops.verify.checker import _monotone as checker_monotone
from deqops.verify.checker._gains import lipschitz_bound as checker_bound
from deqops.verify.checker._network import Walk
from deqops.verify.checker._normalisation import Normalisation as Twin
from deqops.verify.checker._refusal import Rejected
from deqops.verify.checker._values import Values

SLACK = 1 + 2.0**-40
BITS = 240


@pytest.fixture(autouse=True)
def _precision():
    before = ctx.prec
    ctx.prec = BITS
    yield
    ctx.prec = before


# -------------------------------------------------------------------------------------------------------- truth


def norm_of(x: list[Any], eps: float, centred: bool) -> Any:
    """||J||_2: s on the directions across 1 and h; where there are none, `eps s^3`."""
    rank, (_, s) = len(x) - centred, normalised(x, eps, centred)
    return s if rank > 1 else arb(eps) * s**3 if rank == 1 else arb(0)


def points(x: MidRad, seed: int, count: int = 4) -> list[list[Any]]:
    """Corners and inner points of a box of one row."""
    shares = torch.rand(count, len(x.mid), generator=seeded(seed), dtype=torch.float64) * 2 - 1
    shares[: count // 2] = torch.sign(shares[: count // 2])
    mids, rads = x.mid.tolist(), x.rad.tolist()
    return [[arb(m) + arb(r) * arb(t) for m, r, t in zip(mids, rads, row, strict=True)] for row in shares.tolist()]


def contains(x: MidRad, truth: list[Any]) -> bool:
    """Whether every true number may lie within its interval."""
    pairs = zip(x.mid.reshape(-1).tolist(), x.rad.reshape(-1).tolist(), truth, strict=True)
    return all(bool(abs(t - arb(m)) <= arb(r)) or bool((abs(t - arb(m)) - arb(r)).contains(0)) for m, r, t in pairs)


BOXES = {
    "seed": st.integers(0, 10**6),
    "size": st.integers(1, 5),
    "radius": st.sampled_from([0.0, 1e-9, 1e-3, 0.3, 10.0]),
    "offset": st.sampled_from([0.0, 1.0, 1e6]),
    "eps": st.sampled_from([1e-12, 1e-5, 1.0]),
    "centred": st.booleans(),
}


def random_box(seed: int, size: int, radius: float, offset: float) -> MidRad:
    mid = torch.randn(size, generator=seeded(seed), dtype=torch.float64) + offset
    return MidRad(mid, radius * torch.rand(size, generator=seeded(seed + 1), dtype=torch.float64))


# ------------------------------------------------------------------------------------------------ slopes on boxes


@given(**BOXES)
def test_slopes_of_a_normalisation_contain_the_true_ones(
    seed: int, size: int, radius: float, offset: float, eps: float, centred: bool
) -> None:
    x = random_box(seed, size, radius, offset)
    slopes = Normalisation(size, eps, centred).over(x.apply_exact(lambda t: t[None]))
    everywhere = Normalisation(size, eps, centred).everywhere(1)
    eye = MidRad.exact(torch.eye(size, dtype=torch.float64)[None])
    u = torch.rand(size, generator=seeded(seed + 2), dtype=torch.float64)
    for at in points(x, seed + 3):
        J, (h, _) = derivative(at, eps, centred), normalised(at, eps, centred)
        entries = [entry for row in J for entry in row]
        images = [sum((abs(a) * arb(b) for a, b in zip(row, u.tolist(), strict=True)), arb(0)) for row in J]
        for found in (slopes, everywhere):
            assert contains(found.value, h)
            assert contains(found.columns(eye), entries)
            assert not arb(float(found.gain)) < norm_of(at, eps, centred)
            bounds = found.magnitude_times(u[None])[0].tolist()
            assert not any(arb(b) < image for b, image in zip(bounds, images, strict=True))


@given(**BOXES)
def test_the_checkers_slopes_contain_the_true_ones_and_are_no_wider(
    seed: int, size: int, radius: float, offset: float, eps: float, centred: bool
) -> None:
    x = random_box(seed, size, radius, offset)
    u = torch.rand(1, size, generator=seeded(seed + 2), dtype=torch.float64)
    slopes = Normalisation(size, eps, centred).over(x.apply_exact(lambda t: t[None]))
    low, high = (ball.balls(end.tolist(), (1, size)) for end in (x.lower(), x.upper()))
    twin = Twin(size, arb(eps), centred).over(low, high)
    eye = ball.exact(torch.eye(size, dtype=torch.float64)[None])
    middle, radii = twin.columns(eye, ball.full(0, eye.shape))
    magnitude = twin.magnitude(ball.exact(u))[0]
    norm = twin.norms((size,))[0]
    for at in points(x, seed + 3):
        J, (h, _) = derivative(at, eps, centred), normalised(at, eps, centred)
        entries = [entry for row in J for entry in row]
        assert not any(bool(t < a) or bool(t > b) for t, a, b in zip(h, twin.bottom[0], twin.top[0], strict=True))
        assert not any(
            bool(abs(t - m) > r) for t, m, r in zip(entries, middle.reshape(-1), radii.reshape(-1), strict=True)
        )
        assert not norm < norm_of(at, eps, centred)
        images = [sum((abs(a) * arb(b) for a, b in zip(row, u[0].tolist(), strict=True)), arb(0)) for row in J]
        assert not any(bool(b < image) for b, image in zip(magnitude, images, strict=True))
    assert float(norm) <= float(slopes.gain) * SLACK
    theirs = torch.tensor([float(b) for b in magnitude], dtype=torch.float64)
    assert bool((theirs <= slopes.magnitude_times(u)[0] * SLACK + 1e-300).all())


@given(**BOXES)
def test_slopes_lemma_the_average_over_a_segment_is_enclosed_too(
    seed: int, size: int, radius: float, offset: float, eps: float, centred: bool
) -> None:
    """`h(x) - h(x')` is an average of J times `x - x'`, and no single J need give it."""
    x = random_box(seed, size, radius, offset)
    slopes = Normalisation(size, eps, centred).over(x.apply_exact(lambda t: t[None]))
    first, second = (at for at in points(x, seed + 3)[:2])
    step = [a - b for a, b in zip(first, second, strict=True)]
    step_box = MidRad(torch.tensor([float(t) for t in step], dtype=torch.float64), x.rad * 2.0**-40)
    image = slopes.columns(step_box.apply_exact(lambda t: t[None, :, None]))
    (h, _), (k, _) = (normalised(at, eps, centred) for at in (first, second))
    assert contains(image, [a - b for a, b in zip(h, k, strict=True)])


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("size", [2, 3, 8, 64])
def test_slopes_at_small_boxes_are_within_a_percent_of_the_truth(size: int, centred: bool) -> None:
    x = random_box(size, size, 1e-3, 1.0)
    rule, row = Normalisation(size, 1e-5, centred), x.apply_exact(lambda t: t[None])
    slopes, at = rule.over(row), [arb(t) for t in x.mid.tolist()]
    J = derivative(at, 1e-5, centred)
    assert 1 <= float(slopes.gain) / float(norm_of(at, 1e-5, centred)) < 1.01
    sums = max(float(sum(map(abs, each), arb(0))) for each in J)
    ones = torch.ones(1, size, dtype=torch.float64)
    assert 1 <= float(slopes.magnitude_times(ones).max()) / sums < 1.01
    columns = slopes.columns(MidRad.exact(torch.eye(size, dtype=torch.float64)[None]))
    assert float(columns.rad.max()) < 0.01 * float(norm_of(at, 1e-5, centred))


@pytest.mark.parametrize("centred", [True, False])
def test_scale_over_a_box_is_the_largest_one(centred: bool) -> None:
    """The least variance over a wide box, against the best point of a fine search."""
    x = MidRad(torch.tensor([[0.0, 1.0, 4.0, -2.0]]).double(), torch.tensor([[1.0, 2.0, 0.5, 0.25]]).double())
    rule = Normalisation(4, 1e-3, centred)
    ends = [
        torch.linspace(float(a), float(b), 24, dtype=torch.float64)
        for a, b in zip(x.lower()[0], x.upper()[0], strict=True)
    ]
    grid = torch.stack(torch.meshgrid(*ends, indexing="ij"), dim=-1).reshape(-1, 4)
    spread = grid.var(dim=1, correction=0) if centred else (grid**2).mean(dim=1)
    seen = float((spread.min() + 1e-3).rsqrt())
    assert seen * (1 - 1e-12) <= float(rule.over(x).gain) <= seen * 1.01


def test_many_entries_take_the_factored_bound() -> None:
    """Beyond `LARGEST_BLOCKS` |J| is not written out; the bound is still above the truth, by less than 3 in linf."""
    x = torch.randn(1, 600, generator=seeded(3), dtype=torch.float64)
    for centred in (True, False):
        slopes = Normalisation(600, 1e-5, centred).over(MidRad.exact(x))
        J = float_jacobian(x[0], centred)
        u = torch.rand(600, generator=seeded(4), dtype=torch.float64)
        bound, truth = slopes.magnitude_times(u[None])[0], J.abs() @ u
        assert bool((bound >= truth).all())
        assert float((bound / truth).max()) < 5
        twin = Twin(600, arb(1e-5), centred).over(ball.exact(x), ball.exact(x))
        theirs = torch.tensor([float(b) for b in twin.magnitude(ball.exact(u))], dtype=torch.float64)
        assert bool((theirs >= truth).all())
        assert bool((theirs <= bound * SLACK).all())


def float_jacobian(x: Tensor, centred: bool, eps: float = 1e-5) -> Tensor:
    def function(t: Tensor) -> Tensor:
        return F.layer_norm(t, t.shape, eps=eps) if centred else F.rms_norm(t, t.shape, eps=eps)

    result: Any = torch.autograd.functional.jacobian(function, x)
    return result


# --------------------------------------------------------------------------------------------------- constants


def problem_of(G: Any, z: Tensor, *inputs: Tensor) -> Problem:
    return Problem(trace(G, z, *inputs), z, inputs)


@pytest.mark.parametrize("eps", [1e-5, 0.25, 1.0])
def test_constant_in_l2_is_attained_at_the_origin(eps: float) -> None:
    z = torch.zeros(2, 5, dtype=torch.float64)
    for norm_ in (F.layer_norm, F.rms_norm):
        G: Callable[[Tensor], Tensor] = lambda z, norm_=norm_: 0.5 * norm_(z, (5,), eps=eps)  # noqa: E731
        bound = lipschitz_bound(G, z, norm="l2").upper
        assert 0.5 / math.sqrt(eps) <= bound <= 0.5 / math.sqrt(eps) * (1 + 1e-12)


@pytest.mark.parametrize("norm", ["l1", "linf"])
def test_constant_in_l1_and_linf_is_above_that_at_the_origin(norm: str) -> None:
    z = torch.zeros(1, 4, dtype=torch.float64)
    bound = lipschitz_bound(lambda z: F.layer_norm(z, (4,), eps=1.0), z, norm=norm).upper
    assert 1.5 <= bound <= 2.26  # 2 (1 - 1/n) at the origin; 3/4 and three times 1/2 wherever
    ball_ = Ball(z, 1e-6)
    local = lipschitz_bound(lambda z: F.layer_norm(z, (4,), eps=1.0), z, norm=norm, region=ball_).upper
    assert 1.5 <= local <= 1.5 * (1 + 1e-4)


@given(seed=st.integers(0, 10**6), order=st.sampled_from(["l1", "l2", "linf"]), weighted=st.booleans())
def test_bounds_over_a_box_hold_for_sampled_jacobians(seed: int, order: Any, weighted: bool) -> None:
    n, kind = 4, seed % 3
    W = torch.randn(n, n, generator=seeded(seed), dtype=torch.float64)
    gamma = torch.randn(n, generator=seeded(seed + 1), dtype=torch.float64)

    def G(z: Tensor) -> Tensor:
        v = z @ W.T
        if kind == 0:
            return F.layer_norm(v, (n,), gamma)
        if kind == 1:
            return torch.tanh(F.rms_norm(v, (n,), gamma, eps=1e-3) @ W)
        return F.group_norm(v, 2, gamma, eps=0.1)

    z = torch.randn(1, n, generator=seeded(seed + 2), dtype=torch.float64)
    weights = 0.5 + torch.rand(n, generator=seeded(seed + 3), dtype=torch.float64)
    norm = Norm(order, (weights,) if weighted else None)
    problem, box = problem_of(G, z), MidRad(z, torch.full_like(z, 0.1))
    jacobian = Builder(problem.graph, problem.constants, [box]).build()
    bound = lipschitz_gain(jacobian, norm, 1).upper
    enclosed, image = interval_jacobian(jacobian, 1), enclose_image(problem.graph, problem.constants, [box])[0]
    D = torch.diag(weights) if weighted else torch.eye(n, dtype=torch.float64)
    for number in range(6):
        y = z + 0.1 * (2 * torch.rand(1, n, generator=seeded(seed + 10 + number), dtype=torch.float64) - 1)
        J: Any = torch.autograd.functional.jacobian(G, y).reshape(n, n)
        found = torch.linalg.matrix_norm(D @ J @ D.inverse(), {"l1": 1, "l2": 2, "linf": math.inf}[order])
        assert float(found) <= bound * (1 + 1e-9)
        assert bool(((J - enclosed.mid[0]).abs() <= enclosed.rad[0] * (1 + 1e-9) + 1e-12).all())
        assert bool(((G(y) - image.mid).abs() <= image.rad * (1 + 1e-9) + 1e-12).all())


@pytest.mark.parametrize("order", ["l1", "l2", "linf"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_checker_bounds_the_global_constant_as_tightly(order: Any, weighted: bool) -> None:
    W = torch.randn(6, 6, generator=seeded(5), dtype=torch.float64)
    weights = 0.5 + torch.rand(2, 6, generator=seeded(6), dtype=torch.float64)
    for G in (
        lambda z: F.layer_norm(torch.tanh(z @ W), (6,), W[0], eps=0.1),
        lambda z: torch.tanh(F.rms_norm(z, (2, 6), eps=0.1) @ W),
        lambda z: F.group_norm(z.reshape(-1, 6, 2), 3, eps=0.5).reshape(-1, 2, 6),
    ):
        problem = problem_of(G, torch.zeros(1, 2, 6, dtype=torch.float64))
        theirs = Walk(problem.graph, Values(problem.graph, None, frozenset()))
        scaled = [ball.exact(weights[None])] if weighted else None
        with ball.working_precision():
            found = float(checker_bound(theirs.network.sources, theirs.outputs, order, scaled))
        mine = lipschitz_gain(problem.jacobian, Norm(order, (weights,) if weighted else None), 1).upper
        assert mine * (1 - 1e-6) <= found <= mine * SLACK


# ------------------------------------------------------------------------------------------- T11 behind a norm


class PostNorm(nn.Module):
    """`scale * norm(W z + U x + b)`."""

    def __init__(self, norm: nn.Module, W: Tensor, U: Tensor, scale: float = 0.5) -> None:
        super().__init__()
        self.norm, self.scale = norm, scale
        self.W, self.U = nn.Parameter(W), nn.Parameter(U)
        self.b = nn.Parameter(0.1 * torch.ones(len(W), dtype=W.dtype))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return self.scale * self.norm(z @ self.W.T + x @ self.U.T + self.b)


def post_norm(kind: type[nn.Module], n: int, seed: int, dtype: torch.dtype = torch.float64, **given_: Any) -> PostNorm:
    norm = kind(2, n, dtype=dtype) if kind is nn.GroupNorm else kind(n, dtype=dtype, **given_)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=seeded(seed + 7), dtype=dtype)
    W, U = (torch.randn(n, n, generator=seeded(seed + k), dtype=dtype) for k in (0, 1))
    return PostNorm(norm, W / torch.linalg.matrix_norm(W, 2), U)


def push(n: int, problems: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return 4 * torch.randn(problems, n, generator=seeded(11), dtype=dtype)


def in_balls(layer: PostNorm, z: list[Any], x: Tensor) -> list[Any]:
    """The layer at one z, in balls; layer and RMS norm over everything, or two groups."""
    n, norm = len(z), layer.norm
    drive = [sum((arb(u) * arb(t) for u, t in zip(row, x.tolist(), strict=True)), arb(0)) for row in layer.U.tolist()]
    v = [
        sum((arb(w) * t for w, t in zip(row, z, strict=True)), arb(0)) + d + arb(b)
        for row, d, b in zip(layer.W.tolist(), drive, layer.b.tolist(), strict=True)
    ]
    step = n // 2 if isinstance(norm, nn.GroupNorm) else n
    eps: Any = norm.eps if norm.eps is not None else torch.finfo(layer.W.dtype).eps
    parts = [normalised(v[k : k + step], eps, not isinstance(norm, nn.RMSNorm))[0] for k in range(0, n, step)]
    h = list(itertools.chain(*parts))
    gamma = norm.weight.tolist()
    beta = [0.0] * n if isinstance(norm, nn.RMSNorm) else norm.bias.tolist()
    return [arb(layer.scale) * (arb(g) * t + arb(b)) for g, t, b in zip(gamma, h, beta, strict=True)]


def midpoints(values: list[Any]) -> list[Any]:
    return [t.mid() for t in values]


@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.RMSNorm, nn.GroupNorm])
def test_t11_behind_a_final_normalisation_every_start_converges(kind: type[nn.Module]) -> None:
    layer, z, x = post_norm(kind, 4, 3), torch.zeros(1, 4, dtype=torch.float64), push(4)
    certificate = certify(layer, z, x)
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.theorem == "absorbing"
    report = check(certificate, layer, z, x)
    assert report.accepted, report.reasons
    y = z
    with torch.no_grad():
        for _ in range(12):
            y = layer(y, x)
    limits = []
    for scale in (0.0, 1.0, 1e3, 1e9):
        at = [arb(scale * t) for t in torch.randn(4, generator=seeded(int(scale) % 97), dtype=torch.float64).tolist()]
        for _ in range(150):
            at = midpoints(in_balls(layer, at, x[0]))
        limits.append(at)
    assert all(abs(a - b) < 1e-40 for at in limits for a, b in zip(at, limits[0], strict=True))
    error = float(certificate.error_bound(layer, y, x).linf)
    apart = max(float(abs(arb(a) - b)) for a, b in zip(y[0].tolist(), limits[0], strict=True))
    assert apart <= error < 1e-3


@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.RMSNorm])
def test_t11_where_the_variance_may_vanish_nothing_is_certified(kind: type[nn.Module]) -> None:
    """No input: at z = 0 the layer expands, and by the index there must be another equilibrium, or a cycle."""
    layer, z = post_norm(kind, 4, 3, eps=1e-5), torch.zeros(1, 4, dtype=torch.float64)
    with torch.no_grad():
        layer.b.zero_()
        layer.W *= 0.1
    certificate = certify(layer, z, torch.zeros_like(z), theorem="absorbing")
    assert certificate.verdict is not Verdict.CERTIFIED
    problem = problem_of(layer, z, torch.zeros_like(z))
    box = absorbing_box(problem)
    assert box is not None
    jacobian = Builder(problem.graph, problem.constants, box.intervals).build()
    assert lipschitz_gain(jacobian, Norm("l2"), 1).upper > 10
    if certificate.verdict is Verdict.REFUTED:
        assert_accepted(certificate, layer, z, torch.zeros_like(z))


def test_t11_two_equilibria_behind_a_norm_are_never_made_one() -> None:
    """`h = norm(g h)`: both h = +-(1, -1) nearly, for every gain."""
    for g in (0.1, 10.0):
        z = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
        for norm in (F.layer_norm, F.rms_norm):
            certificate = certify(lambda z, norm=norm, g=g: norm(g * z, (2,), eps=1e-6), z, theorem="absorbing")
            assert certificate.verdict is not Verdict.CERTIFIED


@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.RMSNorm, nn.GroupNorm])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_modules_of_torch_are_certified_and_checked(kind: type[nn.Module], dtype: torch.dtype) -> None:
    layer, z, x = post_norm(kind, 8, 2, dtype), torch.zeros(3, 8, dtype=dtype), push(8, 3, dtype)
    certificate = certify(layer, z, x)
    assert certificate.verdict is Verdict.CERTIFIED, certificate.reason
    assert_accepted(certificate, layer, z, x)
    assert not check(certificate, layer, z, x * 1.5).accepted
    other = copy.deepcopy(layer)
    with torch.no_grad():
        next(iter(other.norm.parameters())).mul_(1.5)
    assert not check(certificate, other, z, x).accepted


def test_a_group_norm_over_images_and_a_norm_over_two_dimensions() -> None:
    conv = nn.Conv1d(4, 4, 3, padding=1, dtype=torch.float64)
    norm = nn.GroupNorm(2, 4, dtype=torch.float64)
    z, x = torch.zeros(1, 4, 5, dtype=torch.float64), push(20).reshape(1, 4, 5)
    for G in (
        lambda z, x: 0.3 * norm(0.2 * conv(z) + x),
        lambda z, x: 0.3 * F.layer_norm(0.2 * conv(z) + x, (4, 5)),
        lambda z, x: 0.3 * F.rms_norm(0.2 * conv(z) + x, (4, 5), eps=1e-6),
    ):
        certificate = certify(G, z, x)
        assert certificate.verdict is Verdict.CERTIFIED
        assert certificate.theorem == "absorbing"
        assert_accepted(certificate, G, z, x)


# ---------------------------------------------------------------------------------------------- local theorems


class PreNorm(nn.Module):
    """`0.5 * W2 tanh(W1 norm(z) + x)`."""

    def __init__(self, norm: nn.Module, n: int, seed: int) -> None:
        super().__init__()
        self.norm = norm
        matrices = [torch.randn(n, n, generator=seeded(seed + k), dtype=torch.float64) for k in (0, 1)]
        self.W1, self.W2 = (nn.Parameter(W / torch.linalg.matrix_norm(W, 2)) for W in matrices)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return 0.5 * torch.tanh(self.norm(z) @ self.W1.T + x) @ self.W2.T


def equilibrium(layer: nn.Module, z: Tensor, x: Tensor) -> Tensor:
    with torch.no_grad():
        for _ in range(2000):
            z = layer(z, x)
    return z


@pytest.mark.parametrize("norm", [nn.LayerNorm(6, dtype=torch.float64), nn.RMSNorm(6, dtype=torch.float64)])
def test_t2_and_t6_at_the_equilibrium_of_a_pre_norm_block(norm: nn.Module) -> None:
    layer = PreNorm(norm, 6, 1)
    x = torch.randn(1, 6, generator=seeded(4), dtype=torch.float64)
    y = equilibrium(layer, torch.randn(1, 6, generator=seeded(5), dtype=torch.float64), x)
    for theorem in ("local_picard", "newton_kantorovich", "local_lyapunov"):
        certificate = certify(layer, y, x, norm="l2", region=Ball(y, 1e-5), theorem=theorem)
        assert certificate.verdict is Verdict.CERTIFIED or theorem == "local_picard", certificate.reason
        if certificate.verdict is Verdict.CERTIFIED:
            report = check(certificate, layer, y, x)
            assert report.accepted, report.reasons
            assert float(certificate.error_bound(layer, y, x).l2) < 1e-11


def test_t2_local_constant_of_a_pre_norm_block_is_near_the_true_derivative() -> None:
    layer = PreNorm(nn.LayerNorm(6, dtype=torch.float64), 6, 1)
    x = torch.randn(1, 6, generator=seeded(4), dtype=torch.float64)
    y = equilibrium(layer, torch.randn(1, 6, generator=seeded(5), dtype=torch.float64), x)
    problem = problem_of(layer, y, x)
    boxes = [MidRad(y, torch.full_like(y, 1e-7))]
    J = interval_jacobian(Builder(problem.graph, problem.constants, boxes).build(), 1)
    truth: Any = torch.autograd.functional.jacobian(lambda z: layer(z, x), y)
    assert float((J.mid[0] - truth.reshape(6, 6)).abs().max()) < 1e-5
    assert float(J.rad.max()) < 1e-4


# ------------------------------------------------------------------------------------ refusals and what is near


@pytest.mark.parametrize("norm", [F.layer_norm, F.rms_norm])
def test_without_eps_it_is_refused_by_name(norm: Any) -> None:
    z = torch.ones(1, 3, dtype=torch.float64)

    def G(z: Tensor) -> Tensor:
        return 0.1 * norm(z, (3,), eps=0.0)

    name = "layer_norm" if norm is F.layer_norm else "rms_norm"
    with pytest.raises(UnsupportedOperationError, match=f"{name}.*eps > 0"):
        lipschitz_bound(G, z)
    certificate = certify(G, z)
    assert certificate.verdict is Verdict.UNKNOWN
    assert "eps > 0" in certificate.reason


def test_group_norm_without_eps_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedOperationError, match=r"group_norm.*eps > 0"):
        lipschitz_bound(lambda z: F.group_norm(z, 2, eps=0.0), torch.ones(1, 4, dtype=torch.float64))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("parameter", ["W", "b", "weight"])
def test_weights_that_are_no_numbers_certify_nothing(value: float, parameter: str) -> None:
    layer, z, x = post_norm(nn.LayerNorm, 4, 3), torch.zeros(1, 4, dtype=torch.float64), push(4)
    good = certify(layer, z, x)
    with torch.no_grad():
        (layer.norm.weight if parameter == "weight" else getattr(layer, parameter)).view(-1)[0] = value
    with pytest.raises(InputError, match="NaN or infinity"):
        certify(layer, z, x)
    assert not check(good, layer, z, x).accepted


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_boxes_that_are_not_enclosed_bound_nothing(value: float) -> None:
    rule, row = Normalisation(3, 1e-5, True), torch.tensor([[0.0, 1.0, value]], dtype=torch.float64)
    at = rule.over(MidRad.exact(row))
    assert math.isinf(float(at.gain))
    assert not at.value.is_finite()
    wide = rule.over(MidRad(torch.zeros_like(row), row))
    assert float(wide.gain) == float(rule.everywhere(1).gain)
    assert float(wide.value.magnitude().max()) <= math.sqrt(2) * (1 + 1e-12)
    with pytest.raises(Rejected):
        Twin(3, arb(1e-5), True).over(ball.exact(row), ball.exact(row))


def test_huge_and_tiny_numbers_are_enclosed() -> None:
    for size in (1e-300, 1e-160, 1e150, 1e300):
        x = torch.tensor([[size, -size / 2, size / 4]], dtype=torch.float64)
        for centred in (True, False):
            found = Normalisation(3, 1e-5, centred).over(MidRad(x, x.abs() / 8))
            at = [arb(t) for t in x[0].tolist()]
            assert contains(found.value, normalised(at, 1e-5, centred)[0])
            assert not arb(float(found.gain)) < norm_of(at, 1e-5, centred)


def test_a_normalisation_is_no_single_layer_of_t5() -> None:
    """T5 (b) to (d) need a diagonal slope matrix."""
    z = torch.zeros(1, 3, dtype=torch.float64)
    problem = problem_of(lambda z: F.rms_norm(0.1 * z, (3,), eps=1.0), z)
    assert any(isinstance(basis, Normalised) for basis in problem.jacobian.bases)
    assert single_layer(problem.jacobian) is None
    walk = Walk(problem.graph, Values(problem.graph, None, frozenset()))
    with pytest.raises(Rejected, match="monotone"):
        checker_monotone.single_layer(walk.network, walk.outputs)


def test_a_normalisation_is_analytic() -> None:
    z = torch.zeros(1, 3, dtype=torch.float64)
    for norm in (F.layer_norm, F.rms_norm):
        problem = problem_of(lambda z, norm=norm: torch.tanh(norm(z, (3,), eps=1.0)), z)
        assert is_analytic(problem.graph)
        assert is_differentiable(problem.jacobian)
    kinked = problem_of(lambda z: torch.relu(F.layer_norm(z, (3,), eps=1.0)), z)
    assert not is_analytic(kinked.graph)
    assert not is_differentiable(kinked.jacobian)


def test_t9_an_unstable_equilibrium_behind_a_norm_is_refuted_and_checked() -> None:
    """At 0 the layer expands by `3 / sqrt(eps)` across 1: convergence to one equilibrium from everywhere is false."""
    z = torch.tensor([[1.0, 0.5, -0.25]], dtype=torch.float64)

    def G(z: Tensor) -> Tensor:
        return 3 * F.layer_norm(z, (3,), eps=1.0)

    certificate = certify(G, z, norm="l2")
    assert certificate.verdict is Verdict.REFUTED
    assert_accepted(certificate, G, z)


def test_t8_an_rms_norm_keeps_exact_zeros_and_couples_its_group() -> None:
    """The second entry of G(z) is the first of the norm: 0 times anything for an RMS norm, minus a mean otherwise."""
    z, mask = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
    shift = torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)

    def G(z: Tensor) -> Tensor:
        return F.rms_norm(z * mask, (2,), eps=1e-5) @ shift

    certificate = certify(G, z, theorem="causal")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.depth == 1
    assert_accepted(certificate, G, z)
    for H in (lambda z: F.layer_norm(z * mask, (2,)) @ shift, lambda z: F.rms_norm(z, (2,), eps=1e-5) @ shift):
        assert certify(H, z, theorem="causal").verdict is not Verdict.CERTIFIED


def test_t10_sensitivity_goes_through_a_normalisation() -> None:
    W = 0.3 * torch.eye(4, dtype=torch.float64)
    norm = nn.LayerNorm(4, dtype=torch.float64)

    def G(z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(z @ W.T + 0.5 * F.layer_norm(x, (4,), eps=1.0))

    z, x = torch.zeros(1, 4, dtype=torch.float64), push(4)
    found = sensitivity_bound(certify(G, z, x, norm="l2"), G, z, x)
    assert 0.5 <= found.input_constant <= 0.5 * (1 + 1e-9)
    assert norm.eps == 1e-5


def test_an_rms_norm_without_eps_takes_that_of_its_dtype() -> None:
    for dtype in (torch.float32, torch.float64):
        graph = trace(nn.RMSNorm(3, dtype=dtype), torch.zeros(1, 3, dtype=dtype)).concrete(
            torch.zeros(1, 3, dtype=dtype)
        )
        node = next(n for n in graph.nodes if n.op == "rms_norm")
        assert node.attributes == {"normalized_shape": (3,), "eps": torch.finfo(dtype).eps}
        x = torch.tensor([[1e-4, -2e-4, 1e-5]], dtype=dtype)
        assert torch.allclose(F.rms_norm(x, (3,)), F.rms_norm(x, (3,), eps=torch.finfo(dtype).eps))


def test_t4_a_layer_norm_with_eps_1_is_nonexpansive_exactly() -> None:
    z = torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64)

    def G(z: Tensor) -> Tensor:
        return F.layer_norm(z, (3,), eps=1.0)

    assert nonexpansive_bound(G, z).hypotheses[0].value == 1.0
    weights = Norm("l2", (torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64),))
    with pytest.raises(UnsupportedOperationError, match="nonexpansive"):  # D J D^-1 is larger than J here
        nonexpansive_bound(G, z, norm=weights)


def test_t13_behind_a_final_normalisation() -> None:
    layer, z, x = post_norm(nn.LayerNorm, 4, 3), torch.zeros(1, 4, dtype=torch.float64), push(4)
    with torch.no_grad():
        for _ in range(50):
            z = layer(z, x)
    certificate = certify(layer, z, x, norm="linf", region=Ball(z, 1e-3), theorem="componentwise")
    assert certificate.verdict is Verdict.CERTIFIED, certificate.reason
    assert_accepted(certificate, layer, z, x)


def test_constants_behind_a_normalisation_are_folded() -> None:
    """A layer norm of the input alone: known in the certifier and in the checker."""
    z, x = torch.zeros(1, 3, dtype=torch.float64), push(3)

    def G(z: Tensor, x: Tensor) -> Tensor:
        return 0.5 * torch.tanh(z * F.layer_norm(x, (3,)))

    certificate: Certificate = certify(G, z, x, norm="l2")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.rate is not None
    assert certificate.rate < 0.8
    assert_accepted(certificate, G, z, x)
    exact = midrad.sub(MidRad.exact(F.layer_norm(x, (3,))), Normalisation(3, 1e-5, True).over(MidRad.exact(x)).value)
    assert float(exact.magnitude().max()) < 1e-12

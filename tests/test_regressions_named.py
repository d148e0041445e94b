"""Failures seen in other tools, and the theory's counterexamples: each by name, against our bounds and `certify`.

Truths are exact: rational arithmetic, or balls where a function is transcendental. `unknown` is always an admissible
verdict; `certified` or `refuted` must be true. The failures of torchdeq's solvers are in `test_torchdeq_failures.py`.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from exact import bounds_norm, fractions, rational, rational_matrix
from flint import arb, ctx, fmpq, fmpq_mat
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import deqops.testing as kit
from deqops._errors import InputError, UnsupportedOperationError
from deqops.verify import (
    Ball,
    Certificate,
    Contraction,
    Converges,
    Norm,
    UniqueEquilibrium,
    Verdict,
    certify,
    lipschitz_bound,
    spectral_norm_bound,
)
from deqops.verify._definite import lowest_eigenvalue_bound
from deqops.verify._midrad import MidRad
from deqops.verify._midrad import matmul as enclosed_product
from deqops.verify._midrad import sub as enclosed_difference
from deqops.verify._sparse import SparseMatrix
from deqops.verify._spectral import cholesky_deficit, inf_norm_bound, one_norm_bound

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its use of torch is dated
    from torchdeq.norm import apply_norm, remove_norm, reset_norm

ASKED = (
    *(("auto", "auto"), ("picard", "l2"), ("picard", "weighted_linf"), ("damped", "auto"), ("monotone", "auto")),
    *((name, "auto") for name in ("newton_kantorovich", "projection", "causal", "absorbing", "local_lyapunov")),
    *((name, "auto") for name in ("local_picard", "componentwise", "powers", "volterra")),
)
"""Every theorem of the theory, those that `certify` does not know yet too, and a norm."""

Map = Callable[..., Tensor]


def double(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def exceeds(W: Tensor, limit: Fraction | float) -> bool:
    """Whether `||W||_2 > limit`: a guessed vector's quotient, evaluated exactly."""
    guess = torch.linalg.svd(W.detach().double())[2][0]
    v = fmpq_mat(len(guess), 1, [rational(x) for x in guess.tolist()])
    image = rational_matrix(W.detach().double()) * v
    longer, shorter = ((u.transpose() * u)[0, 0] for u in (image, v))
    exact = Fraction(limit)
    return bool(longer > fmpq(exact.numerator, exact.denominator) ** 2 * shorter)


def attempts(G: Map, y0: Tensor, *inputs: Tensor, **options: Any) -> list[Certificate]:
    """What every theorem says; one that is not known, or is about another region, says nothing."""
    found = []
    for theorem, norm in ASKED:
        try:
            found.append(certify(G, y0, *inputs, theorem=theorem, norm=norm, **options))
        except InputError:
            continue
    assert found
    return found


def is_local(certificate: Certificate) -> bool:
    return isinstance(certificate.region, Ball)


def assert_never_certified(G: Map, y0: Tensor, *inputs: Tensor, **options: Any) -> None:
    """Neither everywhere nor in a ball."""
    for certificate in attempts(G, y0, *inputs, **options):
        assert certificate.verdict is not Verdict.CERTIFIED, certificate.explain()


def assert_no_convergence_claim(G: Map, y0: Tensor, *inputs: Tensor, **options: Any) -> None:
    """Nothing about an iteration; that a ball holds one equilibrium (T6) is another claim, and may be true."""
    for certificate in attempts(G, y0, *inputs, **options):
        if certificate.verdict is Verdict.CERTIFIED:
            assert isinstance(certificate.claim, UniqueEquilibrium), certificate.explain()
            assert is_local(certificate), certificate.explain()
            assert certificate.rate is None, certificate.explain()


def assert_no_global_claim(G: Map, y0: Tensor, *inputs: Tensor, **options: Any) -> None:
    for certificate in attempts(G, y0, *inputs, **options):
        assert certificate.verdict is not Verdict.CERTIFIED or is_local(certificate), certificate.explain()


def layer(activation: Map, W: Tensor, c: Tensor) -> Map:
    return lambda z: activation(z @ W.T + c)


# ============================================================================== T1: scalings that are not diagonal

TRAP = double([[1.5, -2.0], [1.0, -1.2]])
TRAP_BIAS = double([-0.5, -1.0])


def test_t1_trap_a_contraction_in_a_full_weighted_norm_has_two_equilibria_behind_relu() -> None:
    W, c = fractions(TRAP), [Fraction(-1, 2), Fraction(-1)]

    def G(z: list[Fraction]) -> list[Fraction]:
        return [
            max(Fraction(0), sum(w * x for w, x in zip(row, z, strict=True)) + b) for row, b in zip(W, c, strict=True)
        ]

    for equilibrium in ([0, 0], [1, 0]):
        assert G([Fraction(v) for v in equilibrium]) == equilibrium
    z = torch.zeros(1, 2, dtype=torch.float64)
    assert_no_global_claim(layer(torch.relu, TRAP, TRAP_BIAS), z)
    # the same weights behind an input that may take any value
    for certificate in attempts(lambda z, x: torch.relu(z @ TRAP.T + x), z, TRAP_BIAS[None]):
        assert certificate.verdict is not Verdict.CERTIFIED or is_local(certificate)


def test_t1_trap_around_each_equilibrium_the_ball_holds_one() -> None:
    """Local claims are true: the two balls are disjoint."""
    G = layer(torch.relu, TRAP, TRAP_BIAS)
    other = double([[1.0, 0.0]])
    origin = certify(G, torch.zeros_like(other), theorem="local_picard", region=Ball(torch.zeros_like(other), 0.1))
    assert origin.verdict is Verdict.CERTIFIED
    near = certify(G, other, theorem="local_picard", region=Ball(other, 1.0), norm="l2")
    assert near.verdict is not Verdict.CERTIFIED


def test_t1_trap_gelu_slopes_exceed_one() -> None:
    """W = 0.95: a difference quotient is above 1.07, so 0.95 gelu is no contraction although 0.95 < 1."""
    before, ctx.prec = ctx.prec, 200
    try:
        w = arb(rational(0.95))
        values = [x * w / 2 * (1 + (x * w / arb(2).sqrt()).erf()) for x in (arb("1.488"), arb("1.490"))]
        quotient = (values[1] - values[0]) / (arb("1.490") - arb("1.488"))
        assert quotient > arb("1.072")
    finally:
        ctx.prec = before
    z = double([[1.0]])
    G = layer(F.gelu, double([[0.95]]), double([0.0]))
    for norm in ("l1", "l2", "linf", "weighted_linf"):
        assert certify(G, z, norm=norm, theorem="picard").verdict is Verdict.REFUTED
    assert lipschitz_bound(G, z).upper >= 1.0724
    smaller = certify(layer(F.gelu, double([[0.88]]), double([0.0])), z, norm="l2", theorem="picard")
    assert smaller.verdict is Verdict.CERTIFIED
    assert smaller.rate is not None
    assert smaller.rate >= 0.88 * 1.1289


def test_t1_powers_the_constant_of_a_power_bounds_no_error_by_itself() -> None:
    """G^2 = const has constant 0, yet ||y - y*|| is not 0 times the residual: it is 5 times it here."""
    W = double([[0.0, 5.0], [0.0, 0.0]])
    z = double([[5.0, 1.0]])
    G = layer(lambda v: v, W, double([0.0, 0.0]))
    certificate = certify(G, z)
    assert certificate.verdict is Verdict.CERTIFIED
    residual = Fraction(1)  # G(z) - z = (0, -1)
    error_squared = Fraction(25) + 1  # y* = 0
    bound = certificate.error_bound(G, z)
    assert Fraction(float(bound.l2)) ** 2 >= error_squared > residual**2
    assert certify(G, z, norm="l2", theorem="picard").verdict is Verdict.REFUTED


# ======================================================================================== T2, T3, T4: small print


def test_t2_a_small_constant_on_a_ball_that_is_left_proves_nothing() -> None:
    """z -> 1 + z / 2 has q = 1/2 on B(0, 1) and its equilibrium 2 outside."""
    z = double([[0.0]])

    def G(z: Tensor) -> Tensor:
        return 1 + 0.5 * z

    for norm in ("l1", "l2", "linf"):
        found = certify(G, z, theorem="local_picard", norm=norm, region=Ball(z, 1.0))
        assert found.verdict is not Verdict.CERTIFIED
        assert certify(G, z, theorem="local_picard", norm=norm, region=Ball(z, 2.001)).verdict is Verdict.CERTIFIED


def test_t3_the_jump_of_torchs_softplus_refutes_nothing() -> None:
    """The program jumps at its threshold; the smooth function, which is certified, does not."""
    scale = 1 - 1e-6
    below, above = math.nextafter(20.0, 0.0), math.nextafter(20.0, 30.0)
    jump = F.softplus(double(above)) - F.softplus(double(below))
    assert float(jump.abs()) > 1.0001 * (above - below)

    def G(z: Tensor) -> Tensor:
        return scale * F.softplus(z)

    z = double([[20.0]])
    certificate = certify(G, z, norm="l2", theorem="picard")
    assert certificate.verdict is Verdict.CERTIFIED
    for norm in ("l1", "l2", "linf"):
        local = certify(G, z, norm=norm, theorem="local_picard", region=Ball(z, 1e-6))
        assert local.verdict is not Verdict.REFUTED
    # without the factor the supremum of the slopes is 1: no contraction, and no two points show it
    assert certify(F.softplus, z, norm="linf", theorem="picard").verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("damping", [1.0, 0.5, 1.5])
def test_t4_a_translation_is_nonexpansive_and_has_no_equilibrium(damping: float) -> None:
    z = double([[0.0, 0.0]])
    assert_never_certified(lambda z: z + 1, z, damping=damping)
    assert_never_certified(lambda z: torch.relu(z + 1), z, damping=damping)


def test_t4_a_rotation_is_nonexpansive_and_is_not_claimed_to_contract() -> None:
    z = double([[1.0, 0.0]])
    for certificate in attempts(layer(lambda v: v, double([[0.0, -1.0], [1.0, 0.0]]), double([0.0, 0.0])), z):
        if certificate.verdict is Verdict.CERTIFIED:
            assert not isinstance(certificate.claim, Contraction)
            assert not isinstance(certificate.claim, Converges) or certificate.claim.damping != 1
    for order in ("l2", "linf"):
        found = certify(lambda z: z @ double([[0.0, 1.0], [-1.0, 0.0]]), z, norm=order, theorem="picard")
        assert found.verdict is not Verdict.CERTIFIED


# ================================================================================================= T5: monotone


@pytest.mark.parametrize("damping", [1.5, 1.25, 3.0])
def test_t5_over_relaxation_beyond_one_is_not_covered_by_the_monotone_constant(damping: float) -> None:
    """G = -0.9 z has m <= 0.9 = L; with b = 1.5 the formula says 0.85, the damped map is -1.85 z."""
    m = L = 0.9
    b = damping
    formula = (1 - b) ** 2 + 2 * b * (1 - b) * m + b**2 * L**2
    true = abs(1 - b - b * 0.9)
    assert true > 1
    if b == 1.5:
        assert formula < 1
    for certificate in attempts(lambda z: -0.9 * z, double([[1.0]]), damping=damping):
        claim = certificate.claim
        if certificate.verdict is Verdict.CERTIFIED and isinstance(claim, Converges):
            assert claim.damping != damping, certificate.explain()


def test_t5_pointwise_mu_below_one_is_not_enough_softplus_has_no_equilibrium() -> None:
    """softplus' slopes are below 1 everywhere and softplus(z) > z everywhere."""
    z = double([[0.0]])
    assert_never_certified(F.softplus, z)
    assert certify(F.softplus, z, theorem="damped", damping=0.5).verdict is not Verdict.CERTIFIED
    assert certify(lambda z: 0.999 * F.softplus(z), z).verdict is Verdict.CERTIFIED


def test_t5_layers_of_large_norm_have_one_equilibrium_and_no_picard_claim() -> None:
    """W = [[0, -27], [27, 0]]: one equilibrium for every c, while Picard's iteration may run away."""
    W = double([[0.0, -27.0], [27.0, 0.0]])
    z = double([[1.0, 1.0]])
    G = layer(torch.relu, W, double([1.0, 2.0]))
    certificate = certify(G, z, theorem="monotone")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.rate is None
    assert certify(G, z, norm="l2", theorem="picard").verdict is Verdict.REFUTED


# ======================================================================================================= T6 to T9


def test_t6_newton_is_not_for_relu_and_quadratics_without_roots_have_no_equilibrium() -> None:
    """z^2 + 1 = z has no real solution; 2 |z| + 1 = z neither."""
    z = double([[0.5]])
    assert_never_certified(lambda z: z * z + 1, z)
    assert_never_certified(lambda z: torch.square(z) + 1, z)
    assert_never_certified(lambda z: 2 * torch.abs(z) + 1, z)
    for radius in (0.1, 1.0, 10.0):
        assert_never_certified(lambda z: torch.square(z) + 1, z, region=Ball(z, radius))


def test_t7_nodes_are_not_the_continuum_a_quadrature_of_norm_above_one_is_not_certified() -> None:
    """A kernel with integral 1/2 whose two nodes see 3/2: certificates are about the nodes, which do not contract."""
    weights = double([[0.75, 0.75], [0.75, 0.75]])
    assert exceeds(weights, 1.4)
    assert_no_convergence_claim(layer(lambda v: v, weights, double([1.0, 0.0])), double([[0.0, 0.0]]))


def test_t8_implicit_quadrature_is_not_strictly_triangular() -> None:
    """A diagonal of 2 makes every sweep diverge; without it two sweeps suffice, however large the rest."""
    z = double([[1.0, 1.0]])
    assert_no_convergence_claim(layer(lambda v: v, double([[2.0, 0.0], [1.0, 2.0]]), double([1.0, 1.0])), z)
    for size, expected in ((1e3, Verdict.CERTIFIED), (1e6, None)):
        strict = certify(layer(lambda v: v, double([[0.0, 0.0], [size, 0.0]]), double([1.0, 1.0])), z)
        assert strict.verdict is not Verdict.REFUTED
        assert expected is None or strict.verdict is expected


def test_t8_a_mask_of_minus_1e9_is_not_independence() -> None:
    scores = double([[0.0, -1e9], [0.0, 0.0]])

    def G(z: Tensor) -> Tensor:
        return torch.softmax(scores + 3 * (z @ z.T), dim=-1) @ z * 2

    assert_no_global_claim(G, double([[1.0], [2.0]]), batch_dims=0)


@pytest.mark.parametrize(
    ("name", "G"),
    [
        ("identically 0, derivative -1 at the kink", lambda z: 3 * (torch.relu(z) - 0.5 * (z + torch.abs(z)))),
        ("z / 2, derivative 2 at the kink", lambda z: 0.5 * z + 1.5 * (z + torch.relu(-z) - torch.relu(z))),
    ],
)
def test_t9_autodiffs_derivative_at_a_kink_is_no_witness(name: str, G: Map) -> None:
    zero = double([[0.0]]).requires_grad_()
    (derivative,) = torch.autograd.grad(G(zero).sum(), zero)
    assert abs(float(derivative)) > 1, name
    for certificate in attempts(G, double([[0.0]])):
        assert certificate.verdict is not Verdict.REFUTED, certificate.explain()
    for norm in ("l1", "l2", "linf"):
        ball = Ball(double([[0.0]]), 1.0)
        assert (
            certify(G, double([[0.0]]), norm=norm, theorem="local_picard", region=ball).verdict is not Verdict.REFUTED
        )


@pytest.mark.parametrize(
    ("name", "G"),
    [
        ("round", torch.round),
        ("floor", torch.floor),
        ("sign", torch.sign),
        ("comparison", lambda z: (z > 0.5).double()),
        ("where", lambda z: torch.where(z > 0.5, torch.zeros_like(z), torch.ones_like(z))),
        ("argmax", lambda z: F.one_hot(z.argmax(dim=-1), 2).double()),
        ("binning", lambda z: torch.bucketize(z, double([0.25, 0.5, 0.75])).double() / 4),
    ],
)
def test_slopes_maps_with_jumps_have_no_constant_although_their_derivative_is_zero(name: str, G: Map) -> None:
    """But on a ball where they have one value."""
    for certificate in attempts(G, double([[0.2, 0.7]])):
        if certificate.verdict is not Verdict.CERTIFIED:
            continue
        ball = certificate.region
        assert isinstance(ball, Ball), certificate.explain()
        (center,) = ball.leaves
        farthest = 0.999 * ball.radius * torch.cat([torch.eye(2), -torch.eye(2)]).double()
        assert bool((G(center + farthest) == G(center)).all()), certificate.explain()


def test_t9_a_cycle_or_a_large_norm_does_not_refute_a_unique_equilibrium() -> None:
    """z -> -2 z expands, has one equilibrium, and damping by 1/2 makes it contract; undamped it reaches it never."""
    z = double([[1.0]])
    for damping in (1.0, 0.5):
        for certificate in attempts(lambda z: -2 * z, z, damping=damping):
            if certificate.verdict is Verdict.REFUTED:
                claim = certificate.claim
                assert isinstance(claim, Contraction) or (isinstance(claim, Converges) and claim.damping == 1)


# ===================================================================== T13 and graphs: moduli in Perron's condition


def test_t13_the_perron_condition_takes_moduli_a_signed_propagation_matrix() -> None:
    """rho(A) = 0.85 but rho(|A|) = 1.2: no weighted sup norm makes relu(A Z + B) contract."""
    A = double([[0.6, 0.6], [-0.6, 0.6]])
    moduli = fmpq_mat(2, 2, [abs(rational(x)) for x in A.reshape(-1).tolist()])
    ones = moduli * fmpq_mat(2, 1, [1, 1])
    assert min(ones[0, 0], ones[1, 0]) > 1  # |A| x >= 1.2 x: rho(|A|) > 1
    Z = double([[1.0], [2.0]])

    def G(Z: Tensor, B: Tensor) -> Tensor:
        return torch.relu(A @ Z + B)

    for norm in ("linf", "weighted_linf", "l1", "weighted_l1"):
        found = certify(G, Z, torch.ones_like(Z), norm=norm, theorem="picard", batch_dims=0)
        assert found.verdict is not Verdict.CERTIFIED
    place = A.nonzero()
    sparse = SparseMatrix(place[:, 0], place[:, 1], MidRad.exact(A.abs().reshape(-1)), (2, 2))
    assert float(sparse.norm_bound("l2")) >= 1.2  # Collatz and Wielandt's bound is of |A|
    sparse = SparseMatrix(place[:, 0], place[:, 1], MidRad.exact(A.reshape(-1)), (2, 2))
    assert bounds_norm(A, float(sparse.norm_bound("l2")))
    assert float(sparse.norm_bound("l2")) < 0.85
    assert certify(G, Z, torch.ones_like(Z), norm="l2", theorem="picard", batch_dims=0).verdict is Verdict.CERTIFIED
    assert not bounds_norm(A, 0.8)
    assert bounds_norm(A, 0.85)


def test_graph_the_max_norm_takes_the_columns_of_w_not_its_rows() -> None:
    """Z -> A Z W in the max norm has constant ||A||_inf ||W||_1 (column sums), 1.8 here, not ||W||_inf = 0.9."""
    W = double([[0.0, 0.9], [0.0, 0.9]])
    Z = torch.zeros(3, 2, dtype=torch.float64)
    A = torch.eye(3, dtype=torch.float64)

    def G(Z: Tensor) -> Tensor:
        return A @ Z @ W

    assert lipschitz_bound(G, Z, norm="linf", batch_dims=0).upper >= 1.8
    assert certify(G, Z, norm="linf", theorem="picard", batch_dims=0).verdict is Verdict.REFUTED
    assert 0.9 <= lipschitz_bound(G, Z, norm="l1", batch_dims=0).upper < 1
    assert Fraction(0.9) <= Fraction(inf_norm_bound(W)) < 1
    assert one_norm_bound(W) >= 1.8


def test_graph_symmetric_normalisation_in_float32_exceeds_one() -> None:
    """D^-1/2 A D^-1/2 of a complete graph with self-loops, rounded: its norm is n times its entry, often above 1."""
    found = []
    for size in range(2, 40):
        A = torch.ones(size, size)
        root = A.sum(dim=1).rsqrt()
        stored = root[:, None] * A * root[None, :]
        truth = size * Fraction(float(stored[0, 0]))
        assert spectral_norm_bound(stored).upper >= truth
        if truth > 1:
            found.append(stored)
    assert len(found) > 5
    for stored in found[:3]:
        Z = torch.zeros(len(stored), 1)
        claim = certify(lambda Z, M: torch.relu(M @ Z), Z, stored, norm="l2", theorem="picard", batch_dims=0)
        assert claim.verdict is not Verdict.CERTIFIED


# ========================================================================================= normalisation, attention


def test_layer_norm_in_linf_is_not_bounded_by_gamma_over_the_root_of_eps() -> None:
    """At 0 its derivative is (I - 11^T/n) / sqrt(eps), of linf norm 2 (1 - 1/n) / sqrt(eps)."""
    size, gain, eps = 4, 0.9, 1.0
    row = [Fraction(gain) * ((1 if j == 0 else 0) - Fraction(1, size)) for j in range(size)]
    assert sum(map(abs, row)) > Fraction(13, 10)  # in linf, and by symmetry in l1
    z = torch.zeros(1, size, dtype=torch.float64)

    def G(z: Tensor) -> Tensor:
        return gain * F.layer_norm(z, (size,), eps=eps)

    for norm in ("linf", "l1"):
        for theorem in ("picard", "auto"):
            assert certify(G, z, norm=norm, theorem=theorem).verdict is not Verdict.CERTIFIED
        assert lipschitz_bound(G, z, norm=norm).upper >= float(sum(map(abs, row)))
    assert certify(G, z, norm="l2", theorem="picard").verdict is Verdict.CERTIFIED


def test_dot_product_attention_is_not_globally_lipschitz() -> None:
    def G(z: Tensor) -> Tensor:
        return 0.1 * torch.softmax(z @ z.T, dim=-1) @ z

    assert_no_global_claim(G, double([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), batch_dims=0)


# ============================================================================== matrix inequalities and Cholesky

SIGNS = torch.tensor([1.0, -1.0, -1.0, 1.0, 1.0, 1.0, -1.0, 1.0], dtype=torch.float64)


@pytest.mark.parametrize("exponent", [10, 30, 40, 50])
def test_lmi_t_minus_b_t_b_that_is_not_definite_is_not_called_so(exponent: int) -> None:
    """T = I and B an orthogonal matrix times 1 + 2^-k: the eigenvalues are 1 - (1 + 2^-k)^2 < 0, exactly."""
    B = kit.reflection(SIGNS) * (1 + 2.0**-exponent)
    eye = MidRad.exact(torch.eye(8, dtype=torch.float64))
    H = enclosed_difference(eye, enclosed_product(MidRad.exact(B.T), MidRad.exact(B)))
    truth = 1 - (1 + Fraction(1, 2**exponent)) ** 2
    assert Fraction(lowest_eigenvalue_bound(H)) <= truth < 0


def test_lmi_a_singular_difference_is_not_called_definite() -> None:
    B = kit.reflection(SIGNS)
    eye = MidRad.exact(torch.eye(8, dtype=torch.float64))
    H = enclosed_difference(eye, enclosed_product(MidRad.exact(B.T), MidRad.exact(B)))
    assert lowest_eigenvalue_bound(H) <= 0
    barely = MidRad.exact(torch.eye(8, dtype=torch.float64) * 2.0**-20)
    assert 0 < lowest_eigenvalue_bound(barely) <= 2.0**-20


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [(0, 0), (2, 1), (3, 3)])
def test_nan_through_cholesky_proves_nothing(bad: float, place: tuple[int, int]) -> None:
    """numpy's Cholesky returned without error on NaN, torch's gave info = 0 with an infinite diagonal."""
    G = torch.eye(4, dtype=torch.float64) / 4
    G[place] = bad
    assert cholesky_deficit(G, 1.0) is None
    assert lowest_eigenvalue_bound(MidRad.exact(G)) == -math.inf
    assert lowest_eigenvalue_bound(MidRad(torch.eye(4, dtype=torch.float64), G.abs())) == -math.inf
    with pytest.raises(InputError):
        spectral_norm_bound(G)


def test_overflow_in_the_gram_matrix_gives_no_small_bound() -> None:
    W = double([[1e300, 1e300], [1e300, -1e300]])
    assert bounds_norm(W, spectral_norm_bound(W).upper)
    assert not bounds_norm(W, 1.41e300)


# =================================================================================== estimates sold as bounds


def test_float32_svdvals_below_one_for_a_norm_above_one() -> None:
    """||W|| = 1 + 3e-8 or more, exactly above 1: float32 svdvals says below 1 in many cases, we never do."""
    wrong, cases = 0, 0
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        left, right = (torch.linalg.qr(torch.randn(16, 16, generator=generator, dtype=torch.float64))[0] for _ in "lr")
        values = torch.rand(16, generator=generator, dtype=torch.float64) * 0.5
        values[0] = 1 + 6e-8
        W = ((left * values) @ right).float()
        if not exceeds(W, 1):
            continue
        cases += 1
        wrong += float(torch.linalg.svdvals(W).max()) < 1
        assert spectral_norm_bound(W).upper > 1
    assert cases > 20
    assert wrong > 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("excess", [0.0005, 0.005, 0.02])
def test_ten_power_steps_call_an_expanding_matrix_contractive(excess: float, seed: int) -> None:
    """ "Contractive" after 10 power steps for ||W|| = 1.0005 to 1.02, as in 67 to 90 of 90 matrices of other tools."""
    generator = torch.Generator().manual_seed(seed)
    size = 64
    left, right = (torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0] for _ in "lr")
    values = torch.linspace(0.9, 0.99, size, dtype=torch.float64)
    values[0] = 1 + excess
    W = (left * values) @ right
    v = torch.randn(size, generator=generator, dtype=torch.float64)
    for _ in range(10):
        v = W.T @ (W @ v)
        v = v / v.norm()
    assert float((W @ v).norm()) < 1  # the estimate
    assert exceeds(W, 1 + excess / 2)  # the truth
    assert spectral_norm_bound(W).upper > 1 + excess / 2
    z = torch.zeros(1, size, dtype=torch.float64)
    verdict = certify(layer(lambda v: v, W, torch.zeros(size).double()), z, norm="l2", theorem="picard").verdict
    assert verdict is not Verdict.CERTIFIED


def test_power_iteration_that_stops_when_its_vector_rests_leaves_a_norm_above_one() -> None:
    """deel-torchlip's rule (stop when u moves by less than 1e-3): what was divided by the estimate exceeds 1."""
    generator = torch.Generator().manual_seed(0)
    size = 128
    left, right = (torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0] for _ in "lr")
    W = (left * torch.linspace(0.99, 1.0, size, dtype=torch.float64)) @ right
    u = torch.randn(size, generator=generator, dtype=torch.float64)
    u = u / u.norm()
    for _ in range(10_000):
        v = W.T @ u
        moved = W @ (v / v.norm())
        moved, old = moved / moved.norm(), u
        u = moved
        if float((u - old).norm()) < 1e-3:
            break
    normalised = W / float((W.T @ u).norm())
    assert exceeds(normalised, 1)
    assert spectral_norm_bound(normalised).upper > 1


@pytest.mark.parametrize("steps", [1, 10, 50])
def test_torch_spectral_norm_after_optimiser_steps_exceeds_one(steps: int) -> None:
    """torch's parametrisation, one power step a forward pass, Adam at 1e-2, read in eval mode."""
    torch.manual_seed(0)
    size = 64
    module = parametrizations.spectral_norm(nn.Linear(size, size, bias=False))
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-2)
    for _ in range(steps):
        x, y = torch.randn(32, size), torch.randn(32, size)
        loss = F.mse_loss(module(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    module.eval()
    W = module.weight.detach()
    assert exceeds(W, 1)
    assert spectral_norm_bound(W).upper > 1
    z = torch.zeros(1, size)
    assert certify(module, z, norm="l2", theorem="picard").verdict is not Verdict.CERTIFIED
    found = certify(module, z)  # no contraction in plain l2, but where the powers of W go to 0 it converges
    radius = float(torch.linalg.eigvals(W.double()).abs().max())
    plain = found.theorem == "picard" and found.norm.weights is None
    assert found.verdict is not Verdict.CERTIFIED or (radius < 1 and not plain)


def test_torch_spectral_norm_in_train_mode_is_not_one_fixed_map() -> None:
    torch.manual_seed(0)
    for wrap in (parametrizations.spectral_norm, torch.nn.utils.spectral_norm):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            module = wrap(nn.Linear(4, 4, bias=False)).train()
        certificate = certify(module, torch.zeros(1, 4))
        assert certificate.verdict is Verdict.UNKNOWN
        assert "not one fixed map" in certificate.reason


def test_torchdeq_spectral_norm_misses_its_target() -> None:
    """Target 0.9: the weight that torchdeq computes has another norm, and the bound is above it."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 64, bias=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        apply_norm(module, "spectral_norm", learn_scale=False, target_norm=0.9)
        reset_norm(module)
        W = module[0].weight.detach().clone()
        remove_norm(module)
    assert exceeds(W, 0.9)
    bound = spectral_norm_bound(W).upper
    assert bound > 0.9
    assert not exceeds(W, bound)


# ================================================================================================= convolutions


def _circular(channels: int, seed: int) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(seed)
    module = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="circular", bias=False).double()
    with torch.no_grad():
        module.weight.copy_(module.weight.abs())
        reshaped = module.weight.reshape(channels, -1)
        module.weight.div_(torch.linalg.matrix_norm(reshaped, 2))
    return module, torch.ones(1, channels, 8, 8, dtype=torch.float64)


def test_conv_the_norm_of_the_reshaped_kernel_is_not_a_bound() -> None:
    """Kernel matrix of norm 1, constant images stretched by more than 2: never certified as a contraction."""
    module, image = _circular(2, 0)
    stretched = [[Fraction(v) for v in row] for row in module.weight.sum(dim=(2, 3)).tolist()]
    assert min(sum(row) for row in stretched) > Fraction(3, 2)  # J 1 >= 1.5 * 1 for the constant image
    for norm in ("auto", "l1", "l2", "linf", "weighted_l2", "weighted_linf"):
        certificate = certify(module, image, norm=norm, theorem="picard")
        assert certificate.verdict is not Verdict.CERTIFIED
    try:
        bound = lipschitz_bound(module, image).upper
    except UnsupportedOperationError:
        bound = math.inf  # no rule, which is honest too
    assert bound >= 1.5


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_conv_padding_that_is_no_compression_is_not_bounded_by_the_torus(mode: str) -> None:
    """Whatever is said of a padded convolution must bound its stretch of an image found by power steps."""
    torch.manual_seed(1)
    module = nn.Conv2d(1, 1, 3, padding=1, padding_mode=mode, bias=False).double()
    image = torch.rand(1, 1, 5, 5, dtype=torch.float64)
    matrix = torch.stack([module(e.reshape(1, 1, 5, 5)).reshape(-1) for e in torch.eye(25).double()], dim=1).detach()
    try:
        bound = lipschitz_bound(module, image).upper
    except UnsupportedOperationError:
        bound = math.inf
    if math.isfinite(bound):
        assert not exceeds(matrix, bound * (1 + 1e-12))
    scale = 1.01 / float(torch.linalg.matrix_norm(matrix, 2))
    with torch.no_grad():
        module.weight.mul_(scale)
    assert exceeds(matrix * scale, 1.009)
    assert certify(module, image, norm="l2", theorem="picard").verdict is not Verdict.CERTIFIED
    certificate = certify(module, image, norm="auto", theorem="picard")
    if certificate.verdict is Verdict.CERTIFIED:  # in a norm whose weights are measured there: it is no longer plain l2
        (weight,) = (w.reshape(-1) for w in certificate.norm.weights)
        assert not exceeds(weight[:, None] * matrix * scale / weight, certificate.rate)


# ======================================================================================= several layers, errors


@pytest.mark.parametrize("seed", range(6))
def test_lipsdp_a_two_layer_bound_is_never_below_the_constant(seed: int) -> None:
    """LipSDP's printed value was below the true constant; ours holds for every pattern of active units, exactly."""
    generator = torch.Generator().manual_seed(seed)
    W, V = (torch.randn(4, 4, generator=generator, dtype=torch.float64) for _ in "wv")
    G = torch.nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False)).double()
    with torch.no_grad():
        G[0].weight.copy_(W)
        G[2].weight.copy_(V)
    bound = lipschitz_bound(G, torch.zeros(1, 4, dtype=torch.float64)).upper
    top = 0.0
    for pattern in range(16):
        active = double([float(pattern >> k & 1) for k in range(4)])
        product = rational_matrix(V) * rational_matrix(torch.diag(active)) * rational_matrix(W)
        assert _is_at_most(product, bound)
        top = max(top, float(torch.linalg.matrix_norm(V @ torch.diag(active) @ W, 2)))
    assert bound <= 3 * top


def _is_at_most(matrix: fmpq_mat, bound: float) -> bool:
    from exact import is_positive_semidefinite

    square = rational(bound) ** 2
    size = matrix.ncols()
    eye = fmpq_mat(size, size, [square if i == j else fmpq(0) for i in range(size) for j in range(size)])
    return is_positive_semidefinite(eye - matrix.transpose() * matrix)


def test_auto_lirpa_an_always_active_float32_relu_net_stays_inside_its_bounds() -> None:
    """The Jacobian is W2 W1, exactly; other tools' float32 bounds of its entries missed all of them."""
    torch.manual_seed(0)
    W1, W2 = torch.rand(4, 4) / 8, torch.rand(4, 4) / 8
    bias = torch.full((4,), 10.0)
    z = torch.zeros(1, 4)

    def G(z: Tensor) -> Tensor:
        return torch.relu(z @ W1.T + bias) @ W2.T

    product = rational_matrix(W2.double()) * rational_matrix(W1.double())
    exact = [[Fraction(int(x.p), int(x.q)) for x in row] for row in product.tolist()]
    rows = max(sum(map(abs, row)) for row in exact)
    columns = max(sum(map(abs, column)) for column in zip(*exact, strict=True))
    for region in (None, Ball(z, 1.0), Ball(z, 1e-6)):
        for order, truth in (("linf", rows), ("l1", columns)):
            assert (
                truth
                <= Fraction(lipschitz_bound(G, z, norm=order, region=region).upper)
                <= truth * (1 + Fraction(1, 10**6))
            )
        assert _is_at_most(product, lipschitz_bound(G, z, norm="l2", region=region).upper)


def test_torchdeq_a_residual_of_1e_3_is_an_error_of_9e_2() -> None:
    """q = 0.99: the error is up to 100 residuals, and error_bound says so."""
    z = double([[0.09]])

    def G(z: Tensor) -> Tensor:
        return 0.99 * z

    certificate = certify(G, z)
    residual = abs(Fraction(0.99) * Fraction(0.09) - Fraction(0.09))
    assert residual < Fraction(1, 1000)
    assert (
        Fraction(0.09) <= Fraction(float(certificate.error_bound(G, z).l2)) <= Fraction(0.09) * (1 + Fraction(1, 10**9))
    )


def test_norm_weights_of_another_order_are_not_mixed_up() -> None:
    """A contraction in linf with weights (1, 100) is none in l1 with the same weights."""
    W = double([[0.5, 40.0], [0.0, 0.5]])
    z = torch.zeros(1, 2, dtype=torch.float64)
    weights = (double([1.0, 100.0]),)
    G = layer(torch.tanh, W, double([0.0, 0.0]))
    assert certify(G, z, norm=Norm("linf", weights), theorem="picard").verdict is Verdict.CERTIFIED
    assert certify(G, z, norm=Norm("linf", (double([100.0, 1.0]),)), theorem="picard").verdict is Verdict.REFUTED
    assert certify(G, z, norm="linf", theorem="picard").verdict is Verdict.REFUTED


def unknown_operation(z: Tensor) -> Tensor:
    return 0.1 * torch.lgamma(z.exp())


@pytest.mark.parametrize(
    ("operator", "advice"),
    [
        (unknown_operation, "write it with operations that docs/operators.md lists"),
        (lambda z: z * torch.rand(3), "make them an input"),
        (nn.Sequential(nn.Linear(3, 3), nn.Dropout()), "use eval mode"),
        (nn.BatchNorm1d(3), "use eval mode"),
    ],
)
def test_what_is_no_fixed_map_is_told_what_helps(operator: Any, advice: str) -> None:
    """An operation that deqops does not know was told to use eval mode, which changes nothing."""
    z = torch.zeros(2, 3)
    assert advice in certify(operator, z).reason
    with pytest.raises(UnsupportedOperationError, match=re.escape(advice)):
        lipschitz_bound(operator, z)

"""Repair and penalties: a way forward for a module that is not contractive."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from deqops import EquilibriumLayer, InputError
from deqops.testing import assert_accepted
from deqops.verify import Verdict, certify, convolution_norm_bound
from deqops.verify.contractive import jacobian_penalty_estimate, norm_penalty_estimate, repair


class Block(nn.Module):
    """tanh(V relu(W z) + U x): W and V decide about the contraction, U does not."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.w, self.v, self.u = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        with torch.no_grad():
            self.w.weight.mul_(scale)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(self.v(torch.relu(self.w(z))) + self.u(x))


X = torch.linspace(-1, 1, 12).reshape(2, 6)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("method", ["clip", "scale"])
def test_t1_a_repaired_module_is_certified_and_the_given_one_untouched(norm: str, method: str) -> None:
    module = Block(10.0)
    before = copy.deepcopy(module.state_dict())
    found = repair(module, torch.zeros(2, 6), X, rate=0.9, norm=norm, method=method)
    assert found.certificate.verdict is Verdict.CERTIFIED
    assert found.certificate.rate is not None
    assert 0.9 - 1e-2 < found.certificate.rate <= 0.9
    assert_accepted(found.certificate, found.module, torch.zeros(2, 6), X)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), module.state_dict().values(), strict=True))
    assert torch.equal(found.module.u.weight, module.u.weight)
    assert {change.name for change in found.changes} <= {"w.weight", "v.weight"}


def test_clipping_changes_less_than_one_scale() -> None:
    clip, scale = (repair(Block(10.0), X, X, rate=0.9, method=method) for method in ("clip", "scale"))
    assert 0 < clip.relative_change < scale.relative_change


def test_one_matrix_goes_to_the_nearest_one_of_that_norm() -> None:
    """Singular values above the threshold are what the nearest matrix has less: ||s - min(s, t)||."""

    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3, dtype=torch.float64)
            self.linear.weight = nn.Parameter(torch.diag(torch.tensor([3.0, 1.0, 0.5], dtype=torch.float64)))

        def forward(self, z: Tensor) -> Tensor:
            return torch.tanh(self.linear(z))

    found = repair(One(), torch.zeros(1, 3, dtype=torch.float64), rate=0.9)
    nearest = torch.diag(torch.tensor([0.9, 0.9, 0.5], dtype=torch.float64))
    assert torch.allclose(found.module.linear.weight, nearest, atol=1e-3)
    assert found.relative_change == pytest.approx((2.1**2 + 0.1**2) ** 0.5 / 10.25**0.5, rel=1e-3)


def test_a_layer_is_evaluated_before_and_after_and_a_contraction_left_alone() -> None:
    layer = EquilibriumLayer(Block(10.0))

    def size(layer: EquilibriumLayer) -> float:
        return float(layer.operator.w.weight.detach().norm())

    found = repair(layer, X, rate=0.9, evaluate=size)
    assert found.before == size(layer)
    assert found.after == size(found.module)
    again = repair(found.module, X, rate=0.95)
    assert again.changes == ()
    assert again.relative_change == 0.0


def test_what_cannot_be_repaired_is_told() -> None:
    class Square(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return 2 * z

    with pytest.raises(InputError, match="nothing to repair"):
        repair(Square(), torch.zeros(1, 2))
    with pytest.raises(InputError, match="weights of a module are repaired"):
        repair(lambda z: z, torch.zeros(1, 2))
    with pytest.raises(InputError, match="rate: "):
        repair(Block(1.0), X, X, rate=1.0)
    with pytest.raises(InputError, match="norm, method: "):
        repair(Block(1.0), X, X, norm="l1")
    with pytest.raises(InputError, match="arguments: "):
        repair(Block(1.0))


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_training_on_the_norm_penalty_ends_in_a_certificate(norm: str) -> None:
    module = Block(10.0)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        norm_penalty_estimate(module, 0.9, norm).backward()
        optimizer.step()
    assert certify(module, X, X, theorem="picard", norm=norm).verdict is Verdict.CERTIFIED
    assert float(norm_penalty_estimate(module, 0.95, norm).detach()) == 0.0


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("layer", [nn.Conv1d, nn.Conv2d])
def test_with_a_size_a_kernel_counts_as_its_convolution(layer: type[nn.Module], padding: int) -> None:
    torch.manual_seed(0)
    convolution = layer(3, 2, 3, padding=padding, dtype=torch.float64)
    convolution.bias = None
    size = (12,) * (convolution.weight.ndim - 2)
    estimate = float(norm_penalty_estimate(convolution, 0.0, size=size).detach()) ** 0.5
    bound = convolution_norm_bound(convolution.weight.detach(), size, padding=padding, padding_mode="zeros")
    assert 0.99 * bound < estimate < 1.05 * bound


def test_a_convolution_ends_in_a_certificate_where_its_reshaped_kernel_would_not() -> None:
    """The reshaped kernel of a mean over 3 x 3 has norm 1/3 of the convolution's."""

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(1, 1, 3, padding=1, bias=False)
            nn.init.constant_(self.convolution.weight, 2 / 9)

        def forward(self, z: Tensor) -> Tensor:
            return torch.tanh(self.convolution(z))

    module, state = Mean(), torch.zeros(1, 1, 8, 8)
    assert float(norm_penalty_estimate(module, 0.9).detach()) == 0.0
    optimizer = torch.optim.SGD(module.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        norm_penalty_estimate(module, 0.9, size=(8, 8)).backward()
        optimizer.step()
    rate = certify(module, state, theorem="picard", norm="l2").rate
    assert rate is not None
    assert 0.8 < rate < 0.91


def test_the_jacobian_penalty_estimates_the_squared_frobenius_norm() -> None:
    W = torch.randn(5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    state = torch.zeros(4, 5, dtype=torch.float64)
    penalty = jacobian_penalty_estimate(
        lambda z: z @ W, state, samples=3000, generator=torch.Generator().manual_seed(2)
    )
    assert float(penalty.detach()) == pytest.approx(float(W.detach().square().sum()) / 5, rel=0.05)
    (gradient,) = torch.autograd.grad(penalty, W)
    assert torch.allclose(gradient, 2 * W.detach() / 5, atol=0.15)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: norm_penalty_estimate(nn.ReLU()), "module: ReLU"),
        (lambda: norm_penalty_estimate(nn.Linear(2, 2), norm="l1"), "norm: "),
        (lambda: norm_penalty_estimate(nn.Linear(2, 2), size=(8, 0)), "size: "),
        (lambda: jacobian_penalty_estimate(lambda z: z, torch.zeros(1, 1), samples=0), "samples: "),
        (lambda: jacobian_penalty_estimate(lambda z: z, torch.zeros(0, 1)), "state: "),
    ],
)
def test_bad_arguments_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_complex_weights_of_a_fourier_layer_are_scaled_too() -> None:
    class Fourier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.modes = nn.Parameter(torch.randn(3, 3, 4, dtype=torch.cfloat))

        def forward(self, z: Tensor, x: Tensor) -> Tensor:
            return torch.fft.irfft(torch.einsum("bim,iom->bom", torch.fft.rfft(z), self.modes), n=6).tanh() + x

    z = torch.zeros(1, 3, 6)
    repaired = repair(Fourier(), z, z)
    assert repaired.certificate.verdict is Verdict.CERTIFIED
    (change,) = repaired.changes
    assert change.name == "modes"
    assert 0.0 < change.relative < 1.0
    assert repaired.relative_change == pytest.approx(change.relative)
    assert repaired.module.modes.is_complex()


@pytest.mark.parametrize("options", [{}, {"norm": "linf"}, {"size": 6}])
def test_complex_weights_are_penalised_by_their_own_norm(options: dict[str, object]) -> None:
    weight = torch.randn(3, 4, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    module = nn.ParameterList([nn.Parameter(weight)])
    norm = weight.abs().sum(dim=1).max() if "norm" in options else torch.linalg.matrix_norm(weight, 2)
    penalty = norm_penalty_estimate(module, 0.5, **options)  # type: ignore[arg-type]
    penalty.backward()
    assert float(penalty.detach()) == pytest.approx(float(norm - 0.5) ** 2, rel=1e-6)
    assert bool(module[0].grad.isfinite().all())

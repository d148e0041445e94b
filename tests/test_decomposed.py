"""Operations that deqops does not know, in torch's own decompositions: the same function, or refused by their name."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_lowerings import assert_reads, cases, normal
from torch import Tensor, nn
from torch.nn import functional as F
from vocabulary import evaluate

import deqops
from deqops.graph import trace
from deqops.graph._decomposed import decomposed
from deqops.verify import Verdict, certify, check

W = normal(4, 3, seed=1)


class Halves(nn.Module):
    """A form of the two halves of the last dimension."""

    def __init__(self, form: nn.Module) -> None:
        super().__init__()
        self.form = form

    def forward(self, z: Tensor) -> Tensor:
        result: Tensor = self.form(*z.chunk(2, dim=-1))
        return result


@cases(
    kronecker=lambda z: torch.kron(z, W),
    difference=lambda z: (z.diff(dim=-1), torch.diff(z, n=2, dim=1, prepend=z[:, :1])),
    turned=lambda z: z.rot90(1, (1, 2)),
    distance=lambda z: F.pairwise_distance(z, z.sin() + 1),
    at_least=lambda z: torch.atleast_3d(z[0, 0]) + torch.atleast_2d(z[0, 0]),
    products=lambda z: torch.linalg.vecdot(z, z.sin()) + torch.linalg.multi_dot([z[0], W.T, W]).sum(),
    crossed=lambda z: torch.cross(z, W[:3].expand_as(z), dim=-1),
    integrals=lambda z: (torch.trapezoid(z, dx=0.1, dim=1), torch.cumulative_trapezoid(z, dim=1)),
    gradient=lambda z: torch.gradient(z, dim=1)[0],
    blocks=lambda z: torch.block_diag(z[0], z[1]),
    split=lambda z: (torch.hsplit(z, 3)[1], torch.tensor_split(z, [1], dim=2)[1]),
    losses=lambda z: (
        F.mse_loss(z, W[:3].expand_as(z), reduction="none"),
        F.l1_loss(z, W[:3].expand_as(z), reduction="none"),
        F.huber_loss(z, W[:3].expand_as(z), reduction="none", delta=0.5),
        F.smooth_l1_loss(z, W[:3].expand_as(z), reduction="none"),
        F.binary_cross_entropy_with_logits(z, W[:3].sigmoid().expand_as(z), reduction="none"),
    ),
    special=lambda z: torch.special.ndtr(z) + torch.special.expit(z) + torch.xlogy(z.exp(), z.exp() + 1),
    scaled=lambda z: torch.deg2rad(z) + torch.rad2deg(z) + torch.ldexp(z, torch.tensor([1])) + torch.float_power(z, 2),
    added=lambda z: torch.addr(W[:3, :3], z[0, 0], z[1, 0]),
    taken=lambda z: torch.take(z, torch.tensor([0, 4])),
    flipped=lambda z: torch.fliplr(z) + torch.flipud(z),
    diagonals=lambda z: torch.diag(z[0, 0]) + torch.diagflat(z[0, 1]),
    window=lambda z: z * torch.hann_window(3, dtype=z.dtype),
    grid=lambda z: F.affine_grid(z[:, :2], [2, 1, 2, 2], align_corners=False),
    means=lambda z: z.nanmean(-1) + z.nansum(1),
    clipped=lambda z: torch.renorm(z, 2, 0, 1.0),
    steps=lambda z: torch.heaviside(z, torch.ones_like(z)),
)
def test_decompositions(function: Callable[[Tensor], Tensor]) -> None:
    assert_reads(function, normal(2, 3, 3), batch_dims=0)


class Differences(nn.Module):
    """`z -> tanh(D z A^T) + x` with the differences D of neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.A = nn.Parameter(0.1 * normal(3, 3, seed=2))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(torch.diff(z, dim=1, prepend=z[:, :1]) @ self.A.T) + x


def test_a_module_is_certified_and_its_file_reads_alike(tmp_path: Path) -> None:
    module, z, x = Differences(), torch.zeros(2, 3).double(), normal(2, 3)
    found = certify(module, z, x)
    assert found.verdict is Verdict.CERTIFIED
    assert check(found, module, z, x).accepted
    deqops.export(tmp_path / "g.pt2", module, z, x)
    again = deqops.load(tmp_path / "g.pt2")
    assert again.fingerprint == found.fingerprint
    assert torch.allclose(again(z, x), module(z, x), rtol=1e-14)
    program = torch.export.export(module, (z, x))
    assert trace(program, z, x).fingerprint == found.fingerprint
    plain = io.BytesIO()
    torch.export.save(program, plain)  # torch's own file keeps the operation, which is refused by name
    (tmp_path / "plain.pt2").write_bytes(plain.getvalue())
    assert any("aten.diff" in reason for reason in deqops.load(tmp_path / "plain.pt2").impure)


@pytest.mark.parametrize(
    ("made", "shape"),
    [
        (lambda: nn.SELU(), (2, 3)),
        (lambda: nn.LayerNorm(3), (2, 3)),
        (lambda: nn.GroupNorm(2, 4), (2, 4, 3)),
        (lambda: nn.BatchNorm1d(3), (2, 3)),
        (lambda: nn.InstanceNorm1d(3, affine=True), (2, 3, 4)),
        (lambda: nn.Sequential(nn.Conv1d(3, 3, 3, padding=1), nn.GELU(), nn.AdaptiveAvgPool1d(4)), (2, 3, 4)),
        (lambda: Halves(nn.Bilinear(2, 2, 4)), (2, 4)),
        (lambda: nn.GRUCell(3, 3), (2, 3)),
        (lambda: nn.Sequential(nn.Dropout(), nn.Softmax(-1), nn.Hardswish()), (2, 3)),
    ],
    ids=["selu", "layer", "group", "batch", "instance", "convolution", "bilinear", "gru", "others"],
)
def test_programs_in_core_operations_are_read(made: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    """What `run_decompositions()` leaves of a module: the same function as that of the module."""
    z, module = normal(*shape), made().double().eval()
    program = torch.export.export(module, (z,), strict=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        core = program.run_decompositions()
    graph = trace(core, z, batch_dims=0).concrete(z)
    for given in (z, normal(*shape, seed=3)):
        (found,) = evaluate(graph, [given])
        assert torch.allclose(found, module(given), rtol=1e-12, atol=1e-12)


def test_known_operations_are_not_decomposed() -> None:
    program = torch.export.export(nn.Linear(3, 3), (torch.zeros(1, 3),), strict=False)
    assert decomposed(program) is program


def test_what_has_no_decomposition_is_refused_by_its_own_name() -> None:
    z = torch.ones(1, 3, dtype=torch.float64)
    for name, operator in (("aten.lgamma", torch.lgamma), ("aten.special_bessel_j0", torch.special.bessel_j0)):
        found = certify(lambda v, f=operator: 0.1 * f(v), z)
        assert found.verdict is Verdict.UNKNOWN
        assert name in found.reason


def test_random_numbers_stay_random_beside_a_decomposed_operation() -> None:
    z = torch.ones(1, 3, dtype=torch.float64)
    found = certify(lambda v: 0.1 * v.diff(dim=1, append=v[:, :1]) * torch.bernoulli(torch.full((3,), 0.5)), z)
    assert found.verdict is Verdict.UNKNOWN
    assert "random" in found.reason


def test_a_changed_buffer_is_seen_beside_a_decomposed_operation() -> None:
    class Counting(Differences):
        def forward(self, z: Tensor, x: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(z, x)

    found = certify(Counting(), torch.zeros(2, 3).double(), normal(2, 3))
    assert found.verdict is Verdict.UNKNOWN
    assert "calls" in found.reason


def test_weights_written_in_place_are_seen_beside_a_decomposed_operation() -> None:
    class Writing(Differences):
        def forward(self, z: Tensor, x: Tensor) -> Tensor:
            z = z.clone()
            z[:, 0] = 0.5
            z.mul_(2.0)
            return super().forward(z, x)

    module, z, x = Writing(), normal(2, 3, seed=5), normal(2, 3)
    graph = trace(module, z, x)
    assert torch.allclose(graph(z, x), module(z, x), rtol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    """torch's decompositions compute some of them in float32: casts, which mean nothing to the exact-real function."""
    module, z, x = Differences().to(dtype), torch.zeros(2, 3, dtype=dtype), normal(2, 3).to(dtype)
    assert certify(module, z, x).verdict is Verdict.CERTIFIED

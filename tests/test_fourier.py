"""Complex values and Fourier transforms: read as torch computes them, and bounded tightly."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from flint import arb, fmpq
from hypothesis import given
from hypothesis import strategies as st
from test_lowerings import assert_reads, cases, normal
from torch import Tensor, nn
from vocabulary import evaluate, read

from deqops import EquilibriumLayer, InputError, UnsupportedOperationError
from deqops.graph import trace
from deqops.verify import Verdict, certify, check, lipschitz_bound, rounding_floor
from deqops.verify._enclosures import enclose_node
from deqops.verify._midrad import MidRad

Function = Callable[..., Any]
COMPLEX = torch.complex128


def complex_normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.complex(normal(*shape, seed=seed), normal(*shape, seed=seed + 1))


class Held(nn.Module):
    """A function of the state and one complex weight."""

    def __init__(self, function: Function, weight: Tensor) -> None:
        super().__init__()
        self.function, self.weight = function, nn.Parameter(weight)

    def forward(self, z: Tensor) -> Any:
        return self.function(z, self.weight)


def pair(z: Tensor) -> tuple[Tensor, Tensor]:
    return z.real, z.imag


def turned(z: Tensor) -> Tensor:
    """A complex value that depends on the state in both parts, nowhere conjugate-symmetric."""
    return torch.complex(z, (2 * z).sin())


# ------------------------------------------------------------------------------------------------------ transforms

SIZES = [1, 2, 3, 4, 6, 7]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("n", [None, 1, 4, 5, 9])
@pytest.mark.parametrize("norm", [None, "ortho", "forward"])
def test_transforms_along_one_dimension(size: int, n: int | None, norm: str | None) -> None:
    def everything(z: Tensor) -> list[Tensor]:
        options: dict[str, Any] = {"n": n, "norm": norm}
        whole = [torch.fft.rfft(z, **options), torch.fft.fft(z, **options), torch.fft.ifft(z, **options)]
        whole += [torch.fft.fft(turned(z), **options), torch.fft.ifft(turned(z), dim=1, **options)]
        back = [torch.fft.irfft(turned(z), **options)] if n or size > 1 else []
        back += [torch.fft.irfft(turned(z), dim=1, n=5), torch.fft.irfft(z, n=6, norm=norm)]
        return [*(part for value in whole for part in pair(value)), *back]

    assert_reads(everything, normal(2, 3, size))


@cases(
    fft2=lambda z: pair(torch.fft.fft2(z)),
    ifft2=lambda z: pair(torch.fft.ifft2(turned(z), s=(4, 3))),
    rfft2=lambda z: pair(torch.fft.rfft2(z)),
    rfft2_padded=lambda z: pair(torch.fft.rfft2(z, s=(6, 7), norm="ortho")),
    irfft2=lambda z: torch.fft.irfft2(turned(z)),
    irfft2_odd=lambda z: torch.fft.irfft2(turned(z), s=(3, 7), norm="forward"),
    fftn=lambda z: pair(torch.fft.fftn(z, dim=(1, 3))),
    fftn_last=lambda z: pair(torch.fft.fftn(z, s=(2, 5))),
    ifftn=lambda z: pair(torch.fft.ifftn(turned(z), dim=(3, 2, 1))),
    rfftn=lambda z: pair(torch.fft.rfftn(z, dim=(3, 1), norm="ortho")),
    irfftn=lambda z: torch.fft.irfftn(turned(z), dim=(1, 2, 3), norm="ortho"),
    irfftn_s=lambda z: torch.fft.irfftn(turned(z), s=(-1, 5), dim=(1, 2)),
    shift=lambda z: torch.fft.fftshift(z, dim=(1, 2)) + 2 * torch.fft.ifftshift(z, dim=-1),
    shift_complex=lambda z: torch.fft.ifftshift(torch.fft.fftshift(torch.fft.fft(z), dim=(-1, 2)), dim=(3,)).real,
    fnet=lambda z: torch.fft.fft(torch.fft.fft(z, dim=-1), dim=-2).real,
)
def test_transforms_along_several_dimensions(function: Function) -> None:
    assert_reads(function, normal(2, 3, 5, 4))


@pytest.mark.parametrize(
    "function",
    [
        lambda z: pair(torch.fft.rfft2(z, norm="ortho")),
        lambda z: pair(torch.fft.ifftn(turned(z), dim=(1, 2))),
        lambda z: torch.fft.irfft2(turned(z), s=(4, 5)),
        lambda z: pair(torch.fft.fft(z, norm="forward")),
    ],
)
def test_what_export_decomposes_transforms_into(function: Function) -> None:
    class Module(nn.Module):
        def forward(self, z: Tensor) -> Any:
            results = function(z)
            return z + (sum(part.sum() for part in results) if isinstance(results, tuple) else results.sum())

    z = normal(1, 4, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        program = torch.export.export(Module(), (z,)).run_decompositions()
    assert any("_fft_" in str(node.target) for node in program.graph.nodes)
    (found,), truth = evaluate(trace(program, z).concrete(z)), Module()(z)
    assert torch.allclose(found, truth, rtol=1e-11)


def test_matrices_beyond_all_proportion_are_refused() -> None:
    with pytest.raises(UnsupportedOperationError, match="cosines"):
        read(lambda z: torch.fft.rfft(z).real, normal(1, 4096))


def test_what_is_no_transform_is_refused_by_name() -> None:
    for function in (lambda z: torch.fft.fft(z).log2().real, lambda z: torch.fft.fft(z).sin().real):
        with pytest.raises(UnsupportedOperationError):
            read(function, normal(1, 4))
    with pytest.raises(InputError, match="complex"):
        read(lambda z: z.real, complex_normal(1, 3))


# --------------------------------------------------------------------------------------------------- complex values


@cases(
    product=lambda z, w: pair(turned(z) * w),
    square=lambda z, w: pair(turned(z) * turned(z)),
    real_factor=lambda z, w: pair(turned(z) * z + w * z - 2 * w),
    quotient=lambda z, w: pair(turned(z) / (1 + z * z) + turned(z) / 3),
    sums=lambda z, w: pair(turned(z) + 1.5 - z + (z - w) + torch.add(z, w, alpha=2) - turned(z).sum(1, keepdim=True)),
    numbers=lambda z, w: pair(1 - turned(z)),
    complex_numbers=lambda z, w: pair(1j * z + (2 - 0.5j) * turned(z) - (1 + 1j) + w * 3j + (z + 2j)),
    complex_quotients=lambda z, w: pair(turned(z) / (1 + 2j) + z / (3 + turned(z)) + w / (turned(z) + 2j)),
    exponential=lambda z, w: pair(torch.exp(1j * z) + turned(z).exp() + torch.polar(z.exp(), z)),
    matmul=lambda z, w: pair(turned(z) @ w + z.to(COMPLEX) @ w.mH),
    einsum=lambda z, w: pair(torch.einsum("bij,jk,bjl->bikl", turned(z), w, turned(z))),
    conjugate=lambda z, w: pair((turned(z) * w).conj() + torch.conj_physical(turned(z)).mT.mH),
    modulus=lambda z, w: turned(z).abs() + (turned(z) * turned(z).conj()).real,
    angle=lambda z, w: (3 + turned(z)).angle(),
    views=lambda z, w: torch.view_as_real(torch.view_as_complex(torch.stack([z, 2 * z], -1)) * w).flatten(2),
    shapes=lambda z, w: pair(torch.cat([turned(z).mT.unsqueeze(1), z[:, None].to(COMPLEX)], 1)[:, :, 1:].flip(2)),
    pieces=lambda z, w: [part.imag for part in turned(z).split(2, dim=1)] + [turned(z)[:, [2, 0]].real],
    chosen=lambda z, w: pair(torch.where(torch.eye(3).bool(), turned(z), w)),
    same=lambda z, w: pair(turned(z).to(COMPLEX).resolve_conj().clone().contiguous().type_as(w)),
    real_as=lambda z, w: pair(z.type_as(w) * w),
)
def test_arithmetic_of_complex_values(function: Function) -> None:
    assert_reads(Held(function, complex_normal(3, 3)), normal(2, 3, 3))


def test_parts_of_complex_values_are_written_in_place() -> None:
    def modes(z: Tensor, w: Tensor) -> Tensor:
        out = torch.zeros(len(z), 3, 5, dtype=COMPLEX)
        out[:, :, :2] = torch.einsum("bim,iom->bom", torch.fft.rfft(z)[:, :, :2], w)
        out[:, 0, -1] = z.sum((1, 2))
        out[:, 2] += 1
        return torch.fft.irfft(out, n=8)

    assert_reads(Held(modes, complex_normal(3, 3, 2)), normal(2, 3, 8))


@cases(
    added=lambda z: pair(turned(z) + torch.arange(3)),
    subtracted=lambda z: pair(torch.arange(3) - turned(z)),
    joined=lambda z: pair(torch.cat([turned(z), torch.ones(2, 3, dtype=torch.int64)], 1)),
    chosen=lambda z: pair(torch.where(torch.tensor([True, False, True]), turned(z), torch.arange(3))),
    picked=lambda z: pair(turned(z).index_select(1, torch.tensor([2, 0])) * torch.arange(2)),
)
def test_integers_and_conditions_beside_complex_values_have_no_imaginary_part(function: Function) -> None:
    assert_reads(function, normal(2, 3))


def test_an_imaginary_part_is_never_dropped_unseen() -> None:
    """torch drops it, with a warning at most: the function that remains is rarely the one that is meant."""
    with pytest.raises((UnsupportedOperationError, InputError)):
        read(lambda z: turned(z), normal(1, 3))

    def written(z: Tensor) -> Tensor:
        out = torch.zeros_like(z)
        out[:, :2] = turned(z)[:, :2]
        return out

    with pytest.warns(UserWarning, match="discards the imaginary part"), pytest.raises(UnsupportedOperationError):
        read(written, normal(1, 3))


# ----------------------------------------------------------------------------------------------------------- bounds


@given(fraction=st.fractions(min_value=-2, max_value=2, max_denominator=1000))
def test_cosines_of_fractions_of_pi_are_enclosed(fraction: Fraction) -> None:
    z = torch.zeros(1, 4)
    (node,) = [n for n in read(lambda z: torch.fft.fft(z).real, z).nodes if n.op == "cos_pi"][:1]
    exact = MidRad.exact(torch.tensor([float(fraction)], dtype=torch.float64))
    found, truth = enclose_node(node, [exact]), arb(fmpq(*float(fraction).as_integer_ratio())).cos_pi()
    assert isinstance(found, MidRad)
    assert abs(truth - arb(float(found.mid))) <= arb(float(found.rad))
    assert float(found.rad) <= 1e-14


@pytest.mark.parametrize("shape", [(6,), (5,), (4, 3)])
def test_norms_of_transforms_are_known(shape: tuple[int, ...]) -> None:
    """The whole transform has norm sqrt(N), with "ortho" 1; its real part keeps the norm where N > 2."""
    z = torch.zeros(1, *shape, dtype=torch.float64)
    dims = tuple(range(1, len(shape) + 1))
    whole = lambda z: torch.view_as_real(torch.fft.fftn(z, dim=dims)).flatten(1)[:, : z[0].numel()].reshape(z.shape)  # noqa: E731
    mapped = lambda z: torch.fft.ifftn(torch.fft.fftn(z, dim=dims), dim=dims).real  # noqa: E731
    kept = lambda z: torch.fft.fftn(z, dim=dims, norm="ortho").real  # noqa: E731
    assert lipschitz_bound(mapped, z).upper == pytest.approx(1.0, rel=1e-12)
    assert lipschitz_bound(kept, z).upper == pytest.approx(1.0, rel=1e-12)
    assert math.sqrt(math.prod(shape)) * (1 + 1e-12) >= lipschitz_bound(whole, z).upper > 1


class SpectralConvolution(nn.Module):
    """Some modes of a transform, multiplied by complex matrices, and back: the layer of Fourier neural operators."""

    def __init__(self, channels: int, modes: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.modes = modes
        self.weight = nn.Parameter(torch.randn(channels, channels, modes, dtype=torch.cfloat) / channels)

    def forward(self, z: Tensor) -> Tensor:
        modes = torch.fft.rfft(z)
        out = torch.zeros_like(modes)
        out[..., : self.modes] = torch.einsum("bim,iom->bom", modes[..., : self.modes], self.weight)
        return torch.fft.irfft(out, n=z.shape[-1])


class FourierLayer(nn.Module):
    """`z -> 0.3 gelu(K z + W z) + x`."""

    def __init__(self) -> None:
        super().__init__()
        self.spectral, self.pointwise = SpectralConvolution(4, 3), nn.Conv1d(4, 4, 1)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return 0.3 * nn.functional.gelu(self.spectral(z) + self.pointwise(z)) + x


def test_a_spectral_convolution_has_the_norm_of_its_largest_mode() -> None:
    """A complex matrix at mode k acts on cosines and sines alike; at mode 0 its real part alone counts."""
    layer, z = SpectralConvolution(4, 3), torch.zeros(1, 4, 16)
    w = layer.weight.detach().to(COMPLEX)
    norms = [torch.linalg.matrix_norm(w[..., 0].real, 2), *(torch.linalg.matrix_norm(w[..., k], 2) for k in (1, 2))]
    assert lipschitz_bound(layer, z).upper == pytest.approx(float(max(norms)), rel=1e-10)


def test_t1_picard_a_fourier_layer_is_certified_and_checked() -> None:
    torch.manual_seed(1)
    layer, x = EquilibriumLayer(FourierLayer()), torch.randn(1, 4, 16)
    certificate = certify(layer, x)
    y = layer(x).detach()
    assert certificate.verdict is Verdict.CERTIFIED
    assert check(certificate, layer, y, x).accepted
    spoilt = FourierLayer()
    with torch.no_grad():
        spoilt.spectral.weight.mul_(3.0)
    assert not check(certificate, spoilt, y, x).accepted


def test_complex_weights_are_part_of_the_fingerprint() -> None:
    layer, other = FourierLayer(), FourierLayer()
    other.load_state_dict(layer.state_dict())
    z = torch.zeros(1, 4, 16)
    assert trace(layer, z, z).fingerprint == trace(other, z, z).fingerprint
    with torch.no_grad():
        other.spectral.weight[0, 0, 0] += 1e-6j
    assert trace(layer, z, z).fingerprint != trace(other, z, z).fingerprint


def test_complex_numbers_are_part_of_the_fingerprint() -> None:
    z = normal(1, 3)
    first, same, other = (trace(lambda v, c=c: (c * v).imag, z).fingerprint for c in (1 + 1j, 1 + 1j, 1 + 2j))
    assert first == same != other


def test_a_spectral_derivative_in_single_precision() -> None:
    """Multiplied by i k between two transforms, k a buffer."""

    class Derivative(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("k", torch.arange(5.0))

        def forward(self, z: Tensor) -> Tensor:
            return 0.05 * torch.fft.irfft(1j * self.k * torch.fft.rfft(z), n=8) + 0.3

    module, z = Derivative(), torch.zeros(2, 8)
    found = certify(module, z)
    assert found.verdict is Verdict.CERTIFIED
    assert check(found, module, z).accepted


def test_rounding_errors_of_transforms_and_complex_products_are_not_claimed() -> None:
    """How torch computes them is not known here: their own algorithms, their own order of products."""
    turn = torch.tensor([[1.0, 2.0], [0.5, -1.0]], dtype=torch.float64)

    def multiplied(z: Tensor, x: Tensor) -> Tensor:
        product = torch.view_as_complex(z.reshape(-1, 2, 2)) * torch.view_as_complex(turn)
        return 0.1 * torch.view_as_real(product).reshape(z.shape) + x

    for G in (multiplied, lambda z, x: 0.1 * torch.fft.fft(z).real + x):
        layer, x = EquilibriumLayer(G), normal(1, 4)
        certificate = certify(layer, x)
        assert certificate.verdict is Verdict.CERTIFIED
        with pytest.raises(UnsupportedOperationError, match="computed by torch in a way not known here"):
            rounding_floor(certificate, layer, layer(x).detach(), x)

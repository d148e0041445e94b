"""Convolution layers as operands, against the matrix of the layer."""

from __future__ import annotations

import warnings

import pytest
import torch
from exact import seeded
from torch import Tensor, nn

from deqops.verify import (
    Convolution,
    InputError,
    Kronecker,
    Norm,
    Product,
    _convolution_operand,
    operator_norm_bound,
    spectral_norm_bound,
)

P = {"l1": 1, "l2": 2, "linf": float("inf")}
LAYERS = {
    "circular": nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular"),
    "zeros": nn.Conv2d(2, 2, 3, padding=1),
    "same": nn.Conv1d(2, 2, 4, padding="same"),
    "valid": nn.Conv1d(1, 2, 3, padding="valid", dilation=2),
    "reflect": nn.Conv1d(2, 2, 3, padding=2, padding_mode="reflect"),
    "replicate": nn.Conv2d(1, 2, 3, padding=1, padding_mode="replicate"),
    "stride and groups": nn.Conv2d(2, 4, 3, padding=1, stride=2, groups=2),
    "transposed": nn.ConvTranspose2d(2, 2, 3, stride=2, padding=1, output_padding=1),
}


def operand(name: str) -> Convolution:
    layer = LAYERS[name].double()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=seeded(1), dtype=torch.float64))
    return Convolution(layer, (6,) * (layer.weight.ndim - 2))


def written_out(convolution: Convolution) -> Tensor:
    """The layer's own Jacobian."""
    layer = convolution.layer
    example = torch.zeros(1, layer.in_channels, *convolution.size, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch on "same" padding of an even kernel
        jacobian: Tensor = torch.autograd.functional.jacobian(layer, example)
    return jacobian.reshape(convolution.shape)


@pytest.mark.parametrize("name", list(LAYERS))
def test_the_operand_is_the_layers_linear_part(name: str) -> None:
    convolution = operand(name)
    matrix = written_out(convolution)
    values = convolution.entries()
    assert values is not None
    assert bool(((values.mid - matrix).abs() <= values.rad + 1e-14).all())
    x = torch.randn(matrix.shape[1], 2, generator=seeded(2), dtype=torch.float64)
    y = torch.randn(matrix.shape[0], 2, generator=seeded(3), dtype=torch.float64)
    torch.testing.assert_close(convolution.apply(x), matrix @ x)
    torch.testing.assert_close(convolution.apply_transposed(y), matrix.T @ y)


@pytest.mark.parametrize("order", list(P))
@pytest.mark.parametrize("name", list(LAYERS))
def test_the_bound_is_at_least_the_norm_and_not_vacuous(name: str, order: str) -> None:
    convolution = operand(name)
    truth = float(torch.linalg.matrix_norm(written_out(convolution), P[order]))
    bound = operator_norm_bound(convolution, order)
    assert truth * (1 - 1e-14) <= bound.upper <= truth * (1 + 1e-10)
    assert 0.5 * truth <= bound.lower_estimate <= bound.upper


@pytest.mark.parametrize("name", ["circular", "zeros"])
def test_large_layers_are_not_written_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_convolution_operand, "_SMALL", 0)
    convolution = operand(name)
    truth = float(torch.linalg.matrix_norm(written_out(convolution), 2))
    bound = spectral_norm_bound(convolution)
    assert bound.method == "torus"
    assert truth * (1 - 1e-14) <= bound.upper <= truth * (1 + 1e-10 if name == "circular" else 1.6)


def test_convolutions_nest_and_are_weighted() -> None:
    convolution = operand("zeros")
    matrix = written_out(convolution)
    twice = spectral_norm_bound(Product(convolution, convolution))
    truth = float(torch.linalg.matrix_norm(matrix @ matrix, 2))
    assert truth * (1 - 1e-13) <= twice.upper <= truth * (1 + 1e-10)
    assert spectral_norm_bound(Kronecker(convolution, torch.eye(2))).upper <= 1.6 * float(
        torch.linalg.matrix_norm(matrix, 2)
    )
    weights = torch.rand(len(matrix), generator=seeded(4), dtype=torch.float64) + 0.5
    scaled = weights[:, None] * matrix / weights
    upper = operator_norm_bound(convolution, Norm("linf", (weights,))).upper
    assert upper == pytest.approx(float(torch.linalg.matrix_norm(scaled, float("inf"))), rel=1e-12)


def test_wrong_layers_and_sizes_are_refused_by_name() -> None:
    wrong = {
        "layer: got Linear": lambda: Convolution(nn.Linear(2, 2), (4,)),
        r"size: got \(4,\)": lambda: Convolution(nn.Conv2d(1, 1, 3), (4,)),
        r"size: got \(0,\)": lambda: Convolution(nn.Conv1d(1, 1, 3), (0,)),
        r"size: \(2,\) is smaller": lambda: Convolution(nn.Conv1d(1, 1, 3), (2,)),
        "size: 2 is too small for reflect": lambda: Convolution(
            nn.Conv1d(1, 1, 3, padding=2, padding_mode="reflect"), (2,)
        ),
    }
    for message, call in wrong.items():
        with pytest.raises(InputError, match=f"^{message}"):
            call()
    layer = nn.Conv1d(1, 1, 3)
    with torch.no_grad():
        layer.weight[0, 0, 1] = float("nan")
    with pytest.raises(InputError, match=r"^layer\.weight: entry \[0, 0, 1\] is not finite"):
        Convolution(layer, (5,))

"""T8 `causal` for convolutions whose kernels look back only: WaveNet's dilated stacks, PixelCNN's masked images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from convolutions import integer_kernel
from exact import seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from zoo import Module, randn

from deqops.graph import trace
from deqops.verify import Verdict, certify, check
from deqops.verify._dependence import Dependence
from deqops.verify._enclosures import Constants
from deqops.verify._problem import Problem
from deqops.verify.checker._levels import LevelWalk
from deqops.verify.checker._subject import Subject


def depth(G: Any, y: Tensor) -> int | None:
    """That of an accepted certificate; None where there is none."""
    found = certify(G, y, theorem="causal")
    if found.verdict is not Verdict.CERTIFIED:
        return None
    report = check(found, G, y)
    assert report.accepted, report.reasons
    return found.depth


def ends_after(G: Any, y: Tensor, sweeps: int) -> bool:
    """Whether two starts agree after so many sweeps; integers only, so exactly."""
    first, second = y, y + torch.arange(y.numel(), dtype=y.dtype).reshape(y.shape)
    for _ in range(sweeps):
        first, second = G(first), G(second)
    return torch.equal(first, second)


@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_t8_causal_a_convolution_of_the_past_ends_and_one_of_the_present_does_not(dilation: int) -> None:
    y = torch.zeros(1, 2, 7, dtype=torch.float64)
    kernel = integer_kernel(2, 2, 2, seed=dilation, most=3)
    kernel[kernel == 0] = 1.0
    looks_back = Module(
        lambda m, y: F.relu(F.conv1d(F.pad(y, (2 * dilation, -dilation)), m.K, dilation=dilation)) - 1.0, K=kernel
    )
    sweeps = -(-7 // dilation)
    assert depth(looks_back, y) == sweeps
    with torch.no_grad():
        assert ends_after(looks_back, y, sweeps)
        assert not ends_after(looks_back, y, sweeps - 1)
    sees_itself = Module(lambda m, y: F.relu(F.conv1d(F.pad(y, (dilation, 0)), m.K, dilation=dilation)) - 1.0, K=kernel)
    assert depth(sees_itself, y) is None
    around = Module(
        lambda m, y: F.conv1d(F.pad(y, (dilation, 0), mode="circular")[..., :-dilation], m.K[..., :1]).roll(1, -1),
        K=kernel,
    )
    assert depth(around, y) is None


def test_t8_causal_a_masked_image_ends_in_as_many_sweeps_as_pixels_at_most() -> None:
    """PixelCNN's mask: the rows above, and what is to the left in the same row."""
    kernel = integer_kernel(1, 1, 3, 3, seed=4, most=1).abs() + 1.0
    kernel[..., 1, 1:] = 0.0
    kernel[..., 2, :] = 0.0
    y = torch.zeros(1, 1, 3, 4, dtype=torch.float64)
    G = Module(lambda m, y: F.conv2d(y, m.K, padding=1).abs() - 1.0, K=kernel)
    sweeps = depth(G, y)
    assert sweeps == 8  # 4 in the first row, then 2 more for each row: (i, j) waits for (i - 1, j + 1)
    with torch.no_grad():
        assert ends_after(G, y, sweeps)
    kernel[..., 1, 1] = 1.0
    assert depth(Module(lambda m, y: F.conv2d(y, m.K, padding=1), K=kernel), y) is None


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([1, 2]), st.booleans())
def test_the_structure_of_a_convolution_is_that_of_its_matrix(seed: int, dims: int, transposed: bool) -> None:
    """Positive kernels and zeros: an entry of the matrix is 0 only where no tap counts. The checker agrees."""
    generator = seeded(seed)

    def drawn(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    groups, stride, gap, taps = drawn(1, 2), drawn(1, 2), drawn(1, 2), drawn(1, 3)
    size = tuple(drawn(4, 5) for _ in range(dims))
    kernel = torch.randint(0, 2, (2 * groups, 2, *(taps,) * dims), generator=generator).double()
    options = {"stride": stride, "dilation": gap, "groups": groups, "padding": drawn(0, 2)}
    name = f"conv_transpose{dims}d" if transposed else f"conv{dims}d"
    y = torch.zeros(1, 2 * groups, *size, dtype=torch.float64)
    try:
        out = getattr(F, name)(y, kernel, **options)
    except RuntimeError:
        return
    # The result is brought back to the state's shape by a fixed dense map of zeros and ones, one row per component.
    rows = torch.randint(0, 2, (y.numel(), out.numel()), generator=generator).double()
    operator = Module(
        lambda m, y: (m.R @ getattr(F, name)(y, m.K, **options).reshape(-1)).reshape(y.shape), K=kernel, R=rows
    )
    J = torch.autograd.functional.jacobian(operator, y).reshape(y.numel(), y.numel())
    problem = Problem(trace(operator, y, batch_dims=0), y, ())
    structure = Dependence(problem.graph, Constants(problem.graph), free=False)
    subject = Subject(problem.graph, frozenset(), ())
    for component in range(y.numel()):
        probe = torch.zeros(y.numel(), dtype=torch.bool)
        probe[component] = True
        seen = structure.moving([probe.reshape(y.shape)])[0].reshape(-1)
        assert torch.equal(seen, J[:, component] != 0)
        levels = [probe.reshape(y.shape).long().numpy()]
        found = LevelWalk(subject, levels, True).outputs[0].level
        assert torch.equal(torch.from_numpy(found > 0).reshape(-1), seen)


def test_a_kernel_that_depends_on_the_state_counts() -> None:
    y = torch.zeros(1, 1, 4, dtype=torch.float64)
    G = Module(lambda m, y: F.conv1d(F.pad(y, (2, -1)), y[..., :2]), B=randn(1))
    problem = Problem(trace(G, y, batch_dims=0), y, ())
    structure = Dependence(problem.graph, Constants(problem.graph), free=False)
    probe = torch.tensor([[[False, True, False, False]]])
    assert structure.moving([probe])[0].tolist() == [[[False, True, True, True]]]

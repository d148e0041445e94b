"""T8 through operations that are read as several: what they do not depend on is still seen, and checked again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from exact import seeded
from torch import Tensor, nn
from torch.nn import functional as F

from deqops.verify import Verdict, certify, check

SOURCES, TARGETS = torch.tensor([0, 0, 1, 2, 1]), torch.tensor([1, 2, 2, 3, 4])
HEADS = nn.MultiheadAttention(4, 2, batch_first=True).double().eval()
GRU = nn.GRU(4, 4, batch_first=True).double()
VOLUME = torch.randn(2, 2, 2, 1, 1, generator=seeded(1), dtype=torch.float64)


def before(z: Tensor) -> Tensor:
    """The entry before each, zero before the first."""
    return F.pad(z[:, :-1], (0, 0, 1, 0))


def largest(z: Tensor) -> Tensor:
    base = torch.zeros_like(z)
    return base.scatter_reduce(1, TARGETS[:, None].expand(2, 5, 4), z[:, SOURCES], "amax", include_self=False)


def attention(z: Tensor) -> Tensor:
    y = before(z)
    return F.scaled_dot_product_attention(y, y, y, is_causal=True)


def several_heads(z: Tensor) -> Tensor:
    y, later = before(z), torch.ones(5, 5, dtype=torch.bool).triu(1)
    return HEADS(y, y, y, attn_mask=later, need_weights=False)[0]  # type: ignore[no-any-return]


def volume(z: Tensor) -> Tensor:
    y = before(z).reshape(2, 5, 2, 2).permute(0, 2, 1, 3)[..., None]
    return F.conv3d(F.pad(y, (0, 0, 0, 0, 1, 0)), VOLUME)[..., 0].permute(0, 2, 1, 3).reshape(2, 5, 4)


CAUSAL: dict[str, Callable[[Tensor], Tensor]] = {
    "attention": attention,
    "heads": several_heads,
    "largest": largest,
    "pooled": lambda z: F.max_pool1d(F.pad(before(z), (0, 0, 2, 0)).transpose(1, 2), 3, 1).transpose(1, 2),
    "averaged": lambda z: F.avg_pool1d(F.pad(before(z), (0, 0, 2, 0)).transpose(1, 2), 3, 1).transpose(1, 2),
    "recurrent": lambda z: GRU(before(z))[0],
    "volume": volume,
    "hardshrink": lambda z: 3 * F.hardshrink(before(z), 0.2),
    "einsum": lambda z: torch.einsum("bti,ts,bsj->btj", before(z), torch.ones(5, 5).double().tril(), before(z)),
}


@pytest.mark.parametrize("name", CAUSAL)
def test_t8_sees_through_lowered_operations(name: str) -> None:
    """Nothing here contracts; each entry depends on earlier ones alone, so five sweeps end at the equilibrium."""
    z, x = torch.zeros(2, 5, 4).double(), torch.randn(2, 5, 4, generator=seeded(0), dtype=torch.float64)

    def operator(z: Tensor, x: Tensor) -> Tensor:
        return CAUSAL[name](z) + x

    certificate = certify(operator, z, x, theorem="causal")
    assert certificate.verdict is Verdict.CERTIFIED, certificate.reason
    assert check(certificate, operator, z, x).accepted
    y = z
    for _ in range(5):
        y = operator(y, x)
    torch.testing.assert_close(operator(y, x), y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CAUSAL)
def test_t8_one_entry_later_is_no_longer_causal(name: str) -> None:
    z = torch.zeros(2, 5, 4).double()
    certificate = certify(lambda z: CAUSAL[name](z.flip(1)), z, theorem="causal")
    assert certificate.verdict is not Verdict.CERTIFIED

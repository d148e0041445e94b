"""Layers and models of the `neuraloperator` library, small, with the weights that they come with."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import nn

LINE, PLANE, SPACE = (1, 4, 16), (1, 4, 8, 8), (1, 2, 4, 4, 4)


@dataclass(frozen=True)
class Layer:
    """A layer's name, what makes it, and the shape of its state."""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]


def layers() -> Iterator[Layer]:
    """All of them."""
    from neuralop.layers.fno_block import FNOBlocks
    from neuralop.layers.spectral_convolution import SpectralConv
    from neuralop.models import FNO, TFNO, UNO

    yield Layer("SpectralConv, 1d", lambda: SpectralConv(4, 4, (8,)), LINE)
    yield Layer("SpectralConv, 2d", lambda: SpectralConv(4, 4, (6, 6)), PLANE)
    yield Layer("SpectralConv, 3d", lambda: SpectralConv(2, 2, (4, 4, 4)), SPACE)
    yield Layer("SpectralConv, separable", lambda: SpectralConv(4, 4, (6, 6), separable=True), PLANE)
    for kind in ("tucker", "cp", "tt"):
        for how in ("factorized", "reconstructed"):
            settings = {"factorization": kind, "rank": 0.5, "implementation": how}
            yield Layer(f"SpectralConv, {kind}, {how}", lambda s=settings: SpectralConv(4, 4, (6, 6), **s), PLANE)
    blocks: dict[str, dict[str, object]] = {
        "plain": {},
        "group norm": {"norm": "group_norm"},
        "instance norm": {"norm": "instance_norm"},
        "norm first": {"norm": "group_norm", "preactivation": True},
        "soft gating": {"fno_skip": "soft-gating", "channel_mlp_skip": "linear"},
        "tanh before": {"stabilizer": "tanh"},
    }
    for name, settings in blocks.items():
        yield Layer(f"FNOBlocks, {name}", lambda s=settings: FNOBlocks(4, 4, (8,), n_layers=1, **s), LINE)
    yield Layer("FNOBlocks, 2d", lambda: FNOBlocks(4, 4, (6, 6), n_layers=1), PLANE)
    sizes = {"in_channels": 4, "out_channels": 4, "hidden_channels": 8}
    yield Layer("FNO, 1d", lambda: FNO(n_modes=(8,), n_layers=2, **sizes), LINE)
    yield Layer("FNO, 2d", lambda: FNO(n_modes=(6, 6), n_layers=1, **sizes), PLANE)
    yield Layer("TFNO, 1d", lambda: TFNO(n_modes=(8,), n_layers=2, rank=0.5, **sizes), LINE)
    down_and_up = {"uno_out_channels": [8, 8, 8], "uno_n_modes": [[4], [4], [4]], "uno_scalings": [[1.0], [0.5], [2.0]]}
    yield Layer("UNO, 1d", lambda: _silently(UNO, n_layers=3, channel_mlp_skip="linear", **down_and_up, **sizes), LINE)


def _silently(made: Callable[..., nn.Module], **settings: object) -> nn.Module:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its settings
        return made(**settings)

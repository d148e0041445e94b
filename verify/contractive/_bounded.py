"""One call that parametrises a layer, a layer on a graph, or all layers of a block."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, TypeVar

from torch import nn
from torch.nn.utils import parametrize

from deqops._errors import InputError

from ._convolution import ConvolutionBounded
from ._graph import NORMS, GraphBounded
from ._graph_layer import bounded_on_graph
from ._put import check_free, put
from ._spectral import L2Bounded
from ._split import Size, split
from ._sup import SupBounded
from ._weight_map import WeightMap, check_rate

M = TypeVar("M", bound=nn.Module)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)


def bounded(
    layer: M,
    rate: float = 0.95,
    *,
    norm: str = "l2",
    size: int | Sequence[int] | None = None,
    gain: float = 1.0,
    name: str = "weight",
    graph: Any = None,
) -> M:
    """The same layer, its weight's norm proven to be at most `rate / gain` from now on, whatever an optimiser does.

    A block of layers (`nn.Sequential`, `Chain`, `Sum`, `Injected`, `Damped`, with activations) gets rates for each of
    its layers such that its own constant is at most `rate / gain`. Called again, new bounds take the place of the old.

    Args:
        layer: with a matrix, as `nn.Linear`; a convolution in one or two dimensions; a block of such; with a graph a
            `GCNConv`, `SAGEConv`, `GraphConv` or `GINConv` of torch_geometric. Changed in place.
        rate: above 0; below 1 for a contraction.
        norm: "l2", or "linf" for the sup norm; with a graph also "perron", as `GraphBounded`.
        size: the input's spatial size, for a convolution in l2; the number of nodes, for a graph that does not tell.
        gain: the proven norm of what the weight is multiplied with.
        name: of the weight.
        graph: for the layers of torch_geometric an edge_index, a pair of it and edge weights, or a `Data`; from then on
            the layer refuses every other graph. For other layers the graph's operator A of `GraphBounded`.

    Raises:
        InputError: an argument out of range, or a layer that does not fit.
        UnsupportedOperationError: what the layer does with the graph has no bound, by name.
    """
    if norm not in (NORMS if graph is not None else ("l2", "linf")):
        raise InputError(f"norm: got {norm!r}; choose l2 or linf" + (", or perron with a graph" * (norm in NORMS)))
    if graph is not None:
        if gain != 1.0:
            raise InputError("gain: with a graph it is found; divide the rate by that of anything else")
        _on_graph(layer, rate, norm, size, name, graph)
    elif getattr(layer, name, None) is not None:
        _check_rows(layer, name)
        put(layer, name, _map(layer, rate, norm, size, gain))
    elif name != "weight" or not list(layer.children()):
        raise InputError(f"layer: {type(layer).__name__} has no {name!r}; say name=")
    else:
        _split(layer, Fraction(check_rate(rate)) / Fraction(check_rate(gain)), norm, size)
    return layer


def _split(block: nn.Module, rate: Fraction, norm: str, size: int | Sequence[int] | None) -> None:
    """Bounds for all layers of a block, put on when all of them are known to fit."""
    found: dict[nn.Module, WeightMap] = {}

    def leaf(layer: nn.Module, share: float, size: Size) -> None:
        if layer in found:
            raise InputError(f"layer: the same {type(layer).__name__} is used twice; give each place one of its own")
        check_free(layer, "weight")
        found[layer] = _map(layer, share, norm, size, 1.0)

    split(block, rate, (size,) if isinstance(size, int) else None if size is None else tuple(size), leaf)
    for layer, bound in found.items():
        put(layer, "weight", bound)


def _on_graph(layer: nn.Module, rate: float, norm: str, size: Any, name: str, graph: Any) -> None:
    if hasattr(layer, "propagate"):
        bounded_on_graph(layer, rate, norm, graph, size, bounded)
    elif getattr(layer, name, None) is not None:
        put(layer, name, GraphBounded(graph, rate, norm))
    else:
        raise InputError(f"layer: {type(layer).__name__} has no {name!r}; say name=")


def _check_rows(layer: nn.Module, name: str) -> None:
    """Raises InputError where rows are not what the layer makes: those of a transposed kernel are its inputs."""
    if name == "weight" and isinstance(
        layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d | nn.Bilinear
    ):
        kind = parametrize.type_before_parametrizations(layer).__name__
        raise InputError(f"layer: the {name} of a {kind} is no matrix, nor a convolution's kernel; bound it by hand")


def _map(layer: nn.Module, rate: float, norm: str, size: int | Sequence[int] | None, gain: float) -> WeightMap:
    if norm == "linf":
        return SupBounded(rate, gain=gain)
    if not isinstance(layer, CONVOLUTIONS):
        return L2Bounded(rate, gain)
    if size is None:
        raise InputError("size: the norm of a convolution depends on its input's spatial size; pass size=")
    if gain != 1.0:
        raise InputError("gain: a convolution takes none; divide the rate by it")
    geometry: dict[str, Any] = {
        key: getattr(layer, key) for key in ("padding_mode", "padding", "stride", "dilation", "groups")
    }
    return ConvolutionBounded(size, rate, **geometry)

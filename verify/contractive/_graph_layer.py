"""torch_geometric's layers whose only weights stand beside the graph's operator, bounded for one graph."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deqops._errors import InputError

from ._graph import GraphBounded
from ._put import put
from ._weight_map import check_rate

_BESIDE = {"GCNConv": "lin", "SAGEConv": "lin_l", "GraphConv": "lin_rel", "GINConv": "nn"}
"""The part that is applied to the messages, by class."""
_OWN = {"SAGEConv": "lin_r", "GraphConv": "lin_root"}
"""The part that is applied to each node's own state."""


@dataclass(frozen=True, eq=False)
class Graph:
    """Edges (2, edges), their weights (edges,) or None, and the number of nodes."""

    edge_index: Tensor
    edge_weight: Tensor | None
    nodes: int

    @staticmethod
    def of(graph: Any, size: Any = None) -> Graph:
        """From an edge_index, a pair of it and weights, or a `torch_geometric.data.Data`.

        Raises:
            InputError: it is none of these, or does not say how many nodes there are.
        """
        edges, weight, nodes = graph, None, size
        if isinstance(graph, tuple) and len(graph) == 2:
            edges, weight = graph
        elif hasattr(graph, "edge_index"):
            edges, weight = graph.edge_index, graph.edge_weight
            nodes = graph.num_nodes if size is None else size
        if not isinstance(edges, Tensor) or edges.ndim != 2 or edges.shape[0] != 2 or edges.dtype != torch.int64:
            raise InputError("graph: an edge_index (2, edges), a pair of it and edge weights, or a Data is needed")
        if isinstance(nodes, bool) or not isinstance(nodes, int):
            raise InputError("size: the number of nodes is needed, which an edge_index alone does not tell")
        return Graph(edges.detach().clone(), None if weight is None else weight.detach().clone(), nodes)

    def is_that_of(self, state: Any, edge_index: Any, edge_weight: Any) -> bool:
        """Whether a layer was called with this graph."""
        if not isinstance(state, Tensor) or state.ndim < 2 or state.shape[-2] != self.nodes:
            return False
        return _same(edge_index, self.edge_index) and _same(edge_weight, self.edge_weight)


def _same(given: Any, known: Tensor | None) -> bool:
    if given is None or known is None:
        return given is known
    return isinstance(given, Tensor) and given.shape == known.shape and torch.equal(given, known.to(given.device))


class SameGraph:
    """A hook before a layer's forward pass: it refuses graphs that the layer's weight is not bounded for."""

    def __init__(self, layer: nn.Module, graph: Graph) -> None:
        self.graph, self._signature = graph, inspect.signature(type(layer).forward)
        self._buffers = {name: buffer.detach().clone() for name, buffer in layer.named_buffers()}
        self._settings = _settings(layer)

    def __call__(self, layer: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Raises InputError where the graph, or a buffer or setting of the layer such as GIN's eps, is another one.

        A module that is exported passes: `certify` looks at the graph itself.
        """
        if torch.compiler.is_dynamo_compiling():
            from ._uncompiled import call_uncompiled

            call_uncompiled(self, layer, arguments, options)
        elif not torch.compiler.is_compiling():
            given = self._signature.bind(layer, *arguments, **options).arguments
            known = self.graph.is_that_of(given.get("x"), given.get("edge_index"), given.get("edge_weight"))
            again = "call bounded(layer, rate, graph=...) again"
            if not known:
                raise InputError(f"edge_index: not the graph that this layer's weight is bounded for; {again}")
            if not all(_same(buffer, self._buffers.get(name)) for name, buffer in layer.named_buffers()):
                raise InputError(f"layer: a buffer has changed since its weight was bounded; {again}")
            if _settings(layer) != self._settings:
                raise InputError(f"layer: a setting has changed since its weight was bounded; {again}")


def _settings(layer: nn.Module) -> dict[str, Any]:
    """Its plain attributes, such as GCN's self loops."""
    plain = {key: value for key, value in vars(layer).items() if isinstance(value, bool | int | float | str)}
    return {key: value for key, value in plain.items() if key != "training" and not key.startswith("_")}


def bounded_on_graph(
    layer: nn.Module, rate: float, norm: str, graph: Any, size: Any, bounded: Callable[..., nn.Module]
) -> None:
    """Bound a layer's weights for one graph, or anew for another one.

    Args:
        layer: of torch_geometric, of a class that is known here.
        rate: of the whole layer.
        norm: as `GraphBounded`.
        graph: as `Graph.of`.
        size: the number of nodes, or None.
        bounded: bounds a block of layers.
    """
    kind = type(layer).__name__
    if type(layer).__module__.partition(".")[0] != "torch_geometric" or kind not in _BESIDE:
        raise InputError(f"layer: the weights of {kind} beside a graph are not known; pass one of {', '.join(_BESIDE)}")
    known, own = Graph.of(graph, size), getattr(layer, _OWN.get(kind, ""), None)
    share = check_rate(rate) if own is None else check_rate(rate) / 2  # halves are exact, and add up to the rate
    part = getattr(layer, _BESIDE[kind])
    dtype = next((p.dtype for p in part.parameters()), torch.float32)
    beside = GraphBounded(_propagation(layer, known), share, norm, nodes=known.nodes, dtype=dtype)
    plain = "l2" if norm == "l2" else "linf"
    if getattr(part, "weight", None) is not None:
        put(part, "weight", beside)
    elif norm == "perron":
        raise InputError("norm: perron needs a nn of one Linear; use l2 or linf for this GINConv")
    else:
        bounded(part, share, norm=plain, gain=beside.gain)
    if own is not None:
        bounded(own, share, norm=plain)
    _without_guard(layer).register_forward_pre_hook(SameGraph(layer, known), with_kwargs=True)


def _without_guard(layer: nn.Module) -> nn.Module:
    for key, hook in list(layer._forward_pre_hooks.items()):
        if isinstance(hook, SameGraph):
            del layer._forward_pre_hooks[key]
            layer._forward_pre_hooks_with_kwargs.pop(key, None)
    return layer


class _Nothing(nn.Module):
    """The part of a layer that is applied to each node's own state, left out."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.zeros_like(z)


class _Propagation(nn.Module):
    """What a layer does with one channel, without its weights."""

    def __init__(self, layer: nn.Module, graph: Graph) -> None:
        super().__init__()
        self.layer, self.graph = layer, graph

    def forward(self, z: Tensor) -> Tensor:
        weights = () if self.graph.edge_weight is None else (self.graph.edge_weight,)
        result: Tensor = self.layer(z, self.graph.edge_index, *weights)
        return result


def _propagation(layer: nn.Module, graph: Graph) -> nn.Module:
    kind, plain = type(layer).__name__, _without_guard(copy.deepcopy(layer))
    setattr(plain, _BESIDE[kind], nn.Identity())
    if kind in _OWN and getattr(plain, _OWN[kind], None) is not None:
        setattr(plain, _OWN[kind], _Nothing())
    if getattr(plain, "bias", None) is not None:
        plain.bias = None  # type: ignore[assignment]
    if getattr(plain, "cached", False):
        raise InputError("layer: it keeps the graph of its first call; use cached=False")
    if getattr(plain, "project", False) or any(True for _ in plain.parameters()):
        raise InputError(f"layer: this {kind} has weights besides {_BESIDE[kind]}; bound them by hand")
    return _Propagation(plain, graph)

"""Operator graphs evaluated by torch, node by node, from the table in `deqops/graph/_ir.py` alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from deqops.graph import ConcreteGraph, Node, trace

Evaluation = Callable[..., Tensor]


def _named(*names: str) -> dict[str, Evaluation]:
    return {name: getattr(torch, name, None) or getattr(F, name) for name in names}


def _normalised(x: Tensor, normalized_shape: tuple[int, ...], eps: float, *, centred: bool) -> Tensor:
    function = F.layer_norm if centred else F.rms_norm
    return function(x, normalized_shape, eps=eps)


def _convolved(x: Tensor, weight: Tensor, transposed: bool = False, output_padding: Any = (0, 0), **a: Any) -> Tensor:
    dims = weight.ndim - 2
    sizes = {name: list(a[name]) for name in ("stride", "padding", "dilation")}
    extra = list(output_padding)[:dims]
    result: Tensor = torch.convolution(x, weight, None, *sizes.values(), transposed, extra, a["groups"])
    return result


EVALUATIONS: dict[str, Evaluation] = {
    **_named("tanh", "sigmoid", "relu", "relu6", "silu", "softsign", "abs", "neg", "exp", "expm1", "log", "log1p"),
    **_named("sqrt", "rsqrt", "reciprocal", "erf", "atan", "sin", "cos", "square", "sign", "floor", "ceil", "round"),
    **_named("hardswish", "mish", "selu", "leaky_relu", "elu", "gelu", "softplus", "add", "sub", "mul", "div", "pow"),
    **_named("maximum", "minimum", "matmul", "where", "eq", "ne", "lt", "le", "gt", "ge", "isinf", "isnan"),
    **_named("logical_not", "logical_and", "logical_or"),
    "hardtanh": lambda x, minimum, maximum: x.clamp(minimum, maximum),
    "clamp": lambda x, minimum, maximum: x.clamp(minimum, maximum),
    "pow_scalar": lambda x, exponent: x**exponent,
    "conv": _convolved,
    "conv_transpose": lambda x, weight, **a: _convolved(x, weight, True, **a),
    "layer_norm": lambda x, **a: _normalised(x, **a, centred=True),
    "rms_norm": lambda x, **a: _normalised(x, **a, centred=False),
    "softmax": lambda x, dim: x.softmax(dim),
    "reshape": lambda x, shape: x.reshape(shape),
    "permute": lambda x, dims: x.permute(dims),
    "expand": lambda x, shape: x.expand(shape),
    "slice": lambda x, dim, start, stop, step: x[(slice(None),) * dim + (slice(start, stop, step),)],
    "select": lambda x, dim, index: x.select(dim, index),
    "cat": lambda *parts, dim: torch.cat(parts, dim),
    "index_select": lambda x, index, dim: x.index_select(dim, index),
    "index_add": lambda base, index, source, dim: base.index_add(dim, index, source),
    "sum": lambda x, dims, keepdim: x.sum(dims, keepdim=keepdim) if dims else x,
    "mean": lambda x, dims, keepdim: x.mean(dims, keepdim=keepdim) if dims else x,
    "matrix_exp": lambda x: torch.linalg.matrix_exp(x),
    "spectral_norm": lambda x: torch.linalg.matrix_norm(x, 2),
    "inverse": lambda x: torch.linalg.inv(x),
    "softshrink": lambda x, t: x.sign() * torch.relu(x.abs() - t),
    "sort": lambda x, dim: x.sort(dim).values,
    "amax": lambda x, dims, keepdim: x.amax(dims, keepdim=keepdim),
    "amin": lambda x, dims, keepdim: x.amin(dims, keepdim=keepdim),
    "cos_pi": lambda x: torch.cos(torch.pi * x),
    "cast": lambda x, dtype: x.to(getattr(torch, dtype)),
}


def evaluate(graph: ConcreteGraph, state: list[Tensor] | None = None) -> list[Tensor]:
    """The leaves of G(state); the graph's example state where none is given."""
    values = {value: leaf.tensor for value, leaf in graph.leaves.items()}
    values |= dict(zip(graph.state, state, strict=True)) if state is not None else {}
    for node in graph.nodes:
        values[node.output] = evaluate_node(node, [values[value] for value in node.operands])
        assert tuple(values[node.output].shape) == node.shape, node
    return [values[value] for value in graph.outputs]


def evaluate_node(node: Node, operands: list[Tensor]) -> Tensor:
    """One node; an operation outside the vocabulary is a failure."""
    assert node.op in EVALUATIONS, f"{node.op} is not in the vocabulary"
    return EVALUATIONS[node.op](*operands, **node.attributes)


def assert_same_function(function: Callable[[Tensor], Tensor], z: Tensor) -> None:
    """The graph of a function of one problem's tensor is in the vocabulary, and computes what torch does."""
    graph = read(function, z, batch_dims=0)
    assert {node.op for node in graph.nodes} <= set(EVALUATIONS)
    expected = function(z)
    found = evaluate(graph, [z, torch.zeros_like(expected)])[1]
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


def read(function: Callable[..., Any], *arguments: Tensor, batch_dims: int = 1) -> ConcreteGraph:
    """The graph of any function of tensors: its results are leaves of the state that nothing reads."""
    results = _leaves(function(*arguments))
    state = (*arguments, *(torch.zeros_like(result) for result in results))

    def operator(everything: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        given = everything[: len(arguments)]
        return (*given, *_leaves(function(*given)))

    traced = trace(operator, state, batch_dims=batch_dims)
    assert not traced.impure, traced.impure
    return traced.concrete(state)


def _leaves(result: Any) -> tuple[Tensor, ...]:
    return tuple(result) if isinstance(result, tuple | list) else (result,)

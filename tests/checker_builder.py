"""Small operator graphs and certificate documents, built by hand for the checker's tests."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import torch
from torch import Tensor

from deqops.graph import ConcreteGraph, Leaf, Node
from deqops.testing import signed


class GraphBuilder:
    """Builds a `ConcreteGraph` operation by operation, computing shapes by running them in torch."""

    def __init__(self, *state: Tensor, batch_dims: int = 0) -> None:
        self._leaves: dict[int, Leaf] = {}
        self._nodes: list[Node] = []
        self._values: dict[int, Tensor] = {}
        self._batch_dims = batch_dims
        self.state = [self._leaf("state", number, tensor) for number, tensor in enumerate(state)]
        self._inputs = 0

    def constant(self, tensor: Tensor | float) -> int:
        return self._leaf("parameter", -1, torch.as_tensor(tensor))

    def input(self, tensor: Tensor) -> int:
        self._inputs += 1
        return self._leaf("input", self._inputs - 1, tensor)

    def op(self, name: str, *operands: int, **attributes: Any) -> int:
        result = _RUN[name](*[self._values[v] for v in operands], **attributes)
        number = len(self._values)
        shape = tuple(result.shape)
        node = Node(name, operands, attributes, number, shape, result.dtype, f"aten.{name}")
        self._nodes.append(node)
        self._values[number] = result
        return number

    def graph(self, *outputs: int) -> ConcreteGraph:
        names = tuple(f"input_{n}" for n in range(self._inputs))
        return ConcreteGraph(self._leaves, tuple(self._nodes), outputs, self._batch_dims, "0" * 64, names)

    def _leaf(self, kind: Any, position: int, tensor: Tensor) -> int:
        number = len(self._values)
        self._leaves[number] = Leaf(kind, position, f"{kind}_{number}", tensor)
        self._values[number] = tensor
        return number


_RUN: dict[str, Any] = {
    name: getattr(torch, name)
    for name in ("add", "sub", "mul", "div", "matmul", "neg", "abs", "tanh", "sigmoid", "relu", "eq", "where")
}
_RUN |= {
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "permute": torch.permute,
    "square": torch.square,
    "exp": torch.exp,
    "log": torch.log,
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
    "mish": torch.nn.functional.mish,
    "pow_scalar": lambda x, exponent: x**exponent,
    "reshape": lambda x, shape: x.reshape(shape),
    "expand": lambda x, shape: x.expand(shape),
    "select": lambda x, dim, index: x.select(dim, index),
    "slice": lambda x, dim, start, stop, step: x[(slice(None),) * dim + (slice(start, stop, step),)],
    "cat": lambda *parts, dim: torch.cat(parts, dim),
    "sum": lambda x, dims, keepdim: x.sum(dims, keepdim),
    "mean": lambda x, dims, keepdim: x.mean(dims, keepdim),
    "index_select": lambda x, index, dim: x.index_select(dim, index),
    "index_add": lambda base, index, source, dim: base.index_add(dim, index, source),
    "conv": lambda x, w, stride, padding, dilation, groups: torch.ops.aten.convolution(
        x, w, None, stride, padding, dilation, False, (0,) * len(stride), groups
    ),
    "cast": lambda x, dtype: x.to(getattr(torch, dtype)),
}


def witness(tensor: Tensor) -> dict[str, Any]:
    """A tensor as an inline witness."""
    data = tensor.detach().double().contiguous().numpy().astype("<f8").tobytes()
    return {
        "dtype": "float64",
        "shape": list(tensor.shape),
        "sha256": hashlib.sha256(data).hexdigest(),
        "data": base64.b64encode(data).decode("ascii"),
    }


def claimed(
    graph: ConcreteGraph,
    *,
    kind: str = "contraction",
    order: str = "l2",
    bound: float = 0.5,
    rate: float | None = None,
    theorem: str = "picard",
    verdict: str = "certified",
    weights: list[Tensor] | None = None,
    centre: list[Tensor] | None = None,
    radius: float = 1.0,
    residual: float | None = None,
    damping: float | None = None,
    points: tuple[list[Tensor], list[Tensor]] | None = None,
    problem: int = 0,
    free: tuple[str, ...] = (),
) -> dict[str, Any]:
    """A certificate document for a graph, with a right digest."""
    from deqops.graph import tensor_digest

    witnesses: dict[str, Any] = {}

    def names(stem: str, tensors: list[Tensor]) -> list[str]:
        found = [f"{stem}_{n}" for n in range(len(tensors))]
        witnesses.update({name: witness(t) for name, t in zip(found, tensors, strict=True)})
        return found

    norm = {"order": order, "weights": None if weights is None else names("weights", weights)}
    region: dict[str, Any] = {"kind": "global"}
    if centre is not None:
        region = {"kind": "ball", "center": names("center", centre), "radius": radius.hex(), "norm": norm}
    claim: dict[str, Any] = {"kind": kind, "region": region}
    if kind == "contraction":
        claim["norm"] = norm
    if kind == "converges":
        claim["iteration"] = {"kind": "picard", "damping": (1.0 if damping is None else damping).hex()}
    evidence: dict[str, Any] = {"kind": "lipschitz", "bound": bound.hex()}
    if residual is not None:
        evidence = {"kind": "local", "bound": bound.hex(), "residual": residual.hex()}
    if points is not None:
        evidence = {"kind": "two_points", "problem": problem}
        evidence |= {"first": names("first", points[0]), "second": names("second", points[1])}
    chosen = None if points is not None else (bound if rate is None else rate).hex()
    inputs = []
    for value in graph.inputs:
        leaf = graph.leaves[value]
        is_free = leaf.name in free
        inputs.append(
            {
                "name": leaf.name,
                "shape": list(leaf.tensor.shape),
                "dtype": str(leaf.tensor.dtype).removeprefix("torch."),
                "status": "free" if is_free else "fixed",
                "sha256": None if is_free else tensor_digest(leaf.tensor),
            }
        )
    state = [graph.leaves[value].tensor for value in graph.state]
    return signed(
        {
            "format": "deqops-certificate",
            "schema": 1,
            "deqops": "0.1.0",
            "claim": claim,
            "verdict": verdict,
            "theorem": theorem,
            "rate": chosen,
            "norm": norm,
            "region": region,
            "state": [{"shape": list(t.shape), "dtype": str(t.dtype).removeprefix("torch.")} for t in state],
            "batch_dims": graph.batch_dims,
            "model": {"fingerprint": graph.fingerprint},
            "inputs": inputs,
            "hypotheses": [],
            "contributions": [],
            "evidence": evidence,
            "reason": "",
            "witnesses": witnesses,
        }
    )

"""The operator graph at fixed shapes: what the certifier, the checker and the solver read.

A `ConcreteGraph` is `G(state, *inputs) -> state` as a list of nodes in topological order over numbered
values. Everything that depends on shapes or on integers only (sizes, index arithmetic, masks, factories)
has been evaluated exactly and is a literal, so the vocabulary that remains is small:

| group | `op` (attributes) | operands |
|---|---|---|
| elementwise | `tanh`, `sigmoid`, `relu`, `relu6`, `silu`, `softsign`, `abs`, `neg`, `exp`, `expm1`, `log`, `log1p`, `sqrt`, `rsqrt`, `reciprocal`, `erf`, `atan`, `sin`, `cos`, `cos_pi` (cos(pi x), of constants), `square`, `sign`, `floor`, `ceil`, `round`, `hardswish`, `mish`, `selu` | x |
| elementwise | `leaky_relu(negative_slope)`, `elu(alpha)`, `gelu(approximate)`, `softplus(beta, threshold)`, `hardtanh(minimum, maximum)`, `clamp(minimum, maximum)` (each bound a float or None), `pow_scalar(exponent)` | x |
| arithmetic, broadcasting | `add`, `sub`, `mul`, `div`, `pow`, `maximum`, `minimum` | a, b |
| soft thresholding, in graphs for bounds | `softshrink`: sign(x) relu(abs(x) - t) | x, t, which broadcasts to x's shape |
| linear algebra | `matmul` (torch.matmul's shape rules) | a, b |
| linear algebra | `inverse`, `matrix_exp`, `spectral_norm` of the matrices of the last two dimensions, of constants | A |
| convolution, 1 or 2 spatial dimensions | `conv(stride, padding, dilation, groups)`: zero padding, the same before and after | x (problems, channels, ...), weight (out, in / groups, ...) |
| convolution | `conv_transpose(stride, padding, dilation, groups, output_padding)` | x, weight (in, out / groups, ...) |
| normalisation | `layer_norm(normalized_shape, eps)`, `rms_norm(normalized_shape, eps)`, `softmax(dim)` | x / x, (weight, bias where present: they become `mul`, `add`) |
| shape | `reshape(shape)`, `permute(dims)`, `expand(shape)`, `slice(dim, start, stop, step)`, `select(dim, index)` | x |
| shape | `cat(dim)` | x_0, x_1, ... |
| indexing along one dimension | `index_select(dim)` | x, index (1-D integers) |
| indexing | `index_add(dim)`: base + sum over e of source[e] at index[e] | base, index (1-D integers), source |
| choice | `where` | condition (bool), a, b |
| choice | `eq`, `ne`, `lt`, `le`, `gt`, `ge`, `logical_not`, `logical_and`, `logical_or`, `isinf`, `isnan` (bool results) | a, b / a |
| order along one dimension | `sort(dim)`: ascending | x |
| reduction | `sum(dims, keepdim)`, `mean(dims, keepdim)`, `amax(dims, keepdim)`, `amin(dims, keepdim)` | x |
| cast | `cast(dtype)`: to another floating dtype; the identity of the exact-real function | x |

Dims are nonnegative, shapes are full, slices are normalised to 0 <= start <= stop <= size. Python scalars
are 0-dimensional float64 literals (integers when every operand is an integer). `linear`, `addmm`, `baddbmm`,
`mm`, `bmm`, `mv`, `t`, `flatten`, `squeeze`, `unsqueeze`, `view`, `stack`, `chunk`, `masked_fill`, `scatter_add`
and the like are written in these terms; so are a convolution's bias (`add`), a padding that copies
(`index_select` along each dimension) and a constant one (`cat` with literals), pooling, resampling, attention,
recurrent layers, einsum, complex values by their parts, Fourier transforms and segments of messages (docs/operators.md
has the table). Any other operation stays in the graph under its exported name (`op == "aten.cummax.default"`) and is
refused by name by whoever needs a rule for it. Operations whose result does not reach the output are dropped, as are assertions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch

Attribute = None | bool | int | float | str | tuple[int, ...]

OF_COMPLEX = " of complex numbers"
"""Ends the source of a node that computes parts of complex numbers."""

LeafKind = Literal["state", "input", "parameter", "literal"]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value that no node computes.

    `kind`: "state" (a leaf of the state tree), "input" (a leaf of the inputs), "parameter" (a weight, buffer
    or tensor constant of the model) or "literal" (a Python scalar, or an integer/boolean/factory tensor that
    was evaluated exactly). `position` numbers the leaves within "state" and within "input"; it is -1 for the
    others. `tensor` is the value itself (for the state: the example state). `inputs` are the positions of the
    inputs whose *values* the tensor was computed from. `ends` are given where an input is any value between two
    (`between`), and `tensor` is only one of them.
    """

    kind: LeafKind
    position: int
    name: str
    tensor: torch.Tensor
    inputs: frozenset[int] = frozenset()
    ends: tuple[torch.Tensor, torch.Tensor] | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One operation: `output = op(*operands, **attributes)`.

    `source` is the exported operator's name ("aten.linear.default"), for messages; `OF_COMPLEX` follows it where the
    operator has a complex operand. `inputs` are the positions
    of inputs whose values were used up in the *attributes* (a size computed from an index input).
    """

    op: str
    operands: tuple[int, ...]
    attributes: Mapping[str, Attribute]
    output: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    source: str
    inputs: frozenset[int] = frozenset()


@dataclass(frozen=True)
class ConcreteGraph:
    """`G(state, *inputs)` at fixed shapes.

    Values are numbered; `leaves` and the nodes' `output` define them. `outputs[i]` is the value of the i-th
    leaf of the new state. `batch_dims` is 1 where dimension 0 of every state leaf counts independent problems,
    and 0 where the whole state is one problem. `fingerprint` is the SHA-256 of the canonical graph and weights.
    `input_names` names the input leaves ("x", "edge_index").
    """

    leaves: Mapping[int, Leaf]
    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]
    batch_dims: int
    fingerprint: str
    input_names: tuple[str, ...]

    @cached_property
    def state(self) -> tuple[int, ...]:
        """The values of the state's leaves, in order."""
        return self._of_kind("state")

    @cached_property
    def inputs(self) -> tuple[int, ...]:
        """The values of the inputs' leaves, in order."""
        return self._of_kind("input")

    @cached_property
    def producer(self) -> Mapping[int, Node]:
        """The node that computes each value that is not a leaf."""
        return {node.output: node for node in self.nodes}

    @cached_property
    def state_dependent(self) -> frozenset[int]:
        """The values that depend on the state."""
        dependent = set(self.state)
        for node in self.nodes:
            if dependent.intersection(node.operands):
                dependent.add(node.output)
        return frozenset(dependent)

    def shape(self, value: int) -> tuple[int, ...]:
        """The shape of a value."""
        if value in self.leaves:
            return tuple(self.leaves[value].tensor.shape)
        return self.producer[value].shape

    def _of_kind(self, kind: LeafKind) -> tuple[int, ...]:
        found = [(leaf.position, value) for value, leaf in self.leaves.items() if leaf.kind == kind]
        return tuple(value for _, value in sorted(found))

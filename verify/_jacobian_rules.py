"""The Jacobian rules of elementwise and affine operations: each result as a combination of basis values."""

from __future__ import annotations

import torch

from deqops._errors import UnsupportedOperationError
from deqops.graph import Node

from . import _midrad as midrad
from ._conv_map import Settings
from ._enclosures import as_exact
from ._expansion import convolution_cost
from ._jacobian import Builder, Combination, along, integer, integers, register_jacobian
from ._midrad import MidRad
from ._sparse import SparseMatrix


@register_jacobian(
    *[
        "tanh",
        "sigmoid",
        "relu",
        "relu6",
        "silu",
        "softsign",
        "abs",
        "leaky_relu",
        "elu",
        "gelu",
        "softplus",
        "hardtanh",
        "clamp",
        "mish",
        "selu",
        "hardswish",
    ],
    *[
        "exp",
        "expm1",
        "log",
        "log1p",
        "sqrt",
        "rsqrt",
        "reciprocal",
        "erf",
        "atan",
        "square",
        "sin",
        "cos",
        "pow_scalar",
    ],
)
def _elementwise(builder: Builder, node: Node) -> Combination:
    return builder.elementwise(node, node.op, node.attributes)


@register_jacobian("layer_norm", "rms_norm")
def _normalisation(builder: Builder, node: Node) -> Combination:
    return builder.normalised(node)


@register_jacobian("neg")
def _negative(builder: Builder, node: Node) -> Combination:
    minus = MidRad.exact(torch.tensor(-1.0, dtype=torch.float64))
    return builder.combinations[node.operands[0]].mapped(lambda a: a.scaled(minus), node.shape)


@register_jacobian("cast")
def _cast(builder: Builder, node: Node) -> Combination:
    return builder.combinations[node.operands[0]]


@register_jacobian("add", "sub")
def _sum(builder: Builder, node: Node) -> Combination:
    total, minus = Combination(node.shape), MidRad.exact(torch.tensor(-1.0, dtype=torch.float64))
    for number, value in enumerate(node.operands):
        if builder.depends(value):
            part = builder.broadcast(builder.combinations[value], node.shape)
            negated = number == 1 and node.op == "sub"
            total = total.plus(part.mapped(lambda a: a.scaled(minus), node.shape) if negated else part)
    return total


@register_jacobian("conv", "conv_transpose")
def _convolution(builder: Builder, node: Node) -> Combination:
    x, kernel = node.operands
    if builder.depends(kernel):
        raise UnsupportedOperationError(node.source, "with a kernel that depends on the state has no Lipschitz rule")
    weight, settings = builder.constants.floating(kernel), Settings.of(node)
    source = builder.factor(x, lambda a: convolution_cost(a, node.shape[1]))
    return source.mapped(lambda a: a.convolved(weight, settings), node.shape)


@register_jacobian("reshape")
def _reshape(builder: Builder, node: Node) -> Combination:
    return builder.combinations[node.operands[0]].mapped(lambda a: a.reshaped(node.shape), node.shape)


@register_jacobian("permute")
def _permute(builder: Builder, node: Node) -> Combination:
    dims = integers(node, "dims")
    return builder.combinations[node.operands[0]].mapped(lambda a: a.permuted(dims), node.shape)


@register_jacobian("expand")
def _expand(builder: Builder, node: Node) -> Combination:
    return builder.broadcast(builder.combinations[node.operands[0]], node.shape)


@register_jacobian("slice", "select")
def _slice(builder: Builder, node: Node) -> Combination:
    source, dim = builder.combinations[node.operands[0]], integer(node, "dim")
    size = source.shape[dim]
    if node.op == "select":
        index = torch.tensor([integer(node, "index")])
    else:
        index = torch.arange(size)[integer(node, "start") : integer(node, "stop") : integer(node, "step")]
    result = along(source, dim, SparseMatrix.from_index_select(index, size))
    return result.mapped(lambda a: a.reshaped(node.shape), node.shape)


@register_jacobian("index_select")
def _index_select(builder: Builder, node: Node) -> Combination:
    source, dim = builder.combinations[node.operands[0]], integer(node, "dim")
    index = as_exact(node, builder.constants[node.operands[1]])
    return along(source, dim, SparseMatrix.from_index_select(index, source.shape[dim]))


@register_jacobian("index_add")
def _index_add(builder: Builder, node: Node) -> Combination:
    base, index_value, source = node.operands
    dim, total = integer(node, "dim"), Combination(node.shape)
    if builder.depends(base):
        total = total.plus(builder.combinations[base])
    if builder.depends(source):
        index = as_exact(node, builder.constants[index_value])
        scatter = SparseMatrix.from_index_add(index, node.shape[dim])
        total = total.plus(along(builder.combinations[source], dim, scatter))
    return total


@register_jacobian("cat")
def _cat(builder: Builder, node: Node) -> Combination:
    dim, offset, total = integer(node, "dim"), 0, Combination(node.shape)
    for value in node.operands:
        size = builder.graph.shape(value)[dim]
        if builder.depends(value):
            place = SparseMatrix.from_index_add(torch.arange(offset, offset + size), node.shape[dim])
            total = total.plus(along(builder.combinations[value], dim, place))
        offset += size
    return total


@register_jacobian("where")
def _where(builder: Builder, node: Node) -> Combination:
    condition, a, b = node.operands
    if builder.depends(condition):
        raise UnsupportedOperationError(node.source, "chooses by the state: a jump, with no Lipschitz constant")
    mask = as_exact(node, builder.constants[condition]).to(torch.float64)
    total = Combination(node.shape)
    for value, keep in ((a, mask), (b, 1 - mask)):
        if builder.depends(value):
            part = builder.broadcast(builder.combinations[value], node.shape)
            factor = MidRad.exact(keep)
            total = total.plus(part.mapped(lambda m, factor=factor: m.times(factor), node.shape))  # type: ignore[misc]
    return total


@register_jacobian("eq", "ne", "lt", "le", "gt", "ge", "sign", "floor", "ceil", "round")
def _jump(builder: Builder, node: Node) -> Combination:
    raise UnsupportedOperationError(node.source, "decides by the state: a jump, with no Lipschitz constant")


@register_jacobian("sum", "mean")
def _reduction(builder: Builder, node: Node) -> Combination:
    result = builder.combinations[node.operands[0]]
    count = 1
    for dim in integers(node, "dims"):
        size = result.shape[dim]
        count *= size
        ones = SparseMatrix.from_index_add(torch.zeros(size, dtype=torch.int64), 1)
        result = along(result, dim, ones)
    result = result.mapped(lambda a: a.reshaped(node.shape), node.shape)
    if node.op == "sum" or count == 0:
        return result
    one, total = torch.ones((), dtype=torch.float64), torch.tensor(float(count), dtype=torch.float64)
    share = midrad.div(MidRad.exact(one), MidRad.exact(total))
    return result.mapped(lambda a: a.scaled(share), node.shape)

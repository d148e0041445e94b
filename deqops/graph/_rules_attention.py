"""Scaled dot-product attention and softmax."""

from __future__ import annotations

import math
from typing import Any

import torch

from deqops._errors import UnsupportedOperationError
from deqops.graph._arguments import (
    Arguments,
    applied,
    combined,
    dim_of,
    in_dtype,
    literal,
    matmul_of,
    number,
    rank_of,
    selected,
    swapped,
)
from deqops.graph._items import Dynamic, Known
from deqops.graph._lowering import Lowering, lowers


@lowers("softmax.int", "_softmax")
def _softmax(low: Lowering, a: Arguments) -> Any:
    if a.get("half_to_float"):
        return NotImplemented
    return _softmax_over(low, in_dtype(low, a["self"], a.get("dtype")), dim_of(a["dim"], rank_of(a["self"])))


def _softmax_over(low: Lowering, x: Any, dim: int) -> Dynamic:
    return low.emit("softmax", [x], lambda t: t.clone(), dim=dim)


@lowers("scaled_dot_product_attention")
def _attention(low: Lowering, a: Arguments) -> Any:
    """softmax(q k^T / sqrt(d) + mask) v over the last two dimensions; without a scale d is the length of q's rows."""
    if float(number(a.get("dropout_p", 0.0))) != 0.0:
        return NotImplemented
    query, key, value = (low.as_dynamic(a[name]) for name in ("query", "key", "value"))
    if a.get("enable_gqa"):
        key, value = (_repeated_heads(low, item, query.shape[-3]) for item in (key, value))
    scores = matmul_of(low, _scaled_query(low, query, a.get("scale")), swapped(low, key))
    scores = _masked(low, scores, _mask(low, a, scores))
    return matmul_of(low, _softmax_over(low, scores, rank_of(scores) - 1), value)


def _repeated_heads(low: Lowering, item: Dynamic, heads: int) -> Dynamic:
    """Grouped heads of keys or values, dimension -3, each as often in a row as the queries' heads need it."""
    dim, groups = rank_of(item) - 3, item.shape[-3]
    if groups == heads:
        return item
    places = torch.arange(groups).repeat_interleave(heads // groups)
    repeated: Dynamic = selected(low, item, dim, Known(places))
    return repeated


def _scaled_query(low: Lowering, query: Dynamic, scale: Any) -> Dynamic:
    """The query times the scale; the root of a length is taken exactly where it is an integer."""
    if scale is not None:
        return combined(low, "mul", query, literal(float(number(scale))))
    length = query.shape[-1]
    root = math.isqrt(length)
    divisor = literal(root) if root * root == length else applied(low, "sqrt", literal(length))
    return combined(low, "div", query, divisor if root * root == length else in_dtype(low, divisor, query.meta.dtype))


def _mask(low: Lowering, a: Arguments, scores: Dynamic) -> Any:
    """The mask as an item; None for none. A causal one lets row i see the columns up to i."""
    given, causal = a.get("attn_mask"), bool(a.get("is_causal", False))
    if causal and given is not None:
        raise UnsupportedOperationError(low.source, "has a mask and is causal as well")
    return Known(torch.ones(scores.shape[-2:], dtype=torch.bool).tril()) if causal else given


def _masked(low: Lowering, scores: Dynamic, mask: Any) -> Dynamic:
    """A condition puts minus infinity where it does not hold; numbers are added."""
    if mask is None:
        return scores
    dtype = mask.meta.dtype if isinstance(mask, Dynamic) else mask.value.dtype
    if dtype != torch.bool:
        return combined(low, "add", scores, mask)
    if isinstance(mask, Known) and not bool(mask.value.any(dim=-1).all()):
        raise UnsupportedOperationError(low.source, "masks a whole row, which has no softmax")
    beyond = Known(torch.full((), -math.inf, dtype=scores.meta.dtype))
    return low.emit("where", [mask, scores, beyond], torch.where)

"""Recurrent cells: one step of a GRU, an LSTM or a plain recurrent network."""

from __future__ import annotations

from typing import Any

from deqops.graph._arguments import Arguments, applied, combined, literal, matmul_of, rank_of, sliced, swapped
from deqops.graph._lowering import Dynamic, Lowering, lowers


def _linear(low: Lowering, x: Any, weight: Any, bias: Any) -> Dynamic:
    product = matmul_of(low, x, swapped(low, weight))
    return product if bias is None else combined(low, "add", product, bias)


def _split(low: Lowering, x: Dynamic, parts: int) -> list[Any]:
    """Equal parts of the last dimension."""
    dim = rank_of(x) - 1
    size = x.shape[dim] // parts
    return [sliced(low, x, dim, slice(k * size, (k + 1) * size), []) for k in range(parts)]


def _both(low: Lowering, a: Arguments, hidden: Any) -> tuple[Dynamic, Dynamic]:
    """W_i x + b_i and W_h h + b_h."""
    from_input = _linear(low, low.as_dynamic(a["input"]), a["w_ih"], a.get("b_ih"))
    return from_input, _linear(low, low.as_dynamic(hidden), a["w_hh"], a.get("b_hh"))


def _gate(low: Lowering, op: str, a: Any, b: Any) -> Dynamic:
    return applied(low, op, combined(low, "add", a, b))


@lowers("gru_cell")
def _gru(low: Lowering, a: Arguments) -> Any:
    """(1 - z) n + z h, z and r sigmoid gates, n = tanh(W_n x + r (U_n h))."""
    hidden = low.as_dynamic(a["hx"])
    given, carried = (_split(low, part, 3) for part in _both(low, a, hidden))
    r, z = (_gate(low, "sigmoid", given[k], carried[k]) for k in (0, 1))
    n = _gate(low, "tanh", given[2], combined(low, "mul", r, carried[2]))
    fresh = combined(low, "mul", combined(low, "sub", literal(1.0), z), n)
    return combined(low, "add", fresh, combined(low, "mul", z, hidden))


@lowers("lstm_cell")
def _lstm(low: Lowering, a: Arguments) -> Any:
    """c' = f c + i g and h' = o tanh(c'), with sigmoid gates i, f, o and g = tanh(..)."""
    hidden, memory = (low.as_dynamic(part) for part in a["hx"])
    i, f, g, o = _split(low, combined(low, "add", *_both(low, a, hidden)), 4)
    i, f, o = (applied(low, "sigmoid", part) for part in (i, f, o))
    kept = combined(low, "mul", f, memory)
    memory = combined(low, "add", kept, combined(low, "mul", i, applied(low, "tanh", g)))
    return [combined(low, "mul", o, applied(low, "tanh", memory)), memory]


@lowers("rnn_tanh_cell")
def _rnn_tanh(low: Lowering, a: Arguments) -> Any:
    return _gate(low, "tanh", *_both(low, a, a["hx"]))


@lowers("rnn_relu_cell")
def _rnn_relu(low: Lowering, a: Arguments) -> Any:
    return _gate(low, "relu", *_both(low, a, a["hx"]))

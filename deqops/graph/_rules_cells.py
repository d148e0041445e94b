"""Recurrent cells and layers: a GRU, an LSTM or a plain recurrent network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from deqops.graph._arguments import (
    Arguments,
    applied,
    combined,
    literal,
    matmul_of,
    number,
    rank_of,
    reshaped,
    sliced,
    swapped,
)
from deqops.graph._items import Dynamic
from deqops.graph._lowering import Lowering, lowers


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
    """c' = f c + i g and h' = o tanh(c'), or W_hr of that, with sigmoid gates i, f, o and g = tanh(..)."""
    hidden, memory = (low.as_dynamic(part) for part in a["hx"])
    i, f, g, o = _split(low, combined(low, "add", *_both(low, a, hidden)), 4)
    i, f, o = (applied(low, "sigmoid", part) for part in (i, f, o))
    kept = combined(low, "mul", f, memory)
    memory = combined(low, "add", kept, combined(low, "mul", i, applied(low, "tanh", g)))
    hidden = combined(low, "mul", o, applied(low, "tanh", memory))
    return [hidden if a.get("w_hr") is None else _linear(low, hidden, a["w_hr"], None), memory]


@lowers("rnn_tanh_cell")
def _rnn_tanh(low: Lowering, a: Arguments) -> Any:
    return _gate(low, "tanh", *_both(low, a, a["hx"]))


@lowers("rnn_relu_cell")
def _rnn_relu(low: Lowering, a: Arguments) -> Any:
    return _gate(low, "relu", *_both(low, a, a["hx"]))


# ------------------------------------------------------------------------------------------------ whole sequences

_LONGEST = 256
_CELLS: dict[str, Callable[[Lowering, Arguments], Any]] = {
    "gru": _gru,
    "lstm": _lstm,
    "rnn_tanh": _rnn_tanh,
    "rnn_relu": _rnn_relu,
}


@lowers("gru.input", "lstm.input", "rnn_tanh.input", "rnn_relu.input")
def _sequence(low: Lowering, a: Arguments) -> Any:
    """Layer by layer and step by step, forwards and, where asked for, backwards."""
    kind, x = low.source.split(".")[1], low.as_dynamic(a["input"])
    biased, layers, both = bool(a["has_biases"]), int(number(a["num_layers"])), bool(a["bidirectional"])
    per_pass = len(a["params"]) // (layers * (2 if both else 1))
    time = 1 if a["batch_first"] and rank_of(x) == 3 else 0
    names = (*_NAMES[: 4 if biased else 2], *(["w_hr"] if kind == "lstm" and per_pass % 2 else []))
    if per_pass != len(names) or not 0 < x.shape[time] <= _LONGEST or (a["train"] and float(a["dropout"])):
        return NotImplemented
    initial = [low.as_dynamic(h) for h in (a["hx"] if kind == "lstm" else [a["hx"]])]
    steps = [_at(low, x, time, t) for t in range(x.shape[time])]
    last: list[list[Any]] = []
    for _ in range(layers):
        passes = []
        for back in (False, True) if both else (False,):
            position = len(last)
            weights = dict(zip(names, a["params"][position * per_pass : (position + 1) * per_pass], strict=True))
            state = [_at(low, h, 0, position) for h in initial]
            found, state = _run(low, kind, steps[::-1] if back else steps, state, weights)
            passes.append(found[::-1] if back else found)
            last.append(state)
        steps = [parts[0] if len(parts) == 1 else _joined(low, list(parts)) for parts in zip(*passes, strict=True)]
    return [_stacked(low, steps, time), *(_stacked(low, list(parts), 0) for parts in zip(*last, strict=True))]


_NAMES = ("w_ih", "w_hh", "b_ih", "b_hh")


def _run(
    low: Lowering, kind: str, steps: list[Any], state: list[Any], weights: Arguments
) -> tuple[list[Any], list[Any]]:
    """(h after each step, the state at the end) of one pass."""
    found = []
    for step in steps:
        hidden: Any = state if kind == "lstm" else state[0]
        result = _CELLS[kind](low, {"input": step, "hx": hidden, **weights})
        state = list(result) if kind == "lstm" else [result]
        found.append(state[0])
    return found, state


def _at(low: Lowering, x: Dynamic, dim: int, index: int) -> Dynamic:
    return low.emit("select", [x], lambda t: t.select(dim, index), dim=dim, index=index)


def _joined(low: Lowering, parts: list[Any]) -> Dynamic:
    dim = rank_of(parts[0]) - 1
    return low.emit("cat", parts, lambda *ts: torch.cat(ts, dim), dim=dim)


def _stacked(low: Lowering, parts: list[Any], dim: int) -> Dynamic:
    shape = parts[0].shape
    rows = [reshaped(low, part, (*shape[:dim], 1, *shape[dim:]), []) for part in parts]
    return low.emit("cat", rows, lambda *ts: torch.cat(ts, dim), dim=dim)

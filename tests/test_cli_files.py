"""The file of a state and its inputs: what is written is read, and what is wrong is named."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from deqops import InputError, ModelFileError
from deqops._tensorfile import read_tensors, write_tensors
from deqops.cli._output import at_most

ONE = torch.ones(2, 3)


def same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        keys = set(first) == set(second) if isinstance(second, dict) else False
        return keys and all(same(first[key], second[key]) for key in first)
    return type(first) is type(second) and len(first) == len(second) and all(map(same, first, second))


LEAVES = st.sampled_from([torch.zeros(0, 2), ONE, ONE.double(), ONE.bfloat16(), torch.arange(3), torch.tensor(True)])
KEYS = st.text("abz_", min_size=1, max_size=3)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(tuple) | st.dictionaries(KEYS, inner, min_size=1),
    max_leaves=5,
)


@settings(max_examples=25)
@given(state=TREES, inputs=st.lists(TREES, max_size=11).map(tuple))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, state: Any, inputs: tuple[Any, ...]) -> None:
    file = tmp_path_factory.mktemp("tensors") / "in.safetensors"
    write_tensors(file, state, inputs)
    read = read_tensors(file)
    assert same(read.state, state)
    assert same(read.inputs, inputs)


@given(st.floats(min_value=1e-30, max_value=1e30), st.integers(1, 9))
def test_a_printed_bound_is_still_a_bound(bound: float, digits: int) -> None:
    printed = Fraction(at_most(bound, digits).removeprefix("at most "))
    assert Fraction(bound) <= printed <= Fraction(bound) * (1 + Fraction(10) ** (1 - digits))


def test_a_rate_just_below_one_is_not_printed_smaller() -> None:
    assert at_most(1 - 2**-53, 9) == "at most 1.00000000"
    assert at_most(float("inf"), 3) == "at most Infinity"


def test_a_view_is_stored_by_its_values(tmp_path: Path) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    write_tensors(tmp_path / "t", base.T, (base, base[:1]))
    read = read_tensors(tmp_path / "t")
    assert same(read.state, base.T.contiguous())
    assert same(read.inputs, (base, base[:1]))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"input_0": ONE}, "no key 'state'"),
        ({"state": ONE, "input_1": ONE}, "'input_0' is missing"),
        ({"state": ONE, "inputs": ONE}, "unknown key 'inputs'"),
        ({"state": ONE, "input_00": ONE}, "unknown key"),
        ({"state.": ONE}, "unknown key"),
        ({"state": ONE, "state.a": ONE}, "both a tensor and a tree"),
        ({"state": ONE / 0}, "NaN or infinity"),
        ({"state": ONE, "input_0": ONE * torch.nan}, "input_0 holds NaN"),
        ({"state": torch.zeros(1, dtype=torch.complex64)}, "complex64"),
        ({}, "no key 'state'"),
    ],
)
def test_wrong_contents_are_named(tmp_path: Path, tensors: dict[str, torch.Tensor], message: str) -> None:
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, tmp_path / "t")
    with pytest.raises(InputError, match=message) as caught:
        read_tensors(tmp_path / "t")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 7, 40, -1])
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, keep: int) -> None:
    write_tensors(tmp_path / "t", ONE)
    (tmp_path / "t").write_bytes((tmp_path / "t").read_bytes()[:keep])
    with pytest.raises(ModelFileError, match="cut short") as caught:
        read_tensors(tmp_path / "t")
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "none")
    with pytest.raises(ModelFileError, match="not a plain file"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("state", [{"a.b": ONE}, {1: ONE}, "text", ONE.to(torch.complex64)])
def test_what_cannot_be_stored_is_refused_and_leaves_no_file(tmp_path: Path, state: Any) -> None:
    with pytest.raises(InputError, match="state"):
        write_tensors(tmp_path / "t", state)
    assert not list(tmp_path.iterdir())

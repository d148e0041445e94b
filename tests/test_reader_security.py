"""A model file from a stranger runs no code, and is read or refused by name."""

from __future__ import annotations

import io
import json
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deqops import DeqopsError, InputError, ModelFileError, UnsupportedOperationError, export, load

Entries = dict[str, bytes]


class Model(nn.Module):
    """A tiny operator with a constant."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 3)
        self.register_buffer("shift", torch.ones(3))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(self.linear(z) + x) * 0.5 + self.shift


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Entries:
    """The entries of a valid file, without the top folder."""
    path = tmp_path_factory.mktemp("model") / "m.pt2"
    export(path, Model(), torch.zeros(2, 3), torch.zeros(2, 3))
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write(path: Path, entries: Entries, top: str = "m") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(f"{top}/{name}", content)
    return path


class Payload:
    """Unpickled, this creates a file."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return (exec, (f"open({str(self._canary)!r}, 'w').close()",))


def with_model(entries: Entries, change: Callable[[dict[str, Any]], None]) -> Entries:
    document = json.loads(entries["models/model.json"])
    change(document)
    return entries | {"models/model.json": json.dumps(document).encode()}


def works(path: Path) -> None:
    z, x = torch.randn(2, 3), torch.randn(2, 3)
    torch.testing.assert_close(load(path)(z, x), Model()(z, x))


def test_a_payload_in_the_sample_inputs_is_not_even_read(valid: Entries, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    sample = next(name for name in valid if "sample_inputs" in name)
    hostile = write(tmp_path / "m.pt2", valid | {sample: pickle.dumps(Payload(canary))})
    works(hostile)
    assert not canary.exists()


@pytest.mark.parametrize("where", ["sym_int_values", "tensor_values", "range_constraints"])
def test_a_payload_in_a_size_expression_does_not_run(valid: Entries, tmp_path: Path, where: str) -> None:
    canary = tmp_path / "canary"
    code = f"__import__('os').system('touch {canary}')"
    expression = {"as_expr": {"expr_str": code, "hint": {"as_int": 3}}}

    def change(document: dict[str, Any]) -> None:
        graph = document["graph_module"]["graph"]
        if where == "sym_int_values":
            graph["sym_int_values"]["s0"] = expression
        elif where == "tensor_values":
            for meta in graph["tensor_values"].values():
                meta["sizes"] = [expression]
        else:
            document["range_constraints"][code] = {"min_val": 0, "max_val": 9}

    path = write(tmp_path / "m.pt2", with_model(valid, change))
    if where == "tensor_values":
        with pytest.raises(InputError, match="state: got shape"):
            works(path)
    else:
        works(path)
    assert not canary.exists()


def test_a_payload_as_an_argument_is_refused(valid: Entries, tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    def change(document: dict[str, Any]) -> None:
        node = document["graph_module"]["graph"]["nodes"][0]
        code = f"__import__('os').system('touch {canary}')"
        node["inputs"][0]["arg"] = {"as_sym_int": {"as_expr": {"expr_str": code, "hint": None}}}

    with pytest.raises(DeqopsError):
        load(write(tmp_path / "m.pt2", with_model(valid, change)))
    assert not canary.exists()


def test_a_payload_in_guard_code_does_not_run(valid: Entries, tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    def change(document: dict[str, Any]) -> None:
        document["guards_code"] = [f"__import__('os').system('touch {canary}')"]

    works(write(tmp_path / "m.pt2", with_model(valid, change)))
    assert not canary.exists()


@pytest.mark.parametrize("folder", ["weights", "constants"])
def test_a_pickled_tensor_is_refused_unread(valid: Entries, tmp_path: Path, folder: str) -> None:
    canary = tmp_path / "canary"
    config = f"data/{folder}/model_{folder}_config.json"
    document = json.loads(valid[config])
    document["config"]["evil"] = {"path_name": "evil", "is_param": False, "use_pickle": True, "tensor_meta": {}}
    entries = valid | {config: json.dumps(document).encode(), f"data/{folder}/evil": pickle.dumps(Payload(canary))}
    with pytest.raises(ModelFileError, match="pickled"):
        load(write(tmp_path / "m.pt2", entries))
    assert not canary.exists()


@pytest.mark.parametrize(
    "target", ["torch.ops.evil.run.default", "os.system", "torch.ops.aten.evil.default", "builtins.eval"]
)
def test_unknown_operations_are_refused_by_name(valid: Entries, tmp_path: Path, target: str) -> None:
    def change(document: dict[str, Any]) -> None:
        document["graph_module"]["graph"]["nodes"][0]["target"] = target

    path = write(tmp_path / "m.pt2", with_model(valid, change))
    with pytest.raises(UnsupportedOperationError, match=r"evil|system|eval"):
        load(path)(torch.zeros(2, 3), torch.zeros(2, 3))


def meta_changes() -> dict[str, dict[str, Any]]:
    return {
        "sizes": {"sizes": [{"as_int": 9}, {"as_int": 9}]},
        "huge": {"sizes": [{"as_int": 2**40}, {"as_int": 2**40}]},
        "negative stride": {"strides": [{"as_int": -3}, {"as_int": 1}]},
        "stride": {"strides": [{"as_int": 10**6}, {"as_int": 1}]},
        "offset": {"storage_offset": {"as_int": 10**6}},
        "negative offset": {"storage_offset": {"as_int": -1}},
        "dtype": {"dtype": 99},
        "layout": {"layout": 1},
        "rank": {"strides": []},
    }


@pytest.mark.parametrize("change", sorted(meta_changes()))
def test_tensors_beyond_their_bytes_are_refused(valid: Entries, tmp_path: Path, change: str) -> None:
    name = "data/weights/model_weights_config.json"
    document = json.loads(valid[name])
    document["config"]["linear.weight"]["tensor_meta"] |= meta_changes()[change]
    with pytest.raises(ModelFileError):
        load(write(tmp_path / "m.pt2", valid | {name: json.dumps(document).encode()}))


def test_damaged_and_foreign_files_are_refused_in_one_line(valid: Entries, tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.pt2", valid).read_bytes()
    contents = {
        "empty": b"",
        "text": b"hello",
        "cut": whole[: len(whole) // 2],
        "random": random.Random(0).randbytes(4000),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelFileError) as caught:
            load(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.pt2")


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "a\\evil"])
def test_names_that_point_outside_are_refused(valid: Entries, tmp_path: Path, name: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for entry, content in valid.items():
            archive.writestr(f"m/{entry}", content)
        archive.writestr(name if name.startswith("/") else f"m/{name}", b"x")
    (tmp_path / "m.pt2").write_bytes(buffer.getvalue())
    with pytest.raises(ModelFileError):
        load(tmp_path / "m.pt2")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_doubled_entries_and_bombs_are_refused(valid: Entries, tmp_path: Path) -> None:
    with zipfile.ZipFile(write(tmp_path / "twice.pt2", valid), "a") as archive:
        archive.writestr("m/models/model.json", b"{}")
    with pytest.raises(ModelFileError, match="twice"):
        load(tmp_path / "twice.pt2")
    with zipfile.ZipFile(tmp_path / "bomb.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/models/model.json", b" " * 2**25)
    with pytest.raises(ModelFileError, match="tightly"):
        load(tmp_path / "bomb.pt2")


@pytest.mark.parametrize("order", [b"big", b"middle"])
def test_other_byte_orders_are_refused(valid: Entries, tmp_path: Path, order: bytes) -> None:
    with pytest.raises(ModelFileError, match="endian"):
        load(write(tmp_path / "m.pt2", valid | {"byteorder": order}))


def mutated(value: Any, rng: random.Random) -> Any:
    """The JSON value with one random part replaced."""
    replacements: list[Any] = [None, -1, 2**70, "x", [], {}, True, 1.5, {"as_int": -7}, {"as_name": "nobody"}]
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        return value | {key: mutated(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        place = rng.randrange(len(value))
        return [*value[:place], mutated(value[place], rng), *value[place + 1 :]]
    return rng.choice(replacements)


def test_mutated_files_give_only_errors_of_deqops(valid: Entries, tmp_path: Path) -> None:
    rng = random.Random(1)
    whole = write(tmp_path / "whole.pt2", valid).read_bytes()
    path, names = tmp_path / "m.pt2", [name for name in valid if name.endswith(".json")]
    refused = 0
    for round_ in range(300):
        if round_ % 3:
            name = rng.choice(names)
            document = mutated(json.loads(valid[name]), rng)
            write(path, valid | {name: json.dumps(document).encode()})
        else:
            spoilt = bytearray(whole)
            for _ in range(rng.randint(1, 20)):
                spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
            path.write_bytes(bytes(spoilt[: rng.randint(1, len(spoilt))] if rng.random() < 0.3 else spoilt))
        try:
            load(path)(torch.zeros(2, 3), torch.zeros(2, 3))
        except DeqopsError:
            refused += 1
    assert refused > 50

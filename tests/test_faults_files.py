"""Every file that a command reads: empty, cut, swapped, foreign, huge, hostile. One line, its exit code, no hang."""

from __future__ import annotations

import io
import itertools
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_cases import Layer, arguments, write_model

from deqops._tensorfile import write_tensors
from deqops.cli import main
from deqops.verify import certify

ROLES = ("model", "inputs", "certificate")


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, its inputs and its certificate."""
    folder = tmp_path_factory.mktemp("valid")
    state, x = arguments()
    write_model(folder / "model", Layer(0.5))
    write_tensors(folder / "inputs", state, (x,))
    certify(Layer(0.5), state, x).save(folder / "certificate")
    return folder


@pytest.fixture
def files(valid: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(valid, tmp_path / "files"))


def commands(files: Path) -> dict[str, Callable[[], int]]:
    """Each command that reads files, and whether it reads a certificate."""
    given = ["--inputs", str(files / "inputs")]
    model, certificate = str(files / "model"), str(files / "certificate")
    return {
        "certify": lambda: main(["certify", model, *given]),
        "solve": lambda: main(["solve", model, *given, "-o", str(files / "out")]),
        "check": lambda: main(["check", certificate, "--model", model, *given]),
        "solve with a certificate": lambda: main(
            ["solve", model, *given, "--certificate", certificate, "-o", str(files / "out")]
        ),
    }


def run_all(files: Path, role: str, capsys: Any, code: int = 65) -> None:
    """Each command that reads the role's file ends with the code and one line, and writes nothing."""
    for name, command in commands(files).items():
        if role == "certificate" and name in ("certify", "solve"):
            continue
        assert command() == code, name
        *stages, last = capsys.readouterr().err.splitlines()
        assert last.startswith("deqops: "), name
        assert all(line.endswith(" ...") and not line.startswith("deqops: ") for line in stages), (name, stages)
        assert len(last) < 500
        assert not (files / "out").exists()


def test_the_files_are_good(files: Path) -> None:
    for name, command in commands(files).items():
        assert command() == 0, name
        (files / "out").unlink(missing_ok=True)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_cut_files(files: Path, capsys: Any, role: str, share: float) -> None:
    content = (files / role).read_bytes()
    (files / role).write_bytes(content[: int(share * len(content))])
    run_all(files, role, capsys)


@pytest.mark.parametrize(("role", "other"), list(itertools.permutations(ROLES, 2)))
def test_swapped_files(files: Path, capsys: Any, role: str, other: str) -> None:
    shutil.copyfile(files / other, files / role)
    run_all(files, role, capsys)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.target,)


def zip_of(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


FOREIGN = {
    "png": b"\x89PNG\r\n\x1a\n" + bytes(64),
    "text": "Grüße\n".encode("latin-1"),
    "zip": zip_of("readme.txt", b"hello"),
    "json": b'{"format": "something else"}',
    "number": b"1" + b"0" * 300,
    "many digits": b'{"schema": ' + b"1" * 10_000 + b"}",
    "deep": b"[" * 200_000 + b"]" * 200_000,
    "bomb": zip_of("model/models/model.json", bytes(40 * 2**20)),
    "header beyond the file": struct.pack("<Q", 2**62) + b"{}",
    "null": b"null",
    "nan": b"NaN",
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_and_huge_files(files: Path, capsys: Any, role: str, kind: str) -> None:
    (files / role).write_bytes(FOREIGN[kind])
    run_all(files, role, capsys)


@pytest.mark.parametrize("role", ROLES)
def test_a_pickle_is_not_unpickled(files: Path, capsys: Any, role: str) -> None:
    target = files / "made"
    content = pickle.dumps(Payload(str(target)))
    (files / role).write_bytes(content)
    run_all(files, role, capsys)
    assert not target.exists()
    pickle.loads(content)
    assert target.exists()  # the payload is real


def test_a_header_that_claims_huge_tensors(files: Path, capsys: Any) -> None:
    header = json.dumps({"state": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    (files / "inputs").write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    run_all(files, "inputs", capsys)


@pytest.mark.parametrize("role", ROLES)
def test_a_pipe_is_66_and_does_not_hang(files: Path, capsys: Any, role: str) -> None:
    (files / role).unlink()
    os.mkfifo(files / role)
    run_all(files, role, capsys, code=66)


@pytest.mark.parametrize("role", ROLES)
def test_an_endless_device_is_66(files: Path, capsys: Any, role: str) -> None:
    (files / role).unlink()
    (files / role).symlink_to("/dev/zero")
    run_all(files, role, capsys, code=66)


@pytest.mark.parametrize("role", ROLES)
def test_a_folder_is_66(files: Path, capsys: Any, role: str) -> None:
    (files / role).unlink()
    (files / role).mkdir()
    run_all(files, role, capsys, code=66)


@pytest.mark.parametrize("role", ROLES)
def test_a_link_to_nowhere_is_66(files: Path, capsys: Any, role: str) -> None:
    (files / role).unlink()
    (files / role).symlink_to(files / "nowhere")
    run_all(files, role, capsys, code=66)


def rewritten(files: Path, **changes: Any) -> None:
    """The certificate with changes and a digest that fits them."""
    from deqops.verify._document import digest

    document = json.loads((files / "certificate").read_text()) | changes
    document["digest"] = digest(document)
    (files / "certificate").write_text(json.dumps(document))


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a" * 64 + ".safetensors", "\x00", "x" * 10_000])
def test_a_witness_that_points_elsewhere_is_not_read(files: Path, capsys: Any, name: str) -> None:
    entry = {"shape": [1], "dtype": "float64", "sha256": "0" * 64, "file": name}
    rewritten(files, witnesses={"first": entry})
    assert commands(files)["solve with a certificate"]() == 65
    assert "witness" in capsys.readouterr().err
    assert commands(files)["check"]() in (1, 65)


def test_a_witness_pipe_does_not_hang(files: Path) -> None:
    name = "b" * 64 + ".safetensors"
    os.mkfifo(files / name)
    rewritten(files, witnesses={"first": {"shape": [1], "dtype": "float64", "sha256": "0" * 64, "file": name}})
    assert commands(files)["solve with a certificate"]() == 65
    assert commands(files)["check"]() in (1, 65)


def test_names_from_files_cannot_forge_a_second_line(files: Path, capsys: Any) -> None:
    header = json.dumps({"state\nforged: line": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (files / "inputs").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    run_all(files, "inputs", capsys)


def test_unknown_options_and_commands_are_64_with_a_hint(capsys: Any) -> None:
    for given, hint in (
        (["certify", "m", "--input", "x"], "--inputs"),
        (["chek"], "check"),
        (["report"], "DIR"),
        (["report", "a", "b"], "b"),
        (["train", "pign", "--sett", "a=1"], "--set"),
        (["info", "--jsonn"], "--json"),
    ):
        assert main(given) == 64, given
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        assert hint in error


def test_a_closed_output_ends_quietly(files: Path) -> None:
    """`deqops info | head -0`: no traceback."""
    process = subprocess.Popen([sys.executable, "-m", "deqops", "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(120) in (0, 74)
    assert "Traceback" not in errors

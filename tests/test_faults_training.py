"""Training under faults: Ctrl-C, kill, a full disk, a read-only folder, two runs in one folder."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from deqops.cli import main
from deqops.models._checkpoint import read_checkpoint

SMALL = ["--set", "neighbours=4", "--set", "channels=4"]


def train(runs: Path, epochs: int, *more: str) -> list[str]:
    settings = [*SMALL, "--set", f"epochs={epochs}"]
    return ["train", "pign", "--runs", str(runs), "--name", "r", *settings, *more]


def started(arguments: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "deqops", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed."""
    runs = tmp_path_factory.mktemp("whole")
    assert main(train(runs, 40)) == 0
    return runs / "r"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(read_checkpoint(folder / "checkpoint.pt")["model"])


def assert_same(first: Path, second: Path) -> None:
    a, b = weights(first), weights(second)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert json.loads((first / "metrics.json").read_text()) == json.loads((second / "metrics.json").read_text())


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def readable(folder: Path) -> None:
    """Each file that is there is whole."""
    for file in folder.iterdir():
        if file.suffix == ".part":
            continue
        if file.suffix == ".json":
            json.loads(file.read_text())
        elif file.name == "checkpoint.pt":
            read_checkpoint(file)


def test_ctrl_c_is_130_and_the_next_run_resumes(whole: Path, tmp_path: Path) -> None:
    process = started(train(tmp_path, 40))
    wait_for(tmp_path / "r" / "checkpoint.pt", process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    if process.returncode != 0:  # it may have finished first
        assert process.returncode == 130, errors
        assert errors.splitlines()[-1].startswith("deqops: interrupted")
        assert "Traceback" not in errors
        assert not list((tmp_path / "r").glob("*.part"))
    readable(tmp_path / "r")
    assert main(train(tmp_path, 40)) == 0
    assert_same(whole, tmp_path / "r")


def test_a_killed_run_leaves_whole_files_and_resumes(whole: Path, tmp_path: Path) -> None:
    for delay in (0.0, 0.1, 0.3):
        process = started(train(tmp_path, 40))
        wait_for(tmp_path / "r" / "run.json", process)
        time.sleep(delay)
        process.kill()
        process.communicate(timeout=60)
        readable(tmp_path / "r")
    (tmp_path / "r" / ".checkpoint.pt.left.part").write_bytes(b"half")  # as a kill in the middle of a write leaves it
    assert main(train(tmp_path, 40)) == 0
    assert not list((tmp_path / "r").glob(".*.part"))
    assert_same(whole, tmp_path / "r")


def test_a_run_killed_before_it_had_a_label_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / ".run.json.abc.part").write_text("{")
    assert main(train(tmp_path, 2)) == 0
    assert not list((tmp_path / "r").glob(".*.part"))


def test_files_of_something_else_are_not_cleaned_up(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / ".mine.part").write_text("precious")
    assert main(train(tmp_path, 2)) == 73
    assert (tmp_path / "r" / ".mine.part").read_text() == "precious"
    assert "holds files of something else" in capsys.readouterr().err


def test_two_runs_in_one_folder_at_the_same_time_are_73(tmp_path: Path, capsys: Any) -> None:
    process = started(train(tmp_path, 4000))
    try:
        wait_for(tmp_path / "r" / "checkpoint.pt", process)
        assert main(train(tmp_path, 4000)) == 73
        assert "in use by another run" in capsys.readouterr().err.splitlines()[-1]
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate(timeout=60)
    assert main(train(tmp_path, 3, "--seed", "1")) == 73  # the lock went with the process; the label stays
    assert "differs in" in capsys.readouterr().err


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes writes of one file fail with an error number, from the one after so many."""
    original = Path.write_bytes

    def arm(part: str, number: int, after: int = 0) -> None:
        written = 0

        def write(path: Path, content: bytes) -> int:
            nonlocal written
            written += part in path.name
            if written > after and part in path.name:
                original(path, content[: len(content) // 2])
                raise OSError(number, os.strerror(number), str(path))
            return original(path, content)

        monkeypatch.setattr(Path, "write_bytes", write)

    yield arm
    monkeypatch.undo()


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 74), (errno.EIO, 74), (errno.EDQUOT, 74)])
def test_a_full_disk_in_training_is_74_and_keeps_the_last_checkpoint(
    whole: Path, tmp_path: Path, failing: Any, capsys: Any, number: int, code: int
) -> None:
    for file, after in (("checkpoint.pt", 0), ("checkpoint.pt", 3), ("model.pt2", 0), ("metrics.json", 0)):
        failing(file, number, after)
        assert main(train(tmp_path, 40)) == code
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("deqops: cannot write")
        assert file in line
        assert os.strerror(number) in line
        assert not list((tmp_path / "r").glob(".*.part"))
        readable(tmp_path / "r")
        assert (tmp_path / "r" / file).exists() == (after > 0)
    failing("no such file", number)
    assert main(train(tmp_path, 40)) == 0
    assert_same(whole, tmp_path / "r")


def test_a_limit_on_file_sizes_is_74_with_nothing_half_written(tmp_path: Path) -> None:
    """The kernel's own refusal, no imitation: files may not exceed 2 KiB."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048));"
        "from deqops.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, *train(tmp_path, 6)], capture_output=True, text=True, timeout=300, check=False
    )
    assert found.returncode == 74, found.stderr
    assert found.stderr.splitlines()[-1].startswith("deqops: cannot write")
    assert "Traceback" not in found.stderr
    assert {entry.name for entry in (tmp_path / "r").iterdir()} == {"run.json"}


def test_a_folder_where_nothing_can_be_made_is_73(capsys: Any) -> None:
    """/proc is read-only for everyone, the superuser too."""
    assert main(["train", "pign", "--runs", "/proc/deqops", *SMALL]) == 73
    assert "choose another --runs" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_read_only_run_folder_is_73_or_74(tmp_path: Path, failing: Any, capsys: Any, number: int) -> None:
    failing("run.json", number)
    assert main(train(tmp_path, 2)) in (73, 74)
    line = capsys.readouterr().err.splitlines()[-1]
    assert "run.json" in line
    assert os.strerror(number) in line


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b'{"format": 3}', b"\xff"])
def test_a_label_that_is_damaged_is_73(tmp_path: Path, capsys: Any, content: bytes) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "run.json").write_bytes(content)
    assert main(train(tmp_path, 2)) == 73
    assert "something else" in capsys.readouterr().err.splitlines()[-1]


def test_a_label_that_is_a_pipe_does_not_hang(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    os.mkfifo(tmp_path / "r" / "run.json")
    assert main(train(tmp_path, 2)) == 73


def test_a_checkpoint_that_is_a_pipe_does_not_hang(tmp_path: Path, capsys: Any) -> None:
    assert main(train(tmp_path, 2)) == 0
    (tmp_path / "r" / "checkpoint.pt").unlink()
    os.mkfifo(tmp_path / "r" / "checkpoint.pt")
    assert main(train(tmp_path, 2)) == 73
    assert "not a plain file" in capsys.readouterr().err

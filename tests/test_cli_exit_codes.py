"""Every ending of a command: its exit code, and one line that says what to do."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_cases import (
    Layer,
    Narrowing,
    Sorting,
    Splitting,
    arguments,
    edit_certificate,
    write_inputs,
    write_model,
)
from safetensors.torch import save_file

import deqops_command
from deqops._atomic import write_atomically
from deqops._tensorfile import read_tensors
from deqops.cli import main
from deqops.cli._progress import stage
from deqops.models import RECIPES
from deqops.verify import Certificate, Verdict

Output = Any


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """good.pt2 (contractive), steep.pt2 (expansive), sort.pt2 (no rule), in.safetensors, good.json."""
    folder = tmp_path_factory.mktemp("files")
    write_model(folder / "good.pt2", Layer(0.5))
    write_model(folder / "steep.pt2", Layer(3.0))
    write_model(folder / "sort.pt2", Sorting())
    write_inputs(folder / "in.safetensors")
    assert certify(folder / "good.pt2", folder / "in.safetensors", "-o", str(folder / "good.json")) == 0
    return folder


def certify(model: Path, inputs: Path, *more: str) -> int:
    return main(["certify", str(model), "--inputs", str(inputs), *more])


def check(certificate: Path, model: Path, inputs: Path, *more: str) -> int:
    return main(["check", str(certificate), "--model", str(model), "--inputs", str(inputs), *more])


def solve(model: Path, inputs: Path, output: Path, *more: str) -> int:
    return main(["solve", str(model), "--inputs", str(inputs), "-o", str(output), *more])


def complaint(captured: Output) -> str:
    """The one line on stderr, progress apart; nothing that looks like a traceback."""
    lines = [line for line in captured.readouterr().err.splitlines() if not line.endswith(" ...")]
    assert len(lines) == 1, lines
    assert lines[0].startswith("deqops: ")
    return lines[0]


# -------------------------------------------------------------------------------------------- verdicts


def test_certified_is_0(files: Path, tmp_path: Path, capsys: Output) -> None:
    assert certify(files / "good.pt2", files / "in.safetensors", "-o", str(tmp_path / "c.json")) == 0
    printed = capsys.readouterr().out
    assert "Verdict: certified" in printed
    assert f"wrote {tmp_path / 'c.json'}" in printed
    assert Certificate.load(tmp_path / "c.json").verdict is Verdict.CERTIFIED


def test_refuted_is_1(files: Path, tmp_path: Path) -> None:
    options = ["--theorem", "picard", "--norm", "l2", "-o", str(tmp_path / "c.json")]
    assert certify(files / "steep.pt2", files / "in.safetensors", *options) == 1
    assert Certificate.load(tmp_path / "c.json").verdict is Verdict.REFUTED
    assert check(tmp_path / "c.json", files / "steep.pt2", files / "in.safetensors") == 0


def test_unknown_is_2_and_names_the_operation(files: Path, tmp_path: Path, capsys: Output) -> None:
    assert certify(files / "sort.pt2", files / "in.safetensors", "-o", str(tmp_path / "c.json")) == 2
    assert "sort" in capsys.readouterr().out
    assert check(tmp_path / "c.json", files / "sort.pt2", files / "in.safetensors") == 2


def test_a_box_is_centred_at_the_state_in_the_inputs_file(files: Path, tmp_path: Path) -> None:
    output, certificate = tmp_path / "out.safetensors", tmp_path / "c.json"
    assert solve(files / "good.pt2", files / "in.safetensors", output) == 0
    assert certify(files / "good.pt2", output, "--region", "box:0.25", "-o", str(certificate)) == 0
    (low,), (high,) = Certificate.load(certificate).region.ends  # type: ignore[union-attr]
    assert torch.equal(high, read_tensors(output).state.double() + 0.25)
    assert torch.equal(low, read_tensors(output).state.double() - 0.25)
    assert check(certificate, files / "good.pt2", output) == 0


def test_a_ball_of_its_own_choice_and_a_budget(files: Path, tmp_path: Path, capsys: Output) -> None:
    certificate = tmp_path / "c.json"
    options = ("--region", "around", "--budget", "60", "-o", str(certificate))
    assert certify(files / "good.pt2", files / "in.safetensors", *options) == 0
    assert "Ball: radius" in capsys.readouterr().out
    assert check(certificate, files / "good.pt2", files / "in.safetensors") == 0
    assert certify(files / "good.pt2", files / "in.safetensors", "--budget", "-1") != 0


def test_a_ball_is_centred_at_the_state_in_the_inputs_file(files: Path, tmp_path: Path) -> None:
    output, certificate = tmp_path / "out.safetensors", tmp_path / "c.json"
    assert solve(files / "good.pt2", files / "in.safetensors", output) == 0
    assert certify(files / "good.pt2", output, "--region", "ball:0.25", "-o", str(certificate)) == 0
    loaded = Certificate.load(certificate)
    assert loaded.theorem == "local_picard"
    assert loaded.region.radius == 0.25  # type: ignore[union-attr]
    assert torch.equal(loaded.region.leaves[0], read_tensors(output).state.double())  # type: ignore[union-attr]
    assert check(certificate, files / "good.pt2", output) == 0


def test_solved_is_0_with_a_proven_distance(files: Path, tmp_path: Path, capsys: Output) -> None:
    output = tmp_path / "out.safetensors"
    options = ["--certificate", str(files / "good.json"), "--error", "1e-4", "--json"]
    assert solve(files / "good.pt2", files / "in.safetensors", output, *options) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["converged"] is True
    assert 0 < max(document["error_bound"]["l2"]) <= 1e-4
    state, x = read_tensors(output).state, arguments()[1]
    truth = torch.zeros(2, 3, dtype=torch.float64)
    for _ in range(100):
        truth = torch.tanh(0.5 * truth + x.double())
    assert float((state.double() - truth).norm(dim=1).max()) <= 1e-4


def test_not_converged_is_1_and_writes_nothing(files: Path, tmp_path: Path, capsys: Output) -> None:
    output = tmp_path / "out.safetensors"
    assert solve(files / "good.pt2", files / "in.safetensors", output, "--max-evaluations", "2") == 1
    assert "MAX_EVALUATIONS" in capsys.readouterr().out
    assert not output.exists()


@pytest.mark.parametrize("rate", ["0x1.0p-2", "0x0.0p+0", "0x1.0p+0"])
def test_an_edited_rate_is_rejected(files: Path, capsys: Output, rate: str) -> None:
    edited = edit_certificate(files / "good.json", rate=rate)
    assert check(edited, files / "good.pt2", files / "in.safetensors") == 1
    assert "rejected" in capsys.readouterr().out


def test_another_model_is_rejected(files: Path) -> None:
    assert check(files / "good.json", files / "steep.pt2", files / "in.safetensors") == 1


# ----------------------------------------------------------------------------------------------- usage


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["certfy"], "certify"),
        (["certify", "m.pt2", "--input", "x"], "--inputs"),
        (["certify", "m.pt2"], "--inputs"),
        (["certify", "m.pt2", "--inputs", "x", "--norm", "l3"], "l2"),
        (["certify", "m.pt2", "--inputs", "x", "--region", "ball:-1"], "ball:0.1"),
        (["certify", "m.pt2", "--inputs", "x", "--region", "box"], "global"),
        (["certify", "m.pt2", "--inputs", "x", "--region", "box:inf"], "box:0.1"),
        (["solve", "m.pt2", "--inputs", "x", "-o", "y", "--error", "1e-6"], "--certificate"),
        (["solve", "m.pt2", "--inputs", "x", "-o", "y", "--tolerance", "small"], "--tolerance"),
        (["solve", "m.pt2", "--inputs", "x", "-o", "y", "--tolerance", "nan"], "--tolerance"),
        (["solve", "m.pt2", "--inputs", "x", "-o", "y", "--tolerance", "-1"], "--tolerance"),
        (["solve", "m.pt2", "--inputs", "x", "-o", "y", "--damping", "0"], "--damping"),
        (["solve", "m.pt2", "--inputs", "x", "-o", "y", "--damping", "inf"], "--damping"),
        (["solve", "m.pt2", "--inputs", "x", "-o", "y", "--damping", "1e39"], "--damping"),
        (["solve", "m.pt2", "--inputs", "x", "-o", "y", "--certificate", "c", "--error", "nan"], "--error"),
        (["certify", "m.pt2", "--inputs", "x", "--budget", "-1"], "--budget"),
        (["certify", "m.pt2", "--inputs", "x", "--damping", "0"], "--damping"),
        (["prove", "c", "--model", "m.pt2", "--seconds", "nan"], "--seconds"),
        (["train", "pign", "--set", "epochs=0"], "--set"),
        (["train", "pign", "--set", "epochs=0"], "epochs: got 0"),
        (["train", "pign", "--set", "labels_per_class=0"], "--set"),
        (["train", "pign", "--set", "validation=-1"], "--set"),
        (["demo", "--set", "smoothing=2"], "--set"),
        (["train", "pigm"], "pign"),
        (["train", "pign", "--dataset", "cora"], "digits"),
        (["train", "pign", "--set", "epoch=3"], "'epochs'"),
        (["train", "pign", "--set", "epochs=few"], "whole number"),
        (["train", "pign", "--set", "epochs"], "KEY=VALUE"),
        (["demo", "--name", "../up"], "--name"),
        (["demo", "--seed", "-1"], "--seed"),
        (["train", "pign", "--seed", "1000000000001"], "--seed"),
        *((["train", model, "--set", "learning_rate=inf"], "learning_rate") for model in RECIPES),
        ([], "--help"),
    ],
)
def test_usage_errors_are_64(arguments: list[str], hint: str, capsys: Output) -> None:
    assert main(arguments) == 64
    assert hint in complaint(capsys)


def test_help_and_version_are_0(capsys: Output) -> None:
    for given in (["--help"], ["--version"], ["demo", "--help"], ["certify", "-h"]):
        assert main(given) == 0
    assert "Exit codes" in capsys.readouterr().out


def test_a_certificate_brings_its_batch_dims(files: Path, tmp_path: Path, capsys: Output) -> None:
    """The model file says 1, the certificate 0: the bounds are those of the one problem that it speaks of."""
    model, inputs, one = files / "good.pt2", files / "in.safetensors", tmp_path / "one.json"
    assert certify(model, inputs, "-o", str(one), "--batch-dims", "0") == 0
    assert Certificate.load(one).batch_dims == 0
    assert check(one, model, inputs) == 0
    assert check(one, model, inputs, "--batch-dims", "1") == 1
    assert main(["prove", str(one), "--model", str(model), "--tier", "exact", "--batch-dims", "1"]) == 1
    capsys.readouterr()
    assert solve(model, inputs, tmp_path / "o", "--certificate", str(one), "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["error_bound"]["l2"]) == 1
    assert solve(model, inputs, tmp_path / "o", "--certificate", str(one), "--batch-dims", "1") == 65
    assert "batch_dims" in complaint(capsys)


# -------------------------------------------------------------------------------------------- bad data


@pytest.mark.parametrize("name", ["none", 300 * "x"], ids=["none", "long"])
@pytest.mark.parametrize("role", ["model", "inputs", "certificate"])
def test_a_missing_file_is_66(files: Path, tmp_path: Path, capsys: Output, role: str, name: str) -> None:
    paths = {
        "model": files / "good.pt2",
        "inputs": files / "in.safetensors",
        "certificate": files / "good.json",
    }
    paths[role] = tmp_path / name
    assert check(paths["certificate"], paths["model"], paths["inputs"]) == 66
    assert str(tmp_path / name) in complaint(capsys)


@pytest.mark.parametrize("keep", [0, 100, -30])
def test_a_truncated_model_is_65(files: Path, tmp_path: Path, capsys: Output, keep: int) -> None:
    (tmp_path / "m.pt2").write_bytes((files / "good.pt2").read_bytes()[:keep])
    assert certify(tmp_path / "m.pt2", files / "in.safetensors") == 65
    complaint(capsys)


def test_a_text_is_no_model_no_inputs_and_no_certificate(files: Path, tmp_path: Path, capsys: Output) -> None:
    text = tmp_path / "text"
    text.write_text("not what you think\n")
    good, inputs = files / "good.pt2", files / "in.safetensors"
    for run in (
        lambda: certify(text, inputs),
        lambda: certify(good, text),
        lambda: check(text, good, inputs),
        lambda: solve(good, inputs, tmp_path / "o", "--certificate", str(text)),
    ):
        assert run() == 65
        assert str(text) in complaint(capsys)


@pytest.mark.parametrize("command", [certify, solve])
def test_nan_in_weights_is_65(files: Path, tmp_path: Path, capsys: Output, command: Any) -> None:
    model = write_model(tmp_path / "m.pt2", Layer(float("nan")))
    output = tmp_path / "out"
    code = command(model, files / "in.safetensors", *([output] if command is solve else []))
    assert code == (65 if command is certify else 1)
    assert not output.exists()
    if command is certify:
        assert "NaN" in complaint(capsys)
    else:
        assert "NONFINITE" in capsys.readouterr().out


def test_nan_in_inputs_is_65(files: Path, tmp_path: Path, capsys: Output) -> None:
    state, x = arguments()
    save_file({"state": state, "input_0": x * torch.nan}, tmp_path / "in")
    assert certify(files / "good.pt2", tmp_path / "in") == 65
    assert "input_0 holds NaN" in complaint(capsys)
    assert solve(files / "good.pt2", tmp_path / "in", tmp_path / "out") == 65
    assert "input_0 holds NaN" in complaint(capsys)


@pytest.mark.parametrize("state", [torch.zeros(2, 4), torch.zeros(3), torch.zeros(2, 3, dtype=torch.int64)])
@pytest.mark.parametrize("command", [certify, solve])
def test_a_state_that_does_not_fit_is_65(
    files: Path, tmp_path: Path, capsys: Output, command: Any, state: torch.Tensor
) -> None:
    inputs = write_inputs(tmp_path / "in", state=state)
    more = [tmp_path / "out"] if command is solve else []
    assert command(files / "good.pt2", inputs, *more) == 65
    complaint(capsys)


def test_a_dtype_that_does_not_fit_is_65(files: Path, tmp_path: Path, capsys: Output) -> None:
    state, x = arguments()
    inputs = write_inputs(tmp_path / "in", state=state.double(), x=x.double())
    assert solve(files / "good.pt2", inputs, tmp_path / "out") == 65
    assert "convert it" in complaint(capsys)


def test_an_input_too_many_is_65(files: Path, tmp_path: Path, capsys: Output) -> None:
    state, x = arguments()
    save_file({"state": state, "input_0": x, "input_1": x.clone()}, tmp_path / "in")
    assert certify(files / "good.pt2", tmp_path / "in") == 65
    assert "inputs" in complaint(capsys)


@pytest.mark.parametrize("module", [Narrowing(), Splitting()])
def test_an_operator_that_changes_the_state_is_65(files: Path, tmp_path: Path, capsys: Output, module: Any) -> None:
    model = write_model(tmp_path / "m.pt2", module)
    assert certify(model, files / "in.safetensors") == 65
    assert "state" in complaint(capsys)
    assert solve(model, files / "in.safetensors", tmp_path / "out") == 65
    assert "state" in complaint(capsys)


# --------------------------------------------------------------------------------------------- writing


def test_an_output_that_cannot_be_made_is_73(files: Path, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "file").write_text("")
    inside = tmp_path / "file" / "out"
    assert certify(files / "good.pt2", files / "in.safetensors", "-o", str(inside)) == 73
    complaint(capsys)
    assert solve(files / "good.pt2", files / "in.safetensors", inside) == 73
    complaint(capsys)
    assert solve(files / "good.pt2", files / "in.safetensors", tmp_path) == 73
    complaint(capsys)
    assert main(["train", "pign", "--runs", str(tmp_path / "file")]) == 73
    complaint(capsys)


def test_an_output_that_cannot_be_made_is_told_before_the_work(
    files: Path, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deqops.solve", None)
    monkeypatch.setattr("deqops.verify.certify", None)
    missing = tmp_path / "none" / "out"
    assert solve(files / "good.pt2", files / "in.safetensors", missing) == 73
    assert f"{tmp_path / 'none'} is not a folder" in complaint(capsys)
    assert certify(files / "good.pt2", files / "in.safetensors", "-o", str(missing)) == 73
    assert f"{tmp_path / 'none'} is not a folder" in complaint(capsys)


def test_a_wrong_name_is_told_before_the_data_are_loaded(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deqops.models._pign_recipe.digits_graph", None)
    for name in ("../up", ""):
        assert main(["train", "pign", "--name", name]) == 64
        assert "--name" in complaint(capsys)


@pytest.mark.parametrize("kind", ["device", "pipe", "socket", "link to a device", "endless link"])
def test_what_is_no_plain_file_is_never_replaced(
    files: Path, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    place = tmp_path / "out"
    if kind == "device":
        place = Path(os.devnull)
        if os.access(place.parent, os.W_OK):  # root would lose it if this failed
            place = tmp_path / "null"
            try:
                os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 3))
            except PermissionError:
                pytest.skip("no device can be made here")
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "socket":
        monkeypatch.chdir(tmp_path)  # its path may have 107 bytes
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(place.name)
    else:
        place.symlink_to("/dev/null" if kind == "link to a device" else place)
    before = place.lstat()
    assert solve(files / "good.pt2", files / "in.safetensors", place) == 73
    assert str(place) in complaint(capsys)
    assert certify(files / "good.pt2", files / "in.safetensors", "-o", str(place)) == 73
    with pytest.raises(FileExistsError):
        write_atomically(place, b"content")
    assert (place.lstat().st_ino, place.lstat().st_mode) == (before.st_ino, before.st_mode)


def test_a_link_stays_and_its_file_is_written(files: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/out")
    for _ in ("a new file", "an old one"):
        assert solve(files / "good.pt2", files / "in.safetensors", tmp_path / "link") == 0
        assert (tmp_path / "link").is_symlink()
        assert read_tensors(tmp_path / "folder" / "out").state.shape == (2, 3)


def test_an_input_is_never_overwritten(files: Path, tmp_path: Path, capsys: Output) -> None:
    folder = Path(shutil.copytree(files, tmp_path / "run"))
    (folder / "link").symlink_to("good.pt2")
    shutil.copyfile(folder / "good.pt2", folder / "model.pt2")
    shutil.copyfile(folder / "in.safetensors", folder / "inputs.safetensors")
    model, inputs, certificate = folder / "good.pt2", folder / "in.safetensors", folder / "good.json"
    content = {path: path.read_bytes() for path in folder.iterdir()}
    for output in (model, folder / "." / "good.pt2", folder / "link", inputs, certificate):
        runs = [
            ["solve", model, "--inputs", inputs, "-o", output, "--certificate", certificate],
            ["prove", certificate, "--model", model, "--inputs", inputs, "-o", output],
        ]
        if output != certificate:
            runs.append(["certify", model, "--inputs", inputs, "-o", output])
        for run in runs:
            assert main([str(word) for word in run]) == 64
            told = complaint(capsys)
            assert str(output) in told
            assert any(str(given) in told for given in (model, inputs, certificate))
    assert main(["report", str(folder), "--no-check", "-o", str(folder / "model.pt2")]) == 64
    assert {path: path.read_bytes() for path in folder.iterdir()} == content


def test_a_full_disk_is_74(files: Path, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deqops.cli._solve.write_tensors", full)
    assert solve(files / "good.pt2", files / "in.safetensors", tmp_path / "out") == 74
    assert "No space" in complaint(capsys)


def test_a_missing_package_is_69(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Output) -> None:
    def missing(**_: Any) -> None:
        raise ModuleNotFoundError("No module named 'sklearn'")

    monkeypatch.setattr("deqops.models._pign_recipe.digits_graph", missing)
    assert main(["train", "pign", "--runs", str(tmp_path)]) == 69
    assert "sklearn" in complaint(capsys)


@pytest.mark.parametrize(
    ("started", "module"),
    [
        ("import deqops_command; sys.exit(deqops_command.main())", "torch"),
        ("import deqops_command; sys.exit(deqops_command.main())", "deqops.cli._main"),
        ("import runpy; runpy.run_module('deqops', run_name='__main__')", "deqops.models"),
    ],
)
def test_an_interrupt_of_the_imports_is_130(started: str, module: str) -> None:
    """Where the module is looked for, Ctrl-C is pressed."""
    program = (
        "import sys\n"
        "class Pressed:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}: raise KeyboardInterrupt\n"
        f"sys.meta_path.insert(0, Pressed()); sys.argv = ['deqops', 'info']; {started}\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "deqops: interrupted before anything was done\n"


def test_the_console_command_is_the_command_line(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"deqops": "deqops_command:main"}
    assert "deqops_command" in project["tool"]["setuptools"]["py-modules"]
    monkeypatch.setattr(sys, "argv", ["deqops", "--version"])
    assert deqops_command.main() == 0
    assert capsys.readouterr().out.startswith("deqops ")


# ------------------------------------------------------------------------------------------------ info


def test_info_says_versions(capsys: Output) -> None:
    assert main(["info"]) == 0
    assert torch.__version__ in capsys.readouterr().out
    assert main(["info", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["versions"]["torch"] == torch.__version__
    assert document["devices"][0] == "cpu"


def test_json_is_one_object_on_stdout(files: Path, capsys: Output) -> None:
    assert certify(files / "good.pt2", files / "in.safetensors", "--json") == 0
    certified = json.loads(capsys.readouterr().out)
    assert (certified["verdict"], certified["theorem"]) == ("certified", "picard")
    assert 0.5 <= certified["rate"] < 0.5 + 1e-6
    assert check(files / "good.json", files / "good.pt2", files / "in.safetensors", "--json") == 0
    assert json.loads(capsys.readouterr().out)["accepted"] is True


def test_on_a_terminal_a_bar_is_drawn_and_removed(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TTY_INTERACTIVE", "1")
    with stage("counting") as advance:
        advance(1, 2, "one of two")
    drawn = capsys.readouterr()
    assert "counting" in drawn.err
    assert "one of two" in drawn.err
    assert drawn.out == ""

"""The main job from the command line: train, solve, certify, check; resume; reject what was tampered with."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_cases import edit_certificate

import deqops
import deqops.verify
from deqops._tensorfile import TensorFile, read_tensors, write_tensors
from deqops.cli import main
from deqops.models import DIGITS, PIGN, TrainedPIGN, digits_graph, train_pign

FAST = ["--set", "epochs=6", "--set", "channels=4", "--set", "neighbours=4"]
FILES = {
    "model.pt2",
    "inputs.safetensors",
    "state.safetensors",
    "certificate.json",
    "metrics.json",
    "run.json",
    "checkpoint.pt",
    "report.html",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished demo."""
    root = tmp_path_factory.mktemp("demo")
    assert main(["demo", "--runs", str(root), *FAST]) == 0
    return root / "pign"


def check(run: Path, *, certificate: Path | None = None, model: Path | None = None, inputs: Path | None = None) -> int:
    chosen = [
        certificate or run / "certificate.json",
        model or run / "model.pt2",
        inputs or run / "inputs.safetensors",
    ]
    return main(["check", str(chosen[0]), "--model", str(chosen[1]), "--inputs", str(chosen[2])])


def trained_again() -> TrainedPIGN:
    """What the demo trained, without the command line."""
    return train_pign(digits_graph(neighbours=4), replace(DIGITS, epochs=6, channels=4))


def export_again(path: Path, model: PIGN, given: TensorFile) -> Path:
    deqops.export(path, model.operator, given.state, *given.inputs, batch_dims=0)
    return path


# ----------------------------------------------------------------------------------------------- the demo


def test_the_demo_leaves_its_files_and_nothing_else(run: Path) -> None:
    assert {entry.name for entry in run.iterdir()} == FILES
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["verdict"] == "certified"
    assert metrics["verified"] is True
    assert 0.5 < metrics["rate"] < 0.91
    assert 0 < metrics["proven_error"]["l2"] < 0.1
    assert set(metrics["accuracy"]) == set(metrics["accuracy_without_iteration"])


def test_the_proven_error_contains_the_true_one(run: Path) -> None:
    given, solved = read_tensors(run / "inputs.safetensors"), read_tensors(run / "state.safetensors")
    operator = trained_again().model.operator.double()
    x, edges = given.inputs
    truth = solved.state.double()
    with torch.no_grad():
        for _ in range(300):
            truth = operator(truth, x.double(), edges)
    error = float((truth - solved.state.double()).norm())
    bound = json.loads((run / "metrics.json").read_text())["proven_error"]["l2"]
    assert error <= bound
    assert bound <= 100 * error  # at rate 0.9 a residual exceeds its error's tenth


def test_the_certificate_is_accepted_again(run: Path) -> None:
    assert check(run) == 0


# ----------------------------------------------------------------------------------------------- rejections


def test_the_same_model_exported_again_is_accepted(run: Path, tmp_path: Path) -> None:
    given = read_tensors(run / "inputs.safetensors")
    assert check(run, model=export_again(tmp_path / "m.pt2", trained_again().model, given)) == 0


def test_a_changed_weight_is_rejected(run: Path, tmp_path: Path, capsys: Any) -> None:
    model = trained_again().model
    with torch.no_grad():
        weight = model.operator.f.output.weight  # type: ignore[union-attr]
        weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(1.0))
    assert check(run, model=export_again(tmp_path / "m.pt2", model, read_tensors(run / "inputs.safetensors"))) == 1
    assert "rejected" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["rate", "bound"])
def test_a_lowered_rate_is_rejected(run: Path, part: str) -> None:
    document = json.loads((run / "certificate.json").read_text())
    lowered = (float.fromhex(document["rate"]) * (1 - 2**-10)).hex()
    changes = {"rate": lowered}
    if part == "bound":
        changes["evidence"] = {**document["evidence"], "bound": lowered}
    edited = edit_certificate(run / "certificate.json", **changes)
    try:
        assert check(run, certificate=edited) == 1
    finally:
        edited.unlink()


def test_another_graph_is_rejected_and_other_features_are_not(run: Path, tmp_path: Path) -> None:
    given = read_tensors(run / "inputs.safetensors")
    x, edges = given.inputs
    other = edges.clone()
    other[0, 0] = (other[0, 0] + 1) % len(x)
    write_tensors(tmp_path / "graph", given.state, (x, other))
    assert check(run, inputs=tmp_path / "graph") == 1
    write_tensors(tmp_path / "features", given.state, (x / 2, edges))  # free: the claim holds for all features
    assert check(run, inputs=tmp_path / "features") == 0


def test_an_edited_witness_is_rejected(run: Path, tmp_path: Path) -> None:
    model, centred, certificate = run / "model.pt2", run / "state.safetensors", tmp_path / "c.json"
    options = ["--inputs", str(centred), "--region", "ball:1", "-o", str(certificate)]
    assert main(["certify", str(model), *options]) == 0
    assert check(run, certificate=certificate, inputs=centred) == 0
    document = json.loads(certificate.read_text())
    (name, witness), *_ = sorted(document["witnesses"].items())
    moved = read_tensors(centred).state.double()
    moved[0, 0] += 0.5
    raw = moved.numpy().tobytes()
    header = json.dumps(["float64", list(moved.shape)], separators=(",", ":")).encode("ascii") + b"\n"
    forged = {
        "data": base64.b64encode(raw).decode("ascii"),
        "sha256": hashlib.sha256(header + raw).hexdigest(),
    }
    edited = edit_certificate(certificate, witnesses={**document["witnesses"], name: {**witness, **forged}})
    assert check(run, certificate=edited, inputs=centred) == 1


# ------------------------------------------------------------------ folders and interruptions


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Ctrl-C arrives within the eighth training step."""
    from deqops.models import _fit

    advance, steps = _fit._Fit._advance, []

    def stop(training: Any) -> None:
        steps.append(1)
        if len(steps) == 8:
            raise KeyboardInterrupt
        advance(training)

    with monkeypatch.context() as patch:
        patch.setattr(_fit._Fit, "_advance", stop)
        yield patch


def test_ctrl_c_is_130_leaves_nothing_half_written_and_resumes(
    tmp_path: Path, interrupted: pytest.MonkeyPatch, capsys: Any
) -> None:
    settings = ["--set", "epochs=9", "--set", "channels=4", "--set", "neighbours=4"]
    command = ["train", "pign", "--runs", str(tmp_path), "--name", "r", *settings]
    assert main(command) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("deqops: interrupted")
    assert {entry.name for entry in (tmp_path / "r").iterdir()} == {"run.json", "checkpoint.pt"}
    interrupted.undo()
    assert main([*command, "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["epochs"] == 9
    straight = train_pign(digits_graph(neighbours=4), replace(DIGITS, epochs=9, channels=4))
    assert metrics["loss"] == straight.loss[-1]
    assert {entry.name for entry in (tmp_path / "r").iterdir()} == FILES - {
        "certificate.json",
        "state.safetensors",
        "report.html",
    }


def test_a_folder_of_another_run_is_left_alone(run: Path, capsys: Any) -> None:
    before = {entry.name: entry.read_bytes() for entry in run.iterdir()}
    assert main(["demo", "--runs", str(run.parent), "--seed", "1", *FAST]) == 73
    assert "differs in seed" in capsys.readouterr().err
    assert {entry.name: entry.read_bytes() for entry in run.iterdir()} == before


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "pign").mkdir()
    (tmp_path / "pign" / "notes.txt").write_text("mine")
    assert main(["demo", "--runs", str(tmp_path), *FAST]) == 73
    assert "something else" in capsys.readouterr().err
    assert [entry.name for entry in (tmp_path / "pign").iterdir()] == ["notes.txt"]


def test_a_damaged_checkpoint_is_65(run: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "pign").mkdir()
    (tmp_path / "pign" / "run.json").write_bytes((run / "run.json").read_bytes())
    (tmp_path / "pign" / "checkpoint.pt").write_bytes((run / "checkpoint.pt").read_bytes()[:-100])
    assert main(["demo", "--runs", str(tmp_path), *FAST]) == 65
    assert "remove it" in capsys.readouterr().err


def test_an_unknown_verdict_is_2_and_bounds_no_error(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_damped = functools.partial(deqops.verify.certify, theorem="damped", norm="l2")  # needs ||W|| < 1
    monkeypatch.setattr("deqops.verify.certify", only_damped)
    settings = [
        "--set",
        "epochs=1",
        "--set",
        "channels=2",
        "--set",
        "neighbours=4",
        "--set",
        "limit=1.01",
        "--set",
        "operator=convolution",
    ]
    assert main(["demo", "--runs", str(tmp_path), *settings, "--json"]) == 2
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["verdict"] == "unknown"
    assert metrics["reason"]
    assert metrics["proven_error"] is None
    assert metrics["verified"] is False


def test_training_on_cora_is_certified_with_missing_features(tmp_path: Path, capsys: Any) -> None:
    shared = Path(__file__).resolve().parents[2] / "shared" / "planetoid"
    if not shared.is_dir():
        pytest.skip("the citation graphs are not beside the checkout")
    settings = ["--set", "epochs=5", "--set", "missing=0.5"]
    command = ["train", "pign", "--dataset", "Cora", "--root", str(shared), "--runs", str(tmp_path), *settings]
    assert main([*command, "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert len(metrics["by_iteration"]) == 61
    folder = Path(metrics["folder"])
    assert folder.name == "pign-Cora-0"
    files = [str(folder / "model.pt2"), "--inputs", str(folder / "inputs.safetensors")]
    assert main(["certify", *files, "-o", str(folder / "certificate.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rate"] < 0.9501
    assert main(["check", str(folder / "certificate.json"), "--model", *files, "--json"]) == 0


@pytest.mark.parametrize(
    "command",
    [
        "pign --dataset Cora",
        "diffusion --dataset fashion",
        "integral --dataset burgers",
        "autoregressive --dataset text",
    ],
)
def test_missing_data_are_66(command: str, tmp_path: Path, capsys: Any) -> None:
    assert main(["train", *command.split(), "--root", str(tmp_path / "none"), "--runs", str(tmp_path / "runs")]) == 66
    assert str(tmp_path / "none") in capsys.readouterr().err.splitlines()[-1]


def test_a_data_folder_without_the_data_is_66_and_makes_no_run(tmp_path: Path, capsys: Any) -> None:
    command = ["train", "pign", "--dataset", "Cora", "--root", str(tmp_path / "none"), "--runs", str(tmp_path / "runs")]
    assert main(command) == 66
    assert "Cora/raw" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


def test_settings_of_another_data_set_are_unknown(tmp_path: Path, capsys: Any) -> None:
    command = ["train", "pign", "--dataset", "Cora", "--runs", str(tmp_path), "--set", "neighbours=4"]
    assert main(command) == 64
    assert "unknown setting 'neighbours'" in capsys.readouterr().err

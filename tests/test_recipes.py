"""Every architecture of `deqops train`: a tiny training from the command line is exported, certified and resumable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deqops.cli import main
from deqops.models import RECIPES

TINY: dict[str, list[str]] = {
    "autoregressive": [
        "part=0.05",
        "epochs=1",
        "steps=2",
        "width=8",
        "heads=2",
        "characters=6",
        "prompt=4",
        "longest=10",
    ],
    "transformer": ["trajectories=5", "pairs=2", "side=8", "epochs=1", "width=8", "heads=2"],
    "diffusion": ["training=200", "epochs=1", "updates=2", "width=8", "blocks=1", "steps=6"],
    "integral": ["count=20", "panels=2", "channels=2", "hidden=4", "epochs=2", "batch=10"],
    "pign": ["neighbours=4", "channels=4", "epochs=2"],
    "monotone": ["training=100", "width=8", "epochs=2"],
    "implicit_graph": ["neighbours=4", "channels=4", "hidden=8", "epochs=2"],
    "image_deq": ["training=100", "channels=2", "epochs=2"],
    "recycling": [
        "residues=8",
        "short=2",
        "tests=2",
        "epochs=1",
        "steps=2",
        "batch=2",
        "single=1",
        "pair=1",
        "hidden=2",
    ],
}
"""Settings of a training that takes a second or two, by architecture."""


def train(name: str, runs: Path, *more: str) -> int:
    settings = [part for setting in TINY[name] for part in ("--set", setting)]
    return main(["train", name, "--runs", str(runs), "--name", "r", *settings, *more])


def test_every_recipe_is_tested() -> None:
    assert set(TINY) == set(RECIPES)


@pytest.fixture(scope="module", params=sorted(TINY))
def trained(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    runs = tmp_path_factory.mktemp(request.param)
    assert train(request.param, runs) == 0
    return request.param, runs


def test_a_trained_model_gets_a_verdict(trained: tuple[str, Path], capsys: Any) -> None:
    folder = trained[1] / "r"
    out = folder / "certificate.json"
    given = ["--inputs", str(folder / "inputs.safetensors"), "--budget", "5", "-o", str(out)]
    code = main(["certify", str(folder / "model.pt2"), *given])
    assert code in (0, 1, 2)
    assert out.exists()


def test_metrics_are_plain_numbers_against_iterations(trained: tuple[str, Path]) -> None:
    metrics = json.loads((trained[1] / "r" / "metrics.json").read_text())
    rows = metrics["by_iteration"]
    assert [row["iteration"] for row in rows] == sorted({row["iteration"] for row in rows})
    assert len(rows) >= 2
    assert all(isinstance(value, int | float) for row in rows for value in row.values())
    assert metrics["loss"] == metrics["loss"]


def test_the_same_command_again_ends_the_same(trained: tuple[str, Path], capsys: Any) -> None:
    name, runs = trained
    before = json.loads((runs / "r" / "metrics.json").read_text())
    assert train(name, runs) == 0
    assert json.loads((runs / "r" / "metrics.json").read_text()) == before


def test_another_data_set_is_refused_by_name(trained: tuple[str, Path], tmp_path: Path, capsys: Any) -> None:
    assert train(trained[0], tmp_path, "--dataset", "nosuch") == 64
    assert "nosuch" in capsys.readouterr().err

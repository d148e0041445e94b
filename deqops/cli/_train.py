"""`deqops train`: train a model of `deqops.models`; run it again to resume."""

from __future__ import annotations

from pathlib import Path

import click

from ._exit import DONE
from ._output import emit, json_option
from ._settings import parse_settings, set_option
from ._training import DATASETS, MODELS, TrainingRun, export_run, root_option, seed_option


@click.command("train")
@click.argument("model", type=click.Choice(MODELS))
@click.option("--dataset", type=click.Choice(DATASETS), default="digits", show_default=True)
@root_option
@click.option("--name", help="The run's folder within --root. Default: MODEL-DATASET-SEED.")
@seed_option
@set_option
@json_option
def train_command(
    model: str,
    dataset: str,
    root: Path,
    name: str | None,
    seed: int,
    assignments: tuple[str, ...],
    as_json: bool,
) -> int:
    """Train MODEL and export its operator.

    An interrupted run resumes where its last checkpoint is when the same command is given again.
    """
    run = TrainingRun(model, dataset, seed, *parse_settings(assignments))
    folder = run.folder(root, name or f"{model}-{dataset}-{seed}")
    data = run.load()
    trained = run.train(data, folder)
    export_run(trained, data, folder)
    metrics = {"accuracy": trained.accuracy, "loss": trained.loss[-1], "epochs": len(trained.loss)}
    folder.write_json(folder.metrics, metrics)
    lines = [
        f"test accuracy {trained.accuracy['test']:.1%} after {len(trained.loss)} epochs",
        f"wrote {folder.path}: {folder.model.name}, {folder.inputs.name}, {folder.metrics.name}",
        f"next: deqops certify {folder.model} --inputs {folder.inputs} -o {folder.certificate}",
    ]
    emit(as_json, {**metrics, "folder": str(folder.path)}, lines)
    return DONE

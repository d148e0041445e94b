"""`deqops train`: train a model of `deqops.models`; run it again to resume."""

from __future__ import annotations

from pathlib import Path

import click

from ._exit import DONE
from ._output import emit, json_option
from ._settings import DATASETS, parse_settings, set_option
from ._training import MODELS, TrainingRun, export_run, runs_option, seed_option, training_metrics


@click.command("train")
@click.argument("model", type=click.Choice(MODELS))
@click.option("--dataset", type=click.Choice(list(DATASETS)), default="digits", show_default=True)
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    default=Path("data"),
    show_default=True,
    help="The folder with the data set's files (Cora/raw, CiteSeer/raw); only read. digits needs none.",
)
@runs_option
@click.option("--name", help="The run's folder within --runs. Default: MODEL-DATASET-SEED.")
@seed_option
@set_option
@json_option
def train_command(
    model: str,
    dataset: str,
    root: Path,
    runs: Path,
    name: str | None,
    seed: int,
    assignments: tuple[str, ...],
    as_json: bool,
) -> int:
    """Train MODEL and export its operator.

    An interrupted run resumes where its last checkpoint is when the same command is given again.
    """
    run = TrainingRun(model, dataset, seed, *parse_settings(dataset, assignments))
    data = run.load(root)
    with run.folder(runs, name or f"{model}-{dataset}-{seed}") as folder:
        trained = run.train(data, folder)
        export_run(trained, data, folder)
        metrics = training_metrics(trained, data)
        folder.write_json(folder.metrics, metrics)
    lines = [
        f"test accuracy {trained.accuracy['test']:.1%} after {len(trained.loss)} epochs",
        f"wrote {folder.path}: {folder.model.name}, {folder.inputs.name}, {folder.metrics.name}",
        f"next: deqops certify {folder.model} --inputs {folder.inputs} -o {folder.certificate}",
    ]
    emit(as_json, {**metrics, "folder": str(folder.path)}, lines)
    return DONE

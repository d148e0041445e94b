"""`deqops train`: train a model of `deqops.models`; run it again to resume."""

from __future__ import annotations

from pathlib import Path

import click

from deqops.models import RECIPES

from ._exit import DONE
from ._output import emit, json_option
from ._run_folder import check_name
from ._settings import chosen_dataset, parse_settings, set_option
from ._training import MODELS, TrainingRun, runs_option, seed_option


@click.command("train")
@click.argument("model", type=click.Choice(MODELS))
@click.option("--dataset", help="Default: the model's first one, which ships with a dependency or is generated.")
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    default=Path("data"),
    show_default=True,
    help="The folder with the data set's files (Cora/raw, ...); only read. Default data sets need none.",
)
@runs_option
@click.option("--name", help="The run's folder within --runs. Default: MODEL-DATASET-SEED.")
@seed_option
@set_option
@json_option
def train_command(
    model: str,
    dataset: str | None,
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
    recipe = RECIPES[model]
    chosen = chosen_dataset(recipe, dataset)
    run = TrainingRun(model, chosen, seed, *parse_settings(recipe, chosen, assignments))
    name = f"{model}-{chosen}-{seed}" if name is None else name
    check_name(name)
    data = run.load(root)
    with run.folder(runs, name) as folder:
        trained = run.train(data, folder)
        run.export(trained, data, folder)
        metrics = run.metrics(trained, data)
        folder.write_json(folder.metrics, metrics)
    lines = [
        f"{recipe.headline(metrics)} after {len(trained.loss)} epochs",
        f"wrote {folder.path}: {folder.model.name}, {folder.inputs.name}, {folder.metrics.name}",
        f"next: deqops certify {folder.model} --inputs {folder.inputs} -o {folder.certificate}",
    ]
    emit(as_json, {**metrics, "folder": str(folder.path)}, lines)
    return DONE

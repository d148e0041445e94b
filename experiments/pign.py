"""PIGN on Cora and CiteSeer with missing features: `make experiments-pign`.

Trains every variant on every seed, certifies each trained operator, and writes the table and the plots of
`docs/experiments/pign.md`. Each trained cell is one JSON file below --out; run again, finished cells are kept
and an interrupted one resumes from its checkpoint.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

DATASETS = ("Cora", "CiteSeer")
MISSING = (0.0, 0.5, 0.9)
ITERATIONS = 60


@dataclass(frozen=True)
class Cell:
    """One training."""

    dataset: str
    missing: float
    variant: str
    seed: int

    @property
    def name(self) -> str:
        """Its file's stem."""
        return f"{self.dataset}-{self.missing:g}-{self.variant.replace(' ', '_')}-{self.seed}"


def variants() -> dict[str, Any]:
    """Settings by name; all share Adam, 150 epochs, selection by validation accuracy."""
    from deqops.models import CITATION

    convolution = replace(CITATION, operator="convolution", channels=32, dropout=0.5, weight_decay=1e-3)
    return {
        "propagation": CITATION,
        "propagation unrolled": replace(CITATION, steps=30, smoothing=0.8),
        "convolution": convolution,
        "unconstrained": replace(convolution, limit=math.inf, steps=15, smoothing=0.5),
        "no iteration": replace(CITATION, steps=1),
        "GCN": replace(CITATION, weight_decay=5e-4, dropout=0.5),
    }


DESCRIPTIONS = {
    "propagation": "PIGN, Z = f(X) + 0.95 A Z, through the equilibrium",
    "propagation unrolled": "the same, 30 unrolled steps with smoothing factor 0.8",
    "convolution": "PIGN, Z = f(X) + tanh(A Z W^T + b), ‖W‖ ≤ 0.95, through the equilibrium",
    "unconstrained": "the same with free W, 15 unrolled steps with smoothing factor 0.5",
    "no iteration": "propagation applied once, trained so",
    "GCN": "two graph convolutions",
}


def train(cell: Cell, root: Path, out: Path) -> dict[str, Any]:
    """Train, certify and measure one cell; writes its JSON file."""
    import torch

    from deqops._atomic import write_atomically
    from deqops.models import by_iteration, planetoid_graph, train_gcn, train_pign

    torch.set_num_threads(1)
    settings = variants()[cell.variant]
    data = planetoid_graph(cell.dataset, root, missing=cell.missing, seed=cell.seed)
    checkpoint = out / f"{cell.name}.checkpoint"
    result: dict[str, Any] = {**asdict(cell), "settings": {k: str(v) for k, v in asdict(settings).items()}}
    if cell.variant == "GCN":
        trained: Any = train_gcn(data, settings, seed=cell.seed, checkpoint=checkpoint)
    else:
        trained = train_pign(data, settings, seed=cell.seed, checkpoint=checkpoint)
        result |= verdict(trained, data) | {"curve": by_iteration(trained.model, data, ITERATIONS)}
    result |= {"accuracy": trained.accuracy}
    write_atomically(out / f"{cell.name}.json", json.dumps(result, indent=1).encode())
    checkpoint.unlink()
    return result


def verdict(trained: Any, data: Any) -> dict[str, Any]:
    """What `certify` says of the trained operator and the iteration that it was trained for."""
    from deqops.verify import certify

    model, smoothing = trained.model, trained.settings.smoothing
    if math.isinf(trained.settings.limit):
        smoothing = 1.0  # is there a contraction at all? Damping cannot make a norm bound above 1 smaller than 1
    theorem: dict[str, Any] = {"theorem": "picard"} if smoothing == 1 else {"theorem": "damped", "damping": smoothing}
    start = model.initial_state(data.x, data.edge_index)
    certificate = certify(model.operator, start, data.x, data.edge_index, batch_dims=0, norm="l2", **theorem)
    return {
        "verdict": certificate.verdict.value,
        "claim": certificate.claim.describe(),
        "rate": certificate.rate,
        "reason": certificate.reason,
    }


def results(cells: Iterable[Cell], out: Path) -> dict[Cell, dict[str, Any]]:
    """What is already there."""
    found = {}
    for cell in cells:
        path = out / f"{cell.name}.json"
        if path.exists():
            found[cell] = json.loads(path.read_text(encoding="utf-8"))
    return found


def run(cells: list[Cell], root: Path, out: Path, workers: int) -> None:
    """Train the missing cells, `workers` at a time."""
    missing = [cell for cell in cells if cell not in results(cells, out)]
    say(f"{len(cells) - len(missing)} of {len(cells)} cells are there, {len(missing)} to train")
    with ProcessPoolExecutor(max_workers=workers) as pool:
        jobs = {pool.submit(train, cell, root, out): cell for cell in missing}
        try:
            for count, job in enumerate(as_completed(jobs), start=1):
                found = job.result()
                accuracy = found["accuracy"]["test"]
                say(f"[{count}/{len(missing)}] {jobs[job].name}: test {accuracy:.3f} {found.get('verdict', '')}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def mean_and_spread(values: list[float]) -> tuple[float, float]:
    """Mean and sample standard deviation."""
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else 0.0
    return mean, spread


def selected(found: dict[Cell, dict[str, Any]], variant: str, dataset: str, missing: float) -> list[dict[str, Any]]:
    """The results of all seeds of a variant."""
    key = (variant, dataset, missing)
    return [result for cell, result in found.items() if (cell.variant, cell.dataset, cell.missing) == key]


def table(found: dict[Cell, dict[str, Any]], dataset: str) -> list[str]:
    """Accuracy, verdicts and rates in Markdown."""
    lines = [
        f"### {dataset}",
        "",
        "| network | " + " | ".join(f"{share:.0%} missing" for share in MISSING) + " | verdicts | rate at most |",
        "|---|" + "---|" * (len(MISSING) + 2),
    ]
    for variant in variants():
        entries, verdicts, rates = [], [], []
        for share in MISSING:
            chosen = selected(found, variant, dataset, share)
            values = [result["accuracy"]["test"] for result in chosen]
            entries.append("{:.3f} ± {:.3f}".format(*mean_and_spread(values)) if values else "–")
            verdicts += [result["verdict"] for result in chosen if "verdict" in result]
            rates += [result["rate"] for result in chosen if result.get("rate") is not None]
        said = ", ".join(f"{verdicts.count(v)} {v}" for v in sorted(set(verdicts))) or "–"
        rate = f"{math.ceil(max(rates) * 1e7) / 1e7:.7f}" if rates else "–"
        lines.append(f"| {DESCRIPTIONS[variant]} | {' | '.join(entries)} | {said} | {rate} |")
    return [*lines, ""]


def plot(found: dict[Cell, dict[str, Any]], dataset: str, path: Path) -> None:
    """Test accuracy and residual against iterations: mean and range over the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "deqops"
    from matplotlib import pyplot

    shares = (MISSING[0], MISSING[-1])
    figure, axes = pyplot.subplots(2, len(shares), figsize=(9, 6), sharex=True, sharey="row", layout="constrained")
    for column, share in enumerate(shares):
        for number, variant in enumerate(v for v in variants() if v != "GCN"):
            for row, key in enumerate(("test", "residual")):
                curves = [
                    [point[key] for point in result["curve"]] for result in selected(found, variant, dataset, share)
                ]
                if not curves:
                    continue
                steps = range(len(curves[0]))
                columns = list(zip(*curves, strict=True))
                mean = [sum(values) / len(values) for values in columns]
                axes[row, column].plot(steps, mean, color=f"C{number}", label=variant)
                least, most = [min(v) for v in columns], [max(v) for v in columns]
                axes[row, column].fill_between(steps, least, most, color=f"C{number}", alpha=0.15, linewidth=0)
        axes[0, column].set_title(f"{dataset}, features of {share:.0%} of the nodes missing")
        axes[1, column].set_xlabel("iterations from Z = f(X)")
        axes[1, column].set_yscale("log")
    axes[0, 0].set_ylabel("test accuracy")
    axes[1, 0].set_ylabel("residual ‖G(Z) − Z‖ (l2)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize="small")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def write_page(found: dict[Cell, dict[str, Any]], seeds: int, page: Path) -> None:
    """The tables and plots between the page's marks; the words around them stay."""
    from deqops._atomic import write_atomically

    begin, end = "<!-- begin: made by experiments/pign.py -->", "<!-- end -->"
    text = page.read_text(encoding="utf-8")
    before, after = text.split(begin)[0], text.split(end)[1]
    lines = [begin, "", f"Test accuracy: mean ± standard deviation over {seeds} seeds.", ""]
    for dataset in DATASETS:
        picture = page.parent / f"pign-{dataset}.svg"
        plot(found, dataset, picture)
        lines += [
            *table(found, dataset),
            f"![accuracy and residual against iterations on {dataset}]({picture.name})",
            "",
        ]
    write_atomically(page, (before + "\n".join(lines) + end + after).encode("utf-8"))


def say(text: str) -> None:
    """Progress, on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main() -> int:
    """Run what is missing, then write table and plots."""
    here = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder with Cora/raw and CiteSeer/raw")
    parser.add_argument("--out", type=Path, default=Path("runs/experiments-pign"))
    parser.add_argument("--page", type=Path, default=here / "docs/experiments/pign.md")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    cells = [
        Cell(dataset, share, variant, seed)
        for dataset in DATASETS
        for seed in range(options.seeds)
        for variant in variants()
        for share in MISSING
    ]
    run(cells, options.root, options.out, options.workers)
    write_page(results(cells, options.out), options.seeds, options.page)
    say(f"wrote {options.page} and its plots; the cells are in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a certificate costs: `python -m experiments.certified_training --root <folder with Cora/raw>`.

Trains three models without a constraint, with penalties and with parametrisations, repairs the first, certifies and
checks all of them, and writes the tables and the plot of `docs/experiments/certified-training.md`. Each trained cell
is one JSON file below --out; run again, finished cells are kept. Without --root the graph is left out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.certified_page import write_page

RATES = (0.9, 0.99)
RATELESS = ("free", "unrolled", "jacobian")
"""Trainings that know of no rate."""


@dataclass(frozen=True)
class Cell:
    """One training, or one repair."""

    task: str
    kind: str
    rate: float | None
    seed: int

    @property
    def name(self) -> str:
        """Its files' stem."""
        rate = "" if self.rate is None else f"-{self.rate:g}"
        return f"{self.task}-{self.kind.replace(' ', '_')}{rate}-{self.seed}"


def cells_of(task: Any, rates: tuple[float, ...], seed: int) -> list[Cell]:
    """In an order in which what is repaired is trained before."""
    return [
        Cell(task.name, kind, rate, seed) for kind in task.kinds for rate in ((None,) if kind in RATELESS else rates)
    ]


def run_cell(cell: Cell, task: Any, out: Path) -> dict[str, Any]:
    """Train or repair, certify, check and measure one cell; writes its JSON file and, for a repair, its weights."""
    import torch

    from deqops._atomic import write_atomically

    torch.set_num_threads(1)
    torch.manual_seed(cell.seed)
    model, begin = task.model(task.free if cell.kind in AFTERWARDS else cell.kind, cell.rate), time.process_time()
    if cell.kind in AFTERWARDS:
        free = Cell(cell.task, task.free, None, cell.seed)
        model.load_state_dict(torch.load(weights_file(free, out), weights_only=True))
        task.to_equilibrium(model)
    work = AFTERWARDS.get(cell.kind, fitted)
    result: dict[str, Any] = {**asdict(cell), **work(cell, task, model), "seconds": time.process_time() - begin}
    result |= task.score(model.eval())._asdict() | verdict(cell, task, model)
    if cell.kind == task.free:
        torch.save(model.state_dict(), weights_file(cell, out))
    write_atomically(out / f"{cell.name}.json", json.dumps(result, indent=1).encode())
    return result


def fitted(cell: Cell, task: Any, model: Any, part: int = 1) -> dict[str, Any]:
    """Train, for a part of the epochs; a step whose backward solve fails is left out and counted."""
    from deqops import ConvergenceError

    optimiser, skipped, best = task.optimiser(model), 0, (-1.0, {})
    for epoch in range(max(1, task.epochs // part)):
        for loss in task.losses(model.train(), cell.kind, cell.rate):
            optimiser.zero_grad()
            try:
                loss.backward()
            except ConvergenceError:
                skipped += 1
                continue
            optimiser.step()
        value = task.validation(model, epoch)
        if value is not None and value > best[0]:
            best = (value, {name: tensor.clone() for name, tensor in model.state_dict().items()})
    if best[1]:
        model.load_state_dict(best[1])
    return {"skipped": skipped}


def repaired(cell: Cell, task: Any, model: Any) -> dict[str, Any]:
    """A network that was trained without a constraint, repaired."""
    from deqops.verify.contractive import repair

    found = repair(model.layer, *task.example(), rate=cell.rate, norm=task.norm(cell.kind))
    model.layer = found.module
    return {"change": found.relative_change}


def tuned(cell: Cell, task: Any, model: Any) -> dict[str, Any]:
    """The same network parametrised, which scales its weights down, and trained for a fifth of the epochs more."""
    task.hold(model, "bounded", cell.rate)
    return fitted(cell, task, model, part=5)


AFTERWARDS: dict[str, Any] = {"repair": repaired, "repair linf": repaired, "tuned": tuned}
"""What begins with the weights of the unconstrained training of its seed."""


def verdict(cell: Cell, task: Any, model: Any) -> dict[str, Any]:
    """What `certify` says of the weights, what the checker says of the certificate, and the constant of G."""
    from deqops.verify import certify, check, lipschitz_bound

    layer, inputs, norm = model.layer, task.example(), task.norm(cell.kind)
    certificate = certify(layer, *inputs, theorem="picard", norm=norm)
    start = layer.initial_state(*inputs)
    constant = lipschitz_bound(layer.operator, start, *inputs, norm=norm, batch_dims=layer.batch_dims).upper
    proven = certificate.rate is not None
    return {
        "verdict": certificate.verdict.value,
        "proven": certificate.rate,
        "constant": constant,
        "norm": norm,
        "accepted": check(certificate, layer, start, *inputs).accepted if proven else None,
    }


def weights_file(cell: Cell, out: Path) -> Path:
    """Where the weights are that a repair begins with."""
    return out / f"{cell.name}.weights"


def results(cells: Iterable[Cell], out: Path) -> dict[Cell, dict[str, Any]]:
    """What is already there."""
    paths = {cell: out / f"{cell.name}.json" for cell in cells}
    return {cell: json.loads(path.read_text(encoding="utf-8")) for cell, path in paths.items() if path.exists()}


def run(cells: list[Cell], tasks: dict[str, Any], out: Path) -> None:
    """The missing cells, one after the other: their times are compared."""
    missing = [cell for cell in cells if cell not in results(cells, out)]
    say(f"{len(cells) - len(missing)} of {len(cells)} cells are there, {len(missing)} to run")
    for count, cell in enumerate(missing, start=1):
        found = run_cell(cell, tasks[cell.task], out)
        said = f"{found['value']:.4g}, {found['verdict']} {found['proven'] or ''}, {found['seconds']:.0f} s"
        say(f"[{count}/{len(missing)}] {cell.name}: {said}")


def all_tasks(root: Path | None, smoke: bool) -> dict[str, Any]:
    """By name; a smoke run has one epoch, and 200 images."""
    from experiments.certified_tasks import Denoising, Images, Papers

    small = {"epochs": 1, "training": 200} if smoke else {}
    tasks: list[Any] = [Images(**small), Denoising(**small)]
    if root is not None:
        tasks.append(Papers(root, **({"epochs": 1} if smoke else {})))
    return {task.name: task for task in tasks}


def say(text: str) -> None:
    """Progress, on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing, then write tables and plot."""
    here = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, help="folder with Cora/raw")
    parser.add_argument("--out", type=Path, default=Path("runs/experiments-certified"))
    parser.add_argument("--page", type=Path, default=here / "docs/experiments/certified-training.md")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="one epoch, one seed, rate 0.9: does all of it run?")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    tasks = all_tasks(options.root, options.smoke)
    seeds, rates = (1, RATES[:1]) if options.smoke else (options.seeds, RATES)
    cells = [cell for seed in range(seeds) for task in tasks.values() for cell in cells_of(task, rates, seed)]
    run(cells, tasks, options.out)
    write_page(results(cells, options.out), tasks, seeds, options.page)
    say(f"wrote {options.page} and its plot; the cells are in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

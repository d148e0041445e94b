"""The paper's architectures measured: `python -m experiments.results --root <folder with planetoid, proteins, pde>`.

Trains every variant of every study on every seed, certifies and checks the trained operators, and writes the
sections and plots of `docs/results.md`. Each cell is one JSON file below --out; run again, finished cells are kept
and an interrupted one resumes from its checkpoint. `make experiments` runs it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from experiments._page import write_section
from experiments._study import Cell, Circumstances, Study, file_of, results
from experiments.autoregressive import Autoregressive
from experiments.classic import Classic
from experiments.diffusion import Diffusion
from experiments.graphs import Graphs
from experiments.integral import Integral
from experiments.recycling import Recycling
from experiments.transformer import Transformer

STUDIES: tuple[Study, ...] = (
    Autoregressive(),
    Transformer(),
    Diffusion(),
    Integral(),
    Classic(),
    Graphs(),
    Recycling(),
)


def run_cell(study: Study, cell: Cell, here: Circumstances, out: Path) -> None:
    """Measure one cell; writes its JSON file."""
    import torch

    from deqops._atomic import write_atomically

    torch.set_num_threads(1)
    begin = time.process_time()
    found = study.measure(cell.variant, cell.seed, here)
    document = {**cell._asdict(), **found, "cpu_seconds": time.process_time() - begin}
    write_atomically(file_of(cell, out), json.dumps(document, indent=1, allow_nan=False).encode())


def run(study: Study, seeds: int, here: Circumstances, out: Path) -> None:
    """The study's missing cells, one after the other."""
    cells = study.cells(seeds)
    missing = [cell for cell in cells if not file_of(cell, out).exists()]
    say(f"{study.name}: {len(cells) - len(missing)} of {len(cells)} cells are there, {len(missing)} to run")
    for count, cell in enumerate(missing, start=1):
        say(f"{study.name}: [{count}/{len(missing)}] {cell.variant}, seed {cell.seed} ...")
        run_cell(study, cell, here, out)


def say(text: str) -> None:
    """Progress, on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing, then write sections and plots."""
    here = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder with planetoid/, proteins/ and pde/")
    parser.add_argument("--out", type=Path, default=Path("runs/experiments"))
    parser.add_argument("--page", type=Path, default=here / "docs" / "results.md")
    parser.add_argument("--only", action="append", choices=[study.name for study in STUDIES], help="may be repeated")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="tiny trainings, one seed: does all of it run?")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    seeds = 1 if options.smoke else options.seeds
    for study in STUDIES:
        if options.only and study.name not in options.only:
            continue
        run(study, seeds, Circumstances(options.root, options.out, options.smoke), options.out)
        write_section(study, results(study.cells(seeds), options.out), options.page)
        say(f"{study.name}: wrote its section of {options.page}; the cells are in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a Lipschitz bound and a certificate of a residual network cost as it gets deeper: time and memory by parameters.

Blocks `z + W2 tanh(W1 z)`, width -> 4 width -> width, scaled so that the whole contracts. Each row is a process of its
own: the processor's seconds in `lipschitz_bound` and in `certify(theorem="picard", norm="l2")`, also as ratios to the
first row, those that passed meanwhile, and the peak of resident memory, with what torch and the model themselves take
in brackets. The first call of all exports an empty operator, so that loading `torch.export` is not counted.

    python benchmarks/cost.py [--width 256] [--blocks 3 6 12 24] [--threads 1] [--large]

`--large` adds 12 blocks of width 1024, 100 million parameters.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import torch
from torch import Tensor, nn

from deqops.verify import certify, lipschitz_bound

LARGE = (1024, 12)


class Block(nn.Module):
    """`z + W2 tanh(W1 z)`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        with torch.no_grad():
            self.inner.weight.mul_(0.5)
            self.outer.weight.mul_(0.5)

    def forward(self, z: Tensor) -> Tensor:
        result: Tensor = z + self.outer(torch.tanh(self.inner(z)))
        return result


class Residual(nn.Module):
    """Blocks one after the other, then a factor that makes them contract, plus the input."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.blocks, self.factor = nn.Sequential(*[Block(width) for _ in range(blocks)]), 0.9 / 4**blocks

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        result: Tensor = self.factor * self.blocks(z) + x
        return result


def peak() -> int:
    """The most resident memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def measured(task: str, width: int, blocks: int, threads: int) -> dict[str, float | str]:
    """One row, in this process."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    network, state = Residual(width, blocks).eval(), torch.zeros(1, width)
    lipschitz_bound(nn.Identity(), state)
    before, start, used = peak(), time.perf_counter(), time.process_time()
    if task == "bound":
        said = f"{lipschitz_bound(network, state, state).upper:.3g}"
    else:
        said = certify(network, state, state, theorem="picard", norm="l2").verdict.value
    passed, seconds = time.perf_counter() - start, time.process_time() - used
    parameters = sum(parameter.numel() for parameter in network.parameters())
    row = {"parameters": parameters, "seconds": seconds, "passed": passed, "peak": peak(), "before": before}
    return {**row, "said": said}


def in_process(task: str, width: int, blocks: int, threads: int) -> dict[str, float | str]:
    """One row, in a process of its own."""
    command = [sys.executable, __file__, "--row", task, str(width), str(blocks), str(threads)]
    row: dict[str, float | str] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--blocks", type=int, nargs="+", default=[3, 6, 12, 24])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--row", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        task, *numbers = arguments.row
        print(json.dumps(measured(task, *map(int, numbers))))
        return
    sizes = [(arguments.width, blocks) for blocks in arguments.blocks] + [LARGE] * arguments.large
    for task in ("bound", "certificate"):
        columns = (
            f"{'blocks':>6} {'parameters':>12} {'ratio':>6} {'cpu s':>7} {'ratio':>6} {'passed s':>9} {'peak MB':>14}"
        )
        print(f"{task:<12} {columns}")
        first: dict[str, float | str] | None = None
        for width, blocks in sizes:
            row = in_process(task, width, blocks, arguments.threads)
            first = first or row
            ratios = {name: float(row[name]) / float(first[name]) for name in ("parameters", "seconds")}
            memory = f"{row['peak']} ({row['before']})"
            head = f"{row['said']!s:<12} {blocks:>6} {row['parameters']:>12,} {ratios['parameters']:>6.1f}"
            print(
                f"{head} {row['seconds']:>7.1f} {ratios['seconds']:>6.1f} {row['passed']:>9.1f} {memory:>14}",
                flush=True,
            )


if __name__ == "__main__":
    main()

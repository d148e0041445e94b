"""`deqops prove` from start to end: seconds by the clock and of the processor for each kind of proof.

    python benchmarks/proofs.py [--only NAME] [--repeat N]

Models have seeded Gaussian weights in float32, scaled so that the norm in question is about 0.8. The theory is compiled
before the clock starts. Figures depend on what else the machine does: the processor's time is given beside the clock's.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from deqops._tensorfile import write_tensors
from deqops.graph import export, read_model
from deqops.verify import certify
from deqops.verify.prove._extracted import checker
from deqops.verify.prove._theory import compiled


@dataclass(frozen=True)
class Case:
    """One row of the table; `goal` is what the whole command should take on two idle cores."""

    name: str
    size: int
    norm: str
    located: bool = False
    tier: str = "coq-kernel"
    hidden: int = 0
    goal: float | None = None


CASES = (
    Case("sup norm 64", 64, "linf", goal=5),
    Case("sup norm 256", 256, "linf", goal=10),
    Case("sup norm 512", 512, "linf", goal=25),
    Case("located tanh 64", 64, "linf", located=True),
    Case("located tanh 256", 256, "linf", located=True, goal=10),
    Case("two layers 64", 64, "linf", located=True, hidden=96),
    Case("euclidean 64", 64, "l2", goal=8),
    Case("euclidean 128", 128, "l2"),
    Case("euclidean extracted 512", 512, "l2", tier="extracted", goal=30),
)


class Model(nn.Module):
    """`tanh(W z + x)`, or `tanh(V relu(W z) + x)`."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(case.size)
        shapes = [(case.hidden or case.size, case.size), (case.size, case.hidden)]
        matrices = [torch.randn(*shape, generator=generator) for shape in shapes if shape[1]]
        order = float("inf") if case.norm == "linf" else 2
        scaled = [0.8 * m / torch.linalg.matrix_norm(m, order) for m in matrices]
        self.matrices = nn.ParameterList(nn.Parameter(m) for m in scaled)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """The new state."""
        for matrix in self.matrices[:-1]:
            z = torch.relu(z @ matrix.T)
        return torch.tanh(z @ self.matrices[-1].T + x)


def prepared(case: Case, folder: Path) -> list[str]:
    """Writes the files of a case; the command that proves it."""
    z = torch.zeros(1, case.size)
    x = torch.randn(1, case.size, generator=torch.Generator().manual_seed(1))
    export(folder / "model.pt2", Model(case), z, x)
    write_tensors(folder / "inputs.safetensors", z, (x,))
    certify(read_model(folder / "model.pt2"), z, x, norm=case.norm).save(folder / "certificate.json")
    command = [sys.executable, "-m", "deqops", "prove", str(folder / "certificate.json")]
    command += ["--model", str(folder / "model.pt2"), "--tier", case.tier]
    return command + (["--inputs", str(folder / "inputs.safetensors")] if case.located else [])


def measured(command: list[str]) -> tuple[float, float, str]:
    """Seconds by the clock and of the processor, and the first word of the answer."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return clock, used, (done.stdout or done.stderr).split(":")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names that contain this")
    parser.add_argument("--repeat", type=int, default=1, help="the least of so many runs")
    options = parser.parse_args()
    compiled(("SupNorm", "Located", "Euclid"), lambda text: None)
    checker(lambda text: None)
    print(f"{'proof':26} {'clock':>8} {'processor':>10} {'goal':>6}  answer")
    for case in (c for c in CASES if options.only in c.name):
        with tempfile.TemporaryDirectory() as place:
            command = prepared(case, Path(place))
            clock, used, answer = min(measured(command) for _ in range(options.repeat))
        goal = "" if case.goal is None else f"{case.goal:g}"
        print(f"{case.name:26} {clock:8.1f} {used:10.1f} {goal:>6}  {answer}", flush=True)


if __name__ == "__main__":
    main()

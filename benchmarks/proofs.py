"""`deqops prove` from start to end: seconds by the clock and of the processor for each kind of proof.

    python benchmarks/proofs.py [--only NAME] [--repeat N] [--trained]

With --trained two trained models are proven instead: the demo's graph network, as `deqops demo` leaves it, and two
layers with 32 and 48 units trained on the digits with row sums kept at 0.95.

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
    return written(folder, Model(case), z, x, case.norm, case.tier, located=case.located)


def written(folder: Path, model: nn.Module, z: Tensor, x: Tensor, norm: str, tier: str, *, located: bool) -> list[str]:
    """Writes a model, its inputs and its certificate; the command that proves it."""
    export(folder / "model.pt2", model, z, x)
    write_tensors(folder / "inputs.safetensors", z, (x,))
    certify(read_model(folder / "model.pt2"), z, x, norm=norm).save(folder / "certificate.json")
    command = [sys.executable, "-m", "deqops", "prove", str(folder / "certificate.json")]
    command += ["--model", str(folder / "model.pt2"), "--tier", tier]
    return command + (["--inputs", str(folder / "inputs.safetensors")] if located else [])


class Trained(nn.Module):
    """`z = tanh(V relu(W z) + U x)`, the row sums of V and W at most 0.95 after every step; classes read off z."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 48, bias=False), nn.Linear(48, 32, bias=False)
        self.encode, self.classes = nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """The new state."""
        return torch.tanh(self.second(torch.relu(self.first(z))) + self.encode(x))

    @torch.no_grad()
    def project_(self) -> None:
        """Scale rows back to a sum of moduli of at most 0.95."""
        for layer in (self.first, self.second):
            layer.weight.div_(layer.weight.abs().sum(1, keepdim=True).div_(0.95).clamp_(min=1))


def trained(folder: Path) -> list[str]:
    """Trains two layers on the digits, certifies them, and gives the command that proves them."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x, y = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
    torch.manual_seed(0)
    model = Trained()
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(150):
        z = torch.zeros(len(x), 32)
        for _ in range(25):
            z = model(z, x)
        optimiser.zero_grad()
        nn.functional.cross_entropy(model.classes(z)[::2], y[::2]).backward()
        optimiser.step()
        model.project_()
    accuracy = float((model.classes(z)[1::2].argmax(1) == y[1::2]).float().mean())
    print(f"two layers trained on every other digit: accuracy {accuracy:.3f} on the rest")
    return written(folder, model, torch.zeros(1, 32), x[:1], "linf", "coq-kernel", located=True)


def demo(folder: Path) -> list[str]:
    """Runs the demo and gives the command that proves its model."""
    run = [sys.executable, "-m", "deqops", "demo", "--runs", str(folder)]
    subprocess.run(run, check=True, capture_output=True)
    run = [sys.executable, "-m", "deqops", "prove", str(folder / "pign" / "certificate.json")]
    return [*run, "--model", str(folder / "pign/model.pt2"), "--inputs", str(folder / "pign/inputs.safetensors")]


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
    parser.add_argument("--trained", action="store_true", help="prove two trained models instead")
    options = parser.parse_args()
    compiled(("SupNorm", "Located", "Euclid", "Floats"), lambda text: None)
    checker(lambda text: None)
    print(f"{'proof':26} {'clock':>8} {'processor':>10} {'goal':>6}  answer")
    if options.trained:
        for name, prepare in (("trained two layers", trained), ("the demo's graph network", demo)):
            with tempfile.TemporaryDirectory() as place:
                show(name, prepare(Path(place)), 1, None)
        return
    for case in (c for c in CASES if options.only in c.name):
        with tempfile.TemporaryDirectory() as place:
            show(case.name, prepared(case, Path(place)), options.repeat, case.goal)


def show(name: str, command: list[str], repeat: int, goal: float | None) -> None:
    """Run a command and print its row."""
    clock, used, answer = min(measured(command) for _ in range(repeat))
    print(f"{name:26} {clock:8.1f} {used:10.1f} {'' if goal is None else f'{goal:g}':>6}  {answer}", flush=True)


if __name__ == "__main__":
    main()

"""Build the wheel, install it into a clean environment outside the checkout, and use it there.

The environment sees the dependencies of the one that runs this script (they are large) but not the checkout.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

USE = """
import pathlib, sys, torch
import deqops
from deqops.verify import Verdict, certify, check

where = pathlib.Path(deqops.__file__).resolve()
assert "site-packages" in where.parts and not where.is_relative_to(sys.argv[1]), where
torch.manual_seed(0)
linear = torch.nn.Linear(4, 4)
with torch.no_grad():
    linear.weight.mul_(0.5 / torch.linalg.matrix_norm(linear.weight, 2))
G = lambda z, x: torch.tanh(linear(z) + x)
x = torch.randn(3, 4)
layer = deqops.EquilibriumLayer(G)
certificate = certify(G, layer(x).detach(), x)
assert certificate.verdict is Verdict.CERTIFIED, certificate.explain()
assert check(certificate, G, layer(x).detach(), x).accepted
import deqops.models
from deqops.verify.prove._theory import sources
assert all(path.is_file() for path in sources().values()) and len(sources()) > 15
print("wheel: installed, certified and checked outside the checkout")
"""


def run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> None:
    subprocess.run(command, cwd=cwd, env=env, check=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--outdir",
            str(folder),
            str(ROOT),
            cwd=folder,
        )
        (wheel,) = folder.glob("deqops-*.whl")
        venv.create(folder / "env", with_pip=True)
        python = str(folder / "env" / "bin" / "python")
        # The dependencies come from this environment; deqops itself, installed here as an editable, must not.
        run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel), cwd=folder)
        env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        site = Path(
            subprocess.run(
                [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                check=True,
                capture_output=True,
                text=True,
            ).stdout.strip()
        )
        (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        run(python, "-W", "error::DeprecationWarning:deqops", "-c", USE, str(ROOT), cwd=folder, env=env)
        run(str(folder / "env" / "bin" / "deqops"), "info", cwd=folder, env=env)


if __name__ == "__main__":
    main()

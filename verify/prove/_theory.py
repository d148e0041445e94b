"""The theory that proofs rest on: its sources as shipped, compiled once into the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deqops._errors import DeqopsError

Progress = Callable[[str], None]

LOGICAL = "Deqops"
BUILD_SECONDS = 900


class MissingToolError(DeqopsError):
    """A program that a tier needs is not on this machine."""


@dataclass(frozen=True)
class Theory:
    """A compiled theory: the compiler, and the folder that holds every compiled file."""

    coqc: str
    folder: Path

    @property
    def options(self) -> list[str]:
        """What tells coqc where the theory is."""
        return ["-q", "-w", "-all", "-R", str(self.folder), LOGICAL]


def coq_compiler() -> str:
    """The path of coqc.

    Raises:
        MissingToolError: there is none.
    """
    found = shutil.which("coqc")
    if found is None:
        raise MissingToolError(
            "no Coq compiler (coqc) on this machine; `apt-get install coq libcoq-interval` brings one, "
            "or ask for --tier exact, which is no proof but the same inequalities in whole numbers"
        )
    return found


def sources() -> dict[str, Path]:
    """Module name to source file, in the order of the project file."""
    import deqops

    root = Path(deqops.__file__).resolve().parent / "proofs"
    if not (root / "_CoqProject").exists():
        raise MissingToolError(f"the proofs' sources are not at {root}; install deqops again")
    listed = [line for line in (root / "_CoqProject").read_text().split("\n") if line.endswith(".v")]
    return {Path(line).stem: root / line for line in listed}


def compiled(modules: tuple[str, ...], progress: Progress) -> Theory:
    """The theory with these modules and all that they need, compiled where it has not been.

    Raises:
        MissingToolError: no coqc, or a library of Coq that a module needs is missing.
    """
    coqc, all_sources = coq_compiler(), sources()
    texts = {name: path.read_text() for name, path in all_sources.items()}
    folder = _cache() / _key(coqc, texts)
    folder.mkdir(parents=True, exist_ok=True)
    theory = Theory(coqc, folder)
    needed = _closure(modules, texts)
    if all((folder / f"{name}.vo").exists() for name in needed):
        return theory
    with _locked(folder / "lock"):
        for number, name in enumerate(needed, 1):
            if not (folder / f"{name}.vo").exists():
                progress(f"compiling the theory, once: {name} ({number} of {len(needed)})")
                _compile(theory, name, texts[name])
    return theory


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "deqops" / "theory"


def _key(coqc: str, texts: dict[str, str]) -> str:
    """Another compiler or another source makes another folder."""
    version = subprocess.run([coqc, "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
    digest = hashlib.sha256(version.encode())
    for name, text in texts.items():
        digest.update(f"{name} {len(text)}\n{text}".encode())
    return digest.hexdigest()[:32]


def _closure(modules: tuple[str, ...], texts: dict[str, str]) -> list[str]:
    """The modules and all that they require, each after what it requires."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        for line in re.findall(r"^From Deqops Require Import ([\w\s]+)\.", texts[name], re.M):
            for below in line.split():
                visit(below)
        order.append(name)

    for name in modules:
        visit(name)
    return order


def _compile(theory: Theory, name: str, text: str) -> None:
    """Compile a module beside the others; it appears complete or not at all."""
    with tempfile.TemporaryDirectory(dir=theory.folder) as place:
        # The file's own place must map to the theory's logical name for its full name to be right.
        (Path(place) / f"{name}.v").write_text(text)
        command = [theory.coqc, *theory.options, "-R", place, LOGICAL, f"{name}.v"]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
        if done.returncode:
            raise MissingToolError(
                f"the theory does not compile with this Coq ({name}: {' '.join(done.stderr.split())[-300:]}); "
                "Coq 8.16 with coq-interval is what it is written for"
            )
        os.replace(Path(place) / f"{name}.vo", theory.folder / f"{name}.vo")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

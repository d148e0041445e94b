"""The proofs compile, rest on nothing but the classical reals, and say what is recorded."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

PROOFS = Path(__file__).parent.parent / "proofs"
needs_coq = pytest.mark.skipif(
    shutil.which("coqc") is None, reason="no Coq compiler: apt-get install coq libcoq-interval"
)


def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", PROOFS / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_file_admits_or_assumes_anything() -> None:
    sources = sorted(PROOFS.rglob("*.v"))
    assert len(sources) >= 5
    for source in sources:
        text = re.sub(r"\(\*.*?\*\)", "", source.read_text(), flags=re.DOTALL)
        assert not re.search(r"\b(Admitted|admit|Axiom|Axioms|Parameter|Conjecture|Abort)\b", text), source


def test_the_table_names_exactly_the_exported_theorems_and_files() -> None:
    rows = re.findall(
        r"^\| ([\w ]+) \|.*?\| `(theory/\w+\.v)` \| `([\w.]+)` \|", (PROOFS / "README.md").read_text(), re.M
    )
    recorded = json.loads((PROOFS / "exported.json").read_text())
    assert {(name, file, coq) for name, file, coq in rows} == {
        (name, entry["file"], entry["coq"]) for name, entry in recorded.items()
    }
    listed = set((PROOFS / "_CoqProject").read_text().split()[3:])
    assert {str(p.relative_to(PROOFS)) for p in PROOFS.rglob("*.v")} == listed
    assert {file for _, file, _ in rows} <= listed


@needs_coq
def test_the_proofs_compile_and_pass_the_audit() -> None:
    done = subprocess.run(["make", "-C", str(PROOFS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    assert all(name in done.stdout for name in audit().exported())


@pytest.fixture(scope="module")
def theory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the proofs that may be spoilt."""
    folder = tmp_path_factory.mktemp("proofs")
    for name in ("theory", "audit.py", "exported.json", "_CoqProject", "Makefile"):
        source = PROOFS / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    return folder


def compiled(folder: Path, text: str) -> None:
    (folder / "theory" / "RefutePoints.v").write_text(text)
    for file in ("Metric", "RefutePoints"):
        command = ["coqc", "-q", "-R", "theory", "Deqops", f"theory/{file}.v"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)


@needs_coq
@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (
            lambda t: (
                t.replace("Theorem refute_points", "Axiom sub : False.\nTheorem refute_points").replace(
                    "Proof.", "Proof. destruct sub. Qed.\n(*", 1
                )
                + "*)"
            ),
            "rests on",
        ),
        (lambda t: t.split("Proof.")[0] + "Proof. Admitted.\n", "rests on"),
        (lambda t: t.replace("forall q, q < 1", "forall q, q < 1 / 2").replace("nra.", "nra."), "statement"),
    ],
    ids=["axiom", "admitted", "weakened"],
)
def test_the_audit_rejects(theory: Path, spoil: object, complaint: str) -> None:
    original = (PROOFS / "theory" / "RefutePoints.v").read_text()
    recorded = json.loads((PROOFS / "exported.json").read_text())
    (theory / "exported.json").write_text(json.dumps({"refute": recorded["refute"]}))
    compiled(theory, original)
    assert audit().failures(theory) == []
    compiled(theory, spoil(original))  # type: ignore[operator]
    assert any(complaint in line for line in audit().failures(theory))

"""Audit of the exported theorems: which axioms each rests on, and that its statement is the recorded one.

`python3 audit.py` checks, `python3 audit.py --record` rewrites the recorded statements. Standard library only.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ALLOWED = {
    "ClassicalDedekindReals.sig_forall_dec",
    "ClassicalDedekindReals.sig_not_dec",
    "FunctionalExtensionality.functional_extensionality_dep",
    "Classical_Prop.classic",
}
MARK = "@@@"


def exported(folder: Path = HERE) -> dict[str, dict[str, str]]:
    """The theorems by name: their Coq name, file and recorded statement."""
    found: dict[str, dict[str, str]] = json.loads((folder / "exported.json").read_text())
    return found


def ask(theory: Path, names: list[str]) -> dict[str, tuple[str, set[str]]]:
    """For each Coq name its statement, normalised, and the axioms it rests on.

    Raises:
        RuntimeError: coqc fails.
    """
    modules = sorted({name.rsplit(".", 1)[0] for name in names})
    lines = [f"Require {module}." for module in modules]
    for name in names:
        note = f'Goal True. idtac "{MARK} {{}} {name}". exact I. Qed.'
        lines += [note.format("check"), f"About {name}.", f"Check @{name}.", note.format("axioms")]
        lines += [f"Print Assumptions {name}."]
    lines.append(f'Goal True. idtac "{MARK} end -". exact I. Qed.')
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "question.v"
        source.write_text("\n".join(lines) + "\n")
        command = ["coqc", "-q", "-R", str(theory), "Deqops", str(source)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=600, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip()[-500:])
    return _answers(done.stdout, names)


def _answers(output: str, names: list[str]) -> dict[str, tuple[str, set[str]]]:
    parts = re.split(rf"^{MARK} (\w+) (\S+)$", output, flags=re.MULTILINE)
    texts = {(parts[k], parts[k + 1]): parts[k + 2] for k in range(1, len(parts) - 2, 3)}
    answers = {}
    for name in names:
        statement = texts["check", name].split(f"@{name.rsplit('.', 1)[1]}", 1)[-1]
        statement = " ".join(statement.split(":", 1)[-1].split())
        answers[name] = (statement, axioms(texts["axioms", name]))
    return answers


def axioms(text: str) -> set[str]:
    """The names in the output of Print Assumptions; anything not understood counts as an axiom of its own."""
    text = text.strip()
    if text == "Closed under the global context":
        return set()
    if not text.startswith("Axioms:"):
        return {text[:80] or "(no answer)"}
    return set(re.findall(r"^([^\s:]+)", text.removeprefix("Axioms:"), flags=re.MULTILINE))


def failures(folder: Path = HERE) -> list[str]:
    """What is wrong, a line each; empty when every theorem is as recorded and rests on nothing new."""
    theorems = exported(folder)
    found = ask(folder / "theory", [entry["coq"] for entry in theorems.values()])
    wrong = []
    for title, entry in theorems.items():
        statement, used = found[entry["coq"]]
        if used - ALLOWED:
            wrong.append(f"{title}: rests on {', '.join(sorted(used - ALLOWED))}")
        if statement != entry["statement"]:
            wrong.append(f"{title}: its statement is not the recorded one")
    return wrong


def main() -> int:
    """Print the table; 1 where something is wrong."""
    theorems = exported()
    found = ask(HERE / "theory", [entry["coq"] for entry in theorems.values()])
    if sys.argv[1:] == ["--record"]:
        for entry in theorems.values():
            entry["statement"] = found[entry["coq"]][0]
        (HERE / "exported.json").write_text(json.dumps(theorems, indent=1) + "\n")
    wrong = failures()
    for title, entry in theorems.items():
        used = ", ".join(sorted(axiom.rsplit(".", 1)[-1] for axiom in found[entry["coq"]][1])) or "none"
        sys.stdout.write(f"proofs: {title:22} {entry['coq']:45} axioms: {used}\n")
    sys.stdout.writelines(f"proofs: FAILED {line}\n" for line in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

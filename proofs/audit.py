"""Audit of the theory: sources, axioms of each exported theorem, and that nothing was quietly weakened.

`python3 audit.py` checks, `python3 audit.py --record` rewrites what `exported.json` records (read the diff!).
Exit status 1 where something is wrong, with one line per fault. Standard library only.

The sources are read without Coq: no forbidden command, every `Theorem` exported and the other way round, every
definition as recorded (a theorem about `lipschitz` says nothing once `lipschitz` is redefined). Coq is then asked
for each theorem's statement, compared with the recorded one, and for the axioms it rests on.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MARK = "@@@"
FORBIDDEN = r"\b(Admitted|admit|Axioms?|Parameters?|Conjecture|Abort|Unset|bypass_check|Declare|Extract\w*)\b"

# The classical reals of the standard library, as Coq prints them and where each must come from: a file of ours
# could declare an axiom of the same short name.
ALLOWED = {
    "ClassicalDedekindReals.sig_forall_dec": "Coq.Reals.ClassicalDedekindReals.sig_forall_dec",
    "ClassicalDedekindReals.sig_not_dec": "Coq.Reals.ClassicalDedekindReals.sig_not_dec",
    "FunctionalExtensionality.functional_extensionality_dep": (
        "Coq.Logic.FunctionalExtensionality.functional_extensionality_dep"
    ),
    "Classical_Prop.classic": "Coq.Logic.Classical_Prop.classic",
}

# Where the kernel's machine integers live, and what it assumes of their operations: the checkers of network/ compute
# with them.
MACHINE = {"PrimInt63": "Coq.Numbers.Cyclic.Int63.PrimInt63", "Uint63": "Coq.Numbers.Cyclic.Int63.Uint63"}
FOLDERS = ("theory", "network")


@dataclass(frozen=True)
class Answer:
    """What Coq says of one theorem: its statement as printed, and its axioms, those not allowed with a leading "!"."""

    statement: str
    axioms: frozenset[str]


def recorded(folder: Path = HERE) -> dict[str, Any]:
    """`{"theorems": {title: {coq, file, theorem, statement}}, "definitions": {Coq name: source}}`."""
    content: dict[str, Any] = json.loads((folder / "exported.json").read_text())
    return content


def exported(folder: Path = HERE) -> dict[str, dict[str, Any]]:
    """The exported theorems by title."""
    theorems: dict[str, dict[str, Any]] = recorded(folder)["theorems"]
    return theorems


# --- the sources ------------------------------------------------------------------------------------------------


def without_comments(text: str) -> str:
    """The text with (nested) comments removed."""
    depth, kept = 0, []
    for piece in re.split(r"(\(\*|\*\))", text):
        if piece == "(*":
            depth += 1
        elif piece == "*)" and depth:
            depth -= 1
        elif not depth:
            kept.append(piece)
    return "".join(kept)


def sources(folder: Path) -> dict[str, str]:
    """Module name to comment-free source, for every file."""
    return {path.stem: without_comments(path.read_text()) for path in files(folder)}


def files(folder: Path) -> list[Path]:
    """Every source of the theory and of the checkers."""
    return [path for name in FOLDERS for path in sorted((folder / name).glob("*.v"))]


def theorems_in(folder: Path) -> set[str]:
    """The Coq names of everything called Theorem."""
    found = ((module, re.findall(r"^\s*Theorem\s+([\w']+)", text, re.M)) for module, text in sources(folder).items())
    return {f"Deqops.{module}.{name}" for module, names in found for name in names}


def definitions_in(folder: Path) -> dict[str, str]:
    """Coq name to source of every definition, to the end of its sentence or, built by tactics, of its proof."""
    pattern = re.compile(
        r"^\s*((?:Definition|Fixpoint|Record|Inductive|CoFixpoint|Class|Instance|Let)\s+([\w']+).*?\.)(?=\s)",
        re.M | re.S,
    )
    found = {}
    for module, text in sources(folder).items():
        for match in pattern.finditer(text):
            source = match[1]
            if re.match(r"\s*Proof\.", text[match.end() :]):
                source += text[match.end() :].split("Defined.", 1)[0] + "Defined."
            found[f"Deqops.{module}.{match[2]}"] = flat(source)
    return found


def flat(text: str) -> str:
    """The text with every run of white space made one blank."""
    return " ".join(text.split())


def source_faults(folder: Path = HERE) -> list[str]:
    """What the sources alone show to be wrong."""
    record = recorded(folder)
    faults = [
        f"{module}.v: uses {word}" for module, text in sources(folder).items() for word in re.findall(FORBIDDEN, text)
    ]
    listed = {entry["coq"] for entry in record["theorems"].values()}
    there = theorems_in(folder)
    faults += [f"{name}: a Theorem that is not exported" for name in sorted(there - listed)]
    faults += [f"{name}: exported, but no such Theorem" for name in sorted(listed - there)]
    now, then = definitions_in(folder), record["definitions"]
    changed = (name for name in now.keys() | then.keys() if now.get(name) != then.get(name))
    faults += [f"{name}: its definition is not the recorded one" for name in sorted(changed)]
    built = (folder / "_CoqProject").read_text().split()
    listed = {str(path.relative_to(folder)) for path in files(folder)}
    faults += [f"{Path(path).name}: not in _CoqProject" for path in sorted(listed - set(built))]
    return faults


def stale(folder: Path) -> list[str]:
    """Files without an up-to-date compiled form."""
    pairs = [(path, path.with_suffix(".vo")) for path in files(folder)]
    old = (v for v, vo in pairs if not vo.exists() or vo.stat().st_mtime < v.stat().st_mtime)
    return [f"{path.name}: not compiled since it changed" for path in old]


# --- what Coq says ----------------------------------------------------------------------------------------------


def question(names: list[str]) -> str:
    """A Coq file that prints, after markers, where the allowed axioms live and all about each name."""

    def mark(what: str) -> str:
        return f'Goal True. idtac "{MARK} {what}". exact I. Qed.'

    lines = [f"Require {module}." for module in sorted({name.rsplit(".", 1)[0] for name in names})]
    for axiom in ALLOWED:
        lines += [mark(f"place {axiom}"), f"Locate {axiom}."]
    for module in MACHINE:
        lines += [mark(f"home {module}"), f"Locate Module {module}."]
    for name in names:
        lines += [mark(f"axioms {name}"), f"Print Assumptions {name}."]
    # Only for legible statements; nothing of ours is imported, so no notation of ours can disguise one.
    lines += ["From Coq Require Import Reals List.", "Open Scope R_scope.", "Set Printing Width 110."]
    for name in names:
        lines += [mark(f"statement {name}"), f"Check @{name}."]
    return "\n".join([*lines, mark("end -")]) + "\n"


def ask(folder: Path, names: list[str]) -> dict[str, Answer]:
    """Coq's answers by name; two processes share the work, each theorem's assumptions take about a second.

    Raises:
        RuntimeError: coqc fails; with the end of its message.
    """
    halves = [half for half in (names[::2], names[1::2]) if half]
    with ThreadPoolExecutor(max_workers=2) as pool:
        parts = list(pool.map(lambda half: ask_one_process(folder, half), halves))
    return {name: answer for part in parts for name, answer in part.items()}


def ask_one_process(folder: Path, names: list[str]) -> dict[str, Answer]:
    """As `ask`, with one run of coqc."""
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "question.v"
        source.write_text(question(names))
        places = [part for name in FOLDERS for part in ("-R", str(folder / name), "Deqops")]
        command = ["coqc", "-q", *places, str(source)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=place, timeout=600, check=False)
    if done.returncode != 0:
        raise RuntimeError(flat(done.stderr)[-400:])
    return answers(done.stdout, names)


def answers(output: str, names: list[str]) -> dict[str, Answer]:
    """Coq's output, taken apart at the markers."""
    pieces = re.split(rf"^{MARK} (\w+) (\S+)$", output, flags=re.M)
    said = {(kind, name): text for kind, name, text in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True)}
    genuine = {
        axiom for axiom, home in ALLOWED.items() if said["place", axiom].strip().split("\n")[0] == f"Constant {home}"
    }
    modules = {
        module for module, home in MACHINE.items() if f"Module {home}" in said["home", module].strip().split("\n")[:1]
    }

    def judged(axiom: str) -> str:
        return axiom if axiom in genuine or axiom.split(".")[0] in modules else f"!{axiom}"

    return {
        name: Answer(
            said["statement", name].split(":", 1)[1].strip(),
            frozenset(judged(axiom) for axiom in assumptions(said["axioms", name])),
        )
        for name in names
    }


def assumptions(text: str) -> set[str]:
    """The axioms in the output of `Print Assumptions`; a line that is not understood counts as one."""
    text = text.strip()
    if text == "Closed under the global context":
        return set()
    if not text.startswith("Axioms:\n"):
        return {text[:80] or "(no answer)"}
    heads = [line for line in text.split("\n")[1:] if not line.startswith(" ")]
    return {line.split()[0] if re.fullmatch(r"[\w.']+( :.*)?", line) else line for line in heads}


def coq_faults(theorems: dict[str, dict[str, Any]], found: dict[str, Answer]) -> list[str]:
    """Theorems that rest on more than the classical reals, or state something else than is recorded."""
    faults = []
    for title, entry in theorems.items():
        answer = found[entry["coq"]]
        extra = sorted(axiom[1:] for axiom in answer.axioms if axiom.startswith("!"))
        if extra:
            faults.append(f"{title}: rests on {', '.join(extra)}")
        if flat(answer.statement) != flat("\n".join(entry["statement"])):
            faults.append(f"{title}: its statement is not the recorded one")
    return faults


# --- together ---------------------------------------------------------------------------------------------------


def inspect(folder: Path = HERE) -> tuple[dict[str, Answer], list[str]]:
    """Coq's answers for the exported theorems, and every fault."""
    theorems = exported(folder)
    faults = source_faults(folder) + stale(folder)
    try:
        found = ask(folder, [entry["coq"] for entry in theorems.values()])
    except RuntimeError as error:
        return {}, [*faults, f"coqc: {error}"]
    return found, faults + coq_faults(theorems, found)


def record(folder: Path = HERE) -> None:
    """Write down the present statements and definitions."""
    content = recorded(folder)
    found = ask(folder, [entry["coq"] for entry in content["theorems"].values()])
    for entry in content["theorems"].values():
        entry["statement"] = found[entry["coq"]].statement.split("\n")
    content["definitions"] = definitions_in(folder)
    (folder / "exported.json").write_text(json.dumps(content, indent=1) + "\n")


def main() -> int:
    """Print the table of theorems and axioms; 1 where something is wrong."""
    if sys.argv[1:] not in ([], ["--record"]):
        sys.stderr.write("usage: audit.py [--record]\n")
        return 2
    if sys.argv[1:] == ["--record"]:
        record()
    found, faults = inspect()
    for entry in exported().values():
        if entry["coq"] in found:
            axioms = found[entry["coq"]].axioms
            used = sorted(axiom.rsplit(".", 1)[-1] for axiom in axioms if axiom.split(".")[0] not in MACHINE)
            used += ["machine integers"] if len(used) < len(axioms) else []
            sys.stdout.write(f"proofs: {entry['coq']:44} axioms: {', '.join(used) or 'none'}\n")
    sys.stdout.writelines(f"proofs: FAILED {fault}\n" for fault in faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

"""From a run's folder to its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deqops._atomic import write_atomically

from . import _measured, _plots, _words
from ._facts import Facts, read_facts
from ._trajectory import Trajectory, trajectory

if TYPE_CHECKING:
    from deqops.verify import CheckReport


def write_report(folder: Path, output: Path | None = None, check: CheckReport | None = None) -> Path:
    """Write `report.html` about a run: verdict, hypotheses, convergence, gains, what is not proven, what was measured.

    The page needs no network and runs no script. The iteration is computed anew from the model file.

    Args:
        folder: with `model.pt2`, `inputs.safetensors` and what else the run has made.
        output: None for `report.html` in the folder.
        check: what `deqops.verify.check` said of the folder's certificate; None: the page says it was not checked.

    Returns:
        Path: of the page, written whole or not at all.

    Raises:
        InputError: no such folder, no model in it, or files that do not belong together.
        ModelFileError: a file is damaged.
        OSError: the page cannot be written.
    """
    facts = read_facts(folder, check)
    text = _render(_values(facts, trajectory(facts)))
    path = folder / "report.html" if output is None else output
    write_atomically(path, text.encode("utf-8", "replace"))  # JSON may hold halves of characters
    return path


def _render(values: Mapping[str, Any]) -> str:
    """The template filled in; every value is escaped."""
    import jinja2

    source = resources.files("deqops.report").joinpath("page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(source).render(values)


def _values(facts: Facts, found: Trajectory) -> dict[str, Any]:
    import deqops

    certificate = facts.certificate
    verdict, meaning = _words.headline(facts)
    accuracies = _measured.accuracies(facts.metrics)
    return {
        "name": facts.name,
        "run": _run(facts.label),
        "verdict": verdict,
        "meaning": meaning,
        "reason": certificate.reason if certificate is not None else "",
        "consequences": _words.consequences(facts, found),
        "checked": _words.checked(facts),
        "rejected": facts.rejected,
        "theorem": _words.THEOREMS.get(certificate.theorem or "", "") if certificate is not None else "",
        "hypotheses": _words.hypotheses(certificate),
        "attempts": certificate.attempts if certificate is not None else (),
        "witness": _witness(facts),
        "curve": _plots.convergence(found),
        "curve_alt": _curve_alt(found),
        "curve_words": _curve_words(found),
        "gains": _words.gains(certificate),
        "not_proven": _words.not_proven(facts),
        "accuracy": accuracies,
        "baseline": any(plain != "–" for _, _, plain in accuracies),
        "numbers": _measured.numbers(facts.metrics),
        "curves": _measured.curves(facts.metrics),
        "commands": _commands(facts),
        "files": facts.files,
        "version": deqops.__version__,
        "claimed_by": certificate.fingerprint if certificate is not None else "",
    }


def _run(label: Mapping[str, Any]) -> str:
    parts = [f"{key} {label[key]}" for key in ("model", "dataset", "seed") if key in label]
    for settings in (label.get("data"), label.get("settings")):
        if isinstance(settings, dict):
            parts += [f"{key} {value}" for key, value in sorted(settings.items()) if value is not None]
    return ", ".join(parts)


def _witness(facts: Facts) -> str:
    certificate = facts.certificate
    if certificate is None:
        return ""
    if certificate.witness is None:
        described = certificate.describe_witness()
        return f"{described} It is stored in the certificate." if described else ""
    distance = certificate.distance_bound(certificate.witness.first, certificate.witness.second)
    apart = _words.at_most(float(distance[certificate.witness.problem]))
    norm = certificate.norm.describe() if certificate.norm is not None else ""
    return (
        f"Two states of problem {certificate.witness.problem} are {apart} apart in the {norm} norm, and the operator "
        "maps them to states that are at least as far apart. Both are stored in the certificate."
    )


def _curve_alt(found: Trajectory) -> str:
    series: Sequence[tuple[str, Sequence[float]]] = (
        ("proven bound", found.bound),
        ("measured distance", found.distance),
        ("residual", found.residual),
    )
    parts = [f"{name} from {values[0]:.2g} to {values[-1]:.2g}" for name, values in series if values]
    return f"over {len(found.residual) - 1} iterations: " + "; ".join(parts)


def _curve_words(found: Trajectory) -> str:
    step = "y ← G(y)" if found.damping == 1 else f"y ← {1 - found.damping:g} y + {found.damping:g} G(y)"
    if found.bound and found.distance:
        return (
            f"The iteration {step} from the start in inputs.safetensors. The bound is proven for the exact iteration; "
            "measured is the floating-point one, against the computed equilibrium."
        )
    if found.bound:
        return f"The iteration {step}: the proven bound of its distance to the equilibrium, and the measured residual."
    return f"The iteration {step} in floating point. No bound of its error is proven."


def _commands(facts: Facts) -> str:
    files = "--model model.pt2 --inputs inputs.safetensors"
    if facts.certificate is None:
        certify = "deqops certify model.pt2 --inputs inputs.safetensors -o certificate.json"
        return f"{certify}\ndeqops check certificate.json {files}"
    return f"deqops check certificate.json {files}"

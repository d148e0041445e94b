"""`check`: is this certificate true of this operator?"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from deqops._errors import ModelFileError

from ._arithmetic import working_precision
from ._document import load, plain, read, verdict_of
from ._refusal import Rejected
from ._subject import subject
from ._theorems import establish


@dataclass(frozen=True)
class CheckReport:
    """What the checker found.

    Attributes:
        accepted: the claim was proven again, from the graph alone.
        verdict: what the certificate says: "certified", "refuted" or "unknown".
        reasons: why it was not accepted, one line each; empty where it was.
        verified: what was established, with the checker's own numbers.
    """

    accepted: bool
    verdict: str
    reasons: tuple[str, ...] = ()
    verified: tuple[str, ...] = ()


def check(certificate: Any, G: Any, y0: Any, *inputs: Any) -> CheckReport:
    """Verify a certificate again with another method: ball arithmetic and exact integers.

    Nothing in the certificate is believed: fingerprint, shapes, inputs, independence of the problems of a
    batch, Lipschitz bound, residual or counterexample are derived anew from the graph, and must support the
    claim.

    Args:
        certificate: a path to a certificate file, a document (dict), or an object with `.document()`.
        G: the operator: anything `deqops.graph.trace` takes, or an equilibrium layer.
        y0: an example state of the certified shapes and dtypes.
        inputs: the operator's inputs; fixed ones are compared by SHA-256.

    Returns:
        CheckReport: `accepted` is False, with reasons, for every certificate that is wrong, or right but
        beyond the checker's means.

    Raises:
        ModelFileError: the file cannot be read, or is not a certificate of schema 1.
    """
    verdict = "unknown"
    try:
        with working_precision():
            _require_arithmetic()
            document, folder = _document(certificate)
            verdict = verdict_of(document)
            parsed = read(document, folder)
            if verdict == "unknown":
                return CheckReport(False, verdict, ("nothing is claimed",))
            found = subject(parsed, G, y0, inputs)
            return CheckReport(True, verdict, (), (*found.verified, *establish(parsed, found)))
    except Rejected as refusal:
        return CheckReport(False, verdict, (str(refusal),))


def _require_arithmetic() -> None:
    """A document's numbers are compared as floats, of which this thread's arithmetic must see the smallest ones too."""
    small, unit = float.fromhex("0x1p-1060"), float.fromhex("0x1p-53")
    if not small * 0.5 > 0 or 1.0 + unit != 1.0 or 1.0 - unit / 4 != 1.0:
        raise Rejected(
            "arithmetic: subnormal numbers are flushed to zero here, or float64 does not round to nearest; call "
            "torch.set_flush_denormal(False) and restore the rounding mode"
        )


def _document(certificate: Any) -> tuple[dict[str, Any], Path | None]:
    if isinstance(certificate, str | PathLike):
        path = Path(certificate)
        return load(path), path.parent
    if isinstance(certificate, dict):
        return plain(certificate), None
    if hasattr(certificate, "document"):
        return plain(certificate.document()), None
    raise ModelFileError(f"certificate: got {type(certificate).__name__}; give a path, a document or a Certificate")

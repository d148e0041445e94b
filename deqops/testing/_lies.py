"""Ways to make the certificate of a contraction false, each so that no reader may accept it."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ._choices import Choices, one_of
from ._known import Known
from ._tampering import Document, signed

NUMBERS: tuple[Any, ...] = (
    "nan",
    "inf",
    "-inf",
    "-0x1p-1",
    "0x1p+0",
    "0x1p+1023",
    "0x1p+2000",
    "0.5",
    "",
    None,
    True,
    0.5,
    [],
    {},
)
"""What is no hexadecimal number below 1."""
OTHERS: tuple[Any, ...] = (None, 3, "x", [], {}, [[]], {"kind": "?"}, 1e300)
"""What is no part of a document at all."""
PARTS = ("claim", "verdict", "theorem", "norm", "region", "state", "batch_dims", "model", "inputs", "evidence")


@dataclass(frozen=True)
class Falsehood:
    """A way to lie.

    Attributes:
        change: `change(choices, document, known)` edits the document; False where it cannot.
        needs: what the certificate must have: "ball", "weights", "edges" (an input that matters), or nothing.
        is_signed: whether the digest is made right again.
    """

    change: Callable[[Choices, Document, Known], bool | None]
    needs: str = ""
    is_signed: bool = True

    def tell(self, choices: Choices, document: Document, known: Known) -> bool:
        """Change the document; False where this lie is none of it."""
        if self.change(choices, document, known) is False:
            return False
        if self.is_signed:
            document["digest"] = signed(document)["digest"]
        return True


def _below(choices: Choices, known: Known) -> str:
    """A number below the constant."""
    return (choices.integer(0, 7) / 8 * float(known.constant)).hex()


def _rate(choices: Choices, document: Document, known: Known) -> None:
    """A smaller rate, wherever it is said."""
    low = _below(choices, known)
    document["rate"] = document["evidence"]["bound"] = document["hypotheses"][0]["value"] = low


def _bound(choices: Choices, document: Document, known: Known) -> None:
    """A bound below the constant under the same rate."""
    document["evidence"]["bound"] = _below(choices, known)


def _model(choices: Choices, document: Document, _: Known) -> None:
    """Other weights or another graph."""
    found, place = document["model"]["fingerprint"], choices.integer(0, 63)
    other = "1" if found[place] == "0" else "0"
    document["model"]["fingerprint"] = found[:place] + other + found[place + 1 :]


def _state(choices: Choices, document: Document, _: Known) -> None:
    """A state of another shape or dtype, or one more."""
    leaf = document["state"][0]
    kind = choices.integer(0, 3)
    if kind == 0:
        leaf["shape"][choices.integer(0, len(leaf["shape"]) - 1)] += one_of(choices, (1, -1))
    elif kind == 1:
        leaf["shape"].append(1)
    elif kind == 2:
        leaf["dtype"] = one_of(choices, ("float32", "int64", "x"))
    else:
        document["state"].append(dict(leaf))


def _input(choices: Choices, document: Document, _: Known) -> None:
    """An input fixed to another value, of another shape, or one that is not there."""
    entry, kind = one_of(choices, document["inputs"]), choices.integer(0, 2)
    if kind == 0:
        entry["status"], entry["sha256"] = "fixed", hashlib.sha256(bytes([choices.integer(0, 255)])).hexdigest()
    elif kind == 1:
        entry["shape"] = [*entry["shape"], 1]
    else:
        document["inputs"].append({**entry, "name": "another"})


def _free(choices: Choices, document: Document, known: Known) -> bool:
    """Edges or strengths called free, on which the constant depends."""
    fixed = [entry for entry in document["inputs"] if entry["status"] == "fixed"]
    if not fixed or not known.constant:
        return False
    entry = one_of(choices, fixed)
    entry["status"], entry["sha256"] = "free", None
    return True


def _norm(choices: Choices, document: Document, known: Known) -> bool:
    """A norm in which the constant is larger: of `W z + x` and the like a sum of moduli of W, exactly."""
    weight = getattr(known.operator, "weight", None)
    if weight is None:
        return False
    order = one_of(choices, ("l1", "linf"))
    sums = weight.detach().abs().sum(dim=0 if order == "l1" else 1)
    if not float(sums.max()) > float.fromhex(document["rate"]) * (1 + 1e-6):
        return False
    document["norm"]["order"] = document["claim"]["norm"]["order"] = order
    return True


def _theorem(choices: Choices, document: Document, _: Known) -> None:
    """A theorem that the evidence is not of, or that supports no such claim."""
    names: tuple[str | None, ...] = (
        "damped",
        "monotone",
        "causal",
        "powers",
        "quadratic",
        "newton_kantorovich",
        "refute",
        "brouwer",
        None,
    )
    document["theorem"] = one_of(choices, names)


def _verdict(choices: Choices, document: Document, _: Known) -> None:
    document["verdict"] = one_of(choices, ("refuted", "unknown", "perhaps", ""))


def _damping(choices: Choices, document: Document, _: Known) -> None:
    """Convergence of an iteration that steps too far: `|1 - b| + |b| q` is at least 1."""
    damping = one_of(choices, (2.0, 3.0, 0.0, -0.5))
    iteration = {"kind": "picard", "damping": damping.hex()}
    document["claim"] = {"kind": "converges", "iteration": iteration, "region": document["region"]}


def _region(choices: Choices, document: Document, known: Known) -> None:
    """A ball with more equilibria than one."""
    distance = min(float((other - known.equilibrium).abs().max()) for other in known.others)
    radius = (distance + choices.integer(0, 8)).hex()
    for region in (document["region"], document["claim"]["region"]):
        region["radius"] = radius


def _everywhere(_: Choices, document: Document, __: Known) -> None:
    """A local claim made everywhere, as if by T1."""
    document["region"] = document["claim"]["region"] = {"kind": "global"}
    document["theorem"], document["witnesses"] = "picard", {}
    document["evidence"] = {"kind": "lipschitz", "bound": document["evidence"]["bound"]}


def _radius(choices: Choices, document: Document, _: Known) -> None:
    """A radius that is none."""
    wrong = one_of(choices, ("0x0p+0", "-0x1p+0", *NUMBERS[:3], *NUMBERS[6:]))
    for region in (document["region"], document["claim"]["region"]):
        region["radius"] = wrong


def _weights(choices: Choices, document: Document, _: Known) -> None:
    """Weights that are not positive and finite, their digest right; or another content than their digest is of."""
    entry = next(iter(document["witnesses"].values()))
    data = bytearray(base64.b64decode(entry["data"]))
    place = 8 * choices.integer(0, len(data) // 8 - 1)
    kind = choices.integer(0, 5)
    data[place : place + 8] = struct.pack("<d", (0.0, -1.0, float("nan"), float("inf"), 2.0, 0.5)[kind])
    entry["data"] = base64.b64encode(bytes(data)).decode()
    if kind < 4:
        entry["sha256"] = hashlib.sha256(bytes(data)).hexdigest()


def _witness(choices: Choices, document: Document, _: Known) -> None:
    """A witness of another shape or dtype, without its data, or missing."""
    name, kind = next(iter(document["witnesses"])), choices.integer(0, 4)
    entry = document["witnesses"][name]
    if kind == 0:
        entry["shape"] = [*entry["shape"], 2]
    elif kind == 1:
        entry["dtype"] = "float32"
    elif kind == 2:
        entry["data"] = one_of(choices, ("", "?", None, 3))
    elif kind == 3:
        del document["witnesses"][name]
    else:
        document["witnesses"]["another"] = dict(entry)


def _number(choices: Choices, document: Document, _: Known) -> None:
    """A rate or bound that is no number below 1."""
    wrong = one_of(choices, NUMBERS)
    if choices.integer(0, 1):
        document["evidence"]["bound"] = wrong
    else:
        document["rate"] = wrong


def _part(choices: Choices, document: Document, _: Known) -> None:
    """Something else in a part's place."""
    document[one_of(choices, PARTS)] = one_of(choices, OTHERS)


def _missing(choices: Choices, document: Document, _: Known) -> None:
    """A part that is not there."""
    parent: Any = one_of(choices, (document, document["claim"], document["evidence"], document["model"]))
    del parent[one_of(choices, sorted(set(parent) - {"digest", "attempts"}))]


def _unknown(choices: Choices, document: Document, _: Known) -> None:
    """A part that no reader knows."""
    parent: Any = one_of(choices, (document, document["claim"], document["evidence"], document["model"]))
    parent["remark"] = one_of(choices, ("", None, 0))


def _schema(choices: Choices, document: Document, _: Known) -> None:
    """Another format or schema."""
    document.update(one_of(choices, ({"schema": 2}, {"schema": "1"}, {"schema": None}, {"format": "deqops"})))


FALSEHOODS: dict[str, Falsehood] = {
    "rate": Falsehood(_rate),
    "bound": Falsehood(_bound),
    "unsigned": Falsehood(_rate, is_signed=False),
    "model": Falsehood(_model),
    "state": Falsehood(_state),
    "input": Falsehood(_input),
    "free input": Falsehood(_free, "edges"),
    "norm": Falsehood(_norm),
    "theorem": Falsehood(_theorem),
    "verdict": Falsehood(_verdict),
    "damping": Falsehood(_damping),
    "region": Falsehood(_region, "ball"),
    "everywhere": Falsehood(_everywhere, "ball"),
    "radius": Falsehood(_radius, "ball"),
    "weights": Falsehood(_weights, "weights"),
    "witness": Falsehood(_witness, "weights"),
    "number": Falsehood(_number),
    "part": Falsehood(_part),
    "missing": Falsehood(_missing),
    "unknown part": Falsehood(_unknown),
    "schema": Falsehood(_schema),
}

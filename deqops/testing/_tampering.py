"""Ways to spoil a certificate: any part of the JSON, numbers made better, witnesses, bytes; signed again or not.

What comes out is not always false: a text for people may have changed, or a rate have become worse.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ._choices import Choices, one_of

Document = dict[str, Any]
Path = tuple[str | int, ...]

_VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**70,
    1.5,
    "",
    "x",
    "nan",
    "inf",
    "-0x1p+0",
    "0x0p+0",
    "0x1p-1",
    [],
    {},
]
_WORDS = {
    "verdict": ("certified", "refuted", "unknown"),
    "theorem": ("picard", "local_picard", "damped", "monotone", "causal", "refute", None),
    "kind": (
        "contraction",
        "unique_equilibrium",
        "converges",
        "global",
        "ball",
        "lipschitz",
        "local",
        "monotone",
        "chain",
    ),
    "order": ("l1", "l2", "linf"),
    "status": ("free", "fixed"),
}


def signed(document: Document) -> Document:
    """With the digest of its present content."""
    content = {key: value for key, value in document.items() if key != "digest"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return content | {"digest": hashlib.sha256(text.encode()).hexdigest()}


def paths(value: Any, here: Path = ()) -> Iterator[Path]:
    """The place of every part below the top."""
    if isinstance(value, dict):
        entries: Any = value.items()
    else:
        entries = enumerate(value) if isinstance(value, list) else ()
    for key, part in entries:
        yield (*here, key)
        yield from paths(part, (*here, key))


def part(document: Any, path: Path) -> Any:
    """The part at a place."""
    for key in path:
        document = document[key]
    return document


def put(document: Any, path: Path, value: Any) -> None:
    """Replace the part at a place."""
    part(document, path[:-1])[path[-1]] = value


def is_number(value: Any) -> bool:
    """Whether a part is a hexadecimal float."""
    return isinstance(value, str) and "0x" in value and "p" in value


# -------------------------------------------------------------------------------------------------- kinds


def better_number(choices: Choices, document: Document) -> None:
    """One number a little smaller or larger wherever it stands, so that the parts still agree."""
    places = [path for path in paths(document) if is_number(part(document, path))]
    if not places:
        return
    old = part(document, one_of(choices, places))
    new = _nudged(choices, float.fromhex(old)).hex()
    for path in places:
        if part(document, path) == old:
            put(document, path, new)


def single_number(choices: Choices, document: Document) -> None:
    """One number changed at one place."""
    places = [path for path in paths(document) if is_number(part(document, path))]
    if places:
        path = one_of(choices, places)
        put(document, path, _nudged(choices, float.fromhex(part(document, path))).hex())


def _nudged(choices: Choices, value: float) -> float:
    kind = choices.integer(0, 3)
    if kind == 2:
        return math.nextafter(value, one_of(choices, (-math.inf, math.inf)))
    if kind == 3:
        return value * (1 + one_of(choices, (-1, 1)) * math.ldexp(1.0, -choices.integer(1, 52)))
    return float(one_of(choices, (0.0, 1.0, value / 2, value * 2, -value, value - 1e-9, 1e300, 2.0**-1074)))


def any_part(choices: Choices, document: Document) -> None:
    """Any part replaced by something of its kind or of another, removed, doubled or moved."""
    places = list(paths(document))
    path = one_of(choices, places)
    parent, key, old = part(document, path[:-1]), path[-1], part(document, path)
    kind = choices.integer(0, 5)
    if kind == 0:
        del parent[key]
    elif kind == 1:
        put(document, path, copy.deepcopy(part(document, one_of(choices, places))))
    elif kind == 2 and isinstance(parent, list):
        parent.append(copy.deepcopy(old))
    elif kind == 3 and isinstance(parent, dict):
        parent[f"{key}_"] = parent.pop(key)
    elif kind == 4 and isinstance(old, str) and old:
        place = choices.integer(0, len(old) - 1)
        put(document, path, old[:place] + one_of(choices, "0123456789abcdefxp+-. ") + old[place + 1 :])
    else:
        put(document, path, one_of(choices, _VALUES))


def another_word(choices: Choices, document: Document) -> None:
    """A verdict, theorem, kind, norm or status exchanged for another, in one place or everywhere."""
    places = [path for path in paths(document) if path[-1] in _WORDS]
    path = one_of(choices, places)
    old, words = part(document, path), _WORDS[str(path[-1])]
    new = one_of(choices, words)
    everywhere = choices.chance(0.5)
    for place in places if everywhere else [path]:
        if place[-1] == path[-1] and part(document, place) == old:
            put(document, place, new)


def witness(choices: Choices, document: Document) -> None:
    """A number of a witness changed, its SHA-256 recomputed or not."""
    if not document["witnesses"]:
        return single_number(choices, document)
    entry = document["witnesses"][one_of(choices, sorted(document["witnesses"]))]
    data = bytearray(base64.b64decode(entry["data"]))
    place = choices.integer(0, len(data) // 8 - 1)
    if choices.chance(0.4):
        data[8 * place + choices.integer(0, 7)] ^= 1 << choices.integer(0, 7)
    else:
        value = float(np.frombuffer(data, "<f8")[place])
        data[8 * place : 8 * place + 8] = np.array([_nudged(choices, value)]).astype("<f8").tobytes()
    entry["data"] = base64.b64encode(bytes(data)).decode()
    if choices.chance(0.9):
        entry["sha256"] = hashlib.sha256(bytes(data)).hexdigest()
    return None


def free_input(choices: Choices, document: Document) -> None:
    """An input said to be free, or fixed to another value."""
    entry = one_of(choices, document["inputs"])
    if choices.chance(0.7):
        entry["status"], entry["sha256"] = "free", None
    else:
        entry["status"], entry["sha256"] = "fixed", hashlib.sha256(bytes(choices.integers(1, 0, 255))).hexdigest()


def converges_instead(choices: Choices, document: Document) -> None:
    """Another claim on the same evidence."""
    claim, region = document["claim"], document["region"]
    damping = one_of(choices, (1.0, 0.5, 1.5, 2.0, 0.0, -0.5, 1e-300)).hex()
    claims: list[Document] = [
        {"kind": "contraction", "norm": document["norm"], "region": region},
        {"kind": "unique_equilibrium", "region": region},
        {"kind": "converges", "iteration": {"kind": "picard", "damping": damping}, "region": region},
    ]
    claim.clear()
    claim.update(one_of(choices, claims))


def global_instead(_: Choices, document: Document) -> None:
    """A local claim made everywhere."""
    document["region"] = {"kind": "global"}
    document["claim"]["region"] = {"kind": "global"}


def schema(choices: Choices, document: Document) -> None:
    """Another schema, format or version."""
    key = one_of(choices, ("schema", "format", "deqops"))
    document[key] = one_of(choices, (2, 0, "1", None, "deqops"))


TAMPERINGS: dict[str, Callable[[Choices, Document], None]] = {
    "a number everywhere": better_number,
    "a number": single_number,
    "any part": any_part,
    "a word": another_word,
    "a witness": witness,
    "an input": free_input,
    "another claim": converges_instead,
    "another region": global_instead,
    "the schema": schema,
}


def spoilt_bytes(choices: Choices, content: bytes) -> bytes:
    """Bits flipped, bytes removed or doubled, the end cut off."""
    data = bytearray(content)
    kind, place = choices.integer(0, 3), choices.integer(0, len(data) - 1)
    if kind == 0:
        data[place] ^= 1 << choices.integer(0, 7)
    elif kind == 1:
        del data[place:]
    elif kind == 2:
        del data[place : place + choices.integer(1, 8)]
    else:
        data[place:place] = data[place : place + choices.integer(1, 8)]
    return bytes(data)

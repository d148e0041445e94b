"""Ways to spoil a certificate: any part of the JSON, numbers made better, witnesses, bytes; signed again or not."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ._drawing import Random

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


def better_number(rng: Random, document: Document) -> None:
    """One number a little smaller or larger wherever it stands, so that the parts still agree."""
    places = [path for path in paths(document) if is_number(part(document, path))]
    if not places:
        return
    old = part(document, places[int(rng.integers(len(places)))])
    new = _nudged(rng, float.fromhex(old)).hex()
    for path in places:
        if part(document, path) == old:
            put(document, path, new)


def single_number(rng: Random, document: Document) -> None:
    """One number changed at one place."""
    places = [path for path in paths(document) if is_number(part(document, path))]
    if places:
        path = places[int(rng.integers(len(places)))]
        put(document, path, _nudged(rng, float.fromhex(part(document, path))).hex())


def _nudged(rng: Random, value: float) -> float:
    kind = rng.integers(4)
    if kind == 0:
        return float(np.nextafter(value, rng.choice([-np.inf, np.inf])))
    if kind == 1:
        return value * (1 + float(rng.choice([-1, 1])) * math.ldexp(1.0, -int(rng.integers(1, 53))))
    return float(rng.choice([0.0, -value, value / 2, value * 2, 1.0, value - 1e-9, 1e300, 2.0**-1074]))


def any_part(rng: Random, document: Document) -> None:
    """Any part replaced by something of its kind or of another, removed, doubled or moved."""
    places = list(paths(document))
    path = places[int(rng.integers(len(places)))]
    parent, key, old = part(document, path[:-1]), path[-1], part(document, path)
    kind = rng.integers(6)
    if kind == 0:
        del parent[key]
    elif kind == 1:
        put(document, path, copy.deepcopy(part(document, places[int(rng.integers(len(places)))])))
    elif kind == 2 and isinstance(parent, list):
        parent.append(copy.deepcopy(old))
    elif kind == 3 and isinstance(parent, dict):
        parent[f"{key}_"] = parent.pop(key)
    elif kind == 4 and isinstance(old, str) and old:
        place = int(rng.integers(len(old)))
        put(document, path, old[:place] + str(rng.choice(list("0123456789abcdefxp+-. "))) + old[place + 1 :])
    else:
        put(document, path, _VALUES[int(rng.integers(len(_VALUES)))])


def another_word(rng: Random, document: Document) -> None:
    """A verdict, theorem, kind, norm or status exchanged for another, in one place or everywhere."""
    places = [path for path in paths(document) if path[-1] in _WORDS]
    path = places[int(rng.integers(len(places)))]
    old, words = part(document, path), _WORDS[str(path[-1])]
    new = words[int(rng.integers(len(words)))]
    everywhere = rng.random() < 0.5
    for place in places if everywhere else [path]:
        if place[-1] == path[-1] and part(document, place) == old:
            put(document, place, new)


def witness(rng: Random, document: Document) -> None:
    """A number of a witness changed, its SHA-256 recomputed or not."""
    if not document["witnesses"]:
        return single_number(rng, document)
    entry = document["witnesses"][str(rng.choice(sorted(document["witnesses"])))]
    data = bytearray(base64.b64decode(entry["data"]))
    place = int(rng.integers(len(data) // 8))
    if rng.random() < 0.4:
        data[8 * place + int(rng.integers(8))] ^= 1 << int(rng.integers(8))
    else:
        value = float(np.frombuffer(data, "<f8")[place])
        data[8 * place : 8 * place + 8] = np.array([_nudged(rng, value)]).astype("<f8").tobytes()
    entry["data"] = base64.b64encode(bytes(data)).decode()
    if rng.random() < 0.9:
        entry["sha256"] = hashlib.sha256(bytes(data)).hexdigest()
    return None


def free_input(rng: Random, document: Document) -> None:
    """An input said to be free, or fixed to another value."""
    entry = document["inputs"][int(rng.integers(len(document["inputs"])))]
    if rng.random() < 0.7:
        entry["status"], entry["sha256"] = "free", None
    else:
        entry["status"], entry["sha256"] = "fixed", hashlib.sha256(rng.bytes(8)).hexdigest()


def converges_instead(rng: Random, document: Document) -> None:
    """Another claim on the same evidence."""
    claim, region = document["claim"], document["region"]
    damping = float(rng.choice([1.0, 0.5, 1.5, 2.0, 0.0, -0.5, 1e-300])).hex()
    choices: list[Document] = [
        {"kind": "contraction", "norm": document["norm"], "region": region},
        {"kind": "unique_equilibrium", "region": region},
        {"kind": "converges", "iteration": {"kind": "picard", "damping": damping}, "region": region},
    ]
    claim.clear()
    claim.update(choices[int(rng.integers(3))])


def global_instead(_: Random, document: Document) -> None:
    """A local claim made everywhere."""
    document["region"] = {"kind": "global"}
    document["claim"]["region"] = {"kind": "global"}


def schema(rng: Random, document: Document) -> None:
    """Another schema, format or version."""
    document[str(rng.choice(["schema", "format", "deqops"]))] = [2, 0, "1", None, "deqops"][int(rng.integers(5))]


KINDS: dict[str, Callable[[Random, Document], None]] = {
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


def spoilt_bytes(rng: Random, content: bytes) -> bytes:
    """Bits flipped, bytes removed or doubled, the end cut off."""
    data = bytearray(content)
    kind, place = rng.integers(4), int(rng.integers(len(data)))
    if kind == 0:
        data[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del data[place:]
    elif kind == 2:
        del data[place : place + int(rng.integers(1, 9))]
    else:
        data[place:place] = data[place : place + int(rng.integers(1, 9))]
    return bytes(data)

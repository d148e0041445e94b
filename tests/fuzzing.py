"""Random bytes, mutated files, and a watch over what a reader does with them."""

from __future__ import annotations

import encodings.cp437  # noqa: F401  # else the first odd name in an archive imports it under the watch
import io
import json
import os
import random
import signal
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SECONDS = 60
MEMORY = 4 * 2**30
VALUES: list[Any] = [None, True, 0, -1, 2**31, 2**63, 2**70, 1.5, 1e308, "", "x", "-0x1p0", "0x1p-1", "nan", "inf"]
WORDS = [b"\x00" * 8, b"\xff" * 8, b"\x7f\xff\xff\xff", struct.pack("<Q", 2**40), struct.pack("<d", float("nan"))]


def random_bytes(rng: random.Random) -> bytes:
    """Up to 64 KiB of anything."""
    return rng.randbytes(rng.choice([0, 1, 7, 8, 9, 64, 1000, 2**16]))


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    """Bytes changed, cut, doubled, removed or overwritten."""
    spoilt = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        place = rng.randrange(len(spoilt) + 1)
        length = rng.choice([1, 2, 8, 100])
        kind = rng.randrange(5)
        if kind == 0 and place < len(spoilt):
            spoilt[place] = rng.randrange(256)
        elif kind == 1:
            spoilt[place : place + length] = b""
        elif kind == 2:
            spoilt[place:place] = spoilt[place : place + length]
        elif kind == 3:
            word = rng.choice(WORDS)
            spoilt[place : place + len(word)] = word
        elif rng.random() < 0.2:
            del spoilt[place:]
    return bytes(spoilt)


def mutated_json(value: Any, rng: random.Random) -> Any:
    """A JSON value with one part replaced, removed, doubled, moved or renamed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        changed = rng.random()
        rest = {name: part for name, part in value.items() if name != key}
        if changed < 0.05:
            return rest
        if changed < 0.1:
            return rest | {rng.choice(["", "x", *sorted(value)]): value[key]}
        if changed < 0.15:
            return value | {key: value[rng.choice(sorted(value))]}
        return value | {key: mutated_json(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        place = rng.randrange(len(value))
        changed = rng.random()
        if changed < 0.1:
            return [*value[:place], *value[place + 1 :]]
        if changed < 0.2:
            return [*value[:place], value[rng.randrange(len(value))], *value[place:]]
        return [*value[:place], mutated_json(value[place], rng), *value[place + 1 :]]
    if isinstance(value, str) and value and rng.random() < 0.5:
        place = rng.randrange(len(value))
        return value[:place] + rng.choice("0123456789abcdefxp+-./ \\\x00é") + value[place + 1 :]
    if isinstance(value, int) and rng.random() < 0.5:
        return value + rng.choice([-1, 1, 8, 2**20])
    return rng.choice([*VALUES, [], {}, [value], {"as_int": -7}, {"as_name": "nobody"}])


def mutated_zip(content: bytes, rng: random.Random) -> bytes:
    """One entry of an archive changed, renamed, removed or doubled; the archive itself stays sound."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    place = rng.randrange(len(entries))
    name, inner = entries[place]
    changed = rng.random()
    if changed < 0.05:
        del entries[place]
    elif changed < 0.1:
        entries[place] = (mutated_bytes(name.encode(), rng).decode("latin-1").replace("\x00", "0") or "x", inner)
    elif changed < 0.15:
        entries[place] = (name, entries[rng.randrange(len(entries))][1])
    else:
        entries[place] = (name, _mutated_entry(name, inner, rng))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for entry, inside in entries:
            archive.writestr(entry, inside)
    return buffer.getvalue()


def _mutated_entry(name: str, content: bytes, rng: random.Random) -> bytes:
    if name.endswith(".json") and rng.random() < 0.8:
        return json.dumps(mutated_json(json.loads(content), rng)).encode()
    return mutated_bytes(content, rng)


def mutated_tensors(content: bytes, rng: random.Random) -> bytes:
    """A `.safetensors` file whose header is changed and still has the length it states."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.dumps(mutated_json(json.loads(content[8 : 8 + length]), rng)).encode()
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


class Watch:
    """Records what a reader must not do: run or load code, start programs, connect, write or remove files."""

    _forbidden = (
        *("exec", "compile", "import", "os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen"),
        *("ctypes.dlopen", "socket.connect", "pickle.find_class", "os.remove", "os.rename"),
    )

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._active = False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._active:
            return
        if event in self._forbidden:
            self.seen.append(f"{event} {str(arguments)[:200]}")
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            self.seen.append(f"open {arguments[0]!r} for writing")

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Watch, and end what takes too long or too much memory."""
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY, hard))
        before = signal.signal(signal.SIGALRM, _hangs)
        signal.alarm(SECONDS)
        self.seen.clear()
        self._active = True
        try:
            yield
        finally:
            self._active = False
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        assert not self.seen, self.seen[:3]


WATCH = Watch()


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _hangs(_signal: int, _frame: Any) -> None:
    pytest.fail(f"the reader took over {SECONDS} seconds")


def read_all(read: Callable[[], Any], refusals: tuple[type[Exception], ...]) -> bool:
    """Whether the file is read; a refusal must be one line of the expected kind, anything else fails."""
    words = None
    try:
        with WATCH():
            read()
    except refusals as refusal:
        words = str(refusal)
    assert words is None or (words.strip() and "\n" not in words and len(words) < 1000), words
    return words is None

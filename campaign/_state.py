"""Where a section stands, kept in a folder: a run that was stopped goes on from its last finished chunk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch

from deqops._atomic import write_atomically

from ._section import Section, Tally, as_json, from_json

ROOT = Path(__file__).parent.parent
FORMAT = "deqops-campaign-1"


@cache
def sources_digest() -> str:
    """SHA-256 of the code under test, of the campaign and of torch's version: results are about these alone."""
    content = hashlib.sha256(torch.__version__.encode())
    for folder in ("deqops", "verify", "campaign"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            content.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return content.hexdigest()


@dataclass
class State:
    """The finished chunks of one section under one seed, and their sum."""

    section: Section
    seed: int
    folder: Path
    done: set[int] = field(default_factory=set)
    tally: Tally = field(default_factory=Tally)
    seconds: float = 0.0

    @property
    def path(self) -> Path:
        """Its file; other code or another seed has another."""
        return self.folder / f"{self.section.name}-{self.seed}-{sources_digest()[:12]}.json"

    @staticmethod
    def load(section: Section, seed: int, folder: Path) -> State:
        """As last saved, or new."""
        state = State(section, seed, folder)
        if state.path.exists():
            content = json.loads(state.path.read_text())
            if content.get("format") == FORMAT and content.get("chunk") == section.chunk:
                state.done, state.seconds = set(content["done"]), content["seconds"]
                state.tally = from_json(content["tally"])
        return state

    def finish(self, chunk: int, tally: Tally, seconds: float) -> None:
        """Add a chunk and save."""
        self.done.add(chunk)
        self.tally.add(tally)
        self.seconds += seconds
        content = {
            "format": FORMAT,
            "section": self.section.name,
            "seed": self.seed,
            "chunk": self.section.chunk,
            "sources": sources_digest(),
            "done": sorted(self.done),
            "seconds": self.seconds,
            "tally": as_json(self.tally),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, (json.dumps(content, indent=1) + "\n").encode())

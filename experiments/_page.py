"""Writes a study's section between its two marks of `docs/results.md`, and its plot beside."""

from __future__ import annotations

from pathlib import Path

from deqops._atomic import write_atomically
from experiments._study import Found, Study

OPENING = """# Results

Each section is made by `python -m experiments.results` (`make experiments`), which trains, measures, certifies and
checks; `--only NAME` makes one section. Numbers are mean ± standard deviation over seeds.
"""


def write_section(study: Study, found: Found, page: Path) -> None:
    """Replace the study's section, or add it at the end; other sections stay as they are."""
    plot = page.parent / "experiments" / f"{page.stem}-{study.name}.svg"
    plot.parent.mkdir(parents=True, exist_ok=True)
    study.plot(found, plot)
    picture = f"\n![{study.title}](experiments/{plot.name})\n" if plot.exists() else ""
    begin, end = f"<!-- begin: {study.name} -->", f"<!-- end: {study.name} -->"
    section = f"{begin}\n## {study.title}\n\n{study.section(found).strip()}\n{picture}{end}\n"
    text = page.read_text(encoding="utf-8") if page.exists() else OPENING
    if begin in text:
        before, rest = text.split(begin, 1)
        text = before + section + rest.split(f"{end}\n", 1)[1]
    else:
        text = f"{text.rstrip()}\n\n{section}"
    write_atomically(page, text.encode("utf-8"))

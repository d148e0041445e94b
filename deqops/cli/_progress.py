"""What a command is doing, on stderr: a bar on a terminal, a line per stage elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

Advance = Callable[[int, int | None, str], None]
"""Reports the steps done, the steps in all (None where nobody knows) and a few words."""


@contextmanager
def stage(title: str) -> Iterator[Advance]:
    """Show that a stage is running; what it yields moves the bar.

    The bar disappears when the stage ends. Where stderr is no terminal the title is printed once.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        click.echo(f"{title} ...", err=True)
        yield lambda done, total, text: None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task(title, total=None, text="")
        yield lambda done, total, text: progress.update(task, completed=done, total=total, text=text)

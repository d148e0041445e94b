"""Problems and methods by name; nothing is built before it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from . import _dense, _graphs, _images, _jax, _ours, _scipy, _torchdeq
from ._method import Method
from ._problem import Problem

SCALES = (1e-3, 1.0, 1e3)
PLANETOID = Path(__file__).resolve().parents[3] / "shared" / "planetoid"
PACKAGES: dict[str, Callable[[], list[Method]]] = {
    "deqops": _ours.methods,
    "torchdeq": _torchdeq.methods,
    "scipy": _scipy.methods,
    "jaxopt": _jax.jaxopt,
    "optimistix": _jax.optimistix,
}


def problems(name: str, quick: bool, planetoid: Path = PLANETOID) -> Iterator[Problem]:
    """The problems of that name: three for f, one for each other name.

    Raises:
        InputError: Cora's files are not there.
    """
    if name == "f":
        yield from (_dense.symmetric(scale, quick) for scale in SCALES)
    elif name == "d":
        yield _graphs.cora(planetoid, quick)
    else:
        yield BUILDERS[name](quick)


BUILDERS: dict[str, Callable[[bool], Problem]] = {
    "a": _dense.linear,
    "b": _dense.gaussian,
    "b-hard": _dense.hard,
    "c": _graphs.graph_map,
    "e": _images.images,
    "g": _dense.slow_sample,
}


def methods() -> tuple[list[Method], list[str]]:
    """All solvers, and the packages that are not installed."""
    found: list[Method] = []
    missing: list[str] = []
    for package, build in PACKAGES.items():
        try:
            found += build()
        except ImportError:
            missing.append(package)
    return found, missing

"""PIGN's graph operators, dropped features and a larger graph: the section `graphs` of `docs/results.md`."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deqops.models import (
    CITATION,
    DEBIAN,
    DIGITS,
    PIGN,
    PIGNSettings,
    accuracies,
    debian_graph,
    digits_graph,
    planetoid_graph,
    train_gcn,
    train_pign,
)
from experiments._study import Circumstances, Found, Study, of_variant, spread
from experiments._verdict import verdict_of

DATA = ("digits", "Cora", "Debian")
NETWORKS = ("propagation", "convolution", "sage", "attention", "once", "GCN")
SHARES = (0.0, 0.3, 0.6, 0.9)
STEPS = (0, 1, 2, 5, 10)
EPOCHS = 50
MOST = 200_000
"""Unknowns that the checker is asked about."""
DESCRIPTIONS = {
    "propagation": "propagation",
    "convolution": "convolution",
    "sage": "sage",
    "attention": "attention",
    "once": "propagation applied once, trained so",
    "GCN": "GCN, two layers",
}


class Graphs(Study):
    """Operators against dropped features and iterations."""

    name = "graphs"
    title = "Graph operators and dropped features"
    variants = (
        *(f"digits {network}" for network in NETWORKS),
        *(f"Cora {network}" for network in NETWORKS),
        *(f"Debian {network}" for network in ("propagation", "once")),
    )

    def measure(self, variant: str, seed: int, here: Circumstances) -> dict[str, Any]:
        """Train, drop features at test, certify."""
        name, network = variant.split()
        data, settings = _data(name, seed, here), _settings(name, network, here)
        checkpoint = here.work / f"graphs-{name}-{network}-{seed}.checkpoint"
        train: Any = train_gcn if network == "GCN" else train_pign
        trained = train(data, settings, seed=seed, checkpoint=checkpoint)
        found: dict[str, Any] = {"accuracy": trained.accuracy["test"], "nodes": len(data.y)}
        found["edges"] = data.edge_index.shape[1]
        found["dropped"] = {str(share): _dropped(trained.model, data, share, seed) for share in SHARES}
        return found | (_verdict(trained.model, data, network) if network in NETWORKS[:4] else {})

    def section(self, found: Found) -> str:
        """A table of accuracies for each graph, one of verdicts, and what they say."""
        tables = [line for name in DATA for line in _accuracies(found, name)]
        return "\n".join([*_opening(found), "", *tables, *_verdicts(found), "", *_words(found)])

    def plot(self, found: Found, path: Path) -> None:
        """Accuracy against dropped features, a line for each number of iterations."""
        _plot(found, path)


def _data(name: str, seed: int, here: Circumstances) -> Any:
    if name == "digits":
        return digits_graph(neighbours=4 if here.smoke else 10, seed=seed)
    if name == "Debian":
        return debian_graph(_made_up(here.work) if here.smoke else here.root or Path("data"), seed=seed)
    if here.root is None:
        raise SystemExit("graphs: its graph Cora is read from --root, a folder with planetoid/Cora/raw")
    return planetoid_graph(name, here.root / "planetoid", seed=seed)


def _made_up(work: Path) -> Path:
    """A folder with a small index of packages."""
    lines = [
        f"Package: p{i}\nSection: {'net' if i % 2 else 'libs'}\nDepends: p{i // 2}\nDescription: word{i % 7}\n"
        for i in range(100)
    ]
    folder = work / "made-up"
    folder.mkdir(exist_ok=True)
    (folder / "dumpavail.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


def _settings(name: str, network: str, here: Circumstances) -> PIGNSettings:
    """Propagation as by default; the others share width, dropout and weight decay."""
    base = {"digits": DIGITS, "Cora": CITATION, "Debian": DEBIAN}[name]
    base = replace(base, epochs=15 if name == "Debian" else EPOCHS, select_every=5)
    if network == "once":
        base = replace(base, steps=1)
    elif network not in ("propagation", "GCN"):
        width = 16 if network == "attention" else 32
        base = replace(base, operator=network, channels=width, dropout=0.2 if name == "Debian" else 0.5)
        base = replace(base, weight_decay=1e-4 if name == "Debian" else 1e-3)
    elif network == "GCN":
        base = replace(base, dropout=0.5, weight_decay=5e-4)
    return replace(base, epochs=2, channels=4, parts=min(base.parts, 2)) if here.smoke else base


def _dropped(model: Any, data: Any, share: float, seed: int) -> dict[str, float]:
    """Test accuracies after some numbers of iterations with a share of all entries of X set to 0."""
    generator = torch.Generator().manual_seed(1000 + seed)
    x: Tensor = data.x * (torch.rand(data.x.shape, generator=generator) >= share)
    x = x.to_sparse().coalesce() if x.numel() > 100_000 else x
    with torch.no_grad():
        own = accuracies(model.eval()(x, data.edge_index), data)["test"]
        if not isinstance(model, PIGN) or model.steps:
            return {"own": own}
        states = list(islice(model.iterates(x, data.edge_index), max(STEPS) + 1))
        by_step = {str(step): accuracies(model.scores(states[step]), data)["test"] for step in STEPS}
    return {**by_step, "own": own}


def _verdict(model: PIGN, data: Any, network: str) -> dict[str, Any]:
    inputs = (data.x, data.edge_index)
    start = model.initial_state(*inputs)
    if network == "attention":
        return _unchecked(model, start, inputs, theorem="absorbing")
    if start.numel() > MOST:
        return _unchecked(model, start, inputs, theorem="picard", norm="l2")
    norm = "linf" if network == "sage" else "l2"
    return verdict_of(model.operator, start, inputs, 0, theorem="picard", norm=norm)


def _unchecked(model: PIGN, start: Tensor, inputs: tuple[Tensor, Tensor], **choices: Any) -> dict[str, Any]:
    """The checker takes minutes for attention on so many edges, and gigabytes for a million unknowns."""
    from deqops.verify import certify

    found = certify(model.operator, start, *inputs, batch_dims=0, **choices)
    norm = str(found.norm.order) if found.norm is not None else "–"
    return {
        "verdict": found.verdict.value,
        "theorem": found.theorem,
        "rate": found.bound,
        "norm": norm,
        "accepted": None,
    }


# ------------------------------------------------------------------------------------------------------- the section


def _opening(found: Found) -> list[str]:
    sizes = {key[0].split()[0]: cell for key, cell in found.items()}
    said = ", ".join(f"{name} {cell['nodes']} nodes, {cell['edges']} edges" for name, cell in sizes.items())
    return [
        "`python -m experiments.results --root <folder with planetoid/> --only graphs` (Debian's packages: "
        "`dumpavail.txt` in that folder, or apt-cache's index of the day)",
        "",
        f"{said}. {EPOCHS} epochs, Debian 15, each on the parts of a random partition into {DEBIAN.parts}, the "
        "equilibrium on the whole graph at test. A share of all entries of X is set to 0 at test alone. Settings were "
        "not tuned to these figures.",
    ]


def _accuracies(found: Found, name: str) -> list[str]:
    heads = [f"{share:.0%} dropped" for share in SHARES]
    lines = [f"### {name}", "", "| network, iterations | " + " | ".join(heads) + " |", "|---|" + "---|" * len(SHARES)]
    for network in NETWORKS:
        cells = of_variant(found, f"{name} {network}")
        if not cells:
            continue
        steps = [step for step in (*map(str, STEPS), "own") if step in cells[0]["dropped"]["0.0"]]
        for step in steps:
            label = DESCRIPTIONS[network] + ("" if len(steps) == 1 else f", {'equilibrium' if step == 'own' else step}")
            entries = [spread([cell["dropped"][str(share)][step] for cell in cells]) for share in SHARES]
            lines.append(f"| {label} | {' | '.join(entries)} |")
    return [*lines, ""]


def _verdicts(found: Found) -> list[str]:
    lines = ["| trained operator | verdicts | theorem, norm | constant at most | checker |", "|---|---|---|---|---|"]
    for variant in Graphs.variants:
        cells = [cell for cell in of_variant(found, variant) if "verdict" in cell]
        if not cells:
            continue
        verdicts = [cell["verdict"] for cell in cells]
        said = ", ".join(f"{verdicts.count(one)} {one}" for one in sorted(set(verdicts)))
        theorems = ", ".join(sorted({f"{cell['theorem']}, {_norm(cell)}" for cell in cells}))
        rates = [cell["rate"] for cell in cells if cell["rate"] is not None]
        rate = f"{math.ceil(max(rates) * 1e6) / 1e6:.6f}" if rates else "–"
        accepted = [bool(cell["accepted"]) for cell in cells if cell["accepted"] is not None]
        checked = f"{sum(accepted)} of {len(accepted)} accept" if accepted else "not asked"
        lines.append(f"| {variant} | {said} | {theorems} | {rate} | {checked} |")
    return lines


def _norm(cell: dict[str, Any]) -> str:
    if cell["theorem"] == "absorbing":
        return "weighted linf"
    return "linf" if "linf" in str(cell["norm"]) else "l2"


def _mean(found: Found, variant: str, share: float, step: str) -> float:
    values = [cell["dropped"][str(share)][step] for cell in of_variant(found, variant)]
    return sum(values) / len(values) if values else math.nan


def _words(found: Found) -> list[str]:
    lines = []
    for name in DATA:
        for share in (SHARES[0], SHARES[-1]):
            own = {n: _mean(found, f"{name} {n}", share, "own") for n in NETWORKS if of_variant(found, f"{name} {n}")}
            if len(own) < 2:
                continue
            gain = {n: own[n] - _mean(found, f"{name} {n}", share, "1") for n in own if n not in ("once", "GCN")}
            gains = ", ".join(f"{n} {value:+.3f}" for n, value in gain.items())
            best = max(own, key=lambda n: own[n])
            lines.append(
                f"- {name}, {share:.0%} dropped: the best is {DESCRIPTIONS[best]} ({own[best]:.3f}). From one step "
                f"to the equilibrium the accuracy changes by: {gains}."
            )
    lines.append(
        "- Attention's certificates (T11: its values fall into a box, on which it contracts) were not given to the "
        "checker here, which takes minutes on so many edges; `tests/test_models_graphs.py` checks a small one. "
        "Nor were those of Debian's packages: the checker's balls for a million unknowns take more than 7 GB."
    )
    return lines


def _plot(found: Found, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "deqops"
    from matplotlib import pyplot

    networks = NETWORKS[:4]
    figure, axes = pyplot.subplots(2, 4, figsize=(11, 5.4), sharex=True, sharey="row", layout="constrained")
    for row, name in enumerate(DATA[:2]):
        for column, network in enumerate(networks):
            axis, cells = axes[row, column], of_variant(found, f"{name} {network}")
            axis.set_title(f"{name}, {network}", fontsize="medium")
            for number, step in enumerate((*map(str, STEPS), "own")) if cells else ():
                label = "equilibrium" if step == "own" else step
                means = [_mean(found, f"{name} {network}", share, step) for share in SHARES]
                axis.plot(SHARES, means, color=f"C{number}", marker=".", label=label)
            if row == 1:
                axis.set_xlabel("share of dropped features")
        axes[row, 0].set_ylabel("test accuracy")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), title="iterations")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)

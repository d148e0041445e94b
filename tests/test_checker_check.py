"""`check` accepts true certificates at tight rates and rejects every edited one, without a traceback."""

from __future__ import annotations

import ast
import base64
import contextlib
import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from checker_builder import GraphBuilder, claimed, witness
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils import _pytree as pytree
from vocabulary import EVALUATIONS, evaluate

import deqops.verify.checker as checker
from deqops import UnsupportedOperationError
from deqops._errors import ModelFileError
from deqops.graph import ConcreteGraph
from deqops.testing import signed
from deqops.verify.checker import CheckReport, _subject, check

SLACK = 1 + 2.0**-40


class Prepared:
    """An operator graph made by hand."""

    def __init__(self, graph: ConcreteGraph, impure: tuple[str, ...] = ()) -> None:
        self.graph, self.impure = graph, impure

    def concrete(self, y0: Any, *inputs: Any) -> ConcreteGraph:
        return self.graph

    def __call__(self, y0: Any, *inputs: Any) -> list[Tensor]:
        """What a program of the same operations computes."""
        strange = [node.op for node in self.graph.nodes if node.op not in EVALUATIONS]
        if strange:
            raise UnsupportedOperationError(strange[0], "has no program here")
        return evaluate(self.graph, pytree.tree_leaves(y0))


@pytest.fixture(autouse=True)
def _prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    real = _subject.trace
    monkeypatch.setattr(
        _subject,
        "trace",
        lambda G, *args, **kwargs: G if isinstance(G, Prepared) else real(G, *args, **kwargs),
    )


def report(document: Any, graph: ConcreteGraph, *inputs: Tensor) -> CheckReport:
    state = [graph.leaves[value].tensor for value in graph.state]
    return check(document, Prepared(graph), state[0] if len(state) == 1 else state, *inputs)


def accepted(document: Any, graph: ConcreteGraph, *inputs: Tensor) -> bool:
    found = report(document, graph, *inputs)
    assert found.accepted == (not found.reasons), found
    assert found.accepted == bool(found.verified)
    return found.accepted


def rejected(document: Any, graph: ConcreteGraph, *inputs: Tensor, because: str) -> None:
    found = report(document, graph, *inputs)
    assert not found.accepted
    assert because in found.reasons[0], found.reasons
    assert len(found.reasons[0].splitlines()) == 1


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, 2))


def layer(gain: float = 0.9, batch: int = 3) -> tuple[ConcreteGraph, Tensor, float]:
    """`tanh(z W^T + x)` for states (batch, 4), ||W||_2 nearly `gain`; its graph, x and that norm."""
    w = random(4, 4, seed=1)
    w = w * (gain / norm(w))
    build = GraphBuilder(random(batch, 4), batch_dims=1)
    x = random(batch, 4, seed=2)
    y = build.op("add", build.op("matmul", build.state[0], build.constant(w.T.contiguous())), build.input(x))
    return build.graph(build.op("tanh", y)), x, norm(w)


# ------------------------------------------------------------------------------------------ true certificates


@pytest.mark.parametrize("kind", ["contraction", "unique_equilibrium", "converges"])
@pytest.mark.parametrize("free", [True, False])
def test_accepts_a_layer_at_its_tight_rate(kind: str, free: bool) -> None:
    graph, x, q = layer()
    document = claimed(graph, kind=kind, bound=q * SLACK, free=("input_2",) if free else ())
    name = graph.leaves[graph.inputs[0]].name
    document = claimed(graph, kind=kind, bound=q * SLACK, free=(name,) if free else ())
    assert accepted(document, graph, x)


def test_rejects_a_rate_just_below_the_truth() -> None:
    graph, x, q = layer()
    rejected(claimed(graph, bound=q * (1 - 1e-12)), graph, x, because="Lipschitz constant")


@pytest.mark.parametrize("rate", [1.0, 1.5, math.nan, math.inf, -0.5])
def test_rejects_rates_outside_the_unit_interval(rate: float) -> None:
    graph, x, _ = layer()
    rejected(claimed(graph, bound=0.95, rate=rate), graph, x, because="rate")


def test_rejects_a_bound_of_at_least_one_whatever_the_rate() -> None:
    graph, x, _ = layer(gain=1.2)
    rejected(claimed(graph, bound=1.3, rate=0.99), graph, x, because="rate")
    rejected(claimed(graph, bound=0.95), graph, x, because="Lipschitz constant")


def test_accepts_and_bounds_damping() -> None:
    graph, x, q = layer(gain=0.5)
    damped = {"kind": "converges", "theorem": "damped", "bound": q * SLACK}
    assert accepted(claimed(graph, **damped, damping=0.5, rate=0.76), graph, x)
    assert accepted(claimed(graph, **damped, damping=1.2, rate=0.81), graph, x)
    rejected(claimed(graph, **damped, damping=1.2, rate=0.79), graph, x, because="|1 - b|")
    rejected(claimed(graph, **damped, damping=1.4, rate=0.99), graph, x, because="|1 - b|")
    rejected(claimed(graph, **damped, damping=0.0, rate=0.99), graph, x, because="damping")
    rejected(claimed(graph, **damped, damping=-0.1, rate=0.99), graph, x, because="|1 - b|")
    over = claimed(graph, kind="converges", bound=q * SLACK, damping=1.4)
    rejected(over, graph, x, because="|1 - b|")
    rejected(claimed(graph, bound=q * SLACK, theorem="damped"), graph, x, because="contraction")


def test_accepts_weighted_norms_and_rejects_edited_weights() -> None:
    w = torch.tensor([[0.1, 5.0], [0.01, 0.1]], dtype=torch.float64)
    build = GraphBuilder(random(3, 2), batch_dims=1)
    graph = build.graph(build.op("tanh", build.op("matmul", build.state[0], build.constant(w.T.contiguous()))))
    weight = torch.tensor([0.05, 1.0], dtype=torch.float64)
    scaled = torch.diag(weight) @ w @ torch.diag(1 / weight)
    truths = {"l1": scaled.abs().sum(0).max(), "linf": scaled.abs().sum(1).max(), "l2": norm(scaled)}
    for order, truth in truths.items():
        document = claimed(graph, order=order, bound=float(truth) * SLACK, weights=[weight])
        assert accepted(document, graph)
        for change in ([1.0, 3.0], [3.0, 1.0]):
            other = weight * torch.tensor(change)
            edited = claimed(graph, order=order, bound=float(truth) * SLACK, weights=[other])
            rejected(edited, graph, because="Lipschitz constant")
        assert not accepted(claimed(graph, order=order, bound=float(truth) * SLACK), graph)
    for bad in ([0.0, 1.0], [-0.05, 1.0], [math.nan, 1.0], [math.inf, 1.0]):
        document = claimed(graph, order="l1", bound=0.9, weights=[torch.tensor(bad, dtype=torch.float64)])
        assert not accepted(document, graph)
    rejected(claimed(graph, order="l1", bound=0.9, weights=[torch.ones(3, 2)]), graph, because="shapes")


def test_accepts_a_dictionary_state() -> None:
    a, b = random(3), random(2, seed=1)
    build = GraphBuilder(a, b)
    u, _ = build.state
    w = random(2, 3, seed=2) * 0.2
    new_a = build.op("mul", build.constant(0.5), u)
    new_b = build.op("tanh", build.op("matmul", build.constant(w), u))
    graph = build.graph(new_a, new_b)
    truth = norm(torch.tensor([[0.5, 0.0], [norm(w), 0.0]], dtype=torch.float64))
    document = claimed(graph, bound=truth * SLACK)
    assert check(document, Prepared(graph), {"a": a, "b": b}).accepted
    assert not check(claimed(graph, bound=truth * (1 - 1e-9)), Prepared(graph), {"a": a, "b": b}).accepted


# ----------------------------------------------------------------------------------------------- local claims


def local(radius: float = 0.05, order: str = "l2") -> tuple[ConcreteGraph, Tensor, float]:
    """`gelu(z W)` around a nearly fixed point: not a contraction everywhere."""
    w = 1.3 * torch.eye(3, dtype=torch.float64)
    build = GraphBuilder(torch.zeros(2, 3, dtype=torch.float64), batch_dims=1)
    gelu = build.op("gelu", build.op("matmul", build.state[0], build.constant(w)), approximate="none")
    x = torch.tensor(radius, dtype=torch.float64) * 1.3
    cdf = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    slope = float(1.3 * (cdf + x * torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)))
    return build.graph(gelu), torch.zeros(2, 3, dtype=torch.float64), slope


@pytest.mark.parametrize("order", ["l1", "l2", "linf"])
def test_accepts_a_local_claim_and_no_larger_ball(order: str) -> None:
    graph, centre, slope = local(0.05)
    bound = slope * SLACK * (1 + 1e-14)
    good = {"theorem": "local_picard", "order": order, "bound": bound, "centre": [centre], "residual": 0.0}
    for kind in ("contraction", "unique_equilibrium", "converges"):
        assert accepted(claimed(graph, kind=kind, radius=0.05, **good), graph)
    rejected(claimed(graph, radius=0.0501, **good), graph, because="on the ball")
    rejected(claimed(graph, radius=0.05, **good | {"theorem": "picard"}), graph, because="evidence")
    rejected(claimed(graph, radius=0.05, **good | {"residual": None, "theorem": "picard"}), graph, because="region")
    rejected(claimed(graph, radius=0.05, **good | {"centre": None}), graph, because="region")
    moved = good | {"centre": [centre + 0.01]}
    rejected(claimed(graph, radius=0.05, **moved), graph, because="residual")
    over = claimed(graph, kind="converges", radius=0.05, damping=1.1, **good)
    rejected(over, graph, because="damping")


def test_a_local_claim_needs_room_for_its_residual() -> None:
    w = 0.5 * torch.eye(2, dtype=torch.float64)
    build = GraphBuilder(torch.zeros(2, dtype=torch.float64))
    sum_ = build.op(
        "add",
        build.op("matmul", build.constant(w), build.state[0]),
        build.constant(torch.tensor(0.1, dtype=torch.float64)),
    )
    graph = build.graph(sum_)
    centre = torch.zeros(2, dtype=torch.float64)  # the residual is (0.1, 0.1)
    local_claim = {"theorem": "local_picard", "order": "linf", "bound": 0.5, "centre": [centre]}
    assert accepted(claimed(graph, radius=0.25, residual=0.1, **local_claim), graph)
    rejected(claimed(graph, radius=0.25, residual=0.09, **local_claim), graph, because="residual")
    rejected(claimed(graph, radius=0.19, residual=0.1, **local_claim), graph, because="(1 - bound) radius")


def test_a_local_l2_claim_uses_the_rows_of_the_map() -> None:
    """A dense orthogonal map: entrywise boxes alone would move pre-activations much further."""
    n = 16
    house = torch.eye(n, dtype=torch.float64) - torch.ones(n, n, dtype=torch.float64) * 2 / n
    build = GraphBuilder(torch.zeros(1, n, dtype=torch.float64), batch_dims=1)
    out = build.op("gelu", build.op("matmul", build.state[0], build.constant(house)), approximate="none")
    graph = build.graph(out)
    radius = 0.25
    x = torch.tensor(radius, dtype=torch.float64)
    slope = float(0.5 * (1 + torch.erf(x / math.sqrt(2))) + x * torch.exp(-x * x / 2) / math.sqrt(2 * math.pi))
    good = {"theorem": "local_picard", "centre": [torch.zeros(1, n)], "radius": radius, "residual": 0.0}
    assert accepted(claimed(graph, bound=slope * SLACK, **good), graph)
    rejected(claimed(graph, bound=slope * (1 - 1e-6), **good), graph, because="on the ball")


# ------------------------------------------------------------------------------------------------ refutations


def refuted(graph: ConcreteGraph, y: Tensor, z: Tensor, **changes: Any) -> dict[str, Any]:
    options = {"verdict": "refuted", "theorem": "refute", "points": ([y], [z])} | changes
    return claimed(graph, **options)


@pytest.mark.parametrize("order", ["l1", "l2", "linf"])
def test_accepts_two_points_that_are_not_brought_closer(order: str) -> None:
    w = torch.diag(torch.tensor([1.01, 0.2], dtype=torch.float64))
    build = GraphBuilder(torch.zeros(2, 2, dtype=torch.float64), batch_dims=1)
    graph = build.graph(build.op("tanh", build.op("matmul", build.state[0], build.constant(w))))
    y = torch.tensor([[0.0, 0.0], [0.01, 0.0]], dtype=torch.float64)
    z = torch.tensor([[0.0, 0.0], [-0.01, 0.0]], dtype=torch.float64)
    assert accepted(refuted(graph, y, z, order=order, problem=1), graph)
    rejected(refuted(graph, y, z, order=order, problem=0), graph, because="the same")
    rejected(refuted(graph, y, z, order=order, problem=2), graph, because="problem")
    rejected(refuted(graph, y.flip(1), z.flip(1), order=order, problem=1), graph, because="closer")
    rejected(refuted(graph, 50 * y, 50 * z, order=order, problem=1), graph, because="closer")
    rejected(refuted(graph, y, z, kind="unique_equilibrium", problem=1), graph, because="contraction")
    rejected(refuted(graph, y, z, verdict="certified", problem=1), graph, because="theorem")
    inside = {"order": order, "problem": 1, "centre": [torch.zeros(2, 2)]}
    assert accepted(refuted(graph, y, z, radius=0.01, **inside), graph)
    rejected(refuted(graph, y, z, radius=0.009, **inside), graph, because="outside")


def test_an_isometry_is_refuted_exactly() -> None:
    """||G(y) - G(z)|| = ||y - z|| is decided without a rounding error."""
    build = GraphBuilder(torch.zeros(3, dtype=torch.float64))
    graph = build.graph(build.op("add", build.state[0], build.constant(0.1)))
    for order in ("l1", "l2", "linf"):
        assert accepted(refuted(graph, random(3), random(3, seed=1), order=order), graph)


# --------------------------------------------------------------------------------------- subject of the claim


def test_rejects_another_model_state_or_input() -> None:
    graph, x, q = layer()
    document = claimed(graph, bound=q * SLACK)
    other = ConcreteGraph(graph.leaves, graph.nodes, graph.outputs, 1, "1" * 64, graph.input_names)
    rejected(document, other, x, because="fingerprint")
    nudged, _, _ = layer()
    index = nudged.inputs[0]
    leaf = nudged.leaves[index]
    changed = leaf.tensor.clone()
    changed[0, 0] = math.nextafter(float(changed[0, 0]), math.inf)
    leaves = dict(nudged.leaves) | {index: type(leaf)(leaf.kind, leaf.position, leaf.name, changed)}
    nudged = ConcreteGraph(leaves, graph.nodes, graph.outputs, 1, graph.fingerprint, graph.input_names)
    rejected(document, nudged, changed, because="fixed")
    for state in (
        torch.zeros(2, 4, dtype=torch.float64),
        torch.zeros(3, 4),
        [torch.zeros(3, 4).double()] * 2,
        3,
    ):
        found = check(document, Prepared(graph), state, x)
        assert not found.accepted
        assert "state" in found.reasons[0]
    assert not check(document, Prepared(graph, ("aten.dropout.default",)), random(3, 4), x).accepted


def test_a_free_input_must_not_be_used() -> None:
    build = GraphBuilder(random(3))
    x = torch.full((3,), 0.5, dtype=torch.float64)
    graph = build.graph(build.op("mul", build.state[0], build.input(x)))
    name = graph.leaves[graph.inputs[0]].name
    assert accepted(claimed(graph, bound=0.5), graph, x)
    rejected(claimed(graph, bound=0.5, free=(name,)), graph, x, because="free")


def test_rejects_weights_that_are_not_finite() -> None:
    for bad in (math.nan, math.inf):
        build = GraphBuilder(random(3))
        out = build.op("add", build.op("mul", build.constant(0.5), build.state[0]), build.constant(bad))
        graph = build.graph(out)
        rejected(claimed(graph, bound=0.5), graph, because="NaN")


def test_rejects_a_batch_that_mixes_problems() -> None:
    build = GraphBuilder(random(3, 2), batch_dims=1)
    mean = build.op("mean", build.state[0], dims=(0,), keepdim=True)
    graph = build.graph(
        build.op(
            "add",
            build.op("mul", build.constant(0.25), build.state[0]),
            build.op("mul", build.constant(0.25), mean),
        )
    )
    assert not accepted(claimed(graph, bound=0.9), graph)


def test_unsupported_operations_are_rejected_by_name() -> None:
    build = GraphBuilder(random(3))
    graph = build.graph(build.op("mul", build.state[0], build.state[0]))
    rejected(claimed(graph, bound=0.5), graph, because="aten.mul")


# ----------------------------------------------------------------------------------------------- the document


def test_nothing_is_claimed_by_an_unknown_verdict() -> None:
    graph, x, _ = layer()
    document = claimed(graph)
    document = signed(document | {"verdict": "unknown", "theorem": None, "rate": None, "evidence": None, "reason": "?"})
    found = report(document, graph, x)
    assert (found.accepted, found.verdict, found.reasons) == (False, "unknown", ("nothing is claimed",))


def test_hypotheses_must_agree_with_the_evidence() -> None:
    graph, x, q = layer()
    document = claimed(graph, bound=q * SLACK)
    true = {
        "name": "contraction",
        "statement": "q < 1",
        "value": (q * SLACK).hex(),
        "limit": (1.0).hex(),
        "holds": True,
    }
    assert accepted(signed(document | {"hypotheses": [true]}), graph, x)
    for change in (
        {"value": (0.1).hex()},
        {"limit": (2.0).hex()},
        {"holds": False},
        {"holds": None},
        {"name": "magic"},
    ):
        rejected(signed(document | {"hypotheses": [true | change]}), graph, x, because="hypotheses")


def test_claim_norm_and_region_must_agree() -> None:
    graph, x, q = layer()
    document = claimed(graph, bound=q * SLACK)
    linf = {"order": "linf", "weights": None}
    claim = document["claim"]
    rejected(signed(document | {"claim": claim | {"norm": linf}}), graph, x, because="norm")
    rejected(signed(document | {"norm": linf}), graph, x, because="norm")
    ball = claimed(graph, bound=q * SLACK, centre=[torch.zeros(3, 4)])
    rejected(
        signed(document | {"region": ball["region"], "witnesses": ball["witnesses"]}),
        graph,
        x,
        because="region",
    )
    unused = document | {"witnesses": {"spare": witness(torch.ones(2))}}
    rejected(signed(unused), graph, x, because="spare")


def test_the_digest_covers_everything() -> None:
    graph, x, q = layer()
    document = claimed(graph, bound=q * SLACK)
    for key, value in (
        ("rate", (0.01).hex()),
        ("deqops", "9"),
        ("contributions", [{"part": "a", "gain": "0x0.0p+0"}]),
    ):
        rejected(document | {key: value}, graph, x, because="digest")


def paths(entry: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside a JSON value."""
    found = [prefix] if prefix else []
    pairs = entry.items() if isinstance(entry, dict) else enumerate(entry) if isinstance(entry, list) else ()
    for key, value in pairs:
        found += paths(value, (*prefix, key))
    return found


def put(document: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


STRANGE: list[Any] = [None, True, 0, 1, -1, 2**70, 1.5, math.nan, math.inf, "", "x", "0x1.8p-1", "nan", "inf"]
STRANGE += [[], {}, [1], ["weights_0"], {"kind": "global"}, "\ud800", b"x", {1, 2}]


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.data())
def test_strange_values_anywhere_are_rejected_without_a_traceback(data: st.DataObject) -> None:
    weight = torch.tensor([1.0, 2.0, 1.0, 1.0], dtype=torch.float64)
    graph, x, _ = layer(gain=0.3)
    kind = data.draw(st.sampled_from(["global", "ball", "points"]))
    options: dict[str, Any] = {"weights": [weight], "bound": 0.8}
    if kind == "ball":
        options |= {
            "theorem": "local_picard",
            "centre": [torch.zeros(3, 4)],
            "radius": 100.0,
            "residual": 10.0,
        }
    if kind == "points":
        options |= {
            "verdict": "refuted",
            "theorem": "refute",
            "points": ([torch.zeros(3, 4)], [torch.ones(3, 4)]),
        }
    document = claimed(graph, **options)
    document["hypotheses"] = [
        {
            "name": "contraction",
            "statement": "q < 1",
            "value": (0.8).hex(),
            "limit": (1.0).hex(),
            "holds": True,
        }
    ]
    document["contributions"] = [{"part": "tanh", "gain": (1.0).hex()}]
    document = signed(document)
    path = data.draw(st.sampled_from(paths(document)))
    value = data.draw(st.sampled_from(STRANGE))
    changed = put(document, path, value)
    if path != ("digest",):
        with contextlib.suppress(TypeError, ValueError):  # not JSON: the digest stays as it was
            changed = signed(changed)
    original = document
    for key in path:
        original = original[key]
    harmless = path[0] in ("deqops", "reason") or path[-1] in ("statement", "part", "gain")
    try:
        found = report(changed, graph, x)
    except ModelFileError:
        return
    same = type(original) is type(value) and original == value
    shorter = path in (("hypotheses",), ("contributions",)) and value == []
    assert harmless or same or shorter or not found.accepted, (path, value)


def test_missing_and_extra_keys_are_refused() -> None:
    graph, x, q = layer()
    document = claimed(graph, bound=q * SLACK, weights=[torch.ones(4)])
    assert accepted(document, graph, x)
    for path in paths(document):
        holder = document
        for key in path[:-1]:
            holder = holder[key]
        if isinstance(holder, dict) and path[0] != "digest":
            shorter = (
                put(document, path[:-1], {k: v for k, v in holder.items() if k != path[-1]})
                if path[:-1]
                else {k: v for k, v in document.items() if k != path[-1]}
            )
            if path[-1] in ("format", "schema") and len(path) == 1:
                with pytest.raises(ModelFileError):
                    report(signed(shorter), graph, x)
            else:
                assert not accepted(signed(shorter), graph, x)
    for path in [(), *paths(document)]:
        holder = document
        for key in path:
            holder = holder[key]
        if isinstance(holder, dict):
            longer = put(document, (*path, "spare"), 1)
            assert not accepted(signed(longer), graph, x)


# ------------------------------------------------------------------------------------------------------ files


def test_reads_files_and_their_siblings(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    graph, x, q = layer()
    weights = torch.ones(4, dtype=torch.float64)
    document = claimed(graph, bound=q * SLACK, weights=[weights])
    path = tmp_path / "c.json"
    path.write_text(json.dumps(document))
    assert accepted(path, graph, x)
    assert accepted(str(path), graph, x)
    entry = {k: v for k, v in document["witnesses"]["weights_0"].items() if k != "data"}
    save_file({"weights_0": weights.numpy()}, tmp_path / "w.safetensors")
    beside = signed(document | {"witnesses": {"weights_0": entry | {"file": "w.safetensors"}}})
    path.write_text(json.dumps(beside))
    assert accepted(path, graph, x)
    rejected(beside, graph, x, because="file")
    save_file({"weights_0": 2 * weights.numpy()}, tmp_path / "w.safetensors")
    rejected(path, graph, x, because="sha256")
    save_file({"other": weights.numpy()}, tmp_path / "w.safetensors")
    rejected(path, graph, x, because="weights_0")


def test_follows_no_links_and_no_paths(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    graph, x, q = layer()
    weights = torch.ones(4, dtype=torch.float64)
    document = claimed(graph, bound=q * SLACK, weights=[weights])
    entry = {k: v for k, v in document["witnesses"]["weights_0"].items() if k != "data"}
    inner = tmp_path / "inner"
    inner.mkdir()
    save_file({"weights_0": weights.numpy()}, tmp_path / "w.safetensors")
    (inner / "link.safetensors").symlink_to(tmp_path / "w.safetensors")
    (inner / "folder.safetensors").mkdir()
    (inner / "cut.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:40])
    names = ["link.safetensors", "../w.safetensors", str(tmp_path / "w.safetensors"), "folder.safetensors"]
    for name in [*names, "cut.safetensors", "missing.safetensors", ".safetensors", "w.json"]:
        path = inner / "c.json"
        path.write_text(json.dumps(signed(document | {"witnesses": {"weights_0": entry | {"file": name}}})))
        rejected(path, graph, x, because="witnesses.weights_0")


UNREADABLE = [
    b"",
    b"{",
    b"[]",
    b"\xff\xfe",
    b'{"format": "other"}',
    b"[" * 100000,
    b'{"a": 1, "a": 2}',
    b"NaN",
]
UNREADABLE += [b'{"format": "deqops-certificate", "schema": 2}']


@pytest.mark.parametrize("content", UNREADABLE, ids=range(len(UNREADABLE)))
def test_unreadable_files_raise(content: bytes, tmp_path: Path) -> None:
    graph, x, _ = layer()
    path = tmp_path / "c.json"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="certificate"):
        report(path, graph, x)
    with pytest.raises(ModelFileError, match="certificate"):
        report(tmp_path / "missing.json", graph, x)


def test_other_kinds_of_certificate_raise() -> None:
    graph, x, q = layer()
    with pytest.raises(ModelFileError, match="certificate"):
        report(3, graph, x)

    class WithDocument:
        def document(self) -> dict[str, Any]:
            return claimed(graph, bound=q * SLACK)

    assert accepted(WithDocument(), graph, x)


def test_a_witness_is_not_larger_than_a_file_allows(tmp_path: Path) -> None:
    graph, x, _ = layer()
    document = claimed(graph, weights=[torch.ones(4)])
    big = witness(torch.ones(2**17 + 1))
    assert len(base64.b64decode(big["data"])) > 2**20
    path = tmp_path / "c.json"
    path.write_text(json.dumps(signed(document | {"witnesses": {"weights_0": big}})))
    rejected(path, graph, x, because="at most")
    huge = document["witnesses"]["weights_0"] | {"shape": [2**30, 2**30]}
    rejected(signed(document | {"witnesses": {"weights_0": huge}}), graph, x, because="bytes")


# ----------------------------------------------------------------------------------------------- independence


def test_the_checker_imports_only_the_graph_the_errors_and_the_file_guard() -> None:
    folder = Path(checker.__file__).parent
    allowed = {"deqops.graph", "deqops._errors", "deqops._files"}  # the last only refuses pipes and devices
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith(("deqops", "verify")) for alias in node.names), file
            if isinstance(node, ast.ImportFrom):
                assert node.level <= 1, file
                outside = node.level == 0 and (node.module or "").startswith(("deqops", "verify"))
                assert not outside or node.module in allowed, (file, node.module)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("__import__", "exec", "eval"), file

"""`deqops prove`: what it proves is true of the exact weights, and everything altered is rejected."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from prove_cases import SIZE, Model, case, needs_coq, saved

from deqops._errors import InputError, UnsupportedOperationError
from deqops._tensorfile import TensorFile
from deqops.cli import main
from deqops.graph import trace
from deqops.verify import certify
from deqops.verify._perturbed import RoundingFloor
from deqops.verify.prove import Proof, prove
from deqops.verify.prove._dyadic import Dyadic
from deqops.verify.prove._euclid import euclidean_proof
from deqops.verify.prove._exact import contraction_fault, floats_fault, location_fault, sup_norm_fault
from deqops.verify.prove._extracted import extracted_fault
from deqops.verify.prove._float_layer import FloatBox, float_box
from deqops.verify.prove._floats import float_floor
from deqops.verify.prove._kernel import Verdict, assumptions, judge
from deqops.verify.prove._locate import Box, locate
from deqops.verify.prove._network import Network
from deqops.verify.prove._recognise import recognise
from deqops.verify.prove._sup_norm import SupNorm, chosen_norm, proof_in
from deqops.verify.prove._theory import compiled

ACTIVATIONS = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "clamp": torch.nn.functional.hardtanh,
    "identity": lambda x: x,
}


def network(model: Model, batch: int = 1, problem: int = 0, known: bool = True) -> Network:
    _, graph, given = case(model, batch=batch)
    return recognise(graph.concrete(given.state, *given.inputs), known=known, problem=problem)


def exact_value(one: Network, point: list[Fraction]) -> list[Fraction]:
    """The network of piecewise linear layers at a rational point, in rational arithmetic."""
    for layer in one.layers:
        assert layer.shift is not None
        image = []
        for i, row in enumerate(layer.mantissas):
            total = sum((int(a) * z for a, z in zip(row, point, strict=True)), Fraction(0))
            total = total / 2 ** layer.exponents[i] + Fraction(layer.shift.values[i], 2 ** layer.shift.places[i])
            image.append(max(total, Fraction(0)) if layer.activation.name == "relu" else total)
        point = image
    return point


# --- reading layers ---------------------------------------------------------------------------------------------


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=6))
def test_floats_become_exactly_what_they_are(values: list[float]) -> None:
    one = Dyadic.of(torch.tensor(values, dtype=torch.float64))
    assert [Fraction(int(m), 2**one.exponent) for m in one.mantissas] == [Fraction(v) for v in values]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("hidden", [0, 4])
def test_layers_are_read_exactly(hidden: int, batch: int) -> None:
    model = Model(torch.relu, hidden)
    one = network(model, batch, batch - 1)
    assert [layer.activation.name for layer in one.layers] == (["relu", "tanh"] if hidden else ["relu"])
    matrices = [model.first] + ([] if model.second is None else [model.second])
    for layer, matrix in zip(one.layers, matrices, strict=True):
        rows = [[Fraction(int(m), 2**e) for m in row] for row, e in zip(layer.mantissas, layer.exponents, strict=True)]
        assert rows == [[Fraction(w) for w in row] for row in matrix.tolist()]
    shift = one.layers[-1].shift
    assert shift is not None
    assert shift.exact
    x = case(model, batch=batch)[2].inputs[0][batch - 1].tolist()
    for i, row in enumerate(model.inner.tolist()):
        exact = sum((Fraction(a) * Fraction(b) for a, b in zip(row, x, strict=True)), Fraction(model.bias[i].item()))
        assert Fraction(shift.values[i], 2 ** shift.places[i]) == exact


def test_scaled_shifted_and_sliced_layers_are_read_exactly() -> None:
    W = torch.tensor([[0.25, 0.5], [-0.125, 0.375]])
    G = lambda z: torch.cat([(2 * (z @ W) - z / 4)[:, :1], -(z @ W)[:, 1:].reshape(1, 1)], dim=1) * 0.5  # noqa: E731
    z = torch.tensor([[3.0, -5.0]])
    one = recognise(trace(G, z).concrete(z), known=True)
    assert exact_value(one, [Fraction(3), Fraction(-5)]) == [Fraction(v) for v in G(z)[0].tolist()]


A, M, V = torch.randint(-4, 5, (4, 4)) / 8.0, torch.randint(-4, 5, (3, 3)) / 8.0, torch.tensor([1.0, -0.5, 0.25])


@pytest.mark.parametrize(
    ("G", "shape", "batch_dims"),
    [
        (lambda z: A @ z + 1, (4,), 0),
        (lambda z: z @ A - z, (4,), 0),
        (lambda z: (A @ z @ M).flip(0) / 2, (4, 3), 0),
        (lambda z: A @ (z @ M), (2, 4, 3), 1),
        (lambda z: (z @ V)[..., None] * V + z.sum(0, keepdim=True).expand(4, 3) / 4, (4, 3), 0),
        (lambda z: torch.cat([z[1:], z[:1]]).T.reshape(4, 3) - z.sum(1, keepdim=True) * 3, (4, 3), 0),
        (lambda z: z.index_select(0, torch.tensor([2, 2, 0, 3])).index_add(0, torch.tensor([1, 1]), z[:2]), (4, 3), 0),
    ],
)
def test_linear_maps_are_read_exactly(G: Any, shape: tuple[int, ...], batch_dims: int) -> None:
    z = torch.randint(-8, 9, shape, generator=torch.Generator().manual_seed(3)) / 4.0
    graph = trace(G, z, batch_dims=batch_dims).concrete(z)
    for problem in range(shape[0] if batch_dims else 1):
        one = recognise(graph, known=True, problem=problem)
        own, new = (z[problem], G(z)[problem]) if batch_dims else (z, G(z))
        if one.kind == "column":
            own, new = own[:, problem], new[:, problem]
        image = exact_value(one, [Fraction(v) for v in own.reshape(-1).tolist()])
        assert image == [Fraction(v) for v in new.reshape(-1).tolist()]


def test_shifts_that_are_no_dyadic_numbers_are_enclosed() -> None:
    z, x = torch.zeros(1, 2), torch.tensor([[0.3, 2.0]])
    one = recognise(trace(lambda z, x: torch.relu(z / 4 + x.tanh() / 3), z, x).concrete(z, x), known=True)
    shift = one.layers[0].shift
    assert shift is not None
    assert not shift.exact
    for i, value in enumerate(x[0].double().tanh() / 3):
        near = abs(Fraction(shift.values[i], 2 ** shift.places[i]) - Fraction(value.item()))
        assert near <= Fraction(shift.slack[i], 2 ** shift.places[i]) + Fraction(1, 2**50)
        assert Fraction(shift.slack[i], 2 ** shift.places[i]) < Fraction(1, 2**45)


@pytest.mark.parametrize(
    ("G", "complaint"),
    [
        (lambda z, x: z + torch.tanh(z), "different depth"),
        (lambda z, x: z * z, "depend on the state"),
        (lambda z, x: torch.tanh(z).sin(), "no layer that the proofs know"),
        (lambda z, x: torch.nn.functional.leaky_relu(z, 2.0), "at most 1"),
        (lambda z, x: x * z, "free inputs"),
    ],
)
def test_what_is_no_composition_of_layers_is_refused_by_name(G: object, complaint: str) -> None:
    z, x = torch.zeros(1, 2), torch.ones(1, 2)
    graph = trace(G, z, x).concrete(z, x)
    with pytest.raises(UnsupportedOperationError, match=complaint):
        recognise(graph, known=False)


def test_a_problem_that_needs_another_one_is_refused() -> None:
    z = torch.zeros(2, 2)
    graph = trace(lambda z: torch.tanh(z.sum(0, keepdim=True) + z), z).concrete(z)
    with pytest.raises(InputError, match="state of another one"):
        recognise(graph, known=True)


# --- proposing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [0, 4])
@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_constants_are_those_of_the_exact_moduli(name: str, hidden: int) -> None:
    one = network(Model(ACTIVATIONS[name], hidden))
    norm = chosen_norm(one)
    assert norm is not None
    proof = proof_in(one, norm, None)
    assert proof is not None
    assert sup_norm_fault(one, proof) == ""
    moduli = np.diag([float(1 / w) for w in norm.weights])
    for layer in one.layers:
        moduli = float(layer.activation.slope) * np.abs(layer.floats()) @ moduli
    best = (np.diag([float(w) for w in norm.weights]) @ moduli).sum(axis=1).max()
    assert best * (1 - 1e-12) <= float(proof.rate) <= best * (1 + 1e-6) + 1e-8  # true, and not vacuous


def test_t13_boxes_hold_the_fixed_point_and_are_narrow() -> None:
    one = network(Model(torch.relu))
    found = locate(one)
    assert found is not None
    assert location_fault(one, found) == ""
    assert found.radius < 1e-11
    point = [Fraction(c, 2**found.exponent) for c in found.box.centers]
    for _ in range(40):
        point = [Fraction(round(p * 2**80), 2**80) for p in exact_value(one, point)]
    for p, c, r in zip(point, found.box.centers, found.box.radii, strict=True):
        assert abs(p - Fraction(c, 2**found.exponent)) <= Fraction(r, 2**found.exponent)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "relu", "leaky_relu"])
def test_altered_numbers_are_found_by_the_exact_tier(name: str) -> None:
    one = network(Model(ACTIVATIONS[name]))
    norm, found = chosen_norm(one), locate(one)
    assert norm is not None
    assert found is not None
    proof = proof_in(one, norm, None)
    assert proof is not None
    assert (sup_norm_fault(one, proof), location_fault(one, found)) == ("", "")
    assert sup_norm_fault(one, replace(proof, rate=proof.rate * Fraction(999, 1000)))
    assert sup_norm_fault(inflated(one), proof)
    assert location_fault(inflated(one), found)
    tight = replace(found, box=Box(found.box.centers, tuple(r // 1000 for r in found.box.radii)))
    assert location_fault(one, tight)
    moved = replace(found, box=Box((found.box.centers[0] + 2**20, *found.box.centers[1:]), found.box.radii))
    assert location_fault(one, moved)


def inflated(one: Network) -> Network:
    """The network with its first weight doubled in modulus."""
    layer = one.layers[0]
    rows = np.array([[2 * int(m) + (m > 0) for m in row] for row in layer.mantissas], dtype=object)
    return replace(one, layers=(replace(layer, mantissas=rows), *one.layers[1:]))


def test_no_norm_is_chosen_where_the_moduli_do_not_contract() -> None:
    one = network(Model(torch.tanh, scale=9.0))
    assert chosen_norm(one) is None
    assert proof_in(one, SupNorm.of([Fraction(1)] * SIZE), Fraction(1, 2)) is None


# --- verdicts ---------------------------------------------------------------------------------------------------


def test_the_certificates_own_norm_and_rate_are_proven_where_they_can_be() -> None:
    certificate, graph, given = case(Model(torch.tanh))
    proof = prove(certificate, graph, given, tier="exact")
    assert (proof.verdict, proof.tier, proof.own_norm, len(proof.notes)) == ("proven", "exact", True, 1)
    assert "so its iterates come within" in proof.notes[0]
    assert "libm accuracy" in proof.notes[0]
    assert certificate.rate is not None
    assert proof.rate == Fraction(certificate.rate)


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_t3_float_iterates_come_as_near_as_is_said(name: str) -> None:
    certificate, graph, given = case(Model(ACTIVATIONS[name]))
    one = recognise(graph.concrete(given.state, *given.inputs), known=True)
    found = locate(one)
    assert found is not None
    floor = float_floor(certificate, graph, given, found)
    assert isinstance(floor, RoundingFloor)
    assert floor.delta.max() < 1e-5
    state = given.state
    for _ in range(200):
        state = graph(state, *given.inputs)
    for value, c, r in zip(state[0].tolist(), found.box.centers, found.box.radii, strict=True):
        away = abs(Fraction(value) - Fraction(c, 2**found.exponent)) - Fraction(r, 2**found.exponent)
        assert away <= Fraction(float(floor.floor.linf.max()))


@pytest.mark.parametrize("hidden", [0, 4])
@pytest.mark.parametrize("name", ["relu", "sigmoid"])
def test_euclidean_constants_are_true_and_near_the_norm(name: str, hidden: int) -> None:
    one = network(Model(ACTIVATIONS[name], hidden))
    proof = euclidean_proof(one, None)
    assert proof is not None
    assert contraction_fault(one, proof) == ""
    best = float(np.prod([float(a.activation.slope) * np.linalg.norm(a.floats(), 2) for a in one.layers]))
    assert best * (1 - 1e-12) <= float(proof.rate) <= best * (1 + 1e-9)
    assert contraction_fault(one, replace(proof, rate=proof.rate * Fraction(999, 1000)))
    assert contraction_fault(inflated(one), proof)
    loose = replace(proof.spectra[0], gap=proof.spectra[0].gap - 1)
    assert contraction_fault(one, replace(proof, spectra=(loose, *proof.spectra[1:])))


def test_a_linear_graph_network_is_proven_column_by_column() -> None:
    edges = torch.tensor([[0, 1, 1, 2, 2, 3, 3, 4], [1, 0, 2, 1, 3, 2, 4, 3]])
    degree = torch.zeros(5).index_add(0, edges[1], torch.ones(8)) + 1

    def operator(z: torch.Tensor, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        weight = degree.pow(-0.5)[edges[0]] * degree.pow(-0.5)[edges[1]]
        total = torch.zeros_like(z).index_add(0, edges[1], z[edges[0]] * weight[:, None])
        return x + 0.9 * (total + z / 8)

    z, x = torch.zeros(5, 3), torch.randn(5, 3)
    graph = trace(operator, z, x, edges, batch_dims=0)
    one = recognise(graph.concrete(z, x, edges), known=True)
    assert (one.size, one.count, one.kind) == (5, 3, "column")
    assert 0 < one.layers[0].slack < Fraction(1, 10**14)
    dense = 0.9 * (torch.zeros(5, 5).index_put((edges[1], edges[0]), torch.ones(8)) + 0)
    dense = dense * degree.pow(-0.5)[:, None] * degree.pow(-0.5) + 0.9 / 8 * torch.eye(5)
    assert np.abs(one.layers[0].floats() - dense.double().numpy()).max() < 1e-6
    norm = chosen_norm(one)
    assert norm is not None
    proof = proof_in(one, norm, None)
    assert proof is not None
    assert sup_norm_fault(one, proof) == ""
    assert proof.rate >= proof.stored * (1 + one.layers[0].slack)
    assert sup_norm_fault(one, replace(proof, rate=proof.stored))


@needs_coq
def test_a_sparse_matrix_known_within_rounding_has_a_proof() -> None:
    def operator(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        weight = torch.full((12,), 3.0).rsqrt()
        return (x + 0.9 * torch.zeros_like(z).index_add(0, torch.arange(12), z.flip(0) * weight[:, None])).relu()

    z, x = torch.zeros(12, 2), torch.ones(12, 2)
    graph = trace(operator, z, x, batch_dims=0)
    proof = prove(certify(graph, z, x), graph, TensorFile(z, (x,)))
    assert (proof.verdict, proof.reason) == ("proven", "")
    assert "near_matrix" in proof.statement
    assert "sparse_rows" in proof.source


@needs_coq
def test_euclidean_proofs_are_accepted_and_altered_ones_are_not() -> None:
    certificate, graph, given = case(Model(torch.relu, 3), norm="l2")
    proof = prove(certificate, graph, given)
    assert (proof.verdict, proof.norm, proof.reason) == ("proven", "l2", "")
    verdict = judged(inflate(proof.source), proof.statement, proof)
    assert not verdict.accepted


def test_t3_float32_iterates_stay_in_the_proven_box() -> None:
    _, graph, given = case(Model(torch.relu))
    concrete = graph.concrete(given.state, *given.inputs)
    one = recognise(concrete, known=True)
    found = locate(one)
    assert found is not None
    floats = float_box(concrete, one, found, 0)
    assert isinstance(floats, FloatBox)
    assert floats_fault(one, floats) == ""
    assert floats.location.radius < 1e-5  # not vacuous
    sizes = [Fraction(s, 2**p) for s, p in zip(floats.large, floats.shift.places, strict=True)]
    model = Model(torch.relu)
    exact = given.inputs[0].double().abs() @ model.inner.double().abs().T + model.bias.double().abs()
    assert all(e <= float(s) <= e + 1e-9 for s, e in zip(sizes, exact[0].tolist(), strict=True))
    scale = 2**floats.location.exponent
    for corner in (-1, 1):
        ends = [
            c + corner * r // 2 for c, r in zip(floats.location.box.centers, floats.location.box.radii, strict=True)
        ]
        state = torch.tensor([[end / scale for end in ends]], dtype=torch.float32)
        for _ in range(30):
            state = graph(state, *given.inputs)
            box = floats.location.box
            for value, c, r in zip(state[0].tolist(), box.centers, box.radii, strict=True):
                assert abs(Fraction(value) * scale - c) <= r
    tight = replace(floats.shift, slack=tuple(s // 2 for s in floats.shift.slack))
    assert floats_fault(one, replace(floats, shift=tight))
    assert floats_fault(one, replace(floats, growth=floats.growth / 2))


@needs_coq
def test_a_float32_box_is_part_of_the_theorem_and_too_little_slack_is_rejected() -> None:
    proof = proof_of("relu", 0, True)
    assert "floats_stay" in proof.statement
    assert judged(proof.source, proof.statement, proof).accepted
    start = proof.source.index("Definition rounded")
    slack = re.search(r"slack := \(\[([-\d;]+)\]\)%Z", proof.source[start:])
    assert slack is not None
    less = ";".join(str(int(s) // 2) for s in slack[1].split(";"))
    assert not judged(proof.source.replace(slack[1], less), proof.statement, proof).accepted


@needs_coq
def test_the_extracted_checker_accepts_what_is_true_alone() -> None:
    if shutil.which("ocamlfind") is None:
        pytest.skip("no OCaml compiler: apt-get install ocaml-findlib libzarith-ocaml-dev")
    options: dict[str, Any] = {"seconds": 60, "megabytes": 4096, "progress": lambda text: None}
    for name, hidden in (("leaky_relu", 3), ("clamp", 0)):
        one = network(Model(ACTIVATIONS[name], hidden))
        euclidean, norm = euclidean_proof(one, None), chosen_norm(one)
        assert euclidean is not None
        assert norm is not None
        sup = proof_in(one, norm, None)
        assert sup is not None
        for proof in (euclidean, sup):
            assert extracted_fault(one, proof, **options) == ""
            assert extracted_fault(inflated(one), proof, **options)
            assert extracted_fault(one, replace(proof, rate=proof.rate * Fraction(999, 1000)), **options)


def test_another_norm_is_named() -> None:
    certificate, graph, _ = case(Model(torch.tanh), norm="l1")
    proof = prove(certificate, graph, tier="exact")
    assert proof.verdict == "proven"
    assert not proof.own_norm
    assert "own norm (l1)" in proof.notes[0] or "own norm (weighted l1)" in proof.notes[0]


def test_another_model_and_other_inputs_are_rejected() -> None:
    certificate, graph, given = case(Model(torch.tanh))
    other = case(Model(torch.tanh, seed=1))[1]
    assert prove(certificate, other, given, tier="exact").verdict == "rejected"
    wrong = TensorFile(given.state, (torch.zeros(1, 4),))
    with pytest.raises(InputError):
        prove(certificate, graph, wrong, tier="exact")


def test_what_is_not_certified_is_unknown() -> None:
    certificate, graph, _ = case(Model(torch.tanh, scale=30.0))
    proof = prove(certificate, graph, tier="exact")
    assert (proof.verdict, proof.source) == ("unknown", "")
    assert "certify" in proof.reason


# --- Coq --------------------------------------------------------------------------------------------------------


@cache
def proof_of(name: str, hidden: int, located: bool) -> Proof:
    """What the driver would hand to Coq."""
    certificate, graph, given = case(Model(ACTIVATIONS[name], hidden))
    return prove(certificate, graph, given if located else None, tier="exact")


def judged(source: str, statement: str, proof: Proof) -> Verdict:
    theory = compiled(proof.modules, lambda text: None)
    return judge(source, statement, proof.modules, theory, seconds=300, megabytes=4096)


@needs_coq
@pytest.mark.parametrize(("name", "hidden", "located"), [("clamp", 0, False), ("sigmoid", 3, True)])
def test_the_kernel_accepts_what_is_proven(name: str, hidden: int, located: bool) -> None:
    certificate, graph, given = case(Model(ACTIVATIONS[name], hidden))
    proof = prove(certificate, graph, given if located else None)
    assert (proof.verdict, proof.tier, proof.reason) == ("proven", "coq-kernel", "")
    own = {name.rsplit(".", 1)[-1] for name in proof.axioms if name.split(".")[0] not in ("PrimInt63", "Uint63")}
    assert own <= {"sig_forall_dec", "sig_not_dec", "functional_extensionality_dep", "classic"}
    assert graph.fingerprint in proof.statement


@needs_coq
@pytest.mark.parametrize(("size", "norm", "located"), [(16, "l2", True), (64, "linf", False)])
def test_layers_of_16_and_64_have_proofs(size: int, norm: str, located: bool) -> None:
    W, z, x = torch.randn(size, size), torch.zeros(1, size), torch.randn(1, size)
    W = (0.8 if norm == "linf" else 0.3) * W / torch.linalg.matrix_norm(W, float("inf") if norm == "linf" else 2)
    graph = trace(lambda z, x: torch.relu(z @ W.T + x), z, x)
    proof = prove(certify(graph, z, x, norm=norm), graph, TensorFile(z, (x,)) if located else None)
    assert (proof.verdict, proof.own_norm, proof.reason) == ("proven", True, "")
    assert (proof.location is not None) == located


def inflate(text: str) -> str:
    """The first weight times 100."""
    return re.sub(r"\[\n\[(-?\d+);", r"[\n[\g<1>00;", text, count=1)


def smaller_rate(text: str) -> str:
    """k times 9/10, wherever it is named."""
    found = re.search(r"rational (\d+) (\d+)", text)
    assert found is not None
    n, d = int(found[1]), int(found[2])
    return text.replace(f"{n} {d}", f"{9 * n} {10 * d}")


def tighter(text: str) -> str:
    """Radii of a thousandth."""
    start = text.index("Definition around")
    end = text.index("Definition", start + 10)
    _, radii = re.findall(r"\(\[([-\d;]+)\]\)%Z", text[start:end])
    return text.replace(radii, ";".join(str(int(r) // 1000) for r in radii.split(";")))


@needs_coq
@pytest.mark.parametrize(
    ("located", "change", "restate", "complaint"),
    [
        (False, inflate, False, "Unable to unify|not convertible|has type"),
        (False, smaller_rate, True, "Unable to unify|not convertible|has type"),
        (True, tighter, False, "Unable to unify|not convertible|has type"),
        (False, lambda t: t.replace("1 norm", "0 norm"), False, None),
    ],
    ids=["weight inflated", "k too small", "r too small", "unaltered"],
)
def test_the_kernel_rejects_false_numbers(located: bool, change: object, restate: bool, complaint: str | None) -> None:
    proof = proof_of("relu", 0, located)
    assert callable(change)
    statement = change(proof.statement) if restate else proof.statement
    verdict = judged(change(proof.source), statement, proof)
    assert verdict.accepted == (complaint is None), verdict
    assert complaint is None or re.search(complaint, verdict.reason), verdict


HIDDEN = "Module PrimInt63. Axiom easy : False. End PrimInt63.\n"


@needs_coq
@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ([("Lemma contracts", "Axiom easy : False.\nLemma contracts")], None),  # assumed, but not used
        ([("Proof. vm_cast_no_check (eq_refl true). Qed.", "Proof. Admitted.")], "rests on"),
        (
            [
                ("Lemma contracts", f"{HIDDEN}Lemma contracts"),
                ("apply read_from.", "destruct PrimInt63.easy. (*"),
                (").\nQed", "*) Qed"),
            ],
            "rests on",
        ),
        ([("proven : about", "proven : True -> about"), ("apply read_from", "intro; apply read_from")], "expected"),
        (
            [("shifts -> converges", "shifts -> False -> converges"), ("exact (", "tauto. (*"), (").\nQed", "*) Qed")],
            "expected",
        ),
    ],
    ids=["unused axiom", "admitted", "disguised axiom", "weaker statement", "vacuous statement"],
)
def test_injected_axioms_and_altered_statements_are_rejected(
    changes: list[tuple[str, str]], complaint: str | None
) -> None:
    proof = proof_of("relu", 0, False)
    source = proof.source
    for old, new in changes:
        assert old in source
        source = new.join(source.rsplit(old, 1)) if old.startswith(")") else source.replace(old, new, 1)
    verdict = judged(source, proof.statement, proof)
    assert verdict.accepted == (complaint is None), verdict
    assert complaint is None or complaint in verdict.reason, verdict


@needs_coq
def test_a_foreign_hash_is_rejected() -> None:
    proof = proof_of("relu", 0, False)
    fingerprint = re.search(r'about "(\w+)"', proof.statement)
    assert fingerprint is not None
    verdict = judged(proof.source.replace(fingerprint[1], "0" * 64), proof.statement, proof)
    assert "not prove what was expected" in verdict.reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Closed under the global context\n", set()),
        ("Axioms:\nA.b : forall x : nat,\n  x = x\nlong.name\n  : Prop\n", {"A.b", "long.name"}),
        ("", {"(no answer)"}),
    ],
)
def test_assumptions_are_read_and_what_is_not_understood_counts(text: str, expected: set[str]) -> None:
    assert assumptions(text) == expected


# --- the command line -------------------------------------------------------------------------------------------


def test_the_command_writes_the_file_and_says_the_tier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["prove", *saved(tmp_path, Model(torch.relu)), "--tier", "exact"]
    assert main([*arguments, "--json", "-o", str(tmp_path / "proof.v")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["verdict"], document["tier"], document["statement"]) == ("proven", "exact", "")
    assert "Theorem proven" in (tmp_path / "proof.v").read_text()
    assert main([*arguments, "--inputs", str(tmp_path / "inputs.safetensors")]) == 0
    assert "tier: exact" in capsys.readouterr().out
    assert main([*arguments, "-o", str(tmp_path / "none" / "proof.v")]) == 73
    assert main([*arguments, "--inputs", str(tmp_path / "absent")]) == 66
    assert main(["prove", str(tmp_path / "model.pt2"), "--model", str(tmp_path / "model.pt2")]) == 65
    assert main([*arguments, "--tier", "magic"]) == 64


def test_no_coq_is_a_clear_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = saved(tmp_path, Model(torch.relu))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["prove", *arguments]) == 69
    assert "no Coq compiler" in capsys.readouterr().err


def test_another_models_certificate_has_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    own, other = saved(tmp_path, Model(torch.relu)), saved(tmp_path / "other", Model(torch.relu, seed=3))
    assert main(["prove", own[0], *other[1:], "--tier", "exact"]) == 1

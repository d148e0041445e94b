"""Proves a certified model's map contractive in Coq, about its exact weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, get_args

import numpy as np
import torch

from deqops._errors import DeqopsError, InputError, UnsupportedOperationError
from deqops._tensorfile import TensorFile
from deqops.graph import ConcreteGraph, OperatorGraph, tensor_digest

from .._certificate import Certificate
from .._claim import Converges, Verdict
from . import _exact
from ._euclid import EuclideanProof, euclidean_proof
from ._extracted import extracted_fault
from ._float_layer import FloatBox, float_box
from ._floats import describe_floor, float_floor
from ._kernel import judge
from ._locate import Location, locate
from ._network import Network
from ._recognise import recognise
from ._sup_norm import SupNorm, chosen_norm, proof_in
from ._template import Contraction, modules, source, statement
from ._theory import compiled

Tier = Literal["coq-kernel", "extracted", "exact"]
Progress = Callable[[str], None]

WIDEST: dict[Tier, int] = {"coq-kernel": 256, "extracted": 1024, "exact": 1024}
"""Columns of a layer up to which the Euclidean norm is proven: the Gram matrix costs the cube."""
REACH = 1_100_000
"""Weights that are not 0 up to which the kernel is asked; above, it takes minutes and gigabytes."""


@dataclass(frozen=True, eq=False)
class Proof:
    """What was proven of a model, by which means, or why nothing was.

    Attributes:
        verdict: "proven"; "rejected" where model, inputs and certificate do not belong together or Coq refuses the
            file; "unknown" where nothing of the kind could be proven.
        tier: "coq-kernel", "extracted" or "exact"; what stands behind the verdict.
        claim: what is proven, in words.
        statement: the theorem's statement in Coq; "" for the tier `exact`.
        norm: the norm that it is proven in.
        own_norm: whether that is the certificate's norm.
        rate: k, the proven contraction constant.
        axioms: what the theorem rests on.
        source: the Coq file.
        modules: what it imports of the theory.
        reason: for another verdict than "proven", why.
        notes: what a reader should know, such as why another norm was taken.
        location: the box around the fixed point, where there are inputs.
    """

    verdict: Literal["proven", "rejected", "unknown"]
    tier: Tier
    claim: str = ""
    statement: str = ""
    norm: str = ""
    own_norm: bool = False
    rate: Fraction | None = None
    axioms: tuple[str, ...] = ()
    source: str = ""
    modules: tuple[str, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()
    location: Location | None = None


class _Rejected(DeqopsError):
    """Model, inputs and certificate do not belong together."""


class _Unknown(DeqopsError):
    """Nothing of the kind can be proven."""


def prove(
    certificate: Certificate,
    model: OperatorGraph,
    inputs: TensorFile | None = None,
    *,
    tier: Tier = "coq-kernel",
    problem: int = 0,
    seconds: float = 600.0,
    megabytes: int = 6144,
    progress: Progress = lambda text: None,
) -> Proof:
    """Prove that a certified map is a contraction with exactly one fixed point, and with inputs where that lies.

    `G(z) = phi_L(A_L .. phi_1(A_1 z + c_1) .. + c_L)` with the model's exact weights. Without inputs for every c, so
    for all inputs; with them for their c, and the fixed point is located entry by entry. The theorem is about the map
    in exact arithmetic.

    Args:
        certificate: certified, of this model.
        model: as read from its file.
        inputs: the values of the model's inputs, or None for all.
        tier: "coq-kernel", Coq's kernel checks a file about the weights; "extracted", its checker as extracted to
            OCaml does, which goes further but locates no fixed point; "exact", the same inequalities in Python's whole
            numbers, which nothing stands behind but this program. No other tier is taken than the one asked for.
        problem: which problem of the batch.
        seconds: limit of Coq's time.
        megabytes: limit of its memory.
        progress: called with a few words at each stage.

    Returns:
        A `Proof`; a verdict other than "proven" says why.

    Raises:
        MissingToolError: no Coq on this machine.
        InputError: an argument is out of range, or does not fit the model.
    """
    if tier not in get_args(Tier):
        raise InputError(f"tier: got {tier!r}; choose one of {', '.join(get_args(Tier))}")
    try:
        return _prove(certificate, model, inputs, tier, problem, seconds, megabytes, progress)
    except _Rejected as error:
        return Proof("rejected", tier, reason=str(error))
    except (_Unknown, UnsupportedOperationError) as error:
        return Proof("unknown", tier, reason=str(error))


def _prove(
    certificate: Certificate,
    model: OperatorGraph,
    inputs: TensorFile | None,
    tier: Tier,
    problem: int,
    seconds: float,
    megabytes: int,
    progress: Progress,
) -> Proof:
    _require_certified(certificate, model)
    progress("reading the layers off the model")
    graph = _concrete(certificate, model, inputs)
    network = recognise(graph, known=inputs is not None, problem=problem)
    if not network.exact and len(network.layers) > 1:
        raise _Unknown("several layers with matrices that are no dyadic numbers are not proven")
    contraction, notes = _contraction(certificate, network, WIDEST[tier])
    location, floats = None, None
    if inputs is not None and tier == "extracted":
        notes += ("the extracted checker locates no fixed points",)
    elif inputs is not None:
        location, more = _location(network)
        notes += more
        if location is not None:
            progress("bounding the rounding of the model's program")
            floats, more = _floats(certificate, model, inputs, graph, network, location, problem)
            notes += more
    digest = "" if inputs is None else inputs_digest(graph)
    stated = statement(network, contraction, location, digest, floats)
    proof = Proof(
        "proven",
        tier,
        claim=describe(network, contraction, location, digest, floats),
        statement=stated,
        norm=contraction.name,
        own_norm=_is_own(certificate, contraction),
        rate=contraction.rate,
        source=source(network, contraction, location, digest, floats),
        modules=modules(contraction, location, floats),
        notes=notes,
        location=location,
    )
    if tier == "exact":
        return _checked_exactly(proof, network, contraction, location, floats)
    if tier == "extracted":
        fault = extracted_fault(network, contraction, seconds=seconds, megabytes=megabytes, progress=progress)
        return replace(proof, verdict="rejected", reason=fault) if fault else proof
    return _checked_by_kernel(proof, network, seconds, megabytes, progress)


# ------------------------------------------------------------------------------------------------ hypotheses


def _require_certified(certificate: Certificate, model: OperatorGraph) -> None:
    if certificate.fingerprint != model.fingerprint:
        raise _Rejected("the certificate is about another model: its fingerprint is not this file's")
    if certificate.batch_dims != model.batch_dims:
        stated, own = certificate.batch_dims, model.batch_dims
        raise _Rejected(f"the certificate is for batch_dims={stated}, the model was read with batch_dims={own}")
    if certificate.verdict is not Verdict.CERTIFIED:
        raise _Unknown(f"the certificate's verdict is {certificate.verdict.value}; certify the model first")
    if model.impure:
        raise _Unknown(f"the operator is no fixed map: {model.impure[0]}")


def _concrete(certificate: Certificate, model: OperatorGraph, inputs: TensorFile | None) -> ConcreteGraph:
    """The graph at the certificate's shapes: with the inputs' values, or with placeholders that must not matter."""
    if inputs is not None:
        graph = model.concrete(inputs.state, *inputs.inputs)
        for record, value in zip(certificate.inputs, graph.inputs, strict=True):
            refusal = record.refusal(graph.leaves[value].tensor)
            if refusal:
                raise _Rejected(refusal)
        if tuple(graph.shape(v) for v in graph.state) != tuple(shape for shape, _ in certificate.state):
            raise _Rejected("the certificate is about states of another shape than the inputs file's")
        return graph
    state = [torch.zeros(shape, dtype=getattr(torch, dtype)) for shape, dtype in certificate.state]
    values = [torch.zeros(r.shape, dtype=getattr(torch, r.dtype)) for r in certificate.inputs]
    return model.concrete(*model.arranged(state, values))


def inputs_digest(graph: ConcreteGraph) -> str:
    """SHA-256 over the digests of the input leaves, in order."""
    digests = [tensor_digest(graph.leaves[value].tensor) for value in graph.inputs]
    return hashlib.sha256("\n".join(digests).encode("ascii")).hexdigest()


# ------------------------------------------------------------------------------------------------ what to prove


def _contraction(certificate: Certificate, network: Network, widest: int) -> tuple[Contraction, tuple[str, ...]]:
    """A proof in the certificate's norm, or in another one and why."""
    rate, named = _rate(certificate), "none" if certificate.norm is None else certificate.norm.describe()
    for proposal in (_own_proof, _chosen_proof, euclidean_within_reach):
        proof = proposal(certificate, network, rate, widest)
        if proof is not None:
            if _is_own(certificate, proof):
                return proof, ()
            note = f"the certificate's own norm ({named}) cannot be proven here; what is proven is about {proof.name}"
            return proof, (note,)
    raise _Unknown(
        f"the certificate's norm ({named}) cannot be proven here; in no weighted sup norm are the layers' moduli a "
        "contraction (their spectral radius is not below 1), and the product of the layers' l2 norms is not below 1 or "
        f"they are over {widest} columns wide"
    )


def _own_proof(certificate: Certificate, network: Network, rate: Fraction | None, widest: int) -> Contraction | None:
    own = own_norm(certificate)
    if own is not None and len(own.entries) == network.size:
        return proof_in(network, own, rate)
    if certificate.norm is not None and certificate.norm.describe() == "l2":
        return euclidean_within_reach(certificate, network, rate, widest)
    return None


def _chosen_proof(certificate: Certificate, network: Network, rate: Fraction | None, widest: int) -> Contraction | None:
    norm = chosen_norm(network)
    return None if norm is None else proof_in(network, norm, None)


def euclidean_within_reach(
    certificate: Certificate, network: Network, rate: Fraction | None, widest: int
) -> Contraction | None:
    """A proof in l2, for layers with up to so many rows and columns."""
    own = rate if certificate.norm is not None and certificate.norm.describe() == "l2" else None
    width = max(max(layer.mantissas.shape) for layer in network.layers)
    return euclidean_proof(network, own) if width <= widest else None


def own_norm(certificate: Certificate) -> SupNorm | None:
    """The certificate's norm where it is a sup norm, with exactly its weights."""
    norm = certificate.norm
    if norm is None or norm.order != "linf":
        return None
    size = sum(torch.Size(shape[certificate.batch_dims :]).numel() for shape, _ in certificate.state)
    if norm.weights is None:
        return SupNorm.of([Fraction(1)] * size)
    return SupNorm.of([Fraction(float(w)) for leaf in norm.weights for w in leaf.reshape(-1)])


def _is_own(certificate: Certificate, proof: Contraction) -> bool:
    if isinstance(proof, EuclideanProof):
        return certificate.norm is not None and certificate.norm.describe() == "l2"
    own = own_norm(certificate)
    return own is not None and own.weights == proof.norm.weights


def _rate(certificate: Certificate) -> Fraction | None:
    """The certificate's rate where it is that of G itself."""
    claim = certificate.claim
    if certificate.rate is None or (isinstance(claim, Converges) and claim.damping != 1.0):
        return None
    return Fraction(certificate.rate)


def _location(network: Network) -> tuple[Location | None, tuple[str, ...]]:
    unplaced = next((layer.activation.name for layer in network.layers if not layer.activation.located), None)
    if not network.exact:
        return None, ("the matrix is known within rounding only, so no fixed point is located",)
    if unplaced is not None:
        return None, (f"fixed points of layers with {unplaced} are not located; the theorem is for all shifts",)
    if not network.shifted:
        return None, ("the layers' shifts are not known, so no fixed point is located",)
    found = locate(network)
    if found is None:
        return None, ("no box around the fixed point was found, so it is not located",)
    return found, ()


def _floats(
    certificate: Certificate,
    model: OperatorGraph,
    inputs: TensorFile,
    graph: ConcreteGraph,
    network: Network,
    location: Location,
    problem: int,
) -> tuple[FloatBox | None, tuple[str, ...]]:
    """The box that float32 iterates do not leave, in Coq; otherwise what T3 says of the program outside of Coq."""
    found = float_box(graph, network, location, problem)
    if isinstance(found, FloatBox):
        return found, ()
    return None, (f"{found}; {describe_floor(float_floor(certificate, model, inputs, location))}",)


def describe(
    network: Network, proof: Contraction, location: Location | None, digest: str, floats: FloatBox | None = None
) -> str:
    """What is proven, in a sentence."""
    layers = " of ".join(layer.activation.name for layer in reversed(network.layers))
    text = (
        f"{layers}{_matrices(network)}, n = {network.size}{_part(network)}: contraction with constant {proof.rate} < 1 "
        f"in {proof.name}, exactly one fixed point"
    )
    if location is None:
        return f"{text}, for every c"
    text += f", each entry of it within its radius (at most {location.radius:.3g}), for the inputs {digest[:12]}.."
    if floats is None:
        return text
    return (
        f"{text}; iterates in float32, summed in any order, that start within {floats.location.radius:.3g} of its "
        "center stay there"
    )


def _matrices(network: Network) -> str:
    if network.exact:
        return " with the model's exact weights"
    return f" with every matrix within a relative {float(network.layers[0].slack):.2g} of the stored one"


def _part(network: Network) -> str:
    if network.count == 1:
        return ""
    if network.kind == "column":
        return f" (each of the state's {network.count} columns)"
    return f" (one problem of {network.count})"


# ------------------------------------------------------------------------------------------------ tiers


def _checked_exactly(
    proof: Proof, network: Network, contraction: Contraction, location: Location | None, floats: FloatBox | None
) -> Proof:
    fault = _exact.contraction_fault(network, contraction)
    if not fault and location is not None:
        fault = _exact.location_fault(network, location)
    if not fault and floats is not None:
        fault = _exact.floats_fault(network, floats)
    return replace(proof, verdict="rejected", reason=fault) if fault else proof


def _checked_by_kernel(proof: Proof, network: Network, seconds: float, megabytes: int, progress: Progress) -> Proof:
    weights = sum(int(np.count_nonzero(layer.mantissas)) for layer in network.layers)
    if weights > REACH:
        raise _Unknown(f"{weights} weights are beyond the kernel's reach ({REACH}); ask for --tier extracted")
    theory = compiled(proof.modules, progress)
    progress("Coq's kernel is checking the proof")
    verdict = judge(proof.source, proof.statement, proof.modules, theory, seconds=seconds, megabytes=megabytes)
    if not verdict.accepted:
        return replace(proof, verdict="rejected", reason=verdict.reason)
    return replace(proof, axioms=verdict.axioms)

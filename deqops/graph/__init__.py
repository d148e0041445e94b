"""The operator graph: what an operator computes, from memory or from a file, read without running code."""

from deqops._fingerprint import tensor_digest

from ._between import between
from ._comparable import coarsest_eps, entries, moved_a_little
from ._independent import MixesProblemsError, check_independent
from ._integers import limits
from ._ir import OF_COMPLEX, Attribute, ConcreteGraph, Leaf, LeafKind, Node
from ._operator import OperatorGraph, export, read_model, trace
from ._recognised import recognised
from ._replaced import replaced
from ._sorted_pairs import with_sorted_pairs

load = read_model

__all__ = [
    "OF_COMPLEX",
    "Attribute",
    "ConcreteGraph",
    "Leaf",
    "LeafKind",
    "MixesProblemsError",
    "Node",
    "OperatorGraph",
    "between",
    "check_independent",
    "coarsest_eps",
    "entries",
    "export",
    "limits",
    "load",
    "moved_a_little",
    "read_model",
    "recognised",
    "replaced",
    "tensor_digest",
    "trace",
    "with_sorted_pairs",
]

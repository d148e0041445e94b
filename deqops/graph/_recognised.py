"""A graph with operations that it spells out as single ones, for whoever bounds its function."""

from __future__ import annotations

from deqops.graph._ir import ConcreteGraph
from deqops.graph._segments import with_attention
from deqops.graph._written_functions import with_functions
from deqops.graph._written_norms import with_normalisations


def recognised(graph: ConcreteGraph) -> ConcreteGraph:
    """The same function; functions of one variable, layer and RMS norms and attention over segments as one node each.

    Attention comes last: the others need numbers for new values, which none of the given graph's may have.
    """
    return with_attention(with_normalisations(with_functions(graph)))

"""A graph with operations that it spells out as single ones, for whoever bounds its function."""

from __future__ import annotations

from deqops.graph._ir import ConcreteGraph
from deqops.graph._normalised import with_normalisations
from deqops.graph._segments import with_attention


def recognised(graph: ConcreteGraph) -> ConcreteGraph:
    """The same function, attention over segments and layer and RMS norms as one node each."""
    return with_normalisations(with_attention(graph))

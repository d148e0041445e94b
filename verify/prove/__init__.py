"""Machine-checked proofs about a model's exact weights (`deqops prove`)."""

from ._prove import Proof, Tier, prove
from ._theory import MissingToolError

__all__ = ["MissingToolError", "Proof", "Tier", "prove"]

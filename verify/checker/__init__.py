"""The independent checker: its own reading of the operator graph, its own arithmetic.

From the rest of deqops it takes the operator graph (`deqops.graph`), the exceptions, and the refusal of pipes and
devices (`deqops._files`).
"""

from ._check import CheckReport, check

__all__ = ["CheckReport", "check"]

"""How the checker says no."""

from __future__ import annotations


class Rejected(Exception):
    """The certificate is not accepted; the message is the reason, in one line."""

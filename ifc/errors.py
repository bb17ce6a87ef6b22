"""Errors of the package."""

from __future__ import annotations

__all__ = ["EreError", "IfcError"]


class IfcError(ValueError):
    """The document as a whole cannot be used: not XML, too large, or of a kind that holds no criteria."""


class EreError(ValueError):
    """The pattern is not a POSIX extended regular expression, or is larger than we accept."""

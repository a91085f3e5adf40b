"""Text that others have a hand in, made fit for terminals and logs."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return the text with control characters and lone surrogates as escapes.

    Hostile images influence what decoders print, and functions of users may raise anything.
    """
    return "".join(map(_shown, text))


def _shown(c: str) -> str:
    if c.isprintable() or c in "\n\t":
        return c
    return f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}"

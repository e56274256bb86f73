"""Text of others, made fit for one line: of a terminal, a log, or a report."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""`text` with everything escaped that is not plainly to be seen.

    Line ends, control and direction characters, and bytes of a file name that are no text:
    none of them can end a line, move a cursor, or fail to be encoded as UTF-8.

    >>> print(printable("a\nb\x1b[1A…\udcff"))
    a\nb\x1b[1A…\udcff
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text
    )

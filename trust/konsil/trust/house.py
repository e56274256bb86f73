"""The look of konsil's pages: one style sheet, inline, for the screen, the phone and paper."""

from __future__ import annotations

from importlib.resources import files


def style() -> str:
    """The style sheet of every page; it loads nothing."""
    return (files("konsil.trust") / "templates" / "house.css").read_text("utf-8")

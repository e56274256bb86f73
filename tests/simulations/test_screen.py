"""A table for which nobody is there any more leaves the command's verdict as it is."""

from __future__ import annotations

import os

from konsil.simulations.screen import Screen


def test_a_closed_pipe_ends_nothing():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as nobody:
        screen = Screen(file=nobody)
        screen.print("a line that nobody reads")
        assert screen.quiet
        screen.print("another")
        # What Python itself would flush at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)

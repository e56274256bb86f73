"""The screen: rich's console for tables on stdout, which nobody may be reading.

When the reader of a pipe has gone, rich would end the process with 1, which says something
else here: the command's own verdict stands, and `konsil.node.cli.output.settle` hands it over.
"""

from __future__ import annotations

from rich.console import Console


class Screen(Console):
    """A console that goes on in silence when its pipe is closed."""

    def on_broken_pipe(self) -> None:
        """Whoever read has seen enough."""
        self.quiet = True

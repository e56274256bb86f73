"""What a ledger's files say twice: hash tiles and older tails, held against the tree.

They are written from the entries, and an audit recomputes them; what they say counts for
nothing by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.protocol import merkle, tiles
from konsil.protocol.errors import RemoteError
from konsil.trust.places import tail_of, tile_hashes

if TYPE_CHECKING:
    from konsil.trust.report import Findings
    from konsil.trust.structure import Structure


def check_tiles(found: Structure, findings: Findings) -> None:
    """Holds every hash tile against the tree; those below the tail must all be there."""
    layout = found.layout
    start = layout.tails[-1] if layout.tails else found.size
    expected = {
        (level, number)
        for level in range(1, tiles.MAX_LEVEL + 1)
        for number in range(start // tiles.WIDTH ** (level + 1))
    }
    for level, number in sorted(expected | layout.tiles):
        end = (number + 1) * tiles.WIDTH ** (level + 1)
        if end > found.size:
            path = layout.path(tiles.tile_path(level, number))
            findings.add("layout.stray", path, "a tile beyond the last entry")
        elif found.knows(end) and (level or end > start):
            hashes = tile_hashes(layout, level, number, findings)
            if hashes is not None and merkle.root_of(hashes) != found.tile_root(level, number):
                path = layout.path(tiles.tile_path(level, number))
                findings.add("tile.mismatch", path, "does not match the tree below it")


def check_older(found: Structure, start: int, findings: Findings) -> None:
    """A crash between two tails leaves the older one; all of it must be in the log by now."""
    path = found.layout.path(f"tail.{start}")
    try:
        leaves: list[bytes] = []
        for index, item in enumerate(tail_of(found.layout, start).frames, start):
            group, place = divmod(index, tiles.WIDTH)
            if index < found.size and not (place and leaves):
                leaves = found.leaves(group)
            if index >= found.size or leaves[place] != item.leaf:
                message = f"is not entry {index} of the log"
                findings.add("tail.corrupt", path, message, offset=item.offset, index=index)
                return
    except RemoteError as error:
        findings.add("tail.corrupt", path, error.message, index=start)

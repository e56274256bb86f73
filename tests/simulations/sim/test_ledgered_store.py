"""The store of a simulated log: the files of the daemon's own store, without keeping entries."""

from __future__ import annotations

import hashlib

import pytest

from konsil.node.store.filestore import FileStore
from konsil.protocol import merkle, tiles
from konsil.simulations.sim.ledgered.store import LogStore
from konsil.trust.entry_store import MemoryStore


def entries(first, count):
    bodies = [b"entry %d" % index * (1 + index % 3) for index in range(first, first + count)]
    return [(body, merkle.leaf_hash(body)) for body in bodies]


class Kept(dict):
    def __call__(self, name, data):
        assert name not in self
        self[name] = data


def test_the_files_are_those_of_the_daemons_store(tmp_path):
    theirs, kept = FileStore.create(tmp_path), Kept()
    ours, size = LogStore(kept), 0
    for count in (1, 254, 1, 3, 600, 165, 17):
        for store in (theirs, ours):
            store.append(entries(size, count))
            store.save_checkpoint(b"signed for %d" % store.size)
        ours.roll()
        size += count
    theirs.close()
    ours.close()
    files = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert {str(path.relative_to(tmp_path)): path.read_bytes() for path in files} == kept
    assert f"tail.{size // tiles.WIDTH * tiles.WIDTH}" in kept


@pytest.mark.parametrize("count", [0, 255, 256, 257])
def test_a_log_that_ends_at_the_edge_of_a_group(count):
    kept = Kept()
    store = LogStore(kept)
    store.append(entries(0, count))
    store.close()
    tail = tiles.read_tail(kept[f"tail.{count // tiles.WIDTH * tiles.WIDTH}"])
    assert len(tail.frames) == count % tiles.WIDTH
    assert ("tile/entries/000" in kept) == (count >= tiles.WIDTH)


def test_proofs_are_those_of_a_store_that_forgets_nothing():
    whole, ours = MemoryStore(), LogStore(Kept())
    while whole.size < 1500:
        added = entries(whole.size, 1 + whole.size % 37)
        for store in (whole, ours):
            store.append(added)
        size, newest = whole.size, whole.size - len(added)
        assert ours.size == size
        assert merkle.range_root(ours, 0, size) == merkle.range_root(whole, 0, size)
        proof = merkle.inclusion_proof(ours, newest, size)
        assert proof == merkle.inclusion_proof(whole, newest, size)
        assert ours.entry(newest) == whole.entry(newest)
        ours.roll()


def test_a_tile_of_tiles_holds_their_roots():
    kept = Kept()
    store = LogStore(kept)
    leaves = [hashlib.sha256(b"%d" % index).digest() for index in range(tiles.WIDTH**2)]
    for begin in range(0, len(leaves), tiles.WIDTH):
        store.append([(b"x", leaf) for leaf in leaves[begin : begin + tiles.WIDTH]])
        store.roll()
    assert merkle.root_of(tiles.read_tile(kept["tile/1/000"])) == merkle.root_of(leaves)
    assert tiles.read_tile(kept["tile/0/255"]) == leaves[-tiles.WIDTH :]

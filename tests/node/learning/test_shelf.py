"""The shelf: the newest of each publisher is its head, also when that one is lost."""

from types import SimpleNamespace

from konsil.node.learning.shelf import Shelf


def held(publisher, sequence):
    head = SimpleNamespace(
        publisher=publisher, kind="parameters", sequence=sequence, env=f"{publisher}{sequence}"
    )
    return SimpleNamespace(head=head)


def test_when_the_newest_is_lost_the_next_newest_is_the_head():
    shelf = Shelf()
    for one in (held("a", 1), held("a", 3), held("b", 1), held("a", 2)):
        shelf.add(one)
    assert shelf.newest("a", "parameters").head.sequence == 3
    shelf.drop("a3")
    assert shelf.newest("a", "parameters").head.sequence == 2
    shelf.drop("a2")
    shelf.drop("a1")
    shelf.drop("a1")
    assert shelf.newest("a", "parameters") is None
    assert [one.head.publisher for one in shelf] == ["b"]
    shelf.mark_mixed(["a3", "b1"])
    assert shelf.fresh("parameters", without="c") == ()

"""The shelf: the newest of each publisher is its head, also when that one is lost."""

from types import SimpleNamespace

from konsil.node.learning.shelf import Shelf
from konsil.trust.integrate import ANSWERS


def held(publisher, sequence, kind="parameters"):
    head = SimpleNamespace(
        publisher=publisher, kind=kind, sequence=sequence, env=f"{publisher}{sequence}"
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
    assert shelf.fresh(("parameters",), without="c") == ()


def test_a_publisher_has_one_voice_whatever_kinds_of_answers_it_hands_out():
    shelf = Shelf()
    for one in (held("a", 1, "logits"), held("a", 2, "weak_labels"), held("b", 1, "logits")):
        shelf.add(one)
    shelf.add(held("b", 2, "parameters"))
    found = shelf.fresh(ANSWERS, without="c")
    assert [(one.head.publisher, one.head.sequence) for one in found] == [("a", 2), ("b", 1)]
    shelf.mark_mixed(["a2"])
    assert [one.head.publisher for one in shelf.fresh(ANSWERS, without="c")] == ["b"]
    assert shelf.fresh(ANSWERS, without="b") == ()

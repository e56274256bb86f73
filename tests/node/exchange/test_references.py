"""A change is fetched behind what it is a change of, from the oldest on, within bounds."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from konsil.node.exchange import references
from konsil.node.exchange.admission import Admitted, Refusal
from konsil.node.exchange.references import Unmet, fetch, require
from konsil.node.learning.shelf import Shelf
from konsil.node.learning.travelling import LINKS
from konsil.protocol.digest import sha256
from konsil.protocol.messages import Head

NODE = "a" * 32


def env(number: int) -> bytes:
    return sha256(b"envelope %d" % number)


def head(number: int) -> Head:
    return Head(
        publisher=NODE, kind="parameters", sequence=number, env=env(number), art=bytes(32),
        size=4, round=number,
    )  # fmt: skip


class Holder:
    """Holds artifacts 1 to `newest`, each a change of the one before; shelves what is taken."""

    def __init__(self, newest: int, monkeypatch) -> None:
        self.newest, self.here = newest, set()
        self.asked, self.taken = [], []
        self.silent = self.refusing = None
        monkeypatch.setattr(references, "head_of", lambda artifact, _: head(artifact.number))

    async def one(self, wanted: Head) -> Admitted | None:
        number = next(n for n in range(1, self.newest + 1) if env(n) == wanted.env)
        self.asked.append(number)
        if number == self.silent:
            return None
        if number == self.refusing:
            raise Refusal("payload", ("decoded",), NODE)
        if number > 1 and number - 1 not in self.here:
            raise Unmet(env(number - 1))
        return Admitted(
            artifact=SimpleNamespace(number=number), envelope=b"", proof=b"", published=None
        )

    async def take(self, link: Head, admitted: Admitted, wanted: Head) -> None:
        assert wanted.env == link.env
        self.taken.append(link.sequence)
        self.here.add(link.sequence)


async def test_a_chain_is_taken_from_the_oldest_on(monkeypatch):
    holder = Holder(4, monkeypatch)
    found, wanted = await fetch(head(4), holder.one, holder.take)
    assert (found.artifact.number, wanted) == (4, head(4))
    assert holder.asked == [4, 3, 2, 1, 2, 3, 4]
    assert holder.taken == [1, 2, 3]


async def test_only_what_is_missing_is_asked_for(monkeypatch):
    holder = Holder(9, monkeypatch)
    holder.here = {7}
    await fetch(head(9), holder.one, holder.take)
    assert holder.asked == [9, 8, 9]
    assert holder.taken == [8]


async def test_a_chain_has_an_end(monkeypatch):
    for newest, sound in ((LINKS + 1, True), (LINKS + 2, False)):
        holder = Holder(newest, monkeypatch)
        if sound:
            found, _ = await fetch(head(newest), holder.one, holder.take)
            assert found.artifact.number == newest
            continue
        with pytest.raises(Refusal) as refused:
            await fetch(head(newest), holder.one, holder.take)
        assert (refused.value.reasons, refused.value.culprit) == (("reference",), NODE)
        assert holder.taken == []


async def test_what_a_link_is_refused_for_the_artifact_is_refused_for(monkeypatch):
    holder = Holder(3, monkeypatch)
    holder.refusing = 1
    with pytest.raises(Refusal) as refused:
        await fetch(head(3), holder.one, holder.take)
    assert (refused.value.stage, refused.value.reasons) == ("payload", ("reference",))
    assert holder.taken == []
    holder.refusing = 3
    with pytest.raises(Refusal) as refused:
        await fetch(head(3), holder.one, holder.take)
    assert refused.value.reasons == ("decoded",)


async def test_what_comes_and_is_not_taken_in_is_not_asked_for_again(monkeypatch):
    holder = Holder(3, monkeypatch)

    async def take(link, admitted, wanted):
        holder.taken.append(link.sequence)

    assert await fetch(head(3), holder.one, take) == (None, head(3))
    assert holder.taken == [1]


async def test_what_cannot_be_had_now_is_named(monkeypatch):
    holder = Holder(3, monkeypatch)
    holder.silent = 2
    found, wanted = await fetch(head(3), holder.one, holder.take)
    assert (found, wanted.env) == (None, env(2))


def admitted(reference: str | None, kind: str = "parameters") -> Admitted:
    payload = SimpleNamespace(reference=reference)
    artifact = SimpleNamespace(payload=payload, publisher=NODE, kind=kind)
    return Admitted(artifact=artifact, envelope=b"", proof=b"", published=None)


def test_what_it_is_a_change_of_must_be_here_and_of_the_same_publisher_and_kind():
    shelf = Shelf()
    require(admitted(None), shelf)
    with pytest.raises(Unmet) as unmet:
        require(admitted(env(1).hex()), shelf)
    assert unmet.value.env == env(1)
    shelf.add(SimpleNamespace(head=head(1)))
    require(admitted(env(1).hex()), shelf)
    with pytest.raises(Refusal) as refused:
        require(admitted(env(1).hex(), kind="data_vector"), shelf)
    assert (refused.value.stage, refused.value.reasons) == ("manifest", ("reference",))

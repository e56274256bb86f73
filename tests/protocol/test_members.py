"""Members: one digest for one set of founders, and no founder twice."""

import itertools

import msgspec
import pytest

from konsil.protocol.cmp1 import encode
from konsil.protocol.digest import tagged
from konsil.protocol.errors import ConfigError
from konsil.protocol.identity import SigningKey, node_id, peer_id
from konsil.protocol.members import Charter0, Member


def member(name, number=None):
    seed = bytes([number if number is not None else ord(name[0])]) * 32
    return Member(
        name=name, node=node_id(seed), peer=peer_id(SigningKey.from_seed(seed).public.raw)
    )


A, B, C = member("aachen"), member("bern"), member("charite")


def test_the_digest_ignores_order_and_addresses():
    digests = {
        Charter0(consortium="demo", members=order).digest()
        for order in itertools.permutations([A, B, C])
    }
    moved = msgspec.structs.replace(A, addresses=("/ip4/10.0.0.1/tcp/4001",))
    digests.add(Charter0(consortium="demo", members=(moved, B, C)).digest())
    assert digests == {
        tagged("charter 0", encode(["demo", [[m.name, m.node, m.peer] for m in (A, B, C)]]))
    }


def test_the_digest_holds_everything_else():
    charters = [
        Charter0(consortium="demo", members=(A, B, C)),
        Charter0(consortium="other", members=(A, B, C)),
        Charter0(consortium="demo", members=(A, B)),
        Charter0(consortium="demo", members=(A, B, member("zug", ord("c")))),
        Charter0(consortium="demo", members=(A, B, msgspec.structs.replace(C, node="a" * 32))),
        Charter0(consortium="demo", members=(A, B, msgspec.structs.replace(C, peer=A.peer))),
    ]
    assert len({charter.digest() for charter in charters}) == len(charters)


@pytest.mark.parametrize(
    ("twice", "reason"),
    [
        (member("aachen", 7), r"members\[2\].name is 'aachen', as is members\[0\].name"),
        (msgspec.structs.replace(C, node=B.node), r"members\[2\].node .* members\[1\].node"),
        (msgspec.structs.replace(C, peer=A.peer), r"members\[2\].peer .* members\[0\].peer"),
    ],
)
def test_no_member_twice(twice, reason):
    Charter0(consortium="demo", members=(A, B, C)).validate()
    with pytest.raises(ConfigError, match=reason):
        Charter0(consortium="demo", members=(A, B, twice)).validate()


def test_a_consortium_has_members():
    with pytest.raises(ConfigError, match="no members"):
        Charter0(consortium="demo", members=()).validate()


@pytest.mark.parametrize(
    ("field", "wrong"),
    [("name", "Bern"), ("node", "b"), ("peer", "12D3KooW"), ("port", 1), ("addresses", "/ip4")],
)
def test_fields_are_checked_when_a_list_is_read(field, wrong):
    table = {**msgspec.to_builtins(B), field: wrong}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"consortium": "demo", "members": [table]}, Charter0)

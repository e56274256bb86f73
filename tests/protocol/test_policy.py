"""Policies: the example of the specification, evaluation, and what no policy may say."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol import checkpoint, cosignature, merkle, policy, proof
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.cosignature import WitnessKey
from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    ManifestRefused,
    RemoteError,
    SignatureRefused,
)
from konsil.protocol.identity import SigningKey
from konsil.protocol.limits import Limits
from konsil.protocol.note import NoteKey
from konsil.protocol.policy import Group

LOG = SigningKey.from_seed(b"L" * 32)
ORIGIN = "alps/bern"
LOG_VKEY = NoteKey(ORIGIN, LOG.public).vkey
LABELS = ["X1", "X2", "X3", "Y1", "Y2", "Y3"]
WIT = {label: SigningKey.from_seed(label.encode() * 16) for label in LABELS}
VKEY = {label: WitnessKey(f"alps/{label}", key.public).vkey for label, key in WIT.items()}
ENTRY = b"an entry"
TREE = merkle.Tree([merkle.leaf_hash(ENTRY), merkle.leaf_hash(b"another")])
NOTE = checkpoint.sign(Checkpoint(origin=ORIGIN, size=2, root=TREE.root()), LOG)

EXAMPLE = f"""# the example of the specification
log {LOG_VKEY}

witness X1 {VKEY["X1"]}
witness X2 {VKEY["X2"]}
witness X3 {VKEY["X3"]}
group X-witnesses 2 X1 X2 X3

\twitness  Y1\t{VKEY["Y1"]} https://example.com/y1 \t
witness Y2 {VKEY["Y2"]}
witness Y3 {VKEY["Y3"]}
group Y-witnesses any Y1 Y2 Y3
  # a comment behind blanks
group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""


def parsed(text):
    return policy.parse(text.encode())


def by(*labels, data=NOTE):
    return data + b"".join(
        cosignature.sign(data, f"alps/{label}", WIT[label], 100 + LABELS.index(label))
        for label in labels
    )


def test_the_example_of_the_specification_is_read():
    found = parsed(EXAMPLE)
    assert [item.key.vkey for item in found.logs] == [LOG_VKEY]
    assert {item.name: item.key.vkey for item in found.witnesses} == VKEY
    assert [item.url for item in found.witnesses].count("https://example.com/y1") == 1
    assert found.groups == (
        Group(name="X-witnesses", threshold=2, members=("X1", "X2", "X3")),
        Group(name="Y-witnesses", threshold=1, members=("Y1", "Y2", "Y3")),
        Group(name="X-and-Y", threshold=2, members=("X-witnesses", "Y-witnesses")),
    )
    assert found.quorum == "X-and-Y"


def test_every_set_of_cosigners_is_judged_as_the_groups_say():
    rule = parsed(EXAMPLE)
    for count in range(7):
        for labels in itertools.combinations(LABELS, count):
            enough = len({*labels} & {"X1", "X2", "X3"}) > 1 and {*labels} & {"Y1", "Y2", "Y3"}
            if enough:
                found = policy.evaluate(rule, by(*labels))
                assert found.times == {one: 100 + LABELS.index(one) for one in labels}
                assert found.checkpoint.size == 2
            else:
                with pytest.raises(ManifestRefused, match="witnessed by"):
                    policy.evaluate(rule, by(*labels))


def test_a_single_witness_or_none_may_decide():
    head = f"log {LOG_VKEY}\nwitness X1 {VKEY['X1']}\n"
    assert policy.evaluate(parsed(head + "quorum none\n"), NOTE).times == {}
    alone = parsed(head + "quorum X1\n")
    assert policy.evaluate(alone, by("X1")).times == {"X1": 100}
    with pytest.raises(ManifestRefused, match="nobody"):
        policy.evaluate(alone, by("X2"))


def test_without_a_log_of_the_policy_nothing_counts():
    rule = parsed(EXAMPLE)
    stranger = checkpoint.sign(Checkpoint(origin=ORIGIN, size=2, root=TREE.root()), WIT["X1"])
    with pytest.raises(SignatureRefused, match="log of the policy"):
        policy.evaluate(rule, by("X1", "X2", "Y1", data=stranger))
    other = Checkpoint(origin="alps/ulm", size=2, root=TREE.root())
    renamed = checkpoint.sign(other, LOG)
    with pytest.raises(SignatureRefused):
        policy.evaluate(rule, by("X1", "X2", "Y1", data=renamed))
    with pytest.raises(RemoteError):
        policy.evaluate(parsed("quorum none\n"), NOTE)
    foreign = by("X1", data=renamed).removeprefix(renamed)
    with pytest.raises(SignatureRefused):
        policy.evaluate(rule, by("X2", "X3", "Y1") + foreign)


W1, W2 = f"witness a {VKEY['X1']}\n", f"witness b {VKEY['X2']}\n"
RULE = "quorum none\n"


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("", EncodingRefused),
        ("quorum none", EncodingRefused),
        ("quorum none\r\n", EncodingRefused),
        ("quorum none\n\x00\n", EncodingRefused),
        ("quorum none\n\x7f\n", EncodingRefused),
        ("quorum\u00a0none\n", EncodingRefused),
        ("quorum none none\n", EncodingRefused),
        ("Quorum none\n", EncodingRefused),
        ("monitor x\nquorum none\n", EncodingRefused),
        ("quorum none # really\n", EncodingRefused),
        (f"log {VKEY['X1']} one two\n{RULE}", EncodingRefused),
        (f"log broken\n{RULE}", EncodingRefused),
        (f"witness a\n{RULE}", EncodingRefused),
        (f"{W1}group g 1\n{RULE}", EncodingRefused),
        (f"{W1}group g 01 a\n{RULE}", EncodingRefused),
        (f"{W1}group g 0 a\n{RULE}", EncodingRefused),
        (f"{W1}group g -1 a\n{RULE}", EncodingRefused),
        (f"{W1}group g one a\n{RULE}", EncodingRefused),
        (f"{W1}group g ١ a\n{RULE}", EncodingRefused),
        (f"{W1}group g 2 a\n{RULE}", ManifestRefused),
        (f"{W1}group g 999999 a\n{RULE}", ManifestRefused),
        ("\n", ManifestRefused),
        (f"{W1}", ManifestRefused),
        ("quorum none\nquorum none\n", ManifestRefused),
        ("quorum a\n", ManifestRefused),
        (f"quorum a\n{W1}", ManifestRefused),
        (f"{W1}group g any a c\n{RULE}", ManifestRefused),
        (f"{W1}group g any a g\n{RULE}", ManifestRefused),
        (f"{W1}{W2}group g any a h\ngroup h any b g\n{RULE}", ManifestRefused),
        (f"{W1}group g any none\n{RULE}", ManifestRefused),
        (f"{W1}group g 2 a a\n{RULE}", ManifestRefused),
        (f"{W1}{W2}group g any a b\ngroup h any a\n{RULE}", ManifestRefused),
        (f"{W1}{W2}group g any a\ngroup h any b\ngroup i 2 g g\n{RULE}", ManifestRefused),
        (f"{W1}group a any a\n{RULE}", ManifestRefused),
        (f"{W1}witness a {VKEY['X2']}\n{RULE}", ManifestRefused),
        (f"{W1}witness b {VKEY['X1']}\n{RULE}", ManifestRefused),
        (f"witness none {VKEY['X1']}\n{RULE}", ManifestRefused),
        (f"log {LOG_VKEY}\nlog {LOG_VKEY}\n{RULE}", ManifestRefused),
        (f"log {LOG_VKEY}\nlog {NoteKey('other', LOG.public).vkey}\n{RULE}", ManifestRefused),
        (f"log {VKEY['X1']}\n{RULE}", ManifestRefused),
        (f"witness a {LOG_VKEY}\n{RULE}", ManifestRefused),
    ],
)
def test_no_policy_says_this(text, refusal):
    with pytest.raises(refusal):
        parsed(text)


def test_other_bytes_are_no_policy():
    with pytest.raises(EncodingRefused):
        policy.parse(b"# \xff\nquorum none\n")
    with pytest.raises(LimitExceeded):
        policy.parse(b"#" * 300_000 + b"\nquorum none\n")
    chain = "".join(f"group g{n + 1} all g{n}\n" for n in range(20))
    text = f"{W1}group g0 all a\n{chain}quorum g20\n"
    assert len(parsed(text).groups) == 21
    with pytest.raises(LimitExceeded):
        policy.parse(text.encode(), limits=Limits(members=20))


def test_a_long_chain_of_groups_is_one_pass():
    chain = "".join(f"group g{n + 1} all g{n}\n" for n in range(1000))
    head = f"log {LOG_VKEY}\nwitness X1 {VKEY['X1']}\ngroup g0 all X1\n"
    rule = parsed(f"{head}{chain}quorum g1000\n")
    assert policy.evaluate(rule, by("X1")).times == {"X1": 100}
    with pytest.raises(ManifestRefused):
        policy.evaluate(rule, NOTE)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(["a", "b", "g", "h", "none", "group", "witness", "quorum", "any", "all",
                         "1", "2", VKEY["X1"], VKEY["X2"], LOG_VKEY, "log", "\n", "\n", "#"]),
        max_size=30,
    )
)  # fmt: skip
def test_any_text_is_a_policy_or_refused(words):
    text = " ".join(words).encode() + b"\n"
    try:
        found = policy.parse(text)
    except RemoteError:
        return
    names = [one.name for one in (*found.witnesses, *found.groups)]
    assert len({*names, "none"}) == len(names) + 1
    assert found.quorum in {*names, "none"}


def proven(data, extra=ENTRY, index=0):
    return proof.encode(
        proof.Proof(index=index, hashes=tuple(TREE.inclusion(0)), checkpoint=data, extra=extra)
    )


def test_a_proof_is_checked_under_a_policy():
    rule = parsed(EXAMPLE)
    data = by("X1", "X3", "Y2")
    leaf = merkle.leaf_hash(ENTRY)
    found = proof.check(proven(data), rule)
    assert (found.checkpoint.size, set(found.times)) == (2, {"X1", "X3", "Y2"})
    assert proof.check(proven(data), rule, leaf=leaf) == found
    assert proof.check(proven(data, extra=None), rule, leaf=leaf) == found
    with pytest.raises(ManifestRefused, match="witnessed by X1 only"):
        proof.check(proven(by("X1")), rule)
    for wrong, claimed in (
        (proven(data, extra=None), None),
        (proven(data), bytes(32)),
        (proven(data, extra=None), bytes(32)),
        (proven(data, extra=b"another"), None),
        (proven(data, index=1), None),
    ):
        with pytest.raises(ManifestRefused):
            proof.check(wrong, rule, leaf=claimed)

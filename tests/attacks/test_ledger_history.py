"""Attacks on what happened: history rewritten, cut, doubled, dated or invented (A3, A4, A5,
A14, A15, A16, A18).

The owner has every key, so a ledger alone mostly looks genuine; what others hold tells.
"""

from __future__ import annotations

import shutil

import msgspec
import pytest
from ledgers import Clock, Hospital, acquaint, falsify, payload, train_of, two
from pinned import genuine, missed, pinned, refusal, verify
from vouched import cosign

from konsil.protocol import fork
from konsil.protocol.digest import sha256
from konsil.protocol.learning_bodies import ModelBase, Part


@pytest.fixture
def pair(tmp_path):
    """Two open hospitals on one clock; graz has received what bern published."""
    bern, graz = two(tmp_path)
    bern.train()
    return bern, graz


def closed(*hospitals):
    """The homes of hospitals that write no more."""
    for one in hospitals:
        one.close()
    return [one.home for one in hospitals]


def copy_of(hospital, name):
    """A copy of a home, as it is when its node is stopped; the node then goes on."""
    hospital.close()
    copied = shutil.copytree(hospital.home, hospital.home.parent / name)
    hospital.reopen()
    return copied


def replaced(home, other):
    shutil.rmtree(home)
    shutil.copytree(other, home)


# --- A3, A4: rewritten, cut back, cloned ------------------------------------------------------


def test_a3_a_history_rewritten_and_signed_anew(pair):
    bern, graz = pair
    older = copy_of(bern, "older")
    graz.receive(bern.publish(), bern.author)
    closed(bern)
    replaced(bern.home, older)
    bern.reopen()
    bern.journal.append([train_of(bern, base=bern.before, out=sha256(b"made up"))] * 9)
    homes = closed(bern, graz)
    genuine(bern.home)
    assert not missed("a3", *homes)


def test_a4_a_backup_put_back(pair):
    bern, graz = pair
    older = copy_of(bern, "older")
    graz.receive(bern.publish(), bern.author)
    homes = closed(bern, graz)
    replaced(bern.home, older)
    genuine(bern.home)
    assert not missed("a4", *homes)


def test_a4_cut_back_to_an_older_state_but_for_what_others_cosigned(pair):
    bern, graz = pair
    acquaint(bern, graz)
    older = copy_of(bern, "older")
    bern.train()
    kept = cosign(bern, {graz: bern.clock.now // 1_000})
    closed(bern, graz)
    replaced(bern.home, older)
    (bern.home / "ledger" / "cosigned").write_bytes(kept)
    assert not missed("a4", bern.home, form="cosigned")


def test_a4_a_cloned_machine_that_goes_on_beside_the_first(pair):
    bern, _ = pair
    clone = copy_of(bern, "clone")
    bern.publish()
    closed(bern)
    real, bern.home = bern.home, clone
    bern.reopen()
    bern.train()
    closed(bern)
    for home in (real, clone):
        genuine(home)
    assert not missed("a4", real, clone, form="clone")
    assert refusal("audit", "diff", real, clone) == pinned("a4", "diff")


# --- A5: two faces ----------------------------------------------------------------------------


def test_a5_two_histories_shown_to_two_peers(tmp_path):
    clock = Clock()
    liar, graz, ulm = (Hospital(tmp_path, name, clock=clock) for name in ("liar", "graz", "ulm"))
    liar.train()
    twin = copy_of(liar, "twin")
    one = liar.publish()
    graz.receive(one, liar.author)
    closed(liar)
    real, liar.home = liar.home, twin
    liar.sequence = 7
    liar.reopen()
    other = liar.publish(payload(liar.values + 5))
    ulm.receive(other, liar.author)
    _, *peers = closed(liar, graz, ulm)
    for face, peer in zip((real, twin), peers, strict=True):
        genuine(face, peer)
        assert not missed("a5", face, *peers)
        genuine(peer)
    assert not missed("a5", *peers)
    # The two who were lied to need nobody else's files to convince a stranger.
    proof = tmp_path / "proof"
    proof.write_bytes(fork.build(note_in(one.proof), note_in(other.proof)))
    given = (proof, "--genesis", peers[0] / "peers" / f"{liar.node}.genesis")
    assert refusal("audit", "fork", *given) == pinned("a5", "proof")
    assert refusal("audit", "check", *given) == pinned("a5", "proof")


def note_in(proven):
    """The checkpoint that a proof brings along."""
    return proven.partition(b"\n\n")[2]


# --- A14: another time ------------------------------------------------------------------------

HOUR_MS = 3_600_000


def grow(hospital):
    base = ModelBase(model=sha256(b"another"), source="", licence="", note="")
    hospital.journal.append([base])


def test_a14_an_entry_dated_later_than_it_was_seen(pair, tmp_path):
    """One clock alone says nothing against a log: two saw it."""
    bern, graz = pair
    ulm = Hospital(tmp_path, "ulm")
    acquaint(bern, graz, ulm)
    now = bern.clock.now
    bern.clock.now += HOUR_MS
    grow(bern)
    cosign(bern, dict.fromkeys((graz, ulm), now // 1_000))
    assert not missed("a14", *closed(bern))


def test_a14_an_entry_dated_back(pair, tmp_path):
    """Both cosigned an hour after the last entry; what follows says that it came before that."""
    bern, graz = pair
    ulm = Hospital(tmp_path, "ulm")
    acquaint(bern, graz, ulm)
    cosign(bern, dict.fromkeys((graz, ulm), (bern.clock.now + HOUR_MS) // 1_000))
    (home,) = closed(bern)
    genuine(home)
    bern.reopen()
    grow(bern)
    assert not missed("a14", *closed(bern))


def test_a14_published_after_it_was_received(tmp_path):
    bern = Hospital(tmp_path, "bern", clock=Clock(1_760_000_000_000 + HOUR_MS))
    graz = Hospital(tmp_path, "graz")
    bern.train()
    graz.receive(bern.publish(), bern.author)
    assert not missed("a14", *closed(bern, graz), form="received")


# --- A15: outside the log ---------------------------------------------------------------------


def test_a15_an_artifact_that_its_publisher_never_logged(pair):
    """Graz took it all the same, under the proof of another entry."""
    bern, graz = pair
    logged = bern.publish()
    closed(bern)
    secret = bern.home.parent / "secret"
    shutil.copytree(bern.home, secret)
    real, bern.home = bern.home, secret
    bern.reopen()
    bern.train()
    hidden = bern.publish()
    closed(bern)
    bern.home = real
    graz.receive(logged, bern.author)
    body = graz.journal.entry(graz.journal.size - 1).b
    graz._keep(hidden.data)
    sealed = graz.journal.blobs.put(hidden.envelope)
    graz.journal.append([msgspec.structs.replace(body, art=hidden.art, env=sealed)])
    closed(graz)
    genuine(real)
    assert not missed("a15", real, graz.home)


def test_a15_an_entry_that_its_publisher_hides(pair):
    bern, graz = pair
    base = ModelBase(model=sha256(b"another"), source="", licence="", note="")
    bern.journal.append([base] * 300)
    graz.receive(bern.publish(), bern.author)
    bern.journal.append([base] * 300)
    homes = closed(bern, graz)
    genuine(*homes)
    (bern.home / "ledger" / "tile" / "entries" / "001").unlink()
    assert not missed("a15", *homes, form="hidden")


def test_a15_mixed_in_and_never_received(pair):
    bern, graz = pair
    graz.train()
    sent = graz.publish()
    bern._keep(sent.data)
    bern.mix([sent])
    acquaint(bern, graz)
    assert not missed("a15", *closed(bern, graz), form="unreceived")


# --- A16: another mix than it says ------------------------------------------------------------


@pytest.fixture
def mixing(pair):
    """Bern holds an artifact of graz and is about to mix it."""
    bern, graz = pair
    graz.train()
    sent = graz.publish()
    bern.receive(sent, graz.author)
    return bern, graz, sent


def shares(*parts):
    return [Part(art=art, node=node, w_e9=w_e9, trust_e9=10**9) for art, node, w_e9 in parts]


def test_a_mix_of_what_it_says_replays(mixing):
    bern, graz, sent = mixing
    bern.mix([sent])
    assert verify(*closed(bern, graz), options=("--replay",)) == (0, set())


def test_a16_mixed_with_other_weights(mixing):
    bern, graz, sent = mixing
    half = 10**9 // 2
    parts = shares((bern.model, bern.node, half - 7), (sent.art, graz.node, half + 7))
    bern.mix([sent], parts=parts)
    replay = ("--replay",)
    assert not missed("a16", *closed(bern, graz), also=("integrate.weight",), options=replay)


def test_a16_a_part_left_out_of_the_list(mixing):
    bern, graz, sent = mixing
    bern.mix([sent], parts=shares((bern.model, bern.node, 10**9)))
    replay = ("--replay",)
    assert not missed("a16", *closed(bern, graz), also=("integrate.weight",), options=replay)


def test_a16_another_artifact_in_the_place_of_the_listed(mixing):
    bern, graz, sent = mixing
    bern.mix([sent], out=bern.store.put(payload(bern.values + 5)))
    assert not missed("a16", *closed(bern, graz), options=("--replay",))


# --- A18: descent that cannot be --------------------------------------------------------------


def test_a18_a_model_made_from_its_own_descendant(tmp_path):
    bern, graz = two(tmp_path)
    a, b = sha256(b"a"), sha256(b"b")
    for one, base, out in ((bern, a, b), (graz, b, a)):
        one.journal.append([ModelBase(model=base, source="", licence="", note="")])
        one.journal.append([train_of(one, base=base, out=out)])
    homes = closed(bern, graz)
    for home in homes:
        genuine(home)
    assert not missed("a18", *homes)


def test_a18_one_model_from_two_sets_of_parents(pair):
    bern, _ = pair
    bern.journal.append([train_of(bern, base=bern.model, out=sha256(b"a"))])
    bern.journal.append([train_of(bern, base=sha256(b"a"), out=bern.model)])
    assert not missed("a18", *closed(bern), form="reused")


@pytest.mark.parametrize("missing", [1, -1, 10**9 // 2])
def test_a18_weights_that_are_no_whole(mixing, missing):
    bern, graz, sent = mixing
    plain = msgspec.to_builtins(bern.mix([sent]), builtin_types=(bytes,))
    plain["parts"][0]["w_e9"] -= missing
    plain["out"] = sha256(b"another mix")
    falsify(bern, lambda entry: entry | {"t": "artifact.integrate", "b": plain})
    closed(graz)
    also = ("trust.training", "integrate.weight")
    assert not missed("a18", bern.home, graz.home, form="sum", also=also)

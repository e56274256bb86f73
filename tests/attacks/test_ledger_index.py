"""A27: `index.sqlite` lies, and every answer is the one that the files give without it.

Each poison is put in the place of a genuine index. Whatever it says, the commands of an audit end
with the same exit code and print the same; what stands in its place and is no file is a finding
like any other stray thing. The codes are those of `codes.toml`.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path

import pytest
from commands import konsil
from ledgers import Hospital, change_key, consortium, sign_again

from konsil.node.store.indexing import update
from konsil.protocol import entries
from konsil.protocol.digest import sha256
from konsil.protocol.learning_bodies import ArtifactPublish, ModelBase
from konsil.protocol.node_bodies import KeyRevoke
from konsil.trust.inplace import InPlace

A27 = tomllib.loads((Path(__file__).parent / "codes.toml").read_text())["a27"]
TOOL = Path(__file__).resolve().parents[2] / "tools" / "verify_ledger.py"
TWICE = sha256(b"made twice")
COUNT = 300


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Two homes with bundles, tails and an index; bern makes one model twice."""
    root = tmp_path_factory.mktemp("indexed")
    homes = consortium(root, "bern", "graz", rounds=2)
    for one in homes:
        journal = one.reopen()
        journal.append([base(sha256(b"%d" % at)) for at in range(COUNT)])
        journal.append([base(TWICE), base(sha256(b"between")), base(TWICE)])
        one.close()
        update(one.home / "ledger")
    return [one.home for one in homes]


@pytest.fixture
def homes(kept, tmp_path, monkeypatch):
    """Copies of the two, named as seen from where they lie, so that outputs can be compared."""
    monkeypatch.chdir(tmp_path)
    return [shutil.copytree(home, Path(home.name)) for home in kept]


@pytest.fixture(scope="module")
def plain(kept, tmp_path_factory):
    """What the files give without an index."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("plain"))
        homes = [shutil.copytree(home, Path(home.name)) for home in kept]
        for home in homes:
            place(home).unlink()
        found, complaints = answers(homes)
        assert "index" not in complaints
        return found, asked_whole(homes)


def base(model):
    return ModelBase(model=model, source="", licence="", note="")


def published(home):
    log = InPlace(home / "ledger")
    told = (entries.decode(log.entry(at)) for at in range(log.size))
    return next(one.b for one in told if isinstance(one.b, ArtifactPublish))


def answers(homes):
    """Exit code and output of what looks something up, and of what judges."""
    body = published(homes[0])
    digests = (body.env, sha256(b"17"), TWICE, bytes([1] * 32))
    return asked(
        *(("prove", homes[0], digest.hex()) for digest in digests), ("verify", *homes, "--strict")
    )


def asked_whole(homes):
    """The same of everything else that may be asked, and that no index can answer."""
    body = published(homes[0])
    words = (body.art.hex(), body.derived_from[0].hex(), body.env.hex()[:13], "00" * 32, "01", "5")
    found, complaints = asked(
        *(("prove", homes[0], word) for word in words),
        ("artifact", *homes, body.env.hex()[:20]),
        ("timeline", *homes, "--type", "artifact"),
        ("lineage", *homes),
    )
    assert "index" not in complaints
    return found


def asked(*commands):
    done = [konsil("audit", *one, "--json") for one in commands]
    return [(one.code, one.out) for one in done], "".join(one.err for one in done)


def sql(home, *lines):
    with closing(sqlite3.connect(home / "ledger" / "index.sqlite", isolation_level=None)) as base:
        for line in lines:
            base.execute(line)


# --- what an index may say -----------------------------------------------------------------------


def at_other_places(home):
    sql(home, "CREATE TABLE x AS SELECT what, n + 1 AS n FROM mention", "DELETE FROM mention",
        "INSERT INTO mention SELECT what, n FROM x WHERE n < 300", "DROP TABLE x")  # fmt: skip


def all_at_one_place(home):
    sql(home, "CREATE TABLE x AS SELECT DISTINCT what FROM mention", "DELETE FROM mention",
        "INSERT INTO mention SELECT what, 3 FROM x", "DROP TABLE x")  # fmt: skip


def at_every_place(home):
    sql(home, "INSERT OR IGNORE INTO mention SELECT what, e.n FROM mention m, entry e"
        " WHERE e.n < 40")  # fmt: skip


def without_rows(home):
    sql(home, "DELETE FROM mention")


def without_one_of_two(home):
    sql(home, f"DELETE FROM mention WHERE what = x'{TWICE[:8].hex()}' AND n ="
        " (SELECT max(n) FROM mention)")  # fmt: skip


def without_what_publishes(home):
    sql(home, "DELETE FROM mention WHERE n IN (SELECT n FROM entry WHERE t = 'artifact.publish')")


def with_other_types(home):
    sql(home, "UPDATE entry SET t = 'key.revoke'")


def of_a_longer_log(home):
    sql(home, "UPDATE log SET size = size + 1000")


def of_an_empty_log(home):
    sql(home, "UPDATE log SET size = 0")


def with_another_root(home):
    sql(home, f"UPDATE log SET root = x'{'11' * 32}'")


def with_a_root_that_is_text(home):
    sql(home, "UPDATE log SET root = 'root'")


def with_two_states(home):
    sql(home, "INSERT INTO log SELECT * FROM log")


def with_places_that_are_none(home):
    sql(home, "CREATE TABLE x AS SELECT DISTINCT what FROM mention",
        "INSERT INTO mention SELECT what, -1 FROM x",
        "INSERT INTO mention SELECT what, 9e300 FROM x",
        "INSERT INTO mention SELECT what, 'a' FROM x",
        "INSERT INTO mention SELECT what, 1 << 62 FROM x", "DROP TABLE x")  # fmt: skip


def of_another_version(home):
    sql(home, "PRAGMA user_version = 9")


def with_a_trigger(home):
    sql(home, "CREATE TRIGGER t AFTER INSERT ON log BEGIN DELETE FROM mention; END")


def with_an_endless_view(home):
    sql(home, "DROP TABLE mention", "CREATE VIEW mention AS WITH RECURSIVE r(what, n) AS ("
        "SELECT x'00', 0 UNION ALL SELECT randomblob(8), n FROM r) SELECT * FROM r")  # fmt: skip


def with_a_column_that_computes(home):
    sql(home, "DROP TABLE log", "CREATE TABLE log (size INTEGER NOT NULL, root BLOB"
        " AS (zeroblob(size)) VIRTUAL)", "INSERT INTO log VALUES (900000000)")  # fmt: skip


def of_the_other_home(home):
    shutil.copy(home.parent / "graz" / "ledger" / "index.sqlite", home / "ledger")


def place(home):
    return home / "ledger" / "index.sqlite"


def empty(home):
    place(home).write_bytes(b"")


def text(home):
    place(home).write_text("entry 3 publishes it\n" * 500)


def cut_short(home):
    data = place(home).read_bytes()
    place(home).write_bytes(data[: len(data) // 2])


def with_changed_pages(home):
    data = bytearray(place(home).read_bytes())
    for at in range(4_096 + 7, len(data), 97):
        data[at] ^= 0xFF
    place(home).write_bytes(data)


def giant(home):
    with place(home).open("r+b") as file:
        file.truncate(3 << 40)


def unreadable_to_sqlite(home):
    place(home).write_bytes(place(home).read_bytes()[:100] + bytes(1 << 20))


LIES = (
    at_other_places, all_at_one_place, at_every_place, without_rows, without_one_of_two,
    without_what_publishes, with_other_types, of_a_longer_log, of_an_empty_log, with_another_root,
    with_a_root_that_is_text, with_two_states, with_places_that_are_none, of_another_version,
    with_a_trigger, with_an_endless_view, with_a_column_that_computes, of_the_other_home, empty,
    text, cut_short, with_changed_pages, giant, unreadable_to_sqlite,
)  # fmt: skip


def test_with_a_genuine_index_and_without_one_the_answers_are_the_same(homes, plain, monkeypatch):
    found, complaints = answers(homes)
    assert (found, asked_whole(homes)) == plain
    assert "index" not in complaints
    assert [code for code, _ in found] == [0, 0, 2, 4, 0]
    monkeypatch.setattr("konsil.trust.questions.proving.walk_ledger", None)
    assert asked(("prove", homes[0], sha256(b"17").hex()))[0] == [found[1]]  # all was not read


@pytest.mark.parametrize("lie", LIES)
def test_a_poisoned_index_changes_no_answer(homes, plain, lie):
    lie(homes[0])
    found, complaints = answers(homes)
    assert found == plain[0]
    findings = json.loads(found[-1][1])["data"]["findings"]
    assert (found[-1][0], findings) == (A27["exit"], [])
    notices = [line for line in complaints.splitlines() if "the index is set aside" in line]
    assert notices
    assert all("konsil audit recover" in line for line in notices)


# --- what is no file -----------------------------------------------------------------------------


def as_a_link(path):
    path.rename(path.parents[1] / "index")
    path.symlink_to(path.parents[1] / "index")


def as_a_folder(path):
    path.unlink()
    path.mkdir()


def as_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("make", [as_a_link, as_a_folder, as_a_pipe])
def test_what_is_no_file_is_found_and_never_opened(homes, make):
    digest = published(homes[0]).env.hex()
    proof = konsil("audit", "prove", homes[0], digest).out
    make(place(homes[0]))
    done = konsil("audit", "verify", *homes, "--json")
    findings = json.loads(done.out)["data"]["findings"]
    assert done.code == A27["stray"]["exit"]
    assert {one["code"] for one in findings} == {A27["stray"]["code"]}
    again = konsil("audit", "prove", homes[0], digest)
    assert (again.code, again.out) == (0, proof)


def test_the_second_verifier_lets_it_lie_and_does_not_follow_it(homes):
    def second():
        command = [sys.executable, TOOL, *homes]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    text(homes[0])
    giant(homes[1])
    assert second().returncode == A27["exit"]
    as_a_link(place(homes[0]))
    done = second()
    assert done.returncode == A27["stray"]["exit"]
    assert A27["stray"]["code"] in done.stdout


@pytest.mark.parametrize("suffix", ["-wal", "-journal", "-shm", ".bak"])
def test_nothing_else_may_lie_beside_it(homes, suffix):
    place(homes[0]).with_name(f"index.sqlite{suffix}").write_bytes(b"")
    done = konsil("audit", "verify", *homes, "--json")
    findings = json.loads(done.out)["data"]["findings"]
    assert (done.code, [one["code"] for one in findings]) == (3, [A27["stray"]["code"]])


# --- an index that hides something, and files that were changed with it --------------------------


def test_a_revocation_that_the_index_hides_still_counts(tmp_path):
    """A thief signs with the revoked key; hiding the revocation from the index does not help."""
    bern = Hospital(tmp_path, "bern")
    bern.train()
    sent = bern.publish()
    stolen = bern.keys["log"]
    change_key(bern, KeyRevoke, "log", good=2)
    sign_again(bern, stolen)
    update(bern.home / "ledger")
    plain = konsil("audit", "prove", bern.home, sent.art.hex())
    sql(bern.home, "DELETE FROM entry WHERE t LIKE 'key.%'")
    hidden = konsil("audit", "prove", bern.home, sent.art.hex())
    assert plain.code == hidden.code == 3
    assert plain.err.splitlines()[-1] == hidden.err.splitlines()[-1]


def test_with_changed_entries_an_index_proves_nothing_that_is_not_there(homes):
    model = sha256(b"17")
    bundle = homes[0] / "ledger" / "tile" / "entries" / "000"
    data = bundle.read_bytes()
    other = bytes([model[0]]) + bytes(31)
    bundle.write_bytes(data.replace(model, other))
    for word in (model.hex(), other.hex()):
        assert konsil("audit", "prove", homes[0], word).code in (3, 4)

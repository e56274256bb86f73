"""The second verifier: it stands alone, shares no code with konsil, and agrees with its audit.

Agreement is on the exit code that follows from the findings whose codes both programs know, so
that trust evidence and the rules of the office, which the second one leaves out, do not count.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import itertools
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tokenize
from pathlib import Path

import msgspec
import pytest
from bodies import CHANGE
from commands import konsil
from ledgers import (
    Hospital,
    acquaint,
    change_key,
    codes,
    consortium,
    falsify,
    keys_in_a_bundle,
    mirrored,
    payload,
    release,
    sign_again,
    tail_of,
    train_of,
    two,
    vouched,
    word_of_redaction,
)
from vouched import cosign

from konsil.protocol import checkpoint as heads
from konsil.protocol import cosignature, fork, merkle
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.digest import sha256
from konsil.protocol.identity import KeySet, SigningKey
from konsil.protocol.learning_bodies import ModelBase, Part
from konsil.protocol.node_bodies import KeyRevoke, KeyRotate, key_change
from konsil.trust.audit import verify_homes
from konsil.trust.report import CODES
from konsil.trust.witnessing import Forked, Newer, Watch, settle, watch

CHECKOUT = Path(__file__).resolve().parents[2]
TOOL = CHECKOUT / "tools" / "verify_ledger.py"
FLOORS = ("protocol", "knowledge", "trust", "node", "simulations")
EXHAUSTIVE = pytest.param(None, marks=pytest.mark.exhaustive, id="all")


def load():
    spec = importlib.util.spec_from_file_location("verify_ledger", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules["verify_ledger"] = module
    spec.loader.exec_module(module)
    return module


second = load()
COMMON = second.EXIT_OF.keys() & CODES.keys() - {"integrate.weight"}


# --- it stands alone --------------------------------------------------------------------------


def test_it_imports_nothing_but_two_libraries_and_the_standard_one():
    found = set()
    for node in ast.walk(ast.parse(TOOL.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add(node.module.split(".")[0])
    assert found - sys.stdlib_module_names == {"cryptography", "msgpack"}


def test_it_runs_where_konsil_is_not(tmp_path):
    """In isolated mode, with the import of konsil made impossible."""
    (home,) = [one.home for one in consortium(tmp_path, "bern", rounds=1)]
    code = (
        "import runpy, sys\n"
        "sys.modules['konsil'] = None\n"
        f"sys.argv = ['verify_ledger.py', {str(home)!r}]\n"
        f"runpy.run_path({str(TOOL)!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False, cwd="/"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "not judged here: trust evidence" in done.stdout
    assert done.stdout.endswith("verified\n")


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_an_output_that_takes_nothing_is_told_in_one_line(tmp_path, options):
    (home,) = [one.home for one in consortium(tmp_path, "bern", rounds=1)]
    command = [sys.executable, TOOL, home, *options]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 6
    (line,) = done.stderr.decode().splitlines()
    assert line == "standard output: No space left on device"


def test_that_nobody_listens_changes_no_verdict(tmp_path):
    homes = [one.home for one in consortium(tmp_path, "bern", rounds=1)]
    for code in (0, 3):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [sys.executable, TOOL, *homes], stdout=writer, stderr=subprocess.PIPE, check=False
        )
        os.close(writer)
        assert (done.returncode, done.stderr) == (code, b"")
        (homes[0] / "ledger" / "stray").touch()


def code_tokens(text):
    """The tokens of a module without comments, docstrings and layout, and their lines."""
    skip = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    fresh = True
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in skip:
            fresh = fresh or token.type in (tokenize.NEWLINE, tokenize.INDENT)
        elif not (fresh and token.type == tokenize.STRING):
            fresh = False
            yield token.string, token.start[0]


def code_lines(text):
    """Each line of code as its tokens; imports and closing brackets are nobody's own."""
    lines = {}
    for word, line in code_tokens(text):
        lines.setdefault(line, []).append(word)
    found = [" ".join(words) for words in lines.values()]
    return [line for line in found if any(c.isalnum() for c in line) and "import" not in line]


def runs(items, length):
    return {tuple(items[at : at + length]) for at in range(len(items) - length + 1)}


def test_it_shares_no_code_with_the_product():
    text = TOOL.read_text()
    own_lines = runs(code_lines(text), 6)
    own_words = runs([word for word, _ in code_tokens(text)], 30)
    files = [path for floor in FLOORS for path in sorted((CHECKOUT / floor).rglob("*.py"))]
    assert len(files) > 50
    for path in files:
        other = path.read_text()
        assert own_lines & runs(code_lines(other), 6) == set(), path
        assert own_words & runs([word for word, _ in code_tokens(other)], 30) == set(), path


# --- agreement --------------------------------------------------------------------------------


def gravest(exits):
    return next((one for one in (3, 4, 1) if one in exits), 0)


def ours(homes, replay=False):
    verdict, _ = second.verify([Path(home) for home in homes], replay)
    found = {one.code for one in verdict.findings}
    return gravest({second.EXIT_OF[one] for one in found & COMMON}), found


def agreed(homes, replay=False):
    """The exit code that both programs give, or a failed test; and the codes of the second."""
    theirs = verify_homes(list(homes), replay=replay)
    expected = gravest({CODES[one.code] for one in theirs.findings if one.code in COMMON})
    code, found = ours(homes, replay)
    assert code == expected, (found, [one.line() for one in theirs.findings])
    return code, found


def test_every_code_has_the_exit_code_of_the_specification():
    page = (CHECKOUT / "docs" / "spec" / "ledger.md").read_text()
    for code, number in second.EXIT_OF.items():
        assert f"| `{code}` | {number} |" in page


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    root = tmp_path_factory.mktemp("learned")
    consortium(root, "bern", "graz", "ulm")
    return root


@pytest.fixture
def homes(learned, tmp_path):
    shutil.copytree(learned, tmp_path / "homes")
    return [tmp_path / "homes" / name for name in ("bern", "graz", "ulm")]


@pytest.fixture(scope="module")
def long_log(tmp_path_factory):
    """A home with two full bundles and tiles; beside it the tail as it was before."""
    bern, _ = two(tmp_path_factory.mktemp("long"))
    base = ModelBase(model=bern.model, source="", licence="", note="")
    bern.journal.append([base] * 600)
    before = tail_of(bern.home).read_bytes()
    bern.close()
    return bern.home, before


def test_honest_homes_verify_and_every_mix_is_computed_again(homes):
    assert agreed(homes, replay=True) == (0, set())
    _, read = second.verify(homes, True)
    assert [home.replayed for home in read] == [2, 2, 2]
    assert [len(home.receipts) for home in read] == [4, 4, 4]
    assert agreed(homes[:1], replay=True) == (0, set())
    assert "not checked against others" in second.verify(homes[:1])[0].notices


def truth(home):
    files = [path for folder in ("ledger", "blobs") for path in sorted((home / folder).rglob("*"))]
    return [path for path in files if path.is_file() and path.name != "LOCK"]


def each_flip(home, sample):
    """One bit of each chosen byte of each file is flipped, and both programs see it."""
    draw, tried = random.Random(3), 0
    for path in truth(home):
        data = path.read_bytes()
        places = range(len(data))
        for place in places if sample is None else draw.sample(places, min(sample, len(data))):
            flipped = bytearray(data)
            flipped[place] ^= 1 << draw.randrange(8)
            path.write_bytes(flipped)
            code, _ = agreed([home])
            assert code == 3, (path.name, place)
            tried += 1
        path.write_bytes(data)
    return tried


@pytest.mark.parametrize("sample", [8, EXHAUSTIVE])
def test_every_flipped_bit_of_a_lived_in_home_is_seen_by_both(tmp_path, sample):
    home = consortium(tmp_path, "bern", "graz", rounds=1)[0].home
    assert each_flip(home, sample) > 80
    assert agreed([home]) == (0, set())


@pytest.mark.parametrize("sample", [8, EXHAUSTIVE])
def test_every_flipped_bit_of_bundles_and_tiles_is_seen_by_both(tmp_path, sample):
    bern, _ = two(tmp_path)
    bern.journal.append([ModelBase(model=bern.model, source="", licence="", note="")] * 260)
    bern.close()
    assert each_flip(bern.home, sample) > 30


def frames(path):
    """The entries of a tail."""
    data, found, at = path.read_bytes(), [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        found.append(data[at + 2 : at + 2 + length])
        at += length + 34
    return found


def frame(entry):
    return struct.pack(">H", len(entry)) + entry + second.leaf_of(entry)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda items: items[:3] + items[4:], "entry.position"),
        (lambda items: [*items[:4], *items[3:]], "entry.position"),
        (lambda items: [*items[:3], items[4], items[3], *items[5:]], "entry.position"),
        (lambda items: items[:-1], "checkpoint.rollback"),
        (lambda items: [*items[:5], items[5] + b"\0", *items[6:]], "entry.encoding"),
        (lambda items: [*items[:5], b"junk", *items[6:]], "entry.encoding"),
        (lambda items: items[1:], "entry.genesis"),
        (lambda items: [], "entry.genesis"),
        (lambda items: [*items, items[-1]], "entry.salt"),
    ],
)
def test_rewritten_entries(homes, change, expected):
    path = tail_of(homes[0])
    path.write_bytes(b"".join(map(frame, change(frames(path)))))
    code, found = agreed(homes[:1])
    assert (code, expected in found) == (3, True)


def test_every_cut_of_a_tail(homes):
    path = tail_of(homes[0])
    data, draw = path.read_bytes(), random.Random(4)
    for cut in [0, 1, len(data) - 1, *draw.sample(range(len(data)), 12)]:
        path.write_bytes(data[:cut])
        assert agreed(homes[:1])[0] == 3
        path.write_bytes(data[:cut] + bytes(len(data) - cut))
        assert agreed(homes[:1])[0] == 3


@pytest.mark.parametrize(
    "more",
    [b"\0", bytes(9), bytes(99), b"\0\5abc", b"\xff" * 40, b"\0\1x" + bytes(32),
     b"\0\0" + bytes(31), b"\0\0" + b"q" * 32, b"\xff\xff" + frame(b"x"), frame(b"x")],
)  # fmt: skip
def test_what_is_appended_to_a_tail(homes, more):
    path = tail_of(homes[0])
    path.write_bytes(path.read_bytes() + more)
    code, _ = agreed(homes[:1])
    assert code in (3, 4)


BEFORE = object()
DAMAGE = {
    "bundle gone": {"tile/entries/001": None},
    "first bundle gone": {"tile/entries/000": None},
    "tile gone": {"tile/0/001": None},
    "both gone": {"tile/entries/001": None, "tile/0/001": None},
    "short bundle": {"tile/entries/001": b"\0\5abc"},
    "short tile": {"tile/0/001": b"short"},
    "wrong tile": {"tile/0/001": bytes(8192)},
    "tile beyond": {"tile/0/002": bytes(8192)},
    "upper tile": {"tile/1/000": bytes(8192)},
    "far bundle": {"tile/entries/x999/x999/x999/999": b""},
    "far tail": {"tail.2560000000000": b""},
    "tail ahead": {"tail.768": b""},
    "empty tail": {"tail.512": b""},
    "no tail": {"tail.512": None},
    "older tail, torn": {"tail.256": b"\0\1xyz"},
    "older tail of another log": {"tail.256": frame(b"x")},
    "older tail, whole": {"tail.0": BEFORE},
    "only the older tail": {"tail.0": BEFORE, "tail.512": None},
    "only the older tail, a bundle gone": {
        "tail.0": BEFORE, "tail.512": None, "tile/entries/000": None,
    },
    "only the older tail, a bundle wrong": {
        "tail.0": BEFORE, "tail.512": None, "tile/entries/001": b"x",
    },
    "no checkpoint": {"checkpoint": None},
    "empty checkpoint": {"checkpoint": b""},
    "large checkpoint": {"checkpoint": bytes(20_000)},
    "a lock that holds bytes": {"LOCK": b"x"},
    "no lock": {"LOCK": None},
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_to_bundles_tiles_and_tails(long_log, tmp_path, name):
    home = tmp_path / "bern"
    shutil.copytree(long_log[0], home)
    for file, data in DAMAGE[name].items():
        path = home / "ledger" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if data is None:
            path.unlink()
        else:
            path.write_bytes(long_log[1] if data is BEFORE else data)
    agreed([home])


def as_file(path):
    path.write_bytes(b"x")


def as_folder(path):
    path.mkdir()


def as_link(path):
    path.symlink_to("/etc/hostname")


def as_fifo(path):
    os.mkfifo(path)


def as_giant(path):
    with path.open("wb") as file:
        file.truncate(3 << 40)


PLACES = [
    "ledger/stray", "ledger/tail.1", "ledger/tail.00", "ledger/tail.256", "ledger/tile/0/0000",
    "ledger/tile/9", "ledger/tile/7", "ledger/tile/0/x000/001", "ledger/tile/entries/x000",
    "ledger/tile/extra/000", "ledger/blobs/sha256/00/" + "11" * 32, "ledger/blobs/note.txt",
    "ledger/blobs/sha256/00/" + "00" * 32, "ledger/a.tmp", "ledger/blobs/sha256/b.tmp",
    "ledger/index.sqlite", "blobs/note.txt", "blobs/sha256/00/" + "00" * 32,
    "blobs/sha256/11/" + "00" * 32, "peers/" + "a" * 32 + ".genesis",
]  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_what_does_not_belong_and_what_is_no_file(homes, name):
    for make in (as_file, as_folder, as_link, as_fifo, as_giant):
        path = homes[0] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            make(path)
            agreed(homes[:1])
            path.rmdir() if make is as_folder else path.unlink()


@pytest.mark.parametrize("name", ["tail.0", "checkpoint", "LOCK"])
@pytest.mark.parametrize("make", [as_link, as_fifo, as_giant, as_folder])
def test_a_file_of_the_ledger_that_is_no_file(homes, name, make):
    path = homes[0] / "ledger" / name
    path.unlink()
    make(path)
    assert agreed(homes[:1])[0] == 3


def test_blobs_that_are_gone_or_changed(homes):
    used = [path for path in truth(homes[0]) if "blobs" in path.parts]
    for path in used:
        data = path.read_bytes()
        path.write_bytes(b"other")
        code, found = agreed(homes[:1], replay=True)
        assert (code, found - {"integrate.unreplayed"}) == (3, {"blob.corrupt"})
        path.write_bytes(data)
    for path in used:
        path.unlink()
    assert agreed(homes[:1], replay=True) == (4, {"blob.missing", "integrate.unreplayed"})
    assert ours(homes[:1])[0] == 4


def test_a_missing_evaluation_is_incomplete(homes):
    """The specification names `before` and `after` as blobs like any other."""
    hidden = 0
    for blob in (homes[0] / "ledger" / "blobs").rglob("*"):
        if blob.is_file() and blob.read_bytes().startswith(b"\x81\xa3auc"):
            blob.unlink()
            hidden += 1
    assert hidden
    assert agreed(homes[:1]) == (4, {"blob.missing"})


@pytest.mark.parametrize("size", [0, 1, 255, 256, 600, 602, 603])
def test_checkpoints_forged_and_older(long_log, tmp_path, size):
    home = tmp_path / "bern"
    shutil.copytree(long_log[0], home)
    path = home / "ledger" / "checkpoint"
    author = second.Author(second.read_entry(frames_of(home)[0]))
    forged = Checkpoint(origin=author.origin, size=size, root=bytes(32))
    path.write_bytes(heads.sign(forged, SigningKey.from_seed(bytes(32))))
    assert agreed([home])[0] == 3


def frames_of(home):
    """The entries of the first bundle, or of the tail."""
    bundle = home / "ledger" / "tile" / "entries" / "000"
    return [slot.data for slot in second.read_bundle(bundle.read_bytes(), bundle)]


def test_older_genuine_checkpoints(tmp_path):
    bern, _ = two(tmp_path)
    base = ModelBase(model=bern.model, source="", licence="", note="")
    bern.journal.append([base] * 300)
    bern.close()
    path = bern.home / "ledger" / "checkpoint"
    tree = second.Tree([s.leaf for s in second.Home(bern.home, second.Verdict()).log.slots])
    for size, expected in ((0, 0), (1, 0), (255, 0), (256, 0), (257, 0), (301, 0)):
        head = Checkpoint(origin=bern.author.origin, size=size, root=tree.root(size))
        path.write_bytes(heads.sign(head, bern.keys["log"]))
        assert agreed([bern.home])[0] == expected
    more = heads.sign(head, bern.keys["log"]) + b"\xe2\x80\x94 witness AAAAAAAA\n"
    for broken in (more, path.read_bytes() + b"\n", path.read_bytes().replace(b"\n", b"\r\n", 1)):
        path.write_bytes(broken)
        assert agreed([bern.home]) == (3, {"checkpoint.corrupt"})


# --- entries that a writer would refuse -------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [{"n": 7}, {"v": 2}, {"b": {}}, {"more": 1}, {"ts": 5}, {"t": "model.dream"}, {"t": "x"},
     {"s": bytes(15)}, {"c": b""}, {"t": "model.dream", "b": []}, {"ts": True}],
)  # fmt: skip
def test_entries_against_the_schema(tmp_path, change):
    bern, _ = two(tmp_path)
    falsify(bern, lambda plain: plain | change)
    agreed([bern.home])


def test_every_body_with_a_field_too_few_too_many_or_of_another_type():
    from bodies import BODIES

    from konsil.protocol import cmp1, entries
    from konsil.protocol.errors import RemoteError

    def refused(data):
        try:
            second.read_entry(data)
        except second.Refused:
            return True
        return False

    values = [None, True, 0, -1, 2**63, 10**9 + 1, b"", bytes(32), "", "a", "A b", "x" * 65, [], {}]
    for body in BODIES:
        index = 0 if body is BODIES[0] else 3
        made = entries.entry(body, index=index, time_ms=5, salt=bytes(16), charter=bytes(32))
        data = entries.encode(made)
        assert not refused(data)
        plain = cmp1.decode(data)
        tries = [{**plain["b"], "more": 1}]
        tries += [{k: v for k, v in plain["b"].items() if k != name} for name in plain["b"]]
        tries += [{**plain["b"], name: one} for name in plain["b"] for one in values]
        for changed in tries:
            bytes_of_it = cmp1.encode({**plain, "b": changed})
            try:
                entries.decode(bytes_of_it)
                expected = False
            except RemoteError:
                expected = True
            if plain["t"] != "node.genesis":
                assert refused(bytes_of_it) == expected, (plain["t"], changed)


def test_every_golden_encoding_is_judged_alike():
    golden = json.loads((CHECKOUT / "tests" / "vectors" / "cmp1.json").read_text())
    for case in golden["accepted"]:
        second.canonical(bytes.fromhex(case["hex"]))
    for case in golden["refused"]:
        with pytest.raises(second.Refused):
            second.canonical(bytes.fromhex(case["hex"]))


def test_salts_a_second_genesis_and_a_false_one(tmp_path):
    bern, graz = two(tmp_path)
    first = bern.journal.entry(1)
    falsify(bern, lambda plain: plain | {"s": first.s})
    assert agreed([bern.home]) == (3, {"entry.salt"})
    other = second.canonical(genesis_of(graz))
    falsify(graz, lambda plain: plain | {"t": "node.genesis", "b": other["b"]})
    assert agreed([graz.home]) == (3, {"entry.genesis"})


def genesis_of(hospital):
    return hospital.author.entry


def appended(hospital, kind, body):
    falsify(hospital, lambda plain: plain | {"t": kind, "b": body})
    hospital.reopen()


def mix_body(hospital, parts, **changes):
    blob = hospital.journal.blobs.put(b"scores")
    return {
        "base": hospital.model, "out": sha256(b"out"), "rule": "egt.1", "not_mixed": [],
        "parts": [{"art": a, "node": n, "w_e9": w, "trust_e9": 0} for a, n, w in parts],
        "before": blob, "after": blob, "reason": "granted", "round": 1,
    } | changes  # fmt: skip


UNIT = 10**9
MIXES = {
    "own alone": lambda b, g, s: [(b.model, b.node, UNIT)],
    "nothing": lambda b, g, s: [],
    "too little": lambda b, g, s: [(b.model, b.node, UNIT - 1)],
    "twice": lambda b, g, s: [(b.model, b.node, UNIT - 2), *[(s.art, g.node, 1)] * 2],
    "never received": lambda b, g, s: [(b.model, b.node, UNIT - 1), (s.art, "c" * 32, 1)],
    "own and unknown": lambda b, g, s: [(sha256(b"?"), b.node, UNIT)],
    "without weight": lambda b, g, s: [(b.model, b.node, UNIT), (sha256(b"?"), "c" * 32, 0)],
    "honest": lambda b, g, s: [(b.model, b.node, UNIT - 1), (s.art, g.node, 1)],
}


@pytest.fixture
def mixing(tmp_path):
    bern, graz = two(tmp_path)
    bern.train()
    graz.train()
    sent = graz.publish()
    bern.receive(sent, graz.author)
    return bern, graz, sent


@pytest.mark.parametrize("name", MIXES)
def test_mixes(mixing, name):
    bern, _, _ = mixing
    appended(bern, "artifact.integrate", mix_body(bern, MIXES[name](*mixing)))
    bern.close()
    agreed([bern.home], replay=True)
    agreed([bern.home])


@pytest.mark.parametrize(
    "changes",
    [{"out": sha256(b"not this")}, {"not_mixed": ["no.such.tensor"]}, {"not_mixed": []}],
)
def test_mixes_that_give_something_else(mixing, changes):
    bern, graz, sent = mixing
    bern.mix([sent], **changes)
    bern.close()
    graz.close()
    assert agreed([bern.home, graz.home], replay=True) == (3, {"integrate.replay"})


@pytest.mark.parametrize("rule", ["evidence-logits/1", "evidence-labels/1"])
def test_a_sum_of_models_that_calls_itself_a_lesson(mixing, rule):
    bern, graz, sent = mixing
    bern.mix([sent], out=sha256(b"whatever"), rule=rule)
    bern.close()
    graz.close()
    assert agreed([bern.home, graz.home], replay=True) == (1, {"integrate.rule"})


def test_a_lesson_without_a_teacher(mixing):
    bern, graz, sent = mixing
    own = [Part(art=bern.model, node=bern.node, w_e9=UNIT, trust_e9=UNIT)]
    bern.mix([sent], parts=own, rule="evidence-logits/1", out=sha256(b"hidden content"))
    bern.close()
    graz.close()
    assert agreed([bern.home, graz.home], replay=True) == (3, {"integrate.replay"})


def test_a_vector_from_another_base(tmp_path):
    bern, graz = two(tmp_path)
    bern.train()
    graz.train()
    sent = graz.publish(kind="data_vector", base="77" * 32)
    bern.receive(sent, graz.author)
    bern.mix([sent], judged=bern.judge([sent], kind="data_vector"), rule="evidence-vectors/1")
    bern.close()
    graz.close()
    assert "integrate.rule" in agreed([bern.home, graz.home])[1]


def test_a_sum_of_models_that_calls_itself_one_of_vectors(mixing):
    bern, graz, sent = mixing
    bern.mix([sent], rule="evidence-vectors/1")
    bern.close()
    graz.close()
    assert agreed([bern.home, graz.home])[1] == {"integrate.rule"}


def test_a_mix_with_other_weights_is_found_by_replay(mixing):
    bern, graz, sent = mixing
    parts = [
        Part(art=bern.model, node=bern.node, w_e9=UNIT // 2 - 7, trust_e9=UNIT),
        Part(art=sent.art, node=graz.node, w_e9=UNIT // 2 + 7, trust_e9=UNIT // 2),
    ]
    bern.mix([sent], parts=parts)
    bern.close()
    assert agreed([bern.home], replay=True) == (3, {"integrate.replay"})


def base_of(model):
    return ModelBase(model=model, source="", licence="", note="")


A, B, C = (sha256(one) for one in (b"a", b"b", b"c"))
LINES = {
    "a gap": lambda h: [train_of(h, base=A, out=B)],
    "a gap once": lambda h: [train_of(h, base=A, out=B), train_of(h, base=B, out=C)],
    "a cycle behind a gap": lambda h: [train_of(h, base=A, out=B), train_of(h, base=B, out=A)],
    "made again from its own": lambda h: [
        train_of(h, out=A), train_of(h, base=A, out=B), train_of(h, base=B, out=A),
    ],
    "a base twice": lambda h: [base_of(A), base_of(A)],
    "a base that was trained": lambda h: [train_of(h, out=A), base_of(A)],
    "no change": lambda h: [train_of(h, out=h.model)] * 2,
    "the same again": lambda h: [train_of(h, out=A), train_of(h, out=A, round=2)],
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
def test_lines_of_descent(tmp_path, name):
    bern, _ = two(tmp_path)
    bern.journal.append(LINES[name](bern))
    bern.close()
    agreed([bern.home])


def test_a_cycle_over_two_homes_and_what_is_released_changed(tmp_path):
    bern, graz = two(tmp_path)
    for one, base, out in ((bern, A, B), (graz, B, A)):
        one.journal.append([base_of(base), train_of(one, base=base, out=out)])
        one.close()
    assert agreed([bern.home, graz.home]) == (3, {"lineage.cycle"})
    bern.reopen()
    bern.train()
    sent = bern.publish(payload(bern.values + 5))
    bern.journal.append([train_of(bern, base=sent.art, out=C)])
    bern.close()
    assert agreed([bern.home]) == (1, {"lineage.gap"})


# --- what was published and received ----------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"index": 1}, 3),
        ({"size": 99}, 3),
        ({"root": bytes(32)}, 3),
        ({"art": bytes(32)}, 3),
        ({"publisher": "b" * 32}, 0),
        ({"proof": bytes(32)}, 4),
        ({"env": bytes(32)}, 3),
    ],
)
def test_false_receipts(tmp_path, change, expected):
    import msgspec

    bern, graz = two(tmp_path)
    bern.train()
    graz.receive(bern.publish(), bern.author)
    body = graz.journal.entry(graz.journal.size - 1).b
    graz.journal.append([msgspec.structs.replace(body, **change)])
    bern.close()
    graz.close()
    for homes in ([graz.home], [bern.home, graz.home]):
        assert agreed(homes)[0] == expected


@pytest.mark.parametrize(
    "change",
    [{"sequence": 9}, {"kind": "logits"}, {"size": 3}, {"derived_from": []}, {"knowledge": A},
     {"chunk_root": A}, {"art": A}, {"env": A}],
)  # fmt: skip
def test_publish_entries_that_contradict_their_envelope(tmp_path, change):
    import msgspec

    bern, _ = two(tmp_path)
    bern.train()
    bern.publish()
    body = bern.journal.entry(bern.journal.size - 1).b
    plain = msgspec.to_builtins(body, builtin_types=(bytes,))
    appended(bern, "artifact.publish", plain | {"sequence": 2} | change)
    bern.close()
    assert agreed([bern.home])[0] in (3, 4)


def test_two_faces(tmp_path):
    bern, graz = two(tmp_path)
    ulm = Hospital(tmp_path, "ulm", clock=bern.clock)
    bern.train()
    bern.close()
    shutil.copytree(bern.home, tmp_path / "twin")
    bern.reopen()
    graz.receive(bern.publish(), bern.author)
    bern.close()
    real, bern.home = bern.home, tmp_path / "twin"
    bern.sequence, bern.round = 0, 8
    bern.reopen()
    ulm.receive(bern.publish(), bern.author)
    for one in (bern, graz, ulm):
        one.close()
    faces = [real, tmp_path / "twin", graz.home, ulm.home]
    assert agreed([graz.home, ulm.home]) == (3, {"publish.equivocation", "others.fork"})
    assert agreed([real, graz.home, ulm.home]) == (3, {"publish.equivocation", "others.fork"})
    for count in (1, 2, 3, 4):
        for chosen in itertools.combinations(faces, count):
            agreed(chosen)


def test_a_log_that_was_cut_back_or_rewritten_after_it_was_received(tmp_path):
    bern, graz = two(tmp_path)
    bern.close()
    shutil.copytree(bern.home, tmp_path / "backup")
    bern.reopen()
    bern.train()
    graz.receive(bern.publish(), bern.author)
    bern.close()
    graz.close()
    shutil.rmtree(bern.home)
    shutil.copytree(tmp_path / "backup", bern.home)
    assert agreed([bern.home]) == (0, set())
    assert agreed([bern.home, graz.home]) == (3, {"others.rollback"})
    bern.reopen()
    bern.journal.append([base_of(bytes([n]) * 32) for n in range(9)])
    bern.close()
    assert agreed([bern.home]) == (0, set())
    assert agreed([bern.home, graz.home]) == (3, {"others.fork"})


def test_peers_that_are_unknown_or_damaged(homes):
    for path in (homes[0] / "peers").iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert agreed(homes[:1]) == (3, {"peers.genesis"})
    assert second.verify(homes[:1])[1][0].unchecked == 4
    shutil.rmtree(homes[0] / "peers")
    assert agreed(homes) == (0, set())


# --- keys over time, cosigned, pruned, forks: by the specification ---------------------------


def key_body(hospital, kind, role, new, good, rec=None):
    fields = CHANGE | {
        "role": role, "old": hospital.keys[role].public.raw, "new": new.public.raw,
        "last_good_size": good,
    }  # fmt: skip
    message = key_change(hospital.node, kind(**fields))
    signed = {"by_rec": (rec or hospital.keys["rec"]).sign(message), "by_new": new.sign(message)}
    return fields | signed


@pytest.mark.parametrize("kind", [KeyRotate, KeyRevoke])
def test_a_new_artifact_key_signs_from_then_on(tmp_path, kind):
    bern, _ = two(tmp_path)
    new = SigningKey.from_seed(bytes([7]) * 32)
    bern.train()
    bern.publish()
    index = bern.journal.size
    name = "key.rotate" if kind is KeyRotate else "key.revoke"
    raw(bern, name, key_body(bern, kind, "art", new, index))
    assert ours([bern.home]) == (0, set())
    author = second.Home(bern.home, second.Verdict()).author
    assert author.art_key(index - 1) == bern.keys["art"].public.raw
    assert author.art_key(index + 1) == new.public.raw


def raw(hospital, kind, body):
    """Appends an entry and signs for all of it with the key that is there."""
    falsify(hospital, lambda plain: plain | {"t": kind, "b": body})
    entries = frames(tail_of(hospital.home))
    head = Checkpoint(
        origin=hospital.author.origin,
        size=len(entries),
        root=merkle.Tree([merkle.leaf_hash(one) for one in entries]).root(),
    )
    path = hospital.home / "ledger" / "checkpoint"
    path.write_bytes(heads.sign(head, hospital.keys["log"]))


@pytest.mark.parametrize(
    "spoil",
    [lambda b: b | {"by_rec": bytes(64)}, lambda b: b | {"by_new": bytes(64)},
     lambda b: b | {"old": b["new"]}, lambda b: b | {"last_good_size": 1},
     lambda b: b | {"reason": "other"}, lambda b: b | {"role": "wit"}],
)  # fmt: skip
def test_a_key_that_is_changed_against_the_rules(tmp_path, spoil):
    bern, _ = two(tmp_path)
    new = SigningKey.from_seed(bytes([7]) * 32)
    raw(bern, "key.rotate", spoil(key_body(bern, KeyRotate, "art", new, bern.journal.size)))
    assert ours([bern.home]) == (3, {"key.change"})


def test_what_a_stolen_key_signed_is_void(tmp_path):
    bern, _ = two(tmp_path)
    new = SigningKey.from_seed(bytes([7]) * 32)
    bern.train()
    bern.publish()
    raw(bern, "key.revoke", key_body(bern, KeyRevoke, "art", new, bern.journal.size - 1))
    assert ours([bern.home]) == (1, {"publish.revoked"})


def test_a_revocation_reaches_no_key_before_it_and_whoever_received_did_no_wrong(tmp_path):
    """A planned change, an artifact under the second key, and that key is revoked for all time."""
    bern, graz = two(tmp_path)
    for change in (None, KeyRotate):
        if change is not None:
            change_key(bern, change, "art")
        bern.train()
        graz.receive(bern.publish(), bern.author)
    change_key(bern, KeyRevoke, "art", good=0)
    sent = bern.publish()
    graz.receive(sent, bern.author)
    bern.close()
    graz.close()
    assert agreed([bern.home]) == (1, {"publish.revoked"})
    mirrored(bern, graz)
    assert agreed([graz.home]) == (1, {"receive.revoked"})
    assert agreed([bern.home, graz.home]) == (1, {"publish.revoked", "receive.revoked"})
    report = verify_homes([bern.home, graz.home])
    assert len(report.findings) == 2, "one artifact, in two ledgers"


class Looked(list):
    """A list that counts how many of its items anybody asked for."""

    def __init__(self, items):
        super().__init__(items)
        self.count = 0

    def __getitem__(self, at):
        found = super().__getitem__(at)
        self.count += len(found) if isinstance(at, slice) else 1
        return found

    def __iter__(self):
        for item in super().__iter__():
            self.count += 1
            yield item


def test_what_was_lost_before_a_finding_is_told_without_looking_through_the_log(tmp_path):
    bern = Hospital(tmp_path, "bern")
    bern.journal.append([ModelBase(model=sha256(b"m"), source="", licence="", note="")] * 700)
    bern.close()
    verdict = second.Verdict()
    home = second.Home(bern.home, verdict)
    assert not home.holes(699)
    assert not home.doubtful()
    (bern.home / "ledger" / "tile" / "entries" / "001").unlink()
    home = second.Home(bern.home, verdict)
    home.log.slots = Looked(home.log.slots)
    size = len(home.log.slots)
    assert [home.holes(at) for at in range(size)] == [at >= 256 for at in range(size)]
    assert [home.doubtful(at) for at in range(size)] == [at >= 256 for at in range(size)]
    assert home.doubtful()
    assert home.log.slots.count == 0


def test_a_stop_before_the_checkpoint_of_a_revocation_is_no_fault(tmp_path):
    bern, graz = two(tmp_path)
    acquaint(bern, graz)
    cosign(bern, {graz: bern.clock.now // 1_000})
    old = bern.keys["log"]
    change_key(bern, KeyRevoke, "log", good=1)
    assert agreed([bern.home]) == (0, set())
    sign_again(bern, old)
    assert agreed([bern.home]) == (3, {"checkpoint.corrupt"})


def test_after_a_change_of_the_log_key_the_old_one_signs_nothing(tmp_path):
    bern, _ = two(tmp_path)
    new = SigningKey.from_seed(bytes([7]) * 32)
    raw(bern, "key.rotate", key_body(bern, KeyRotate, "log", new, bern.journal.size))
    assert ours([bern.home]) == (3, {"checkpoint.corrupt"})
    path = bern.home / "ledger" / "checkpoint"
    text = second.read_note(path.read_bytes())
    head = Checkpoint(origin=text.origin, size=text.size, root=text.root)
    alone = heads.sign(head, new)
    both = path.read_bytes() + alone.partition(b"\n\n")[2]
    for good in (alone, both):
        path.write_bytes(good)
        assert ours([bern.home]) == (0, set())


def test_the_cosigned_checkpoint_is_one_of_this_log(tmp_path):
    bern, graz = two(tmp_path)
    bern.close()
    ledger = bern.home / "ledger"
    good = (ledger / "checkpoint").read_bytes()
    (ledger / "cosigned").write_bytes(good + b"\xe2\x80\x94 alps/somebody AAAAAAAA\n")
    assert agreed([bern.home]) == (4, {"cosigned.unknown"})
    size = second.read_note(good).size
    for wrong, code in ((size, "checkpoint.root"), (size + 1, "checkpoint.rollback")):
        head = Checkpoint(origin=bern.author.origin, size=wrong, root=bytes(32))
        (ledger / "cosigned").write_bytes(heads.sign(head, bern.keys["log"]))
        assert ours([bern.home]) == (3, {code})
    (ledger / "cosigned").write_bytes(heads.sign(head, graz.keys["log"]))
    assert agreed([bern.home])[0] == 3
    assert "cosigned.corrupt" in ours([bern.home])[1]


def test_the_lines_of_others_under_it_are_verified(tmp_path):
    bern, graz = two(tmp_path)
    bern.close()
    graz.close()
    path = bern.home / "ledger" / "cosigned"
    note = (bern.home / "ledger" / "checkpoint").read_bytes()
    line = cosignature.sign(note, graz.author.origin, graz.keys["wit"], 1_760_000_100)
    path.write_bytes(note + line)
    assert agreed([bern.home]) == (4, {"cosigned.unknown"})
    (bern.home / "peers").mkdir()
    (bern.home / "peers" / f"{graz.node}.genesis").write_bytes(graz.author.entry)
    assert agreed([bern.home]) == (0, set())
    for other in (1_760_000_101, 2**63):
        material = second.unbase64(line.decode().split(" ")[2].strip())
        forged = material[:4] + other.to_bytes(8, "big") + material[12:]
        text = f"\u2014 {graz.author.origin} {second.base64.b64encode(forged).decode()}\n"
        path.write_bytes(note + text.encode())
        assert agreed([bern.home]) == (3, {"cosigned.corrupt"})


def pruned(home, index):
    path = tail_of(home)
    items = [frame(one) for one in frames(path)]
    items[index] = b"\0\0" + items[index][-32:]
    path.write_bytes(b"".join(items))


@pytest.mark.parametrize(("explained", "expected"), [(True, (0, set())),
                                                     (False, (4, {"entry.pruned"}))])  # fmt: skip
def test_a_pruned_body_must_be_explained(tmp_path, explained, expected):
    bern, _ = two(tmp_path)
    appended(bern, "privacy.spend", dict.fromkeys(
        ("eps_micro", "delta_e12", "rho_e9", "sampling_e9", "steps", "cumulative_micro"), 0
    ) | {"dataset": A, "mechanism": "gaussian"})  # fmt: skip
    leaf = {} if explained else {"leaf": A}
    appended(bern, "log.redact", msgspec.to_builtins(
        word_of_redaction(bern.journal, 2, **leaf), builtin_types=(bytes,)
    ))  # fmt: skip
    bern.close()
    pruned(bern.home, 2)
    assert ours([bern.home]) == expected


def fork_file(larger, smaller, hashes):
    lines = [second.base64.b64encode(one).decode() for one in hashes]
    head = "\n".join(["konsil fork-proof@v1", *lines, "", ""]).encode()
    return head + larger + b"\n" + smaller


@pytest.mark.parametrize("sizes", [(5, 5), (8, 5), (7, 4), (2, 1)])
def test_a_fork_proof_holds_or_proves_nothing(tmp_path, capsys, sizes):
    bern, graz = two(tmp_path)
    (tmp_path / "genesis").write_bytes(bern.author.entry)
    tree = merkle.Tree([merkle.leaf_hash(bytes([n])) for n in range(9)])
    large, small = sizes

    def head(size, root, key=bern.keys["log"]):
        return heads.sign(Checkpoint(origin=bern.author.origin, size=size, root=root), key)

    def verdict(*arguments):
        (tmp_path / "fork").write_bytes(fork_file(*arguments))
        files = ["--fork", str(tmp_path / "fork"), "--genesis", str(tmp_path / "genesis")]
        return second.main(files)

    path = [] if large == small else [tree.root(small), *tree.consistency(small, large)]
    other = bytes(32)
    assert verdict(head(large, tree.root(large)), head(small, other), path) == 0
    assert "signed two histories" in capsys.readouterr().out
    honest = head(small, tree.root(small))
    assert verdict(head(large, tree.root(large)), honest, path) == 3
    assert verdict(head(large, tree.root(large)), head(small, other), [*path, other]) == 3
    assert verdict(head(large, tree.root(large)), head(small, other, graz.keys["log"]), path) == 3
    bern.close()
    graz.close()


# --- the command ------------------------------------------------------------------------------


def test_the_command(homes, tmp_path, capsys):
    assert second.main([str(homes[0])]) == 0
    assert "not judged here: trust evidence" in capsys.readouterr().out
    assert second.main([*map(str, homes), "--replay", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["exit_code"], told["findings"]) == (0, [])
    assert second.main([str(tmp_path / "nowhere")]) == 2
    assert "there is no such home" in capsys.readouterr().err
    for missing in (["--fork", "no", "--genesis", "no"],):
        assert second.main(missing) == 2
        assert "no: there is no such file" in capsys.readouterr().err
    assert second.main([str(tmp_path)]) == 6
    (homes[0] / "ledger" / "x\n\x1b[1A").touch()
    assert second.main([str(homes[0])]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert all(line.isprintable() for line in lines)
    assert lines[0].startswith("layout.stray: ")
    twice = [str(homes[0]), str(homes[0] / ".." / homes[0].name)]
    for wrong in ([], ["--fork", "x"], [str(homes[0]), "--fork", "x", "--genesis", "y"], twice):
        with pytest.raises(SystemExit) as left:
            second.main(wrong)
        assert left.value.code == 2


def test_the_finding_codes_of_both_programs_are_the_same_for_tampered_trees(homes):
    """Not only the exit code: where one thing is wrong, both call it by one name."""
    (homes[0] / "ledger" / "stray").touch()
    tail_of(homes[1]).write_bytes(tail_of(homes[1]).read_bytes()[:-1])
    for home in homes:
        assert ours([home])[1] == codes(verify_homes([home]))


# --- damage in a tail is told once, and hides nothing -----------------------------------------


def offsets(path):
    """Where the frames of a tail begin, and where each one's hash does."""
    data, found, at = path.read_bytes(), [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        found.append((at, at + 2 + length))
        at += length + 34
    return found


@pytest.mark.parametrize("part", ["length", "entry", "hash"])
def test_a_damaged_frame_is_one_finding_in_both_programs(homes, part):
    path = tail_of(homes[0])
    whole = path.read_bytes()
    for index, (begin, leaf) in enumerate(offsets(path)):
        data = bytearray(whole)
        data[{"length": begin + 1, "entry": begin + 22, "hash": leaf + 5}[part]] ^= 1
        path.write_bytes(data)
        found = second.verify(homes, replay=True)[0].findings
        assert [(one.code, one.index, one.offset) for one in found] == [
            ("tail.corrupt", index, begin)
        ], (part, [one.line() for one in found])
        assert codes(verify_homes(homes, replay=True)) == {"tail.corrupt"}
    path.write_bytes(whole)


def test_two_damaged_frames_and_a_torn_end(homes):
    path = tail_of(homes[0])
    data = bytearray(path.read_bytes())
    for begin, _ in (offsets(path)[3], offsets(path)[4]):
        data[begin + 22] ^= 1
    path.write_bytes(data)
    assert agreed(homes[:1]) == (3, {"tail.corrupt"})
    path.write_bytes(data[:-9])
    assert agreed(homes[:1])[1] == {"tail.corrupt", "tail.torn", "checkpoint.rollback"}


def test_no_bytes_in_a_tail_make_it_fail(homes):
    path = tail_of(homes[0])
    whole, draw = path.read_bytes(), random.Random(9)
    for _ in range(20):
        data = bytearray(whole)
        for _ in range(draw.randrange(1, 30)):
            at = draw.randrange(len(data))
            data[at : at + draw.randrange(3)] = draw.randbytes(draw.randrange(4))
        path.write_bytes(data)
        assert agreed(homes[:1])[0] == (0 if data == whole else 3)


def spoil_word(home):
    """One bit in the type of the change of keys."""
    path = tail_of(home)
    data = bytearray(path.read_bytes())
    data[data.index(b"\xa1t\xaakey.r") + 5] ^= 1
    path.write_bytes(data)


def spoil_two(home):
    """The frames of the change and of the entry before it cannot be told apart."""
    path = tail_of(home)
    data = bytearray(path.read_bytes())
    for begin, _ in offsets(path)[2:4]:
        data[begin] ^= 0x40
        data[begin + 22] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("role", ["art", "log"])
@pytest.mark.parametrize("spoil", [spoil_word, spoil_two])
def test_a_change_of_keys_lost_in_a_tail_accuses_nobody(tmp_path, role, spoil):
    bern, _ = two(tmp_path)
    bern.train()
    old = bern.keys["log"]
    new = change_key(bern, KeyRotate, role)
    bern.journal.append([ModelBase(model=sha256(b"other"), source="", licence="", note="")])
    if role == "art":
        release(bern)
        bern.close()
    else:
        sign_again(bern, old, new)
    assert agreed([bern.home]) == (0, set())
    spoil(bern.home)
    assert agreed([bern.home]) == (3, {"tail.corrupt"})


@pytest.mark.parametrize("role", ["art", "log"])
def test_a_change_of_keys_in_a_missing_bundle_accuses_nobody(tmp_path, role):
    bern = keys_in_a_bundle(tmp_path, role)
    bundle, checkpoint = (bern.home / "ledger" / one for one in ("tile/entries/001", "checkpoint"))
    whole = bundle.read_bytes(), checkpoint.read_bytes()
    bundle.unlink()
    assert agreed([bern.home]) == (4, {"bundle.missing"})
    checkpoint.write_bytes(whole[1][:-1])
    assert agreed([bern.home]) == (3, {"bundle.missing", "checkpoint.corrupt"})
    bundle.write_bytes(whole[0][:-1])
    checkpoint.write_bytes(whole[1])
    assert agreed([bern.home]) == (3, {"bundle.corrupt"})


def test_damage_explains_no_wrong_signature_of_another_time(tmp_path):
    """What is lost is of another type, or stands behind what was signed."""
    bern, graz = two(tmp_path)
    bern.train()
    sound = bern.keys
    bern.keys = KeySet({**sound.keys, "art": graz.keys["art"]})
    release(bern)
    bern.keys = sound
    change_key(bern, KeyRotate, "wit")
    bern.close()
    path = tail_of(bern.home)
    whole = path.read_bytes()
    for spoiled in (offsets(path)[2][0] + 22, whole.index(b"key.r") + 2):
        data = bytearray(whole)
        data[spoiled] ^= 1
        path.write_bytes(data)
        assert agreed([bern.home]) == (3, {"tail.corrupt", "publish.envelope"})


def test_a_change_of_keys_that_is_lost_elsewhere_accuses_no_publisher(tmp_path):
    bern, graz = two(tmp_path)
    acquaint(bern, graz)
    bern.train()
    change_key(bern, KeyRotate, "art")
    graz.receive(release(bern), bern.author)
    bern.close()
    graz.close()
    homes = [bern.home, graz.home]
    assert agreed(homes) == (0, set())
    mirrored(bern, graz)
    mirror = graz.home / "peers" / f"{bern.node}.mirror"
    path = tail_of(bern.home)
    for begin, _ in offsets(path)[1:4]:
        for file, given, code in (
            (mirror, homes[1:], "peers.mirror"), (path, homes, "tail.corrupt"),
        ):  # fmt: skip
            whole = file.read_bytes()
            data = bytearray(whole)
            data[begin + 22] ^= 1
            file.write_bytes(data)
            assert agreed(given) == (3, {code})
            file.write_bytes(whole)


# --- what a home keeps of others --------------------------------------------------------------


@pytest.fixture
def keeping(tmp_path):
    """A home that mirrors a peer, whose log key was rotated, and accepted what it signed."""
    bern, graz = two(tmp_path)
    bern.close()
    first = (bern.home / "ledger" / "checkpoint").read_bytes()
    bern.reopen()
    old = bern.keys["log"]
    sign_again(bern, old, change_key(bern, KeyRotate, "log"))
    graz.close()
    (graz.home / "peers").mkdir()
    (graz.home / "peers" / f"{bern.node}.genesis").write_bytes(bern.author.entry)
    vouched(graz.home, first)
    mirrored(bern, graz)
    return graz.home, bern.node


def test_what_is_kept_of_others_is_judged_alike(keeping):
    home, node = keeping
    assert agreed([home]) == (0, set())
    for name in ("witness.log", f"{node}.mirror", f"{node}.genesis"):
        path = home / "peers" / name
        whole = path.read_bytes()
        for at in range(0, len(whole), 1 + len(whole) // 40):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            code, found = agreed([home])
            assert code == 3, (name, at)
            kinds = {"witness.log": "witnessed", f"{node}.mirror": "mirror"}
            assert f"peers.{kinds.get(name, 'genesis')}" in found
        for cut in (whole[:-1], whole + bytes(9)):
            path.write_bytes(cut)
            agreed([home])
        path.write_bytes(whole)
    (home / "peers" / f"{node}.genesis").unlink()
    assert agreed([home]) == (4, {"peers.unknown"})


def test_what_is_not_judged_is_named(homes, capsys):
    second.main([str(homes[0])])
    told = capsys.readouterr().out
    for word in (
        "the times in cosignatures",
        "beyond every accepted checkpoint",
        "other names in peers/",
    ):
        assert word in told


# --- a fork proof that the product made -------------------------------------------------------


@pytest.mark.parametrize("more", [0, 3])
def test_a_fork_that_a_watcher_proved_convinces_everybody_offline(tmp_path, capsys, more):
    """One log that was shown in two versions, as in the attack of the split view."""
    bern, graz = two(tmp_path)
    bern.close()
    shutil.copytree(bern.home, tmp_path / "twin")
    notes = []
    for root, rounds in ((bern.home, 1 + more), (tmp_path / "twin", 1)):
        bern.home = root
        bern.reopen()
        for _ in range(rounds):
            bern.train()
        bern.close()
        notes.append((root / "ledger" / "checkpoint").read_bytes())
    newer, older = notes
    open_head = fork.open_with(origin=bern.author.origin, key=bern.author.keys["log"])
    state, _ = watch(Watch(origin=bern.author.origin), newer, open_head, due=9)
    state, sight = watch(state, older, open_head, due=9)
    if isinstance(sight, Newer):
        tree = merkle.Tree([second.leaf_of(one) for one in frames(tail_of(tmp_path / "bern"))])
        size = open_head(older).size
        proof = tree.consistency(size, tree.size)
        state, sight = settle(state, size, proof, root=tree.root(size), now=1)
    assert isinstance(sight, Forked)
    file, card = tmp_path / "fork", tmp_path / f"{bern.node}.genesis"
    file.write_bytes(sight.proof)
    card.write_bytes(bern.author.entry)
    for verb in ("check", "fork"):
        done = konsil("audit", verb, file, "--genesis", card)
        assert done.code == 3
        assert f"{file}: a fork is proven: bern" in done.complaint
    assert second.main(["--fork", str(file), "--genesis", str(card)]) == 0
    assert "signed two histories" in capsys.readouterr().out
    graz.close()

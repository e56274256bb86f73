"""Wrong inputs: one clear line each, the documented exit code, and nothing is lost.

Commands run in this process, except where a daemon must be killed or a disk must fill up.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess

import pytest
import trio
from commands import KONSIL, files, konsil, run_node, shell
from homes import free_ports

from konsil.node import control, daemon, learner
from konsil.node.init import create_home
from konsil.node.journal import Journal
from konsil.node.keys import load_keys
from konsil.node.libp2p_transport import Libp2pTransport
from konsil.node.trainer import Trainer
from konsil.protocol.entries import ArtifactPublish, ModelBase, ModelTrain
from konsil.protocol.errors import UnreachableError
from konsil.protocol.identity import SigningKey, peer_id
from konsil.trust.reading import read_entries

STRANGER = bytes(range(32))
OTHER = """
[[members]]
name = "{name}"
node = "{node}"
peer = "{peer}"
addresses = []
"""
NODE = "a" * 32
PEER = peer_id(SigningKey.from_seed(STRANGER).public.raw)


def make(root, *options):
    """A home as `konsil init` makes it, listening on a free port of loopback."""
    (port,) = free_ports(1)
    listen = f"/ip4/127.0.0.1/tcp/{port}"
    done = konsil(
        "init", root, "--name", "bern", "--consortium", "alps", "--listen", listen, *options
    )
    assert done.code == 0
    return root


@pytest.fixture
def home(tmp_path):
    return make(tmp_path / "bern")


def edit(home, old, new):
    text = (home / "node.toml").read_text()
    assert old in text
    (home / "node.toml").write_text(text.replace(old, new, 1))


def other(name="graz", node=NODE, peer=PEER):
    return OTHER.format(name=name, node=node, peer=peer)


def append(path, text):
    with path.open("a") as file:
        file.write(text)


def refused(home, code, *words, keep=True):
    """`node run` ends with this code and one line with these words; the files are untouched."""
    before = files(home)
    done = run_node(home)
    assert done.code == code, done
    for word in words:
        assert word in done.complaint
    if keep:
        assert files(home) == before
    return done


# --- the command line: 2, and homes that are none: 5 -----------------------------------------


@pytest.mark.parametrize(
    ("line", "verb"),
    [
        (["frob"], "frob"),
        (["node", "frob"], "node.frob"),
        (["node", "status"], "node.status"),
        (["node", "status", "x", "--frob"], "node.status"),
        (["node", "trust", "x", "--pin", "a", "--mute", "b"], "node.trust"),
        (["init", "x"], "init"),
        (["audit", "verify"], "audit.verify"),
        (["artifact", "export", "x"], "artifact.export"),
    ],
)
def test_a_command_line_that_makes_no_sense(line, verb):
    done = konsil(*line)
    assert (done.code, done.out) == (2, "")
    assert done.complaint
    done = konsil(*line, "--json")
    assert done.code == 2
    assert done.envelope(verb)["error"]["code"] == "usage"


def test_an_unknown_command_points_to_the_list_of_commands():
    assert "(see: konsil --help)" in konsil("frob").complaint
    assert "(see: konsil node --help)" in konsil("node", "frob").complaint


@pytest.mark.parametrize(
    "line",
    [
        ["node", "run"],
        ["node", "status"],
        ["node", "peers"],
        ["node", "stop"],
        ["artifact", "show", "ab"],
        ["artifact", "export", "--out", "out"],
    ],
)
def test_a_home_that_does_not_exist(tmp_path, line):
    nowhere = tmp_path / "nowhere"
    line = [*line[:2], str(nowhere), *line[2:]]
    done = konsil(*line)
    assert (done.code, done.out) == (5, "")
    assert str(nowhere) in done.complaint
    assert not nowhere.exists()
    if line[1] != "run":
        done = konsil(*line, "--json")
        assert done.code == 5
        assert done.envelope(".".join(line[:2]))["error"]["code"] == "configuration"


def test_init_never_touches_what_is_there(home, tmp_path):
    before = files(home)
    done = konsil("init", home, "--name", "bern")
    assert done.code == 5
    assert f"{home}: this folder is not empty" in done.complaint
    done = konsil("init", home, "--name", "bern", "--json")
    assert done.envelope("init")["error"]["code"] == "configuration"
    assert files(home) == before
    done = konsil("init", tmp_path / "new", "--name", "Bern 1")
    assert done.code == 5
    assert "`Bern 1` is no name" in done.complaint
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    done = konsil("init", tmp_path / "file", "--name", "bern")
    assert done.code == 6
    assert f"{tmp_path / 'file'}: " in done.complaint


def test_init_refuses_an_address_that_nobody_can_listen_on(tmp_path):
    done = konsil("init", tmp_path / "new", "--name", "bern", "--listen", "127.0.0.1:4001")
    assert done.code == 5
    assert "127.0.0.1:4001" in done.complaint
    assert not (tmp_path / "new").exists()


def test_nobody_to_ask(home):
    done = konsil("node", "status", home)
    assert (done.code, done.out) == (4, "")
    assert f"start it with: konsil node run {home}" in done.complaint
    done = konsil("node", "status", home, "--json")
    assert done.code == 4
    value = done.envelope("node.status")
    assert value["error"]["code"] == "unreachable"
    assert value["data"] == {}
    # A daemon that was killed leaves its socket behind.
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(home / "control.sock"))
    assert konsil("node", "status", home).code == 4


# --- node.toml, keys, members: 5 --------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[training]", "[training]\nlissten = 1", ["lissten", "$.training"]),
        ("[training]", "[trainning]", ["trainning"]),
        ("rounds = 0", "rounds = -1", ["$.training.rounds"]),
        ('factory = "konsil.knowledge.tabular:build"', 'factory = "task"', ["$.task.factory"]),
        ("[node]", "[node", ["not TOML"]),
        ("/tcp/", "/udp/", ["/udp/", "/ip4/<address>/tcp/<port>"]),
    ],
)
def test_a_wrong_key_in_node_toml(home, old, new, words):
    edit(home, old, new)
    refused(home, 5, str(home / "node.toml"), *words)
    done = konsil("config", "check", home / "node.toml")
    assert done.code == 5
    for word in words:
        assert word in done.complaint
    done = konsil("config", "check", home / "node.toml", "--json")
    assert done.envelope("config.check")["error"]["code"] == "configuration"


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (other(name="bern"), ["members[1].name is 'bern'", "each member is listed once"]),
        (other() + other(name="ulm"), ["members[2].node"]),
        (other() + other(name="ulm", node="b" * 32), ["members[2].peer"]),
        (other(node="no-node-id"), ["$.members[1].node"]),
        (other(node="A" * 32), ["$.members[1].node"]),
        (other(peer="QmNoPeer"), ["$.members[1].peer"]),
        (other(name="Graz"), ["$.members[1].name"]),
        (other() + 'adresses = ["x"]\n', ["adresses", "$.members[1]"]),
    ],
)
def test_a_bad_member_list(home, members, words):
    append(home / "node.toml", members)
    refused(home, 5, str(home / "node.toml"), *words)


def test_a_member_list_without_this_node(home):
    text = (home / "node.toml").read_text()
    (home / "node.toml").write_text(text[: text.index("[[members]]")] + other())
    refused(home, 5, "`bern`, is not in its own member list", "member.toml")
    (home / "node.toml").write_text(text[: text.index("[[members]]")])
    refused(home, 5, str(home / "node.toml"), "members")


@pytest.mark.parametrize("field", ["node", "peer", "consortium"])
def test_a_member_list_with_another_identity_for_this_node(home, field):
    """Signing under a name that is not ours would make every artifact of ours a lie."""
    card = (home / "member.toml").read_text()
    if field == "consortium":
        edit(home, 'name = "alps"', 'name = "andes"')
    else:
        own = re.search(rf'^{field} = "(.*)"$', card, re.M)[1]
        edit(home, own, NODE if field == "node" else PEER)
    refused(home, 5, str(home / "node.toml"), "bern")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_key_that_others_may_read(home, mode):
    path = home / "keys" / "art.key"
    path.chmod(mode)
    refused(home, 5, f"{path}: mode 0{mode:o}", f"chmod 600 {path}")


def test_a_key_that_is_gone_malformed_or_of_another_home(home, tmp_path):
    path, kept = home / "keys" / "log.key", (home / "keys" / "log.key").read_bytes()
    path.unlink()
    refused(home, 5, f"{path}: the key is missing")
    path.write_text("not hex\n")
    path.chmod(0o600)
    refused(home, 5, f"{path}: this is no key")
    path.write_text(bytes(range(32)).hex())
    refused(home, 5, "the keys do not belong to the ledger of bern")
    path.write_bytes(kept)
    assert run_node(home).code == 0


def test_a_home_whose_making_was_interrupted(home):
    (home / "node.toml").unlink()
    refused(home, 5, f"{home / 'node.toml'}: there is no such file")


# --- the network: 4, and strangers --------------------------------------------------------------


def test_a_port_that_is_in_use(home):
    port = int(re.search(r"/tcp/(\d+)", (home / "node.toml").read_text())[1])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        refused(home, 4, f"/ip4/127.0.0.1/tcp/{port}: the port is in use", "[node] listen")
    assert run_node(home).code == 0


async def knock(peer, address):
    """Dial a daemon as somebody who is not in its member list; the error that we see."""
    stranger = Libp2pTransport(STRANGER, (), frozenset({peer}), "alps/heads")
    async with trio.open_nursery() as nursery:
        await nursery.start(stranger.run)
        with pytest.raises(UnreachableError) as caught:
            await stranger.dial(peer, [address])
        nursery.cancel_scope.cancel()
    return caught.value


def test_a_peer_outside_the_member_list_is_refused_and_logged(home):
    heard = []

    def strange(status):
        if not heard and status["addresses"]:
            heard.append(trio.run(knock, status["peer_id"], status["addresses"][0]))
            heard.append(control.ask(home, "status"))
        return True

    done = run_node(home, strange)
    assert done.code == 0
    error, status = heard
    assert status["neighbours"] == []
    assert "cannot reach" in error.message
    (line,) = [json.loads(line) for line in done.err.splitlines() if "peer.refused" in line]
    assert (line["peer"], line["reason"], line["level"]) == (PEER, "not a member", "warning")


# --- the ledger: 3 ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_home(tmp_path_factory):
    """A home whose ledger has a full bundle, tiles, a tail and a blob that an entry names."""
    root = tmp_path_factory.mktemp("long") / "bern"
    create_home(root, name="bern", consortium="alps", factory="task:build", listen=(), options={})
    journal = Journal.open(
        root / "ledger", load_keys(root / "keys"), lambda: 1_760_000_000_000, os.urandom
    )
    for number in range(300):
        blob = journal.blobs.put(b"blob %d" % number) if number == 299 else bytes(32)
        journal.append([ModelBase(model=blob, source="seed", licence="", note="")])
    journal.close()
    return root


@pytest.fixture
def old_home(long_home, tmp_path):
    shutil.copytree(long_home, tmp_path / "bern")
    return tmp_path / "bern"


def verify(home):
    done, machine = konsil("audit", "verify", home), konsil("audit", "verify", home, "--json")
    assert done.code == machine.code
    value = machine.envelope("audit.verify")
    assert isinstance(value["data"]["findings"], list)
    return done, value


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0x20
    path.write_bytes(data)
    return bytes(data)


def test_the_untouched_home_verifies(old_home):
    done, _ = verify(old_home)
    assert (done.code, done.err) == (0, "")
    assert "301 entries" in done.out


@pytest.mark.parametrize("name", ["checkpoint", "tail.256", "tile/0/000", "tile/entries/000"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_one_flipped_byte_anywhere_in_the_ledger(old_home, name, share):
    path = old_home / "ledger" / name
    flip(path, int(share * (path.stat().st_size - 1)))
    done, value = verify(old_home)
    assert done.code == 3
    assert "DOES NOT VERIFY" in done.out
    assert str(path) in done.complaint or "000" in done.complaint
    assert value["error"]["code"] == "verification"
    if name in ("checkpoint", "tail.256", "tile/0/000"):
        refused(old_home, 3, str(old_home / "ledger"))


def test_entries_that_were_cut_off(old_home):
    """Fewer entries than were signed for: signing on would fork the log."""
    tail = old_home / "ledger" / "tail.256"
    data = tail.read_bytes()
    length = int.from_bytes(data[:2], "big") + 34
    tail.write_bytes(data[: 3 * length])
    assert verify(old_home)[0].code == 3
    refused(old_home, 3, "301 were signed for", "never sign on")


def test_a_missing_tail_and_a_missing_checkpoint(old_home):
    tail, checkpoint = old_home / "ledger" / "tail.256", old_home / "ledger" / "checkpoint"
    kept = tail.read_bytes()
    tail.unlink()
    assert verify(old_home)[0].code == 3
    refused(old_home, 3, str(old_home / "ledger"))
    tail.write_bytes(kept)
    checkpoint.unlink()
    assert verify(old_home)[0].code == 3
    refused(old_home, 3, f"{checkpoint}: is missing")


def test_a_torn_last_frame_is_cut_off_with_a_notice(home):
    """What was being written when the machine died was never acknowledged."""
    tail = home / "ledger" / "tail.0"
    whole = tail.read_bytes()
    tail.write_bytes(whole + (400).to_bytes(2, "big") + bytes(range(100)))
    assert verify(home)[0].code == 4
    done = run_node(home)
    assert done.code == 0
    (line,) = [json.loads(line) for line in done.err.splitlines() if "journal.notice" in line]
    assert line["level"] == "warning"
    assert f"{tail}: a torn frame of 102 bytes was cut off" in line["notice"]
    assert tail.read_bytes()[: len(whole)] == whole
    assert verify(home)[0].code == 0


# --- one home, one daemon: 6 ------------------------------------------------------------------


def test_a_second_daemon_on_one_home(home):
    def second(_):
        done = shell("node", "run", home)
        assert done.code == 6
        assert f"{home / 'ledger' / 'LOCK'}: another process writes this ledger" in done.complaint
        assert control.ask(home, "status")["name"] == "bern"
        return True

    assert run_node(home, second).code == 0


# --- the task: the node lives, and says what is wrong ------------------------------------------

TASK = """
import os
import time

import torch
from konsil.knowledge import Rows, Task
from torch import nn


def build(config):
    fault = config.options.get("fault")

    def fit(module, rows, generator):
        if fault == "raise":
            raise ValueError("no table today")
        if fault == "hang":
            time.sleep(3600)
        if fault == "die":
            os._exit(9)
        for weight in module.parameters():
            torch.nn.init.normal_(weight, generator=generator)
        return 0.5

    def rows(name):
        return Rows(torch.eye(8), torch.arange(8) % 2, [f"{name} {at}" for at in range(8)])

    return Task("tiny", ("no", "yes"), lambda: nn.Linear(8, 2), rows("a"), rows("b"), fit=fit)
"""


def tiny(root, training="", options=""):
    """A home with a task that takes no time."""
    make(root, "--task", "task:build")
    (root / "task.py").write_text(TASK)
    edit(root, "[training]\nrounds = 0", f"[training]\npause_s = 0.05\n{training}")
    edit(root, "[task.options]", f"[task.options]\n{options}")
    return root


class Impatient(Trainer):
    """Grants the task any time to be opened, and then hardly any."""

    async def open(self):
        opened = await super().open()
        self._timeout_s = 0.5
        return opened


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("raise", ["failed during `train`: ValueError: no table today (task.py:15)"]),
        ("hang", ["no answer to `train` within 0.5 s; it was killed", "training.timeout_s"]),
        ("import", ["[task] factory: cannot load 'task': NameError", "(task.py:28)"]),
        pytest.param("die", ["died during `train`", "exit code 9"], marks=pytest.mark.exhaustive),
    ],
)
def test_a_task_that_fails_leaves_the_node_alive(tmp_path, monkeypatch, fault, words):
    monkeypatch.setattr(learner, "RETRY_S", 0.05)
    if fault == "hang":
        monkeypatch.setattr(daemon, "Trainer", Impatient)
    home = tiny(tmp_path / "bern", options=f'fault = "{fault}"')
    if fault == "import":
        append(home / "task.py", "no_such_name\n")
    seen = []

    def failed(status):
        if status["phase"] != "failed":
            return False
        seen.append(konsil("node", "status", home))
        seen.append(konsil("node", "status", home, "--json"))
        seen.append(konsil("node", "publish", home))
        return True

    done = run_node(home, failed)
    assert done.code == 0
    told, machine, publish = seen
    data = machine.envelope("node.status")["data"]
    assert data["phase"] == "failed"
    assert data["task_error"] in told.out
    first = next(line for line in done.err.splitlines() if "task.failed" in line)
    for word in words:
        assert word in json.loads(first)["error"]
    # What it has it can still publish: the model that all begin with, once the task is open.
    assert publish.code == (1 if fault == "import" else 0)
    assert verify(home)[0].code == 0


# --- blobs: 3 ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned_home(tmp_path_factory):
    """A home that learned alone for two rounds."""
    home = tiny(tmp_path_factory.mktemp("learned") / "bern", "rounds = 2")
    done = run_node(home, lambda status: status["phase"] == "idle")
    assert done.code == 0, done.err
    return home


def flip_blob(store, digest):
    path = store / "sha256" / digest.hex()[:2] / digest.hex()
    flip(path, path.stat().st_size // 2)
    return path


@pytest.mark.slow
def test_a_corrupt_envelope_beside_the_ledger(learned_home, tmp_path):
    home = shutil.copytree(learned_home, tmp_path / "bern")
    published = [e.b for e in read_entries(home / "ledger") if isinstance(e.b, ArtifactPublish)]
    path = flip_blob(home / "ledger" / "blobs", published[0].env)
    done, _ = verify(home)
    assert done.code == 3
    assert f"blob.corrupt: {path}" in done.complaint
    refused(home, 3, f"{path}: the bytes are not those of their name")


@pytest.mark.slow
def test_a_corrupt_model_is_never_trained_or_mixed(learned_home, tmp_path):
    """Its digest would go into the ledger for bytes that it does not name."""
    home = shutil.copytree(learned_home, tmp_path / "bern")
    edit(home, "rounds = 2", "rounds = 3")
    trained = [e.b for e in read_entries(home / "ledger") if isinstance(e.b, ModelTrain)]
    path = flip_blob(home / "blobs", trained[-1].out)
    assert verify(home)[0].code == 3
    before = files(home / "ledger")
    done = run_node(home, lambda status: status["phase"] in ("idle", "failed"))
    assert done.code == 3, done.err
    assert f"{path}: the bytes are not those of their name" in done.complaint
    assert files(home / "ledger") == before


# --- a full disk: 6 ----------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A disk of two megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can only be mounted by root")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk):
    """Leave no byte on a disk; the file that takes them all."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


@pytest.mark.slow
def test_a_full_disk_stops_the_node_and_loses_nothing(small_disk):
    home = tiny(small_disk / "bern", "rounds = 0")
    acknowledged = []

    def fill_up(status):
        if status["round"] >= 2 and not acknowledged:
            fill(small_disk)
            acknowledged.append(status["ledger"]["size"])
        return False

    done = run_node(home, fill_up)
    assert done.code == 6, done.err
    assert str(home) in done.complaint
    assert "No space left on device (free some space, then start again)" in done.complaint
    assert verify(home)[0].code == 0
    entries = len(read_entries(home / "ledger"))
    assert entries >= acknowledged[0]

    before = files(home / "ledger")
    with (home / "node.log").open("w") as log:
        command = [KONSIL, "node", "run", home]
        assert subprocess.run(command, stderr=log, timeout=120).returncode == 6
    assert files(home / "ledger") == before

    (small_disk / "filler").unlink()
    rounds = []

    def goes_on(status):
        rounds.append(status["round"])
        return status["round"] >= rounds[0] + 2

    assert run_node(home, goes_on).code == 0
    assert verify(home)[0].code == 0
    assert len(read_entries(home / "ledger")) > entries

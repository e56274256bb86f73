"""Wrong inputs: one clear line each, the documented exit code, and nothing is lost.

Commands run in this process, except where two must run at once.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess

import pytest
import trio
from commands import KONSIL, files, konsil, run_node, shell
from handmade import append, edit, make, refused, tiny, verify

from konsil.node import control, daemon
from konsil.node.learning import learner
from konsil.node.learning.trainer import Trainer
from konsil.node.transports.libp2p_transport import Libp2pTransport
from konsil.protocol.errors import UnreachableError
from konsil.protocol.identity import SigningKey, peer_id

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


@pytest.fixture
def home(tmp_path):
    return make(tmp_path / "bern")


def other(name="graz", node=NODE, peer=PEER):
    return OTHER.format(name=name, node=node, peer=peer)


# --- the command line, and homes that are none: 2 --------------------------------------------


@pytest.mark.parametrize(
    ("line", "verb"),
    [
        (["frob"], "frob"),
        (["node", "frob"], "node.frob"),
        (["node", "status"], "node.status"),
        (["node", "status", "x", "--frob"], "node.status"),
        (["node", "trust", "x", "--pin", "a", "--mute", "b"], "node.trust"),
        (["node", "trust", "x", "--reason", "because"], "node.trust"),
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
        ["audit", "redact", "3", "--legal", "gdpr17", "--authority", "x"],
    ],
)
def test_a_home_that_does_not_exist(tmp_path, line):
    nowhere = tmp_path / "nowhere"
    line = [*line[:2], str(nowhere), *line[2:]]
    done = konsil(*line)
    assert (done.code, done.out) == (2, "")
    assert str(nowhere) in done.complaint
    assert not nowhere.exists()
    if line[1] != "run":
        done = konsil(*line, "--json")
        assert done.code == 2
        assert done.envelope(".".join(line[:2]))["error"]["code"] == "usage"


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


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    ("line", "out", "err"),
    [
        (["config", "check", "{home}/node.toml", "--no-task"], 6, 0),
        (["config", "check", "{home}/node.toml", "--no-task", "--json"], 6, 0),
        (["node", "status", "{home}"], 4, 4),
        (["frob"], 2, 2),
    ],
)
def test_output_that_nobody_has_room_for(home, line, out, err):
    """The exit code still says what it always says, and 6 where the data itself was lost."""
    command = [KONSIL, *(word.format(home=home) for word in line)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == out
        (told,) = done.stderr.splitlines()
        assert told.startswith("konsil: ")
        assert subprocess.run(command, stdout=subprocess.PIPE, stderr=full).returncode == err


# --- node.toml, keys, members: 5 --------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[training]", "[training]\nlissten = 1", ["lissten", "$.training"]),
        ("[training]", "[trainning]", ["trainning"]),
        ("rounds = 50", "rounds = -1", ["$.training.rounds"]),
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
    done = refused(home, 5, str(home / "node.toml"), *words)
    assert done.out == "", "stdout is for data"


def test_a_member_list_without_this_node(home):
    text = (home / "node.toml").read_text()
    (home / "node.toml").write_text(text[: text.index("[[members]]")] + other())
    refused(home, 5, "`bern`, is not in its own member list", "member.toml")
    (home / "node.toml").write_text(text[: text.index("[[members]]")])
    done = refused(home, 5, str(home / "node.toml"), "members")
    assert done.out == "", "stdout is for data"


@pytest.mark.parametrize("field", ["node", "peer", "consortium"])
def test_a_member_list_with_another_identity_for_this_node(home, field):
    """Signing under a name that is not ours would make every artifact of ours a lie."""
    card = (home / "member.toml").read_text()
    if field == "consortium":
        edit(home, 'name = "alps"', 'name = "andes"')
    else:
        own = re.search(rf'^{field} = "(.*)"$', card, re.M)[1]
        edit(home, own, NODE if field == "node" else PEER)
    done = refused(home, 5, str(home / "node.toml"), "bern")
    assert done.out == "", "stdout is for data"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_key_that_others_may_read(home, mode):
    path = home / "keys" / "art.key"
    path.chmod(mode)
    done = refused(home, 5, f"{path}: mode 0{mode:o}", f"chmod 600 {path}")
    assert done.out == "", "stdout is for data"


def test_a_key_that_is_gone_malformed_or_of_another_home(home, tmp_path):
    path, kept = home / "keys" / "log.key", (home / "keys" / "log.key").read_bytes()
    path.unlink()
    refused(home, 5, f"{path}: the key is missing")
    path.write_text("not hex\n")
    path.chmod(0o600)
    refused(home, 5, f"{path}: this is no key")
    path.write_text(bytes(range(32)).hex())
    refused(home, 5, "log.key is none of this ledger, or newer than this copy of it")
    path.write_bytes(kept)
    assert run_node(home).code == 0


def test_a_home_whose_making_was_interrupted(home):
    (home / "node.toml").unlink()
    done = refused(home, 5, f"{home / 'node.toml'}: there is no such file")
    assert done.out == "", "stdout is for data"


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

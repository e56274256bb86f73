"""The control socket: private, forgiving, reachable however long the home's path is."""

import json
import os
import socket
import stat
import threading

import pytest
import structlog
import trio

from konsil.node.control import ask, serve_control, wait_until_gone
from konsil.node.paths import Home
from konsil.node.store import lock
from konsil.protocol.errors import ConfigError, KonsilError, StorageError, UnreachableError

LOG = structlog.get_logger()


async def _double(arguments):
    return {"twice": 2 * arguments["n"]}


async def _fail(_arguments):
    raise ConfigError("this is wrong", hint="do that")


async def _crash(_arguments):
    raise RuntimeError("a bug")


VERBS = {"double": _double, "fail": _fail, "crash": _crash}


@pytest.fixture(params=["short", "long"])
def home(request, tmp_path):
    root = tmp_path / ("h" if request.param == "short" else "x" * 120)
    root.mkdir()
    return Home(root)


@pytest.fixture
async def served(home, nursery):
    await nursery.start(serve_control, home, VERBS, LOG)
    return home


async def asked(home, verb, arguments=None):
    return await trio.to_thread.run_sync(ask, home.root, verb, arguments)


async def test_a_question_is_answered(served):
    assert await asked(served, "double", {"n": 21}) == {"twice": 42}


async def test_the_socket_is_for_its_owner_only(served):
    assert stat.S_IMODE(os.lstat(served.socket).st_mode) == 0o700
    assert stat.S_ISSOCK(os.lstat(served.socket).st_mode)


async def test_an_error_keeps_code_hint_and_exit_code(served):
    with pytest.raises(KonsilError, match="this is wrong") as caught:
        await asked(served, "fail")
    assert (caught.value.code, caught.value.hint) == ("configuration", "do that")
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("verb", "exit_code", "words"),
    [
        ("crash", 70, "a bug in konsil: RuntimeError"),
        ("double", 70, "a bug in konsil: KeyError"),
        ("unknown", 2, "no question `unknown`"),
    ],
)
async def test_nothing_that_is_asked_stops_the_node(served, verb, exit_code, words):
    with pytest.raises(KonsilError, match=words) as caught:
        await asked(served, verb)
    assert caught.value.exit_code == exit_code
    assert await asked(served, "double", {"n": 1}) == {"twice": 2}


async def test_a_broken_disk_is_answered_and_stops_the_node(home):
    async def full(_arguments):
        raise StorageError("the disk is full", hint="free some space")

    with pytest.RaisesGroup(StorageError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_control, home, {"publish": full}, LOG)
            with pytest.raises(KonsilError, match="the disk is full") as caught:
                await trio.to_thread.run_sync(ask, home.root, "publish")
            assert caught.value.exit_code == 6
            await trio.sleep_forever()


def test_a_node_is_gone_only_when_it_has_let_go_of_its_ledger(home):
    home.ledger.mkdir()
    held = lock.take(home.ledger)
    with pytest.raises(UnreachableError, match="still there"):
        wait_until_gone(home.root, timeout_s=0.2)
    os.close(held)
    wait_until_gone(home.root, timeout_s=0.2)


@pytest.mark.parametrize("line", [b"", b"\n", b"garbage\n", b"[1]\n", b'{"verb": 7}\n', b"{}\n"])
async def test_garbage_is_answered_or_dropped(served, tmp_path, line):
    if len(str(served.socket)) > 100:
        pytest.skip("a raw client needs a short path")

    def talk():
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(served.socket))
            client.sendall(line)
            client.shutdown(socket.SHUT_WR)
            return client.recv(65536)

    reply = await trio.to_thread.run_sync(talk)
    assert reply == b"" or json.loads(reply)["ok"] is False
    assert await asked(served, "double", {"n": 1}) == {"twice": 2}


async def test_nobody_there(home):
    with pytest.raises(UnreachableError, match="does not answer") as caught:
        await asked(home, "double")
    assert "konsil node run" in caught.value.hint
    assert caught.value.exit_code == 4


async def test_a_stale_socket_is_replaced_and_removed(home, nursery):
    home.socket.touch()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as inner:
            await inner.start(serve_control, home, VERBS, LOG)
            assert await asked(home, "double", {"n": 2}) == {"twice": 4}
            scope.cancel()
    assert not home.socket.exists()


def test_no_such_home(tmp_path):
    with pytest.raises(ConfigError, match="no such home"):
        ask(tmp_path / "nowhere", "status")


@pytest.mark.parametrize("reply", [b"[]\n", b"{}\n", b'{"ok":true}\n', b'{"ok":false}\n', b"7\n"])
def test_something_else_behind_the_socket_is_named(tmp_path, reply):
    home = Home(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(home.socket))
        listening.listen(1)

        def answer():
            other, _ = listening.accept()
            with other:
                other.recv(4096)
                other.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(UnreachableError, match="does not answer as a konsil node"):
            ask(home.root, "status")
        thread.join()

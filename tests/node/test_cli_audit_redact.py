"""`konsil audit redact`: a body goes, its hash and the reason stay, and all still verifies."""

from __future__ import annotations

import json
import random

import pytest
import structlog
import trio
from typer.testing import CliRunner

from konsil.node.cli.app import build_app
from konsil.node.control import serve_control
from konsil.node.init import create_home
from konsil.node.keys import load_keys
from konsil.node.paths import Home
from konsil.node.redaction import Redaction
from konsil.node.store.chronicle import Chronicle
from konsil.node.store.journal import Journal
from konsil.protocol.errors import UnreachableError
from konsil.protocol.learning_bodies import ModelBase
from konsil.protocol.node_bodies import LogRedact
from konsil.protocol.office_bodies import PolicyLocal
from konsil.trust.audit import verify_home

OLD_MS = 1_500_000_000_000
COUNT = 300


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with a rolled bundle whose entries are old enough to go."""
    root = tmp_path / "bern"
    monkeypatch.setattr("konsil.node.init._now_ms", lambda: OLD_MS)
    create_home(root, name="bern", consortium="alps", factory="x:y", listen=(), options={})
    with_bodies(root, [PolicyLocal(policy=bytes(32), version=n + 1) for n in range(COUNT)])
    with_bodies(root, [ModelBase(model=bytes(32), source="", licence="", note="")])
    return root


def with_bodies(root, bodies):
    journal = opened(root)
    journal.append(bodies)
    journal.close()


def opened(root, now_ms=OLD_MS):
    return Journal.open(
        root / "ledger", load_keys(root / "keys"), lambda: now_ms, lambda n: draw(n)
    )


def draw(count, _draw=random.Random(1)):  # noqa: B008 - one run of salts for the module
    return _draw.randbytes(count)


async def redact(root, index, *more, now_ms=10 * OLD_MS):
    """The command, asked of a node that runs; time has passed since its entries were written."""
    words = ["audit", "redact", str(root), str(index), "--legal", "gdpr17", "--authority", "court"]
    journal, log = opened(root, now_ms), structlog.wrap_logger(structlog.ReturnLogger())
    verbs = {"redact": Redaction(Chronicle(journal), lambda: now_ms, log).redact}
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_control, Home(root), verbs, log)
            done = await trio.to_thread.run_sync(CliRunner().invoke, build_app(), [*words, *more])
            nursery.cancel_scope.cancel()
        return done
    finally:
        journal.close()


@pytest.mark.parametrize("index", [5, 255, 256, COUNT])
async def test_a_body_in_bundle_and_tail_goes_and_the_ledger_verifies(home, index):
    before = opened(home)
    root = before.root_at(COUNT)
    before.close()
    done = await redact(home, index, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["data"]["index"] == index
    journal = opened(home)
    assert journal.leaves(index, 1)[0].entry is None
    assert journal.root_at(COUNT) == root
    assert [e.b.index for e in journal.entries() if isinstance(e.b, LogRedact)] == [index]
    journal.append([PolicyLocal(policy=bytes(32), version=999)] * 300)
    journal.close()
    report = verify_home(home)
    assert report.findings == ()
    assert report.ledgers[0].redacted == 1
    again = await redact(home, index)
    assert "no body here" in str(again.exception)


async def test_what_a_stranger_needs_never_goes(home):
    for index in (COUNT + 1, COUNT + 7):
        refused = await redact(home, index)
        assert refused.exception.exit_code == 2, refused.output
    assert verify_home(home).findings == ()


async def test_what_is_young_stays_unless_the_law_insists(home):
    refused = await redact(home, 3, now_ms=OLD_MS + 1)
    assert "younger than six months" in str(refused.exception)
    assert (await redact(home, 3, "--early", now_ms=OLD_MS + 1)).exit_code == 0
    assert [found.code for found in verify_home(home).findings] == ["redact.refused"]


def test_a_stopped_node_redacts_nothing(home):
    """Nobody has vouched for the ledger: it may be an old copy."""
    words = ["audit", "redact", str(home), "3", "--legal", "gdpr17", "--authority", "court"]
    before = verify_home(home).ledgers[0].entries
    refused = CliRunner().invoke(build_app(), words)
    assert isinstance(refused.exception, UnreachableError)
    assert verify_home(home).ledgers[0].entries == before

"""`konsil audit redact`: a body goes, its hash and the reason stay, and all still verifies."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from konsil.node.cli.app import build_app
from konsil.node.init import create_home
from konsil.node.keys import load_keys
from konsil.node.store.journal import Journal
from konsil.protocol.errors import UsageError
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


def opened(root):
    return Journal.open(
        root / "ledger", load_keys(root / "keys"), lambda: OLD_MS, lambda n: draw(n)
    )


def draw(count, _drawn=iter(range(1, 100_000))):  # noqa: B008 - one run of salts for the module
    return next(_drawn).to_bytes(count, "big")


def redact(root, index, *more):
    words = ["audit", "redact", str(root), str(index), "--legal", "gdpr17", "--authority", "court"]
    return CliRunner().invoke(build_app(), [*words, *more])


@pytest.mark.parametrize("index", [5, 255, 256, COUNT])
def test_a_body_in_bundle_and_tail_goes_and_the_ledger_verifies(home, index):
    before = opened(home)
    root = before.root_at(COUNT)
    before.close()
    done = redact(home, index, "--json")
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
    again = redact(home, index)
    assert isinstance(again.exception, UsageError)


def test_what_a_stranger_needs_never_goes(home):
    for index in (COUNT + 1, COUNT + 7):
        refused = redact(home, index)
        assert isinstance(refused.exception, UsageError), refused.output
    assert verify_home(home).findings == ()


def test_what_is_young_stays_unless_the_law_insists(home, monkeypatch):
    monkeypatch.setattr("konsil.node.opening.now_ms", lambda: OLD_MS + 1)
    refused = redact(home, 3)
    assert "younger than six months" in str(refused.exception)
    assert redact(home, 3, "--early").exit_code == 0
    assert [found.code for found in verify_home(home).findings] == ["redact.refused"]

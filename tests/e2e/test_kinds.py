"""Each kind of knowledge through real daemons and workers, from training to the audit."""

from __future__ import annotations

import pytest
import trio
from network import Network
from second import judged

from konsil.protocol.artifact import read_statement
from konsil.protocol.envelope import unpack
from konsil.protocol.learning_bodies import ArtifactIntegrate, ArtifactPublish
from konsil.trust import integrate
from konsil.trust.audit import verify_homes
from konsil.trust.lineage import read_lineage

NAMES = ("bern", "graz", "oslo")
ROUNDS = 3
UNLIKE = {"bern": "logistic", "graz": "mlp:16", "oslo": "mlp:8"}
KINDS = {
    ("data_vector",) * 3: dict.fromkeys(NAMES, "mlp:8"),
    ("logits", "logits", "weak_labels"): UNLIKE,
    ("prototypes",) * 3: dict.fromkeys(NAMES, "mlp:8"),
}
"""What the hospitals hand out, and their models."""


def options(name, model):
    return {
        "dataset": "breast_cancer", "sites": 3, "site": NAMES.index(name), "model": model,
        "name": "tumours", "question": 128,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kinds", KINDS, ids=lambda kinds: "-".join(sorted(set(kinds))))
async def test_what_travels_is_learned_from_logged_and_traced(kinds, tmp_path):
    models, kind_of = KINDS[kinds], dict(zip(NAMES, kinds, strict=True))
    async with trio.open_nursery() as nursery:
        net = Network(
            tmp_path, nursery, NAMES, rounds=ROUNDS, patience_s=30.0, kinds=kind_of,
            factory="konsil.knowledge.tabular:build",
            options={name: options(name, models[name]) for name in NAMES},
        )  # fmt: skip
        await net.start()
        await net.until(net.idle, seconds=120)
        sources = {name: net.sources(name) for name in NAMES}
        mixes = {name: net.bodies(name, ArtifactIntegrate) for name in NAMES}
        handed = {name: net.bodies(name, ArtifactPublish) for name in NAMES}
        sealed = [
            net.daemons[name]._journal.blobs.get(body.env)
            for name in NAMES
            for body in handed[name]
        ]
        nursery.cancel_scope.cancel()
    homes = [tmp_path / name for name in NAMES]
    for name in NAMES:
        assert {body.kind for body in handed[name]} == {kind_of[name]}
        assert [body.sequence for body in handed[name]] == list(range(1, ROUNDS + 1))
        assert {body.rule for body in mixes[name]} <= {integrate.RULES[kind_of[name]]}
    assert sum(map(len, mixes.values())) >= ROUNDS
    assert all(set(sources[name]) <= set(NAMES) - {name} for name in NAMES)
    manifests = [read_statement(unpack(one).payload) for one in sealed]
    assert len({one.base for one in manifests}) == 1
    report = verify_homes(homes, replay=True)
    assert report.exit_code() == 0, report.lines()
    told = sum(map(len, mixes.values()))
    taught = integrate.RULES[kinds[0]] in integrate.TAUGHT
    assert sum(one.taught for one in report.ledgers) == (told if taught else 0)
    assert sum(one.replayed for one in report.ledgers) == (0 if taught else told)
    assert judged(*homes, "--replay") == (0, set())
    lineage = read_lineage(homes)
    mixed = next(name for name in NAMES if mixes[name])
    found = lineage.contributors(mixes[mixed][-1].out)
    assert found.linear != taught
    if taught:
        behind = {*sources[mixed], mixed}
        assert {lineage.name(node) for node in found.influences} >= behind
        assert found.contributors == ()
    else:
        assert {one.name for one in found.contributors} == set(NAMES)
        assert sum(one.share_e9 for one in found.contributors) == 10**9

"""Descent over several homes: a home answers for its own words, and for those whom it took from."""

from __future__ import annotations

import pytest
from ledgers import Clock, Hospital, acquaint, audit_of, codes, train_of

from konsil.protocol.digest import sha256
from konsil.protocol.learning_bodies import ModelBase
from konsil.protocol.office_bodies import ArtifactWithdraw, ModelDeploy
from konsil.trust import lineage_views as views
from konsil.trust.exports.prov import to_prov
from konsil.trust.lineage import read_lineage


@pytest.fixture
def three(tmp_path):
    """Graz published a model, Bern trained on from it and published, Ulm received what Bern did."""
    clock = Clock()
    bern, graz, ulm = (Hospital(tmp_path, name, clock=clock) for name in ("bern", "graz", "ulm"))
    graz.train()
    sent = graz.publish()
    bern.receive(sent, graz.author)
    bern.train()
    bern.mix([sent])
    ulm.receive(bern.publish(), bern.author)
    acquaint(bern, graz, ulm)
    return bern, graz, ulm, sent


def withdraw(graz, art):
    due = graz.clock.now + 50
    graz.journal.append([ArtifactWithdraw(art=art, deadline_ms=due, reason="quality", scope="all")])
    graz.clock.now += 100


def use(hospital, model):
    evaluated = hospital.journal.blobs.put(b"evaluated")
    hospital.journal.append(
        [ModelDeploy(approver=sha256(b"x"), evaluation=evaluated, model=model, step="pccp.1")]
    )


def found_in(report, name):
    return {one.code for one in report.findings if one.ledger == name}


def test_descent_goes_through_the_words_of_those_whom_a_home_took_from(three):
    bern, graz, ulm, sent = three
    withdraw(graz, sent.art)
    use(ulm, bern.model)
    use(bern, bern.before)
    found = audit_of(bern, graz, ulm)
    assert found_in(found, "ulm") == {"withdraw.missing", "withdraw.deployed"}
    assert found_in(found, "bern") == {"withdraw.missing"}, "its training came before the mix"


def test_without_the_home_of_who_made_it_nobody_tells_what_a_model_is_from(three):
    bern, graz, ulm, sent = three
    withdraw(graz, sent.art)
    use(ulm, bern.model)
    bern.close()
    assert found_in(audit_of(graz, ulm), "ulm") == {"withdraw.missing"}


def test_a_release_of_what_was_received_is_a_claim_as_well(three):
    bern, graz, ulm, _ = three
    ulm.publish(bern.store.get(bern.model))
    found = audit_of(bern, graz, ulm)
    assert codes(found) == {"lineage.claim"}
    assert found_in(found, "ulm") == {"lineage.claim"}
    told = read_lineage([ulm.home, bern.home, graz.home])
    assert told.steps[bern.model].node == bern.node


def test_to_begin_with_the_model_of_another_is_no_claim(three):
    bern, graz, ulm, _ = three
    ulm.journal.append([ModelBase(model=bern.model, source="bern", licence="", note="")])
    assert audit_of(bern, graz, ulm).findings == ()


def test_who_spoke_first_gets_no_finding_for_a_later_claim_of_whom_it_received_from(three):
    """Graz takes the credit for what Bern made, and Bern receives it back from Graz."""
    bern, graz, ulm, _ = three
    graz.journal.append([train_of(graz, base=graz.model, out=bern.model)])
    bern.receive(graz.publish(bern.store.get(bern.model)), graz.author)
    found = audit_of(bern, graz, ulm)
    assert codes(found) == set(), "no receipt of Graz shows that it knew the model"
    told = read_lineage([bern.home, graz.home])
    step = told.steps[bern.model]
    assert (step.kind, set(step.nodes)) == ("disputed", {bern.node, graz.node})
    agents = {f"node:{node}" for node in step.nodes}
    document = to_prov(told, bern.model)
    assert set(document["agent"]) == agents
    assert {one["prov:agent"] for one in document["wasAttributedTo"].values()} == agents
    assert "claimed by bern or graz" in views.to_text(told, bern.model)


def test_a_disputed_model_descends_from_whatever_any_of_them_names(three):
    """A false claim hides no taint, and closes no circle."""
    bern, graz, _, sent = three
    graz.journal.append([train_of(graz, base=graz.model, out=bern.model)])
    bern.close()
    graz.close()
    trained = read_lineage([bern.home]).steps[bern.model].sources[0].model
    told = read_lineage([bern.home, graz.home])
    assert bern.model in told.descendants(sent.art)
    assert told.amounts(sent.art)[bern.model] is None, "no percentage is invented for it"
    graz.reopen()
    graz.journal.append([train_of(graz, base=bern.model, out=trained)])
    graz.close()
    told = read_lineage([bern.home, graz.home])
    assert told.steps[trained].kind == "disputed"
    assert told.contributors(bern.model).contributors


def test_the_same_from_the_same_is_nobodys_claim(three):
    bern, graz, ulm, _ = three
    made = sha256(b"made twice")
    for one in (bern, ulm):
        base = ModelBase(model=sha256(b"common"), source="", licence="", note="")
        one.journal.append([base, train_of(one, base=base.model, out=made)])
    assert audit_of(bern, graz, ulm).findings == ()


def test_a_circle_that_takes_several_homes_is_told_of_none(tmp_path):
    clock = Clock()
    bern, graz = (Hospital(tmp_path, name, clock=clock) for name in ("bern", "graz"))
    a, b = sha256(b"a"), sha256(b"b")
    for one, base, out in ((bern, a, b), (graz, b, a)):
        one.journal.append([
            ModelBase(model=base, source="", licence="", note=""),
            train_of(one, base=base, out=out),
        ])  # fmt: skip
    found = audit_of(bern, graz)
    assert (codes(found), found.exit_code()) == ({"lineage.cycle"}, 3)
    assert [one.exit_code for one in found.ledgers] == [0, 0]
    (finding,) = found.findings
    assert bern.node in finding.message
    assert graz.node in finding.message

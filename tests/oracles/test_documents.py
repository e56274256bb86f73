"""Documents that we write are read by the libraries of their formats, and bogus ones refused."""

from __future__ import annotations

import copy
import json

import msgspec
import pytest

from konsil.protocol import entries
from konsil.protocol.errors import IncompleteError
from konsil.protocol.office_bodies import InferenceBatch
from konsil.trust.exports import cyclonedx, envelopes, fhir, names, prov
from konsil.trust.lineage import read_lineage
from konsil.trust.reading import read_ledger


@pytest.fixture(scope="module")
def told(hospitals):
    """Verified ledgers; the first has also used its model on patients."""
    ledgers = [read_ledger(one.home / "ledger") for one in hospitals]
    batch = InferenceBatch(
        model=hospitals[0].model,
        count=2**40,
        from_ms=1_760_000_000_000,
        to_ms=1_760_000_001_000,
        root=bytes(32),
    )
    entry = entries.entry(
        batch,
        index=len(ledgers[0].entries),
        time_ms=1_760_000_002_000,
        salt=bytes(16),
        charter=bytes(32),
    )
    used = msgspec.structs.replace(ledgers[0], entries=(*ledgers[0].entries, entry))
    return [used, *ledgers[1:]]


@pytest.fixture(params=["all ledgers", "one ledger"])
def case(request, hospitals, lineage):
    """A lineage that is complete, and one with gaps, each with a model in it."""
    model = hospitals[0].model
    if request.param == "all ledgers":
        return lineage, model
    return read_lineage([hospitals[0].home]), model


def test_prov_reads_our_document_and_writes_an_equal_one(module, case):
    library = module("prov.model")
    lineage, model = case
    data = names.document(prov.to_prov(lineage, model)).decode()
    read = library.ProvDocument.deserialize(content=data, format="json")
    written = read.serialize(format="json")
    assert library.ProvDocument.deserialize(content=written, format="json") == read
    order = lineage.ordered(model)
    made = [step for step in order if step.kind in prov.MADE]
    counts = {
        library.ProvEntity: len(order),
        library.ProvActivity: len(made),
        library.ProvUsage: sum(len(step.sources) for step in made),
        library.ProvDerivation: sum(len(step.sources) for step in made),
        library.ProvGeneration: len(made),
        library.ProvAssociation: len(made),
        library.ProvAttribution: sum(step.kind == "unknown" for step in order),
    }
    assert {kind: len(list(read.get_records(kind))) for kind in counts} == counts
    weights = sorted(
        value
        for record in read.get_records(library.ProvUsage)
        for name, value in record.extra_attributes
        if name.uri == "konsil:prov/weight_e9"
    )
    assert weights == sorted(source.w_e9 for step in made for source in step.sources)


def test_prov_refuses_a_bogus_document(module, case):
    library = module("prov.model")
    document = prov.to_prov(*case)
    with pytest.raises(Exception, match="believed"):
        library.ProvDocument.deserialize(
            content=json.dumps(document | {"believed": {"_:b": {}}}), format="json"
        )


def test_cyclonedx_validates_our_bill_strictly(module, case, hospitals):
    validation = module("cyclonedx.validation.json")
    schema = module("cyclonedx.schema").SchemaVersion.V1_6
    lineage, model = case
    known = envelopes.manifests([one.home for one in hospitals], lineage.ancestors(model) | {model})
    document = cyclonedx.to_cyclonedx(lineage, model, known)
    validator = validation.JsonStrictValidator(schema)
    assert validator.validate_str(names.document(document).decode()) is None
    cards = [one for one in document["components"] if "modelCard" in one]
    assert cards
    for path in (("bogus",), ("metadata", "bogus"), ("metadata", "component", "bogus")):
        wrong = copy.deepcopy(document)
        inner = wrong
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = 1
        assert validator.validate_str(json.dumps(wrong)) is not None, path
    wrong = copy.deepcopy(document)
    wrong["components"][0]["hashes"][0]["content"] = "no digest"
    assert validator.validate_str(json.dumps(wrong)) is not None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fhir_reads_our_bundle_and_refuses_a_bogus_one(module, case, told):
    bundle = module("fhir.resources.bundle").Bundle
    lineage, model = case
    document = fhir.to_fhir(lineage, model, told)
    read = bundle.model_validate_json(names.document(document))
    resources = [one.resource for one in read.entry]
    kinds = [one.__class__.__name__ for one in resources]
    order = lineage.ordered(model)
    assert kinds.count("Provenance") == sum(step.kind == "mix" for step in order)
    assert kinds.count("AuditEvent") == 1 + sum(step.kind == "train" for step in order)
    assert len({one.fullUrl for one in read.entry}) == len(read.entry)
    mix = next(one for one in resources if one.__class__.__name__ == "Provenance")
    assert sum(part.extension[0].valueInteger for part in mix.entity) == 10**9
    for kind, name in (("provenance", "Provenance"), ("auditevent", "AuditEvent")):
        one = next(
            item["resource"]
            for item in document["entry"]
            if item["resource"]["resourceType"] == name
        )
        resource = getattr(module(f"fhir.resources.{kind}"), name)
        resource.model_validate(one)
        for wrong in ({"weight": 1}, {"recorded": "yesterday"}, {"agent": None}):
            with pytest.raises(ValueError, match=r"(?i)extra|valid|agent"):
                resource.model_validate(one | wrong)


def test_a_home_that_published_nothing_has_no_artifact(tmp_path):
    from ledgers import Hospital

    one = Hospital(tmp_path, "bern")
    one.close()
    with pytest.raises(IncompleteError):
        envelopes.find_artifact([one.home])

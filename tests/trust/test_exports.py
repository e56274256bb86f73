"""Exports: the same bytes each time, nothing guessed, and errors that say what to do."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import typer
from ledgers import CONSORTIUM, Clock, Hospital, consortium, falsify, tail_of
from typer.testing import CliRunner

from konsil.node import init, keys
from konsil.node.cli.app import build_app
from konsil.node.store.journal import Journal
from konsil.protocol import envelope, merkle, p256, proof
from konsil.protocol.artifact import ClassCoverage, PrivacySpent, open_sealed
from konsil.protocol.errors import (
    ConfigError,
    IncompleteError,
    UsageError,
    VerificationError,
)
from konsil.protocol.learning_bodies import ArtifactReceive, ModelBase
from konsil.protocol.office_bodies import InferenceBatch
from konsil.trust.exports import cyclonedx, envelopes, fhir, intoto, names, openssf, prov
from konsil.trust.exports.tlog_proof import to_tlog_proof
from konsil.trust.lineage import Lineage, read_lineage
from konsil.trust.reading import read_ledger
from konsil.trust.steps import Source, Step

LINEAGE_FORMATS = ("prov", "cyclonedx", "fhir")


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    return consortium(tmp_path_factory.mktemp("learned"), "bern", "graz", rounds=2)


@pytest.fixture(scope="module")
def homes(learned):
    return [one.home for one in learned]


@pytest.fixture(scope="module")
def lineage(homes):
    return read_lineage(homes)


@pytest.fixture
def model(lineage):
    return lineage.current()


def manifests(homes, lineage, model):
    return envelopes.manifests(homes, lineage.ancestors(model) | {model})


def run(*arguments, fails=None):
    result = CliRunner().invoke(build_app(), ["audit", "export", *map(str, arguments)])
    if fails is not None:
        assert isinstance(result.exception, fails), result.output
    elif result.exception is not None:
        assert isinstance(result.exception, SystemExit), result.exception
    return result


# The formats.


def test_the_same_ledgers_give_the_same_documents(homes, model):
    def made():
        told = read_lineage(homes)
        known = manifests(homes, told, model)
        return [
            names.document(prov.to_prov(told, model)),
            names.document(cyclonedx.to_cyclonedx(told, model, known)),
            names.document(fhir.to_fhir(told, model, [read_ledger(h / "ledger") for h in homes])),
        ]

    assert made() == made()


def test_intoto_is_the_signed_statement_itself(learned, homes):
    found = envelopes.find_artifact(homes)
    sealed = envelopes.read_envelope(homes, found.env)
    document = json.loads(intoto.to_intoto(sealed))
    packed = envelope.unpack(sealed)
    assert base64.b64decode(document["payload"]) == packed.payload
    assert base64.b64decode(document["signatures"][0]["sig"]) == packed.signatures[0].sig
    manifest = open_sealed(packed, learned[0].author.keys["art"])
    assert manifest.payload.digest == found.art.hex()
    assert manifest.sequence == 2


def test_prov_names_every_step_and_its_weights(lineage, model):
    document = prov.to_prov(lineage, model)
    order = lineage.ordered(model)
    assert len(document["entity"]) == len(order)
    assert len(document["activity"]) == sum(step.kind != "base" for step in order)
    assert {one["prov:label"] for one in document["agent"].values()} == {"bern", "graz"}
    mix = lineage.steps[model]
    mixed = f"entry:{mix.node}/{mix.index}"
    used = [one for one in document["used"].values() if one["prov:activity"] == mixed]
    assert sum(one["konsil:weight_e9"] for one in used) == 10**9
    assert document["activity"][mixed]["konsil:round"] == 2
    assert document["activity"][mixed]["konsil:rule"] == "egt.1"
    assert "wasAttributedTo" not in document


def test_what_no_ledger_explains_is_somebodys_and_made_by_no_activity(homes, learned):
    told = read_lineage(homes[:1])
    document = prov.to_prov(told, learned[0].model)
    unknown = [step for step in told.ordered(learned[0].model) if step.kind == "unknown"]
    assert len(document["wasAttributedTo"]) == len(unknown) == 2
    bill = cyclonedx.to_cyclonedx(told, learned[0].model, {})
    assert bill["metadata"]["properties"] == [{"name": "konsil:lineage", "value": "incomplete"}]


def test_a_step_that_is_not_linear_gets_no_weight():
    one, other, out = (bytes([n]) * 32 for n in (1, 2, 3))
    step = Step(
        out=out,
        kind="release",
        node="a" * 32,
        index=4,
        time_ms=0,
        round=None,
        sources=(Source(one, "a" * 32, None), Source(other, "a" * 32, None)),
    )
    told = Lineage({out: step}, {})
    document = prov.to_prov(told, out)
    assert all("konsil:weight_e9" not in item for item in document["used"].values())
    bill = cyclonedx.to_cyclonedx(told, out, {})
    head = bill["metadata"]["component"]
    assert all("properties" not in item for item in head["pedigree"]["ancestors"])
    assert not [one for one in head["properties"] if one["name"].startswith("konsil:share")]
    assert fhir._part(told, step.sources[0]).keys() == {"role", "what", "agent"}


def test_the_bill_lists_parts_shares_and_cards(homes, lineage, model):
    known = manifests(homes, lineage, model)
    bill = cyclonedx.to_cyclonedx(lineage, model, known)
    head = bill["metadata"]["component"]
    step = lineage.steps[model]
    ancestors = head["pedigree"]["ancestors"]
    assert [one["version"] for one in ancestors] == [one.model.hex() for one in step.sources]
    shares = {
        one["name"]: int(one["value"])
        for one in head["properties"]
        if one["name"].startswith("konsil:share_e9:")
    }
    assert len(shares) == 2
    assert sum(shares.values()) == 10**9
    references = {head["bom-ref"], *(one["bom-ref"] for one in bill["components"])}
    assert len(references) == len(bill["components"]) + 1 == len(lineage.ordered(model))
    assert {one["ref"] for one in bill["dependencies"]} == references
    cards = {one["version"]: one["modelCard"] for one in bill["components"] if "modelCard" in one}
    assert {bytes.fromhex(digest) for digest in cards} == set(known)
    card = next(iter(cards.values()))
    assert card["modelParameters"]["task"] == "tiny"
    assert {"name": "konsil:rows_at_least", "value": "100"} in card["properties"]
    assert "considerations" not in card


def test_a_card_says_what_was_not_evaluated_and_what_privacy_cost(homes, lineage, model):
    digest, manifest = next(iter(manifests(homes, lineage, model).items()))
    told = msgspec.structs.replace(
        manifest,
        privacy=PrivacySpent(
            mechanism="gaussian", unit="patient", epsilon_micro=1_500_000, delta_e12=10
        ),
        coverage=msgspec.structs.replace(
            manifest.coverage,
            classes=(ClassCoverage(name="a\nb", rows=50),),
            not_evaluated=("infants",),
        ),
    )
    bill = cyclonedx.to_cyclonedx(lineage, model, {digest: told})
    (card,) = [one["modelCard"] for one in bill["components"] if "modelCard" in one]
    assert card["considerations"] == {"technicalLimitations": ["not evaluated: infants"]}
    facts = {one["name"]: one["value"] for one in card["properties"]}
    assert facts["konsil:rows_at_least:a\\nb"] == "50"
    assert facts["konsil:privacy.epsilon_micro"] == "1500000"


def test_fhir_has_one_resource_a_mix_a_round_and_a_batch(tmp_path):
    one = Hospital(tmp_path, "bern")
    one.train()
    batch = InferenceBatch(model=one.model, count=3, from_ms=0, to_ms=60_000, root=bytes(32))
    one.journal.append([batch, msgspec.structs.replace(batch, model=bytes(32))])
    one.close()
    told = read_lineage([one.home])
    ledgers = [read_ledger(one.home / "ledger")] * 2
    bundle = fhir.to_fhir(told, told.current(), ledgers)
    kinds = [
        (item["resource"]["resourceType"], item["resource"].get("action"))
        for item in bundle["entry"]
    ]
    assert kinds == [("AuditEvent", "C"), ("AuditEvent", "E")]
    used = bundle["entry"][1]["resource"]
    assert used["occurredPeriod"] == {
        "start": "1970-01-01T00:00:00.000Z",
        "end": "1970-01-01T00:01:00.000Z",
    }
    assert used["entity"][0]["detail"][0]["valueInteger"] == 3
    assert fhir._detail("count", 2**31)["valueString"] == "2147483648"
    base = fhir.to_fhir(told, next(iter(told.ancestors(told.current()))), ledgers)
    assert base["entry"] == []


def test_a_time_without_end_is_shown_as_the_end_of_time():
    assert names.instant(2**63 - 1) == "9999-12-31T23:59:59.999Z"


# Proofs, and artifacts by their digests.


def test_a_proof_is_that_of_the_node_itself(learned, homes):
    told = read_ledger(homes[0] / "ledger")
    for index in (0, 3, len(told.entries) - 1):
        decoded = proof.decode(to_tlog_proof(homes[0], index))
        head = proof.verify(
            decoded,
            merkle.leaf_hash(decoded.extra),
            origin=told.author.origin,
            key=told.author.keys["log"],
        )
        assert head.size == len(told.entries)
    learned[0].reopen()
    same = learned[0].journal.prove(3)
    learned[0].close()
    assert same == to_tlog_proof(homes[0], 3)


def test_a_proof_beside_a_running_node_covers_what_is_signed(tmp_path):
    one = Hospital(tmp_path, "bern")
    signed = one.journal.signed_size
    one.journal.append([ModelBase(model=bytes(32), source="", licence="", note="")] * 300)
    assert proof.decode(to_tlog_proof(one.home, 0)).index == 0
    with pytest.raises(IncompleteError, match=f"signs for {signed} entries"):
        to_tlog_proof(one.home, 299)
    one.journal.sign_checkpoint()
    assert proof.decode(to_tlog_proof(one.home, 299)).index == 299
    with pytest.raises(IncompleteError, match="only 302 entries"):
        to_tlog_proof(one.home, 302)
    one.close()


def test_no_proof_comes_from_changed_or_unknown_bytes(tmp_path):
    one = Hospital(tmp_path, "bern")
    falsify(one, lambda plain: plain | {"t": "of.tomorrow"})
    with pytest.raises(IncompleteError, match="cannot be read"):
        to_tlog_proof(one.home, 2)
    assert to_tlog_proof(one.home, 1)
    tail = tail_of(one.home)
    data = bytearray(tail.read_bytes())
    data[-40] ^= 1
    tail.write_bytes(data)
    assert to_tlog_proof(one.home, 1), "what was not changed is still under the signed root"
    with pytest.raises(IncompleteError, match="cannot be read"):
        to_tlog_proof(one.home, 2)
    (one.home / "ledger" / "checkpoint").write_bytes(b"nonsense")
    with pytest.raises(VerificationError):
        to_tlog_proof(one.home, 1)
    with pytest.raises(UsageError):
        to_tlog_proof(tmp_path / "none", 0)


def test_an_artifact_is_found_by_payload_and_envelope(homes, learned):
    newest = envelopes.find_artifact(homes[:1])
    for digest in (newest.art, newest.env):
        found = envelopes.find_artifact(homes[::-1], digest.hex()[:20].upper())
        assert (found.env, found.home) == (newest.env, str(homes[0]))
        assert found.published
    received = envelopes.find_artifact(homes[1:], newest.env.hex())
    assert isinstance(received.entry.b, ArtifactReceive)
    with pytest.raises(IncompleteError, match="no entry names"):
        envelopes.find_artifact(homes, "f" * 64)


def test_two_artifacts_that_begin_alike_are_ambiguous(tmp_path):
    one = Hospital(tmp_path, "bern")
    one.train()
    first = one.publish()
    again = one.publish()
    one.close()
    with pytest.raises(UsageError, match="2 artifacts begin with"):
        envelopes.find_artifact([one.home], first.art.hex())
    assert envelopes.find_artifact([one.home]).entry.n == one.journal.size - 1
    assert again.art == first.art


def test_an_envelope_that_is_gone_or_changed(homes, tmp_path):
    copied = tmp_path / "bern"
    shutil.copytree(homes[0], copied)
    found = envelopes.find_artifact([copied])
    name = found.env.hex()
    path = copied / "ledger" / "blobs" / "sha256" / name[:2] / name
    right = path.read_bytes()
    path.write_bytes(right[:-1] + b"?")
    with pytest.raises(VerificationError, match=r"blob\.corrupt"):
        envelopes.read_envelope([copied], found.env)
    with pytest.raises(VerificationError, match=r"blob\.corrupt"):
        envelopes.manifests([copied], {found.art})
    path.unlink()
    with pytest.raises(IncompleteError, match="in none of these homes"):
        envelopes.read_envelope([copied], found.env)
    assert envelopes.manifests([copied], {found.art}) == {}
    assert envelopes.read_envelope([copied, homes[1]], found.env) == right


# OpenSSF, and the key for it.


@pytest.fixture
def home(tmp_path):
    """A home with a P-256 key in its genesis entry, and a model."""
    root = tmp_path / "bern"
    init.create_home(
        root, name="bern", consortium=CONSORTIUM, factory="task:build", listen=(), options={},
        p256=True,
    )  # fmt: skip
    journal = Journal.open(root / "ledger", keys.load_keys(root / "keys"), Clock(), os.urandom)
    journal.append([ModelBase(model=bytes(range(32)), source="seed", licence="", note="")])
    journal.close()
    return root


def test_the_key_is_made_kept_and_bound(home):
    seed = keys.load_p256(home / "keys")
    author = read_ledger(home / "ledger").author
    assert p256.P256SigningKey(seed).public == author.p256
    assert (home / "keys" / "p256.key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="a key is there already"):
        keys.create_p256(home / "keys")


def test_a_bundle_is_signed_by_the_bound_key(home):
    seed = keys.load_p256(home / "keys")
    bound = read_ledger(home / "ledger").author.p256
    bundle = json.loads(openssf.to_openssf(bytes(range(32)), seed=seed, bound=bound))
    dsse = bundle["dsseEnvelope"]
    payload = base64.b64decode(dsse["payload"])
    signature = base64.b64decode(dsse["signatures"][0]["sig"])
    p256.verify(bound, signature, envelope.pae(dsse["payloadType"], payload))
    (resource,) = json.loads(payload)["predicate"]["resources"]
    assert resource == {
        "name": "model.safetensors",
        "algorithm": "sha256",
        "digest": bytes(range(32)).hex(),
    }
    with pytest.raises(ConfigError, match="not the key that the genesis entry binds"):
        openssf.to_openssf(bytes(32), seed=bytes([1]) * 32, bound=bound)


def test_the_command_signs_and_hands_out_the_bound_key(home):
    result = run("openssf", home)
    assert result.exit_code == 0
    assert "dsseEnvelope" in json.loads(result.stdout)
    key = run("openssf-key", home)
    assert key.stdout.encode() == p256.public_pem(read_ledger(home / "ledger").author.p256)
    (home / "keys" / "p256.key").unlink()
    run("openssf", home, fails=ConfigError)
    assert run("openssf-key", home).exit_code == 0


def test_init_binds_the_key_only_when_asked(tmp_path):
    for arguments, bound in ((["--p256"], True), ([], False)):
        home = tmp_path / f"home{bound}"
        result = CliRunner().invoke(build_app(), ["init", str(home), "--name", "bern", *arguments])
        assert result.exit_code == 0, result.output
        assert (home / "keys" / "p256.key").exists() is bound
        assert (read_ledger(home / "ledger").author.p256 is not None) is bound


# The command.


@pytest.mark.parametrize("form", ["intoto", "tlog-proof", *LINEAGE_FORMATS])
def test_the_document_goes_to_stdout_or_into_a_file(homes, tmp_path, form):
    shown = run(form, *homes)
    assert shown.exit_code == 0
    assert shown.stderr == ""
    out = tmp_path / "document"
    written = run(form, *homes, "-o", out)
    assert written.exit_code == 0
    assert out.read_bytes() == shown.stdout_bytes
    assert written.stdout.startswith(f"{out}: ")
    told = json.loads(run(form, *homes, "--json").stdout)
    assert (told["schema"], told["ok"]) == ("konsil.audit.export/1", True)
    document = told["data"]["document"]
    plain = shown.stdout_bytes.decode()
    assert document == (plain if form == "tlog-proof" else json.loads(plain))
    told = json.loads(run(form, *homes, "--json", "-o", out).stdout)["data"]
    assert "document" not in told
    assert (told["out"], told["bytes"]) == (str(out), out.stat().st_size)


def test_a_proof_by_index_or_artifact(homes):
    found = envelopes.find_artifact(homes)
    by_index = run("tlog-proof", homes[0], "--index", found.entry.n).stdout_bytes
    assert by_index == run("tlog-proof", homes[0]).stdout_bytes
    digest = found.art.hex()
    assert by_index == run("tlog-proof", *homes[::-1], "--artifact", digest).stdout_bytes
    run("tlog-proof", homes[1], "--artifact", found.env.hex(), fails=IncompleteError)
    run("tlog-proof", homes[0], "--index", 9_999, fails=IncompleteError)


@pytest.mark.parametrize("form", LINEAGE_FORMATS)
def test_a_lineage_with_gaps_is_written_and_exits_4(homes, tmp_path, form):
    result = run(form, homes[0], "-o", tmp_path / "part.json")
    assert result.exit_code == 4
    assert "name those homes too: graz" in result.stderr
    assert json.loads((tmp_path / "part.json").read_bytes())
    told = json.loads(run(form, homes[0], "--json").stdout)
    assert (told["ok"], told["error"]["code"]) == (False, "incomplete")
    assert told["data"]["document"]


def test_what_cannot_be_exported_is_one_clear_line(homes, tmp_path):
    for form in LINEAGE_FORMATS:
        run(form, *homes, "--model", "f" * 64, fails=IncompleteError)
        run(form, *homes, "--model", "", "--artifact", "00", fails=UsageError)
    run("intoto", *homes, "--artifact", "f" * 64, fails=IncompleteError)
    run("intoto", *homes, "--model", "00", fails=UsageError)
    run("tlog-proof", *homes, "--artifact", "00", "--index", "1", fails=UsageError)
    run("openssf", *homes, fails=ConfigError)
    run("openssf-key", *homes, fails=ConfigError)
    run("prov", tmp_path / "none", fails=UsageError)
    run("prov", *homes, "-o", tmp_path, fails=UsageError)
    run("prov", *homes, "-o", homes[0] / "ledger" / "x", fails=UsageError)
    assert not (homes[0] / "ledger" / "x").exists()
    assert run("prov").exit_code == 2
    assert run("spdx", *homes).exit_code == 2


def test_without_a_key_the_process_ends_with_5_and_a_hint(homes):
    konsil = Path(sys.executable).parent / "konsil"
    done = subprocess.run(
        [konsil, "audit", "export", "openssf", homes[0], "--json"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 5
    told = json.loads(done.stdout)
    assert told["error"]["code"] == "configuration"
    assert "konsil init --p256" in told["error"]["hint"]


def test_no_export_loads_torch_or_the_network(homes):
    code = (
        "import sys\n"
        "from konsil.trust.exports import cyclonedx, envelopes, fhir, intoto, openssf, prov\n"
        "from konsil.trust.exports import tlog_proof\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not {"torch", "trio", "libp2p"} & set(done.stdout.split())


def test_the_command_is_part_of_the_audit_group():
    group = typer.main.get_command(build_app()).commands["audit"]
    assert "export" in group.commands

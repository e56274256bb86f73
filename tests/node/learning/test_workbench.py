"""The workbench: what is mixed follows from the records, and garbage moves nothing."""

from __future__ import annotations

import ast
import dataclasses
import os
import subprocess
import sys
from functools import partial

import msgspec
import pytest
import torch
from torch import nn

from konsil.knowledge import mixing, pack
from konsil.knowledge.imaging.fitting import Fitting
from konsil.knowledge.judge import Judge
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.task import Rows, Task
from konsil.node.learning import fingerprints, workbench
from konsil.node.learning.knowledge import knowledge_of, measured
from konsil.node.learning.workbench import Workbench, choose_device
from konsil.node.learning.worker_messages import Candidate, Export, Mix, Open, Release, Train
from konsil.node.store.blobs import BlobStore
from konsil.protocol import records
from konsil.protocol.artifact import PrivacySpent
from konsil.protocol.errors import ConfigError, StorageError, TaskError
from konsil.protocol.knowledge_manifest import UNIT_E6
from konsil.trust.evidence import EvidenceRecord, disagreements
from konsil.trust.fixed import UNIT_E9


def toy(seed: int, **changes) -> Task:
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(80, 4, generator=draw)
    targets = (inputs[:, 0] + 0.3 * inputs[:, 1] > 0).long()
    names = [f"{seed}-{n}" for n in range(80)]
    plain = Task(
        name="toy",
        classes=("no", "yes"),
        model=lambda: nn.Linear(4, 2),
        train=Rows(inputs[:50], targets[:50], names[:50]),
        holdout=Rows(inputs[50:], targets[50:], names[50:]),
        local_epochs=4,
    )
    return dataclasses.replace(plain, **changes)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Makes workbenches that share one blob store, as if all artifacts had been pulled."""

    def make(name: str, **changes) -> Workbench:
        number = sum(map(ord, name))
        monkeypatch.setattr(
            workbench, "load_factory", lambda spec, home: lambda config: toy(number, **changes)
        )
        monkeypatch.setattr(fingerprints, "code", lambda factory: b"c" * 32)
        home = tmp_path / name
        home.mkdir(exist_ok=True)
        return Workbench(
            Open(
                home=str(home), blobs=str(tmp_path / "blobs"), factory="task:build", options={},
                name=name, seed=1, device="cpu",
            )
        )  # fmt: skip

    return make


@pytest.fixture
def blobs(tmp_path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def candidate(art: bytes, node: str, **changes) -> Candidate:
    plain = Candidate(
        art=art, tensors=art, node=node, lag=0, metropolis_e9=UNIT_E9 // 4, r_e9=0, s_e9=0
    )
    return msgspec.structs.replace(plain, **changes)


def question(before: bytes, trained: bytes, *candidates: Candidate) -> Mix:
    return Mix(
        before=before, trained=trained, node="me", round=1, kind="parameters",
        candidates=candidates,
    )  # fmt: skip


def evidence_of(mixed) -> list[EvidenceRecord]:
    return [records.unpack(judged.record, EvidenceRecord) for judged in mixed.judged]


def put(blobs: BlobStore, model, tmp_path) -> bytes:
    path = tmp_path / "model"
    digest = pack.save(model, path)
    blobs.put_file(path, digest)
    return digest


def hostile(bench, blobs, tmp_path):
    """An honest receiver, two honest models, and one turned round and five times too long."""
    me = bench("me")
    base = me.opened.base
    arts = [bench(name).train(Train(model=base, round=1)).out for name in ("a", "b")]
    trained = me.train(Train(model=base, round=1)).out
    start = pack.load(blobs.path(base))
    step = pack.load(blobs.path(arts[0])) - start
    return me, base, trained, arts, put(blobs, start - step * 5, tmp_path)


def test_the_mix_follows_from_the_records_and_replays(bench, blobs, tmp_path):
    me, base, trained, arts, bad = hostile(bench, blobs, tmp_path)
    asked = question(
        base, trained, candidate(arts[0], "a"), candidate(arts[1], "b"), candidate(bad, "x")
    )
    mixed = me.mix(asked)
    found = evidence_of(mixed)
    assert disagreements(found) == ()
    assert [r.node for r in found] == ["a", "b", "x"]
    assert sum(part.w_e9 for part in mixed.parts) == UNIT_E9
    assert [part.art for part in mixed.parts][:3] == [trained, *arts]
    assert found[2].w_e9 < found[2].metropolis_e9 / 10
    assert found[0].w_e9 > 0.9 * found[0].metropolis_e9
    replayed = mixing.mix(
        [mixing.Part(blobs.path(part.art), part.w_e9) for part in mixed.parts],
        None,
        not_mixed=mixed.not_mixed,
    )
    assert replayed == mixed.out
    assert (mixed.reason, mixed.rule) == ("mixed", "evidence-gated/1")
    assert {record.step_e9 for record in found} == {UNIT_E9}
    assert found[0].scale_e9 > 0
    assert mixed.after["auc"] > 0.9
    again = me.mix(asked)
    assert msgspec.msgpack.encode(again) == msgspec.msgpack.encode(mixed)


def test_masks_go_the_same_way_as_classes(bench, blobs):
    draw = torch.Generator().manual_seed(9)
    inputs = torch.rand(20, 1, 6, 6, generator=draw)
    inputs[:5] *= 0.4
    targets = (inputs[:, 0] > 0.5).long()
    names = [f"m{n}" for n in range(20)]
    changes = {
        "model": lambda: nn.Conv2d(1, 2, 3, padding=1),
        "train": Rows(inputs[:12], targets[:12], names[:12]),
        "holdout": Rows(inputs[12:], targets[12:], names[12:]),
        "problem": "masks",
        "metric": "dice",
        "learning_rate": 0.5,
        "local_epochs": 10,
    }
    me, peer = bench("me", **changes), bench("a", **changes)
    assert (me.opened.rows, me.opened.class_rows) == (12, (12, 7))
    base = me.opened.base
    mine = me.train(Train(model=base, round=1)).out
    theirs = peer.train(Train(model=base, round=1)).out
    mixed = me.mix(question(base, mine, candidate(theirs, "a")))
    assert set(mixed.after) == {"dice", "hausdorff95", "foreground", "true_foreground"}
    (record,) = evidence_of(mixed)
    assert record.g_e9 > 0
    assert record.error_e9 > 0
    assert len(pack.load(blobs.path(mixed.out))) == 2


def test_distrust_silences_a_peer_and_changes_not_one_bit(bench, blobs, tmp_path):
    me, base, trained, arts, bad = hostile(bench, blobs, tmp_path)
    good = [candidate(arts[0], "a"), candidate(arts[1], "b")]
    alone = me.mix(question(base, trained, *good))
    out_of_trust = candidate(bad, "x", s_e9=20 * UNIT_E9)
    muted = candidate(bad, "x", pinned_e9=0)
    for extra in (out_of_trust, muted):
        with_garbage = me.mix(question(base, trained, *good, extra))
        assert evidence_of(with_garbage)[2].w_e9 == 0
        parts = [part for part in with_garbage.parts if part.node != "x"]
        assert parts == list(with_garbage.parts)
        assert with_garbage.parts[0].w_e9 >= alone.parts[0].w_e9
    assert evidence_of(me.mix(question(base, trained, *good, muted)))[2].reason == "muted"


def test_garbage_that_is_not_even_a_model_is_left_out(bench, blobs, tmp_path):
    me, base, trained, arts, _ = hostile(bench, blobs, tmp_path)
    good = [candidate(arts[0], "a"), candidate(arts[1], "b")]
    start = pack.load(blobs.path(base))
    nan = put(blobs, start.map(lambda t: t * float("nan")), tmp_path)
    other = put(blobs, {"weight": torch.ones(1)}, tmp_path)
    text = blobs.put(b"no model at all")
    bad = [candidate(art, "x") for art in (nan, other, text, b"gone" * 8)]
    mixed = me.mix(question(base, trained, *good, *bad))
    assert mixed.out == me.mix(question(base, trained, *good)).out
    assert [judged.node for judged in mixed.judged] == ["a", "b"]


def test_without_candidates_the_own_model_stays(bench, blobs, tmp_path):
    me, base, trained, arts, _ = hostile(bench, blobs, tmp_path)
    mixed = me.mix(question(base, trained))
    assert (mixed.out, mixed.reason) == (trained, "nothing_granted")
    assert [(part.art, part.w_e9) for part in mixed.parts] == [(trained, UNIT_E9)]
    muted = candidate(arts[0], "a", pinned_e9=0)
    assert me.mix(question(base, trained, muted)).out == trained


def test_a_step_that_would_ruin_the_model_is_halved_down_to_nothing(bench, blobs, tmp_path):
    """A pinned peer passes the gate, but not the loss guard."""
    me = bench("me", local_epochs=1)
    base = me.opened.base
    good = me.train(Train(model=base, round=1)).out
    for number in range(2, 40):
        good = me.train(Train(model=good, round=number)).out
    before = pack.load(blobs.path(good))
    trained = put(blobs, before * 1.9, tmp_path)
    bad = put(blobs, before * -9.0, tmp_path)
    pinned = candidate(bad, "x", pinned_e9=UNIT_E9, metropolis_e9=UNIT_E9 // 2)
    mixed = me.mix(question(good, trained, pinned))
    (record,) = evidence_of(mixed)
    assert record.step_e9 < UNIT_E9
    assert mixed.reason == "guarded"
    assert record.reason == "pinned"
    assert disagreements(evidence_of(mixed)) == ()
    if record.step_e9 == 0:
        assert mixed.out == trained


def test_echoes_and_copies_have_no_share(bench, blobs, tmp_path):
    me, base, trained, arts, _ = hostile(bench, blobs, tmp_path)
    mixed = me.mix(
        question(
            base, trained, candidate(arts[0], "a"), candidate(arts[0], "copycat", copied=True),
            candidate(base, "echo"), candidate(trained, "mirror"),
        )
    )  # fmt: skip
    shares = {record.node: record.share_e9 for record in evidence_of(mixed)}
    assert shares == {"a": UNIT_E9, "copycat": 0, "echo": 0, "mirror": 0}
    assert [part.node for part in mixed.parts] == ["me", "a"]


def test_more_relayed_candidates_than_edges_still_leave_an_own_share(bench, blobs, tmp_path):
    me, base, trained, arts, _ = hostile(bench, blobs, tmp_path)
    many = [bench(chr(99 + n)).train(Train(model=base, round=1)).out for n in range(4)]
    crowd = [candidate(art, art.hex(), metropolis_e9=UNIT_E9 // 2) for art in [*arts, *many]]
    mixed = me.mix(question(base, trained, *crowd))
    assert mixed.parts[0].w_e9 > 0
    assert sum(part.w_e9 for part in mixed.parts) == UNIT_E9


def test_normalisation_stays_local(bench, blobs, tmp_path):
    def normed() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))

    me, peer = bench("me", model=normed), bench("a", model=normed)
    base = me.opened.base
    trained = me.train(Train(model=base, round=1)).out
    art = peer.train(Train(model=base, round=1)).out
    mixed = me.mix(question(base, trained, candidate(art, "a")))
    assert "1.running_var" in mixed.not_mixed
    own, out = pack.load(blobs.path(trained)), pack.load(blobs.path(mixed.out))
    assert all(torch.equal(own[name], out[name]) for name in mixed.not_mixed)
    assert not torch.equal(own["0.weight"], out["0.weight"])
    assert (out["1.running_var"] > 0).all()


def test_what_leaves_may_differ_from_what_stays(bench, blobs):
    me = bench("me", release=lambda before, trained: before + (trained - before) * 0.5)
    trained = me.train(Train(model=me.opened.base, round=1))
    assert trained.release != trained.out
    start, kept, left = (
        pack.load(blobs.path(digest)) for digest in (me.opened.base, trained.out, trained.release)
    )
    assert left.distance(start) == pytest.approx(kept.distance(start) / 2, rel=1e-4)


@pytest.mark.parametrize(
    ("release", "said"),
    [
        (lambda before, trained: trained.select(["weight"]), "other names"),
        (lambda before, trained: NamedTensors({n: t.double() for n, t in trained.items()}), "type"),
        (lambda before, trained: trained.map(lambda t: t * float("inf")), "finite"),
    ],
)
def test_a_release_that_is_no_model_is_refused(bench, release, said):
    me = bench("me", release=release)
    with pytest.raises(TaskError, match=said):
        me.train(Train(model=me.opened.base, round=1))


def test_an_exported_model_predicts_in_plain_torch(bench, blobs, tmp_path):
    me = bench("me")
    trained = me.train(Train(model=me.opened.base, round=1)).out
    folder = tmp_path / "export"
    folder.mkdir()
    files = me.export(Export(model=trained, folder=str(folder))).files
    assert sorted(files) == ["example.py", "model.pt2", "model.safetensors", "prediction.json"]
    answer = subprocess.run(
        [sys.executable, "example.py"],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = answer.stdout.splitlines()
    assert len(lines) == 2
    model = pack.load(blobs.path(trained))
    shift = torch.tensor(Judge(toy(sum(map(ord, "me"))), "cpu").intercept(model))
    wanted = torch.softmax(model["bias"] + shift, dim=0)
    assert ast.literal_eval(lines[0])["yes"] == pytest.approx(float(wanted[1]), abs=1e-5)
    canary = toy(sum(map(ord, "me"))).train.inputs[:2].numpy().tobytes()
    assert all(canary not in (folder / name).read_bytes() for name in files)
    with pytest.raises(StorageError, match="no-such"):
        me.export(Export(model=trained, folder=str(tmp_path / "no-such")))


def test_a_network_that_cannot_be_traced_is_a_clear_error(bench, tmp_path):
    class Fickle(nn.Linear):
        def forward(self, inputs):
            return super().forward(inputs) if inputs.sum() > 1e9 else super().forward(inputs) * 1

    me = bench("me", model=lambda: Fickle(4, 2))
    with pytest.raises(TaskError, match="cannot trace"):
        me.export(Export(model=me.opened.base, folder=str(tmp_path)))


def test_rows_are_committed_to_with_a_secret(tmp_path):
    rows = toy(1).train
    salt = fingerprints.secret_salt(tmp_path)
    assert salt == fingerprints.secret_salt(tmp_path)
    assert len(salt) == fingerprints.SALT_BYTES
    one = fingerprints.data_commitment(rows, salt)
    assert one == fingerprints.data_commitment(rows, salt)
    assert one != fingerprints.data_commitment(rows, b"other")
    changed = Rows(rows.inputs.clone(), rows.targets, rows.patients)
    changed.inputs[3, 1] += 1e-6
    assert one != fingerprints.data_commitment(changed, salt)
    renamed = Rows(rows.inputs, rows.targets, [*rows.patients[:-1], "someone else"])
    assert one != fingerprints.data_commitment(renamed, salt)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        fingerprints.secret_salt(tmp_path / "file")


def test_the_recipe_names_what_trains(bench, tmp_path):
    def own_fit(module, rows, generator):
        return 0.0

    opening = Open(home="", blobs="", factory="", options={"a": 1}, name="x", seed=1, device="cpu")

    def adam(rate):
        return lambda parameters: torch.optim.Adam(parameters, lr=rate)

    about, smoothed = bytes(32), nn.functional.cross_entropy
    changes = (
        {"learning_rate": 0.2},
        {"fit": own_fit},
        {"model": lambda: nn.Linear(4, 2, False)},
        {"optimise": adam(0.1)},
        {"optimise": adam(0.2)},
        {"optimise": Fitting(2, 0.1).optimise},
        {"optimise": Fitting(2, 0.2).optimise},
        {"loss": partial(smoothed, label_smoothing=0.1)},
        {"loss": partial(smoothed, label_smoothing=0.2)},
    )
    recipes = [fingerprints.recipe(toy(1, **one), opening, about) for one in ({}, *changes)]
    again = [fingerprints.recipe(toy(1, **one), opening, about) for one in ({}, *changes)]
    assert recipes == again
    recipes += [
        fingerprints.recipe(toy(1), msgspec.structs.replace(opening, kind="data_vector"), about),
        fingerprints.recipe(toy(1), opening, b"q" * 32),
    ]
    assert len(set(recipes)) == len(changes) + 3
    assert len(fingerprints.code(toy)) == len(fingerprints.environment()) == 32
    assert fingerprints.code(toy) != fingerprints.code(fingerprints.recipe)


def test_device():
    assert choose_device("cpu") == "cpu"
    assert choose_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no GPU"):
            choose_device("cuda")


def test_scratch_of_the_dead_is_removed_and_of_the_living_kept(bench, tmp_path):
    spool = tmp_path / "me" / "spool"
    living, dead = spool / f"worker-{os.getppid()}", spool / "worker-999999999"
    for folder in (living, dead, spool / "worker-odd"):
        folder.mkdir(parents=True)
    bench("me")
    left = {path.name for path in spool.iterdir()}
    assert left == {living.name, f"worker-{os.getpid()}"}


def test_what_is_told_of_a_model_is_coarse_and_nothing_where_the_task_adds_noise(bench):
    plain = bench("a")
    trained = plain.train(Train(model=plain.opened.base, round=1))
    again = plain.release(Release(before=plain.opened.base, model=trained.out))
    assert trained.figures == again.figures
    assert set(trained.figures.auroc_e6) == {"no", "yes"}
    assert all(0.5 < value / UNIT_E6 <= 1 for value in trained.figures.auroc_e6.values())
    assert trained.figures.evaluation != plain.opened.data
    told = knowledge_of(
        plain.opened,
        PrivacySpent(mechanism="none", unit="none", epsilon_micro=0, delta_e12=0),
        measured(trained.figures),
    )
    assert [one.auroc.value_e6 for one in told.labels] == list(trained.figures.auroc_e6.values())
    noisy = bench("b", release=lambda before, model: model)
    assert noisy.train(Train(model=noisy.opened.base, round=1)).figures is None

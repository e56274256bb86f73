"""Kinds: one rule of trust for models, data vectors, logits and weak labels."""

from __future__ import annotations

import dataclasses
from functools import partial

import msgspec
import pytest
import torch
from torch import nn

from konsil.knowledge import mixing, pack
from konsil.knowledge.judge import Judge
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.task import Rows, Task
from konsil.knowledge.teaching import generated
from konsil.knowledge.teaching.answers import LOGITS
from konsil.knowledge.teaching.prototypes import MEANS, ROWS
from konsil.node.config import ArtifactsSection
from konsil.node.learning import fingerprints, workbench
from konsil.node.learning.kinds import answers
from konsil.node.learning.workbench import Workbench
from konsil.node.learning.worker_messages import (
    Candidate,
    Check,
    Mix,
    Open,
    Release,
    Train,
)
from konsil.node.store.blobs import BlobStore
from konsil.protocol import records
from konsil.protocol.artifact import KINDS
from konsil.protocol.errors import ConfigError, TaskError
from konsil.trust import integrate
from konsil.trust.evidence import EvidenceRecord, disagreements
from konsil.trust.fixed import UNIT_E9

pytestmark = pytest.mark.slow

CLASSES = ("no", "yes")
TAUGHT = ("logits", "weak_labels")


def wide() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 2))


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))


def toy(seed: int, **changes) -> Task:
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(90, 4, generator=draw)
    targets = (inputs[:, 0] + 0.3 * inputs[:, 1] > 0).long()
    names = [f"{seed}-{n}" for n in range(90)]
    plain = Task(
        name="toy",
        classes=CLASSES,
        model=lambda: nn.Linear(4, 2),
        train=Rows(inputs[:50], targets[:50], names[:50]),
        holdout=Rows(inputs[50:], targets[50:], names[50:]),
        local_epochs=4,
        question=partial(generated.gaussian, 64, 4, CLASSES, seed=1),
    )
    return dataclasses.replace(plain, **changes)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Makes workbenches of one kind that share a blob store, as if all had been pulled."""

    def make(name: str, kind: str, **changes) -> Workbench:
        task = toy(sum(map(ord, name)), **changes)
        monkeypatch.setattr(workbench, "load_factory", lambda spec, home: lambda config: task)
        monkeypatch.setattr(fingerprints, "code", lambda factory: b"c" * 32)
        home = tmp_path / name
        home.mkdir(exist_ok=True)
        return Workbench(
            Open(
                home=str(home), blobs=str(tmp_path / "blobs"), factory="task:build", options={},
                name=name, seed=1, device="cpu", kind=kind,
            )
        )  # fmt: skip

    return make


@pytest.fixture
def blobs(tmp_path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def put(blobs: BlobStore, model, tmp_path) -> bytes:
    path = tmp_path / "payload"
    digest = pack.save(model, path)
    blobs.put_file(path, digest)
    return digest


def candidate(art: bytes, node: str, **changes) -> Candidate:
    plain = Candidate(
        art=art,
        tensors=art,
        node=node,
        lag=0,
        metropolis_e9=UNIT_E9 // 4,
        r_e9=0,
        s_e9=0,
        classes=CLASSES,
    )
    return msgspec.structs.replace(plain, **changes)


def asked(kind: str, before: bytes, trained: bytes, *candidates: Candidate) -> Mix:
    return Mix(before=before, trained=trained, node="me", round=1, kind=kind, candidates=candidates)


def evidence_of(mixed) -> list[EvidenceRecord]:
    return [records.unpack(judged.record, EvidenceRecord) for judged in mixed.judged]


def test_vectors_are_weighed_and_mixed_as_the_models_that_they_make(bench, blobs, tmp_path):
    mixes = {}
    for kind in ("parameters", "data_vector"):
        me = bench("me", kind)
        base = me.opened.base
        arts = [bench(name, kind).train(Train(model=base, round=1)).release for name in ("a", "b")]
        trained = me.train(Train(model=base, round=1)).out
        mixes[kind] = me.mix(asked(kind, base, trained, *map(candidate, arts, ("a", "b"))))
    models, vectors = (mixes[kind] for kind in ("parameters", "data_vector"))
    assert (models.rule, vectors.rule) == (integrate.RULE, integrate.VECTORS)
    assert disagreements(evidence_of(vectors)) == ()
    for one, other in zip(models.parts, vectors.parts, strict=True):
        assert one.w_e9 == pytest.approx(other.w_e9, abs=2_000)
    assert models.parts[1].art != vectors.parts[1].art
    near = pack.load(blobs.path(models.out)).distance(pack.load(blobs.path(vectors.out)))
    assert near < 1e-5
    own, *others = vectors.parts
    path = blobs.path
    replayed = mixing.mix(
        [mixing.Part(path(own.art), own.w_e9), mixing.Part(path(base), UNIT_E9 - own.w_e9)],
        None,
        vectors=[mixing.Part(path(part.art), part.w_e9) for part in others],
    )
    assert replayed == vectors.out


def test_a_vector_holds_what_training_changed_and_no_statistics(bench, blobs):
    me = bench("me", "data_vector", model=normed)
    base = pack.load(blobs.path(me.opened.base))
    trained = me.train(Train(model=me.opened.base, round=1))
    vector = pack.load(blobs.path(trained.release))
    model = pack.load(blobs.path(trained.out))
    assert set(vector) == {"0.weight", "0.bias", "3.weight", "3.bias"}
    for name, change in vector.items():
        assert torch.allclose(base[name] + change, model[name], atol=1e-6)
    assert (me.opened.about, me.check(Check(path=str(blobs.path(trained.release)),
            form=me.opened.form)).reasons) == (me.opened.base, ())  # fmt: skip
    assert me.check(Check(path=str(blobs.path(trained.out)), form=me.opened.form)).reasons == (
        "architecture",
    )


@pytest.mark.parametrize("size", [3.4e38, 1e30])
def test_a_vector_beyond_all_numbers_costs_its_own_weight_and_not_the_round(
    bench, blobs, tmp_path, size
):
    me = bench("me", "data_vector")
    base = me.opened.base
    far = pack.load(blobs.path(base)).map(lambda tensor: torch.full_like(tensor, size))
    assert not (far + far).finite() or size < 1e38
    honest = bench("a", "data_vector").train(Train(model=base, round=1)).release
    trained = me.train(Train(model=base, round=1)).out
    asked_for = [candidate(honest, "a"), candidate(put(blobs, far, tmp_path), "x")]
    mixed = me.mix(asked("data_vector", base, trained, *asked_for))
    weights = {record.node: record.w_e9 for record in evidence_of(mixed)}
    assert weights["x"] == 0 < weights["a"]
    assert pack.load(blobs.path(mixed.out)).finite()


@pytest.mark.parametrize("kind", TAUGHT)
def test_unlike_models_teach_each_other_and_a_liar_loses_its_voice(bench, blobs, tmp_path, kind):
    own = toy(sum(map(ord, "me"))).train
    few = Rows(own.inputs[:4], own.targets[:4], own.patients[:4])
    me = bench("me", kind, train=few, local_epochs=1)
    peers = {
        "a": bench("a", kind, model=wide, local_epochs=10), "b": bench("b", kind, local_epochs=5)
    }  # fmt: skip
    assert len({one.opened.base for one in (me, peers["a"])}) == 2
    assert len({one.opened.about for one in (me, *peers.values())}) == 1
    theirs = {name: one.opened.base for name, one in peers.items()}
    taught = alone = me.opened.base
    scores = dict.fromkeys("abx", (0, 0))
    for number in range(1, 6):
        handed = {}
        for name, one in peers.items():
            done = one.train(Train(model=theirs[name], round=number))
            theirs[name], handed[name] = done.out, done.release
        assert set(pack.load(blobs.path(handed["a"]))) == {LOGITS}
        lie = -pack.load(blobs.path(handed["a"]))[LOGITS]
        handed["x"] = put(blobs, NamedTensors({LOGITS: lie}), tmp_path)
        alone = me.train(Train(model=alone, round=number)).out
        trained = me.train(Train(model=taught, round=number)).out
        candidates = [
            candidate(art, name, r_e9=scores[name][0], s_e9=scores[name][1])
            for name, art in handed.items()
        ]
        mixed = me.mix(asked(kind, taught, trained, *candidates))
        found = {record.node: record for record in evidence_of(mixed)}
        assert disagreements(tuple(found.values())) == ()
        assert mixed.rule == integrate.RULES[kind]
        assert sum(part.w_e9 for part in mixed.parts) == UNIT_E9
        assert mixed.parts[0].art == trained
        scores = {name: (one.r_after_e9, one.s_after_e9) for name, one in found.items()}
        taught = mixed.out
    assert found["x"].w_e9 < found["a"].w_e9
    assert found["x"].trust_e9 < found["a"].trust_e9 - UNIT_E9 // 5
    judge = Judge(toy(sum(map(ord, "me")), train=few), "cpu")
    losses = [judge.loss(pack.load(blobs.path(one))) for one in (alone, taught)]
    assert losses[1] < losses[0]


def test_what_a_teacher_has_not_seen_it_does_not_teach(bench, blobs, tmp_path):
    me = bench("me", "logits")
    sure = NamedTensors({LOGITS: torch.tensor([[0.0, -30.0]]).repeat(64, 1).half()})
    art = put(blobs, sure, tmp_path)
    before, trained = me.opened.base, me.train(Train(model=me.opened.base, round=1)).out
    for known in ((), ("no",)):
        blind = me.mix(asked("logits", before, trained, candidate(art, "x", classes=known)))
        (record,) = evidence_of(blind)
        assert record.d_e9 < 1_000
        assert record.reach_e9 < 1_000
        assert abs(record.g_e9) < UNIT_E9 // 100, "nothing is earned by saying nothing"
    seen = me.mix(asked("logits", before, trained, candidate(art, "x")))
    assert evidence_of(seen)[0].d_e9 > UNIT_E9


def test_however_sure_a_teacher_is_it_says_no_more_than_the_bound(bench, blobs, tmp_path):
    me = bench("me", "logits")
    before, trained = me.opened.base, me.train(Train(model=me.opened.base, round=1)).out
    taught = []
    for sure in (40.0, 65504.0):
        sheet = NamedTensors({LOGITS: torch.tensor([[-sure, 0.0]]).repeat(64, 1).half()})
        art = put(blobs, sheet, tmp_path)
        taught.append(me.mix(asked("logits", before, trained, candidate(art, "x"))))
    assert taught[0].parts[1].w_e9 == taught[1].parts[1].w_e9 > 0
    assert taught[0].out == taught[1].out


@pytest.mark.parametrize("kind", TAUGHT)
def test_a_sheet_of_another_form_is_refused_before_it_is_read(bench, blobs, tmp_path, kind):
    me = bench("me", kind)
    for rows, classes in ((63, 2), (64, 3)):
        art = put(blobs, NamedTensors({LOGITS: torch.zeros(rows, classes).half()}), tmp_path)
        found = me.check(Check(path=str(blobs.path(art)), form=me.opened.form))
        assert found.reasons == ("architecture",)
    art = put(blobs, NamedTensors({LOGITS: torch.full((64, 2), torch.nan).half()}), tmp_path)
    found = me.check(Check(path=str(blobs.path(art)), form=me.opened.form))
    assert found.reasons == ("not_finite",)


def test_another_order_of_classes_is_another_question(bench):
    turned = bench("you", "logits", classes=CLASSES[::-1],
                   question=partial(generated.gaussian, 64, 4, CLASSES[::-1], seed=1))  # fmt: skip
    assert turned.opened.about != bench("me", "logits").opened.about
    assert turned.opened.form == bench("me", "logits").opened.form


def test_the_same_confident_answers_are_at_no_distance(bench, blobs):
    me = bench("me", "logits", local_epochs=60)
    before, trained = me.opened.base, me.train(Train(model=me.opened.base, round=1))
    mixed = me.mix(asked("logits", before, trained.out, candidate(trained.release, "x")))
    assert evidence_of(mixed)[0].d_e9 < UNIT_E9 // 1000


def test_answers_that_make_a_training_fail_are_not_taken_in(bench, blobs, tmp_path, monkeypatch):
    me = bench("me", "logits")
    before, trained = me.opened.base, me.train(Train(model=me.opened.base, round=1)).out
    sheet = NamedTensors({LOGITS: torch.tensor([[0.0, -3.0]]).repeat(64, 1).half()})
    asked_for = candidate(put(blobs, sheet, tmp_path), "x")

    def fails(*_words, **_options):
        raise TaskError("the loss of step 1 on unlabelled rows is nan")

    monkeypatch.setattr(answers, "distil", fails)
    with pytest.raises(TaskError):
        answers.distil()
    mixed = me.mix(asked("logits", before, trained, asked_for))
    (record,) = evidence_of(mixed)
    assert (record.step_e9, record.w_e9, record.reason) == (0, 0, "guarded")
    assert (mixed.out, len(mixed.parts)) == (trained, 1)


@pytest.mark.parametrize("kind", TAUGHT)
def test_one_round_shows_who_lies_and_copies_of_a_lie_with_noise_do_not_help(
    bench, blobs, tmp_path, kind
):
    me = bench("me", kind, local_epochs=30)
    base = me.opened.base
    trained = me.train(Train(model=base, round=1)).out
    handed = {}
    for name in "ab":
        peer = bench(name, kind, model=wide, local_epochs=30)
        handed[name] = peer.train(Train(model=peer.opened.base, round=1)).release
    said = pack.load(blobs.path(handed["a"]))[LOGITS]
    for name in "xy":
        noise = torch.randn(said.shape, generator=torch.Generator().manual_seed(ord(name)))
        lie = NamedTensors({LOGITS: (said.flip(1) + noise).half()})
        handed[name] = put(blobs, lie, tmp_path)
    candidates = [candidate(art, name) for name, art in handed.items()]
    mixed = me.mix(asked(kind, base, trained, *candidates))
    found = {record.node: record for record in evidence_of(mixed)}
    assert disagreements(tuple(found.values())) == ()
    for name in "ab":
        assert found[name].g_e9 > 0
        assert found[name].gate_e9 == UNIT_E9
    for name in "xy":
        assert found[name].g_e9 < -10 * found[name].error_e9 < 0
        assert found[name].gate_e9 == 0
    judge = Judge(toy(sum(map(ord, "me"))), "cpu")
    alone, taught = (judge.loss(pack.load(blobs.path(one))) for one in (trained, mixed.out))
    assert taught < alone + 0.02


def test_a_model_that_knows_nothing_yet_is_no_witness(bench, blobs, tmp_path):
    me = bench("me", "logits")
    sheet = NamedTensors({LOGITS: torch.randn(64, 2).half()})
    asked_for = candidate(put(blobs, sheet, tmp_path), "x")
    untaught = me.mix(asked("logits", me.opened.base, me.opened.base, asked_for))
    (record,) = evidence_of(untaught)
    assert (record.g_e9, record.error_e9) == (0, 0)
    trained = bench("me", "logits", local_epochs=30).train(Train(model=me.opened.base, round=1))
    (record,) = evidence_of(me.mix(asked("logits", me.opened.base, trained.out, asked_for)))
    assert record.error_e9 > 0


def test_every_kind_that_a_node_exchanges_has_a_rule():
    assert set(integrate.RULES) == set(KINDS)
    assert [msgspec.convert({"kind": one}, ArtifactsSection).kind for one in KINDS] == [*KINDS]
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"kind": "models"}, ArtifactsSection)


def test_without_a_common_question_there_are_no_answers(bench):
    with pytest.raises(ConfigError, match="no common question"):
        bench("me", "logits", question=None)
    with pytest.raises(ConfigError, match="its question is about no, yes"):
        bench("me", "logits", classes=("yes", "no"))


@pytest.mark.parametrize("kind", ["parameters", "data_vector", *TAUGHT])
def test_what_an_operator_publishes_is_released_as_after_a_training(bench, blobs, kind):
    half = bench("me", kind, release=lambda before, trained: before + (trained - before) * 0.5)
    base = half.opened.base
    trained = half.train(Train(model=base, round=1))
    assert half.release(Release(before=base, model=trained.out)).payload == trained.release
    whole = bench("me", kind)
    assert whole.release(Release(before=base, model=trained.out)).payload != trained.release


def test_prototypes_of_enough_patients_are_drawn_to_and_a_liar_loses_its_voice(
    bench, blobs, tmp_path
):
    me, peer = (bench(name, "prototypes", model=wide) for name in ("me", "a"))
    assert me.opened.about == peer.opened.about
    base, scores = me.opened.base, {"a": (0, 0), "x": (0, 0)}
    mine = theirs = base
    for number in range(1, 6):
        done = peer.train(Train(model=theirs, round=number))
        theirs, honest = done.out, done.release
        sheet = pack.load(blobs.path(honest))
        assert sheet[ROWS].tolist() == [20, 20]
        turned = NamedTensors({MEANS: sheet[MEANS].flip(0), ROWS: sheet[ROWS] * 50_000})
        trained = me.train(Train(model=mine, round=number)).out
        arts = {"a": honest, "x": put(blobs, turned, tmp_path)}
        mixed = me.mix(asked("prototypes", mine, trained, *(
            candidate(art, name, r_e9=scores[name][0], s_e9=scores[name][1])
            for name, art in arts.items()
        )))  # fmt: skip
        found = {record.node: record for record in evidence_of(mixed)}
        assert disagreements(tuple(found.values())) == ()
        assert mixed.rule == integrate.PROTOTYPES
        scores = {name: (one.r_after_e9, one.s_after_e9) for name, one in found.items()}
        mine = mixed.out
    assert found["x"].trust_e9 < found["a"].trust_e9
    assert found["x"].w_e9 < found["a"].w_e9
    assert Judge(toy(sum(map(ord, "me")), model=wide), "cpu").measure(
        pack.load(blobs.path(mine))
    )["auc"] > 0.9  # fmt: skip


def test_a_prototype_that_cannot_be_is_not_read(bench, blobs, tmp_path):
    me = bench("me", "prototypes", model=wide)
    base = me.opened.base
    trained = me.train(Train(model=base, round=1))
    sheet = pack.load(blobs.path(trained.release))
    long, few = sheet[MEANS] * 9, torch.tensor([9, -3])
    for lie in ({MEANS: long, ROWS: sheet[ROWS]}, {MEANS: sheet[MEANS].flip(0), ROWS: few}):
        art = put(blobs, NamedTensors(lie), tmp_path)
        (record,) = evidence_of(me.mix(asked("prototypes", base, trained.out, candidate(art, "x"))))
        assert (record.d_e9, record.reach_e9) == (0, 0)
    unseen = candidate(trained.release, "x", classes=())
    (record,) = evidence_of(me.mix(asked("prototypes", base, trained.out, unseen)))
    assert record.d_e9 == 0


def test_prototypes_need_an_embedding_and_classes(bench):
    with pytest.raises(ConfigError, match="no hidden layer"):
        bench("me", "prototypes")

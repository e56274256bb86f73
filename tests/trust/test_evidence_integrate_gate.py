"""Evidence records: an auditor computes from one what the node computed, and nothing else."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol import cmp1, records
from konsil.protocol.errors import EncodingRefused, LocalProtocolError
from konsil.trust import evidence, gate, integrate, medians, score, weights
from konsil.trust.evidence import (
    UNPINNED,
    EvidenceRecord,
    Measures,
    disagreements,
    recompute,
    weigh,
)
from konsil.trust.fixed import CEILING_E9, UNIT_E9, product

fractions = st.integers(0, UNIT_E9)
sizes = st.integers(0, 10**13)


def record(**changes) -> EvidenceRecord:
    plain = {
        "node": "n" * 32,
        "art": b"a" * 32,
        "kind": "parameters",
        "round": 3,
        "before": b"b" * 32,
        "trained": b"t" * 32,
        "lag": 0,
        "own_e9": 400_000_000,
        "reach_e9": 900_000_000,
        "rho_e9": 900_000_000,
        "g_e9": 2_000_000,
        "error_e9": 1_000_000,
        "excused_e9": 0,
        "scale_e9": 3_000_000,
        "d_e9": 800_000_000,
        "tau_e9": 800_000_000,
        "r_before_e9": 0,
        "s_before_e9": 0,
        "metropolis_e9": 250_000_000,
        "step_e9": UNIT_E9,
    }
    return recompute(EvidenceRecord(**(plain | changes)))


def one_round(gains, distances, **shared) -> list[EvidenceRecord]:
    """Consistent records of one round, as a worker makes them."""
    voices = [UNIT_E9] * len(gains)
    tau, rho = medians.bounds_of(distances, distances, 400_000_000, voices)
    scales = medians.gain_scales_of(gains, [700] * len(gains), voices)
    excuses = medians.excuses_of(gains, [700] * len(gains), voices)
    return [
        record(
            node=chr(97 + i) * 32,
            g_e9=gain,
            error_e9=700,
            excused_e9=excused,
            d_e9=distance,
            reach_e9=distance,
            tau_e9=tau,
            rho_e9=rho,
            scale_e9=scale,
            **shared,
        )
        for i, (gain, distance, scale, excused) in enumerate(
            zip(gains, distances, scales, excuses, strict=True)
        )
    ]


def test_worked_example_by_hand():
    """z = 2/3, Phi(1.41667) = .9217 (table); inside 5/3 tau; newcomer; full gate."""
    one = record()
    assert one.p_f_e9 == pytest.approx(921_700_000, abs=100_000)
    assert one.p_g_e9 == UNIT_E9
    assert one.q_e9 == one.p_f_e9 == one.r_after_e9
    assert one.s_after_e9 == 3 * (UNIT_E9 - one.q_e9) // 2
    assert (one.trust_before_e9, one.gate_e9, one.clip_e9) == (UNIT_E9 // 2, UNIT_E9, UNIT_E9)
    assert (one.w_e9, one.reason) == (250_000_000, "granted")


def test_an_inverted_and_boosted_model_loses_its_weight_within_a_few_rounds():
    known, granted = score.Score(), []
    for number in range(8):
        one = record(
            round=number,
            g_e9=-20_000_000,
            d_e9=4_000_000_000,
            r_before_e9=known.r_e9,
            s_before_e9=known.s_e9,
        )
        known = score.Score(r_e9=one.r_after_e9, s_e9=one.s_after_e9)
        granted.append(one.w_e9 / one.metropolis_e9)
    assert granted[0] < 0.3, "even the first step is clipped to 5/3 tau of five"
    assert granted[2:] == [0.0] * 6
    assert one.reason == "distrusted"


@settings(max_examples=60)
@given(
    st.integers(-CEILING_E9, CEILING_E9), sizes, sizes, sizes, sizes, sizes, st.integers(0, 50),
    fractions, st.none() | fractions, st.sampled_from(integrate.STEPS_E9),
)  # fmt: skip
def test_a_packed_record_is_recomputed_exactly(g, s, d, tau, r, harm, lag, w, pinned, step):
    one = record(
        g_e9=g, scale_e9=s, d_e9=d, tau_e9=tau, r_before_e9=r, s_before_e9=harm, lag=lag,
        metropolis_e9=w, pinned_e9=pinned, step_e9=step,
    )  # fmt: skip
    read = records.unpack(records.pack(one), EvidenceRecord)
    assert recompute(read) == read == one
    assert 0 <= one.w_e9 <= one.metropolis_e9
    # Not `product`: a distance times a weight may need more than 64 bits.
    assert one.w_e9 * d // UNIT_E9 <= min(5 * tau // 3, 6 * one.own_e9) + 1


rows = st.tuples(
    st.integers(-CEILING_E9, CEILING_E9), st.integers(0, CEILING_E9), st.integers(0, CEILING_E9),
    st.integers(0, CEILING_E9), sizes, sizes, st.integers(0, 50), fractions,
    st.just(UNPINNED) | fractions, st.sampled_from(integrate.STEPS_E9),
)  # fmt: skip


@settings(max_examples=100)
@given(st.lists(rows, min_size=1, max_size=8))
def test_arrays_follow_the_same_rule_as_single_numbers(several):
    """A simulator weighs thousands at once; each comes out as an auditor computes it alone."""

    def measures(g, s, d, tau, r, harm, lag, w, pinned, step):
        one = np.full_like(g, UNIT_E9) if isinstance(g, np.ndarray) else UNIT_E9
        given_ = Measures(
            lag=lag, own_e9=tau, g_e9=g, excused_e9=d, d_e9=d, r_e9=r, s_e9=harm,
            base_rate_e9=one // 2, share_e9=one, metropolis_e9=w, pinned_e9=pinned,
        )  # fmt: skip
        return weigh(given_, s, tau, step)

    together = measures(*(np.array(column) for column in zip(*several, strict=True)))
    for place, row in enumerate(several):
        alone = measures(*row)
        for field in alone.__struct_fields__:
            assert int(getattr(together, field)[place]) == getattr(alone, field), field


@given(st.integers(-(10**10), 10**10), st.integers(-(10**10), 10**10), st.integers(1, 10**9))
def test_a_greater_gain_is_never_worse(one, two, scale):
    low, high = sorted((one, two))
    assert evidence.functional(low, scale) <= evidence.functional(high, scale)


@given(sizes, sizes, sizes)
def test_a_nearer_model_is_never_worse(one, two, tau):
    near, far = sorted((one, two))
    assert evidence.geometric(near, tau) >= evidence.geometric(far, tau)


def test_geometric_evidence_falls_with_the_square():
    assert evidence.geometric(5 * UNIT_E9, 3 * UNIT_E9) == UNIT_E9
    assert evidence.geometric(10 * UNIT_E9, 3 * UNIT_E9) == UNIT_E9 // 4
    assert evidence.geometric(1, 0) == 0
    assert evidence.geometric(0, 0) == UNIT_E9


def test_without_any_scale_a_loss_is_still_a_loss():
    assert evidence.functional(0, 0) == evidence.functional(0, 5)
    assert evidence.functional(-100, 0) == 0
    assert evidence.functional(100, 0) == UNIT_E9


def test_the_benefit_of_the_doubt_is_spent_by_harm():
    """Doing nothing is worth .773 to a newcomer, but only .5 to a peer that stands distrusted."""
    newcomer, distrusted = record(g_e9=0), record(g_e9=0, s_before_e9=6 * UNIT_E9)
    assert newcomer.p_f_e9 == pytest.approx(773_372_648, abs=500)
    assert distrusted.trust_before_e9 < 300_000_000
    assert distrusted.p_f_e9 == UNIT_E9 // 2


def test_whoever_stands_distrusted_has_no_excuse():
    harm = {"g_e9": -2_000_000, "excused_e9": 2_000_000}
    excused, distrusted = record(**harm), record(**harm, s_before_e9=6 * UNIT_E9)
    assert excused.p_f_e9 == record(g_e9=0).p_f_e9
    assert distrusted.p_f_e9 == record(g_e9=-2_000_000, s_before_e9=6 * UNIT_E9).p_f_e9


def test_a_peer_cast_out_by_mistake_comes_back_by_doing_no_harm():
    known, granted = score.Score(s_e9=6 * UNIT_E9), []
    for number in range(60):
        one = record(
            round=number, g_e9=0, r_before_e9=known.r_e9, s_before_e9=known.s_e9, d_e9=10**8
        )
        known = score.Score(r_e9=one.r_after_e9, s_e9=one.s_after_e9)
        granted.append(one.gate_e9)
    assert granted[0] == 0
    assert granted[-1] == UNIT_E9


def test_a_round_without_contradiction_agrees():
    assert disagreements(one_round([1000, -2000, 500], [10**8, 3 * 10**8, 2 * 10**8])) == ()
    assert disagreements([]) == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("w_e9", 1),
        ("g_e9", 10**9),
        ("d_e9", 0),
        ("tau_e9", 10**12),
        ("trust_e9", 0),
        ("reason", "granted, honestly"),
        ("r_before_e9", 10**10),
        ("own_e9", 1),
        ("scale_e9", 1),
        ("error_e9", 10**9),
        ("excused_e9", 1),
        ("rho_e9", 1),
        ("trained", b"x" * 32),
    ],
)
def test_an_edited_record_is_noticed(field, value):
    mine = one_round([1000, -2000, 500], [10**8, 3 * 10**8, 2 * 10**8])
    mine[1] = msgspec.structs.replace(mine[1], **{field: value})
    assert disagreements(mine)


def test_a_round_whose_shared_values_were_all_edited_is_noticed():
    mine = one_round([1000, -2000, 500], [10**8, 3 * 10**8, 2 * 10**8])
    forged = [recompute(msgspec.structs.replace(r, tau_e9=10**12)) for r in mine]
    assert any("tau_e9 is 1000000000000" in line for line in disagreements(forged))


def test_a_scale_that_does_not_follow_from_the_others_is_noticed():
    mine = one_round([1000, -2000, 500], [10**8, 3 * 10**8, 2 * 10**8])
    mine[2] = recompute(msgspec.structs.replace(mine[2], scale_e9=10**9))
    (line,) = disagreements(mine)
    assert "scale_e9 is 1000000000" in line
    assert disagreements(mine, whole=False) == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [("metropolis_e9", UNIT_E9 + 1), ("d_e9", -1), ("lag", -1), ("pinned_e9", 2 * UNIT_E9)],
)
def test_a_record_with_an_impossible_value_is_refused(field, value):
    wrong = msgspec.structs.replace(record(), **{field: value})
    with pytest.raises(LocalProtocolError, match=field):
        records.pack(wrong)
    foreign = cmp1.encode(msgspec.to_builtins(wrong, builtin_types=(bytes,)))
    with pytest.raises(EncodingRefused, match=field):
        records.unpack(foreign, EvidenceRecord)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "granted"),
        ({"pinned_e9": 0}, "muted"),
        ({"pinned_e9": UNIT_E9}, "pinned"),
        ({"s_before_e9": 9 * UNIT_E9}, "distrusted"),
        ({"r_before_e9": 500_000_000, "s_before_e9": 2_300_000_000}, "doubted"),
        ({"share_e9": UNIT_E9 // 2}, "copy"),
        ({"step_e9": UNIT_E9 // 2}, "guarded"),
        ({"r_before_e9": 9 * UNIT_E9, "g_e9": -9_000_000}, "harmful"),
        ({"d_e9": 1_400_000_000}, "clipped"),
    ],
)
def test_the_reason_is_one_word(changes, reason):
    assert record(**changes).reason == reason


def test_the_operators_pin_stands_in_for_the_gate_but_not_for_the_clip():
    trusted = record(pinned_e9=UNIT_E9, s_before_e9=9 * UNIT_E9, d_e9=2_400_000_000)
    assert trusted.gate_e9 == UNIT_E9
    assert trusted.w_e9 == product(250_000_000, weights.clip(2_400_000_000, 800_000_000, 4 * 10**8))
    assert record(pinned_e9=0).w_e9 == 0


def test_coefficients_sum_exactly_and_skip_the_refused():
    mine = [record(node="a" * 32), record(node="b" * 32, pinned_e9=0), record(node="c" * 32)]
    own, *peers = integrate.coefficients(b"t" * 32, "me", mine)
    assert own.w_e9 + sum(peer.w_e9 for peer in peers) == UNIT_E9
    assert [peer.node[0] for peer in peers] == ["a", "c"]
    assert (own.art, own.node, own.trust_e9) == (b"t" * 32, "me", UNIT_E9)
    assert integrate.coefficients(b"t" * 32, "me", [])[0].w_e9 == UNIT_E9
    with pytest.raises(LocalProtocolError, match="exceed one"):
        integrate.coefficients(b"t" * 32, "me", [record(metropolis_e9=UNIT_E9)] * 2)


@given(
    st.integers(0, CEILING_E9),
    st.dictionaries(st.sampled_from(integrate.STEPS_E9), st.integers(0, CEILING_E9)),
)
def test_a_student_is_kept_only_if_it_is_better(before, losses):
    step = integrate.choose_better(before, lambda at: losses.get(at, CEILING_E9))
    better = [at for at in integrate.STEPS_E9[:-1] if losses.get(at, CEILING_E9) < before]
    assert step == max(better, default=0)


def test_a_rule_belongs_to_a_kind():
    for kind, rule in integrate.RULES.items():
        fitting = [other for other in integrate.RULES.values() if integrate.fits(other, kind)]
        assert fitting == [integrate.RULES[one] for one in integrate.alike(kind)]
        assert rule in fitting
        assert integrate.fits(rule, None)
    assert integrate.fits("another/1", "parameters")
    assert not integrate.fits("another/1", "logits")
    assert not integrate.fits(integrate.RULE, "prototypes")
    assert {integrate.alike(kind) for kind in integrate.ANSWERS} == {integrate.ANSWERS}
    assert [integrate.alike(kind) for kind in ("parameters", "data_vector")] == [
        ("parameters",), ("data_vector",),
    ]  # fmt: skip
    assert integrate.alike("prototypes") == ("prototypes",)


def test_the_step_is_halved_until_the_loss_is_tolerable():
    tried = []

    def loss_at(step: int) -> int:
        tried.append(step)
        return step

    assert integrate.choose_step(UNIT_E9 // 4, loss_at) == UNIT_E9 // 4
    assert tried == [UNIT_E9, UNIT_E9 // 2, UNIT_E9 // 4]
    assert integrate.choose_step(0, lambda step: CEILING_E9) == 0
    assert integrate.choose_step(0, lambda step: UNIT_E9 // 20) == UNIT_E9
    assert integrate.choose_step(0, lambda step: UNIT_E9 // 20 + 1) == 0


def test_another_step_rescales_every_weight():
    mine = one_round([1000, 2000], [10**8, 10**8])
    half = integrate.at_step(mine, UNIT_E9 // 2)
    assert [r.w_e9 for r in half] == [r.w_e9 // 2 for r in mine]
    assert [r.trust_e9 for r in half] == [r.trust_e9 for r in mine]
    assert all(r.w_e9 == 0 and r.reason == "guarded" for r in integrate.at_step(mine, 0))


GOOD = gate.Facts(
    logged=True, about_ours=True, task_ours=True, parents_agree=True, charter_ours=True,
    sequence=5, last_sequence=4, size=100, largest=100,
)  # fmt: skip


@pytest.mark.parametrize(
    ("fact", "value", "reason"),
    [
        ("equivocates", True, "equivocation"),
        ("logged", False, "unlogged"),
        ("size", 101, "size"),
        ("size", 0, "size"),
        ("charter_ours", False, "charter"),
        ("about_ours", False, "base"),
        ("task_ours", False, "architecture"),
        ("parents_agree", False, "parents"),
        ("sequence", 4, "sequence"),
    ],
)
def test_every_fact_is_needed(fact, value, reason):
    assert gate.refusals(GOOD) == ()
    reasons = gate.refusals(msgspec.structs.replace(GOOD, **{fact: value}))
    assert reasons == (reason,)
    assert gate.quarantines(reasons) == (reason == "equivocation")


def test_a_first_artifact_needs_a_positive_sequence():
    assert gate.refusals(msgspec.structs.replace(GOOD, sequence=0, last_sequence=0)) == (
        "sequence",
    )


def test_trust_never_imports_torch():
    program = (
        "import sys, konsil.trust.integrate, konsil.trust.gate, konsil.trust.evidence;"
        "print(sorted({'torch', 'trio', 'libp2p', 'numpy'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert answer.stdout.strip() == b"[]"

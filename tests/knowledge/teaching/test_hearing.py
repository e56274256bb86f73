"""Hearing: who is shown to mislead, and the laws of that judgement."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.knowledge.teaching.agreement import agreement, by_class
from konsil.knowledge.teaching.consensus import consensus
from konsil.knowledge.teaching.hearing import heard
from konsil.knowledge.teaching.voices import alike, voices
from konsil.knowledge.teaching.witness import is_witness
from konsil.protocol.errors import LocalProtocolError

SEEDS = st.integers(0, 2**32)
ROWS, CLASSES = 120, 4
ALL = torch.ones(CLASSES, dtype=torch.bool)


def consortium(seed: int, teachers: int = 6):
    """The truth, honest sheets that know three or four classes, and the receiver's own."""
    source = torch.Generator().manual_seed(seed)
    truth = torch.randint(CLASSES, (ROWS,), generator=source)
    told = 3.0 * torch.nn.functional.one_hot(truth, CLASSES).double()
    noise = torch.randn(teachers + 1, ROWS, CLASSES, generator=source).double()
    *sheets, own = (told + 1.5 * noise).log_softmax(dim=2)
    known = torch.ones(teachers, CLASSES, dtype=torch.bool)
    known[torch.arange(0, teachers, 2), torch.arange(0, teachers, 2) % CLASSES] = False
    return truth, sheets, known, own


def noisy(sheet: torch.Tensor, seed: int) -> torch.Tensor:
    """A copy with a tenth of its rows at random."""
    source = torch.Generator().manual_seed(seed)
    drawn = torch.rand(ROWS, 1, generator=source) < 0.1
    anything = (6 * torch.randn(ROWS, CLASSES, generator=source).double()).log_softmax(dim=1)
    return torch.where(drawn, anything, sheet)


def fused(sheets, known, own, lesson=None) -> torch.Tensor:
    weights = known.double() if lesson is None else lesson
    return consensus([*sheets, own], torch.cat([weights, ALL[None].double()]), own)


@given(SEEDS)
@settings(max_examples=8, deadline=None)
def test_agreement_is_symmetric_and_knows_no_constant(seed):
    _, (one, other, *_), known, own = consortium(seed)
    there = agreement(one, other, known[0])
    back = agreement(other, one + torch.randn(ROWS, 1), known[0])
    assert there == pytest.approx(back, abs=1e-6)
    assert -1 <= there.value <= 1
    assert agreement(own, own, ALL) == pytest.approx((1.0, 0.0), abs=1e-9)
    assert agreement(own, own[:1].expand_as(own), ALL) == (0.0, 0.0)
    assert agreement(one, other, ALL & False) is None


def test_the_error_is_how_far_the_agreement_of_drawn_rows_scatters():
    found = [
        agreement(own, sheets[0], ALL) for sheets, own in
        ((sheets, own) for _, sheets, _, own in map(consortium, range(200)))
    ]  # fmt: skip
    scatter = torch.tensor([one.value for one in found]).std()
    claimed = torch.tensor([one.error for one in found]).mean()
    assert claimed == pytest.approx(float(scatter), rel=0.2)


def test_a_lie_about_one_class_shows_in_that_class():
    truth, sheets, _, own = consortium(1)
    lie = sheets[0].clone()
    swapped = (truth == 2)[:, None]
    lie = torch.where(swapped, lie[:, [0, 2, 1, 3]], lie)
    values, errors = by_class(lie, own, ALL)
    honest, _ = by_class(sheets[0], own, ALL)
    assert values[2] < 0.1 < 0.4 < honest.min()
    assert values[[0, 3]] == pytest.approx(honest[[0, 3]], abs=0.1)
    assert bool((errors > 0).all())
    assert bool(by_class(lie, own, torch.tensor([True, True, False, True]))[0][2].isnan())


@given(SEEDS)
@settings(max_examples=8, deadline=None)
def test_without_liars_everyone_is_heard_and_the_fusion_is_the_mean(seed):
    _, sheets, known, own = consortium(seed)
    found = heard(sheets, known, torch.ones(6), own, ALL)
    assert bool((found.gains > 0).all())
    assert bool((found.errors > 0).all())
    assert torch.equal(found.lesson, known.double())
    assert torch.equal(fused(sheets, known, own, found.lesson), fused(sheets, known, own))


def lied(attack: str, sheets) -> torch.Tensor:
    """What colluders who know the honest mean answer."""
    mean = torch.stack(sheets).exp().mean(dim=0)
    best = mean.argmax(dim=1)
    said = {
        "flip": CLASSES - 1 - best,
        "least likely": mean.argmin(dim=1),
        "confusable": mean.topk(2, dim=1).indices[:, 1],
        "one class": torch.zeros_like(best),
    }[attack]
    hot = torch.nn.functional.one_hot(said, CLASSES).double()
    return (8 * hot).log_softmax(dim=1)


@pytest.mark.parametrize("spoilt", [False, True])
@pytest.mark.parametrize("attack", ["flip", "least likely", "confusable", "one class"])
def test_liars_are_shown_to_lie_and_the_honest_are_heard(attack, spoilt):
    truth, sheets, known, own = consortium(11, teachers=8)
    lie = lied(attack, sheets)
    lies = [noisy(lie, k) if spoilt else lie for k in range(4)]
    claimed = torch.cat([known, ALL.expand(4, -1)])
    found = heard([*sheets, *lies], claimed, torch.ones(12), own, ALL)
    assert bool((found.gains[:8] > 0).all())
    assert bool((found.gains[8:] + 3 * found.errors[8:] < 0).all())
    assert torch.equal(found.lesson[:8], known.double())

    def right(answers: torch.Tensor) -> float:
        return float((answers.argmax(dim=1) == truth).double().mean())

    harmless = (found.gains > 0)[:, None] * found.lesson
    honest = fused(sheets, known, own)
    assert torch.equal(fused([*sheets, *lies], claimed, own, harmless), honest)
    assert right(fused([*sheets, *lies], claimed, own)) < right(honest)


@given(SEEDS, st.permutations(range(6)))
@settings(max_examples=4, deadline=None)
def test_the_order_of_the_teachers_does_not_matter(seed, order):
    _, sheets, known, own = consortium(seed)
    sheets[0] = sheets[0].flip(1)
    plain = heard(sheets, known, torch.ones(6), own, ALL)
    other = heard([sheets[k] for k in order], known[order], torch.ones(6), own, ALL)
    for one, turned in zip(plain, other, strict=True):
        assert torch.allclose(one[order], turned, atol=1e-9)


@given(SEEDS)
@settings(max_examples=4, deadline=None)
def test_who_is_not_believed_changes_nothing_for_others(seed):
    _, sheets, known, own = consortium(seed)
    lies = [*sheets, sheets[1].flip(1), noisy(sheets[1], seed)]
    claimed = torch.cat([known, ALL.expand(2, -1)])
    trusts = torch.tensor([1.0] * 6 + [0.0] * 2)
    plain = heard(sheets, known, torch.ones(6), own, ALL)
    beside = heard(lies, claimed, trusts, own, ALL)
    for one, other in zip(plain, beside, strict=True):
        assert torch.equal(one, other[:6])


@given(SEEDS)
@settings(max_examples=4, deadline=None)
def test_copies_exact_or_noisy_are_one_voice_and_good_models_are_no_copies(seed):
    truth, sheets, known, own = consortium(seed)
    wrong = 8.0 * torch.nn.functional.one_hot((truth + 1) % CLASSES, CLASSES).double()
    copies = [wrong, wrong, *(noisy(wrong, seed + k) for k in range(3))]
    everyone = torch.cat([known, ALL.expand(5, -1)])
    reference = fused(sheets, known, own).log()
    found = voices([*sheets, *copies], everyone, torch.ones(11), reference)
    assert torch.equal(found[:6], torch.ones(6).double())
    assert 0.99 < float(found[6:].sum()) < 1.1
    good = [reference + 0.3 * torch.randn(ROWS, CLASSES) for _ in range(2)]
    assert agreement(*good, ALL).value > 0.9
    assert alike(*good, ALL, reference) < 0.2


@pytest.mark.parametrize("spoilt", [False, True])
def test_many_liars_with_one_lie_move_no_more_than_one(spoilt):
    """They are right about half of the rows, so that they are not gated away."""
    truth, sheets, known, own = consortium(3, teachers=10)
    told = torch.where(torch.arange(ROWS) % 2 == 0, truth, (truth + 1) % CLASSES)
    lie = 8.0 * torch.nn.functional.one_hot(told, CLASSES).double()

    def moved(liars: int) -> float:
        lies = [noisy(lie, k) if spoilt else lie for k in range(liars)]
        claimed = torch.cat([known, ALL.expand(liars, -1)])
        lesson = heard([*sheets, *lies], claimed, torch.ones(10 + liars), own, ALL).lesson
        assert float(lesson[10:].sum()) > 0
        assert torch.equal(lesson[:10], known.double())
        there = fused([*sheets, *lies], claimed, own, lesson)
        return float((there - fused(sheets, known, own)).norm())

    alone, crowd = moved(1), moved(4)
    assert 0 < crowd < 1.1 * alone


def test_what_a_receiver_has_not_seen_the_others_judge():
    truth, sheets, known, own = consortium(5)
    lie = torch.where((truth > 1)[:, None], sheets[1][:, [0, 1, 3, 2]], sheets[1])
    few = torch.tensor([True, True, False, False])
    found = heard([*sheets, lie], torch.cat([known, ALL[None]]), torch.ones(7), own, few)
    assert found.lesson[6].tolist() == [1, 1, 0, 0]
    assert torch.equal(found.lesson[:6], known.double())


def test_where_nothing_can_be_compared_nothing_is_shown():
    _, sheets, known, own = consortium(6)
    nothing = heard(sheets, known, torch.ones(6), own, ALL & False)
    assert not nothing.gains.any()
    assert not nothing.errors.any()
    assert torch.equal(nothing.lesson, known.double())
    known[0] = torch.tensor([False, True, False, False])
    silent = heard(sheets, known, torch.ones(6), own, ALL)
    assert (silent.gains[0], silent.errors[0]) == (0, 0)
    assert torch.equal(silent.lesson[0], known[0].double())
    alone = heard([], torch.zeros(0, CLASSES, dtype=torch.bool), torch.ones(0), own, ALL)
    assert alone.lesson.shape == (0, CLASSES)


def test_a_witness_has_learned_its_own_rows():
    truth, *_, own = consortium(8)
    source = torch.Generator().manual_seed(8)
    guesses = torch.randn(20, ROWS, CLASSES, generator=source)
    assert is_witness(own, truth, ALL)
    assert not any(is_witness(guess, truth, ALL) for guess in guesses)
    assert not is_witness(own.flip(1), truth, ALL)
    assert not is_witness(own, truth, torch.tensor([True, False, False, False]))
    wrong_on_the_unseen = torch.where((truth > 1)[:, None], own.flip(1), own)[truth < 2]
    assert is_witness(wrong_on_the_unseen, truth[truth < 2], torch.arange(CLASSES) < 2)


def test_what_does_not_belong_together_is_refused():
    _, sheets, known, own = consortium(7)
    with pytest.raises(LocalProtocolError, match="6 teachers"):
        heard(sheets, known[:5], torch.ones(6), own, ALL)
    with pytest.raises(LocalProtocolError, match="cannot be compared"):
        agreement(sheets[0], own[:5], ALL)

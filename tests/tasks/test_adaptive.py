"""Thinking only in doubt, measured: against a slow count, a tossed coin and models that say what they are told to."""

import dataclasses
import math

import pytest
import torch
from planted import planted
from tiny import CONFIGS, make_model

from dsmini.inference.effort import answer_directly, generate_adaptively
from dsmini.language.frame import parse_response, prompt_text
from dsmini.language.tokenizer import END_THINK, EOS, SPECIAL, TOKENIZER
from dsmini.tasks import adaptive, countdown, measure, modes, shell_game
from dsmini.tasks.adaptive import BothModes, adaptive_curve, answer_in_both_modes, at_threshold, calibration, coin

END = TOKENIZER.id(EOS)
# six problems: the direct answer is right where the confidence is high, but for one
BOTH = BothModes(confidence=[0.9, 0.2, 0.5, 0.5, 0.95, 0.1], direct_right=[1, 0, 0, 1, 0, 0],
                 thinking_right=[1, 1, 0.5, 1, 1, 0.25], direct_tokens=[3, 3, 4, 3, 6, 3],
                 thinking_tokens=[10, 20, 30, 20, 12.5, 40])  # fmt: skip


def random_answers(seed, problems=40):
    random = torch.Generator().manual_seed(seed)
    confidence, direct, thinking, short, long = torch.rand(5, problems, dtype=torch.float64, generator=random)
    confidence = (confidence * 15).round() / 15  # some are equal
    return BothModes(confidence, direct < confidence, thinking < 0.9, 2 + 3 * short, 10 + 40 * long)


def slow_count(both, threshold):
    """Problem by problem: share, tokens, accuracy."""
    total, thought, right = 0.0, 0, 0.0
    rows = list(zip(*(value.tolist() for value in vars(both).values()), strict=True))
    for confidence, direct_right, thinking_right, direct_tokens, thinking_tokens in rows:
        thinks = confidence < threshold
        thought += thinks
        total += direct_tokens + thinking_tokens if thinks else direct_tokens
        right += thinking_right if thinks else direct_right
    return {"share": thought / len(rows), "tokens": total / len(rows), "accuracy": right / len(rows)}


# ---- the curve and the coin -----------------------------------------------------------------------------------------


def test_curve_is_counted_by_hand():
    rows = adaptive_curve(BOTH)
    assert [row["threshold"] for row in rows] == [0.1, 0.2, 0.5, 0.9, 0.95, math.inf]
    assert [row["share"] * 6 for row in rows] == pytest.approx([0, 1, 2, 4, 5, 6])
    assert [row["tokens"] * 6 for row in rows] == pytest.approx([22, 62, 82, 132, 142, 154.5])
    assert [row["accuracy"] * 6 for row in rows] == pytest.approx([2, 2.25, 3.25, 3.75, 3.75, 4.75])
    chance = [(tokens - 22) / (132.5 - 22) for tokens in (22, 62, 82, 132)]
    expected = [2 + p * (4.75 - 2) for p in chance] + [4.75] * 2  # dearer than always thinking
    assert [row["coin"] * 6 for row in rows] == pytest.approx(expected)


def check_curve(module):
    for seed in range(3):
        both = random_answers(seed)
        rows = module.adaptive_curve(both)
        assert len(rows) == len(set(both.confidence.tolist())) + 1 < 20
        for row in rows:
            expected = slow_count(both, row["threshold"])
            assert {key: row[key] for key in expected} == pytest.approx(expected)
        first, last = rows[0], rows[-1]
        assert (first["share"], last["share"]) == (0, 1) and first["coin"] == pytest.approx(first["accuracy"])
        assert last["tokens"] == pytest.approx((both.direct_tokens + both.thinking_tokens).mean().item())
        assert last["coin"] == pytest.approx(last["accuracy"]) == pytest.approx(both.thinking_right.mean().item())
        assert [row["tokens"] for row in rows] == sorted({row["tokens"] for row in rows})


def test_curve_equals_the_slow_count():
    check_curve(adaptive)


def test_curve_has_every_threshold_that_makes_a_difference():
    both = random_answers(7)
    found = {tuple((both.confidence < row["threshold"]).tolist()) for row in adaptive_curve(both)}
    tried = {tuple((both.confidence < threshold / 100).tolist()) for threshold in range(-1, 103)}
    assert found == tried


def test_coin_is_the_mean_of_tosses():
    """Every way in which three coins of one probability can fall, each by its probability."""
    both, p = BothModes([0.5] * 3, [1, 0, 0], [0, 1, 1], [2, 3, 4], [10, 20, 40]), 0.3
    tokens = accuracy = 0.0
    for falls in range(8):
        thinks = torch.tensor([falls >> i & 1 for i in range(3)], dtype=torch.float64)
        chance = (p**thinks * (1 - p) ** (1 - thinks)).prod()
        tokens += chance * (both.direct_tokens * (1 - thinks) + both.thinking_tokens * thinks).mean()
        accuracy += chance * (both.direct_right * (1 - thinks) + both.thinking_right * thinks).mean()
    assert coin(both, float(tokens)) == pytest.approx(float(accuracy), abs=1e-12)


def test_coin_ends_where_it_never_and_where_it_always_thinks():
    assert coin(BOTH, 22 / 6) == coin(BOTH, 0) == pytest.approx(2 / 6)
    assert coin(BOTH, 132.5 / 6) == coin(BOTH, 1000) == pytest.approx(4.75 / 6)


def test_confidence_that_knows_beats_the_coin_and_one_that_does_not_loses_to_it():
    """Blind confidence pays for direct answers that it throws away; the coin does not."""
    both = random_answers(1, problems=2000)
    knows = at_threshold(dataclasses.replace(both, confidence=both.direct_right), 0.5)
    assert knows["accuracy"] > knows["coin"] + 0.1
    own = at_threshold(both, 0.5)
    assert own["accuracy"] > own["coin"] + 0.02
    blind = dataclasses.replace(both, confidence=torch.rand(2000, generator=torch.Generator().manual_seed(0)))
    lost = [row["coin"] - row["accuracy"] for row in adaptive_curve(blind)[::100]]
    assert sum(lost) / len(lost) > 0.005


def test_thought_that_is_no_longer_than_an_answer_leaves_no_choice():
    with pytest.raises(ValueError, match="3.0 tokens with a thought, 3.0 without: expected more with one"):
        adaptive_curve(BothModes([0.5], [0], [1], [3], [3]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"confidence": [0.5]}, r"direct_right has shape \(6,\), confidence \(1,\)"),
        ({"thinking_tokens": [[3.0] * 6]}, r"thinking_tokens has shape \(1, 6\), confidence \(6,\)"),
        ({"direct_right": [1, 0, 0, 1, 0, 2]}, "direct_right = .*: expected 0 to 1"),
        ({"thinking_right": [-1.0] * 6}, "thinking_right = .*: expected 0 to 1"),
        ({"confidence": [math.nan] * 6}, "confidence = .*: expected finite numbers"),
        ({"direct_tokens": [math.inf] * 6}, "direct_tokens = .*: expected finite numbers"),
        (dict.fromkeys(vars(BOTH), []), "expected one number for each problem, one problem at least"),
    ],
)
def test_answers_that_do_not_fit_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(BOTH, **changes)


# ---- a model, asked in both modes -----------------------------------------------------------------------------------


def eager():
    """A model with the book's symbols that closes thoughts and ends answers often, and says no other tag often."""
    model = make_model(CONFIGS["mla"].replace(vocab_size=TOKENIZER.vocab_size), seed=2)
    with torch.no_grad():
        model.lm_head.weight[[TOKENIZER.id(tag) for tag in SPECIAL]] *= 0.2
        model.lm_head.weight[[END, TOKENIZER.id(END_THINK)]] *= 10
    return model


def problems():
    return [*measure.held_out(shell_game, 6), *measure.held_out(countdown, 6)]


def check_answers(module, monkeypatch):
    """What each mode is graded on and charged for: what the model says to that mode's prompt, and nothing else."""
    model, asked, graded = eager(), problems(), []

    def longest_wins(asked, answer):
        graded.append((asked.prompt, asked.thinking))
        return len(answer) % 2 == 0

    monkeypatch.setattr(modes, "is_right", longest_wins)
    both = module.answer_in_both_modes(model, asked, samples=3, temperature=1.2, max_new_tokens=20, seed=4)
    prompts = [TOKENIZER.encode(prompt_text(problem.prompt, thinking=False)) for problem in asked]
    said, confidence = answer_directly(model, prompts, 16, END)
    assert torch.equal(both.confidence, confidence) and both.direct_tokens.tolist() == [len(x) for x in said.tokens]
    responses = [parse_response(END_THINK + TOKENIZER.decode(tokens)) for tokens in said.tokens]
    right = [response is not None and len(response.answer) % 2 == 0 for response in responses]
    assert both.direct_right.tolist() == right
    thinking = modes.in_mode(asked, thinking=True)
    thoughts = measure.ask(model, thinking, 3, 1.2, 20, seed=4)
    lengths = [[len(TOKENIZER.encode(text)) for text in texts] for texts in thoughts]
    assert both.thinking_tokens.tolist() == pytest.approx([sum(row) / 3 for row in lengths])
    assert torch.equal(both.thinking_right, measure.grade(modes, thinking, thoughts).mean(1))
    assert {thinks for _, thinks in graded} == {True, False}
    return both


def test_each_mode_is_asked_graded_and_charged(monkeypatch):
    both = check_answers(adaptive, monkeypatch)
    assert (both.confidence == 0).any() and 0 < both.direct_right.sum() < 12, "a real test"
    assert len(both.direct_tokens.unique()) > 2 < len(both.thinking_right.unique()), "a real test"


def test_at_a_threshold_is_what_a_model_that_chooses_would_have_had():
    """Greedy thoughts: they do not depend on who else thinks."""
    model, asked = eager(), problems()
    both = answer_in_both_modes(model, asked, temperature=0, max_new_tokens=20)
    prompts = [[TOKENIZER.encode(prompt_text(p.prompt, thinking)) for p in asked] for thinking in (False, True)]
    for threshold in (0, both.confidence.median().item(), math.inf):
        said = generate_adaptively(model, *prompts, threshold, 20, temperature=0, stop=END)
        row = at_threshold(both, threshold)
        assert row["tokens"] == pytest.approx(said.spent.double().mean().item())
        assert row["share"] == said.thinks.double().mean().item()


MISTAKES = {
    "direct answers are sampled thoughts": (check_answers, "thinking=mode) for mode in (False, True)",
                                            "thinking=mode) for mode in (True, True)"),
    "modes change places": (check_answers, "for mode in (False, True)", "for mode in (True, False)"),
    "one sample's tokens": (check_answers, "dtype=torch.float64).mean(1),\n", "dtype=torch.float64)[:, 0],\n"),
    "the prompt's tag is charged": (check_answers, "[len(tokens) for tokens in said.tokens]",
                                    "[len(tokens) + 1 for tokens in said.tokens]"),
    "any of the samples": (check_answers, "thoughts).mean(1)", "thoughts).amax(1)"),
    "without the prompt's tag": (check_answers, "modes.turn_text(problem, TOKENIZER.decode(tokens))",
                                 "TOKENIZER.decode(tokens)"),
    "thinking at the threshold too": (check_curve, "both.confidence < threshold", "both.confidence <= threshold"),
    "the attempt is free": (check_curve, "(both.direct_tokens + thinks * both.thinking_tokens)",
                            "torch.where(thinks, both.thinking_tokens, both.direct_tokens)"),
    "right in the other mode": (check_curve, "(thinks, both.thinking_right, both.direct_right)",
                                "(thinks, both.direct_right, both.thinking_right)"),
    "nobody always thinks": (check_curve, ", math.inf]", ", 0.5]"),
    "equal confidences one by one": (check_curve, "both.confidence.unique()", "both.confidence.sort()[0]"),
    "the coin tries first": (check_curve, "always = both.direct_tokens.mean().item(), both.thinking_tokens.mean()",
                             "always = both.direct_tokens.mean().item(), 2 * both.thinking_tokens.mean()"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_planted_mistake_shows(mistake, monkeypatch):
    check, right, wrong = MISTAKES[mistake]
    with pytest.raises(AssertionError):
        check(planted(adaptive, right, wrong), *([monkeypatch] if check is check_answers else []))


# ---- calibration ----------------------------------------------------------------------------------------------------


def test_calibration_is_counted_bin_by_bin():
    confidence = [0, 0.1, 0.2, 0.21, 0.7, 0.9, 1]
    rows = calibration(confidence, [0, 1, 0, 1, 0, 1, 1])
    assert [(row["low"], row["high"], row["problems"]) for row in rows] == [(0, 0.2, 3), (0.2, 0.4, 1), (0.6, 0.8, 1),
                                                                          (0.8, 1, 2)]  # fmt: skip
    assert [row["confidence"] for row in rows] == pytest.approx([0.1, 0.21, 0.7, 0.95])
    assert [row["accuracy"] for row in rows] == pytest.approx([1 / 3, 1, 0, 1])
    (everything,) = calibration(confidence, [0, 1, 0, 1, 0, 1, 1], bins=1)
    assert everything["problems"] == 7 and everything["accuracy"] == pytest.approx(4 / 7)


def test_confidence_that_means_what_it_says_is_calibrated():
    both = random_answers(0, problems=20_000)  # right with the chance of the confidence
    for row in calibration(both.confidence, both.direct_right):
        assert abs(row["confidence"] - row["accuracy"]) < 4 * 0.5 / math.sqrt(row["problems"])


@pytest.mark.parametrize(
    ("confidence", "right", "bins", "message"),
    [
        ([0.5], [1, 0], 5, r"confidence of shape \(1,\), right of \(2,\)"),
        ([], [], 5, "P at least 1"),
        ([1.5], [1], 5, r"confidence = \[1.5\]: expected numbers from 0 to 1"),
        ([0.5], [-1], 5, r"right = \[-1.0\]"),
        ([math.nan], [1], 5, r"confidence = \[nan\]"),
        ([0.5], [1], 0, "bins = 0: expected a whole number of 1 or more"),
        ([0.5], [1], 2.5, "bins = 2.5"),
    ],
)
def test_bad_confidences_are_named(confidence, right, bins, message):
    with pytest.raises(ValueError, match=message):
        calibration(confidence, right, bins)

"""How much to think: levels follow a curve, confidence is the model's own, and every token is counted."""

import itertools
import math

import pytest
import torch
from planted import planted
from tiny import CONFIGS, make_model, make_tokens

from dsmini.inference import effort
from dsmini.inference.budget import generate_with_budget
from dsmini.inference.effort import (
    answer_directly,
    effort_budgets,
    generate_adaptively,
    generate_at_effort,
    probability,
)
from dsmini.inference.generate import generate
from dsmini.language.chat import EFFORTS

STOP, END, WAIT = (3, 8, 19), 31, 5
CURVE = [{"budget": budget, "accuracy": accuracy}
         for budget, accuracy in ((0, 0.1), (8, 0.4), (16, 0.35), (32, 0.7), (64, 0.82), (128, 0.8))]  # fmt: skip


def prompts_of(config, lengths=(3, 9, 1, 5, 2, 6, 4, 7), seed=0):
    return [make_tokens(config, 1, length, seed=seed + i)[0] for i, length in enumerate(lengths)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def quick(name="mla", gain=1.5):
    """A tiny model that ends an answer often, and now and then not."""
    model = make_model(CONFIGS[name])
    with torch.no_grad():
        model.lm_head.weight[list(STOP)] *= gain
    return model


@torch.no_grad()
def slow_probability(model, prompt, answer):
    """Token after token, each by itself."""
    said, chance = prompt.tolist(), 1.0
    for token in answer.tolist():
        chance *= model(torch.tensor([said]))[0, -1].softmax(-1)[token].item()
        said.append(token)
    return chance


# ---- levels ---------------------------------------------------------------------------------------------------------


def test_level_is_the_smallest_budget_that_reaches_its_share():
    assert effort_budgets(CURVE) == {"low": 8, "medium": 32, "high": 64}  # of 0.8: 0.4, 0.64, 0.8
    assert effort_budgets(CURVE[::-1]) == effort_budgets(CURVE), "in any order"
    assert effort_budgets(CURVE, {"none": 0, "some": 0.51, "all": 1}) == {"none": 0, "some": 32, "all": 64}
    assert effort_budgets(CURVE[:1]) == {"low": 0, "medium": 0, "high": 0}
    hopeless = [{"budget": budget, "accuracy": 0.0} for budget in (4, 2)]
    assert effort_budgets(hopeless) == {"low": 2, "medium": 2, "high": 2}


def test_levels_are_those_of_the_template_that_has_them():
    assert tuple(effort.SHARES) == EFFORTS


@pytest.mark.parametrize(
    ("curve", "shares", "message"),
    [
        ([], effort.SHARES, "curve: it has no rows"),
        (CURVE, {"high": 1.1}, "shares: 'high' has 1.1, expected 0 to 1"),
        (CURVE, {"low": -0.1, "high": 1}, "shares: 'low' has -0.1"),
        (CURVE, {"low": math.nan}, "shares: 'low' has nan"),
    ],
)
def test_bad_curves_and_shares_are_named(curve, shares, message):
    with pytest.raises(ValueError, match=message):
        effort_budgets(curve, shares)


def test_generation_at_a_level_is_generation_with_its_budget():
    model, budgets = quick(), {"low": 1, "medium": 4, "high": 9}
    prompts, settings = prompts_of(model.config)[:4], {"end_think": END, "wait": WAIT, "stop": STOP}
    for level in ("medium", ["low", "high", "low", "medium"]):
        said = generate_at_effort(model, prompts, 12, level, budgets, generator=seeded(), **settings)
        budget = 4 if level == "medium" else [1, 9, 1, 4]
        expected = generate_with_budget(model, prompts, 12, budget, generator=seeded(), **settings)
        assert all(map(torch.equal, said.tokens, expected.tokens)) and said.closed_by_force.any()
        assert torch.equal(said.thought, expected.thought)


@pytest.mark.parametrize("level", ["huge", ["low", "huge"]])
def test_level_without_a_budget_is_named(level):
    model = quick()
    with pytest.raises(ValueError, match="effort = 'huge', expected one of low, high"):
        generate_at_effort(model, prompts_of(model.config)[:2], 5, level, {"low": 1, "high": 2})


def test_there_is_one_level_for_each_row():
    model = quick()
    with pytest.raises(ValueError, match=r"budget has shape \(3,\)"):
        generate_at_effort(model, prompts_of(model.config)[:2], 5, ["low"] * 3, {"low": 1}, end_think=END, wait=WAIT)


# ---- confidence -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gqa", "mla", "mla, experts"])
def test_probability_is_the_product_of_the_tokens_own(name):
    model = quick(name, gain=2)
    prompts, lengths = prompts_of(model.config), set()
    for settings in ({}, {"temperature": 0}, {"temperature": 0.3}, {"top_k": 4}):
        answers = generate(model, prompts, 6, generator=seeded(), stop=STOP, **settings).tokens
        lengths |= {len(answer) for answer in answers}
        expected = [slow_probability(model, *pair) for pair in zip(prompts, answers, strict=True)]
        assert probability(model, prompts, answers).tolist() == pytest.approx(expected, rel=1e-9)
    assert len(lengths) > 2, "a real test"


def test_probability_is_that_of_sampling_at_temperature_1_and_at_no_other():
    model = quick()
    prompts = prompts_of(model.config)
    said = generate(model, prompts, 6, generator=seeded(), stop=STOP)
    drawn = torch.stack([log_probs.sum().exp() for log_probs in said.log_probs])
    torch.testing.assert_close(probability(model, prompts, said.tokens), drawn, rtol=1e-9, atol=0)
    cooler = generate(model, prompts, 6, temperature=0.5, generator=seeded(), stop=STOP)
    drawn = torch.stack([log_probs.sum().exp() for log_probs in cooler.log_probs])
    assert (probability(model, prompts, cooler.tokens) / drawn - 1).abs().min() > 0.01


def test_probabilities_of_all_answers_sum_to_1():
    """Answers of one token that stops, and of two: one of them is said."""
    model = make_model(CONFIGS["mla"].replace(vocab_size=24))
    stop = {3, 8, 19}
    answers = [[end] for end in stop]
    answers += [list(pair) for pair in itertools.product(set(range(24)) - stop, range(24))]
    assert probability(model, [torch.tensor([5, 1, 7])] * len(answers), answers).sum() == pytest.approx(1, abs=1e-12)


def test_probability_is_float64_and_needs_no_gradient():
    model = quick().float()
    prompts = prompts_of(model.config)
    chances = probability(model, prompts, [[1, 2, 3]] * len(prompts))
    assert chances.dtype == torch.float64 and chances.shape == (8,) and not chances.requires_grad
    exact = probability(model.double(), prompts, [[1, 2, 3]] * len(prompts))
    torch.testing.assert_close(chances, exact, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("prompts", "answers", "message"),
    [
        ([[1], [2]], [[3]], "2 prompts, 1 answers: expected one for each"),
        ([], [], "prompts: there are none"),
        ([[1]], [[]], r"prompts\[0\] is empty"),
        ([[1]], [[61]], "holds 61: expected 0 <= token < vocab_size = 61"),
    ],
)
def test_answers_that_are_none_have_no_probability(prompts, answers, message):
    with pytest.raises(ValueError, match=message):
        probability(quick(), prompts, [torch.tensor(answer, dtype=torch.int64) for answer in answers])


def test_direct_answers_are_greedy_and_cut_off_ones_have_no_confidence():
    model = quick()
    prompts = prompts_of(model.config)
    said, confidence = answer_directly(model, prompts, 4, STOP)
    greedy = generate(model, prompts, 4, temperature=0, stop=STOP)
    assert all(map(torch.equal, said.tokens, greedy.tokens)) and torch.equal(said.stopped, greedy.stopped)
    assert 0 < said.stopped.sum() < 8, "a real test"
    expected = [slow_probability(model, *pair) for pair in zip(prompts, said.tokens, strict=True)]
    for ended, found, chance in zip(said.stopped.tolist(), confidence.tolist(), expected, strict=True):
        assert found == pytest.approx(chance, rel=1e-9) if ended else found == 0


# ---- the adaptive choice --------------------------------------------------------------------------------------------


def check_choice(module):
    """All that `generate_adaptively` promises, at each threshold that makes a difference."""
    model = quick()
    direct, thinking = prompts_of(model.config), prompts_of(model.config, seed=50)
    attempts = generate(model, direct, 4, temperature=0, stop=STOP)
    chances = [slow_probability(model, *pair) for pair in zip(direct, attempts.tokens, strict=True)]
    chances = torch.tensor(chances, dtype=torch.float64) * attempts.stopped
    measured = module.generate_adaptively(model, direct, thinking, 0, 9, 4, stop=STOP).confidence
    torch.testing.assert_close(measured, chances, rtol=1e-9, atol=0)
    for threshold in (0, *measured.tolist(), 2, math.inf):  # at a confidence itself: that one does not think
        said = module.generate_adaptively(model, direct, thinking, threshold, 9, 4, 1.2, 0.9, seeded(2), STOP)
        thinks = [chance < threshold for chance in measured.tolist()]
        rows = [i for i, thought in enumerate(thinks) if thought]
        assert said.thinks.tolist() == thinks and torch.equal(said.confidence, measured)
        assert all(map(torch.equal, said.direct, attempts.tokens))
        tokens, stopped = list(attempts.tokens), attempts.stopped.tolist()
        spent = [len(attempt) for attempt in attempts.tokens]
        if rows:
            prompts = [thinking[row] for row in rows]
            thoughts = generate(model, prompts, 9, 1.2, 0.9, generator=seeded(2), stop=STOP)
            for row, thought, ended in zip(rows, thoughts.tokens, thoughts.stopped.tolist(), strict=True):
                tokens[row], stopped[row], spent[row] = thought, ended, spent[row] + len(thought)
        assert len(said.tokens) == 8 and all(map(torch.equal, said.tokens, tokens))
        assert said.stopped.tolist() == stopped and said.spent.tolist() == spent
    return measured


def test_only_doubtful_questions_are_thought_about_and_every_token_is_counted():
    confidence = check_choice(effort)
    assert len(confidence.unique()) > 5 and (confidence == 0).any(), "a real test"


MISTAKES = {
    "confidence of the greedy distribution": (
        "probability(model, prompts, said.tokens) * said.stopped",
        "torch.stack([x.sum().exp() for x in said.log_probs]).double() * said.stopped",
    ),
    "confidence in what was cut off": ("probability(model, prompts, said.tokens) * said.stopped",
                                       "probability(model, prompts, said.tokens)"),
    "the stop token left out": ("(position < ends[:, None])", "(position < ends[:, None] - 1)"),
    "the first token left out": ("(starts[:, None] <= position)", "(starts[:, None] < position)"),
    "the prompt's last token counted": ("(starts[:, None] <= position)", "(starts[:, None] - 1 <= position)"),
    "padding counted": ("& (position < ends[:, None])", ""),
    "the mean of the tokens": (".masked_fill(~said, 0).sum(-1).exp()",
                               ".masked_fill(~said, 0).sum(-1).div(lengths).exp()"),
    "thinking at the threshold too": ("confidence < threshold", "confidence <= threshold"),
    "thinking where it is sure": ("confidence < threshold", "confidence > threshold"),
    "the direct attempt is free": ("spent[row] += len(said)", "spent[row] = len(said)"),
    "thinking in the wrong mode": ("[thinking_prompts[row] for", "[direct_prompts[row] for"),
    "the end of the direct answer": ("tokens[row], stopped[row] = said, ended", "tokens[row] = said"),
    "direct answers are overwritten": ("list(direct.tokens)", "direct.tokens"),
    "direct answers are sampled": ("max_new_tokens, temperature=0,", "max_new_tokens, temperature=1,"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_planted_mistake_shows(mistake):
    wrong = planted(effort, *MISTAKES[mistake])
    torch.manual_seed(0)
    with pytest.raises(AssertionError):
        check_choice(wrong)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"thinking_prompts": [[1]]}, "2 direct_prompts, 1 thinking_prompts: expected each question in both modes"),
        ({"threshold": -0.1}, "threshold = -0.1: expected a number of 0 or more"),
        ({"threshold": math.nan}, "threshold = nan"),
        ({"max_new_tokens": 0}, "max_new_tokens = 0"),
        ({"max_direct_tokens": 0}, "max_new_tokens = 0"),
        ({"temperature": -1}, "temperature = -1"),
        ({"top_p": 0}, "top_p = 0"),
        ({"stop": 61}, "stop holds 61"),
        ({"thinking_prompts": [[1], [61]]}, r"prompts\[1\] holds 61"),
        ({"direct_prompts": [], "thinking_prompts": []}, "prompts: there are none"),
    ],
)
def test_bad_requests_are_named_though_nothing_is_thought_about(changes, message):
    good = {"direct_prompts": [[1], [2]], "thinking_prompts": [[3], [4]], "threshold": 0, "max_new_tokens": 3}
    with pytest.raises(ValueError, match=message):
        generate_adaptively(quick(), **{**good, **changes})

"""Rollouts: what is trained on is what was said, with the probabilities that it was said with."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from planted import planted
from tiny import CONFIGS, difference, make_model

from dsmini.language.frame import prompt_text
from dsmini.language.tokenizer import END_THINK, EOS, THINK, TOKENIZER
from dsmini.tasks import countdown
from dsmini.tasks.draw import Draw
from dsmini.tasks.modes import Asked
from dsmini.training import rlvr, rollout
from dsmini.training.rollout import pad, roll_out, score, token_batches

END = TOKENIZER.id(EOS)
PROBLEMS = [SimpleNamespace(prompt=text) for text in ("cups 1 2", "reach 9 with 3 6", "1 + 2")]


def speaker(name="mla", seed=0):
    """A float64 model that knows the book's symbols, and ends an answer often."""
    model = make_model(CONFIGS[name].replace(vocab_size=TOKENIZER.vocab_size), seed)
    with torch.no_grad():
        model.lm_head.weight[END] *= 4
    return model


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def count(problem, text):
    return float(len(text.split()))


def say(model, temperature=1.0, group_size=5, max_new_tokens=9, seed=0, reward=count, problems=PROBLEMS, **options):
    return roll_out(model, problems, reward, group_size, max_new_tokens, temperature, random(seed), **options)


def mismatch(model, said, temperature=1.0, pad=pad):
    """The largest difference between the log-probabilities of the rollout and those that training sees."""
    inputs, targets, mask = pad(said.prompts, said.tokens)
    with torch.no_grad():
        log_probs, _ = rlvr.policy(model, inputs, targets, temperature)
    seen, drawn = log_probs[mask], torch.cat(said.log_probs)
    return difference(seen, drawn) if len(seen) == len(drawn) else math.inf


# ---- alignment ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gqa", "mla", "mla, compressed queries", "mla, experts", "mla, YaRN"])
@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
def test_training_sees_the_log_probabilities_of_the_sampling(name, temperature):
    model = speaker(name)
    said = say(model, temperature, group_size=10)
    assert len({len(tokens) for tokens in said.tokens}) > 1 and said.stopped.any()
    assert mismatch(model, said, temperature) < 1e-12


def test_sampling_at_another_temperature_than_training_shows():
    model = speaker()
    assert mismatch(model, say(model, 0.7), 1.0) > 0.1


MISALIGNED = {
    "targets are the inputs": ("rows[:, :-1], rows[:, 1:]", "rows[:, :-1], rows[:, :-1]"),
    "the mask begins one token late": ("(start <= position)", "(start < position)"),
    "the mask begins one token early": ("(start <= position)", "(start - 1 <= position)"),
    "the mask is that of the inputs": ("torch.arange(1, rows.shape[1])", "torch.arange(rows.shape[1] - 1)"),
    "the end of the sentence is left out": ("(position < end)", "(position < end - 1)"),
    "padding is trained on": ("& (position < end)", ""),
}


@pytest.mark.parametrize("mistake", MISALIGNED)
def test_planted_misalignment_shows(mistake):
    model = speaker()
    said = say(model)
    wrong = planted(rollout, *MISALIGNED[mistake])
    assert mismatch(model, said) < 1e-12 and mismatch(model, said, pad=wrong.pad) > 0.1


def test_padded_rows_are_prompt_and_response_with_the_targets_one_further():
    prompts, responses = [torch.tensor([5, 6, 7]), torch.tensor([8])], [torch.tensor([1, 2]), torch.tensor([3])]
    inputs, targets, mask = pad(prompts, responses)
    assert inputs.tolist() == [[5, 6, 7, 1], [8, 3, 0, 0]]
    assert targets.tolist() == [[6, 7, 1, 2], [3, 0, 0, 0]]
    assert mask.tolist() == [[False, False, True, True], [True, False, False, False]]


def test_mask_keeps_every_token_of_every_response_and_no_other():
    said = say(speaker())
    _, targets, mask = pad(said.prompts, said.tokens)
    assert torch.equal(targets[mask], torch.cat(said.tokens))
    ends = torch.stack([row[kept][-1] for row, kept in zip(targets, mask, strict=True)])
    assert torch.equal(ends == END, said.stopped) and said.stopped.any()


# ---- two modes in one batch -----------------------------------------------------------------------------------------

MIXED = [Asked(PROBLEMS[0], True), Asked(PROBLEMS[0], False), PROBLEMS[1], Asked(PROBLEMS[2], False)]
MODES = [True, False, True, False]


def check_modes(module):
    """Each row has its own mode's prompt, tokens and text: no response has the tag that its prompt has already."""
    model, asked = speaker(), []

    def reward(problem, text):
        asked.append(problem)
        return count(problem, text)

    said = module.roll_out(model, MIXED, reward, 5, 9, generator=random())
    assert said.problems == MIXED and asked == [problem for problem in MIXED for _ in range(5)]
    for row, (prompt, tokens) in enumerate(zip(said.prompts, said.tokens, strict=True)):
        i, j = divmod(row, 5)
        assert torch.equal(prompt, TOKENIZER.encode(prompt_text(MIXED[i].prompt, MODES[i])))
        assert said.texts[i][j] == ("" if MODES[i] else END_THINK) + TOKENIZER.decode(tokens)
        assert said.rewards[i, j] == count(MIXED[i], said.texts[i][j])
    assert mismatch(model, said) < 1e-12
    return said


def test_rows_of_both_modes_share_a_batch_and_training_sees_each_as_it_was_said():
    said = check_modes(rollout)
    assert said.texts[0] != [text.removeprefix(END_THINK) for text in said.texts[1]], "the modes are told apart"
    assert said.stopped.any() and len({len(tokens) for tokens in said.tokens}) > 2, "a real test"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("question_text(problem)) for", "question_text(problems[0])) for"),
        ("[problem for problem in problems for _ in range(group_size)]", "problems * group_size"),
        ("turn_text(*pair) for pair", "pair[1] for pair"),
        ("turn_text(*pair) for pair", "turn_text(problems[1], pair[1]) for pair"),
        ("[prompt for prompt in prompts for _ in range(group_size)]", "prompts * group_size"),
    ],
)
def test_planted_confusion_of_modes_shows(right, wrong):
    with pytest.raises(AssertionError):
        check_modes(planted(rollout, right, wrong))


def test_mode_that_is_not_the_one_asked_for_shows():
    """Rows that are trained on behind the other mode's tag are not what was said."""
    model = speaker()
    said = say(model, problems=MIXED)
    tags = torch.tensor([TOKENIZER.id(END_THINK), TOKENIZER.id(THINK)])
    other = [torch.cat((prompt[:-1], tags[tags != prompt[-1]])) for prompt in said.prompts]
    assert mismatch(model, said) < 1e-12 < 0.1 < mismatch(model, dataclasses.replace(said, prompts=other))


# ---- what a rollout holds -------------------------------------------------------------------------------------------


def test_rows_are_the_groups_one_after_another():
    said = say(speaker())
    assert len(said.prompts) == len(said.tokens) == len(said.log_probs) == len(said.stopped) == 3 * 5
    for i, problem in enumerate(PROBLEMS):
        prompt = TOKENIZER.encode(prompt_text(problem.prompt))
        for j in range(5):
            assert torch.equal(said.prompts[i * 5 + j], prompt)
            assert said.texts[i][j] == TOKENIZER.decode(said.tokens[i * 5 + j])
            assert said.rewards[i, j] == count(problem, said.texts[i][j])
    assert said.rewards.shape == (3, 5) and said.rewards.dtype == torch.float64 and said.parts == {}
    assert len({text for texts in said.texts for text in texts}) > 10


def test_same_generator_says_the_same_and_another_does_not():
    model = speaker()
    first, again, other = say(model), say(model), say(model, seed=1)
    assert first.texts == again.texts != other.texts
    assert all(torch.equal(a, b) for a, b in zip(first.log_probs, again.log_probs, strict=True))


def test_stop_ends_an_answer_and_without_one_all_are_of_full_length():
    model = speaker()
    said = say(model)
    for tokens, stopped in zip(said.tokens, said.stopped, strict=True):
        assert (tokens == END).sum() == stopped == (len(tokens) < 9 or tokens[-1] == END)
    endless = say(model, stop=())
    assert {len(tokens) for tokens in endless.tokens} == {9} and not endless.stopped.any()
    assert mismatch(model, endless) < 1e-12


def test_real_problems_and_their_own_numbers():
    draw = Draw("test")
    problems = [countdown.sample(draw) for _ in range(2)]
    said = say(speaker(), problems=problems, reward=lambda problem, text: problem.target)
    assert said.rewards.tolist() == [5 * [problems[0].target], 5 * [problems[1].target]]
    assert said.problems == problems


def test_named_parts_are_kept_and_summed():
    def reward(problem, text):
        return {"length": count(problem, text), "bonus": 0.5, "right": True}

    said = say(speaker(), reward=reward)
    assert said.parts.keys() == {"length", "bonus", "right"}
    assert (said.parts["bonus"] == 0.5).all() and (said.parts["right"] == 1).all()
    assert torch.equal(said.rewards, said.parts["length"] + 1.5)
    assert said.parts["length"].tolist() == [[count(None, text) for text in texts] for texts in said.texts]


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, None, "one", {}, {"a": 1.0, "b": math.nan}, {"a": math.inf, "b": -math.inf}, {"a": None}],
)
def test_reward_that_is_no_finite_number_is_shown_with_its_text(value):
    with pytest.raises(ValueError, match="the reward of 'yes' for '1 [+] 2' is .*: expected a finite number") as caught:
        score(PROBLEMS[1:], [["no"], ["yes"]], lambda problem, text: value if text == "yes" else 1.0)
    assert repr(value) in str(caught.value)


def test_parts_are_the_same_for_every_text():
    parts = iter([{"a": 1.0}, {"b": 1.0}])
    with pytest.raises(ValueError, match=r"reward: gave the parts \['a'\] and then others"):
        score(PROBLEMS[:1], [["yes", "no"]], lambda problem, text: next(parts))


# ---- micro-batches --------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 200))
def test_every_row_is_in_one_batch_longest_first_within_the_budget(lengths, budget):
    batches = token_batches(lengths, budget)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    ordered = [lengths[row] for batch in batches for row in batch]
    assert ordered == sorted(lengths, reverse=True)
    for number, batch in enumerate(batches, 1):
        width = lengths[batch[0]]
        assert len(batch) * width <= budget or len(batch) == 1
        assert number == len(batches) or (len(batch) + 1) * width > budget  # no batch ends before it is full


def test_one_long_row_does_not_pad_the_others():
    batches = token_batches([10, 10, 100, 10, 10], 100)
    assert batches == [[2], [0, 1, 3, 4]]

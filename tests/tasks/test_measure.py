"""Measurements: against a model that is made to say what the test wants it to say."""

import itertools
from math import comb

import pytest
import torch

from dsmini.config import ModelConfig
from dsmini.language.frame import END_THINK, prompt_text
from dsmini.language.tokenizer import EOS, TOKENIZER
from dsmini.model.transformer import Transformer
from dsmini.tasks import chains, countdown, measure, shell_game
from dsmini.tasks.draw import Draw
from dsmini.tasks.measure import (
    ask,
    grade,
    held_out,
    measure_chains,
    measure_countdown,
    measure_shell_game,
    pass_at_k,
    solved,
)

CONFIG = ModelConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=128, intermediate_size=16)


@pytest.fixture
def saying(monkeypatch):
    """saying(say): from now on every model says say(problem, sample number) to a problem, sample 0 when greedy."""

    def replace(say):
        def stand_in(model, problems, samples=1, temperature=1.0, **_):
            return [[say(problem, i) for i in range(samples)] for problem in problems]

        monkeypatch.setattr(measure, "ask", stand_in)

    return replace


def told(task, problem, style, draw):
    thought, answer = task.write(problem, style, draw)
    return f"{thought}{END_THINK}{answer}{EOS}"


@pytest.mark.parametrize("task", [shell_game, countdown, chains])
def test_problems_asked_are_held_out_different_and_always_the_same(task):
    problems = held_out(task, 120)
    assert {problem.split for problem in problems} == {"test"} and len({p.prompt for p in problems}) == 120
    assert problems == held_out(task, 120) and problems[:50] == held_out(task, 50)
    assert problems != held_out(task, 120, seed=1)
    assert {p.difficulty for p in held_out(shell_game, 20, swaps=(1, 2))} == {1, 2}


def test_a_model_is_asked_by_the_prompt_and_its_samples_stay_with_their_problem():
    torch.manual_seed(0)
    model, problems = Transformer(CONFIG).eval(), held_out(shell_game, 5)
    texts = ask(model, problems, samples=3, max_new_tokens=6)
    assert [len(said) for said in texts] == [3] * 5
    assert texts == ask(model, problems, samples=3, max_new_tokens=6), "it repeats"
    assert texts != ask(model, problems, samples=3, max_new_tokens=6, seed=1)
    (greedy,) = ask(model, problems[:1], temperature=0, max_new_tokens=1)[0]
    prompt = TOKENIZER.encode(prompt_text(problems[0].prompt))
    assert greedy == TOKENIZER.decode([int(model(prompt[None])[0, -1].argmax())])


def test_grades_are_of_answers_and_not_of_thoughts():
    problem = shell_game.ShellGame((2, 4), ((1, 2),))
    texts = [f"{END_THINK}1 4{EOS}", f"1 4{END_THINK}4 1{EOS}", f"{END_THINK}1 4", f"1 4{EOS}"]
    assert grade(shell_game, [problem], [texts]).tolist() == [[1, 0, 0, 0]]


def test_pass_at_k_needs_one_of_k():
    assert solved(torch.tensor([[0.0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]])) == pytest.approx((5 / 12, 2 / 3))


@pytest.mark.parametrize("n", [1, 4, 7])
def test_pass_at_k_is_the_share_of_sets_of_k_samples_that_hold_a_right_one(n):
    """Against all such sets, one by one."""
    counts = torch.arange(n + 1)
    for k in range(1, n + 1):
        sets = list(itertools.combinations(range(n), k))
        shares = [
            sum(min(chosen) < c for chosen in sets) / len(sets) for c in range(n + 1)
        ]  # sample i is right if i < c
        torch.testing.assert_close(
            pass_at_k(n, counts, k), torch.tensor(shares, dtype=torch.float64), rtol=0, atol=1e-14
        )


@pytest.mark.parametrize("p", [0.02, 0.3])
def test_pass_at_k_is_right_on_average_and_the_obvious_estimate_is_too_low(p):
    """Averaged over every count that n samples of a problem solved with chance p can have, each by its probability."""
    n, k = 12, 8
    c = torch.arange(n + 1, dtype=torch.float64)
    probability = torch.tensor([comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(n + 1)], dtype=torch.float64)
    true = 1 - (1 - p) ** k
    assert probability @ pass_at_k(n, c, k) == pytest.approx(true, abs=1e-14)
    assert probability @ (1 - (1 - c / n) ** k) < true - 0.01


def test_pass_at_k_takes_many_samples_and_counts_of_any_shape():
    n, c = torch.tensor([[10_000], [200]]), torch.tensor([3, 7])
    estimates = pass_at_k(n, c, 100)
    assert estimates.shape == (2, 2) and estimates.dtype == torch.float64
    for i, j in itertools.product(range(2), repeat=2):
        total, right = n[i].item(), c[j].item()
        exact = 1 - comb(total - right, 100) / comb(total, 100)  # of whole numbers with up to 240 digits
        assert estimates[i, j] == pytest.approx(exact, rel=1e-12)
    grades = torch.tensor([[0.0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    assert [pass_at_k(4, grades.sum(1), k).mean().item() for k in (1, 4)] == pytest.approx(solved(grades))


@pytest.mark.parametrize(
    ("n", "c", "k", "message"),
    [
        (4, [1, 5], 2, r"c = \[1.0, 5.0\], n = \[4.0, 4.0\]: expected whole numbers with 0 <= c <= n"),
        (4, -1, 2, "c = -1.0"),
        (4, 0.5, 2, "c = 0.5"),
        ([4, 8], 1, 5, r"k = 5, n = \[4.0, 8.0\]: expected a whole number with 1 <= k <= n"),
        (4, 1, 0, "k = 0"),
        (4, 1, 1.5, "k = 1.5"),
    ],
)
def test_bad_counts_are_named(n, c, k, message):
    with pytest.raises(ValueError, match=message):
        pass_at_k(torch.tensor(n), torch.tensor(c), k)


def test_chains_are_measured(saying):
    draw = Draw(0)
    saying(lambda problem, i: told(chains, problem, "careful" if i % 4 == 1 else "direct" if i % 2 else "sloppy", draw))
    seen = measure_chains(None, problems=60, samples=4, steps=(3, 4))
    assert seen["pass@4"] == 1 and seen["direct"] == 0.25 and 0.3 < seen["greedy"] < 0.8
    assert 0.5 < seen["pass@1"] < 0.9 and 0.25 < seen["complete"] < seen["pass@1"] - 0.2 and 8 < seen["tokens"] < 19
    saying(lambda problem, i: f"{END_THINK}1 1{EOS}")
    assert measure_chains(None, problems=5, samples=2) == {"greedy": 0, "pass@1": 0, "pass@2": 0, "direct": 1,
                                                          "complete": 0, "tokens": 4}  # fmt: skip


def test_shell_game_is_measured(saying):
    draw = Draw(0)
    saying(lambda problem, i: told(shell_game, problem, "careful", draw) if i % 4 == 1 else f"{END_THINK}1 1{EOS}")
    assert measure_shell_game(None, problems=30, samples=4) == pytest.approx(
        {"greedy": 0, "pass@1": 0.25, "pass@4": 1, "direct": 0.75, "complete": 0.25}
        | {"tokens": measure_shell_game(None, 30, 4)["tokens"]}
    )
    saying(lambda problem, i: "a 1-2")
    silent = measure_shell_game(None, problems=5, samples=2)
    assert silent == {"greedy": 0, "pass@1": 0, "pass@2": 0, "direct": 0, "complete": 0, "tokens": 2}


def test_countdown_is_measured(saying):
    draw = Draw(0)
    saying(lambda problem, i: told(countdown, problem, "solve" if i else "search", draw))
    honest = measure_countdown(None, problems=60, samples=2)
    assert honest["sums"] == honest["marks"] == honest["right_given_yes"] == honest["pass@2"] == 1
    assert honest["pass@1"] == honest["yes"] > 0.5 and honest["malformed"] == 0 and 1.5 < honest["attempts"] < 3
    assert 0 < honest["greedy"] < 0.5


def test_false_sums_and_marks_are_counted(saying):
    def say(problem, i):
        a, b, c = problem.numbers
        wrong = f"{a} + {b} = 0 + {c} = {c} reach {problem.target} yes"
        return f"{wrong} reach no{END_THINK}{a} + {b} + {c}{EOS}" if i else f"{wrong}{END_THINK}{a} + {b} - {c}{EOS}"

    saying(say)
    false = measure_countdown(None, problems=40, samples=2)
    assert false["sums"] == 0.5 and false["attempts"] == 1.5 and false["malformed"] == pytest.approx(1 / 3)
    assert false["yes"] == 0.5 and false["right_given_yes"] < 0.5 and false["marks"] < 0.3

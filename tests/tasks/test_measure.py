"""Measurements: against a model that is made to say what the test wants it to say."""

import pytest
import torch

from dsmini.config import ModelConfig
from dsmini.language.frame import END_THINK, prompt_text
from dsmini.language.tokenizer import EOS, TOKENIZER
from dsmini.model.transformer import Transformer
from dsmini.tasks import countdown, measure, shell_game
from dsmini.tasks.draw import Draw
from dsmini.tasks.measure import ask, grade, held_out, measure_countdown, measure_shell_game, solved

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


@pytest.mark.parametrize("task", [shell_game, countdown])
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

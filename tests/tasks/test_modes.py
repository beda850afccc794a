"""Two modes: each is asked by V3.1's own prompt, both are read alike, and no leak goes unseen."""

import dataclasses

import pytest
import torch
from planted import planted
from tiny import CONFIGS, make_model

from dsmini.language.chat import render
from dsmini.language.frame import Response, parse_response, prompt_text
from dsmini.language.tokenizer import ASSISTANT, BOS, END_THINK, EOS, THINK, TOKENIZER, USER
from dsmini.tasks import chains, countdown, measure, modes, rewards, shell_game
from dsmini.tasks.countdown import Countdown
from dsmini.tasks.modes import Asked, in_both_modes, in_mode, mode_kept, said_text, turn_text
from dsmini.tasks.shell_game import ShellGame
from dsmini.tasks.stream import stream

GAME = ShellGame((2, 4), ((1, 2), (3, 4)))  # the balls end under cups 1 and 3
SUM = Countdown((3, 9, 7), 30)
THOUGHT = "a 1-2 1 4 b 3-4 1 3"


def ids(*symbols):
    return [TOKENIZER.id(symbol) for symbol in symbols]


# ---- what is asked --------------------------------------------------------------------------------------------------


def check_prompts(module):
    for problem in (GAME, SUM, *measure.held_out(chains, 3)):
        message = {"role": "user", "content": problem.prompt}
        for thinking, tag in ((True, THINK), (False, END_THINK)):
            found = TOKENIZER.encode(module.question_text(module.Asked(problem, thinking))).tolist()
            assert found == ids(BOS, USER, *problem.prompt.split(), ASSISTANT, tag)
            assert found == TOKENIZER.encode(render([message], "deepseek-v3.1", thinking=thinking)).tolist()
        assert module.question_text(problem) == prompt_text(problem.prompt), "a plain problem is thought about"


def test_prompts_are_v31s_own_token_by_token():
    check_prompts(modes)


def test_problem_that_is_asked_in_a_mode_is_the_same_problem():
    for problem in (GAME, SUM):
        for asked in (Asked(problem, True), *in_mode([problem], False)):
            assert (asked.prompt, asked.answer) == (problem.prompt, problem.answer)
            assert (asked.difficulty, asked.split) == (problem.difficulty, problem.split)
            assert modes.is_right(asked, problem.answer) and not modes.is_right(asked, "1 1")
            assert rewards.is_right(asked, problem.answer) and not rewards.is_right(asked, "1 1")
    assert modes.is_right(Asked(SUM, False), "7 * 3 + 9"), "by the task's verifier: another right answer"
    assert [modes.is_thinking(problem) for problem in (Asked(GAME, True), Asked(GAME, False), GAME)] == [1, 0, 1]
    with pytest.raises(ValueError, match="expected a problem of a task"):
        modes.is_right(Asked("cups 1 2", True), "1 2")


def test_one_mode_is_for_all():
    asked = in_mode([GAME, SUM], thinking=False)
    assert asked == [Asked(GAME, False), Asked(SUM, False)] != in_mode([GAME, SUM], thinking=True)


def check_stream(module):
    plain = stream({shell_game: 1, countdown: 1}, 7, seed=5)
    both = module.in_both_modes(plain)
    for step in (3, 0, 3):
        asked = both(step)
        assert [problem.thinking for problem in asked] == [True] * 7 + [False] * 7
        assert [problem.problem for problem in asked] == 2 * plain(step)


def test_stream_in_both_modes_asks_each_problem_twice():
    check_stream(modes)
    assert in_both_modes(stream(shell_game, 3))(0) != in_both_modes(stream(shell_game, 3))(1)


# ---- what is said ---------------------------------------------------------------------------------------------------


def check_turns(module):
    """One verifier reads both modes, and what the model itself said comes back."""
    thought, direct = module.Asked(GAME, True), module.Asked(GAME, False)
    for problem, said, response in (
        (thought, f"{THOUGHT}{END_THINK}1 3{EOS}", Response(THOUGHT, "1 3")),
        (GAME, f"{THOUGHT}{END_THINK}1 3{EOS}", Response(THOUGHT, "1 3")),
        (direct, f"1 3{EOS}", Response("", "1 3")),
        (direct, f"{EOS}", Response("", "")),
        (direct, "1 3", None),  # cut off
        (direct, f"{END_THINK}1 3{EOS}", None),  # it closed what was closed
        (direct, f"{THINK}{THOUGHT}{END_THINK}1 3{EOS}", None),
        (thought, f"1 3{EOS}", None),
    ):
        turn = module.turn_text(problem, said)
        assert parse_response(turn) == response and module.said_text(problem, turn) == said
        assert rewards.accuracy(problem, turn) == float(response is not None and response.answer == "1 3")
        assert rewards.well_formed(problem, turn) == float(response is not None)


def test_both_modes_are_read_by_the_same_verifier():
    check_turns(modes)


@pytest.mark.parametrize("task", [shell_game, countdown, chains])
def test_what_is_said_without_thinking_is_graded_as_an_answer(task):
    asked = in_mode(measure.held_out(task, 5), thinking=False)
    texts = [[turn_text(problem, problem.answer + EOS), turn_text(problem, f"1 1{EOS}")] for problem in asked]
    assert measure.grade(modes, asked, texts).tolist() == [[1, 0]] * 5


# ---- leaks ----------------------------------------------------------------------------------------------------------

THINKING = {  # what is said in thinking mode -> whether it leaks, whether the mode is kept
    f"{THOUGHT}{END_THINK}1 3{EOS}": (False, True),
    f"{THOUGHT}{END_THINK}2 2{EOS}": (False, True),  # wrong, but thought about
    f"a{END_THINK}{EOS}": (False, True),
    f"{END_THINK}1 3{EOS}": (True, False),
    f" {END_THINK}1 3{EOS}": (True, False),
    f" \n\t{END_THINK}1 3{EOS}": (True, False),
    f"{END_THINK}{EOS}": (True, False),
    f"{END_THINK}1 3": (True, False),  # the answer is cut off, the thought was empty
    f"{END_THINK}": (True, False),
    f"{END_THINK}{THOUGHT}{END_THINK}1 3{EOS}": (True, False),
    f"{THINK}{END_THINK}1 3{EOS}": (True, False),  # the empty pair that Qwen3 writes
    f"{THINK} {END_THINK}1 3{EOS}": (True, False),
    f"{THOUGHT}{END_THINK}1 3{END_THINK}1 3{EOS}": (False, False),
    f"{THINK}{THOUGHT}{END_THINK}1 3{EOS}": (False, False),  # a second opening tag: no response, but a thought
    f"{THOUGHT}{END_THINK}1 3": (False, False),
    f"{THOUGHT}": (False, False),
    "": (False, False),
    f"1 3{EOS}": (False, False),  # a thought that never closes, whatever it looks like
    f"1 3{EOS}{END_THINK}": (False, False),
    f"{EOS}{END_THINK}1 3{EOS}": (False, False),
    f"{THOUGHT}{END_THINK}1 3{EOS}{END_THINK}": (False, True),  # behind the end
}
DIRECT = {
    f"1 3{EOS}": (False, True),
    f"2 2{EOS}": (False, True),
    f"{EOS}": (False, True),
    f"{THOUGHT} 1 3{EOS}": (False, True),  # aloud: no tag, so no leak; the answer is wrong
    "1 3": (False, False),
    "": (False, False),
    f"{THINK}{THOUGHT}{END_THINK}1 3{EOS}": (True, False),
    f"{THINK}{THOUGHT}": (True, False),
    f"{THINK}": (True, False),
    f"1 3{THINK}{EOS}": (True, False),
    f"{END_THINK}1 3{EOS}": (True, False),  # a second closing tag
    f"{END_THINK}{END_THINK}1 3{EOS}": (True, False),
    f"1 3{END_THINK}{EOS}": (True, False),
    f"1 3{END_THINK}": (True, False),
    f"{THOUGHT}{END_THINK}1 3{EOS}": (True, False),
    f"{THINK}{END_THINK}1 3{EOS}": (True, False),
    f"1 3{EOS}{THINK}": (False, True),  # behind the end
}


def check_leaks(module):
    for thinking, cases in ((True, THINKING), (False, DIRECT)):
        for said, (leak, kept) in cases.items():
            for problem in (module.Asked(GAME, thinking), *([GAME] if thinking else [])):
                turn = module.turn_text(problem, said)
                assert module.leaks(problem, turn) is leak, (thinking, said)
                assert (module.mode_kept(problem, turn), type(module.mode_kept(problem, turn))) == (kept, float)


def test_every_leak_is_seen_and_nothing_else_is_one():
    check_leaks(modes)


def test_mode_kept_is_a_reward_like_any_other():
    reward = rewards.combined(accuracy=(rewards.accuracy, 1.0), mode=(mode_kept, 0.5))
    thought, direct = Asked(GAME, True), Asked(GAME, False)
    assert reward(direct, turn_text(direct, f"1 3{EOS}")) == {"accuracy": 1.0, "mode": 0.5}
    assert reward(direct, turn_text(direct, f"3 1{EOS}")) == {"accuracy": 0.0, "mode": 0.5}
    assert reward(thought, turn_text(thought, f"{END_THINK}1 3{EOS}")) == {"accuracy": 1.0, "mode": 0.0}


MISTAKES = {
    "both modes are asked to think": (check_prompts, "prompt_text(problem.prompt, is_thinking(problem))",
                                      "prompt_text(problem.prompt)"),
    "the modes' prompts change places": (check_prompts, "prompt_text(problem.prompt, is_thinking(problem))",
                                         "prompt_text(problem.prompt, not is_thinking(problem))"),
    "a plain problem is not thought about": (check_prompts, '"thinking", True)', '"thinking", False)'),
    "other problems in the other mode": (check_stream, "problems(step)", "problems(step + mode)"),
    "direct ones first": (check_stream, "for mode in (True, False)", "for mode in (False, True)"),
    "one mode only": (check_stream, "for mode in (True, False)", "for mode in (True, True)"),
    "the prompt's tag is missing": (check_turns, "said if is_thinking(problem) else END_THINK + said", "said"),
    "the prompt's tag is in thoughts too": (check_turns, "said if is_thinking(problem) else END_THINK + said",
                                            "END_THINK + said"),
    "the prompt's tag is kept": (check_turns, "turn if is_thinking(problem) else turn.removeprefix(END_THINK)", "turn"),
    "every tag is the prompt's": (check_leaks, "turn.removeprefix(END_THINK)", 'turn.replace(END_THINK, "")'),
    "blank thoughts": (check_leaks, ".strip()", ""),
    "the empty pair": (check_leaks, '.replace(THINK, "")', ""),
    "cut-off thoughts leak": (check_leaks, "bool(closed) and not", "not"),
    "opening tags are fine": (check_leaks, "THINK in said or END_THINK in said", "END_THINK in said"),
    "closing tags are fine": (check_leaks, "THINK in said or END_THINK in said", "THINK in said"),
    "what follows the end is read": (check_leaks, "said, _, _ = said_text(problem, text).partition(EOS)",
                                     "said = said_text(problem, text)"),
    "leaks are rewarded": (check_leaks, " and not leaks(problem, text))", ")"),
    "cut-off answers are rewarded": (check_leaks, "parse_response(text) is not None and not leaks(problem, text)",
                                     "not leaks(problem, text)"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_planted_mistake_shows(mistake):
    check, right, wrong = MISTAKES[mistake]
    with pytest.raises(AssertionError):
        check(planted(modes, right, wrong))


# ---- a model is asked in the modes of its problems ------------------------------------------------------------------


def check_ask(module):
    """Problems in both modes in one batch: each sample is what the model says to its own prompt."""
    model = make_model(CONFIGS["mla"].replace(vocab_size=TOKENIZER.vocab_size))
    with torch.no_grad():
        model.lm_head.weight[TOKENIZER.id(EOS)] *= 1.5
    problems = [Asked(GAME, True), SUM, Asked(GAME, False), Asked(SUM, False), Asked(SUM, True)]
    greedy = module.ask(model, problems, samples=2, temperature=0, max_new_tokens=6)
    for problem, texts in zip(problems, greedy, strict=True):
        thinking = not (isinstance(problem, Asked) and not problem.thinking)
        said = TOKENIZER.encode(prompt_text(problem.prompt, thinking)).tolist()
        start = len(said)
        while len(said) < start + 6 and said[-1] != TOKENIZER.id(EOS):
            said.append(int(model(torch.tensor([said]))[0, -1].argmax()))
        assert texts == 2 * [("" if thinking else END_THINK) + TOKENIZER.decode(said[start:])]
    assert greedy[1] == greedy[4], "a plain problem is asked to be thought about"
    return greedy


def test_problems_of_both_modes_are_asked_in_one_batch():
    greedy = check_ask(measure)
    assert len({text for texts in greedy for text in texts}) == 4
    assert greedy[0][0] != said_text(Asked(GAME, False), greedy[2][0]), "the modes are told apart"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("prompts = [TOKENIZER.encode(question_text(problem)) for problem in problems]\n    generator = torch",
         "prompts = [TOKENIZER.encode(question_text(problems[0])) for problem in problems]\n    generator = torch"),
        ("asked = [problem for problem in problems for _ in range(samples)]", "asked = problems * samples"),
        ("turn_text(*pair) for pair", "pair[1] for pair"),
    ],
    ids=["all in the first one's mode", "samples change problems", "the prompt's tag is missing"],
)  # fmt: skip
def test_planted_mistake_in_asking_shows(right, wrong):
    with pytest.raises(AssertionError):
        check_ask(planted(measure, right, wrong))


def test_an_asked_problem_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Asked(GAME, True).thinking = False

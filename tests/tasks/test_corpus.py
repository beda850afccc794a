"""The corpus: the shares it promises, windows that repeat, and nothing that is held out."""

import re
from collections import Counter

import pytest
import torch

from dsmini.language.frame import prompt_text
from dsmini.language.tokenizer import BOS, END_THINK, EOS, TOKENIZER, USER
from dsmini.tasks import countdown, shell_game
from dsmini.tasks.corpus import KINDS, corpus, text_of
from dsmini.tasks.draw import Draw

SHARES = {"shell_game/careful": 1, "countdown/search": 2, "sums": 1}


def texts(shares, steps=20, batch_size=8, context=400):
    """All whole texts in some windows."""
    windows = corpus(shares, batch_size, context)
    for step in range(steps):
        for row in windows(step):
            yield from (text for text in TOKENIZER.decode(row).split(BOS)[1:] if text.endswith(EOS))


def problem_of(text):
    words = re.match(f"{re.escape(USER)}([^<]*)<", text)[1].split()
    if words[0] == "cups":
        swaps = tuple(tuple(int(cup) for cup in pair.split("-")) for pair in words[4::2])
        return shell_game.ShellGame((int(words[1]), int(words[2])), swaps)
    return countdown.Countdown(tuple(map(int, words[3:])), int(words[1]))


def answer_of(text):
    return text.removesuffix(EOS).rpartition(END_THINK)[2]


def test_windows_repeat_for_the_same_step_and_differ_between_steps_and_seeds():
    windows = corpus(SHARES, 4, 32, seed=1)
    assert windows(3).shape == (4, 33) and windows(3).dtype == torch.int64
    assert torch.equal(windows(3), corpus(dict(reversed(SHARES.items())), 4, 32, seed=1)(3)), "in any order of shares"
    assert not torch.equal(windows(3), windows(4))
    assert not torch.equal(windows(3), corpus(SHARES, 4, 32, seed=2)(3))


def test_corpus_is_the_same_on_every_python():
    """Written down once: a recipe must repeat where it was not written."""
    (row,) = corpus(SHARES, 1, 24)(0)
    text = prompt_text("reach 5 with 1 6 1") + "6 + 1 = 7 - 1 = 6 reach 5 no 6 - 1"
    assert TOKENIZER.decode(row) == text


def test_rows_start_with_a_text_and_hold_texts_back_to_back():
    bos, eos = TOKENIZER.id(BOS), TOKENIZER.id(EOS)
    rows = corpus(SHARES, 64, 127)(0)
    assert (rows[:, 0] == bos).all()
    starts = rows[:, 1:] == bos
    assert starts.any() and (rows[:, :-1][starts] == eos).all(), "a text begins where another ended"
    assert torch.equal(starts, rows[:, :-1] == eos)


def test_texts_come_in_their_shares():
    kinds = Counter(
        "sums" if USER not in text else "shell_game" if "cups" in text else "countdown" for text in texts(SHARES)
    )
    total = sum(kinds.values())
    assert total > 1000
    assert kinds["countdown"] / total == pytest.approx(0.5, abs=0.05)
    assert kinds["shell_game"] / total == pytest.approx(0.25, abs=0.05)


def test_easy_games_are_answered_at_once_and_others_have_any_number_of_swaps():
    easy = list(texts({"shell_game/easy": 1}))
    assert {problem_of(text).difficulty for text in easy} == {0, 1, 2}
    assert all("<think></think>" in text and shell_game.is_right(problem_of(text), answer_of(text)) for text in easy)
    assert {problem_of(text).difficulty for text in texts({"shell_game/careful": 1})} == set(range(10))


def test_no_problem_of_the_corpus_is_held_out():
    problems = [problem_of(text) for text in texts({kind: 1 for kind in KINDS if kind != "sums"})]
    assert len(problems) > 1000
    assert {problem.split for problem in problems} == {"train"}


def test_sums_are_right():
    draw = Draw(0)
    for _ in range(200):
        words = text_of("sums", draw).removeprefix(BOS).removesuffix(EOS).split()
        for left, operator, right, equals, result in zip(*[iter(words)] * 5, strict=True):
            assert equals == "=" and countdown.calculate(int(left), operator, int(right)) == int(result)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_in_the_vocabulary(kind):
    draw = Draw(kind)
    for _ in range(50):
        text = text_of(kind, draw)
        assert TOKENIZER.decode(TOKENIZER.encode(text)) == text
        assert text.startswith(BOS) and text.endswith(EOS)


@pytest.mark.parametrize("shares", [{"shell_game/fast": 1}, {"sums": 0}, {"sums": -1.0}, {"sums": float("nan")}])
def test_bad_shares_are_named(shares):
    with pytest.raises(ValueError, match=f"shares: '{next(iter(shares))}'.*expected a share above 0 of one of sums"):
        corpus(shares, 2, 8)

"""Thoughts in two languages: what is translated, what stays, and how often."""

import pytest

from dsmini.language.tokenizer import SECOND_LANGUAGE, TOKENIZER
from dsmini.tasks import shell_game
from dsmini.tasks.draw import Draw
from dsmini.tasks.languages import WORDS, mixed

THOUGHT = "a 1-2 1 4 b 3-4 1 3 wait b 3-4 2 5"


def test_all_numbers_in_words_or_none():
    assert mixed(THOUGHT, 0, Draw(0)) == THOUGHT
    assert mixed(THOUGHT, 1, Draw(0)) == "a 1-2 one four b 3-4 one three wait b 3-4 two five"
    assert mixed("", 1, Draw(0)) == ""


def test_a_step_is_in_one_language_and_half_of_the_steps_in_each():
    draw, foreign = Draw(1), 0
    for _ in range(300):
        words = mixed(THOUGHT, 0.5, draw).split()
        for first, second in (words[2:4], words[6:8], words[11:13]):
            assert (first in SECOND_LANGUAGE) == (second in SECOND_LANGUAGE)
            foreign += first in SECOND_LANGUAGE
    assert foreign / 900 == pytest.approx(0.5, abs=0.07)


def test_translating_back_gives_the_thought_and_its_length():
    back = {word: digit for digit, word in WORDS.items()}
    draw = Draw(2)
    for _ in range(50):
        thought, _ = shell_game.write(shell_game.sample(draw), "careful", draw)
        said = mixed(thought, 0.7, draw)
        assert " ".join(back.get(word, word) for word in said.split()) == thought
        assert len(TOKENIZER.encode(said)) == len(TOKENIZER.encode(thought))


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_bad_shares_are_named(share):
    with pytest.raises(ValueError, match="share = .*expected 0 to 1"):
        mixed(THOUGHT, share, Draw(0))

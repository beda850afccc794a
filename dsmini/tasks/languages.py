"""Thoughts in two languages: digits, as problems are asked, and the words `one` to `five`.

DeepSeek-R1-Zero mixed languages in its thoughts, because the base model had read several (R1 report, section 2.2); the
reward `language_consistency` is against that. The decision to know: a writer changes language between two runs of
numbers, never inside one, so a step of the shell game (`a 1-2 one four`) is in one language.
"""

from dsmini.language.tokenizer import SECOND_LANGUAGE

WORDS = dict(zip("12345", SECOND_LANGUAGE, strict=True))


def mixed(thought, share, draw):
    """A thought with each run of the numbers 1 to 5 in words with the chance `share`, else in digits as it was.

    Swaps (`1-2`) belong to both languages and stay. Raises ValueError for a share outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share = {share!r}: expected 0 to 1")
    words, inside = [], False
    for word in thought.split():
        if word in WORDS and not inside:
            foreign = draw.happens(share)
        inside = word in WORDS
        words.append(WORDS[word] if inside and foreign else word)
    return " ".join(words)

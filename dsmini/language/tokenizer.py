"""Two tokenizers with nothing to train: bytes for text, symbols for the book's tasks.

`ByteTokenizer`: a token is a byte of UTF-8. `SymbolTokenizer`: a token is a number, an operator, a word of the tasks or
one of DeepSeek's special tokens in its own spelling, bars and all (DeepSeek-V3's tokenizer.json; V3.1's card for the
tools). The one decision to know: its 128 ids never change. Words that a later chapter needs take the spare ids.
"""

import re

import torch

from dsmini.language.special import ASSISTANT, BOS, END_THINK, EOS, PAD, SPECIAL, THINK, TOOLS, USER  # noqa: F401

LARGEST_NUMBER = 63
_NUMBERS = tuple(str(number) for number in range(LARGEST_NUMBER + 1))
_OPERATORS = ("+", "-", "*", "/", "=")
_LABELS = tuple("abcdefghijkl")
_SWAPS = tuple(f"{i}-{j}" for i in range(1, 6) for j in range(i + 1, 6))
_WORDS = ("cups", "reach", "with", "wait", "yes", "no")
SECOND_LANGUAGE = ("one", "two", "three", "four", "five")  # the cups, for thoughts that mix languages (chapter 8)
_VOCABULARY = (*SPECIAL, *_NUMBERS, *_OPERATORS, *_LABELS, *_SWAPS, *_WORDS, *SECOND_LANGUAGE)


class ByteTokenizer:
    """Text to bytes and back.

    vocab_size is 256. encode(text) -> (T,) int64. decode(tokens) -> text; bytes that are no valid UTF-8 (a model may
    say anything) become the replacement character. Raises ValueError for a token outside 0..255.
    """

    vocab_size = 256

    def encode(self, text):
        return torch.frombuffer(bytearray(text.encode("utf-8")), dtype=torch.uint8).long() if text else self._empty()

    def decode(self, tokens):
        return bytes(_checked(tokens, self.vocab_size)).decode("utf-8", errors="replace")

    @staticmethod
    def _empty():
        return torch.zeros(0, dtype=torch.int64)


class SymbolTokenizer:
    """The words of the book's tasks to ids and back.

    vocab_size is 128. words: new words for the spare ids, the first for the lowest; what was there stays.
    encode(text) -> (T,) int64; special tokens stand anywhere, words are set apart by any white space.
    decode(tokens) -> text, with one space between two words and none beside a special token. So ids come back exactly,
    and so does text that is spaced that way.

    Raises ValueError for a symbol that it does not know, naming it and where it stands; for a token outside 0..127;
    and for words that are known already, hold white space, or are too many.
    """

    vocab_size = 128

    def __init__(self, words=()):
        spare = self.vocab_size - len(_VOCABULARY)
        if len(words) > spare:
            raise ValueError(f"words: {len(words)} of them, expected at most the {spare} spare ids")
        symbols = [*_VOCABULARY, *(f"<｜place▁holder▁no▁{i}｜>" for i in range(spare))]
        special = {*SPECIAL, *symbols[len(_VOCABULARY) + len(words) :]}
        for i, word in enumerate(words, len(_VOCABULARY)):
            if word in symbols or not word or set(word) & set("<>") or len(word.split()) != 1:
                raise ValueError(f"words: found {word!r}, expected a new word without white space, '<' and '>'")
            symbols[i] = word
        self._symbols = symbols
        self._is_word = [symbol not in special for symbol in symbols]
        self._ids = {symbol: i for i, symbol in enumerate(symbols)}
        either = "|".join(re.escape(symbol) for symbol in special)
        self._split = re.compile(rf"{either}|\S+?(?={either}|\s|$)")

    def encode(self, text):
        ids = []
        for match in self._split.finditer(text):
            if match[0] not in self._ids:
                raise ValueError(f"text: unknown symbol {match[0]!r} at character {match.start()}")
            ids.append(self._ids[match[0]])
        return torch.tensor(ids, dtype=torch.int64)

    def decode(self, tokens):
        parts, after_word = [], False
        for token in _checked(tokens, self.vocab_size):
            if after_word and self._is_word[token]:
                parts.append(" ")
            parts.append(self._symbols[token])
            after_word = self._is_word[token]
        return "".join(parts)

    def id(self, symbol):
        """The id of one symbol. Raises ValueError for one that is not in the vocabulary."""
        if symbol not in self._ids:
            raise ValueError(f"symbol = {symbol!r}: not in the vocabulary")
        return self._ids[symbol]


def _checked(tokens, vocab_size):
    """Tokens, a tensor or a sequence of ints, as a list; ValueError for one outside the vocabulary."""
    values = tokens.tolist() if isinstance(tokens, torch.Tensor) else list(tokens)
    outside = [value for value in values if not 0 <= value < vocab_size]
    if outside:
        raise ValueError(f"tokens: found {outside[0]}, expected 0 <= token < {vocab_size}")
    return values


TOKENIZER = SymbolTokenizer()

"""The smallest tokenizer: a token is a byte of UTF-8. Nothing to train, nothing unknown, 256 symbols."""

import torch


class ByteTokenizer:
    """Text to bytes and back.

    vocab_size is 256. encode(text) -> (T,) int64. decode(tokens) -> text; bytes that are no valid UTF-8 (a model may
    say anything) become the replacement character. Raises ValueError for a token outside 0..255.
    """

    vocab_size = 256

    def encode(self, text):
        return torch.frombuffer(bytearray(text.encode("utf-8")), dtype=torch.uint8).long() if text else self._empty()

    def decode(self, tokens):
        values = tokens.tolist() if isinstance(tokens, torch.Tensor) else list(tokens)
        outside = [value for value in values if not 0 <= value < self.vocab_size]
        if outside:
            raise ValueError(f"tokens: found {outside[0]}, expected 0 <= token < {self.vocab_size}")
        return bytes(values).decode("utf-8", errors="replace")

    @staticmethod
    def _empty():
        return torch.zeros(0, dtype=torch.int64)

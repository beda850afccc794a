"""Preallocated caches: full keys and values, MLA's latents, or latents and the indexer's keys.

A `Cache` belongs to a batch: it knows how many tokens each row holds, where a step's tokens go and who may see whom.
Its `layers[i]` stores the tensors of one layer. Memory is taken once, so a step writes its tokens in place instead of
copying everything (`torch.cat` would), and the size is known before the first token.

A step is `begin` -> every layer's `append` -> `finish`; a step that fails midway is simply not counted.
"""

import copy

import torch


class CacheFullError(ValueError):
    """Raised when a step has more tokens than a row of the cache can still take."""


class Cache:
    """The lengths and positions of a batch, and one store per layer. Made by `Transformer.new_cache`.

    batch_size: B, rows. max_tokens: S_max, tokens a row can hold. lengths: (B,) int64, tokens each row holds.
    """

    kind = ""

    def __init__(self, num_layers, batch_size, max_tokens, shapes, dtype=torch.float32, device=None):
        for name, value in (("batch_size", batch_size), ("max_tokens", max_tokens)):
            if value < 1:
                raise ValueError(f"{name} = {value!r}: expected 1 or more")
        self.batch_size, self.max_tokens = batch_size, max_tokens
        self.lengths = torch.zeros(batch_size, dtype=torch.int64, device=device)
        self._uniform = 0  # the common length while all rows are equally long, else None
        self._longest = 0
        self._step = None
        self.layers = [_LayerStore(self, shapes, dtype, device) for _ in range(num_layers)]

    @property
    def nbytes(self):
        """Bytes of the preallocated tensors of all layers."""
        return sum(buffer.nbytes for layer in self.layers for buffer in layer.buffers)

    @property
    def longest(self):
        """Tokens that the longest row holds."""
        return self._longest

    def begin(self, num_tokens, lengths=None):
        """Open a step of `num_tokens` new tokens a row; returns their positions, (B, T) or (1, T) if all rows agree.

        lengths: (B,) how many of a row's tokens are real, for right-padded rows; None means all.
        Raises CacheFullError, naming the row, if a row cannot take its tokens; the cache is then unchanged.
        """
        steps = torch.arange(num_tokens, device=self.lengths.device)
        if lengths is None and self._uniform is not None:
            end = self._uniform + num_tokens
            if end > self.max_tokens:
                self._refuse(0, self._uniform, num_tokens)
            self._step = (self._uniform, end, None, end)
            return (self._uniform + steps)[None]
        new = torch.full_like(self.lengths, num_tokens) if lengths is None else lengths.to(self.lengths)
        ends = self.lengths + new
        if int(ends.max()) > self.max_tokens:
            row = int(ends.argmax())
            self._refuse(row, int(self.lengths[row]), int(new[row]))
        positions = self.lengths[:, None] + steps  # (B, T); a padding token gets a position too, and is not stored
        rows, columns = (steps < new[:, None]).nonzero(as_tuple=True)
        self._step = (None, int(ends.max()), (rows, columns, positions[rows, columns]), ends)
        return positions

    def mask(self, positions):
        """Which stored tokens a step's tokens may see: None for "all of them" or "plainly causal" (`is_causal`).

        Otherwise (B or 1, 1, T, S) bool: key j is visible to the query at position p if j <= p. A padding slot lies
        behind its row's last real token, so causality hides it until a real token takes its place.
        """
        start, end, _, _ = self._step
        if start is not None and (positions.shape[1] == 1 or start == 0):
            return None
        keys = torch.arange(end, device=positions.device)
        return (keys <= positions[..., None])[:, None]

    def finish(self):
        """Close the step: its tokens now count."""
        _, end, _, ends = self._step
        if isinstance(ends, int):
            self._uniform, self._longest = ends, ends
            self.lengths.fill_(ends)
        else:
            self.lengths, self._longest = ends, end
            self._uniform = end if int(ends.min()) == end else None
        self._step = None

    def rewind(self, lengths):
        """Forget every row's tokens beyond `lengths`, (B,) int64: a rejected draft leaves no trace.

        Nothing is moved: the slots are written again when the next tokens come.
        Raises ValueError, naming the row, for a length that the row does not hold.
        """
        lengths = lengths.to(self.lengths)
        if bool(((lengths < 0) | (lengths > self.lengths)).any()):
            row = int(((lengths < 0) | (lengths > self.lengths)).nonzero()[0])
            raise ValueError(f"lengths[{row}] = {int(lengths[row])}: the row holds {int(self.lengths[row])} tokens")
        self._count(lengths.clone())

    def select(self, rows, max_tokens=None):
        """A new cache that holds some rows of this one, which stays as it is.

        rows: (N,) int64, in any order and as often as wanted: drops finished rows, or repeats a prompt that is to be
        continued in several ways. max_tokens: what a row of the new cache can hold, by default as much as here.
        Raises ValueError for a row that is not there, and where the rows hold more than max_tokens.
        """
        if rows.numel() == 0 or int(rows.min()) < 0 or int(rows.max()) >= self.batch_size:
            raise ValueError(f"rows: {rows.tolist()}, expected at least one number from 0 to {self.batch_size - 1}")
        rows = rows.to(self.lengths.device)
        new = copy.copy(self)
        new.batch_size, new.max_tokens = len(rows), self.max_tokens if max_tokens is None else max_tokens
        new._count(self.lengths[rows])
        if new.longest > new.max_tokens:
            raise ValueError(f"max_tokens = {max_tokens}: expected {new.longest} or more, which a row holds already")
        new.layers = [layer._select(new, rows) for layer in self.layers]
        return new

    def _count(self, lengths):
        self.lengths, self._longest = lengths, int(lengths.max())
        self._uniform = self._longest if int(lengths.min()) == self._longest else None

    def _refuse(self, row, held, new):
        raise CacheFullError(
            f"the cache is full: row {row} holds {held} tokens, and {new} more do not fit in max_tokens = "
            f"{self.max_tokens}; make a larger one with new_cache(batch_size, max_tokens)"
        )


class _LayerStore:
    """One layer's tensors, each (B, ..., S_max, width)."""

    def __init__(self, cache, shapes, dtype, device):
        self._cache = cache
        self.buffers = [
            torch.zeros(cache.batch_size, *heads, cache.max_tokens, width, dtype=dtype, device=device)
            for *heads, width in shapes
        ]

    def append(self, *new):
        """Store a step's tensors, each (B, ..., T, width); returns all that is stored so far, (B, ..., S, width)."""
        start, end, scattered, _ = self._cache._step
        for buffer, tensor in zip(self.buffers, new, strict=True):
            if start is not None:
                buffer[..., start:end, :] = tensor
            else:
                rows, columns, slots = scattered
                buffer.movedim(-2, 1)[rows, slots] = tensor.movedim(-2, 1)[rows, columns]
        seen = tuple(buffer[..., :end, :] for buffer in self.buffers)
        return seen if len(seen) > 1 else seen[0]

    def _select(self, cache, rows):
        """The same rows of every tensor, for a cache of its own; only what the longest row holds is copied."""
        new = copy.copy(self)
        new._cache, new.buffers = cache, []
        for buffer in self.buffers:
            *_, width = buffer.shape
            larger = buffer.new_zeros(cache.batch_size, *buffer.shape[1:-2], cache.max_tokens, width)
            larger[..., : cache.longest, :] = buffer[..., : cache.longest, :][rows]
            new.buffers.append(larger)
        return new


class FullCache(Cache):
    """Keys and values of every key/value head: layers[i].append(k, v) with k, v (B, G, T, d_h)."""

    kind = "full"

    def __init__(self, config, batch_size, max_tokens, dtype=torch.float32, device=None, num_layers=None):
        shape = (config.num_key_value_heads, config.head_dim)
        num_layers = config.num_hidden_layers if num_layers is None else num_layers
        super().__init__(num_layers, batch_size, max_tokens, (shape, shape), dtype, device)


class LatentCache(Cache):
    """MLA's one row per token: layers[i].append(latent), (B, T, d_c + d_r), normed latent and rotated key side by side.

    DeepSeek-V3 report, section 2.1.1: the two vectors that need to be cached.
    """

    kind = "latent"

    def __init__(self, config, batch_size, max_tokens, dtype=torch.float32, device=None, num_layers=None):
        shape = (config.kv_lora_rank + config.qk_rope_head_dim,)
        num_layers = config.num_hidden_layers if num_layers is None else num_layers
        super().__init__(num_layers, batch_size, max_tokens, (shape,), dtype, device)


class IndexedLatentCache(Cache):
    """MLA's row and the lightning indexer's key of every token: layers[i].append(latent, index_keys).

    latent: (B, T, d_c + d_r), as in `LatentCache`. index_keys: (B, T, d_I). DeepSeek-V3.2-Exp's inference code keeps
    the same two, the key in FP8.
    """

    kind = "indexed latent"

    def __init__(self, config, batch_size, max_tokens, dtype=torch.float32, device=None, num_layers=None):
        shapes = (config.kv_lora_rank + config.qk_rope_head_dim,), (config.index_head_dim,)
        num_layers = config.num_hidden_layers if num_layers is None else num_layers
        super().__init__(num_layers, batch_size, max_tokens, shapes, dtype, device)

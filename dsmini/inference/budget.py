"""Thinking on a budget: a thought is closed by force when it grows too long, and sent on when it ends too soon.

Budget forcing, Muennighoff et al. 2025, "s1: Simple test-time scaling", section 3.1; Qwen3's thinking budget is its
first half. The decision to know: a forced token takes the place of the token that was drawn, and everything else stays
as in `generate`. The row's other random numbers are the same, so a thought that keeps within its budget is written
exactly as without one.
"""

import dataclasses

import torch

from dsmini.inference.generate import Generation, check_request, generate
from dsmini.language.tokenizer import END_THINK, TOKENIZER

_WAIT, _END_THINK = TOKENIZER.id("wait"), TOKENIZER.id(END_THINK)


@dataclasses.dataclass(frozen=True)
class BudgetedGeneration(Generation):
    """What `generate_with_budget` wrote: a `Generation`, and what of it was not the model's own choice.

    forced: a list of (n,) bool, True where a token was put in place of the one drawn. Its log-probability is the one
    that the model gave to the forced token, -inf if it never could have drawn it. It belongs to no choice of the
    model: training has to leave it out. thought: (N,) int64, the length of each row's thought in tokens, forced words
    included; tags and stop tokens do not count. closed_by_force: (N,) bool, True where the budget ended the thought.
    """

    forced: list
    thought: torch.Tensor
    closed_by_force: torch.Tensor


def generate_with_budget(model, prompts, max_new_tokens, budget, temperature=1.0, top_p=1.0, top_k=None,
                         generator=None, stop=(), samples_per_prompt=1, progress=False, *, minimum=0, max_waits=1,
                         wait=_WAIT, end_think=_END_THINK):  # fmt: skip
    """`generate` for prompts that end in an open thought, with bounds on its length; a `BudgetedGeneration`.

    budget: a thought that is still open after so many new tokens is closed: the next token is `end_think`, whatever
    was drawn. 0 closes at once; max_new_tokens or more never does. The answer needs its room within max_new_tokens.
    minimum: a thought that would close after fewer tokens goes on: `wait` takes the place of `end_think`, at most
    max_waits times in all, and never beyond the budget. budget, minimum: one number for all, or one for each of the
    N rows. wait, end_think: tokens. Other arguments and errors as in `generate`.
    Raises ValueError for a bound that is not a whole number of 0 or more, a wrong count of them, or an unknown token.
    """
    check_request(max_new_tokens, samples_per_prompt, temperature, top_k, top_p)
    num_rows, device = len(prompts) * samples_per_prompt, model.lm_head.weight.device
    for name, token in (("wait", wait), ("end_think", end_think)):
        if not isinstance(token, int) or not 0 <= token < model.config.vocab_size:
            raise ValueError(f"{name} = {token!r}: expected 0 <= token < vocab_size = {model.config.vocab_size}")
    if wait == end_think:
        raise ValueError(f"wait = {wait}: expected another token than end_think, which it is to replace")
    bounds = {"budget": budget, "minimum": minimum, "max_waits": max_waits}
    bounds = {name: _for_each_row(name, value, num_rows, device) for name, value in bounds.items()}
    forcing = Forcing(**bounds, wait=wait, end_think=end_think, max_new_tokens=max_new_tokens)
    said = generate(model, prompts, max_new_tokens, temperature, top_p, top_k, generator, stop, samples_per_prompt,
                    progress, force=forcing)  # fmt: skip
    forced = [mask[: len(tokens)].clone() for mask, tokens in zip(forcing.forced, said.tokens, strict=True)]
    closing = [(tokens == end_think).nonzero()[:1, 0] for tokens in said.tokens]  # (1,), or (0,) where none closed
    whole = [len(tokens) - int(end) for tokens, end in zip(said.tokens, said.stopped, strict=True)]
    thought = [int(at) if len(at) else length for at, length in zip(closing, whole, strict=True)]
    by_force = [bool(mask[at].any()) for mask, at in zip(forced, closing, strict=True)]
    thought, by_force = (torch.tensor(values, device=device) for values in (thought, by_force))
    return BudgetedGeneration(said.tokens, said.log_probs, said.stopped, forced, thought, by_force)


class Forcing:
    """`generate`'s hook: which tokens the bounds put in place of those drawn, and a record of it.

    budget, minimum, max_waits: (N,) int64, row by row.
    """

    def __init__(self, budget, minimum, max_waits, wait, end_think, max_new_tokens):
        self.budget, self.minimum, self.waits_left = budget, minimum, max_waits.clone()
        self.wait, self.end_think = wait, end_think
        self.thinks = torch.ones_like(budget, dtype=torch.bool)
        self.forced = torch.zeros(len(budget), max_new_tokens, dtype=torch.bool, device=budget.device)

    def __call__(self, step, rows, drawn):
        """step: the tokens that every row has so far   rows, drawn: (b,)   returns the tokens to write, (b,)."""
        thinks, spent = self.thinks[rows], step >= self.budget[rows]  # an open thought is all that a row has so far
        closes = thinks & (drawn == self.end_think)
        cut_off = thinks & ~closes & spent
        sent_on = closes & ~spent & (step < self.minimum[rows]) & (self.waits_left[rows] > 0)
        self.waits_left[rows] -= sent_on.long()
        self.thinks[rows] = thinks & ~cut_off & (sent_on | ~closes)
        self.forced[rows, step] = cut_off | sent_on
        return drawn.masked_fill(cut_off, self.end_think).masked_fill(sent_on, self.wait)


def _for_each_row(name, value, num_rows, device):
    """(N,) int64 from one number for all rows, or one for each."""
    try:
        values = torch.as_tensor(value, device=device)
    except (TypeError, ValueError, RuntimeError):  # None, words, rows of several lengths
        values = torch.tensor(-1.0)
    if values.dtype not in (torch.int64, torch.int32) or (values < 0).any():
        raise ValueError(f"{name} = {value!r}: expected whole numbers of 0 or more")
    if values.shape not in ((), (num_rows,)):
        shape = tuple(values.shape)
        raise ValueError(f"{name} has shape {shape}: expected one number, or one for each of the {num_rows} rows")
    return values.long().expand(num_rows)

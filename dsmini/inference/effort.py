"""How much to think: as much as somebody asks for, or as much as the model's own doubt calls for.

A level of effort is here a name for a thinking budget. gpt-oss has the same names, but there they are a line of the
system prompt that it was trained to obey (its model card); Qwen3 has the budget without the names (its report); V3.1
has its two modes and nothing between. The decision to know: doubt is the probability of the whole direct answer, at
temperature 1 however it was said; and a direct answer is paid for, whether it is kept or not.
"""

import dataclasses

import torch

from dsmini.inference.budget import generate_with_budget
from dsmini.inference.generate import check_request, generate, read_prompts

SHARES = {"low": 0.5, "medium": 0.8, "high": 1.0}  # of the accuracy of thoughts that nobody closes


def effort_budgets(curve, shares=SHARES):
    """A thinking budget for each level of effort, by a measured curve: a dict, name -> tokens.

    curve: dicts with "budget" and "accuracy", in any order, see `accuracy_at_budgets`; the accuracy at the largest
    budget is the full one. shares: name -> share of the full accuracy, 0 to 1. A level's budget is the smallest of
    the curve that reaches its share. Not thinking is no level but the other mode, with a prompt of its own.
    Raises ValueError for a curve without rows and for shares out of range.
    """
    curve = sorted(curve, key=lambda row: row["budget"])
    if not curve:
        raise ValueError("curve: it has no rows, expected at least one")
    budgets, full = {}, curve[-1]["accuracy"]
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"shares: {name!r} has {share!r}, expected 0 to 1")
        budgets[name] = next(row["budget"] for row in curve if row["accuracy"] >= share * full)
    return budgets


def generate_at_effort(model, prompts, max_new_tokens, effort, budgets, **settings):
    """`generate_with_budget` with the budget that a level stands for; a `BudgetedGeneration`.

    effort: one name for all rows, or a list with one for each. budgets: name -> tokens, see `effort_budgets`.
    settings: of `generate_with_budget`. Raises ValueError for a level without a budget, and as that function does.
    """
    for name in [effort] if isinstance(effort, str) else effort:
        if name not in budgets:
            raise ValueError(f"effort = {name!r}, expected one of {', '.join(budgets)}")
    budget = budgets[effort] if isinstance(effort, str) else [budgets[name] for name in effort]
    return generate_with_budget(model, prompts, max_new_tokens, budget, **settings)


@torch.no_grad()
def probability(model, prompts, answers):
    """The chance that a model says exactly this after each prompt, sampling at temperature 1: (N,) float64.

    prompts, answers: N sequences of tokens each, the answers with their stop tokens. The chance of a whole answer is
    the product of its tokens' chances. `generate` gives those of the distribution that it drew from, all of them 1 if
    it was greedy: so the answers are read again, once. Raises ValueError as `generate` does, and for other numbers.
    """
    device, vocab_size = model.lm_head.weight.device, model.config.vocab_size
    prompts, starts = read_prompts(prompts, vocab_size, device)  # (N, T), (N,)
    answers, lengths = read_prompts(answers, vocab_size, device)
    if len(prompts) != len(answers):
        raise ValueError(f"{len(prompts)} prompts, {len(answers)} answers: expected one for each")
    pairs = zip(prompts, starts, answers, lengths, strict=True)
    rows = [torch.cat((prompt[:start], answer[:length])) for prompt, start, answer, length in pairs]
    tokens, ends = read_prompts(rows, vocab_size, device)  # what pads a row comes behind its end, and moves nothing
    log_p = model(tokens[:, :-1]).double().log_softmax(-1)  # (N, T - 1, V)
    log_p = log_p.gather(-1, tokens[:, 1:, None])[..., 0]  # (N, T - 1)
    position = torch.arange(1, tokens.shape[1], device=device)  # of the token that is predicted
    said = (starts[:, None] <= position) & (position < ends[:, None])
    return log_p.masked_fill(~said, 0).sum(-1).exp()


def answer_directly(model, prompts, max_new_tokens=16, stop=()):
    """Greedy answers to prompts of the mode without thinking, and the confidence in each: `Generation`, (N,) float64.

    Confidence is the answer's `probability`; 0 for one that was cut off, since it is none.
    """
    said = generate(model, prompts, max_new_tokens, temperature=0, stop=stop)
    return said, probability(model, prompts, said.tokens) * said.stopped


@dataclasses.dataclass(frozen=True)
class AdaptiveGeneration:
    """What `generate_adaptively` wrote for N questions, and what it cost.

    tokens: a list of (n,) int64, what was said in the end, a direct answer or a thought with its answer, stop tokens
    included. stopped: (N,) bool, False where that was cut off. thinks: (N,) bool, True where it is a thought. direct:
    a list of (n,) int64, the direct answers, kept or not; confidence: (N,) float64, in these. spent: (N,) int64, all
    tokens that were written for a question, so those of a direct answer that was not kept count.
    """

    tokens: list
    stopped: torch.Tensor
    thinks: torch.Tensor
    direct: list
    confidence: torch.Tensor
    spent: torch.Tensor


def generate_adaptively(model, direct_prompts, thinking_prompts, threshold, max_new_tokens, max_direct_tokens=16,
                        temperature=1.0, top_p=1.0, generator=None, stop=()):  # fmt: skip
    """Answer at once, and think only where the confidence in that answer is below a threshold: `AdaptiveGeneration`.

    direct_prompts, thinking_prompts: the same N questions in the two modes, see `generate`. threshold: 0 never thinks,
    above 1 always does. Direct answers are greedy, of max_direct_tokens at most. The other settings are `generate`'s,
    for the thoughts: one batch of all rows that think, in order.
    Raises ValueError for other numbers of prompts, a threshold that is not 0 or more, and as `generate` does.
    """
    if len(direct_prompts) != len(thinking_prompts):
        found = f"{len(direct_prompts)} direct_prompts, {len(thinking_prompts)} thinking_prompts"
        raise ValueError(f"{found}: expected each question in both modes")
    if not threshold >= 0:
        raise ValueError(f"threshold = {threshold!r}: expected a number of 0 or more")
    check_request(max_new_tokens, 1, temperature, None, top_p)  # even if nothing is thought about
    read_prompts(thinking_prompts, model.config.vocab_size)
    direct, confidence = answer_directly(model, direct_prompts, max_direct_tokens, stop)
    thinks, tokens, stopped = confidence < threshold, list(direct.tokens), direct.stopped.clone()
    spent = torch.tensor([len(said) for said in tokens], device=thinks.device)
    rows = thinks.nonzero()[:, 0].tolist()
    if rows:
        prompts = [thinking_prompts[row] for row in rows]
        thought = generate(model, prompts, max_new_tokens, temperature, top_p, generator=generator, stop=stop)
        for row, said, ended in zip(rows, thought.tokens, thought.stopped, strict=True):
            tokens[row], stopped[row] = said, ended
            spent[row] += len(said)
    return AdaptiveGeneration(tokens, stopped, thinks, direct.tokens, confidence, spent)

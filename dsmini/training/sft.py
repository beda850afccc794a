"""Supervised fine-tuning: learn to answer as the examples do.

The same cross-entropy as pre-training, on the responses alone: a model is not to learn to ask. The decision to know:
the loss is the mean over the response tokens of a batch that was drawn without regard to length. Batches of like
length with a mean each would let short responses count for more than they are of the data. Such a batch is read in
pieces of like length all the same: each has the weight of its tokens, and one long thought pads no short answers.
"""

import torch
from torch.nn import functional as F

from dsmini.language.tokenizer import EOS, TOKENIZER
from dsmini.training.loop import must_be_finite, run_steps
from dsmini.training.pretrain import learning_rate_at, new_optimizer
from dsmini.training.rollout import pad, token_batches
from dsmini.training.snapshot import describe, fingerprint

_PIECE = 2048  # padded tokens of one forward pass: it changes memory and speed and nothing else


def train_sft(model, examples, settings, seed=0, progress=True, on_step=None, snapshot=None, snapshot_every=100):
    """Fine-tune a model in place; returns its loss at every step, a list of floats in nats a token.

    examples: (prompt text, response text) pairs, the response with its end of sentence: see `frame.prompt_text` and
    `frame.response_text`. settings: `pretrain.TrainingSettings`; its `context` bounds an example, and what concerns
    MTP and router balance is not used. Every example comes once before one comes again. The rest is as in
    `pretrain.train`.
    Raises ValueError, naming the example, for an empty half, unknown symbols, a response without its end, and more
    tokens than settings.context; FloatingPointError, naming the step, if the loss is no longer finite; SnapshotError
    for a snapshot of another run.
    """
    prompts, responses = _encode(examples, settings.context)
    generator = torch.Generator().manual_seed(seed)
    optimizer = new_optimizer(model, settings)
    run = snapshot and describe(model, fingerprint(torch.cat([*prompts, *responses])), settings, seed)

    def take_step(step):
        rows = rows_of_step(step, settings.batch_size, len(prompts), seed)
        return sft_step(model, optimizer, [prompts[row] for row in rows], [responses[row] for row in rows], settings,
                        step)  # fmt: skip

    return run_steps(take_step, model, optimizer, generator, settings.steps, name="fine-tuning", progress=progress,
                     on_step=on_step, snapshot=snapshot, snapshot_every=snapshot_every, run=run)  # fmt: skip


def sft_step(model, optimizer, prompts, responses, settings, step):
    """Learn from one batch of token rows, as `pad` takes them; returns the loss before it."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate_at(step, settings)
    optimizer.zero_grad(set_to_none=True)
    total, tokens = 0.0, sum(len(response) for response in responses)
    lengths = [len(prompt) + len(response) for prompt, response in zip(prompts, responses, strict=True)]
    for rows in token_batches(lengths, _PIECE):
        inputs, targets, mask = pad([prompts[row] for row in rows], [responses[row] for row in rows])
        loss = response_loss(model, inputs, targets, mask) * (int(mask.sum()) / tokens)
        loss.backward()
        total += loss.item()
    must_be_finite(total, step)
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
    optimizer.step()
    return total


def response_loss(model, inputs, targets, mask):
    """Mean cross-entropy in nats over the targets that the mask keeps; all are (B, T)."""
    return F.cross_entropy(model(inputs)[mask], targets[mask])


def rows_of_step(step, batch_size, size, seed):
    """The examples of a step, row numbers: the data in a new random order each time it has been read once."""
    first = step * batch_size
    rows = []
    for place in range(first, first + batch_size):
        epoch, index = divmod(place, size)
        if not rows or index == 0:
            order = torch.randperm(size, generator=torch.Generator().manual_seed(1_000_003 * seed + epoch))
        rows.append(int(order[index]))
    return rows


def _encode(examples, context):
    examples = list(examples)
    if not examples:
        raise ValueError("examples: there are none, expected (prompt, response) pairs of text")
    pairs = []
    for i, example in enumerate(examples):
        if not (isinstance(example, list | tuple) and len(example) == 2):
            raise ValueError(f"examples[{i}]: {example!r}, expected a pair (prompt, response)")
        try:
            pairs.append(tuple(TOKENIZER.encode(text) for text in example))
        except ValueError as error:
            raise ValueError(f"examples[{i}]: {error}") from None
    end = TOKENIZER.id(EOS)
    for i, (prompt, response) in enumerate(pairs):
        if not len(prompt) or not len(response):
            raise ValueError(f"examples[{i}]: {examples[i]!r} has an empty half, expected a prompt and a response")
        if response[-1] != end:
            raise ValueError(f"examples[{i}]: {examples[i][1]!r} does not end with {EOS}: who reads it never stops")
        if len(prompt) + len(response) > context:
            found = len(prompt) + len(response)
            raise ValueError(f"examples[{i}] has {found} tokens: expected at most settings.context = {context}")
    return [prompt for prompt, _ in pairs], [response for _, response in pairs]

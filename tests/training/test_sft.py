"""Supervised fine-tuning: what is learned, what is not, and runs that go on where they stopped."""

import copy
import dataclasses
import math

import pytest
import torch
from planted import planted
from tiny import CONFIGS, difference, make_model

from dsmini.inference.generate import generate
from dsmini.language.frame import prompt_text, response_text
from dsmini.language.tokenizer import EOS, TOKENIZER
from dsmini.model.transformer import Transformer
from dsmini.training import rollout, sft
from dsmini.training.pretrain import TrainingSettings, learning_rate_at
from dsmini.training.rollout import pad
from dsmini.training.sft import response_loss, rows_of_step, sft_step, train_sft
from dsmini.training.snapshot import SnapshotError

END = TOKENIZER.id(EOS)
SHORT = TrainingSettings(steps=6, batch_size=3, context=40, learning_rate=1e-2, warmup_steps=2)
QUESTIONS = {"1 + 2": "3", "2 * 4": "8", "cups 1 2": "1 2", "reach 9 with 3 6": "3 + 6"}
EXAMPLES = [(prompt_text(asked), response_text("", answer)) for asked, answer in QUESTIONS.items()]


def new_model(name="mla", seed=0):
    torch.manual_seed(seed)
    return Transformer(CONFIGS[name].replace(vocab_size=TOKENIZER.vocab_size))


def shaken():
    return make_model(CONFIGS["mla"].replace(vocab_size=TOKENIZER.vocab_size))


def batch(examples=EXAMPLES, pad=pad):
    return pad(*([TOKENIZER.encode(text) for text in half] for half in zip(*examples, strict=True)))


def train(model, examples=EXAMPLES, settings=SHORT, **options):
    return train_sft(model, examples, settings, progress=False, **options)


def same_weights(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# ---- what is learned ------------------------------------------------------------------------------------------------


def surprises(model, prompt, response):
    """The surprise of every token of a response after what stands before it, one forward pass for each."""
    tokens = torch.cat((TOKENIZER.encode(prompt), TOKENIZER.encode(response)))
    start = len(TOKENIZER.encode(prompt))
    return [-model(tokens[None, :i])[0, -1].log_softmax(-1)[tokens[i]].item() for i in range(start, len(tokens))]


def test_loss_is_the_mean_surprise_of_the_responses_tokens_their_ends_included():
    model = shaken()
    said = [surprises(model, *example) for example in EXAMPLES]
    every = [surprise for row in said for surprise in row]
    assert [len(row) for row in said] == [3, 3, 4, 5]  # </think>, the answer, the end
    loss = response_loss(model, *batch()).item()
    assert loss == pytest.approx(sum(every) / len(every), abs=1e-12)
    assert loss != pytest.approx(sum(sum(row) / len(row) for row in said) / 4, abs=1e-3)  # no mean of means
    assert loss != pytest.approx(sum(sum(row[:-1]) for row in said) / (len(every) - 4), abs=1e-3)


def test_prompt_gets_no_loss():
    """Gradients with respect to the logits: none where the next token is the prompt's or padding."""
    inputs, targets, mask = batch()
    logits = shaken()(inputs).detach().requires_grad_()
    response_loss(lambda _: logits, inputs, targets, mask).backward()
    learned = logits.grad.abs().sum(-1) > 0
    assert torch.equal(learned, mask)
    for row, example in zip(mask, EXAMPLES, strict=True):
        prompt = len(TOKENIZER.encode(example[0]))
        assert not row[: prompt - 1].any() and row[prompt - 1]


def answers(model):
    prompts = [TOKENIZER.encode(prompt) for prompt, _ in EXAMPLES]
    said = generate(model, prompts, 8, temperature=0.0, stop=END)
    return [TOKENIZER.decode(tokens) for tokens in said.tokens]


MEMORISE = dataclasses.replace(SHORT, steps=60, batch_size=4, weight_decay=0.0)


def test_model_learns_to_answer_and_to_stop():
    model = new_model()
    losses = train(model, settings=MEMORISE)
    assert losses[0] == pytest.approx(math.log(128), abs=0.3) and losses[-1] < 0.05
    assert answers(model) == [response for _, response in EXAMPLES]


def test_model_that_is_never_shown_the_end_does_not_stop(monkeypatch):
    monkeypatch.setattr(sft, "pad", planted(rollout, "(position < end)", "(position < end - 1)").pad)
    model = new_model()
    train(model, settings=MEMORISE)
    said = answers(model)
    assert not any(EOS in text for text in said)
    assert all(text.startswith(response.removesuffix(EOS)) for text, (_, response) in zip(said, EXAMPLES, strict=True))


def test_padding_changes_nothing():
    model = shaken()
    together = response_loss(model, *batch())
    apart = [(response_loss(model, *batch([example])), batch([example])[2].sum()) for example in EXAMPLES]
    mean = sum(loss * tokens for loss, tokens in apart) / sum(tokens for _, tokens in apart)
    assert difference(together, mean) < 1e-14


def test_every_tensor_learns_and_multi_token_prediction_does_not():
    model = new_model("mla, experts, MTP")
    response_loss(model, *batch()).backward()
    silent = {name for name, weight in model.named_parameters() if weight.grad is None}
    assert silent == {name for name, _ in model.named_parameters() if name.startswith("mtp.")} != set()
    assert all(w.grad.abs().max() > 0 for name, w in model.named_parameters() if name not in silent)


# ---- which examples -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch_size", "size"), [(3, 10), (4, 4), (1, 5), (7, 3), (2, 1)])
def test_every_example_comes_once_before_one_comes_again(batch_size, size):
    seen = [row for step in range(24) for row in rows_of_step(step, batch_size, size, seed=5)]
    assert len(seen) == 24 * batch_size
    epochs = [seen[i : i + size] for i in range(0, len(seen) - size + 1, size)]
    assert all(sorted(epoch) == list(range(size)) for epoch in epochs)
    assert size < 4 or len({tuple(epoch) for epoch in epochs}) > 1, "every epoch in an order of its own"


def test_order_follows_the_seed():
    orders = [[row for step in range(5) for row in rows_of_step(step, 4, 20, seed)] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_training_reads_the_examples_of_the_step(monkeypatch):
    read = []
    monkeypatch.setattr(sft, "pad", lambda prompts, responses: read.append(responses) or pad(prompts, responses))
    train(new_model(), seed=2)
    responses = [TOKENIZER.encode(response).tolist() for _, response in EXAMPLES]
    expected = [sorted(responses[row] for row in rows_of_step(step, 3, 4, 2)) for step in range(6)]
    assert [sorted(tokens.tolist() for tokens in rows) for rows in read] == expected


# ---- runs -----------------------------------------------------------------------------------------------------------


def test_same_seed_trains_the_same_model_to_the_bit_and_another_does_not():
    models = [new_model() for _ in range(3)]
    losses = [train(model, seed=seed) for model, seed in zip(models, (3, 3, 4), strict=True)]
    assert losses[0] == losses[1] != losses[2]
    assert same_weights(*models[:2]) and not models[0].training


def encoded(examples=EXAMPLES):
    return [tuple(TOKENIZER.encode(text) for text in example) for example in examples]


@pytest.mark.parametrize("piece", [1, 20, 45])
def test_a_batch_in_pieces_teaches_what_it_teaches_as_a_whole(piece, monkeypatch):
    """One long response among short ones, in float64: loss and gradients, in pieces and in one."""
    long = (EXAMPLES[0][0], EXAMPLES[3][1].removesuffix(EOS) + " 1 2 3 4 5 6 7 8 9" + EOS)
    rows, gradients, losses = list(zip(*encoded([*EXAMPLES, long]), strict=True)), [], []
    for size in (piece, 10_000):
        monkeypatch.setattr(sft, "_PIECE", size)
        model = shaken()
        optimizer = sft.new_optimizer(model, SHORT)
        optimizer.register_step_pre_hook(
            lambda *_, model=model: gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        )
        losses.append(sft_step(model, optimizer, *rows, SHORT, 0))
    assert losses[0] == pytest.approx(losses[1], abs=1e-13)
    assert difference(*gradients) < 1e-13


def test_step_uses_its_rate_and_clips_the_gradient():
    model, norms = new_model(), []
    settings = dataclasses.replace(SHORT, max_grad_norm=0.01)
    optimizer = sft.new_optimizer(model, settings)
    read = lambda *_: norms.append(torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item())  # noqa: E731
    optimizer.register_step_pre_hook(read)
    for step in range(3):
        sft_step(model, optimizer, *zip(*encoded(), strict=True), settings, step)
        assert {group["lr"] for group in optimizer.param_groups} == {learning_rate_at(step, settings)}
    assert norms == pytest.approx([0.01] * 3, rel=1e-3)


def test_on_step_is_told_every_loss():
    told = []
    losses = train(new_model(), on_step=lambda *step: told.append(step))
    assert told == list(enumerate(losses)) and len(losses) == SHORT.steps


class Killed(Exception):
    pass


@pytest.mark.parametrize("killed_at", [1, 2, 5])
def test_killed_run_goes_on_to_the_same_end(killed_at, tmp_path):
    whole, file = new_model(), tmp_path / "run.safetensors"
    losses = train(whole)

    def kill(step, loss):
        if step == killed_at:
            raise Killed

    with pytest.raises(Killed):
        train(new_model(), snapshot=file, snapshot_every=2, on_step=kill)
    assert file.exists() == (killed_at >= 2)
    steps, again = [], new_model()
    assert train(again, snapshot=file, snapshot_every=2, on_step=lambda step, _: steps.append(step)) == losses
    assert same_weights(again, whole) and steps[0] == killed_at // 2 * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": dataclasses.replace(SHORT, batch_size=2)}, "batch_size = 3 there, 2 here"),
        ({"seed": 1}, "seed = 0 there, 1 here"),
        ({"examples": EXAMPLES[::-1]}, "data = "),
    ],
)
def test_snapshot_of_another_run_is_refused(change, message, tmp_path):
    file = tmp_path / "run.safetensors"
    train(new_model(), snapshot=file)
    with pytest.raises(SnapshotError, match=message):
        train(new_model(), **{"snapshot": file, **change})


def test_loss_that_is_not_finite_stops_the_run_at_its_step_and_leaves_the_weights():
    model, kept = new_model(), {}

    def poison(step, loss):
        if step == 2:
            model.model.norm.weight.data.fill_(math.inf)
            kept.update(copy.deepcopy(model.state_dict()))

    with pytest.raises(FloatingPointError, match="the loss is nan at step 3; lower learning_rate"):
        train(model, on_step=poison)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([], r"examples: there are none, expected \(prompt, response\) pairs"),
        ([EXAMPLES[0], ("1 2", "")], r"examples\[1\]: \('1 2', ''\) has an empty half"),
        ([("", "1 2")], r"examples\[0\]: \('', '1 2'\) has an empty half"),
        ([EXAMPLES[0], ("1", "2")], r"examples\[1\]: '2' does not end with"),
        ([EXAMPLES[0], ("1",)], r"examples\[1\]: \('1',\), expected a pair"),
        ([EXAMPLES[0], ("1", "seven")], r"examples\[1\]: text: unknown symbol 'seven'"),
        ((example for example in ()), "examples: there are none"),
        ([EXAMPLES[0], ("1 " * 30, "2 " * 10 + EOS)], r"examples\[1\] has 41 tokens: expected at most settings.c"),
        ([("1", "forty")], "text: unknown symbol 'forty'"),
    ],
)
def test_bad_examples_are_named(examples, message):
    with pytest.raises(ValueError, match=message):
        train(new_model(), examples)


def test_longest_example_fits():
    assert len(train(new_model(), [("1 " * 30, "2 " * 9 + EOS)])) == 6


def test_snapshots_need_an_interval():
    with pytest.raises(ValueError, match="snapshot_every = 0: expected 1 or more steps"):
        train(new_model(), snapshot_every=0)

"""Batched generation: the slow loop's tokens, whatever the batch, the lengths and the moment a row ends."""

import contextlib
import math

import pytest
import torch
from tiny import CONFIGS, difference, make_model, make_tokens

import dsmini
from dsmini.inference import generate as module
from dsmini.inference.generate import generate
from dsmini.inference.sampling import draw, probabilities, uniforms
from dsmini.model.cache import Cache

RAGGED = (3, 9, 1, 5)


def prompts_of(config, lengths=RAGGED):
    return [make_tokens(config, 1, length, seed=seed)[0] for seed, length in enumerate(lengths)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def slow(model, prompt, random, stop=(), **settings):
    """No batch, no cache: the tokens and log-probabilities of one row, given its uniform numbers, (M,)."""
    tokens, log_probs = prompt.tolist(), []
    for uniform in random:
        probs = probabilities(model(torch.tensor(tokens)[None])[0, -1], **settings)
        tokens.append(int(draw(probs, uniform)))
        log_probs.append(probs[tokens[-1]].log())
        if tokens[-1] in stop:
            break
    return tokens[len(prompt) :], torch.stack(log_probs)


def assert_rows_equal_slow(model, prompts, generation, random, samples=1, **settings):
    for row, (tokens, log_probs) in enumerate(zip(generation.tokens, generation.log_probs, strict=True)):
        expected, expected_log_probs = slow(model, prompts[row // samples], random[row], **settings)
        assert tokens.tolist() == expected, row
        assert difference(log_probs, expected_log_probs) < 1e-11, row
        assert bool(generation.stopped[row]) == (expected[-1] in settings.get("stop", ()))


@contextlib.contextmanager
def watch_batches(model):
    """The shape of every batch of tokens that the model reads."""
    shapes = []
    hook = model.model.embed_tokens.register_forward_pre_hook(lambda _, args: shapes.append(tuple(args[0].shape)))
    yield shapes
    hook.remove()


@pytest.mark.parametrize("name", CONFIGS)
def test_generate_equals_the_slow_loop(name):
    model = make_model(CONFIGS[name])
    prompts = prompts_of(model.config)
    greedy = generate(model, prompts, 7, temperature=0)
    assert_rows_equal_slow(model, prompts, greedy, torch.zeros(4, 7), temperature=0)
    sampled = generate(model, prompts, 7, generator=seeded())
    assert_rows_equal_slow(model, prompts, sampled, uniforms((4, 7), seeded()))


@pytest.mark.parametrize(
    "settings", [{"temperature": 0.6}, {"top_k": 4}, {"temperature": 1.5, "top_k": 9, "top_p": 0.8}]
)
def test_sampling_settings_reach_the_sampler(settings):
    model = make_model(CONFIGS["mla"])
    prompts = prompts_of(model.config)
    generation = generate(model, prompts, 9, generator=seeded(), **settings)
    assert_rows_equal_slow(model, prompts, generation, uniforms((4, 9), seeded()), **settings)


@pytest.mark.parametrize("samples", [1, 5])
def test_rows_end_at_their_stop_tokens(samples):
    model = make_model(CONFIGS["mla, experts"])
    prompts, stop = prompts_of(model.config), {3, 8, 19, 30, 31, 44}
    generation = generate(model, prompts, 25, generator=seeded(3), stop=stop, samples_per_prompt=samples)
    random = uniforms((4 * samples, 25), seeded(3))
    assert_rows_equal_slow(model, prompts, generation, random, samples, stop=stop)
    if samples > 1:
        assert 0 < generation.stopped.sum() < 20 and len({len(row) for row in generation.tokens}) > 4, "a real test"


def test_stop_is_a_token_or_any_collection_of_them():
    model = make_model(CONFIGS["mla"])
    prompt = make_tokens(model.config, 1, 4)
    free = generate(model, prompt, 20, generator=seeded()).tokens[0].tolist()
    token = free[6]
    expected = free[: free.index(token) + 1]
    for stop in (token, [token], (token, token), {token}, torch.tensor(token), torch.tensor([token])):
        assert generate(model, prompt, 20, generator=seeded(), stop=stop).tokens[0].tolist() == expected


def test_row_does_not_depend_on_the_other_rows():
    model = make_model(CONFIGS["mla, compressed queries"])
    prompts, stop = prompts_of(model.config, (4, 7, 2, 7)), [5, 6, 7, 8]
    together = generate(model, prompts, 20, generator=seeded(), stop=stop)
    alone = generate(model, prompts[:1], 20, generator=seeded(), stop=stop)
    others = generate(model, [*prompts[:2], *prompts_of(model.config, (9, 9, 9, 9, 9))], 20, generator=seeded())
    assert torch.equal(alone.tokens[0], together.tokens[0])
    shared = len(together.tokens[1])
    assert torch.equal(others.tokens[1][:shared], together.tokens[1])


def test_tensor_of_prompts_is_a_list_of_its_rows():
    model = make_model(CONFIGS["gqa"])
    prompts = make_tokens(model.config, 3, 5)
    expected = generate(model, prompts, 6, generator=seeded()).tokens
    for same in (list(prompts), prompts.tolist(), prompts.int()):
        assert torch.equal(torch.stack(generate(model, same, 6, generator=seeded()).tokens), torch.stack(expected))


def test_one_seed_one_result_and_greedy_draws_nothing():
    model = make_model(CONFIGS["mla"])
    prompts = prompts_of(model.config)
    runs = [torch.cat(generate(model, prompts, 9, generator=seeded(seed)).tokens) for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])
    generator = seeded()
    generate(model, prompts, 4, temperature=0, generator=generator)
    assert torch.equal(generator.get_state(), seeded().get_state())
    torch.manual_seed(0)
    unseeded = generate(model, prompts, 9).tokens
    torch.manual_seed(0)
    assert torch.equal(torch.cat(unseeded), torch.cat(generate(model, prompts, 9).tokens))


def test_generator_moves_on_by_the_same_amount_however_soon_rows_end():
    model = make_model(CONFIGS["mla"])
    prompts, first, second = prompts_of(model.config), seeded(), seeded()
    generate(model, prompts, 20, generator=first)
    generate(model, prompts, 20, generator=second, stop=range(61))
    assert torch.equal(first.get_state(), second.get_state())


def test_prompt_is_read_once_for_all_its_samples():
    model = make_model(CONFIGS["mla"])
    prompts = prompts_of(model.config)
    with watch_batches(model) as shapes:
        generation = generate(model, prompts, 4, generator=seeded(), samples_per_prompt=3)
    assert shapes == [(4, 9), (12, 1), (12, 1), (12, 1)], "the last token is not read"
    assert_rows_equal_slow(model, prompts, generation, uniforms((12, 4), seeded()), samples=3)
    assert len({tuple(row.tolist()) for row in generation.tokens[:3]}) == 3, "samples of a prompt differ"


def test_finished_rows_leave_in_bulk(monkeypatch):
    model = make_model(CONFIGS["mla"])
    copies, select = [], Cache.select
    monkeypatch.setattr(Cache, "select", lambda self, rows, *n: copies.append(len(rows)) or select(self, rows, *n))
    with watch_batches(model) as shapes:
        generation = generate(model, make_tokens(model.config, 64, 4), 60, generator=seeded(), stop=range(4))
    batches = [shape[0] for shape in shapes]
    lengths = torch.tensor([len(row) for row in generation.tokens])
    assert batches[1] == copies[0] == 64 and sorted(set(batches), reverse=True) == copies, copies
    assert len(copies) < 15 < len(lengths.unique()), "far fewer copies than departures"
    for step, batch in enumerate(batches[1:], start=1):  # step: tokens that every row has by now
        running = int((lengths > step).sum())
        assert running <= batch and batch - running < max(1, batch / 4), (step, batch, running)
    assert len(batches) == lengths.max(), "nothing runs when all are done"


def test_no_row_is_lost_when_all_stop_at_once():
    model = make_model(CONFIGS["mla"])
    with watch_batches(model) as shapes:
        generation = generate(model, prompts_of(model.config), 50, generator=seeded(), stop=range(61))
    assert [len(row) for row in generation.tokens] == [1] * 4 and generation.stopped.all() and len(shapes) == 1


def test_cache_is_as_large_as_needed_and_no_larger(monkeypatch):
    model = make_model(CONFIGS["mla"])
    sizes, select = [], Cache.select
    monkeypatch.setattr(Cache, "select", lambda self, rows, size=None: sizes.append(size) or select(self, rows, size))
    for length, new in ((5, 1), (1, 1), (5, 8)):
        generate(model, make_tokens(model.config, 2, length), new)
    assert sizes == [5, 1, 12]


def test_results_are_ordinary_tensors():
    model = make_model(CONFIGS["mla"], dtype=torch.float32)
    generation = generate(model, prompts_of(model.config), 5, generator=seeded())
    log_probs = torch.cat(generation.log_probs)
    assert not log_probs.requires_grad and log_probs.dtype == torch.float32
    assert not any(x.is_inference() for x in (*generation.tokens, *generation.log_probs, generation.stopped))
    scale = torch.ones(1, requires_grad=True)
    (scale * log_probs).sum().backward()
    assert scale.grad.item() == pytest.approx(log_probs.sum().item())


def test_bfloat16_model_generates():
    model = make_model(CONFIGS["mla"], dtype=torch.bfloat16)
    generation = generate(model, prompts_of(model.config), 5, generator=seeded(), top_p=0.9)
    assert [len(row) for row in generation.tokens] == [5] * 4 and generation.log_probs[0].dtype == torch.float32


def test_progress_only_when_asked(capsys):
    model = make_model(CONFIGS["mla"])
    generate(model, make_tokens(model.config, 1, 3), 2)
    assert capsys.readouterr() == ("", "")
    generate(model, make_tokens(model.config, 1, 3), 2, progress=True)
    assert "2/2" in capsys.readouterr().err


def test_generate_is_a_public_name():
    assert dsmini.generate is generate and dsmini.inference.generate is module


GOOD = {"prompts": torch.tensor([[1, 2]]), "max_new_tokens": 3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": []}, "prompts: there are none"),
        ({"prompts": torch.zeros(0, 4, dtype=torch.int64)}, "prompts: there are none"),
        ({"prompts": [[1], []]}, r"prompts\[1\] is empty: expected at least one token"),
        ({"prompts": torch.tensor([1, 2])}, r"prompts\[0\] has shape \(\): expected \(B, T\), or a list of 1-D"),
        ({"prompts": [torch.tensor([[1, 2]])]}, r"prompts\[0\] has shape \(1, 2\)"),
        ({"prompts": [[1.0, 2.0]]}, r"prompts\[0\] has type torch.float32"),
        ({"prompts": [[1], [60, 61]]}, r"prompts\[1\] holds 61: expected 0 <= token < vocab_size = 61"),
        ({"prompts": [[-1, 70]]}, r"prompts\[0\] holds -1"),
        ({"max_new_tokens": 0}, "max_new_tokens = 0: expected a whole number of 1 or more"),
        ({"max_new_tokens": 2.5}, "max_new_tokens = 2.5"),
        ({"samples_per_prompt": 0}, "samples_per_prompt = 0"),
        ({"temperature": -1}, "temperature = -1"),
        ({"temperature": math.nan}, "temperature = nan"),
        ({"top_p": 0}, "top_p = 0"),
        ({"top_p": 1.5}, "top_p = 1.5"),
        ({"top_k": 0}, "top_k = 0"),
        ({"stop": 61}, "stop holds 61: expected tokens, 0 <= token < vocab_size = 61"),
        ({"stop": [3, -1]}, "stop holds -1"),
        ({"stop": "end"}, "stop holds 'e'"),
    ],
)
def test_bad_requests_are_named_before_the_model_runs(changes, message):
    model = make_model(CONFIGS["mla"])
    with watch_batches(model) as shapes, pytest.raises(ValueError, match=message):
        generate(model, **{**GOOD, **changes})
    assert shapes == []

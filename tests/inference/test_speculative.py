"""Speculative decoding loses nothing: the same greedy tokens, the same distribution, and honest books."""

import itertools
import math

import pytest
import torch
from tiny import CONFIGS, difference, make_model, make_tokens

from dsmini.inference import speculative
from dsmini.inference.generate import generate
from dsmini.inference.sampling import draw, probabilities, uniforms
from dsmini.inference.speculative import accept, generate_speculative, residual

MODELS = {
    "mla, experts": CONFIGS["mla, experts, MTP"],
    "mla": CONFIGS["mla, compressed queries"].replace(num_nextn_predict_layers=1),
    "gqa": CONFIGS["gqa"].replace(num_nextn_predict_layers=2),  # the second module is not used
    "sparse mla": CONFIGS["sparse mla, experts, MTP"],
}


@torch.no_grad()
def drafting_model(name="mla, experts", strength=0.05, dtype=torch.float64, **changes):
    """A random model with a useful MTP module: both read mostly the latest token, and alike.

    strength: what the layers add to its embedding. At 0 the module says exactly what the main model will say.
    """
    model = make_model(MODELS[name].replace(**changes))
    for key, weight in model.named_parameters():
        if key.split(".")[-2] in ("o_proj", "down_proj") or key.endswith("experts.down_proj"):
            weight.mul_(strength)
    module = model.mtp[0]
    module.enorm.weight.fill_(1.0)
    module.eh_proj.weight.mul_(strength)
    module.eh_proj.weight[:, : model.config.hidden_size] += torch.eye(model.config.hidden_size)
    module.shared_head.norm.weight.copy_(model.model.norm.weight)
    return model.to(dtype)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_prompts(config, count=200, longest=12):
    lengths = torch.randint(1, longest + 1, (count,), generator=seeded(1))
    return [row[:length] for row, length in zip(make_tokens(config, count, longest), lengths, strict=True)]


# --- the same greedy tokens


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("stop", [(), (3, 14, 15)], ids=["free", "with stop tokens"])
def test_greedy_tokens_are_those_of_generate_over_200_prompts(name, stop):
    model = drafting_model(name)
    prompts = random_prompts(model.config)
    plain = generate(model, prompts, 20, temperature=0, stop=stop)
    fast = generate_speculative(model, prompts, 20, temperature=0, stop=stop)
    for row, (expected, tokens) in enumerate(zip(plain.tokens, fast.tokens, strict=True)):
        assert tokens.tolist() == expected.tolist(), row
    assert torch.equal(plain.stopped, fast.stopped) and fast.stopped.any() == bool(stop)
    assert 0.2 < fast.acceptance_rate < 0.8, "drafts must be accepted and rejected for this to mean anything"


@torch.no_grad()
def test_greedy_float32_differs_only_where_two_tokens_all_but_tie():
    model = drafting_model(dtype=torch.float32)
    prompts = random_prompts(model.config)
    plain = generate(model, prompts, 20, temperature=0).tokens
    fast = generate_speculative(model, prompts, 20, temperature=0).tokens
    differing = [row for row in range(200) if not torch.equal(plain[row], fast[row])]
    assert len(differing) <= 2
    for row in differing:
        same = int((plain[row] != fast[row]).nonzero()[0])
        logits = model(torch.cat((prompts[row], plain[row][:same]))[None])[0, -1]
        best = logits.topk(2)
        assert best.values[0] - best.values[1] < 1e-4, row


# --- the same distribution


@torch.no_grad()
def exact_distribution(model, prompt, length, settings):
    """Every text of that many tokens and its probability, by the model alone: (V^length, length), (V^length,)."""
    texts = torch.cartesian_prod(*[torch.arange(model.config.vocab_size)] * length)
    logits = model(torch.cat((prompt.expand(len(texts), -1), texts), dim=1))[:, len(prompt) - 1 : -1]
    probs = probabilities(logits, **settings).gather(-1, texts[..., None])[..., 0]  # (V^length, length)
    return texts, probs.prod(-1)


def p_value(counts, expected):
    """Of the chi-square test; cells that expect fewer than 5 are joined. 0 if something impossible was seen."""
    if counts[expected == 0].any():
        return 0.0
    rare = expected < 5
    counts, expected = (torch.cat((x[~rare], x[rare].sum()[None])) for x in (counts.double(), expected))
    counts, expected = counts[expected > 0], expected[expected > 0]
    statistic = ((counts - expected) ** 2 / expected).sum()
    return torch.special.gammaincc(torch.tensor((len(counts) - 1) / 2).double(), statistic / 2).item()


def p_value_of_speculation(settings, samples=8000, length=3):
    model = drafting_model(strength=1.0, vocab_size=5)
    prompt = torch.tensor([3, 0, 4, 1])
    texts, probs = exact_distribution(model, prompt, length, settings)
    assert probs.sum().item() == pytest.approx(1)
    fast = generate_speculative(model, [prompt], length, generator=seeded(), samples_per_prompt=samples, **settings)
    cells = (torch.stack(fast.tokens) * 5 ** torch.arange(length - 1, -1, -1)).sum(-1)
    return p_value(cells.bincount(minlength=len(texts)), samples * probs), fast.acceptance_rate


SETTINGS = [
    {},
    {"temperature": 2.0},
    {"top_k": 3},
    {"top_p": 0.7},
    {"temperature": 1.5, "top_k": 4, "top_p": 0.9},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_sampled_texts_have_their_exact_probabilities(settings):
    p, acceptance = p_value_of_speculation(settings)
    assert p > 1e-3 and 0.1 < acceptance < 0.95, (p, acceptance)


def test_longer_texts_too():
    assert p_value_of_speculation({"temperature": 1.5}, samples=20_000, length=5)[0] > 1e-3


WRONG_RULES = {
    "p again, not the residual": {"residual": lambda p, q: p},
    "p and q swapped": {"accept": lambda draft, p, q, uniform: accept(draft, q, p, uniform)},
    "all drafts stay": {"accept": lambda draft, p, q, uniform: torch.ones_like(draft, dtype=torch.bool)},
    "a draft stays if p is the larger": {"accept": lambda draft, p, q, uniform: accept(draft, p, q, 1.0)},
    "residual of q": {"residual": lambda p, q: residual(q, p)},
}


@pytest.mark.parametrize("bug", WRONG_RULES)
def test_wrong_rule_is_seen(bug, monkeypatch):
    for name, wrong in WRONG_RULES[bug].items():
        monkeypatch.setattr(speculative, name, wrong)
    assert p_value_of_speculation({"temperature": 1.5})[0] < 1e-6


# --- the rule itself


def random_distributions(rows=50, seed=0):
    p, q = (torch.randn(2, rows, 7, generator=seeded(seed)).double() * 2).softmax(-1)
    return p, q


def test_accepted_and_replaced_drafts_add_up_to_p():
    p, q = random_distributions()
    kept = torch.minimum(p, q)  # drawn with q, accepted with min(1, p / q)
    rejected = 1 - kept.sum(-1, keepdim=True)
    weights = residual(p, q)
    assert difference(kept + rejected * weights / weights.sum(-1, keepdim=True), p) < 1e-14


def test_draft_stays_with_probability_p_over_q():
    p = torch.tensor([[0.2, 0.5, 0.3, 0.0]]).expand(4, -1)
    q = torch.tensor([[0.8, 0.1, 0.05, 0.05]]).expand(4, -1)
    for draft, threshold in ((0, 0.25), (1, 1.0), (2, 1.0), (3, 0.0)):
        uniform = torch.tensor([0.0, 0.2499, 0.2501, 0.9999])
        assert accept(torch.full((4,), draft), p, q, uniform).tolist() == (uniform < threshold).tolist(), draft


def test_equal_distributions_leave_no_residual_and_that_is_no_problem():
    p, _ = random_distributions()
    assert torch.equal(residual(p, p), p)
    assert (draw(residual(p, p), torch.rand(50, generator=seeded())) < 7).all()


# --- honest books


@torch.no_grad()
def assert_tape_is_what_the_model_says(model, prompt, tokens, log_probs, tape, **settings):
    """Without a cache: q, p and log-probabilities of one row, and its tape read aloud gives its tokens."""
    text, start = torch.cat((prompt, tokens)), len(prompt)
    hidden = model.hidden_states(text[None])  # (1, T, D)
    probs = probabilities(model.lm_head(hidden)[0], **settings)  # probs[i]: of token i + 1
    ahead = model.lm_head(model.predict_ahead(hidden[:, :-1], text[None, 1:]))
    q = probabilities(ahead[0], **settings)  # q[i]: of token i + 2
    place, written = start + 1, [int(tokens[0])]
    for verdict in tape:
        assert verdict.q == pytest.approx(float(q[place - 2, verdict.draft]), abs=1e-11)
        assert verdict.p == pytest.approx(float(probs[place - 1, verdict.draft]), abs=1e-11)
        assert verdict.accepted == (verdict.uniform * verdict.q < verdict.p)
        new = [verdict.draft, verdict.token] if verdict.accepted else [verdict.token]
        written += new[: verdict.count]
        place += verdict.count
        assert verdict.count == len(new) or place == len(text), "only the end of a row cuts a pair"
    assert written == tokens.tolist()
    chosen = probs[start - 1 : -1].gather(-1, tokens[:, None])[:, 0]
    assert difference(log_probs, chosen.log()) < 1e-10


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("settings", [{"temperature": 0}, {"temperature": 1.3, "top_p": 0.95}], ids=str)
def test_every_draft_and_verdict_equals_the_uncached_modules(name, settings):
    model = drafting_model(name)
    prompts = random_prompts(model.config, 12)
    fast = generate_speculative(model, prompts, 17, generator=seeded(), stop=(5, 40), samples_per_prompt=2, **settings)
    for row in range(24):
        arguments = prompts[row // 2], fast.tokens[row], fast.log_probs[row], fast.tape[row]
        assert_tape_is_what_the_model_says(model, *arguments, **settings)
        if settings["temperature"] > 0:
            own_numbers = uniforms((24, 17, 3), seeded())[row, 1 : len(fast.tape[row]) + 1, 1]
            assert [verdict.uniform for verdict in fast.tape[row]] == own_numbers.tolist()
    assert 0.1 < fast.acceptance_rate < 0.9 and len({len(tokens) for tokens in fast.tokens}) > 2


def test_perfect_drafts_are_all_accepted_and_halve_the_passes():
    model = drafting_model(strength=0)
    fast = generate_speculative(model, random_prompts(model.config, 20), 21, generator=seeded())
    assert fast.acceptance_rate == 1.0 and fast.tokens_per_forward == 2.0
    assert [len(row) for row in fast.tape] == [10] * 20
    assert generate_speculative(model, [[1]], 2).tokens_per_forward == 1.0, "the last pair was cut"


@torch.no_grad()
def test_acceptance_is_the_overlap_of_p_and_q():
    model = drafting_model(strength=1.0, vocab_size=5)
    prompt, samples = torch.tensor([3, 0, 4, 1]), 8000
    text = torch.cat((prompt.expand(5, -1), torch.arange(5)[:, None]), dim=1)
    hidden = model.hidden_states(text)
    first, p = probabilities(model.lm_head(hidden))[:, -2:].unbind(1)  # of the first token, and of the second given it
    q = probabilities(model.lm_head(model.predict_ahead(hidden[:, :-1], text[:, 1:])[:, -1]))
    expected = (first[0] * torch.minimum(p, q).sum(-1)).sum().item()
    fast = generate_speculative(model, [prompt], 2, generator=seeded(), samples_per_prompt=samples)
    deviation = math.sqrt(expected * (1 - expected) / samples)
    assert abs(fast.acceptance_rate - expected) < 4 * deviation and 0.2 < expected < 0.9


def test_rates_count_the_tape():
    model = drafting_model()
    fast = generate_speculative(model, random_prompts(model.config, 9), 15, generator=seeded(), stop=range(9))
    verdicts = list(itertools.chain(*fast.tape))
    assert fast.acceptance_rate == pytest.approx(sum(v.accepted for v in verdicts) / len(verdicts))
    assert fast.tokens_per_forward == pytest.approx((sum(map(len, fast.tokens)) - 9) / len(verdicts))
    assert [len(row) - 1 for row in fast.tokens] == [sum(v.count for v in row) for row in fast.tape]
    nothing = generate_speculative(model, [[1]], 1)
    assert math.isnan(nothing.acceptance_rate) and math.isnan(nothing.tokens_per_forward)


# --- the batch


def test_row_does_not_depend_on_the_other_rows():
    model = drafting_model()
    prompts, stop = random_prompts(model.config, 7), range(6)
    together = generate_speculative(model, prompts, 20, generator=seeded(), stop=stop)
    for count in (1, 3):
        fewer = generate_speculative(model, prompts[:count], 20, generator=seeded(), stop=stop)
        for row in range(count):
            assert torch.equal(fewer.tokens[row], together.tokens[row])
            assert [v[4:] for v in fewer.tape[row]] == [v[4:] for v in together.tape[row]]
    assert len({len(tokens) for tokens in together.tokens}) > 2


@pytest.mark.parametrize("lengths", [(4, 4, 4), (1, 1, 1), (2, 5, 1)])
@pytest.mark.parametrize("new", [1, 2, 3, 8])
def test_any_length_comes_out_as_asked(lengths, new):
    model = drafting_model()
    prompts = [make_tokens(model.config, 1, n, seed=n)[0] for n in lengths]
    fast = generate_speculative(model, prompts, new, temperature=0)
    plain = generate(model, prompts, new, temperature=0)
    assert [row.tolist() for row in fast.tokens] == [row.tolist() for row in plain.tokens]
    assert not fast.stopped.any()


def test_model_reads_the_prompt_once_and_then_pairs():
    model = drafting_model()
    shapes, layer = [], model.model.layers[0]
    hook = layer.register_forward_pre_hook(lambda _, args: shapes.append(tuple(args[0].shape[:2])))
    fast = generate_speculative(
        model, random_prompts(model.config, 4), 30, generator=seeded(), stop=range(4), samples_per_prompt=8
    )
    hook.remove()
    passes = [max(len(row) for row in fast.tape), len({*shapes[1:]})]
    assert shapes[0] == (4, 12) and shapes[1] == (32, 2) and len(shapes) == 1 + passes[0]
    for step, (batch, width) in enumerate(shapes[1:]):
        running = sum(len(row) > step for row in fast.tape)
        assert width == 2 and running <= batch and batch - running < max(1, batch / 4)
    assert 2 < passes[1] < 15, "finished rows left, in bulk"


def test_seed_repeats_and_global_seed_counts_without_one():
    model = drafting_model()
    prompts = random_prompts(model.config, 5)
    runs = [torch.cat(generate_speculative(model, prompts, 9, generator=seeded(s)).tokens) for s in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_results_are_ordinary_tensors():
    fast = generate_speculative(drafting_model(dtype=torch.float32), [[1, 2], [3]], 5, generator=seeded())
    assert fast.log_probs[0].dtype == torch.float32 and fast.tokens[0].dtype == torch.int64
    assert not any(x.is_inference() or x.requires_grad for x in (*fast.tokens, *fast.log_probs, fast.stopped))


def test_progress_counts_tokens(capsys):
    model = drafting_model()
    generate_speculative(model, [[1, 2], [3]], 5, temperature=0)
    assert capsys.readouterr() == ("", "")
    generate_speculative(model, [[1, 2], [3]], 5, temperature=0, progress=True)
    assert "10/10" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": [[1], []]}, r"prompts\[1\] is empty"),
        ({"prompts": [[61]]}, r"prompts\[0\] holds 61"),
        ({"max_new_tokens": 0}, "max_new_tokens = 0"),
        ({"temperature": -1}, "temperature = -1"),
        ({"top_p": 0}, "top_p = 0"),
        ({"top_k": 0}, "top_k = 0"),
        ({"stop": 99}, "stop holds 99"),
    ],
)
def test_bad_requests_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        generate_speculative(drafting_model(), **{"prompts": [[1]], "max_new_tokens": 3, **changes})


def test_model_without_the_module_is_refused():
    with pytest.raises(ValueError, match="no multi-token-prediction module"):
        generate_speculative(make_model(CONFIGS["mla"]), [[1]], 3)

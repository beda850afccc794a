"""Thinking budgets: the slow loop's tokens and marks, whatever the bounds; and nothing changes where none binds."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from tiny import CONFIGS, make_model, make_tokens

from dsmini.inference import budget as module
from dsmini.inference.budget import Forcing, generate_with_budget
from dsmini.inference.generate import generate
from dsmini.inference.sampling import draw, probabilities, uniforms
from dsmini.language.frame import parse_response, prompt_text
from dsmini.language.tokenizer import EOS, TOKENIZER
from dsmini.tasks import measure, shell_game

END, WAIT, STOP = 31, 5, (3, 8, 19)
TOKENS = {"end_think": END, "wait": WAIT}


def eager(name, seed=0):
    """A tiny model that says END often enough for every case to happen."""
    model = make_model(CONFIGS[name], seed)
    with torch.no_grad():
        model.lm_head.weight[END] *= 2.5
    return model


def prompts_of(config, lengths=(3, 9, 1, 5)):
    return [make_tokens(config, 1, length, seed=seed)[0] for seed, length in enumerate(lengths)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def slow(model, prompt, random, budget, minimum=0, max_waits=1, stop=STOP, end_think=END, **settings):
    """One row in plain steps: its tokens, their log-probabilities, which were forced, and the thought's length."""
    said, log_probs, forced, thought = [], [], [], None
    for uniform in random:
        probs = probabilities(model(torch.tensor([*prompt.tolist(), *said])[None])[0, -1], **settings)
        drawn = token = int(draw(probs, uniform))
        if thought is None:
            if len(said) >= budget:
                token = end_think
            elif drawn == end_think and len(said) < minimum and max_waits:
                token, max_waits = WAIT, max_waits - 1
            if token == end_think:
                thought = len(said)
        said.append(token)
        log_probs.append(probs[token].log().item())
        forced.append(token != drawn)
        if token in stop:
            break
    return said, log_probs, forced, len(said) - (said[-1] in stop) if thought is None else thought


def assert_rows_equal_slow(model, prompts, generation, random, bounds, samples=1, stop=STOP, **settings):
    """bounds: for each row a dict of what binds it. Returns the rows, as the slow loop wrote them."""
    expected = []
    for row, bound in enumerate(bounds):
        expected.append(slow(model, prompts[row // samples], random[row], **bound, stop=stop, **settings))
        tokens, log_probs, forced, thought = expected[-1]
        assert generation.tokens[row].tolist() == tokens, row
        assert generation.forced[row].tolist() == forced, row
        log_probs = torch.tensor(log_probs, dtype=torch.float64)  # -inf where a forced token could not be drawn
        torch.testing.assert_close(generation.log_probs[row], log_probs, rtol=0, atol=1e-11)
        assert generation.thought[row] == thought, row
        assert generation.closed_by_force[row] == any(f and t == END for f, t in zip(forced, tokens, strict=True)), row
        assert generation.stopped[row] == (tokens[-1] in stop), row
    return expected


@pytest.mark.parametrize("name", ["mla", "gqa", "mla, experts"])
@pytest.mark.parametrize("budget", [0, 1, 4, 11])
def test_budget_equals_the_slow_loop(name, budget):
    model = eager(name)
    prompts, settings = prompts_of(model.config), {"temperature": 1.2, "top_p": 0.95}
    said = generate_with_budget(
        model, prompts, 20, budget, generator=seeded(1), stop=STOP, samples_per_prompt=4, **settings, **TOKENS
    )
    random = uniforms((16, 20), seeded(1))
    rows = assert_rows_equal_slow(model, prompts, said, random, [{"budget": budget}] * 16, 4, **settings)
    assert said.closed_by_force.any() and (budget == 0 or not all(any(forced) for _, _, forced, _ in rows))


def test_minimum_equals_the_slow_loop():
    model = eager("mla")
    prompts = prompts_of(model.config)
    for bounds in ({"minimum": 9}, {"minimum": 25, "max_waits": 2}, {"minimum": 9, "max_waits": 0}):
        said = generate_with_budget(
            model, prompts, 25, 15, generator=seeded(2), stop=STOP, samples_per_prompt=5, **bounds, **TOKENS
        )
        random = uniforms((20, 25), seeded(2))
        assert_rows_equal_slow(model, prompts, said, random, [{"budget": 15, **bounds}] * 20, 5)
        rows = zip(said.forced, said.tokens, strict=True)
        waits = [int((forced & (tokens == WAIT)).sum()) for forced, tokens in rows]
        assert max(waits) == bounds.get("max_waits", 1), "a real test"


def test_every_row_has_its_own_bounds_while_others_leave_the_batch():
    model = eager("mla, compressed queries")
    prompts = prompts_of(model.config, (4, 7, 2, 7))
    budgets, minima, waits = [i % 7 for i in range(32)], [i % 5 for i in range(32)], [i % 3 for i in range(32)]
    said = generate_with_budget(
        model, prompts, 25, budgets, generator=seeded(), stop=STOP, samples_per_prompt=8,
        minimum=torch.tensor(minima), max_waits=waits, **TOKENS,
    )  # fmt: skip
    bounds = zip(budgets, minima, waits, strict=True)
    bounds = [{"budget": b, "minimum": m, "max_waits": w} for b, m, w in bounds]
    rows = assert_rows_equal_slow(model, prompts, said, uniforms((32, 25), seeded()), bounds, 8)
    assert len({len(tokens) for tokens, *_ in rows}) > 9, "rows end at many moments"


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.7, "top_k": 9}, {"temperature": 0}])
def test_budget_that_binds_nowhere_changes_nothing(settings):
    model = eager("mla")
    prompts, first, second = prompts_of(model.config), seeded(3), seeded(3)
    plain = generate(model, prompts, 20, generator=first, stop=STOP, samples_per_prompt=3, **settings)
    for budget in (20, 1000):
        said = generate_with_budget(
            model, prompts, 20, budget, generator=second, stop=STOP, samples_per_prompt=3, **settings, **TOKENS
        )
        assert all(map(torch.equal, said.tokens, plain.tokens))
        assert all(map(torch.equal, said.log_probs, plain.log_probs))
        assert torch.equal(said.stopped, plain.stopped) and torch.equal(first.get_state(), second.get_state())
        assert not torch.cat(said.forced).any() and not said.closed_by_force.any()
        second = seeded(3)


def test_thoughts_within_the_budget_are_as_without_it_and_the_others_up_to_the_forced_token():
    model = eager("mla, experts")
    prompts = prompts_of(model.config)
    plain = generate(model, prompts, 20, generator=seeded(), stop=STOP, samples_per_prompt=6).tokens
    said = generate_with_budget(model, prompts, 20, 6, generator=seeded(), stop=STOP, samples_per_prompt=6, **TOKENS)
    for free, tokens, forced in zip(plain, said.tokens, said.forced, strict=True):
        at = forced.nonzero()[0, 0] if forced.any() else len(free)
        assert torch.equal(tokens[:at], free[:at])
    assert 4 < said.closed_by_force.sum() < 20, "a real test"


def test_row_does_not_depend_on_the_budgets_of_the_others():
    model = eager("mla")
    prompts = prompts_of(model.config)
    for budgets in ([3, 0, 9, 20], [3, 20, 1, 1]):
        said = generate_with_budget(model, prompts, 20, budgets, generator=seeded(), stop=STOP, **TOKENS)
        alone = generate_with_budget(model, prompts[:1], 20, 3, generator=seeded(), stop=STOP, **TOKENS)
        assert torch.equal(said.tokens[0], alone.tokens[0]) and torch.equal(said.forced[0], alone.forced[0])


def run(draws, budget, minimum=0, max_waits=1):
    """What `Forcing` writes of one row's draws, and where it forced."""
    bounds = (torch.tensor([bound]) for bound in (budget, minimum, max_waits))
    forcing = Forcing(*bounds, wait=WAIT, end_think=END, max_new_tokens=len(draws))
    row = torch.tensor([0])
    said = [int(forcing(step, row, torch.tensor([drawn]))) for step, drawn in enumerate(draws)]
    return said, forcing.forced[0].nonzero()[:, 0].tolist()


@pytest.mark.parametrize(
    ("draws", "bounds", "said", "forced"),
    [
        ([1, 2, 4, 6], {"budget": 0}, [END, 2, 4, 6], [0]),
        ([1, 2, 4, 6], {"budget": 2}, [1, 2, END, 6], [2]),
        ([1, 2, END, 6], {"budget": 2}, [1, 2, END, 6], []),
        ([1, END, 4, 6], {"budget": 2}, [1, END, 4, 6], []),
        ([END, 2, 4, END], {"budget": 2}, [END, 2, 4, END], []),
        ([1, 2, 4, 6], {"budget": 4}, [1, 2, 4, 6], []),
        ([1, END, 4, END], {"budget": 9, "minimum": 2}, [1, WAIT, 4, END], [1]),
        ([1, 2, END, 4], {"budget": 9, "minimum": 2}, [1, 2, END, 4], []),
        ([END, END, END, 4], {"budget": 9, "minimum": 9}, [WAIT, END, END, 4], [0]),
        ([END, END, END, END], {"budget": 9, "minimum": 9, "max_waits": 3}, [WAIT, WAIT, WAIT, END], [0, 1, 2]),
        ([END, 2, 4, 6], {"budget": 2, "minimum": 9}, [WAIT, 2, END, 6], [0, 2]),
        ([1, 2, END, 6], {"budget": 2, "minimum": 9}, [1, 2, END, 6], []),
        ([END, 2, END, 6], {"budget": 3, "minimum": 1, "max_waits": 2}, [WAIT, 2, END, 6], [0]),
    ],
)
def test_rules_case_by_case(draws, bounds, said, forced):
    assert run(draws, **bounds) == (said, forced)


def test_forced_token_has_the_log_probability_that_the_model_gave_it():
    model = eager("mla")
    prompt = prompts_of(model.config)[1]
    said = generate_with_budget(model, [prompt], 3, 0, generator=seeded(), **TOKENS)
    expected = probabilities(model(prompt[None])[0, -1])[END].log()
    assert said.forced[0].tolist() == [True, False, False] and said.log_probs[0][0] == pytest.approx(expected.item())
    greedy = generate_with_budget(model, [prompt], 3, 0, temperature=0, **TOKENS)
    assert greedy.log_probs[0].tolist() == [-torch.inf, 0, 0]


def test_thought_may_end_the_row_closed_or_not():
    model = eager("mla")
    prompts = prompts_of(model.config)
    only_thoughts = generate_with_budget(model, prompts, 20, 5, generator=seeded(), stop=END, **TOKENS)
    assert only_thoughts.stopped.all() and all(tokens[-1] == END for tokens in only_thoughts.tokens)
    assert only_thoughts.thought.tolist() == [len(tokens) - 1 for tokens in only_thoughts.tokens]
    assert only_thoughts.thought.max() == 5 and only_thoughts.closed_by_force.any()
    everything = [token for token in range(61) if token != END]
    at_once = generate_with_budget(model, prompts, 20, 5, generator=seeded(4), stop=everything, **TOKENS)
    assert at_once.thought.tolist() == [0] * 4 and not at_once.closed_by_force.any()
    cut_off = generate_with_budget(model, prompts, 4, 9, generator=seeded(5), **TOKENS)
    open_rows = [i for i, tokens in enumerate(cut_off.tokens) if END not in tokens]
    assert open_rows and cut_off.thought[open_rows].tolist() == [4] * len(open_rows)


def test_results_are_ordinary_tensors_and_masks_fit_the_tokens():
    model = eager("mla")
    said = generate_with_budget(model, prompts_of(model.config), 9, 2, generator=seeded(), stop=STOP, **TOKENS)
    assert not any(x.is_inference() for x in (*said.tokens, *said.forced, said.thought, said.closed_by_force))
    assert [x.shape for x in said.forced] == [x.shape for x in said.tokens]
    assert said.forced[0].dtype == said.closed_by_force.dtype == torch.bool and said.thought.dtype == torch.int64


def test_tokens_of_the_book_are_the_default():
    model = make_model(dataclasses.replace(CONFIGS["mla"], vocab_size=128))
    prompt, random = TOKENIZER.encode(prompt_text("cups 2 4 a 1-2")), seeded()
    said = generate_with_budget(model, [prompt] * 3, 12, 4, generator=random, stop=TOKENIZER.id(EOS))
    texts = [TOKENIZER.decode(tokens[4:5]) for tokens in said.tokens if len(tokens) > 4]
    assert texts and set(texts) == {"</think>"} and TOKENIZER.decode([module._WAIT]) == "wait"


def test_accuracy_is_measured_at_each_budget():
    model = make_model(dataclasses.replace(CONFIGS["mla"], vocab_size=128))
    end, eos = TOKENIZER.id("</think>"), TOKENIZER.id(EOS)
    with torch.no_grad():
        model.lm_head.weight[[end, eos]] *= 2.5
    problems = measure.held_out(shell_game, 4)
    short = SimpleNamespace(is_right=lambda problem, answer: len(answer.split()) < problem.difficulty)
    rows = measure.accuracy_at_budgets(model, short, problems, [0, 3, 30], 5, seed=1, max_new_tokens=30, progress=False)
    prompts = [TOKENIZER.encode(prompt_text(problem.prompt)) for problem in problems]
    for row in rows:
        random, right, spent, forced = uniforms((20, 30), seeded(1)), [], [], []
        for i in range(20):
            problem, prompt = problems[i // 5], prompts[i // 5]
            bounds = {"budget": row["budget"], "stop": {eos}, "end_think": end}
            tokens, _, marks, thought = slow(model, prompt, random[i], **bounds)
            response = parse_response(TOKENIZER.decode(tokens))
            right.append(response is not None and short.is_right(problem, response.answer))
            spent.append(thought)
            forced.append(any(marks))
        measured = {"accuracy": sum(right) / 20, "tokens": sum(spent) / 20, "forced": sum(forced) / 20}
        assert row == pytest.approx({"budget": row["budget"], **measured})
    assert [row["budget"] for row in rows] == [0, 3, 30] and len({row["accuracy"] for row in rows}) == 3, rows
    assert rows[0]["tokens"] == rows[2]["forced"] == 0 < rows[1]["forced"] < rows[0]["forced"]
    bounds = {"max_new_tokens": 30, "minimum": 9, "progress": False}
    longer = measure.accuracy_at_budgets(model, short, problems, [30], 5, 1, **bounds)
    assert longer[0]["tokens"] > rows[2]["tokens"] and longer[0]["forced"] == 0


def test_measuring_shows_progress_unless_told_not_to(capsys):
    model = make_model(dataclasses.replace(CONFIGS["mla"], vocab_size=128))
    asked = model, shell_game, measure.held_out(shell_game, 1), [0, 2]
    measure.accuracy_at_budgets(*asked, max_new_tokens=3)
    assert "2/2" in capsys.readouterr().err
    measure.accuracy_at_budgets(*asked, max_new_tokens=3, progress=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": -1}, "budget = -1: expected whole numbers of 0 or more"),
        ({"budget": 2.5}, "budget = 2.5"),
        ({"budget": None}, "budget = None"),
        ({"budget": True}, "budget = True"),
        ({"budget": [1, 2]}, r"budget has shape \(2,\): expected one number, or one for each of the 3 rows"),
        ({"budget": [[1, 2, 3]]}, r"budget has shape \(1, 3\)"),
        ({"minimum": -2}, "minimum = -2"),
        ({"max_waits": [1, -1, 1]}, r"max_waits = \[1, -1, 1\]"),
        ({"wait": 61}, "wait = 61: expected 0 <= token < vocab_size = 61"),
        ({"end_think": "end"}, "end_think = 'end'"),
        ({"wait": END}, "wait = 31: expected another token than end_think"),
        ({"samples_per_prompt": 0}, "samples_per_prompt = 0"),
        ({"max_new_tokens": 0}, "max_new_tokens = 0"),
        ({"prompts": []}, "prompts: there are none"),
    ],
)
def test_bad_requests_are_named(changes, message):
    good = {"prompts": torch.tensor([[1, 2]]), "max_new_tokens": 3, "budget": 1, "samples_per_prompt": 3, **TOKENS}
    with pytest.raises(ValueError, match=message):
        generate_with_budget(make_model(CONFIGS["mla"]), **{**good, **changes})

"""The faces of the router, the tape and the tiles: what they take, refuse, and say without JavaScript."""

import numpy as np
import pytest
import torch
from tiny import CONFIGS, make_model, make_tokens
from traitlets import TraitError

from dsmini import widgets
from dsmini.accounting import float8, routing
from dsmini.inference.speculative import Verdict, generate_speculative
from dsmini.model.moe import watch_routing
from dsmini.widgets import faces_v3, toys

STEP = {"draft": " a", "q": 0.5, "p": 0.4, "uniform": 0.7, "accepted": True, "token": " b", "count": 2}
TAPE = {"prompt": "", "first": " x", "greedy": False, "steps": [STEP]}
SCORES = [[[0.1, 0.2, 0.3, 0.4]] * 5] * 2
VALUES = [[0.5] * 8] * 2


def tape(**changes):
    return {**TAPE, "steps": [{**STEP, **changes}]}


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_scores_and_values_may_be_lists_arrays_or_tensors(kind):
    own = widgets.router(kind(SCORES), n_group=2)
    assert faces_v3.unpack_scores(own.scores[1], 4)[4] == [round(4096 * x) / 4096 for x in (0.1, 0.2, 0.3, 0.4)]
    assert (own.experts, own.topk_group, len(own.scores)) == (4, 2, 2)
    assert widgets.fp8_tiles(kind(VALUES), outlier_row=2, row=1).values == VALUES
    assert widgets.router([kind(batch) for batch in SCORES]).scores == own.scores


def test_a_tape_takes_verdicts_and_ids():
    verdict = Verdict(draft=3, q=0.5, p=0.4, uniform=0.7, accepted=True, token=7, count=2)
    own = widgets.mtp_tape({**TAPE, "first": 1, "steps": [verdict]}, decode=lambda i: f" t{i}")
    assert own.tapes[0]["first"] == " t1"
    assert own.tapes[0]["steps"] == [{**STEP, "draft": " t3", "token": " t7"}]
    assert "1 of 1 drafts accepted, 2 tokens in 1 forward passes" in own.fallback()
    assert "<q> t1 t3 t7</q>" in own.fallback()


def test_a_real_model_s_routing_and_tape_fit():
    model = make_model(CONFIGS["mla, experts, MTP"])
    tokens = make_tokens(model.config, 2, 16)
    with watch_routing(model) as seen, torch.no_grad():
        model(tokens)
    routing_seen = next(iter(seen.values()))
    own = widgets.router(routing_seen.scores, k=3, topk_group=2, scale=2.5, words=[["x"] * 16] * 2)
    kept = faces_v3.unpack_scores(own.scores[0], 8)
    assert torch.tensor(kept) == pytest.approx(routing_seen.scores[0].numpy(), abs=1 / 4096)
    for temperature in (0, 1):
        seed = torch.Generator().manual_seed(0)
        written = generate_speculative(model, tokens[:1, :6], 20, temperature=temperature, generator=seed)
        first, steps = str(written.tokens[0][0].item()), written.tape[0]
        own = {"prompt": "", "first": first, "greedy": temperature == 0, "steps": steps}
        told = widgets.mtp_tape(own, decode=lambda i: f" {i}").fallback()
        assert f"{written.tokens_per_forward:.2f} for each" in told
        assert "".join(f" {i}" for i in written.tokens[0].tolist()).strip() in told


def test_the_outlier_stands_in_the_matrix():
    own = widgets.fp8_tiles(outlier=1000, outlier_row=2, outlier_column=7)
    plain = widgets.fp8_tiles().matrix()
    assert own.matrix()[1][6] == float8.float32(plain[1][6] * 1000)
    assert own.matrix()[0] == plain[0]


@pytest.mark.parametrize(
    ("make", "changes"),
    [
        (widgets.router, {"k": 4, "topk_group": 2, "gamma": 0.05, "batch": 64, "token": 64}),
        (widgets.mtp_tape, {"tape": "greedy", "step": 19, "rate": 0.875, "depth": 3}),
        (widgets.fp8_tiles, {"scheme": "block", "power_of_two": True, "outlier": 1024, "row": 8, "column": 32}),
    ],
)
def test_traits_go_both_ways(make, changes):
    widget, other = make(), make()
    for name, value in changes.items():
        setattr(widget, name, value)
    assert {name: widget.get_state()[name] for name in changes} == changes
    other.set_state(changes)
    assert {name: getattr(other, name) for name in changes} == changes


def test_a_shorter_tape_takes_the_step_with_it():
    own = widgets.mtp_tape({"long": {**TAPE, "steps": [STEP] * 5}, "short": {**TAPE, "steps": [STEP] * 2}}, step=5)
    own.tape = "short"
    assert own.step == 2


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (widgets.router, {"scores": [[[0.1, 0.2], [0.3]]]}, "expected \\(N, T, E\\) scores"),
        (widgets.router, {"scores": [[[0.1, 0.2]]], "n_group": 1}, "T = 1, E = 2, expected 2 to 256 tokens"),
        (widgets.router, {"scores": [[[0.1, 1.2]] * 2], "n_group": 1}, "expected numbers from 0 to 1"),
        (widgets.router, {"scores": [[[0.1] * 64] * 256] * 3}, "3 x 256 x 64 numbers, expected 40,000 at most"),
        (widgets.router, {"n_group": 5}, "n_group = 5: expected a divisor of the 16 experts"),
        (widgets.router, {"k": 9, "topk_group": 2}, "k = 9: expected at most 8, the experts of topk_group = 2 groups"),
        (widgets.router, {"topk_group": 5}, "topk_group = 5: expected at most n_group = 4"),
        (widgets.router, {"batch": 65}, "batch = 65: expected at most 64"),
        (widgets.router, {"token": 65}, "token = 65: expected at most 64"),
        (widgets.router, {"gamma": -0.1}, "gamma"),
        (widgets.router, {"words": [["a"]]}, "words: expected 8 x 64 strings"),
        (widgets.mtp_tape, {"tapes": {}}, "expected at least one tape"),
        (widgets.mtp_tape, {"tapes": {"a": {"steps": []}}}, "expected prompt, first, greedy and steps"),
        (widgets.mtp_tape, {"tapes": {**TAPE, "steps": []}}, "0 steps, expected 1 to 64"),
        (widgets.mtp_tape, {"tapes": {**TAPE, "steps": [{"draft": "a"}]}}, "step 1 lacks q, p, uniform"),
        (widgets.mtp_tape, {"tapes": tape(draft=5)}, "the token 5 is no text"),
        (widgets.mtp_tape, {"tapes": tape(q=0)}, "q = 0, p = 0.4"),
        (widgets.mtp_tape, {"tapes": tape(uniform=0.9)}, "accepted = True, but q = 0.5, p = 0.4, uniform = 0.9"),
        (widgets.mtp_tape, {"tapes": tape(uniform=0.9, accepted=False)}, "count = 2, expected 1, or 2 behind"),
        (widgets.mtp_tape, {"tapes": tape(top=[(" a", 0.4, 0.5)])}, "top needs overlap beside it"),
        (widgets.mtp_tape, {"tape": "cold"}, "tape = 'cold': expected one of sampled, greedy"),
        (widgets.mtp_tape, {"step": 21}, "step = 21: expected at most 20, the steps of 'sampled'"),
        (widgets.mtp_tape, {"depth": 5}, "depth"),
        (widgets.fp8_tiles, {"values": [[0.5] * 8]}, "values: 1 rows of \\[8\\], expected 2 to 16 rows"),
        (widgets.fp8_tiles, {"values": [[0.5] * 8, [0.5] * 9]}, "2 rows of \\[8, 9\\]"),
        (widgets.fp8_tiles, {"values": [[float("inf")] * 8] * 2}, "expected finite numbers"),
        (widgets.fp8_tiles, {"scheme": "row"}, "scheme"),
        (widgets.fp8_tiles, {"row": 9}, "row = 9: expected at most 8"),
        (widgets.fp8_tiles, {"outlier_column": 33}, "outlier_column = 33: expected at most 32"),
        (widgets.fp8_tiles, {"outlier": 2**21}, "outlier"),
    ],
)
def test_bad_arguments_are_named(make, arguments, message):
    with pytest.raises((ValueError, TraitError), match=message):
        make(**arguments)


def test_the_fallback_tells_the_numbers():
    scores = [faces_v3.unpack_scores(text, 16) for text in widgets.router().scores]
    run = routing.balanced_run(scores, 64, 0.01, 2, 4, 4)
    first = f"MaxVio is {routing.max_violation(run.loads[0]):.2f}"
    assert first in widgets.router().fallback()
    assert "a pass brings 1.85 to 1.90 tokens" in widgets.mtp_tape().fallback()
    assert "made 131,072 times as large" in widgets.fp8_tiles(outlier=2**17).fallback()


def test_the_invented_data_shows_what_it_should():
    scores = toys.lopsided_scores()
    still, moved = (routing.balanced_run(scores, 64, speed, 2) for speed in (0, 0.01))
    assert routing.max_violation(still.loads[-1]) > 3 > 1 > routing.max_violation(moved.loads[-1])
    for told in toys.toy_tapes().values():
        verdicts = [step["accepted"] for step in told["steps"]]
        assert any(verdicts) and not all(verdicts)


def test_text_from_a_tape_is_escaped():
    evil = "</ds-widget><script>'"
    markup = widgets.mtp_tape({**TAPE, "prompt": evil, "first": evil}).to_html()
    assert "<script" not in markup and markup.count("</ds-widget>") == 1

"""The Python faces of the widgets of chapters 3 to 5: the router, the speculative tape, the FP8 tiles."""

import html
import math

from traitlets import Bool, Dict, Enum, Float, Int, List, TraitError, Unicode, observe, validate

from dsmini.accounting import float8, routing, speculation
from dsmini.widgets import toys
from dsmini.widgets.base import Widget, state
from dsmini.widgets.tapes import read_tape, written

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
_MOST_SCORES = 40_000  # two bytes of the page each
_LARGEST_OUTLIER = 2**20


def router(scores=None, n_group=4, k=2, topk_group=None, gamma=0.01, scale=1.0, batches=64, batch=1, token=1,
           words=None):  # fmt: skip
    """The router, token by token: a biased choice, unbiased weights, and the bias that evens out the load.

    scores: (N, T, E), what a sigmoid router gives E experts for N batches of T tokens, without the bias: a tensor, an
      array or nested lists. Kept in 12 bits each, so N T E may be 40,000 at most. An invented, lopsided router by
      default. The run goes through the N batches again and again; only the bias moves.
    n_group, topk_group: groups of neighbouring experts, and how many are kept for a token; all by default.
    k: experts for each token. gamma: the bias update speed, 0 is off. scale: what a token's weights sum up to.
    batches: length of the run. batch, token: where the reader stands, from 1.
    words: (N, T) strings, the tokens as text; optional.
    Returns an anywidget; every argument is a trait of the same name (`scores` packed, see `pack_scores`).
    """
    scores = toys.lopsided_scores() if scores is None else _nested(scores)
    _check_scores(scores, n_group)
    if words is not None and [len(row) for row in words] != [len(row) for row in scores]:
        raise ValueError(f"words: expected {len(scores)} x {len(scores[0])} strings, one for each token of scores")
    return Router(
        scores=[pack_scores(rows) for rows in scores],
        words=[] if words is None else [list(row) for row in words],
        experts=len(scores[0][0]),
        n_group=n_group,
        topk_group=n_group if topk_group is None else topk_group,
        k=k,
        gamma=gamma,
        scale=scale,
        batches=batches,
        batch=batch,
        token=token,
    )


def mtp_tape(tapes=None, tape=None, step=1, rate=None, depth=1, decode=None):
    """The tape of speculative decoding: each draft, its two probabilities, the verdict, and what a forward pass brings.

    tapes: a dict of label -> tape, or one tape; a run of a toy model, sampled and greedy, by default. A tape is a dict:
      prompt (text before it, may be empty), first (the token that the prompt's own pass wrote), greedy (bool),
      steps: for each later pass of the main model a `dsmini.inference.speculative.Verdict`, or a dict with its fields:
        draft, q, p, uniform, accepted, token, count; tokens as text, or as ids if `decode` is given. Optional:
        top: up to 8 rows (token, p, q), the likeliest tokens of either; overlap: the sum of min(p, q) over the whole
        vocabulary. With both the widget draws the distribution that replaces a rejected draft.
    tape: the label shown; the first by default. step: from 1.
    rate, depth: acceptance rate (the tape's own by default) and drafts in a row for the expected tokens per pass.
    decode: a function, token id -> text.
    Returns an anywidget; every argument but `decode` is a trait of the same name (`rate` is -1 for the tape's own).
    """
    tapes = toys.toy_tapes() if tapes is None else tapes
    if "steps" in tapes:
        tapes = {"tape": tapes}
    if not tapes:
        raise ValueError("tapes = {}: expected at least one tape")
    rows = [read_tape(label, one, decode) for label, one in tapes.items()]
    rate = -1.0 if rate is None else rate
    return MTPTape(tapes=rows, tape=tape or rows[0]["label"], step=step, rate=rate, depth=depth)


def fp8_tiles(values=None, tile=8, scheme="tile", power_of_two=False, outlier=1, outlier_row=3, outlier_column=6,
              row=3, column=2):  # fmt: skip
    """The FP8 tile quantiser: a small matrix in E4M3, with one scale for all, for each tile or for each block.

    values: (R, C) numbers, 2 to 16 rows, 8 to 64 columns: a tensor, an array or nested lists; 8 x 32 invented
      activations by default. Four digits of each are kept.
    tile: width T of the 1 x T tiles and the T x T blocks; the real one is 128.
    scheme: "tensor", "tile" or "block", as in `dsmini.accounting.float8.quantize`. power_of_two: UE8M0 scales.
    outlier: what the number at (outlier_row, outlier_column) is multiplied with, 1 to 2^20.
    row, column: the number under the lens. Positions start at 1.
    Returns an anywidget; every argument is a trait of the same name.
    """
    values = _rounded(toys.activations() if values is None else _nested(values))
    return FP8Tiles(values=values, tile=tile, scheme=scheme, power_of_two=power_of_two, outlier=outlier,
                    outlier_row=outlier_row, outlier_column=outlier_column, row=row, column=column)  # fmt: skip


class Router(Widget):
    """The face of router.js. See `router`."""

    module = "router"
    scores = state(List(Unicode()))
    words = state(List(List(Unicode())))
    experts = state(Int(min=2, max=64))
    n_group = state(Int(min=1, max=26))
    topk_group = state(Int(min=1))
    k = state(Int(min=1))
    gamma = state(Float(min=0, max=1))
    scale = state(Float(min=0))
    batches = state(Int(min=2, max=400))
    batch = state(Int(min=1))
    token = state(Int(min=1))

    @validate("k", "topk_group")
    def _possible_choice(self, proposal):
        k, kept = ({"k": self.k, "topk_group": self.topk_group} | {proposal["trait"].name: proposal["value"]}).values()
        if kept > self.n_group:
            raise TraitError(f"topk_group = {kept}: expected at most n_group = {self.n_group}")
        if k > (reachable := kept * self.experts // self.n_group):
            raise TraitError(f"k = {k}: expected at most {reachable}, the experts of topk_group = {kept} groups")
        return proposal["value"]

    @validate("batch", "token")
    def _possible_place(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        last = self.batches if name == "batch" else len(self.scores[0]) // (2 * self.experts)
        if value > last:
            raise TraitError(f"{name} = {value}: expected at most {last}")
        return value

    def fallback(self):
        data = [unpack_scores(text, self.experts) for text in self.scores]
        run = routing.balanced_run(data, self.batches, self.gamma, self.k, self.n_group, self.topk_group)
        last = [sum(counts) for counts in zip(*run.loads[-len(data) :], strict=True)]
        biases = run.biases[-1]
        return (
            f"<p>{self.batches} batches of {len(data[0])} tokens go through {self.experts} experts, {self.k} for each "
            f"token. In the first batch MaxVio is {routing.max_violation(run.loads[0]):.2f}: the busiest expert lies "
            f"that far above the mean load. At a bias update speed of {self.gamma:g} it is "
            f"{routing.max_violation(last):.2f} "
            f"over the last {len(data)} batches, and the biases lie between {min(biases):+.3f} and {max(biases):+.3f}. "
            f"The bias takes part in the choice only; the weights come from the scores without it.</p>"
        )


class MTPTape(Widget):
    """The face of mtp_tape.js. See `mtp_tape`."""

    module = "mtp_tape"
    tapes = state(List(Dict()))
    tape = state(Unicode())
    step = state(Int(min=1))
    rate = state(Float(min=-1, max=1))
    depth = state(Int(min=1, max=4))

    @validate("tape")
    def _known_tape(self, proposal):
        self._row(proposal["value"])
        return proposal["value"]

    @validate("step")
    def _possible_step(self, proposal):
        last = len(self._row(self.tape)["steps"])
        if proposal["value"] > last:
            raise TraitError(f"step = {proposal['value']}: expected at most {last}, the steps of {self.tape!r}")
        return proposal["value"]

    @observe("tape")
    def _keep_step_possible(self, _change):
        self.step = min(self.step, len(self._row(self.tape)["steps"]))

    def _row(self, label):
        rows = {row["label"]: row for row in self.tapes}
        if label not in rows:
            raise TraitError(f"tape = {label!r}: expected one of {', '.join(rows)}")
        return rows[label]

    def fallback(self):
        told = []
        for row in self.tapes:
            steps = row["steps"]
            accepted, count = (sum(step[name] for step in steps) for name in ("accepted", "count"))
            told.append(
                f"<li><strong>{html.escape(row['label'])}</strong>: {accepted} of {len(steps)} drafts accepted, "
                f"{count} tokens in {len(steps)} forward passes, {count / len(steps):.2f} for each: "
                f"<q>{html.escape(row['prompt'] + row['first'] + ''.join(map(written, steps)))}</q></li>"
            )
        low, high = (speculation.expected_tokens(rate, 1) for rate in (0.85, 0.9))
        return (
            f"<p>Speculative decoding with a draft of one token:</p><ul>{''.join(told)}</ul>"
            f"<p>At DeepSeek-V3's reported acceptance of 85 to 90% a pass brings {low:.2f} to {high:.2f} tokens.</p>"
        )


class FP8Tiles(Widget):
    """The face of fp8_tiles.js. See `fp8_tiles`."""

    module = "fp8_tiles"
    values = state(List(List(Float())))
    tile = state(Int(min=2, max=64))
    scheme = state(Enum(float8.SCHEMES))
    power_of_two = state(Bool())
    outlier = state(Int(min=1, max=_LARGEST_OUTLIER))
    outlier_row = state(Int(min=1))
    outlier_column = state(Int(min=1))
    row = state(Int(min=1))
    column = state(Int(min=1))

    @validate("row", "outlier_row", "column", "outlier_column")
    def _possible_place(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        last = len(self.values) if name.endswith("row") else len(self.values[0])
        if value > last:
            raise TraitError(f"{name} = {value}: expected at most {last}")
        return value

    def matrix(self):
        """The numbers that are quantised, outlier included: lists of rows of float32 numbers."""
        rows = [[float8.float32(x) for x in row] for row in self.values]
        place = rows[self.outlier_row - 1]
        place[self.outlier_column - 1] = float8.float32(place[self.outlier_column - 1] * self.outlier)
        return rows

    def fallback(self):
        values = self.matrix()
        told = []
        for scheme in float8.SCHEMES:
            back = float8.quantize(values, scheme, self.tile, self.power_of_two).back
            told.append(
                f"one scale for each {scheme}: {float8.mean_relative_error(back, values):.1%}, "
                f"{float8.lost(back, values)} numbers lost"
            )
        return (
            f"<p>A matrix of {len(values)} x {len(values[0])} numbers in FP8 (E4M3), one of them made {self.outlier:,} "
            f"times as large. How far a number is off on average: {'; '.join(told)}.</p>"
        )


def pack_scores(rows):
    """(T, E) scores in [0, 1] as text, two digits of base 64 each: the nearest of 0, 1/4096, ..., 4095/4096."""
    whole = [min(4095, round(4096 * score)) for row in rows for score in row]
    return "".join(_DIGITS[n // 64] + _DIGITS[n % 64] for n in whole)


def unpack_scores(text, experts):
    """The scores that `pack_scores` kept: text -> (T, E) as nested lists."""
    scores = [(64 * _DIGITS.index(a) + _DIGITS.index(b)) / 4096 for a, b in zip(text[::2], text[1::2], strict=True)]
    return [scores[i : i + experts] for i in range(0, len(scores), experts)]


def _nested(values):
    """A tensor, an array or nested sequences of such as nested lists."""
    if hasattr(values, "tolist"):
        return values.tolist()
    return [_nested(value) for value in values] if isinstance(values, (list, tuple)) else values


def _check_scores(scores, n_group):
    sizes = {(len(batch), len(token)) for batch in scores for token in batch}
    if len(sizes) != 1:
        raise ValueError(f"scores: {len(scores)} batches of sizes {sorted(sizes)[:3]}, expected (N, T, E) scores")
    ((tokens, experts),) = sizes
    if not 2 <= tokens <= 256 or not 2 <= experts <= 64:
        raise ValueError(f"scores: T = {tokens}, E = {experts}, expected 2 to 256 tokens and 2 to 64 experts")
    if experts % n_group:
        raise ValueError(f"n_group = {n_group}: expected a divisor of the {experts} experts")
    if len(scores) * tokens * experts > _MOST_SCORES:
        raise ValueError(f"scores: {len(scores)} x {tokens} x {experts} numbers, expected {_MOST_SCORES:,} at most")
    if not all(0 <= score <= 1 for batch in scores for token in batch for score in token):
        raise ValueError("scores: expected numbers from 0 to 1, the sigmoid's results without the bias")


def _rounded(values):
    """A matrix with four digits of each number, if it is one that can be shown."""
    sizes = {len(row) for row in values}
    if not 2 <= len(values) <= 16 or len(sizes) != 1 or not 8 <= max(sizes) <= 64:
        raise ValueError(f"values: {len(values)} rows of {sorted(sizes)}, expected 2 to 16 rows, 8 to 64 columns")
    if not all(math.isfinite(x) and abs(x) < 1e9 for row in values for x in row):
        raise ValueError("values: expected finite numbers below 1e9")
    return [[float(f"{x:.4g}") for x in row] for row in values]

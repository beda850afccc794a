"""The Python faces of the widgets: their traits, what they check, and the sentence shown without JavaScript."""

import contextlib
import dataclasses
import html

from traitlets import Dict, Enum, Float, Int, List, TraitError, Unicode, observe, validate

import dsmini
from dsmini import accounting
from dsmini.widgets.base import Widget, state

_COMPARED = ("deepseek-67b", "llama-3.1-405b", "llama-3-70b", "qwen2.5-72b", "qwen3-235b-a22b",
             "deepseek-v2-lite", "deepseek-v2", "deepseek-v3", "deepseek-v3.2")  # fmt: skip
_SHAPE = ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "q_lora_rank",
          "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "index_n_heads", "index_head_dim",
          "index_topk", "max_position_embeddings")  # fmt: skip
_RELEASE = ("date", "name", "short", "total", "active", "context", "change", "kind", "family", "chapters", "source")
_LONGEST = 2**24  # tokens: the most that a context trait takes
_GIB = 2**30


def timeline(releases=None, selected=None):
    """The release timeline: step through the releases, hide kinds of model, read what changed and where it is rebuilt.

    releases: rows with the keys of `dsmini.facts()["releases"]`, which is the default.
    selected: the name of the release shown first; the oldest by default.
    Returns an anywidget with traits `releases`, `selected` (a name) and `hidden` (families that are switched off).
    """
    releases = dsmini.facts()["releases"] if releases is None else releases
    rows = sorted((_release(row) for row in releases), key=lambda row: row["date"])
    if not rows or len({row["name"] for row in rows}) < len(rows):
        raise ValueError(f"releases = {[row['name'] for row in rows]}: expected at least one row, each name once")
    return Timeline(releases=rows, selected=selected or rows[0]["name"])


def kv_calculator(preset=None, context=131_072, batch_size=1, bytes_per_value=2, memory_gib=80.0,
                  cache_layout="plain", models=_COMPARED):  # fmt: skip
    """The KV-cache calculator: one model as MHA, GQA, MQA and MLA side by side, and the real models beside it.

    preset: which of `models` the bars show; DeepSeek-V3 (else the first) by default.
    models: names from `dsmini.PRESETS`, or a dict of label -> ModelConfig.
    context, batch_size: tokens per sequence, sequences. bytes_per_value: 4 (fp32), 2 (bf16) or 1 (fp8).
    memory_gib: memory that the cache may fill. cache_layout: as in `dsmini.accounting.kv_cache_bytes`.
    Returns an anywidget; every argument is a trait of the same name.
    """
    rows = _models(models)
    return KVCalculator(
        models=rows,
        preset=preset or _first(rows),
        context=context,
        batch_size=batch_size,
        bytes_per_value=bytes_per_value,
        memory_gib=memory_gib,
        cache_layout=cache_layout,
    )


def absorption(preset=None, context=4096, step=1, naive="expanded",
               models=("deepseek-v3", "deepseek-v2-lite")):  # fmt: skip
    """The absorption step-through: one decoded token in one MLA layer, naive beside absorbed.

    preset: which of `models` gives the sizes; DeepSeek-V3 (else the first) by default.
    models: names from `dsmini.PRESETS`, or a dict of label -> ModelConfig; MLA only.
    context: tokens in the cache. step: 1 to 8.
    naive: "expanded" (keys and values of all heads are cached) or "rebuilt" (made from the latent at every step).
    Returns an anywidget; every argument is a trait of the same name.
    """
    rows = _models(models)
    if without := [row["name"] for row in rows if "kv_lora_rank" not in row]:
        raise ValueError(f"models = {without}: expected models with MLA (kv_lora_rank)")
    return Absorption(models=rows, preset=preset or _first(rows), context=context, step=step, naive=naive)


def _release(row):
    if missing := [key for key in _RELEASE if key not in row]:
        raise ValueError(f"release {row.get('name', row)!r} lacks {', '.join(missing)}")
    return {key: row[key] for key in _RELEASE}


def _models(models):
    """A list of preset names, or a dict of label -> ModelConfig, as plain rows."""
    if isinstance(models, dict):
        models = {name: (name, config) for name, config in models.items()}
    else:
        if unknown := [name for name in models if name not in dsmini.PRESETS]:
            raise ValueError(f"models = {unknown}: expected names from PRESETS, or a dict of label -> ModelConfig")
        models = {name: (dsmini.facts()["presets"][name]["title"], dsmini.PRESETS[name]) for name in models}
    rows = []
    for name, (title, config) in models.items():
        fields = dataclasses.asdict(config)
        rows.append({"name": name, "title": title, **{key: fields[key] for key in _SHAPE if fields[key] is not None}})
    return rows


def _first(rows):
    """The model that a widget shows when none is named."""
    names = [row["name"] for row in rows]
    return "deepseek-v3" if "deepseek-v3" in names else names[0]


class _ModelWidget(Widget):
    """What the calculator and the step-through share: a list of models, and the one that is shown."""

    models = state(List(Dict()))
    preset = state(Unicode())
    context = state(Int(min=1, max=_LONGEST))

    @validate("preset")
    def _known_preset(self, proposal):
        self._row(proposal["value"])
        return proposal["value"]

    def _row(self, name):
        rows = {row["name"]: row for row in self.models}
        if name not in rows:
            raise TraitError(f"preset = {name!r}: expected one of {', '.join(rows)}")
        return rows[name]

    @property
    def title(self):
        """The shown model's name, for HTML."""
        return html.escape(self._row(self.preset)["title"])

    @property
    def config(self):
        """The shown model as a ModelConfig (only the fields that its cache and attention depend on)."""
        row = self._row(self.preset)
        return dsmini.ModelConfig(**{key: row[key] for key in _SHAPE if key in row})


class Timeline(Widget):
    """The face of timeline.js. See `timeline`."""

    module = "timeline"
    releases = state(List(Dict()))
    selected = state(Unicode())
    hidden = state(List(Unicode()))

    @validate("selected")
    def _known_release(self, proposal):
        names = [row["name"] for row in self.releases]
        if proposal["value"] not in names:
            raise TraitError(f"selected = {proposal['value']!r}: expected one of {', '.join(names)}")
        return proposal["value"]

    def fallback(self):
        items = (
            f"<li><strong>{html.escape(row['name'])}</strong> ({row['date']}, {html.escape(row['total'])} parameters, "
            f"{html.escape(row['active'])} active): {html.escape(row['change'])}</li>"
            for row in self.releases
        )
        first, last = self.releases[0], self.releases[-1]
        return (
            f"<p>{len(self.releases)} releases, from {html.escape(first['name'])} ({first['date']}) to "
            f"{html.escape(last['name'])} ({last['date']}):</p><ul>{''.join(items)}</ul>"
        )


class KVCalculator(_ModelWidget):
    """The face of kv_calculator.js. See `kv_calculator`."""

    module = "kv_calculator"
    batch_size = state(Int(min=1, max=65_536))
    bytes_per_value = state(Enum((4, 2, 1)))
    memory_gib = state(Float(min=0.001, max=1e6))
    cache_layout = state(Unicode())

    @validate("cache_layout")
    def _possible_layout(self, proposal):
        possible = _layouts(self.config)
        if proposal["value"] not in possible:
            raise TraitError(
                f"cache_layout = {proposal['value']!r}: expected one of {', '.join(possible)} for {self.preset}"
            )
        return proposal["value"]

    @observe("preset")
    def _keep_layout_possible(self, _change):
        if self.cache_layout not in _layouts(self.config):
            self.cache_layout = "plain"

    def fallback(self):
        sizes = (self.context, self.batch_size, self.bytes_per_value)
        own = accounting.kv_cache_bytes(self.config, *sizes, layout=self.cache_layout)
        mha = accounting.kv_cache_bytes(self.config.with_attention("mha"), *sizes)
        fit = accounting.tokens_that_fit(self.config, int(self.memory_gib * _GIB), *sizes[1:], layout=self.cache_layout)
        return (
            f"<p>{self.title} caches {_short(own / _GIB)} GiB for {self.context:,} tokens "
            f"(batch {self.batch_size}, {self.bytes_per_value} bytes a value, {self.cache_layout} layout). "
            f"The same model with plain multi-head attention would need {_short(mha / _GIB)} GiB, "
            f"{_short(mha / own)} times as much. {fit:,} tokens fit into {self.memory_gib:g} GiB.</p>"
        )


class Absorption(_ModelWidget):
    """The face of absorption.js. See `absorption`."""

    module = "absorption"
    step = state(Int(min=1, max=8))
    naive = state(Enum(("expanded", "rebuilt")))

    def fallback(self):
        def cost(form):
            work = accounting.attention_flops(self.config, self.context, form) / 1e6
            read = accounting.attention_bytes(self.config, self.context, form) / 2**20
            return f"{_short(work)} MFLOP and {_short(read)} MiB read from the cache"

        return (
            f"<p>{self.title}, one decoded token over {self.context:,} cached tokens, one layer. "
            f"Naive ({self.naive}): {cost(self.naive)}. Absorbed: {cost('absorbed')}. The result is the same.</p>"
        )


def _short(x):
    """About three digits, never in exponent form for large numbers."""
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def _layouts(config):
    """The cache layouts that a model can have."""
    possible = []
    for layout in accounting.LAYOUTS:
        with contextlib.suppress(ValueError):
            accounting.kv_cache_bytes(config, 1, layout=layout)
            possible.append(layout)
    return possible

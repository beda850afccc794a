"""The widgets' arithmetic is dsmini.accounting's, over a grid of models, layouts and sizes."""

import dataclasses
import functools
import itertools
import random
from pathlib import Path

import pytest

import dsmini
from dsmini import accounting, widgets

SOURCE = (Path(widgets.__file__).parent / "formulas.js").read_text(encoding="utf-8")
CONTEXTS = (1, 1000, 4096, 131_072, 163_840)
SETTINGS = list(itertools.product(CONTEXTS, (1, 3, 64), (4, 2, 1)))
MEMORIES = (1, 10**6, 24 * 2**30, 80 * 2**30, int(0.7 * 2**30))


def random_mla(seed):
    """A config that is in no preset."""
    pick = random.Random(seed)
    indexer = {"index_n_heads": 4, "index_head_dim": pick.randrange(200, 400), "index_topk": 64} if seed % 2 else {}
    return dsmini.ModelConfig(
        hidden_size=pick.randrange(64, 5000), num_hidden_layers=pick.randrange(1, 99),
        num_attention_heads=pick.randrange(1, 150),
        q_lora_rank=pick.randrange(16, 2000) if indexer or seed > 2 else None,
        kv_lora_rank=pick.randrange(8, 1500), qk_nope_head_dim=2 * pick.randrange(4, 150),
        qk_rope_head_dim=2 * pick.randrange(4, 100), v_head_dim=pick.randrange(8, 300), **indexer,
    )  # fmt: skip


def as_mla(config):
    """A baseline model with MLA in DeepSeek-V2's proportions, as the calculator draws it."""
    width = config.head_dim
    return config.replace(
        kv_lora_rank=4 * width, qk_nope_head_dim=width, qk_rope_head_dim=width // 2, v_head_dim=width,
        num_key_value_heads=None, head_dim=None, model_type=None,
    )  # fmt: skip


MODELS = [*dsmini.PRESETS.values(), *map(random_mla, range(6))]


def possible_layouts(config):
    layouts = []
    for layout in accounting.LAYOUTS:
        try:
            accounting.kv_cache_bytes(config, 1, layout=layout)
        except ValueError:
            continue
        layouts.append(layout)
    return layouts


@functools.cache
def expected():
    """Python's answers for every model, in the order in which `asked` computes JavaScript's."""
    answers = []
    for config in MODELS:
        layouts = sorted(possible_layouts(config))
        mla = config if config.attention == "mla" else as_mla(config)
        others = [config.with_attention("mha"), config.with_attention("gqa", 1), config.with_attention("mqa"), mla]
        answers.append({
            "kind": config.attention,
            "layouts": layouts,
            "cache": [accounting.kv_cache_bytes(config, *s, layout) for layout in layouts for s in SETTINGS],
            "fit": [accounting.tokens_that_fit(config, m, b, n, layout)
                    for layout in layouts for m in MEMORIES for _, b, n in SETTINGS],
            "others": [accounting.kv_cache_bytes(other, *s) for other in others for s in SETTINGS],
            "steps": [[accounting.attention_flops(mla, c, form), accounting.attention_bytes(mla, c, form, n)]
                      for c in CONTEXTS for n in (4, 2, 1) for form in ("expanded", "rebuilt", "absorbed")]
                     if config.attention == "mla" else [],
            "projections": accounting.projection_flops(config) if config.attention == "mla" else 0,
        })  # fmt: skip
    return answers


ASKED = """
export const ask = ({ models, settings, memories, contexts }) => models.map((model) => {
  const mla = attentionOf(model) === "mla";
  const layouts = [...layoutsOf(model)].sort();
  const others = [["mha"], ["gqa", 1], ["mqa"], ["mla"]].map(([kind, groups]) => withAttention(model, kind, groups));
  const sum = (steps, side, what) => steps.reduce((all, step) => all + step[side][what], 0);
  const sums = (steps, side) => [sum(steps, side, "flops"), sum(steps, side, "bytes")];
  return {
    kind: attentionOf(model),
    layouts,
    cache: layouts.flatMap((layout) => settings.map((s) => kvCacheBytes(model, ...s, layout))),
    fit: layouts.flatMap((layout) => memories.flatMap((m) =>
      settings.map(([, b, n]) => tokensThatFit(model, m, b, n, layout)))),
    others: others.flatMap((other) => settings.map((s) => kvCacheBytes(other, ...s))),
    steps: !mla ? [] : contexts.flatMap((c) => [4, 2, 1].flatMap((n) => [
      sums(absorptionSteps(model, c, "expanded", n), "naive"),
      sums(absorptionSteps(model, c, "rebuilt", n), "naive"),
      sums(absorptionSteps(model, c, "rebuilt", n), "absorbed"),
    ])),
    projections: mla ? projectionFlops(model) : 0,
  };
});
"""


def asked(page, source):
    """JavaScript's answers."""
    return page.evaluate(
        """async ([source, input]) => {
          const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
          return (await import(url)).ask(input);
        }""",
        [source + ASKED, {
            "models": [dataclasses.asdict(config) for config in MODELS],
            "settings": SETTINGS, "memories": MEMORIES, "contexts": CONTEXTS,
        }],
    )  # fmt: skip


def test_javascript_agrees_with_accounting(new_page):
    assert asked(new_page(), SOURCE) == expected()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("const FP8 = 1;", "const FP8 = 2;"),
        ("const SCALE = 4;", "const SCALE = 2;"),
        ("const TILE = 128;", "const TILE = 256;"),
        ("flops: 2 * macs", "flops: macs"),
        ("return 2 * model.num_key_value_heads", "return model.num_key_value_heads"),
        ("kv_lora_rank: 4 * width", "kv_lora_rank: 2 * width"),
        ("cost(heads * latent * context, 0)", "cost(heads * value * context, 0)"),
        ("const query = rank ? rank * (d + width)", "const query = rank ? rank * d"),
    ],
)
def test_a_planted_error_is_seen(new_page, right, wrong):
    assert right in SOURCE
    assert asked(new_page(), SOURCE.replace(right, wrong)) != expected()

"""What the lightning indexer saves and costs on a CPU: decode and prefill, sparse against dense, and peak memory.

    python benchmarks/sparse_decode.py [--quick]

Three random models with V3's dense MLA and with V3.2's sparse one, the other weights the same: the book's `mini`, the
`tiny` model of `model_speed.py`, and `small`, which is V3.2 with an eighth of its width and heads and with its own
cache row (latent 512 + 64, indexer key 128). Decode continues a cache of random latents and keys: `model` is a step of
the whole model, `attention` one attention layer with its projections; the indexer is always included, and the dense
side has none. The sides take turns on one thread, each on the same input: CPU seconds, medians and minima, and the
ratios of both. Peak memory of a prefill is measured in processes of its own, as in `model_speed.py`, which stands
beside transformers' `DeepseekV32ForCausalLM`. A benchmark that was stopped goes on where it was. Linux only; needs the
extra `parity`.
"""

import argparse
import dataclasses
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import model_speed
import store
import torch
import transformers
from tqdm import tqdm
from transformers import DeepseekV32Config, DeepseekV32ForCausalLM

from dsmini import PRESETS, ModelConfig
from dsmini.model.selectors import selecting
from dsmini.model.transformer import Transformer

RESULT = Path(__file__).parent / "results" / "sparse_decode.json"
INDEXER = {"index_n_heads": 4, "index_head_dim": 32, "index_topk": 512}
TINY = {**model_speed.SHAPE, **INDEXER, "model_type": "deepseek_v32"}
SIZES = {
    "mini": PRESETS["mini-v3"].replace(num_nextn_predict_layers=0, **INDEXER),
    "tiny": ModelConfig.from_hf(TINY),
    "small": PRESETS["deepseek-v3.2"].replace(
        hidden_size=896, num_hidden_layers=2, num_attention_heads=16, num_key_value_heads=16, q_lora_rank=192,
        index_n_heads=8, index_topk=512, intermediate_size=2304, moe_intermediate_size=256, n_routed_experts=16,
        num_experts_per_tok=8, n_group=4, topk_group=2, first_k_dense_replace=1, num_nextn_predict_layers=0,
        vocab_size=512, rope_scaling=None,
    ),
}  # fmt: skip
PARTS = ("attention", "model")
CONTEXTS = (4096, 16384, 32768, 65536)
TOPKS = (64, 256, 512, 2048)
BATCHES = (("tiny", 8, 16384), ("small", 4, 16384))
LENGTHS, PREFILL_TOPKS = (1024, 2048, 4096, 8192), (64, 512)  # of prefill, by the tiny model
SIDES = ("dense", "sparse", "transformers")
BUDGET, MOST, FEWEST = 1.5, 31, 5  # CPU seconds of the slowest side, samples


def without_indexer(config):
    return config.replace(model_type=None, index_n_heads=None, index_head_dim=None, index_topk=None)


def twins(config):
    """(dense, sparse): the same random model without and with an indexer."""
    sparse = Transformer(config).eval()
    with torch.no_grad():
        for weight in sparse.parameters():
            if weight.dim() > 1:  # norms stay; the initial weights would make every score nearly the same
                weight.normal_(0, weight.shape[-1] ** -0.5)
    dense = Transformer(without_indexer(config)).eval()
    missing, unexpected = dense.load_state_dict(sparse.state_dict(), strict=False)
    assert not missing and all(".indexer." in name for name in unexpected)
    return dense, sparse


def filled_caches(models, batch_size, context):
    """A cache for each, which hold the same `context` random latents a layer and have room for one token more."""
    caches = [model.new_cache(batch_size, context + 1) for model in models]
    for cache in caches:
        cache.begin(context)
    for layers in zip(*(cache.layers for cache in caches), strict=True):
        latent = torch.randn(batch_size, context, layers[0].buffers[0].shape[-1])
        for layer in layers:
            layer.append(latent, *(torch.randn(batch_size, context, keys.shape[-1]) for keys in layer.buffers[1:]))
    for cache in caches:
        cache.finish()
    return caches


def step(part, model, cache, token, hidden):
    """One token for every row: through the whole model, or through the first attention layer alone."""
    if part == "model":
        return model(token, cache)
    rope = model.rope(cache.begin(1), hidden.dtype)
    out = model.model.layers[0].self_attn(hidden, rope, None, cache.layers[0])
    cache.finish()
    return out


def keeping(model, topk):
    """Run a sparse model with this budget; a dense one has none."""
    return nullcontext() if topk is None else selecting(model, topk=topk)


def take_turns(jobs, fewest=FEWEST):
    """{side: (prepare, function)} -> {side: CPU seconds of each call}, after one call each to warm up."""
    seconds, slowest, count = {side: [] for side in jobs}, 0.0, -1
    while count < MOST and (count < fewest or slowest < BUDGET):
        for side, (prepare, job) in jobs.items():
            with prepare():
                start = time.process_time()
                job()
                seconds[side].append(time.process_time() - start)
        count += 1
        if count == 0:
            seconds = {side: [] for side in jobs}
        slowest = max(map(sum, seconds.values()))
    return seconds


def timed(seconds):
    """What a row holds: medians and minima in seconds, and how many times faster than dense each side is by both."""
    row = {"samples": len(seconds["dense"])}
    for name, of_all in (("seconds", statistics.median), ("fastest", min)):
        figures = {side: of_all(values) for side, values in seconds.items()}
        row[name] = {side: float(f"{value:.4g}") for side, value in figures.items()}
        ratio = "ratio" if name == "seconds" else "ratio_of_fastest"
        row[ratio] = {side: round(figures["dense"] / value, 3) for side, value in figures.items() if side != "dense"}
    return row


@torch.inference_mode()
def measure_decode(size, part, batch_size, context):
    config = SIZES[size]
    if part == "attention":  # no need for the caches of other layers
        config = config.replace(num_hidden_layers=1)
    models = twins(config)
    caches, lengths = filled_caches(models, batch_size, context), torch.full((batch_size,), context)
    draw = torch.Generator()

    def prepare(model, cache, topk):
        cache.rewind(lengths)
        return keeping(model, topk)

    def run(model, cache, samples):
        draw.manual_seed(len(samples))  # every side gets the same inputs
        samples.append(None)
        token = torch.randint(config.vocab_size, (batch_size, 1), generator=draw)
        return step(part, model, cache, token, torch.randn(batch_size, 1, config.hidden_size, generator=draw))

    sides = {"dense": (models[0], caches[0], None), **{str(k): (models[1], caches[1], k) for k in TOPKS}}
    found = {}
    for name, (model, cache, topk) in {**sides, "all": (models[1], caches[1], math.inf)}.items():
        with prepare(model, cache, topk):
            found[name] = run(model, cache, [])
    far = {name: (found[name] - found["dense"]).abs().max().item() for name in found}
    assert far["all"] < 1e-4 < 1e-3 < far["512"], f"not the same model, or nothing was left out: {far}"
    jobs = {name: (partial(prepare, *side), partial(run, *side[:2], [])) for name, side in sides.items()}
    row = timed(take_turns(jobs))
    return {"part": part, "size": size, "batch_size": batch_size, "tokens": context, **row}


@torch.inference_mode()
def measure_prefill(length):
    """A prompt read into a new cache by the whole tiny model."""
    dense, sparse = twins(SIZES["tiny"])
    text = torch.randint(TINY["vocab_size"], (1, length))
    sides = {"dense": (dense, None), **{str(topk): (sparse, topk) for topk in PREFILL_TOPKS}}
    jobs = {
        name: (partial(keeping, model, topk), lambda model=model: model(text, model.new_cache(1, length)))
        for name, (model, topk) in sides.items()
    }
    return {"part": "model", "size": "tiny", "batch_size": 1, "tokens": length, **timed(take_turns(jobs, fewest=2))}


# ---- memory ---------------------------------------------------------------------------------------------------------


def make_checkpoint(folder):
    """transformers writes the tiny model; both libraries read it."""
    settings = {key: value for key, value in TINY.items() if key != "model_type"}
    DeepseekV32ForCausalLM(DeepseekV32Config(**settings)).save_pretrained(folder)


def load(side, folder):
    if side != "dense":
        return model_speed.load("dsmini" if side == "sparse" else side, folder)
    sparse = model_speed.load("dsmini", folder)
    dense = Transformer(without_indexer(sparse.config)).eval()
    dense.load_state_dict(sparse.state_dict(), strict=False)
    return dense


def measure_memory(side, folder, tokens):
    """MiB that one prefill takes on top of the loaded model: the high-water mark that Linux keeps of this process."""
    model, library = load(side, folder), "transformers" if side == "transformers" else "dsmini"
    model_speed.prefill(library, model, torch.randint(TINY["vocab_size"], (1, 16)))
    Path("/proc/self/clear_refs").write_text("5")  # the mark falls to what is in use now
    before = model_speed.kibibytes("VmRSS")
    model_speed.prefill(library, model, torch.randint(TINY["vocab_size"], (1, tokens)))
    return round(max(0, model_speed.kibibytes("VmHWM") - before) / 1024)


def in_processes(tokens):
    """The memory of all sides, each in a new process, which nothing has happened in before."""
    mib = {}
    with tempfile.TemporaryDirectory() as folder:
        make_checkpoint(folder)
        text = torch.randint(TINY["vocab_size"], (2, 96))  # fewer tokens than topk: all sides must agree
        models = {side: load(side, folder) for side in SIDES}
        with torch.no_grad():
            logits = {side: model(text) for side, model in models.items()}
        logits["transformers"] = logits["transformers"].logits
        theirs = models["transformers"].config._attn_implementation
        for side in SIDES:
            difference = (logits[side] - logits["dense"]).abs().max().item()
            assert difference < 2e-5, f"{side} differs by {difference}: nothing to compare"
            command = [sys.executable, __file__, "--folder", folder, "--memory", side, str(tokens)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            mib[side] = json.loads(done.stdout)
    return {"part": "model", "size": "tiny", "batch_size": 1, "tokens": tokens, "their_attention": theirs, "mib": mib}


def all_jobs(quick):
    """((what, part, size, batch size, tokens), function) of every row."""
    contexts, lengths = (CONTEXTS[:2], LENGTHS[:2]) if quick else (CONTEXTS, LENGTHS)
    decode = [(size, 1, context) for size in SIZES for context in contexts] + [*BATCHES] * (not quick)
    for size, batch_size, context in decode:
        for part in PARTS:
            yield ("decode", part, size, batch_size, context), partial(measure_decode, size, part, batch_size, context)
    yield ("memory of a prefill", "model", "tiny", 1, lengths[-1]), partial(in_processes, lengths[-1])
    for length in lengths:
        yield ("prefill", "model", "tiny", 1, length), partial(measure_prefill, length)


def measure_all(output, quick):
    conditions = {
        "processor": store.processor(),
        "threads": torch.get_num_threads(),
        "dtype": "float32",
        "configs": {
            size: {key: value for key, value in dataclasses.asdict(config).items() if value is not None}
            for size, config in SIZES.items()
        },
        "topks": TOPKS,
        "memory_topk": TINY["index_topk"],
        "transformers": transformers.__version__,
        **store.versions(),
    }
    conditions = json.loads(json.dumps(conditions))
    rows = [] if quick else store.read(output, conditions)
    done = {(row["what"], row["part"], row["size"], row["batch_size"], row["tokens"]) for row in rows}
    for name, job in tqdm([job for job in all_jobs(quick) if job[0] not in done], unit="row"):
        torch.manual_seed(0)
        rows.append({"what": name[0], **job()})
        tqdm.write(json.dumps(rows[-1]))
        if not quick:
            store.write(output, conditions, rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short contexts only; nothing is stored")
    parser.add_argument("--output", type=Path, default=RESULT, help="result file")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()
    if arguments.memory:
        side, tokens = arguments.memory
        print(measure_memory(side, arguments.folder, int(tokens)))
        return
    measure_all(arguments.output, arguments.quick)


if __name__ == "__main__":
    main()

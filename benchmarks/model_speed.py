"""dsmini against transformers on the same weights: prefill, decode, a training step, cache bytes and peak memory.

    python benchmarks/model_speed.py [--quick]

One small random DeepSeek-V3 (4,039,552 parameters) is written by transformers and read by both libraries, in float32
and each as shipped; their logits are compared before anything is timed. Each row is measured in a process of its own,
in which the two take turns on one thread; a figure is the median of CPU seconds. Prefill and decode run in inference
mode; decode continues a cache filled with random values. A benchmark that was stopped goes on where it was. Linux only;
needs the extra `parity`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import store
import torch
import transformers
from torch.nn import functional as F
from tqdm import tqdm
from transformers import AutoModelForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM, DynamicCache

from dsmini import load_pretrained

RESULT = Path(__file__).parent / "results" / "model_speed.json"
SHAPE = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 8,
         "q_lora_rank": 96, "kv_lora_rank": 64, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 32,
         "vocab_size": 512, "intermediate_size": 512, "first_k_dense_replace": 1, "moe_intermediate_size": 128,
         "n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1, "n_group": 2, "topk_group": 1,
         "num_mtp_layers": 0, "max_position_embeddings": 65536}  # fmt: skip
PREFILLS = (512, 2048, 8192)
CONTEXTS = (512, 4096, 16384, 32768)
BATCHES = (1, 16)
WINDOW = (16, 256)  # of a training step
PROMPT = 2048
BUDGET, MOST, FEWEST = 8.0, 31, 3  # CPU seconds of the slower side, samples
SIDES = ("dsmini", "transformers")


def make_checkpoint(folder):
    """transformers writes a model whose weights are far from their initial ones."""
    model = DeepseekV3ForCausalLM(DeepseekV3Config(**SHAPE))
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, weight.shape[-1] ** -0.5) if weight.dim() > 1 else weight.uniform_(0.8, 1.2)
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.normal_(0, 0.1)
    model.save_pretrained(folder)


def load(side, folder):
    """The same checkpoint, read by one of the two libraries as it comes."""
    if side == "dsmini":
        return load_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def logits(side, model, tokens, cache=None):
    return model(tokens, cache) if side == "dsmini" else model(tokens, past_key_values=cache).logits


def empty_cache(side, model, batch_size, max_tokens):
    return model.new_cache(batch_size, max_tokens) if side == "dsmini" else DynamicCache(config=model.config)


def filled_cache(side, model, batch_size, tokens):
    """A cache that holds `tokens` tokens of random latents, and room for the steps to be timed."""
    width, rope = SHAPE["kv_lora_rank"], SHAPE["qk_rope_head_dim"]
    cache = empty_cache(side, model, batch_size, tokens + MOST + 1)
    if side == "dsmini":
        cache.begin(tokens)
        for layer in cache.layers:
            layer.append(torch.randn(batch_size, tokens, width + rope))
        cache.finish()
    else:
        for layer in range(SHAPE["num_hidden_layers"]):
            latent, key = torch.randn(batch_size, 1, tokens, width), torch.randn(batch_size, 1, tokens, rope)
            cache.update(latent, key, layer)
    return cache


def cache_bytes(side, cache):
    """Bytes of what a cache holds for its tokens; room kept free is not counted."""
    if side == "dsmini":
        return sum(buffer[..., : cache.longest, :].nbytes for layer in cache.layers for buffer in layer.buffers)
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


def prefill(side, model, tokens):
    """Read a prompt into a new cache."""
    with torch.inference_mode():
        logits(side, model, tokens, empty_cache(side, model, *tokens.shape))


def decode(side, model, cache, batch_size):
    """One token for every row."""
    with torch.inference_mode():
        logits(side, model, torch.randint(SHAPE["vocab_size"], (batch_size, 1)), cache)


def train_step(side, model, optimizer, tokens):
    """Forward, backward, update."""
    loss = F.cross_entropy(logits(side, model, tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def take_turns(jobs):
    """{side: function} -> {side: CPU seconds of each call}, the sides alternating, after one call each to warm up."""
    seconds = {side: [] for side in jobs}
    for job in jobs.values():
        job()
    while True:
        for side, job in jobs.items():
            start = time.process_time()
            job()
            seconds[side].append(time.process_time() - start)
        count, slower = len(next(iter(seconds.values()))), max(map(sum, seconds.values()))
        if count >= MOST or (count >= FEWEST and slower > BUDGET):
            return seconds


def timed(seconds, tokens):
    """What a row holds: medians in seconds, tokens a second, and how many times faster dsmini is."""
    medians = {side: statistics.median(values) for side, values in seconds.items()}
    return {
        "samples": len(next(iter(seconds.values()))),
        "seconds": {side: float(f"{value:.4g}") for side, value in medians.items()},
        "tokens_per_second": {side: float(f"{tokens / value:.4g}") for side, value in medians.items()},
        "ratio": float(f"{medians['transformers'] / medians['dsmini']:.4g}"),
    }


def measure_prefill(folder, batch_size, tokens):
    text = torch.randint(SHAPE["vocab_size"], (batch_size, tokens))
    jobs = {side: partial(prefill, side, load(side, folder), text) for side in SIDES}
    return timed(take_turns(jobs), batch_size * tokens)


def measure_decode(folder, batch_size, context, prompt=0):
    """prompt: tokens that both read before, in another cache; what they allocate then makes later steps cheaper."""
    jobs, held = {}, {}
    for side in SIDES:
        model = load(side, folder)
        if prompt:
            prefill(side, model, torch.randint(SHAPE["vocab_size"], (1, prompt)))
        cache = filled_cache(side, model, batch_size, context)
        held[side] = cache_bytes(side, cache)
        jobs[side] = partial(decode, side, model, cache, batch_size)
    return {**timed(take_turns(jobs), batch_size), "cache_bytes": held}


def measure_training(folder, batch_size, tokens):
    text, jobs = torch.randint(SHAPE["vocab_size"], (batch_size, tokens + 1)), {}
    for side in SIDES:
        model = load(side, folder).train()
        jobs[side] = partial(train_step, side, model, torch.optim.AdamW(model.parameters(), lr=1e-4), text)
    return timed(take_turns(jobs), batch_size * tokens)


def measure_memory(side, folder, batch_size, tokens):
    """MiB that one prefill takes on top of the loaded model: the high-water mark that Linux keeps of this process."""
    model = load(side, folder)
    prefill(side, model, torch.randint(SHAPE["vocab_size"], (batch_size, 16)))
    Path("/proc/self/clear_refs").write_text("5")  # the mark falls to what is in use now
    before = kibibytes("VmRSS")
    prefill(side, model, torch.randint(SHAPE["vocab_size"], (batch_size, tokens)))
    return {"mib": {side: round(max(0, kibibytes("VmHWM") - before) / 1024)}}


def kibibytes(what):
    """One of the kernel's figures for this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


MEASUREMENTS = {
    "prefill": measure_prefill,
    "decode": measure_decode,
    "decode after a prompt": partial(measure_decode, prompt=PROMPT),
    "training": measure_training,
    **{f"memory of a prefill, {side}": partial(measure_memory, side) for side in SIDES},
}


def all_jobs():
    """(what, batch size, tokens) of every row."""
    jobs = [("prefill", 1, tokens) for tokens in PREFILLS]
    jobs += [("decode", batch_size, context) for batch_size in BATCHES for context in CONTEXTS]
    jobs += [("decode after a prompt", 1, context) for context in CONTEXTS]
    jobs += [("training", *WINDOW)]
    return jobs + [(f"memory of a prefill, {side}", 1, tokens) for side in SIDES for tokens in PREFILLS]


def in_a_process(job, folder):
    """Measure one row in a new process, which nothing has happened in before."""
    command = [sys.executable, __file__, "--folder", str(folder), "--job", json.dumps(job)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    what, batch_size, tokens = job
    return {"what": what, "batch_size": batch_size, "tokens": tokens, **json.loads(done.stdout)}


def the_same(folder):
    """Both models, after a look at 2 rows of 96 tokens: what they say must be the same."""
    models = {side: load(side, folder) for side in SIDES}
    text = torch.randint(SHAPE["vocab_size"], (2, 96))
    with torch.no_grad():
        ours, theirs = (logits(side, model, text) for side, model in models.items())
    difference = (ours - theirs).abs().max().item()
    assert difference < 2e-5, f"the two models differ by {difference}: nothing to compare"
    return models


def compare(folder, output, quick):
    models = the_same(folder)
    theirs = models["transformers"].config
    conditions = {
        "processor": store.processor(),
        "threads": torch.get_num_threads(),
        "dtype": "float32",
        "parameters": sum(parameter.numel() for parameter in models["dsmini"].parameters()),
        "config": SHAPE,
        "prompt": PROMPT,
        "transformers": transformers.__version__,
        "their_attention": theirs._attn_implementation,
        "their_experts": theirs._experts_implementation,
        **store.versions(),
    }
    rows = [] if quick else store.read(output, conditions)
    done = {(row["what"], row["batch_size"], row["tokens"]) for row in rows}
    jobs = [job for job in all_jobs() if job not in done and not (quick and job[2] > 4096)]
    for job in tqdm(jobs, unit="row"):
        rows.append(in_a_process(job, folder))
        tqdm.write(json.dumps(rows[-1]))
        if not quick:
            store.write(output, conditions, rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short contexts only; nothing is stored")
    parser.add_argument("--output", type=Path, default=RESULT, help="result file")
    for name in ("--job", "--folder"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()
    if arguments.job:
        what, batch_size, tokens = json.loads(arguments.job)
        print(json.dumps(MEASUREMENTS[what](arguments.folder, batch_size, tokens)))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_checkpoint(folder)
        compare(folder, arguments.output, arguments.quick)


if __name__ == "__main__":
    main()

"""When does a decode step wait for memory? Two sweeps in DeepSeek-V3's sizes, for chapter 1.

    python benchmarks/memory_bound.py [--device cuda --dtype bfloat16]

"matrix": one matrix (V3's attention output projection) times 1 to 128 tokens. "cache": one token's attention over 2,048
cached tokens, in V3's shape with MHA, GQA-8 and MQA, and as absorbed MLA. Each figure is the fastest of several
runs: CPU seconds of one thread, or the GPU's own clock.
"""

import argparse
import time
from pathlib import Path

import store
import torch
from torch.nn import functional as F
from tqdm import tqdm

from dsmini import PRESETS
from dsmini.model.attention import attend

V3 = PRESETS["deepseek-v3"]
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
CONTEXT, REPEATS = 2048, 7


def fastest(function, device):
    """Seconds of the fastest of a few runs, after one to warm up."""
    function()
    times = []
    for _ in range(REPEATS):
        if device == "cuda":
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            function()
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end) / 1e3)
        else:
            begin = time.process_time()
            function()
            times.append(time.process_time() - begin)
    return min(times)


def row(sweep, name, seconds, flops, read):
    """One measurement with the two figures that place it under the roof."""
    return {
        "sweep": sweep,
        "name": name,
        "seconds": float(f"{seconds:.4g}"),
        "flops_per_byte": round(flops / read, 3),
        "gflops_per_second": float(f"{flops / seconds / 1e9:.4g}"),
        "gb_per_second": float(f"{read / seconds / 1e9:.4g}"),
    }


def matrix(batch, weight):
    """The output projection on `batch` tokens."""
    x = torch.randn(batch, weight.shape[1], dtype=weight.dtype, device=weight.device)
    seconds = fastest(lambda: F.linear(x, weight), weight.device.type)
    return row("matrix", batch, seconds, 2 * batch * weight.numel(), weight.nbytes)


def cache(name, **where):
    """One token's attention over the cache."""
    heads, latent = V3.num_attention_heads, V3.kv_lora_rank + V3.qk_rope_head_dim
    groups = {"MHA": heads, "GQA-8": 8, "MQA": 1, "MLA": 1}[name]
    width = latent if name == "MLA" else V3.v_head_dim
    k = torch.randn(1, groups, CONTEXT, width, **where)
    v = k if name == "MLA" else torch.randn_like(k)  # MLA's row is key and value at once
    q = torch.randn(1, heads, 1, width, **where)
    seconds = fastest(lambda: attend(q, k, v, V3.qk_head_dim**-0.5), k.device.type)
    used = V3.kv_lora_rank if name == "MLA" else width  # of the row, as a value; the kernel sums the rest too
    read = k.nbytes if name == "MLA" else k.nbytes + v.nbytes
    return row("cache", name, seconds, 2 * heads * CONTEXT * (width + used), read)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--output", type=Path, help="result file (default: results/memory_bound_DEVICE_DTYPE.json)")
    arguments = parser.parse_args()
    name = f"memory_bound_{arguments.device}_{arguments.dtype}.json"
    output = arguments.output or Path(__file__).parent / "results" / name
    torch.set_num_threads(1)
    where = {"device": arguments.device, "dtype": getattr(torch, arguments.dtype)}
    on_gpu = arguments.device == "cuda"
    conditions = {
        "processor": torch.cuda.get_device_name() if on_gpu else store.processor(),
        "device": arguments.device,
        "dtype": arguments.dtype,
        "context": CONTEXT,
        "threads": torch.get_num_threads(),
        **store.versions(),
    }
    weight = torch.randn(V3.hidden_size, V3.num_attention_heads * V3.v_head_dim, **where)
    jobs = [lambda batch=batch: matrix(batch, weight) for batch in BATCHES]
    jobs += [lambda attention=attention: cache(attention, **where) for attention in ("MHA", "GQA-8", "MQA", "MLA")]
    with torch.no_grad():
        rows = [job() for job in tqdm(jobs, unit="measurement")]
    store.write(output, conditions, rows)
    for one in rows:
        print(f"{one['sweep']:7} {one['name']!s:6} {one['gb_per_second']:8} GB/s {one['gflops_per_second']:8} GFLOP/s")


if __name__ == "__main__":
    main()

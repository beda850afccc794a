"""Dense against experts at equal active parameters, and what balancing costs, for chapter 3's live experiments.

    python benchmarks/moe_quality.py [--seeds 3]

Two tasks. "facts": one feed-forward layer learns a table of random pairs by heart, and is asked for them. "text": a
decoder of two layers, the second one's feed-forward with or without experts, reads this Python's standard library; its
last tenth is held out. Each seed fixes the weights and the data; all arms of a seed see the same batches. The result
file is written after every run, so a benchmark that was stopped goes on where it was.
"""

import argparse
import dataclasses
import time
from pathlib import Path

import store
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from dsmini import PRESETS, ModelConfig, Transformer
from dsmini.language.corpus import standard_library_text
from dsmini.language.tokenizer import ByteTokenizer
from dsmini.model.layers import RMSNorm, SwiGLU
from dsmini.model.moe import MixtureOfExperts, expert_load, max_violation, watch_routing
from dsmini.training.pretrain import TrainingSettings, evaluate, random_windows, train

RESULT = Path(__file__).parent / "results" / "moe_quality.json"
TEXT_BYTES = 1_000_000

# Facts: an array of KEYS x KEYS random values. Active width 64 in all but "dense, all weights".
KEYS, VALUES, WIDTH = 128, 64, 64
FACTS_TRAINING = {"steps": 400, "batch_size": 2048, "learning_rate": 1e-2, "bias_speed": 0.003}
FACTS_ARMS = {
    "dense": 64,
    "coarse": {"n_routed_experts": 4, "num_experts_per_tok": 1, "moe_intermediate_size": 64},
    "fine": {"n_routed_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 16,
             "routed_scaling_factor": 2.0},
    "fine, shared": {"n_routed_experts": 15, "num_experts_per_tok": 3, "moe_intermediate_size": 16,
                     "n_shared_experts": 1, "routed_scaling_factor": 2.0},
    "dense, all weights": 256,
}  # fmt: skip

# Text: active width 192 in all but "dense, all weights".
TEXT_TRAINING = {"steps": 300, "batch_size": 8, "context": 128}
DENSE = PRESETS["mini-mla"].replace(num_hidden_layers=2, intermediate_size=192, first_k_dense_replace=1)
EXPERTS = DENSE.replace(n_routed_experts=16, num_experts_per_tok=3, n_shared_experts=1, moe_intermediate_size=48,
                        routed_scaling_factor=2.0)  # fmt: skip
SOFTMAX = EXPERTS.replace(scoring_func="softmax", topk_method="greedy", norm_topk_prob=False)
OFF = {"bias_speed": 0.0, "balance_weight": 0.0}
TEXT_ARMS = {
    "dense": (DENSE, {}),
    "dense, all weights": (DENSE, {}),
    "bias": (EXPERTS, {"bias_speed": 0.01}),
    "none": (EXPERTS, OFF),
    "none, softmax": (SOFTMAX, OFF),
    "loss 0.01": (EXPERTS, {**OFF, "balance_weight": 0.01}),
    "loss 1": (EXPERTS, {**OFF, "balance_weight": 1.0}),
    "loss 10": (EXPERTS, {**OFF, "balance_weight": 10.0}),
}


class Facts(nn.Module):
    """Two keys in, one value out: embeddings, one feed-forward layer with its residual, a head."""

    def __init__(self, feed_forward):
        super().__init__()
        self.first, self.second = nn.Embedding(KEYS, WIDTH), nn.Embedding(KEYS, WIDTH)
        self.norm, self.mlp, self.last_norm = RMSNorm(WIDTH), feed_forward, RMSNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VALUES, bias=False)
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)

    def forward(self, keys):
        """keys (N, 2) -> logits (N, V)."""
        x = (self.first(keys[:, 0]) + self.second(keys[:, 1]))[None]  # (1, N, D)
        return self.head(self.last_norm(x + self.mlp(self.norm(x))))[0]


def feed_forward(arm):
    """The layer of an arm of the facts task."""
    if isinstance(arm, int):
        return SwiGLU(WIDTH, arm)
    return MixtureOfExperts(ModelConfig(hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=1, **arm))


def count(layer):
    """Weights of a feed-forward layer without its router: what "all weights" and "active" compare."""
    return sum(p.numel() for name, p in layer.named_parameters() if name != "gate.weight")


def learn_facts(arm, seed):
    """Train one layer on the table; returns a row of the result file."""
    torch.manual_seed(seed)
    model = Facts(feed_forward(FACTS_ARMS[arm]))
    keys = torch.cartesian_prod(torch.arange(KEYS), torch.arange(KEYS))
    values = torch.randint(VALUES, (len(keys),))
    steps, peak = FACTS_TRAINING["steps"], FACTS_TRAINING["learning_rate"]
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    start = time.process_time()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = peak * min(1, (step + 1) / 20) * (1 - 0.95 * step / steps)
        batch = torch.randint(len(keys), (FACTS_TRAINING["batch_size"],))
        with watch_routing(model) as routes:
            loss = F.cross_entropy(model(keys[batch]), values[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for route in routes.values():
            router = model.mlp.gate
            router.balance(expert_load(route.experts, len(router.weight)), FACTS_TRAINING["bias_speed"])
    seconds = time.process_time() - start
    with torch.no_grad():
        recall = (model(keys).argmax(-1) == values).float().mean().item()
    return {"recall": round(recall, 4), "weights": count(model.mlp), "cpu_seconds": round(seconds, 1)}


def learn_text(arm, seed, text):
    """Train one decoder on the standard library; returns a row of the result file."""
    config, changes = TEXT_ARMS[arm]
    cut = len(text) * 9 // 10
    torch.manual_seed(seed)
    model = Transformer(config)
    if arm == "dense, all weights":
        width = EXPERTS.moe_intermediate_size * (EXPERTS.n_routed_experts + EXPERTS.n_shared_experts)
        model.model.layers[1].mlp = SwiGLU(config.hidden_size, width).apply(model._initialise)
    settings = TrainingSettings(**TEXT_TRAINING, **changes)
    start = time.process_time()
    train(model, text[:cut], settings, seed=seed, progress=False)
    row = {"cpu_seconds": round(time.process_time() - start, 1)}
    row["held_out_loss"] = round(evaluate(model, text[cut:], batches=16), 5)
    row["weights"] = count(model.model.layers[1].mlp)
    if config.n_routed_experts:
        load = measure_load(model, text[cut:])
        row["max_violation"] = round(max_violation(load), 4)
        row["load"] = [round(share, 4) for share in (load / load.sum()).tolist()]
    return row


@torch.no_grad()
def measure_load(model, tokens):
    """Tokens that each expert of the only router receives, over 8 batches of held-out text: (E,)."""
    generator, load = torch.Generator().manual_seed(7), 0
    for _ in range(8):
        with watch_routing(model) as routes:
            model(random_windows(tokens, 16, 128, generator)[0])
        (route,) = routes.values()
        load = load + expert_load(route.experts, model.config.n_routed_experts)
    return load


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0 (default 3)")
    parser.add_argument("--output", type=Path, default=RESULT, help="result file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    text = ByteTokenizer().encode(standard_library_text(TEXT_BYTES))
    conditions = {
        "facts": {"keys": KEYS, "values": VALUES, "width": WIDTH, "arms": FACTS_ARMS, **FACTS_TRAINING},
        "text": {"bytes": len(text), "sha256": store.fingerprint(text), **TEXT_TRAINING},
        "experts": {k: v for k, v in dataclasses.asdict(EXPERTS).items() if "expert" in k or "intermediate" in k},
        "threads": torch.get_num_threads(),
        **store.versions(),
    }
    rows = store.read(arguments.output, conditions)
    done = {(row["task"], row["arm"], row["seed"]) for row in rows}
    jobs = [(task, arm, seed) for seed in range(arguments.seeds)
            for task, arms in (("facts", FACTS_ARMS), ("text", TEXT_ARMS)) for arm in arms]  # fmt: skip
    bar = tqdm([job for job in jobs if job not in done], unit="run")
    for task, arm, seed in bar:
        bar.set_postfix_str(f"{task}, {arm}, seed {seed}")
        result = learn_facts(arm, seed) if task == "facts" else learn_text(arm, seed, text)
        rows.append({"task": task, "arm": arm, "seed": seed, **result})
        store.write(arguments.output, conditions, rows)


if __name__ == "__main__":
    main()

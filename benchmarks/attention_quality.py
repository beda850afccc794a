"""Held-out loss of the four mini decoders over several seeds, for chapter 1's live experiment.

    python benchmarks/attention_quality.py [--seeds 5] [--steps 400]

Each seed fixes the initial weights and the windows drawn from the text; the four attentions of one seed see the same
windows in the same order. The text is this Python's own standard library; its last tenth is held out. The result file
is written after every run, so a benchmark that was stopped goes on where it was; other settings start it afresh.
"""

import argparse
import dataclasses
import time
from pathlib import Path

import store
import torch
from tqdm import tqdm

from dsmini import PRESETS, Transformer
from dsmini.accounting import kv_cache_bytes
from dsmini.language.corpus import standard_library_text
from dsmini.language.tokenizer import ByteTokenizer
from dsmini.training.pretrain import TrainingSettings, evaluate, train

RESULT = Path(__file__).parent / "results" / "attention_quality.json"
ATTENTIONS = ("mha", "gqa", "mqa", "mla")
EVALUATION = {"context": 128, "batches": 32, "batch_size": 16}
TEXT_BYTES = 2_000_000


def measure(attention, seed, settings, text):
    """Train one mini; returns a row of the result file."""
    config = PRESETS[f"mini-{attention}"]
    cut = len(text) * 9 // 10
    torch.manual_seed(seed)
    model = Transformer(config)
    start = time.process_time()
    losses = torch.tensor(train(model, text[:cut], settings, seed=seed, progress=False))
    seconds = time.process_time() - start
    return {
        "attention": attention,
        "seed": seed,
        "held_out_loss": round(evaluate(model, text[cut:], **EVALUATION), 5),
        "cache_bytes_per_token": kv_cache_bytes(config, 1, bytes_per_value=4),
        "parameters": sum(p.numel() for p in model.parameters()),
        "cpu_seconds": round(seconds, 1),
        "training_loss": store.curve(losses),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds, from 0 (default 5)")
    parser.add_argument("--steps", type=int, default=400, help="training steps of each run (default 400)")
    parser.add_argument("--output", type=Path, default=RESULT, help="result file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = TrainingSettings(steps=arguments.steps, batch_size=16, context=128, learning_rate=3e-3)
    text = ByteTokenizer().encode(standard_library_text(TEXT_BYTES))
    conditions = {
        "training": dataclasses.asdict(settings),
        "evaluation": EVALUATION,
        "text": {"bytes": len(text), "sha256": store.fingerprint(text)},
        "threads": torch.get_num_threads(),
        **store.versions(),
    }
    rows = store.read(arguments.output, conditions)
    done = {(row["attention"], row["seed"]) for row in rows}
    jobs = [(a, s) for s in range(arguments.seeds) for a in ATTENTIONS if (a, s) not in done]
    bar = tqdm(jobs, unit="run")
    for attention, seed in bar:
        bar.set_postfix_str(f"{attention}, seed {seed}")
        rows.append(measure(attention, seed, settings, text))
        store.write(arguments.output, conditions, rows)


if __name__ == "__main__":
    main()

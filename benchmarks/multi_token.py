"""What multi-token prediction does to a mini, over several seeds, for chapter 4.

    python benchmarks/multi_token.py [--seeds 3] [--steps 160]

Models of one shape on two texts. "none": the module is there and not trained. "sequential": DeepSeek-V3's module, with
the report's weight of 0.3. "parallel": the same module, blind to the token in between, like the independent heads of
Gloeckle et al. 2024. Two trunks without a module tell what a module's own advantages are worth: "deeper" has a layer
more, and "neighbour" reads beside every token the embedding of the one before. A seed fixes initial weights and
windows. The file is written after every run; a benchmark that was stopped goes on where it was.
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

from dsmini import PRESETS, Transformer
from dsmini.inference.speculative import generate_speculative
from dsmini.language.corpus import standard_library_text
from dsmini.language.frame import prompt_text
from dsmini.language.tokenizer import EOS, TOKENIZER, ByteTokenizer
from dsmini.model.mtp import MultiTokenPrediction
from dsmini.tasks import shell_game
from dsmini.tasks.corpus import corpus
from dsmini.tasks.draw import Draw
from dsmini.training.pretrain import TrainingSettings, random_windows, train

RESULT = Path(__file__).parent / "results" / "multi_token.json"
VARIANTS = {"python": ("none", "sequential", "parallel", "deeper", "neighbour"),
            "tasks": ("none", "sequential", "parallel")}  # fmt: skip
CONFIG = PRESETS["mini-mla"].replace(
    n_routed_experts=8, num_experts_per_tok=2, n_shared_experts=1, moe_intermediate_size=96, first_k_dense_replace=1,
    num_nextn_predict_layers=1,
)  # fmt: skip
TEXT_BYTES = 2_000_000
SHARES = {"shell_game/careful": 0.5, "countdown/solve": 0.5}
SHAPES = {"python": {"batch_size": 16, "context": 128}, "tasks": {"batch_size": 32, "context": 64}}
PROMPTS, NEW_TOKENS = 48, 64


class Parallel(MultiTokenPrediction):
    """An independent head: it sees what the trunk made of token i, and not token i + 1."""

    def forward(self, hidden, embedded, rope, mask=None, cache=None):
        return super().forward(hidden, torch.zeros_like(embedded), rope, mask, cache)


class WithNeighbour(nn.Module):
    """An embedding of every token joined with that of the token before it, at the width of one."""

    def __init__(self, embedding, std):
        super().__init__()
        self.embedding, width = embedding, embedding.embedding_dim
        self.join = nn.Linear(2 * width, width, bias=False)
        nn.init.normal_(self.join.weight, std=std)

    def forward(self, tokens):
        embedded = self.embedding(tokens)  # (B, T, D)
        return self.join(torch.cat((embedded, F.pad(embedded, (0, 0, 1, 0))[:, :-1]), dim=-1))


class PythonText:
    """Bytes of this Python's standard library; the last tenth is held out."""

    def __init__(self):
        tokens = ByteTokenizer().encode(standard_library_text(TEXT_BYTES))
        cut = len(tokens) * 9 // 10
        self.config, self.data, self.held_out = CONFIG, tokens[:cut], tokens[cut:]
        self.sha256 = store.fingerprint(tokens)
        starts = torch.linspace(0, len(self.held_out) - 100, PROMPTS).long()
        self.prompts, self.stop = [self.held_out[start : start + 64] for start in starts], ()

    def fresh(self, batches):
        """Windows (B, T + 1) that were not trained on."""
        generator = torch.Generator().manual_seed(1234)
        for _ in range(batches):
            inputs, targets = random_windows(self.held_out, generator=generator, **SHAPES["python"])
            yield torch.cat((inputs, targets[:, -1:]), dim=1)


class TaskText:
    """Solved problems of the book's two tasks, generated."""

    def __init__(self):
        self.config = CONFIG.replace(vocab_size=TOKENIZER.vocab_size)
        self.data = corpus(SHARES, **SHAPES["tasks"])
        sample = torch.cat([self.data(step) for step in range(8)])
        self.sha256 = store.fingerprint(sample)
        draw = Draw("benchmark")
        problems = [shell_game.sample(draw, "test") for _ in range(PROMPTS)]
        self.prompts = [TOKENIZER.encode(prompt_text(problem.prompt)) for problem in problems]
        self.stop = TOKENIZER.id(EOS)

    def fresh(self, batches):
        windows = corpus(SHARES, **SHAPES["tasks"], seed=1234)
        yield from (windows(step) for step in range(batches))


@torch.no_grad()
def agreement(model, windows):
    """On fresh text (B, T + 1): the main model's loss, both predictions' on the module's targets, how the two agree."""
    hidden = model.hidden_states(windows[:, :-1])  # (B, T, D)
    sure = model.lm_head(hidden[:, 1:]).log_softmax(-1)  # (B, T - 1, V): the main model, one token later
    ahead = model.lm_head(model.predict_ahead(hidden[:, :-1], windows[:, 1:-1])).log_softmax(-1)
    targets = windows[:, 2:].flatten()
    main = F.cross_entropy(model.lm_head(hidden).flatten(0, 1), windows[:, 1:].flatten())
    return {
        "held_out_loss": main.item(),
        "same_targets_loss": F.nll_loss(sure.flatten(0, 1), targets).item(),
        "next_but_one_loss": F.nll_loss(ahead.flatten(0, 1), targets).item(),
        "overlap": torch.minimum(sure.exp(), ahead.exp()).sum(-1).mean().item(),
        "same_best_token": (sure.argmax(-1) == ahead.argmax(-1)).float().mean().item(),
    }


def speculate(model, text):
    """Acceptance and tokens a forward pass when the model writes on, greedy and sampled."""
    row = {}
    for name, temperature in (("greedy", 0.0), ("sampled", 1.0)):
        random = torch.Generator().manual_seed(0)
        written = generate_speculative(model, text.prompts, NEW_TOKENS, temperature, generator=random, stop=text.stop)
        row[f"acceptance_{name}"] = round(written.acceptance_rate, 4)
        row[f"tokens_per_forward_{name}"] = round(written.tokens_per_forward, 4)
    return row


def make(config, variant):
    layers = config.num_hidden_layers + (variant == "deeper")
    model = Transformer(config.replace(num_hidden_layers=layers))
    if variant == "parallel":
        model.mtp[0].__class__ = Parallel
    if variant == "neighbour":
        model.model.embed_tokens = WithNeighbour(model.model.embed_tokens, config.initializer_range)
    return model


def measure(name, text, variant, seed, settings):
    """Train one mini; returns a row of the result file."""
    torch.manual_seed(seed)
    model, drafts = make(text.config, variant), variant in ("sequential", "parallel")
    settings = dataclasses.replace(settings, mtp_weight=0.3 if drafts else 0.0, **SHAPES[name])
    start = time.process_time()
    losses = torch.tensor(train(model, text.data, settings, seed=seed, progress=False))
    seconds = time.process_time() - start
    found = [agreement(model, windows) for windows in text.fresh(16)]
    row = {key: round(sum(batch[key] for batch in found) / len(found), 5) for key in found[0]}
    if drafts:
        row |= speculate(model, text)
    else:
        row = {key: row[key] for key in ("held_out_loss", "same_targets_loss")}  # its module is random
    curve = store.curve(losses)
    return {"text": name, "variant": variant, "seed": seed, **row, "cpu_seconds": round(seconds, 1),
            "training_loss": curve}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0 (default 3)")
    parser.add_argument("--steps", type=int, default=160, help="training steps of each run (default 160)")
    parser.add_argument("--output", type=Path, default=RESULT, help="result file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = TrainingSettings(steps=arguments.steps)
    texts = {"python": PythonText(), "tasks": TaskText()}
    conditions = {
        "training": dataclasses.asdict(settings),
        "shapes": SHAPES,
        "texts": {name: text.sha256 for name, text in texts.items()},
        "generation": {"prompts": PROMPTS, "new_tokens": NEW_TOKENS},
        "threads": torch.get_num_threads(),
        **store.versions(),
    }
    rows = store.read(arguments.output, conditions)
    done = {(row["text"], row["variant"], row["seed"]) for row in rows}
    jobs = [(t, v, s) for s in range(arguments.seeds) for t in texts for v in VARIANTS[t] if (t, v, s) not in done]
    bar = tqdm(jobs, unit="run")
    for name, variant, seed in bar:
        bar.set_postfix_str(f"{name}, {variant}, seed {seed}")
        rows.append(measure(name, texts[name], variant, seed, settings))
        store.write(arguments.output, conditions, rows)


if __name__ == "__main__":
    main()

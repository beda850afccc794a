"""What selects the right tokens? The needle models with several seeds, for chapters 10 and 11.

    python benchmarks/sparse_training.py [--seeds 3] [--snapshots FOLDER]

For each seed the recipes `needle` and `needle-sparse` of the zoo: a dense model, and what it answers when a query sees
16 tokens of 512 or 1024, selected by an indexer as it was drawn, by a sliding window, at random, by the mean of a
block, by the attention itself (the oracle), by an indexer after the warm-up, and after the sparse stage. Then the
training with one thing wrong: no warm-up; the indexer's input not cut off the graph, so that its loss reaches the
model; and the trained model with the indexer's rotary positions in MLA's layout, the mistake of the first release.
Everything is measured on the same held-out texts, after rounding to bfloat16, as `make zoo` does. The file is written
after every row; a benchmark that was stopped goes on behind the last one, with --snapshots in the middle of a stage.
"""

import argparse
import contextlib
import copy
import dataclasses
import functools
import itertools
import tempfile
from pathlib import Path
from unittest import mock

import store
import torch

from dsmini import zoo
from dsmini.model import dsa
from dsmini.model.dsa import Selection, lightning
from dsmini.model.indexer import LightningIndexer
from dsmini.model.layers import apply_rope
from dsmini.model.selectors import BlockMean, Random, oracle, selecting, window
from dsmini.tasks.measure_needle import find_needles, recall_of_attention
from dsmini.training.indexer import with_indexer
from dsmini.zoo import make, needle, needle_sparse
from dsmini.zoo.recipe import find
from dsmini.zoo.run import Run
from dsmini.zoo.store import decode, encode

RESULT = Path(__file__).parent / "results" / "sparse_training.json"
LENGTHS, TEXTS, TOPK = (512, 1024), 32, needle_sparse.TOPK
SELECTORS = {"untrained": None, "window": window, "random": Random(), "block mean": BlockMean(8), "oracle": oracle}
FEWER = (8, 4)  # tokens of which the trained model is asked too


def leaky(attention, x, rope, mask=None, queries=None):
    """`dsa.observe` with the mistake: hidden states stay on the graph."""
    c_q = attention.q_a_layernorm(attention.q_a_proj(x))
    view = attention.view(x, c_q, rope, attention.latents(x, rope), attention.indexer.keys(x, rope), mask, queries)
    places, _ = attention.select(view)  # no gradient in any case
    scores = lightning(attention, view).masked_fill(~view.visible, float("-inf"))
    with torch.no_grad():
        selected = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, places, True)
        return Selection(scores, selected, attention.shares(view), attention.shares(view, selected))


def interleaved(indexer, heads, rope):
    """`LightningIndexer._place` with the mistake: neighbouring dimensions are turned together."""
    turned, rest = heads.split((indexer.d_rope, indexer.head_dim - indexer.d_rope), dim=-1)
    return torch.cat((apply_rope(turned, *rope, interleaved=True), rest), dim=-1)


def figures(model):
    """What a model finds at both lengths, and what the selected ones of 512 tokens hold of its attention."""
    accuracy = {str(length): find_needles(model, length, TEXTS) for length in LENGTHS}
    return {"accuracy": accuracy, "recall": recall_of_attention(model)}


def unchanged(model):
    return contextlib.nullcontext()


class Models:
    """One seed's models by name, each trained when it is first asked for; those of the recipes' own seed are there.

    seconds: CPU seconds of each training, a warm-up before it included; of those that are there, the measuring too.
    """

    def __init__(self, seed, folder):
        self.seed, self.folder, self.trained, self.seconds = seed, folder, {}, {}

    def __getitem__(self, name):
        """A model as it comes back from its file."""
        model = self.exact(name)
        return decode(encode(model, find("needle" if name == "dense" else "needle-sparse")))

    def exact(self, name):
        """A model before it is rounded."""
        if name not in self.trained:
            recipe, start, train = TRAINED[name]
            if self.seed == find(recipe).seed and name in SHIPPED:
                self.trained[name], self.seconds[name] = zoo.load(recipe), zoo.record(recipe)["cpu_seconds"]
                return self.trained[name]
            model = start and (self[start] if start == "dense" else copy.deepcopy(self.exact(start)))
            folder = self.folder / f"{name.replace(' ', '-')}-{self.seed}"
            run = Run(dataclasses.replace(find(recipe), seed=self.seed), lambda _: model, folder, progress=False)
            with make.repeatable(self.seed):
                self.trained[name] = train(run, model)
            self.seconds[name] = round(run.cpu_seconds + (self.seconds[start] if start == "warm-up" else 0), 1)
        return self.trained[name]


def no_warm_up(run, dense):
    """The sparse stage alone, for as many steps as both stages have together."""
    steps = needle_sparse.SPARSE.steps + needle_sparse.WARMUP.steps
    settings = dataclasses.replace(needle_sparse.SPARSE, steps=steps)
    return needle_sparse.made_sparse(run, with_indexer(dense, TOPK), settings)


def input_not_detached(run, warmed_up):
    with mock.patch.object(dsa, "observe", leaky):
        return needle_sparse.made_sparse(run, warmed_up)


# model -> (recipe, the model that it starts from, the training)
TRAINED = {
    "dense": ("needle", None, lambda run, _: needle.build(run)),
    "warm-up": ("needle-sparse", "dense", lambda run, _: needle_sparse.warmed_up(run)),
    "sparse": ("needle-sparse", "warm-up", needle_sparse.made_sparse),
    "no warm-up": ("needle-sparse", "dense", no_warm_up),
    "input not detached": ("needle-sparse", "warm-up", input_not_detached),
}
SHIPPED = ("dense", "sparse")
# arm -> (the model that it measures, what is changed while it is measured)
ARMS = {
    "dense": ("dense", unchanged),
    **{name: ("dense", functools.partial(selecting, selector=selector, topk=TOPK))
       for name, selector in SELECTORS.items()},
    "warm-up": ("warm-up", unchanged),
    "sparse": ("sparse", unchanged),
    **{f"sparse, {topk} tokens": ("sparse", functools.partial(selecting, topk=topk)) for topk in FEWER},
    "sparse, oracle": ("sparse", functools.partial(selecting, selector=oracle)),
    # one thing wrong
    "no warm-up": ("no warm-up", unchanged),
    "input not detached": ("input not detached", unchanged),
    "interleaved rope": ("sparse", lambda model: mock.patch.object(LightningIndexer, "_place", interleaved)),
}  # fmt: skip
MISTAKES = 3  # the last arms, which every seed has to wait for


def measure(models, arm):
    """A row of the result file."""
    name, change = ARMS[arm]
    model = models[name]
    with change(model):
        measured = figures(model)
    seconds = {"cpu_seconds": models.seconds[name]} if arm in TRAINED else {}
    return {"arm": arm, "seed": models.seed, **seconds, **measured}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--snapshots", type=Path, help="a folder that keeps the snapshots of the stages")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    conditions = {"recipe": find("needle-sparse").hash(), "texts": TEXTS, "topk": TOPK, "threads": 1,
                  "versions": store.versions()}  # fmt: skip
    rows = store.read(RESULT, conditions)
    with contextlib.ExitStack() as stack:
        folder = arguments.snapshots or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        models = [Models(seed, folder) for seed in range(arguments.seeds)]
        for some in (list(ARMS)[:-MISTAKES], list(ARMS)[-MISTAKES:]):
            for one, arm in itertools.product(models, some):
                if (arm, one.seed) not in {(row["arm"], row["seed"]) for row in rows}:
                    rows.append(measure(one, arm))
                    store.write(RESULT, conditions, rows)
                    print({name: value for name, value in rows[-1].items() if name != "recall"}, flush=True)


if __name__ == "__main__":
    main()

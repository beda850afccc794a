"""The needle model made sparse: of 512 tokens, or of 1024, a query attends to 16.

As V3.2 was made from V3.1-Terminus (V3.2 report, section 2.1.1): first the indexers learn to imitate the attention of
the dense model, which stays as it is; then both go on together, the model from its own loss and the indexers from
theirs. The decision to know: short texts come in turn with long ones. Of a short text's queries a quarter are
questions, of a long one's a sixteenth, and what a query among filler attends to teaches an indexer little.
"""

from dsmini.model.selectors import selecting
from dsmini.tasks.measure_needle import find_needles, recall_of_attention
from dsmini.tasks.needle import needles
from dsmini.training.indexer import IndexerSettings, train_sparse, train_warmup, with_indexer
from dsmini.zoo.needle import LENGTHS
from dsmini.zoo.recipe import Recipe

TOPK = 16
# (texts, tokens) of a step, one after the other
TEXTS = ((8, 128), (4, 512))
WARMUP = IndexerSettings(steps=240, learning_rate=1e-2, queries=64)
SPARSE = IndexerSettings(steps=120, learning_rate=3e-3, model_learning_rate=1e-3, queries=64)


def texts(seed):
    """Training data: a function, step -> `Needles` of the sizes of `TEXTS` in turn."""
    kinds = [needles(batch_size, length, seed) for batch_size, length in TEXTS]
    return lambda step: kinds[step % len(kinds)](step)


def warmed_up(run):
    """The first stage: the dense model with a budget of `TOPK` tokens, and indexers that imitate its attention."""
    model = with_indexer(run.load("needle"), TOPK)
    run.learn("warm-up", train_warmup, model, texts(run.seed + 100), WARMUP)
    return model


def made_sparse(run, model, settings=SPARSE):
    """The second stage, in place: everything learns, and nobody sees more than `TOPK` tokens."""
    run.learn("sparse", train_sparse, model, texts(run.seed + 200), settings)
    return model


def build(run):
    return made_sparse(run, warmed_up(run))


def evaluate(model):
    """Accuracy by selected tokens and length, and what the selected tokens hold of each layer's attention."""
    accuracy = {}
    for topk in (TOPK, TOPK // 2, TOPK // 4):
        with selecting(model, topk=topk):
            accuracy[str(topk)] = {str(length): find_needles(model, length) for length in LENGTHS}
    return {"accuracy": accuracy, "recall": recall_of_attention(model)}


# tokens, length -> (lowest, highest) accuracy that is accepted
ACCEPTED = {("16", "512"): (0.95, 1), ("16", "1024"): (0.92, 1)}

RECIPE = Recipe("needle-sparse", build, evaluate, seed=0, parents=("needle",))

"""DeepSeek-V3.2 at mini scale: the hybrid of chapter 9, made sparse. A token attends to 8 tokens, whatever came before.

As V3.2 was made from V3.1-Terminus (V3.2 report, section 2.1.1): indexers learn to imitate the dense model's attention,
then both go on together under the budget. There, post-training follows, sparse as well; here the dense model has had
its own. The decision to know: the texts are the hybrid's own answers, in both modes, and only right ones. Going on with
the corpus would teach it to be the base model again, and whoever imitates all of an imitation's answers learns its
mistakes and its noise.
"""

from statistics import mean

import torch

from dsmini.language.tokenizer import TOKENIZER
from dsmini.tasks import countdown, shell_game
from dsmini.tasks.measure import held_out
from dsmini.tasks.measure_modes import measure_modes
from dsmini.tasks.modes import question_text
from dsmini.training.indexer import IndexerSettings, train_sparse, train_warmup, with_indexer
from dsmini.training.rollout import pad
from dsmini.training.sft import rows_of_step
from dsmini.zoo import hybrid
from dsmini.zoo.recipe import Recipe

TOPK, HEADS, HEAD_DIM = 8, 4, 32
TASKS = (("shell_game", shell_game), ("countdown", countdown))
# mode -> problems that the hybrid is asked, samples of each, and how many right ones are kept at most
ASKED = {True: (5000, 1, 1), False: (6000, 1, 1)}
BATCH = 32
WARMUP = IndexerSettings(steps=150, learning_rate=1e-2, queries=64)
SPARSE = IndexerSettings(steps=300, learning_rate=3e-3, model_learning_rate=3e-4, queries=64)


def examples(run):
    """The hybrid's right answers in both modes, a third late in conversations: (prompt, response) texts.

    A rehearsal asks nobody, for what is sampled may differ between machines.
    """
    if run.rehearsing:
        taught = hybrid.all_lessons(run)
    else:
        model = run.load("hybrid")
        taught = {mode: hybrid.lessons(model, mode, *asked, seed=run.seed + 50) for mode, asked in ASKED.items()}
    return hybrid.examples_of(taught[True] + taught[False], run.seed + 51)


def texts(own, batch_size, seed):
    """Training data: a function, step -> (inputs, targets, mask, lengths), batches of (prompt, response) texts.

    Every example comes once before one comes again.
    """
    rows = [tuple(TOKENIZER.encode(text) for text in example) for example in own]

    def batch(step):
        chosen = [rows[row] for row in rows_of_step(step, batch_size, len(rows), seed)]
        lengths = torch.tensor([len(prompt) + len(response) - 1 for prompt, response in chosen])
        return *pad(*map(list, zip(*chosen, strict=True))), lengths

    return batch


def warmed_up(run, own):
    """The first stage: the hybrid with a budget of `TOPK` tokens, and indexers that imitate its attention."""
    model = with_indexer(run.load("hybrid"), TOPK, HEADS, HEAD_DIM, run.seed)
    run.learn("warm-up", train_warmup, model, texts(own, BATCH // 2, run.seed + 52), WARMUP)
    return model


def made_sparse(run, model, own, stage="sparse"):
    """The second stage, in place: everything learns, and nobody sees more than `TOPK` tokens."""
    run.learn(stage, train_sparse, model, texts(own, BATCH, run.seed + 53), SPARSE)
    return model


def build(run):
    own = examples(run)
    return made_sparse(run, warmed_up(run, own), own)


def evaluate(model):
    """What `measure_modes` says, and the mean length of a held-out prompt with its thought, in tokens, by task."""
    report = measure_modes(model)
    report["length"] = {name: prompt_tokens(task) + report["thinking"][name]["all"]["tokens"] for name, task in TASKS}
    return report


def prompt_tokens(task, count=200, seed=0):
    """The mean length of held-out prompts of a task."""
    return mean(len(TOKENIZER.encode(question_text(problem))) for problem in held_out(task, count, seed))


# mode, task, metric -> (lowest, highest) that is accepted, over all difficulties
ACCEPTED = {
    ("thinking", "shell_game", "pass@1"): (0.94, 1),
    ("thinking", "shell_game", "leaks"): (0, 0.01),
    ("thinking", "countdown", "pass@1"): (0.67, 1),
    ("thinking", "countdown", "leaks"): (0, 0.01),
    ("direct", "shell_game", "greedy"): (0.25, 1),
    ("direct", "shell_game", "leaks"): (0, 0.01),
    ("direct", "countdown", "greedy"): (0.4, 1),
    ("direct", "countdown", "leaks"): (0, 0.01),
}

RECIPE = Recipe("sparse", build, evaluate, seed=0, parents=("hybrid",))

"""The base model of the book: a small DeepSeek-V3, pre-trained on solved problems.

Two stages. `careful` teaches the skills from clean texts alone: from a noisy mixture they are not learnt in this time.
`mixed` is what a base model reads in the wild: most writers of a shell game answer without a thought, many are sloppy,
few are careful. So its likeliest answer to a shell game is a guess, and the good answers are in it, but rare: that is
what reinforcement learning (chapter 7) has to work with.
"""

from dsmini.config import PRESETS
from dsmini.tasks.corpus import corpus
from dsmini.tasks.measure import measure_countdown, measure_shell_game
from dsmini.training.pretrain import TrainingSettings
from dsmini.zoo.recipe import Recipe

CAREFUL = {"shell_game/careful": 45, "countdown/search": 20, "countdown/solve": 20, "sums": 15}
MIXED = {
    "shell_game/direct": 30, "shell_game/sloppy": 6, "shell_game/skip": 4, "shell_game/quit": 3.5,
    "shell_game/wait": 3.5, "shell_game/careful": 3, "countdown/search": 30, "countdown/solve": 10, "sums": 10,
}  # fmt: skip

# name, corpus, settings
STAGES = (
    ("careful", CAREFUL, TrainingSettings(steps=1000, batch_size=32, context=128, learning_rate=4e-3, warmup_steps=50)),
    ("mixed", MIXED, TrainingSettings(steps=700, batch_size=32, context=128, learning_rate=2e-3, warmup_steps=30)),
)


def build(run):
    model = run.new_model()
    for stage, (name, shares, settings) in enumerate(STAGES):
        data = corpus(shares, settings.batch_size, settings.context, seed=run.seed + 100 * stage)
        run.train(name, model, data, settings)
    return model


def evaluate(model):
    """On held-out problems: what `ACCEPTED` asks for, and more."""
    return {"shell_game": measure_shell_game(model), "countdown": measure_countdown(model)}


# task, metric -> (lowest, highest) that is accepted
ACCEPTED = {
    ("shell_game", "greedy"): (0, 0.15),  # answering at once is chance
    ("shell_game", "pass@32"): (0.9, 1),
    ("countdown", "sums"): (0.9, 1),
    ("countdown", "right_given_yes"): (0.85, 1),
}

RECIPE = Recipe("base", build, evaluate, config=PRESETS["mini-v3"], seed=1)

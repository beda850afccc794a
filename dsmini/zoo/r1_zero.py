"""R1-Zero at mini scale: the base model and GRPO with rewards by rule, nothing in between.

Trained on the shell game alone. The base model's likeliest answer is a guess; careful answers are in it, but rare.
Chapter 7 runs this very training in front of the reader.
"""

from dsmini.tasks import shell_game
from dsmini.tasks.measure import measure_countdown, measure_shell_game
from dsmini.tasks.rewards import accuracy
from dsmini.tasks.stream import stream
from dsmini.training.rlvr import GRPOSettings
from dsmini.zoo.recipe import Recipe

SETTINGS = GRPOSettings(steps=60, prompts=24, group_size=12, max_new_tokens=90, learning_rate=5e-4)


def problems(seed):
    return stream(shell_game, SETTINGS.prompts, seed)


def build(run):
    model = run.load("base")
    run.reinforce("shell-game", model, problems(run.seed), accuracy, SETTINGS)
    return model


def evaluate(model):
    """On held-out problems; countdown was not trained."""
    return {"shell_game": measure_shell_game(model), "countdown": measure_countdown(model)}


# task, metric -> (lowest, highest) that is accepted
ACCEPTED = {("shell_game", "greedy"): (0.95, 1), ("shell_game", "pass@1"): (0.85, 1)}

RECIPE = Recipe("r1-zero", build, evaluate, seed=0, parents=("base",))

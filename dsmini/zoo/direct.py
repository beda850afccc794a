"""The direct answerer: a specialist that says what the answer is, without a thought.

It stands for what DeepSeek-V3 was beside R1: the other model, quick and cheap. It is taught right answers to fresh
problems by programs, in V3.1's non-thinking prompt. The decision to know: every example occurs once. A mapping from
question to answer that skips all the steps between has to be learnt from many examples; an epoch more is no new one.
"""

from dsmini.language.frame import answer_text, prompt_text
from dsmini.tasks import countdown, shell_game
from dsmini.tasks.draw import Draw
from dsmini.tasks.measure_modes import MOST_SWAPS, measure_modes
from dsmini.tasks.stream import stream
from dsmini.training.pretrain import TrainingSettings
from dsmini.zoo.recipe import Recipe

# the mix of chapter 9: here an answer at once is worth something
MIX = {(shell_game, (("swaps", (0, MOST_SWAPS)),)): 1, countdown: 1}
SETTINGS = TrainingSettings(steps=1000, batch_size=64, context=64, learning_rate=3e-3, warmup_steps=30)


def written(count, seed):
    """Right answers to `count` problems of the train split, (prompt, response) pairs; one of countdown's at random."""
    draw, examples = Draw("direct", seed), []
    for problem in stream(MIX, count, seed)(0):
        task = countdown if isinstance(problem, countdown.Countdown) else shell_game
        _, answer = task.write(problem, "direct", draw)
        examples.append((prompt_text(problem.prompt, thinking=False), answer_text(answer)))
    return examples


def build(run):
    model = run.load("base")
    run.fine_tune("direct", model, written(SETTINGS.batch_size * SETTINGS.steps, run.seed), SETTINGS)
    return model


def evaluate(model):
    return measure_modes(model, problems=100, thinking=(False,))


# task, metric -> (lowest, highest) that is accepted, over all difficulties
ACCEPTED = {("shell_game", "greedy"): (0.3, 1), ("countdown", "greedy"): (0.35, 1)}

RECIPE = Recipe("direct", build, evaluate, seed=0, parents=("base",))

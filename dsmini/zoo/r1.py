"""DeepSeek-R1's four stages at mini scale (R1 report, section 3): what chapter 8 takes apart.

Cold start, reinforcement learning on reasoning, rejection sampling with general data, reinforcement learning for all
scenarios. Two things are smaller than in the report: careful writers take the place of the people who edited
DeepSeek-R1-Zero's thoughts, and where the report asks a learned preference model, `brevity` is a rule. As there, the
third stage starts again from the base model: the second one is there to write its data.
"""

import dataclasses
from statistics import mean

from dsmini.language.frame import parse_response, prompt_text, response_text
from dsmini.tasks import chains, countdown, shell_game
from dsmini.tasks.draw import Draw
from dsmini.tasks.languages import mixed
from dsmini.tasks.measure import ask, held_out, mean_tokens, measure_countdown
from dsmini.tasks.rewards import accuracy, combined, language_consistency, well_formed
from dsmini.tasks.stream import stream
from dsmini.training.pretrain import TrainingSettings
from dsmini.training.rlvr import GRPOSettings
from dsmini.zoo.recipe import Recipe

MOST_TOKENS = 250  # of an answer
SHARES = {"digits": 0.4, "words": 0.3, "both": 0.3}  # of the writers of shell games, by their language
# simple questions, to be answered at once: one operation, one swap at most
GENERAL = {(chains, (("steps", (1, 1)),)): 1, (shell_game, (("swaps", (0, 1)),)): 1}
REASONING = {(shell_game, (("swaps", (0, 9)),)): 1, countdown: 2, (chains, (("steps", (3, 4)),)): 1}
# chains come more often here: their operators are what the base model has never had to read
TAUGHT = {(shell_game, (("swaps", (2, 9)),)): 2, countdown: 2, (chains, (("steps", (3, 4)),)): 3}

COLD_START = TrainingSettings(steps=500, batch_size=40, context=320, learning_rate=2e-3, warmup_steps=20)
REASONING_RL = GRPOSettings(steps=40, prompts=24, group_size=10, max_new_tokens=MOST_TOKENS, learning_rate=2e-4)
REJECTION_SFT = TrainingSettings(steps=500, batch_size=40, context=320, learning_rate=2e-3, warmup_steps=20)
ALL_SCENARIOS_RL = GRPOSettings(
    steps=50, prompts=24, group_size=10, max_new_tokens=MOST_TOKENS, learning_rate=1e-4, temperature=0.7
)

reasoning_reward = combined(accuracy=(accuracy, 1.0), language=(language_consistency, 0.25))


def brevity(problem, text):
    """For a simple question, 1.0 for an answer without a thought, down to 0.0 at ten words; 0.0 for other problems."""
    response = parse_response(text)
    if response is None or not is_general(problem):
        return 0.0
    return max(0.0, 1 - len(response.thought.split()) / 10)


def is_general(problem):
    return problem.difficulty <= 1


all_scenarios_reward = combined(
    accuracy=(accuracy, 1.0), language=(language_consistency, 0.25), preference=(brevity, 0.5)
)


def written(count, seed):
    """Careful examples, (prompt, response) pairs: shell games by writers of two languages, countdown, chains."""
    draw, examples = Draw("cold start", seed), []
    for _ in range(count):
        kind = draw.weighted({"shell_game": 2, "countdown": 1, "chains": 4})
        if kind == "shell_game":
            problem = shell_game.sample(draw, swaps=(0, 9))
            thought, answer = shell_game.write(problem, "careful", draw)
            thought = mixed(thought, {"digits": 0, "words": 1, "both": 1 / 2}[draw.weighted(SHARES)], draw)
        elif kind == "countdown":
            problem = countdown.sample(draw)
            thought, answer = countdown.write(problem, draw.choice(("patient", "solve")), draw)
        else:
            problem = chains.sample(draw)
            thought, answer = chains.write(problem, "careful", draw)
        examples.append((prompt_text(problem.prompt), response_text(thought, answer)))
    return examples


def rejection_sampled(model, count, seed, samples=4, sources=None):
    """A model's own good answers to `count` train problems, the shortest two of each: (prompt, response) pairs.

    Good: right, whole and in one language. sources: as in `stream`; None takes `TAUGHT`. count: a multiple of 100.
    """
    ask_for = stream(sources or TAUGHT, 100, seed + 1)
    problems = [problem for step in range(count // 100) for problem in ask_for(step)]
    examples = []
    for start in range(0, len(problems), 100):  # the cache of more rows would not fit
        asked = problems[start : start + 100]
        said = ask(model, asked, samples, max_new_tokens=MOST_TOKENS, seed=seed + start)
        for problem, texts in zip(asked, said, strict=True):
            good = sorted({text for text in texts if is_good(problem, text)}, key=lambda text: (len(text), text))
            examples += [(prompt_text(problem.prompt), text) for text in good[:2]]
    return examples


def is_good(problem, text):
    return accuracy(problem, text) == 1 and language_consistency(problem, text) == 1


def general(count, seed):
    """Simple questions with the answer alone: (prompt, response) pairs."""
    problems = stream(GENERAL, count, seed + 3)(0)
    return [(prompt_text(problem.prompt), response_text("", problem.answer)) for problem in problems]


def cold_start(run):
    """Stage 1, from the base model: Dev1, which thinks carefully and mixes languages."""
    model = run.load("base")
    run.fine_tune("cold-start", model, written(6000, run.seed), COLD_START)
    return model


def reasoning_rl(run, model, reward=reasoning_reward, stage="reasoning-rl"):
    """Stage 2, in place: Dev2, which is right more often, in one language."""
    settings = smaller(run, REASONING_RL)
    run.reinforce(stage, model, stream(REASONING, settings.prompts, run.seed), reward, settings)


def rejection_sft(run, writer):
    """Stage 3, from the base model again: Dev3, taught by the writer's good answers and by general data."""
    model = run.load("base")
    # a rehearsal has no writer worth the name
    reasoning = written(200, run.seed) if run.rehearsing else rejection_sampled(writer, 2000, run.seed)
    examples = [*reasoning, *general(len(reasoning) // 2, run.seed)]
    run.fine_tune("rejection-sft", model, examples, REJECTION_SFT)
    return model


def all_scenarios_rl(run, model):
    """Stage 4, in place: R1."""
    settings = smaller(run, ALL_SCENARIOS_RL)
    problems = stream({**TAUGHT, **GENERAL}, settings.prompts, run.seed + 2)
    run.reinforce("all-scenarios-rl", model, problems, all_scenarios_reward, settings)


def smaller(run, settings):
    """The settings, with few answers of few words in a rehearsal."""
    return dataclasses.replace(settings, prompts=4, group_size=4, max_new_tokens=60) if run.rehearsing else settings


def build(run):
    writer = cold_start(run)
    reasoning_rl(run, writer)
    model = rejection_sft(run, writer)
    all_scenarios_rl(run, model)
    return model


# name -> tasks with the options of their `sample`, and the most problems of each that are asked: few are simple
MEASURED = {
    "shell_game": ({shell_game: {"swaps": (3, 9)}}, 200),
    "countdown": ({countdown: {}}, 200),
    "chains": ({chains: {"steps": (3, 4)}}, 200),
    "general": ({chains: {"steps": (1, 1)}, shell_game: {"swaps": (0, 1)}}, 15),
}


def evaluate(model, problems=100, samples=8, seed=0):
    """On held-out problems of each kind in `MEASURED`: greedy; at temperature 1 pass@1, mean tokens, and the shares of
    answers that are well formed, without a thought (direct), and of words in the user's language (consistency)."""
    metrics = {}
    for name, (tasks, most) in MEASURED.items():
        count = min(problems, most)
        asked = [problem for task, options in tasks.items() for problem in held_out(task, count, seed, **options)]
        texts = ask(model, asked, samples, max_new_tokens=MOST_TOKENS, seed=seed)
        greedy = ask(model, asked, temperature=0, max_new_tokens=MOST_TOKENS, seed=seed)
        pairs = [(problem, text) for problem, said in zip(asked, texts, strict=True) for text in said]
        formed = [pair for pair in pairs if well_formed(*pair)]
        metrics[name] = {
            "greedy": mean(accuracy(problem, text) for problem, (text,) in zip(asked, greedy, strict=True)),
            "pass@1": mean(accuracy(*pair) for pair in pairs),
            "tokens": mean_tokens(texts),
            "well_formed": len(formed) / len(pairs),
            "direct": sum(parse_response(text).thought == "" for _, text in formed) / len(pairs),
            "consistency": sum(language_consistency(*pair) for pair in formed) / max(1, len(formed)),
        }
    honest = measure_countdown(model, problems, samples, seed, MOST_TOKENS)
    metrics["countdown"] |= {name: honest[name] for name in ("sums", "marks", "yes", "right_given_yes", "attempts")}
    return metrics


# task, metric -> (lowest, highest) that is accepted
ACCEPTED = {
    ("shell_game", "pass@1"): (0.9, 1),
    ("shell_game", "consistency"): (0.98, 1),
    ("countdown", "pass@1"): (0.5, 1),
    ("chains", "pass@1"): (0.75, 1),
    ("general", "pass@1"): (0.65, 1),
    ("general", "direct"): (0.9, 1),
}

RECIPE = Recipe("r1", build, evaluate, seed=0, parents=("base",))

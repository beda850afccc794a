"""DeepSeek-V3.1 at mini scale: one set of weights that thinks or answers at once, as the end of its prompt says.

Two specialists write the lessons: `r1` the thoughts, `direct` the answers without one. The base model is taught both, a
part of them inside longer conversations, and then practises both modes in one reinforcement learning. What V3.1's card
says is that it continues V3's base and was trained in both modes; how, it does not say. V3.2's report does: specialists
for each domain and mode, distillation, one merged RL (section 3). The decision to know: only right answers in the right
mode are taught, so where a specialist never is right the hybrid gets no lesson either.
"""

import dataclasses

from dsmini.language.chat import render
from dsmini.language.frame import response_text
from dsmini.tasks import shell_game
from dsmini.tasks.draw import Draw
from dsmini.tasks.measure import ask
from dsmini.tasks.measure_modes import MOST_TOKENS, measure_modes
from dsmini.tasks.modes import Asked, in_both_modes, in_mode, mode_kept, said_text
from dsmini.tasks.rewards import accuracy, combined
from dsmini.tasks.stream import stream
from dsmini.training.pretrain import TrainingSettings
from dsmini.training.rlvr import GRPOSettings
from dsmini.zoo.direct import MIX
from dsmini.zoo.recipe import Recipe

# mode -> problems that the specialist is asked, samples of each, and how many good ones are kept at most
ASKED = {True: (3000, 4, 2), False: (60_000, 1, 1)}
IN_CONVERSATION = 1 / 3  # of the lessons come after one or two other questions
SFT = TrainingSettings(steps=1200, batch_size=48, context=320, learning_rate=3e-3, warmup_steps=30)
RL = GRPOSettings(steps=60, prompts=32, group_size=10, max_new_tokens=200, learning_rate=1e-4)

reward = combined(accuracy=(accuracy, 1.0), mode=(mode_kept, 0.25))


def lessons(specialist, thinking, count, samples, keep, seed):
    """A specialist's good answers to `count` problems, the shortest `keep` of each: (Asked, text) pairs.

    Good: right, and in the mode that was asked for. The text is what follows an opened thought.
    """
    problems, taught = in_mode(stream(MIX, count, seed)(0), thinking), []
    for start in range(0, count, 500):  # the cache of more rows would not fit
        asked = problems[start : start + 500]
        said = ask(specialist, asked, samples, max_new_tokens=MOST_TOKENS[thinking], seed=seed + start)
        for problem, texts in zip(asked, said, strict=True):
            good = {text for text in texts if accuracy(problem, text) and mode_kept(problem, text)}
            taught += [(problem, text) for text in sorted(good, key=lambda text: (len(text), text))[:keep]]
    return taught


def short_thoughts(count, seed):
    """Thoughts on shell games of one swap or none, where `r1` has learnt to say nothing: (Asked, text) pairs.

    A game without a swap is thought about by saying where the balls are.
    """
    draw, taught = Draw("short thoughts", seed), []
    for _ in range(count):
        problem = shell_game.sample(draw, swaps=(0, 1))
        thought, answer = shell_game.write(problem, "careful", draw)
        taught.append((Asked(problem, True), response_text(thought or problem.answer, answer)))
    return taught


def examples_of(taught, seed, share=IN_CONVERSATION):
    """Lessons as (prompt, response) pairs to train on; a share of them come late in a conversation.

    What was said before are other lessons' questions with a right answer, as V3.1's template keeps them: no thoughts.
    """
    draw, examples = Draw("conversations", seed), []
    for asked, text in taught:
        earlier = [draw.choice(taught)[0] for _ in range(1 + draw.below(2))] if draw.happens(share) else []
        examples.append((conversation_text(earlier, asked), said_text(asked, text)))
    return examples


def conversation_text(earlier, asked):
    """What V3.1 reads when a problem is asked, an `Asked`, after earlier ones that were answered rightly."""
    messages = []
    for problem in earlier:
        messages += [{"role": "user", "content": problem.prompt}, {"role": "assistant", "content": problem.answer}]
    messages.append({"role": "user", "content": asked.prompt})
    return render(messages, "deepseek-v3.1", thinking=asked.thinking)


def all_lessons(run):
    """What both specialists have to teach: mode -> (Asked, text) pairs.

    A rehearsal asks nobody, for what is sampled may differ between machines.
    """
    if run.rehearsing:
        problems = stream({(shell_game, (("swaps", (1, 9)),)): 1}, 200, run.seed)(0)
        return {mode: [(Asked(problem, mode), response_text("1 2" if mode else "", problem.answer))
                       for problem in problems] for mode in (True, False)}  # fmt: skip
    thoughts = lessons(run.load("r1"), True, *ASKED[True], seed=run.seed + 10)
    thoughts += short_thoughts(len(thoughts) // 10, run.seed + 20)
    return {True: thoughts, False: lessons(run.load("direct"), False, *ASKED[False], seed=run.seed + 11)}


def fine_tuned(run, taught, modes=(True, False)):
    """The base model, taught these modes. Whatever they are, a step has as many lessons of each as with both."""
    chosen = [lesson for mode in modes for lesson in taught[mode]]
    share = len(chosen) / sum(map(len, taught.values()))
    settings = dataclasses.replace(SFT, batch_size=round(SFT.batch_size * share))
    model = run.load("base")
    run.fine_tune("sft", model, examples_of(chosen, run.seed + 30), settings)
    return model


def reinforced(run, model, modes=(True, False)):
    """Reinforcement learning in place: every problem of a step is asked in each of the modes."""
    settings = RL if not run.rehearsing else dataclasses.replace(RL, prompts=4, group_size=4, max_new_tokens=60)
    count = settings.prompts // 2
    settings = dataclasses.replace(settings, prompts=count * len(modes))
    problems = stream(MIX, count, run.seed + 40)
    asked = in_both_modes(problems) if len(modes) == 2 else lambda step: in_mode(problems(step), *modes)
    run.reinforce("mixed-rl", model, asked, reward, settings)


def build(run):
    model = fine_tuned(run, all_lessons(run))
    reinforced(run, model)
    return model


def evaluate(model):
    return measure_modes(model)


# mode, task, metric -> (lowest, highest) that is accepted, over all difficulties
ACCEPTED = {
    ("thinking", "shell_game", "pass@1"): (0.9, 1),
    ("thinking", "shell_game", "leaks"): (0, 0.01),
    ("thinking", "countdown", "pass@1"): (0.6, 1),
    ("thinking", "countdown", "leaks"): (0, 0.01),
    ("direct", "shell_game", "greedy"): (0.25, 1),
    ("direct", "shell_game", "tokens"): (0, 3.1),  # two cups and the end
    ("direct", "shell_game", "leaks"): (0, 0.01),
    ("direct", "countdown", "greedy"): (0.35, 1),
    ("direct", "countdown", "tokens"): (0, 6.1),  # five words and the end; very few never stop
    ("direct", "countdown", "leaks"): (0, 0.01),
}

RECIPE = Recipe("hybrid", build, evaluate, seed=0, parents=("base", "r1", "direct"))

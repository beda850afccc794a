"""What a model can do: its answers to held-out problems, right or not, and what its thoughts are worth.

Pass@k is the share of problems that at least one of k samples solves; pass@1 is the mean of all samples. The one
decision to know: a measurement's problems follow from its seed alone, so every model of the book is asked the same.
"""

import torch

from dsmini.inference.generate import generate
from dsmini.language.frame import parse_response, prompt_text
from dsmini.language.tokenizer import EOS, TOKENIZER
from dsmini.tasks import countdown, shell_game
from dsmini.tasks.draw import Draw


def held_out(task, n, seed=0, **options):
    """n different problems of the test split. task: a module of `dsmini.tasks`; options: of its `sample`."""
    draw, problems = Draw("held out", seed), {}
    while len(problems) < n:
        problem = task.sample(draw, "test", **options)
        problems.setdefault(problem.prompt, problem)
    return list(problems.values())


def ask(model, problems, samples=1, temperature=1.0, max_new_tokens=160, seed=0):
    """What a model says to problems: a list for each problem, of `samples` texts.

    temperature 0 is greedy. The generator is the seed's, so a measurement repeats.
    """
    prompts = [TOKENIZER.encode(prompt_text(problem.prompt)) for problem in problems]
    generator = torch.Generator().manual_seed(seed)
    said = generate(model, prompts, max_new_tokens, temperature, generator=generator, stop=TOKENIZER.id(EOS),
                    samples_per_prompt=samples).tokens  # fmt: skip
    texts = [TOKENIZER.decode(tokens) for tokens in said]
    return [texts[i : i + samples] for i in range(0, len(texts), samples)]


def grade(task, problems, texts):
    """Whether each text of `ask` ends in a right answer: (problems, samples) float64 of 0 and 1."""

    def right(problem, text):
        response = parse_response(text)
        return float(response is not None and task.is_right(problem, response.answer))

    rows = zip(problems, texts, strict=True)
    return torch.tensor([[right(problem, text) for text in said] for problem, said in rows], dtype=torch.float64)


def solved(right):
    """Pass@1 and pass@k of (problems, k) grades, two floats."""
    return right.mean().item(), right.amax(1).mean().item()


def thoughts_of(problems, texts):
    """Every text of `ask` as a pair (problem, its thought; None where no answer follows), in one list."""
    pairs = []
    for problem, said in zip(problems, texts, strict=True):
        responses = [parse_response(text) for text in said]
        pairs += [(problem, None if response is None else response.thought) for response in responses]
    return pairs


def mean_tokens(texts):
    """The mean length in tokens of `ask`'s texts."""
    lengths = [len(TOKENIZER.encode(text)) for said in texts for text in said]
    return sum(lengths) / len(lengths)


def measure_shell_game(model, problems=200, samples=32, seed=0, swaps=(3, 9)):
    """The shell game on held-out problems: a dict of floats. swaps: fewest and most.

    greedy; pass@1 and pass@k (k = samples) at temperature 1; direct: samples without a thought; complete: samples that
    write every swap and every step rightly; tokens: mean length of what is said.
    """
    asked = held_out(shell_game, problems, seed, swaps=swaps)
    greedy = grade(shell_game, asked, ask(model, asked, temperature=0, seed=seed))
    texts = ask(model, asked, samples, seed=seed)
    at_1, at_k = solved(grade(shell_game, asked, texts))
    thoughts = thoughts_of(asked, texts)
    return {
        "greedy": greedy.mean().item(),
        "pass@1": at_1,
        f"pass@{samples}": at_k,
        "direct": _share([thought == "" for _, thought in thoughts]),
        "complete": _share([t is not None and shell_game.is_complete(p, t) for p, t in thoughts]),
        "tokens": mean_tokens(texts),
    }


def measure_countdown(model, problems=150, samples=16, seed=0):
    """Countdown with three numbers, held out: a dict of floats.

    greedy; pass@1 and pass@k (k = samples) at temperature 1; sums: operations of the attempts that are right; marks:
    marks that fit the result before them; yes: samples whose last mark says yes, right_given_yes: of those, the share
    that is right; attempts: attempts a sample; malformed: of those, what is none; tokens: mean length of what is said.
    """
    asked = held_out(countdown, problems, seed)
    greedy = grade(countdown, asked, ask(model, asked, temperature=0, seed=seed))
    texts = ask(model, asked, samples, seed=seed)
    right = grade(countdown, asked, texts)
    read = [countdown.read_attempts(p, t) if t else [] for p, t in thoughts_of(asked, texts)]
    attempts = [attempt for thought in read for attempt in thought]
    formed = [attempt for attempt in attempts if attempt is not None]
    sums = [right for attempt in formed for right in attempt.sums_right]
    yes = [bool(thought and thought[-1] and thought[-1].says_yes) for thought in read]
    at_1, at_k = solved(right)
    return {
        "greedy": greedy.mean().item(),
        "pass@1": at_1,
        f"pass@{samples}": at_k,
        "sums": _share(sums),
        "marks": _share([attempt.mark_right for attempt in formed]),
        "yes": _share(yes),
        "right_given_yes": right.flatten()[torch.tensor(yes)].mean().item() if any(yes) else 0.0,
        "attempts": len(attempts) / len(read),
        "malformed": 1 - len(formed) / max(1, len(attempts)),
        "tokens": mean_tokens(texts),
    }


def _share(verdicts):
    return sum(verdicts) / max(1, len(verdicts))

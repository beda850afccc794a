"""What a model can do: its answers to held-out problems, right or not, and what its thoughts are worth.

Pass@k is the share of problems that at least one of k samples solves; pass@1 is the mean of all samples. The one
decision to know: a measurement's problems follow from its seed alone, so every model of the book is asked the same.
"""

import torch
from tqdm.auto import tqdm

from dsmini.inference.budget import generate_with_budget
from dsmini.inference.generate import generate
from dsmini.language.frame import parse_response
from dsmini.language.tokenizer import EOS, TOKENIZER
from dsmini.tasks import chains, countdown, shell_game
from dsmini.tasks.draw import Draw
from dsmini.tasks.modes import is_thinking, question_text, turns_of


def held_out(task, n, seed=0, **options):
    """n different problems of the test split. task: a module of `dsmini.tasks`; options: of its `sample`."""
    draw, problems = Draw("held out", seed), {}
    while len(problems) < n:
        problem = task.sample(draw, "test", **options)
        problems.setdefault(problem.prompt, problem)
    return list(problems.values())


def ask(model, problems, samples=1, temperature=1.0, max_new_tokens=160, seed=0):
    """What a model says to problems: a list for each problem, of `samples` texts, each what follows an opened thought.

    problems: each is asked in its own mode, see `dsmini.tasks.modes`.
    temperature 0 is greedy. The generator is the seed's, so a measurement repeats.
    """
    prompts = [TOKENIZER.encode(question_text(problem)) for problem in problems]
    generator = torch.Generator().manual_seed(seed)
    said = generate(model, prompts, max_new_tokens, temperature, generator=generator, stop=TOKENIZER.id(EOS),
                    samples_per_prompt=samples).tokens  # fmt: skip
    return turns_of(problems, said, samples)


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


def pass_at_k(n, c, k):
    """The chance that k samples hold a right one, estimated from n samples of which c are right.

    n, c: counts, ints or tensors that broadcast. k: an int. Returns float64 of their shape: 1 - C(n-c, k) / C(n, k),
    the share of all sets of k of the n samples that hold a right one. Its mean over problems is unbiased (Chen et al.
    2021, section 2.1, eq. 1). The obvious 1 - (1 - c/n)^k is not: it may take one sample twice, and, (1 - x)^k being
    convex, an uncertain c/n pulls it down on average, the more so the nearer k comes to n. The binomials, too large
    for floats, are never formed: their quotient is a product of k factors.
    Raises ValueError for counts outside 0 <= c <= n and 1 <= k <= n.
    """
    n, c = torch.broadcast_tensors(*(torch.as_tensor(count, dtype=torch.float64) for count in (n, c)))
    if not ((c >= 0) & (c <= n) & (c == c.floor()) & (n == n.floor())).all():
        raise ValueError(f"c = {c.tolist()}, n = {n.tolist()}: expected whole numbers with 0 <= c <= n")
    if (n < k).any() or k < 1 or k != int(k):
        raise ValueError(f"k = {k!r}, n = {n.tolist()}: expected a whole number with 1 <= k <= n")
    drawn = torch.arange(int(k), dtype=torch.float64)
    left, wrong = n[..., None] - drawn, (n - c)[..., None] - drawn  # (..., k), before each draw
    return 1 - (wrong.clamp(min=0) / left).prod(-1)  # factors from 0 to 1: no overflow in any order


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


def accuracy_at_budgets(model, task, problems, budgets, samples=1, seed=0, temperature=1.0, max_new_tokens=160,
                        progress=True, **bounds):  # fmt: skip
    """How often a model is right when its thoughts are closed after so many tokens: a list of dicts, one a budget.

    budgets: tokens of thought, see `generate_with_budget`; bounds: its `minimum` and `max_waits`. Each dict: budget;
    accuracy, of `samples` answers a problem; tokens, the mean length of a thought; forced, the share of thoughts that
    were closed by force. All budgets see the same random numbers: up to where one is forced, a sample's text is the
    same at each. Raises ValueError for a problem that is asked without thinking.
    """
    if not all(map(is_thinking, problems)):
        raise ValueError("problems: some are asked without thinking, and have no thought to close")
    prompts = [TOKENIZER.encode(question_text(problem)) for problem in problems]
    rows = []
    for budget in tqdm(budgets, desc="budgets", disable=not progress):
        said = generate_with_budget(
            model, prompts, max_new_tokens, budget, temperature, generator=torch.Generator().manual_seed(seed),
            stop=TOKENIZER.id(EOS), samples_per_prompt=samples, **bounds,
        )  # fmt: skip
        right = grade(task, problems, turns_of(problems, said.tokens, samples))
        rows.append({
            "budget": budget,
            "accuracy": right.mean().item(),
            "tokens": said.thought.double().mean().item(),
            "forced": said.closed_by_force.double().mean().item(),
        })  # fmt: skip
    return rows


def measure_shell_game(model, problems=200, samples=32, seed=0, swaps=(3, 9)):
    """The shell game on held-out problems: a dict of floats. swaps: fewest and most.

    greedy; pass@1 and pass@k (k = samples) at temperature 1; direct: samples without a thought; complete: samples that
    write every swap and every step rightly; tokens: mean length of what is said.
    """
    return _measure_steps(shell_game, model, problems, samples, seed, swaps=swaps)


def measure_chains(model, problems=200, samples=16, seed=0, steps=(1, 4)):
    """Arithmetic chains, held out: a dict of floats. steps: fewest and most.

    greedy; pass@1 and pass@k (k = samples) at temperature 1; direct: samples without a thought; complete: samples that
    write every sum rightly; tokens: mean length of what is said.
    """
    return _measure_steps(chains, model, problems, samples, seed, steps=steps)


def measure_countdown(model, problems=150, samples=16, seed=0, max_new_tokens=160):
    """Countdown with three numbers, held out: a dict of floats.

    greedy; pass@1 and pass@k (k = samples) at temperature 1; sums: operations of the attempts that are right; marks:
    marks that fit the result before them; yes: samples whose last mark says yes, right_given_yes: of those, the share
    that is right; attempts: attempts a sample; malformed: of those, what is none; tokens: mean length of what is
    said, by at most max_new_tokens.
    """
    asked = held_out(countdown, problems, seed)
    greedy = grade(countdown, asked, ask(model, asked, temperature=0, max_new_tokens=max_new_tokens, seed=seed))
    texts = ask(model, asked, samples, max_new_tokens=max_new_tokens, seed=seed)
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


def _measure_steps(task, model, problems, samples, seed, **options):
    """Measures a task whose thoughts are complete or not."""
    asked = held_out(task, problems, seed, **options)
    greedy = grade(task, asked, ask(model, asked, temperature=0, seed=seed))
    texts = ask(model, asked, samples, seed=seed)
    at_1, at_k = solved(grade(task, asked, texts))
    thoughts = thoughts_of(asked, texts)
    return {
        "greedy": greedy.mean().item(),
        "pass@1": at_1,
        f"pass@{samples}": at_k,
        "direct": _share([thought == "" for _, thought in thoughts]),
        "complete": _share([t is not None and task.is_complete(p, t) for p, t in thoughts]),
        "tokens": mean_tokens(texts),
    }


def _share(verdicts):
    return sum(verdicts) / max(1, len(verdicts))

"""What a model can do in each of its two modes, difficulty by difficulty, and whether it keeps to the mode.

The mix on which a hybrid is measured: shell games of 0 to 9 swaps, where an answer at once is worth something up to
three or so, and countdown. The decision to know: an average over a mix says mostly what the mix is, so every number of
swaps has a row of its own, with as many problems as any other where there are so many: 0 swaps have 3 held out, 1 has
17, 2 have 182.
"""

import math
from statistics import mean

from dsmini.language.frame import parse_response
from dsmini.language.tokenizer import TOKENIZER
from dsmini.tasks import countdown, modes, shell_game
from dsmini.tasks.measure import ask, grade, held_out

MOST_SWAPS = 9
MOST_TOKENS = {True: 200, False: 12}  # of an answer, by mode
_HELD_OUT = {0: 3, 1: 17, 2: 182}  # swaps -> how many problems of the test split there are


def measure_modes(model, problems=50, samples=4, seed=0, thinking=(True, False)):
    """A dict, mode ("thinking" or "direct") -> task -> difficulty, as text, or "all" -> a dict of floats.

    problems: how many of each number of swaps; of countdown four times as many. samples: of each, at temperature 1;
    more where there are fewer problems.
    thinking: the modes to measure. The figures are those of `figures`; "all" weighs every number of swaps alike,
    and its longest is the longest of all.
    """
    report = {}
    for mode in thinking:
        rows = {"shell_game": {}, "countdown": {}}
        for swaps in range(MOST_SWAPS + 1):
            count = min(problems, _HELD_OUT.get(swaps, problems))
            asked = modes.in_mode(held_out(shell_game, count, seed, swaps=(swaps, swaps)), mode)
            rows["shell_game"][str(swaps)] = figures(model, asked, math.ceil(problems * samples / count), seed)
        rows["shell_game"]["all"] = _over(rows["shell_game"].values())
        asked = modes.in_mode(held_out(countdown, 4 * problems, seed), mode)
        rows["countdown"]["all"] = figures(model, asked, samples, seed)
        report["thinking" if mode else "direct"] = rows
    return report


def figures(model, asked, samples=4, seed=0):
    """What a model makes of problems that are all asked in one mode, a list of `Asked`: a dict of floats.

    greedy: accuracy at temperature 0; pass@1: mean accuracy at temperature 1; tokens: mean length of what is said,
    longest: the longest; whole: the share that is a response at all; leaks: the share in the wrong mode.
    """
    limit = MOST_TOKENS[modes.is_thinking(asked[0])]
    greedy = grade(modes, asked, ask(model, asked, temperature=0, max_new_tokens=limit, seed=seed))
    texts = ask(model, asked, samples, max_new_tokens=limit, seed=seed)
    pairs = [(problem, text) for problem, said in zip(asked, texts, strict=True) for text in said]
    lengths = [len(TOKENIZER.encode(modes.said_text(*pair))) for pair in pairs]
    return {
        "greedy": greedy.mean().item(),
        "pass@1": grade(modes, asked, texts).mean().item(),
        "tokens": mean(lengths),
        "longest": float(max(lengths)),
        "whole": mean(parse_response(text) is not None for _, text in pairs),
        "leaks": mean(modes.leaks(*pair) for pair in pairs),
    }


def _over(rows):
    """Rows of figures as one: their means, and the longest of all."""
    rows = list(rows)
    return {name: (max if name == "longest" else mean)(row[name] for row in rows) for name in rows[0]}

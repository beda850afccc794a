"""Invented data for widgets shown without any: a router, a tape of drafts, activations, answers, attention.

Made from Python's own uniform numbers, which are the same everywhere. A chapter passes the data of a trained model.
"""

import itertools
import math
import random

from dsmini.accounting import speculation

# The toy language: one word of each group, in this order. Every choice makes a sentence.
_STORY = """the/a small/young/red fox/cat/owl sat/slept/waited by/near the/a old/wide/quiet river/bridge/mill and/then
watched/saw the/a moon/sun/mist rise/climb/fade over/behind the/those hills/trees/roofs ./, every/each night/evening
it/she came/went back/home to/for the/that same/warm/grey stone/place/spring and/then sang/called to/for the/all
stars/birds/hills until/while the/a wind/light/day was/grew still/warm/gone ./!"""


def lopsided_scores(batches=8, tokens=64, experts=16, seed=0):
    """(N, T, E) scores of a router that prefers some experts, and more so for each of its tokens' four topics."""
    pick = random.Random(seed)
    liked = [1.6 * _bell(pick) for _ in range(experts)]
    topics = [[1.8 * _bell(pick) for _ in range(experts)] for _ in range(4)]

    def token():
        topic = topics[pick.randrange(4)]
        return [1 / (1 + math.exp(-liked[e] - topic[e] - _bell(pick))) for e in range(experts)]

    return [[token() for _ in range(tokens)] for _ in range(batches)]


def activations(rows=8, columns=32, seed=5):
    """(R, C) bell-shaped numbers, some columns larger than others, as channels are."""
    pick = random.Random(seed)
    sizes = [0.4 + 1.2 * pick.random() for _ in range(columns)]
    return [[size * 1.7 * _bell(pick) for size in sizes] for _ in range(rows)]


def toy_tapes(seed=1):
    """A run of the toy language, sampled and greedy: the main model knows the words, the draft model guesses them."""
    pick = random.Random(seed)
    places = []
    for words in (place.split("/") for place in _STORY.split()):
        p = [math.exp(-1.6 * i + _bell(pick)) for i in range(len(words))]
        q = [weight * math.exp(1.3 * _bell(pick)) for weight in p]
        places.append([{f" {w}": x / sum(weights) for w, x in zip(words, weights, strict=True)} for weights in (p, q)])
    return {"sampled": _speculate(places, pick, False), "greedy": _speculate(places, pick, True)}


def answer_groups(seed=0):
    """Four questions with a dozen answers each, of which 1, 6, 12 and 0 are right; the wrong ones tend to be longer."""
    pick = random.Random(seed)
    questions = {"reach 30 with 3 9 7": 1, "reach 12 with 8 4": 6, "reach 5 with 2 3": 12, "reach 43 with 5 8 3": 0}
    groups = []
    for prompt, count in questions.items():
        right = set(sorted(range(12), key=lambda _: pick.random())[:count])
        answers = [{"reward": float(i in right), "tokens": 12 + int((26 if i in right else 70) * pick.random())}
                   for i in range(12)]  # fmt: skip
        groups.append({"prompt": prompt, "answers": answers})
    return groups


def sparse_attention(length=192, seed=0):
    """Attention of 8 queries in 2 layers, most of it on a few tokens, one of them the needle; and its needles' places.

    A dict with the fields of `dsmini.model.sparsity.Sparsity`, and needles. The invented indexer sees the logits
    through some noise.
    """
    pick = random.Random(seed)
    queries = list(range(length - 31, length, 4))
    needles = [pick.randrange(length - 40) for _ in queries]
    attention, indexer = [], []
    for sharpness in (1.6, 2.2):
        logits = [[sharpness * _bell(pick) + 3 * sharpness * (place == needle) for place in range(query + 1)]
                  for query, needle in zip(queries, needles, strict=True)]  # fmt: skip
        attention.append([_softmax(row) + [0.0] * (length - len(row)) for row in logits])
        indexer.append([_falling([x + 1.5 * _bell(pick) for x in row])[:32] for row in logits])
    draws = [_falling([pick.random() for _ in range(query + 1)])[:32] for query in queries]
    return {"queries": queries, "attention": attention, "indexer": indexer, "random": draws, "needles": needles}


def _softmax(logits):
    weights = [math.exp(x) for x in logits]
    return [weight / sum(weights) for weight in weights]


def _falling(values):
    """The places of the values, the largest first."""
    return sorted(range(len(values)), key=lambda place: -values[place])


def _speculate(places, pick, greedy):
    """Leviathan et al. 2023, algorithm 1, with one draft a pass. places: p and q of every word to come."""
    if greedy:
        places = [[_certain(chances) for chances in place] for place in places]
    first, tape, at = _draw(places[0][0], pick.random()), [], 1
    while at + 1 < len(places):  # a draft and a word behind it
        p, q = places[at]
        draft, uniform = _draw(q, pick.random()), pick.random()
        accepted = speculation.is_accepted(p[draft], q[draft], uniform)
        left = speculation.residual(list(p.values()), list(q.values()))
        own = _draw(places[at + 1][0] if accepted else dict(zip(p, left, strict=True)), pick.random())
        step = {"draft": draft, "q": q[draft], "p": p[draft], "uniform": uniform, "accepted": accepted, "token": own,
                "count": 1 + accepted}  # fmt: skip
        if not greedy:
            step["top"] = [(word, p[word], q[word]) for word in p]
            step["overlap"] = speculation.acceptance(list(p.values()), list(q.values()))
        tape.append(step)
        at += step["count"]
    return {"prompt": "One summer", "first": first, "greedy": greedy, "steps": tape}


def _certain(chances):
    """All chance on the likeliest word: greedy decoding."""
    best = max(chances, key=chances.get)
    return {word: float(word == best) for word in chances}


def _draw(chances, uniform):
    """The word at which the running sum of the chances passes `uniform`."""
    sums = itertools.accumulate(chances.values())
    return next((w for w, total in zip(chances, sums, strict=True) if uniform < total), max(chances, key=chances.get))


def _bell(pick):
    """A bell-shaped number around 0, standard deviation 0.58."""
    return sum(pick.random() for _ in range(4)) - 2

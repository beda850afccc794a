"""Several answers in, one out: the majority's, or the first that its own author believes.

Self-consistency, Wang et al. 2022, section 2: sample, then take the answer that most samples end in. The R1 report
calls its accuracy with k samples cons@k. The decision to know: a selector is a function from k responses to the index
of one of them, so it never invents an answer, and whatever it picks is graded as that sample was.
"""

import itertools
import math
from collections import Counter
from fractions import Fraction

import torch


def majority(answers, weights=None):
    """The answer with the most votes; of those with equally many, the one that came first.

    answers: hashable, None for a sample without one: it has no vote, and comes back only where there is nothing else.
    weights: a vote's worth for each sample, 0 or more; None: 1 for all. Answers are equal or they are not: whoever
    means `3 + 9` and `9 + 3` to be one has to write them in one way first.
    Raises ValueError for no answers at all, and for weights that are negative, not finite or of another number.
    """
    # two tensors of one value are two keys: as numbers they are one
    answers = answers.tolist() if isinstance(answers, torch.Tensor) else list(answers)
    weights = [1] * len(answers) if weights is None else list(weights)
    if not answers:
        raise ValueError("answers: there are none, expected at least one")
    if len(weights) != len(answers):
        raise ValueError(f"weights: {len(weights)} of them, expected one for each of {len(answers)} answers")
    if not all(0 <= weight < math.inf for weight in weights):
        raise ValueError(f"weights = {weights!r}: expected finite numbers of 0 or more")
    votes = {}  # in order of first appearance, and max takes the first of equals
    for answer, weight in zip(answers, weights, strict=True):
        if answer is not None:
            votes.setdefault(answer, []).append(float(weight))
    return max(votes, key=lambda answer: math.fsum(votes[answer]), default=None)


def by_vote(responses):
    """The index of the majority's first response; None where there is no response. The plainest selector.

    responses: a list of `Response`, or None for text that was none.
    """
    return _index_of(majority(_answers(responses)), responses)


def by_weight(weigh):
    """A selector: a vote in which a response counts weigh(response), 0 or more."""

    def select(responses):
        weights = [0.0 if response is None else weigh(response) for response in responses]
        return _index_of(majority(_answers(responses), weights), responses)

    return select


def first_checked(check, otherwise=by_vote):
    """A selector: the first response for which check(response) is true; without one, what `otherwise` selects.

    With a check that the model makes itself, `says_yes` for instance, this is trying again until it is content.
    """

    def select(responses):
        for i, response in enumerate(responses):
            if response is not None and check(response):
                return i
        return otherwise(responses)

    return select


def says_yes(response):
    """Whether a thought ends in the word "yes", the mark of a countdown attempt that its author holds to be right."""
    return response.thought.split()[-1:] == ["yes"]


def maj_at_k(answers, right, k):
    """The accuracy of the majority of k samples: the mean over problems, exactly, a float. cons@k of the R1 report.

    answers: for each problem a list of n, as in `majority`. right: the same samples' grades, nested lists or a
    (P, n) tensor of 0 and 1. For each problem it is the expectation over every set of k of its n samples, in any
    order: a tie is won by each of the tied as often. No random draws: it sums over the votes that each answer can get.
    Raises ValueError for a k outside 1..n, and for one answer that is graded both right and wrong.
    """
    return _mean_over_problems(answers, right, k, _majority_is_right)


def select_at_k(select, responses, right, k, draws=1000, seed=0):
    """The accuracy of a selector that is shown k samples: the mean over problems, a float.

    select: a list of k responses -> the index of one, or None, which is wrong. responses: for each problem a list of
    n. right: as in `maj_at_k`. Over every order of every k of the n samples where there are at most `draws` of them,
    exactly; else over that many seeded random ones, the same for every problem and every selector.
    Raises ValueError for a k outside 1..n.
    """

    if draws < 1:
        raise ValueError(f"draws = {draws!r}: expected 1 or more")

    def of_problem(said, right, k):
        tried = _orders(len(said), k, draws, seed)
        chosen = [(order, select([said[i] for i in order])) for order in tried]
        return sum(right[order[i]] for order, i in chosen if i is not None) / len(tried)

    return _mean_over_problems(responses, right, k, of_problem)


def _orders(n, k, draws, seed):
    """Ordered choices of k of n: all of them if they are at most `draws`, else that many random ones."""
    if math.perm(n, k) <= draws:
        return list(itertools.permutations(range(n), k))
    random = torch.rand(draws, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return random.argsort(1)[:, :k].tolist()


def _answers(responses):
    return [None if response is None else response.answer for response in responses]


def _index_of(answer, responses):
    return None if answer is None else _answers(responses).index(answer)


def _mean_over_problems(samples, right, k, of_problem):
    """The mean of of_problem(samples, grades, k), once all have been checked to be lists of one length >= k."""
    right = right.tolist() if isinstance(right, torch.Tensor) else right
    if not len(samples) or len(samples) != len(right):
        raise ValueError(f"samples of {len(samples)} problems, grades of {len(right)}: expected as many, one at least")
    if not isinstance(k, int):
        raise ValueError(f"k = {k!r}: expected a whole number")
    for said, grades in zip(samples, right, strict=True):
        if not 1 <= k <= len(said) or len(said) != len(grades):
            raise ValueError(f"k = {k!r} of {len(said)} samples with {len(grades)} grades: expected 1 <= k <= n, and n "
                             "grades")  # fmt: skip
    return float(sum(of_problem(*pair, k) for pair in zip(samples, right, strict=True)) / len(samples))


def _majority_is_right(answers, right, k):
    """The chance that a vote of k of these samples is won by a right answer, a Fraction.

    Of all C(n, k) sets, those in which the most votes are `most` and some answers have as many: a polynomial in which
    each answer's votes are a factor, kept as a dict from (samples taken, winners, right winners) to the number of ways.
    """
    grades, counts = {}, Counter(answers)
    for answer, grade in zip(answers, right, strict=True):
        if grade not in (0, 1) or (grades.setdefault(answer, grade) != grade and answer is not None):
            raise ValueError(f"right: {answer!r} has the grade {grade!r}: expected 0 or 1, one grade for one answer")
    blank = counts.pop(None, 0)
    total = Fraction(0)
    for most in range(1, min(k, max(counts.values(), default=0)) + 1):
        ways = {(taken, 0, 0): math.comb(blank, taken) for taken in range(min(blank, k) + 1)}
        for answer, count in counts.items():
            ways = _add_answer(ways, count, most, grades[answer] == 1, k)
        for (taken, winners, good), number in ways.items():
            if taken == k and good:
                total += Fraction(number * good, winners)
    return total / math.comb(len(answers), k)


def _add_answer(ways, count, most, is_right, k):
    """The ways, with one more answer that has `count` samples and gets at most `most` votes."""
    more = Counter()
    for (taken, winners, good), number in ways.items():
        for votes in range(min(count, most, k - taken) + 1):
            wins = votes == most
            more[taken + votes, winners + wins, good + (wins and is_right)] += number * math.comb(count, votes)
    return more

"""Votes: against a count by hand, and expected accuracies against every set of k samples there is."""

import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsmini.inference.vote import by_vote, by_weight, first_checked, maj_at_k, majority, says_yes, select_at_k
from dsmini.language.frame import Response


def said(*answers, thought=""):
    return [answer and Response(thought, answer) for answer in answers]


@pytest.mark.parametrize(
    ("answers", "weights", "winner"),
    [
        (["a", "b", "b"], None, "b"),
        (["b", "a", "a", "b"], None, "b"),  # a tie: who came first
        (["a", "b", "b", "a"], None, "a"),
        ([None, None, None, "c"], None, "c"),
        ([None, "b", "a", None], None, "b"),
        ([None, None], None, None),
        (["a", "b", "b"], [3, 1, 1], "a"),
        (["a", "b", "b"], [2, 1, 1], "a"),
        (["a", "b", "b"], [1.9, 1, 1], "b"),
        (["a", "b"], [0, 0], "a"),
        ([None, "b"], [9, 0], "b"),
        (["a", "b", "b", "b"], [0.3, 0.1, 0.1, 0.1], "b"),  # float(0.1) is a little above a tenth, 0.3 a little below
        (["b"] * 10 + ["a"], [0.1] * 10 + [1.0], "b"),  # 10 * 0.1 added up one by one is less than 1
        ([(1, 2), (2, 1), (2, 1)], None, (2, 1)),
        (iter("abb"), None, "b"),
    ],
)
def test_majority(answers, weights, winner):
    assert majority(answers, weights) == winner


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "answers: there are none"),
        ((["a", "b"], [1]), "weights: 1 of them, expected one for each of 2 answers"),
        ((["a"], [-1]), r"weights = \[-1\]: expected finite numbers of 0 or more"),
        ((["a"], [math.nan]), "weights = "),
        ((["a"], [math.inf]), "weights = "),
    ],
)
def test_bad_votes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        majority(*arguments)


def test_selectors_point_at_a_response():
    responses = [None, Response("x yes", "a"), Response("y no", "b"), Response("z yes", "b"), Response("yes no", "c")]
    assert by_vote(responses) == 2
    assert first_checked(says_yes)(responses) == 1
    assert first_checked(lambda response: response.answer == "c")(responses) == 4
    assert first_checked(lambda response: False)(responses) == 2, "nobody: the vote"
    assert first_checked(lambda response: False, otherwise=lambda responses: 4)(responses) == 4
    assert by_weight(lambda response: 5.0 if response.answer == "c" else 1.0)(responses) == 4
    assert by_weight(says_yes)(responses) == 1 and by_weight(lambda response: 0)(responses) == 1
    for select in (by_vote, by_weight(lambda response: 1), first_checked(says_yes)):
        assert select([None, None]) is None


def test_yes_is_the_last_word_of_the_thought():
    thoughts = ["3 + 4 = 7 reach 7 yes", "yes", "yes no", "", "3 yes 4"]
    assert [says_yes(Response(thought, "3 + 4")) for thought in thoughts] == [True, True, False, False, False]


def every_order(answers, right, k):
    """The share of all ordered choices of k samples whose majority is right."""
    grade = dict(zip(answers, right, strict=True))
    won = [grade[majority([answers[i] for i in order])] and majority([answers[i] for i in order]) is not None
           for order in itertools.permutations(range(len(answers)), k)]  # fmt: skip
    return Fraction(sum(won), len(won))


@given(st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=1, max_size=6), st.sets(st.sampled_from("abcd")))
def test_maj_at_k_is_the_share_of_all_orders(answers, good):
    right = [answer in good for answer in answers]
    for k in range(1, len(answers) + 1):
        expected = every_order(answers, right, k)
        assert maj_at_k([answers], [right], k) == pytest.approx(float(expected), abs=1e-15)
        if math.perm(len(answers), k) <= 100:
            chosen = select_at_k(by_vote, [said(*answers)], [right], k, draws=100)
            assert chosen == pytest.approx(float(expected), abs=1e-12), "enumerated"


def test_maj_at_k_by_hand():
    answers, right = [["a", "a", "b", None]], [[1, 1, 0, 0]]
    assert maj_at_k(answers, right, 1) == 1 / 2
    # aa: right. ab, ab: a tie, half. a-, a-: right. b-: wrong.
    assert maj_at_k(answers, right, 2) == pytest.approx((1 + 2 / 2 + 2) / 6)
    assert maj_at_k(answers, right, 3) == pytest.approx((1 + 1 + 2 / 2) / 4)  # aab, aa-, ab-, ab-
    assert maj_at_k(answers, right, 4) == 1
    assert maj_at_k([["a", "b"], ["b", "b"]], [[1, 0], [0, 0]], 1) == 1 / 4, "the mean over problems"
    assert maj_at_k([[None, None]], [[0, 0]], 2) == 0
    assert maj_at_k([["a", "b"], ["c", "c"]], torch.tensor([[0.0, 1], [1, 1]]), 2) == 3 / 4


def test_vote_of_one_is_pass_at_1_and_a_vote_of_all_is_the_majority():
    random = torch.Generator().manual_seed(0)
    answers = [[f"{a}" for a in row] for row in torch.randint(5, (20, 9), generator=random).tolist()]
    right = torch.tensor([[answer in ("0", "3") for answer in row] for row in answers]).double()
    assert maj_at_k(answers, right, 1) == pytest.approx(right.mean().item(), abs=1e-15)
    assert maj_at_k([["x"] * 5 + ["y"] * 4], [[1] * 5 + [0] * 4], 9) == 1


def test_many_different_answers_are_no_burden():
    answers = [f"{i}" for i in range(30)] + ["x", "x"]
    right = [0] * 30 + [1, 1]
    assert maj_at_k([answers], [right], 32) == 1
    pair = 30 * 29 / (32 * 31)  # both x are among the k
    one = 2 * 30 * 2 / (32 * 31)  # one of them is: all k are tied
    assert maj_at_k([answers], [right], 30) == pytest.approx(pair + one / 30)


def test_random_draws_come_near_the_exact_value_and_repeat():
    answers = [[*"aabbbcc", None], [*"aaaabcdd"]]
    right = [[answer == "a" for answer in row] for row in answers]
    exact = maj_at_k(answers, right, 5)
    estimate = select_at_k(by_vote, [said(*row) for row in answers], right, 5, draws=4000)
    assert math.perm(8, 5) > 4000 and abs(estimate - exact) < 0.02 and 0.1 < exact < 0.9
    assert estimate != exact, "drawn, not enumerated"
    assert estimate == select_at_k(by_vote, [said(*row) for row in answers], right, 5, draws=4000)
    assert estimate != select_at_k(by_vote, [said(*row) for row in answers], right, 5, draws=4000, seed=1)


def test_honest_checks_turn_a_vote_into_pass_at_k():
    thoughts = ["no", "no", "yes", "no", "no", "yes"]
    responses = [[Response(thought, f"{i}" if thought == "yes" else "wrong") for i, thought in enumerate(thoughts)]]
    right = [[thought == "yes" for thought in thoughts]]
    for k in (1, 2, 3):
        chosen = select_at_k(first_checked(says_yes), responses, right, k)
        assert chosen == pytest.approx(1 - math.comb(4, k) / math.comb(6, k))
    assert maj_at_k([["wrong" if t == "no" else "w" for t in thoughts]], right, 5) < 0.01


@pytest.mark.parametrize("k", [0, 3, 1.5])
def test_sets_that_cannot_be_drawn_are_refused(k):
    with pytest.raises(ValueError, match=f"k = {k}"):
        maj_at_k([["a", "b"]], [[1, 0]], k)
    with pytest.raises(ValueError, match=f"k = {k}"):
        select_at_k(by_vote, [said("a", "b")], [[1, 0]], k)


def test_grades_that_contradict_themselves_are_refused():
    with pytest.raises(ValueError, match="'a' has the grade 0: expected 0 or 1, one grade for one answer"):
        maj_at_k([["a", "a"]], [[1, 0]], 1)
    with pytest.raises(ValueError, match=r"'a' has the grade 0\.5"):
        maj_at_k([["a", "b"]], [[0.5, 0]], 1)
    with pytest.raises(ValueError, match="1 samples with 2 grades"):
        maj_at_k([["a"]], [[1, 0]], 1)
    with pytest.raises(ValueError, match="samples of 0 problems, grades of 0"):
        maj_at_k([], [], 1)


def test_tensors_vote_by_their_value():
    """Two tensors of one value are two keys of a dict."""
    assert majority(torch.tensor([2, 1, 1])) == 1


def test_problems_without_grades_and_no_draws_are_named():
    with pytest.raises(ValueError, match="samples of 2 problems, grades of 1"):
        maj_at_k([["a"], ["b"]], [[1]], 1)
    with pytest.raises(ValueError, match="draws = 0: expected 1 or more"):
        select_at_k(by_vote, [said("a", "b")], [[1, 0]], 1, draws=0)
    with pytest.raises(ValueError, match="k = None: expected a whole number"):
        maj_at_k([["a"]], [[1]], None)

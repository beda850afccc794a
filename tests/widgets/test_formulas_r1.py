"""The arithmetic of chapter 7 in JavaScript is dsmini.accounting.policy's, over a grid with bounds and ties."""

import itertools
import random

import pytest
from javascript import in_javascript, rounded

from dsmini.accounting import policy

RATIOS = [0.05, 0.3, 0.72, 0.79999, 0.8, 0.80001, 1, 1.19999, 1.2, 1.20001, 1.28, 1.5, 8]
EPSILONS = [(0.2, 0.2), (0.2, 0.28), (0.28, 0.2), (0.01, 10), (10, 10)]
TOKENS = list(itertools.product(RATIOS, [-2, -1, -0.1, 0, 0.1, 1, 2], EPSILONS, policy.RULES))
CLIP = """data.map(([ratio, advantage, [low, high], rule]) =>
  [clippedObjective(ratio, advantage, low, high, rule), clippedGradient(ratio, advantage, low, high, rule)])"""


def clipped():
    return [
        [f(ratio, advantage, *epsilons, rule) for f in (policy.clipped_objective, policy.clipped_gradient)]
        for ratio, advantage, epsilons, rule in TOKENS
    ]


def test_the_clip_agrees_to_the_last_digit(new_page):
    assert in_javascript(new_page(), "policy", CLIP, TOKENS) == clipped()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("advantage < 0 ? Math.max", "advantage <= 2 ? Math.max"),
        ('rule === "inverted" && advantage < 0', "advantage < 0"),
        ("1 - epsilon)", "1 - epsilonHigh)"),
        ("1 + epsilonHigh", "1 + epsilon"),
        ('if (rule === "none") return free;', ""),
        ("=== free ? free : 0", "=== free ? advantage : 0"),
        ("=== free ? free : 0", "=== free ? free : free"),
    ],
)
def test_a_planted_clip_error_is_seen(new_page, right, wrong):
    assert in_javascript(new_page(), "policy", CLIP, TOKENS, (right, wrong)) != clipped()


GROUPS = "data.map(([rewards, scale]) => [groupAdvantages(rewards, scale), divisors(rewards, scale)])"


def group_cases():
    pick = random.Random(0)
    batches = [[[float(pick.random() < rate) for _ in range(size)] for rate in (0, 0.1, 0.5, 1)] for size in (2, 5, 12)]
    batches += [[[pick.gauss(0, 3) for _ in range(6)] for _ in range(count)] for count in (1, 3)]
    return [list(case) for case in itertools.product(batches, policy.SCALES)]


def compared():
    return [[policy.group_advantages(*case), policy.divisors(*case)] for case in group_cases()]


def test_advantages_agree(new_page):
    assert rounded(in_javascript(new_page(), "policy", GROUPS, group_cases())) == rounded(compared())


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("(values.length - 1)", "values.length"),
        ("deviation(group) + 1e-4", "deviation(group) + 1e-6"),
        ("deviation(rewards.flat()) + 1e-4", "deviation(rewards[0]) + 1e-4"),
        ('scale === "batch" ?', 'scale === "none" ?'),
        ("reward - mean(group)", "reward - mean(rewards.flat())"),
    ],
)
def test_a_planted_advantage_error_is_seen(new_page, right, wrong):
    assert rounded(in_javascript(new_page(), "policy", GROUPS, group_cases(), (right, wrong))) != rounded(compared())


WEIGH = "data.map((one) => tokenWeights(...one))"
LENGTHS = [[list(lengths), rule, 100] for lengths in ([1], [3, 0, 90], [5] * 7, range(1, 30))
           for rule in policy.NORMALIZATIONS]  # fmt: skip


def test_weights_agree(new_page):
    ours = [policy.token_weights(*case) for case in LENGTHS]
    assert in_javascript(new_page(), "policy", WEIGH, LENGTHS) == ours


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("1 / (lengths.length * Math.max(1, n))", "1 / Math.max(1, n)"),
        ("Math.max(1, sum(lengths))", "(lengths.length * Math.max(1, lengths[0]))"),
        ("lengths.length * maxTokens", "maxTokens"),
    ],
)
def test_a_planted_weight_error_is_seen(new_page, right, wrong):
    ours = [policy.token_weights(*case) for case in LENGTHS]
    assert in_javascript(new_page(), "policy", WEIGH, LENGTHS, (right, wrong)) != ours

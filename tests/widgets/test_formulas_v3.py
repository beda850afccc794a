"""Routing, speculation and FP8 in JavaScript are dsmini.accounting's, over a grid with ties and edges."""

import itertools
import math
import random

import pytest
from javascript import in_javascript, rounded

from dsmini import widgets
from dsmini.accounting import float8, routing, speculation
from dsmini.widgets import faces_v3

SHAPES = [(16, 4, 4, 2), (16, 4, 2, 2), (16, 4, 1, 4), (8, 8, 3, 2), (12, 2, 1, 3), (6, 1, 1, 6), (64, 8, 4, 8)]


# ---- routing ----------------------------------------------------------------------------------------------------


def routing_cases():
    """Scores in few steps, so that many are equal; biases that push some below zero."""
    pick = random.Random(0)
    cases = []
    for experts, groups, kept, k in SHAPES:
        for _ in range(30):
            scores = [pick.randrange(1, 9) / 8 for _ in range(experts)]
            bias = [pick.randrange(-8, 5) / 8 for _ in range(experts)]
            cases.append([scores, bias, k, groups, kept, 2.5])
    return cases


ROUTE = "data.map((one) => { const c = route(...one); return [c.experts, c.weights, c.groups, c.kept]; })"


def test_routing_agrees(new_page):
    cases = routing_cases()
    ours = [list(routing.route(*case)) for case in cases]
    assert rounded(in_javascript(new_page(), "routing", ROUTE, cases)) == rounded(ours)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("first + second", "first"),
        ("scores.map((score, e) => score + bias[e])", "[...scores]"),
        ("all + scores[e], 0)", "all + biased[e], 0)"),
        ("values[b] - values[a]", "values[b] - values[a] || b - a"),
        ("places.filter((e) => kept.includes(groupOf(e)))", "places"),
        (") * scale", ")"),
    ],
)
def test_a_planted_routing_error_is_seen(new_page, right, wrong):
    cases = routing_cases()
    ours = [list(routing.route(*case)) for case in cases]
    assert rounded(in_javascript(new_page(), "routing", ROUTE, cases, (right, wrong))) != rounded(ours)


RUN = "((r) => [r.biases.slice(0, -1), r.loads, r.loads.map(maxViolation)])(balancedRun(...data))"


@pytest.mark.parametrize("speed", [0, 0.001, 0.05])
def test_a_balanced_run_agrees_to_the_last_digit(new_page, speed):
    packed = widgets.router().scores
    data = [faces_v3.unpack_scores(text, 16) for text in packed]
    page = new_page()
    assert in_javascript(page, "routing", "data.map((text) => unpack(text, 16))", packed) == data
    arguments = (data, 30, speed, 2, 4, 2)
    run = routing.balanced_run(*arguments)
    ours = [run.biases, run.loads, [routing.max_violation(load) for load in run.loads]]
    assert in_javascript(page, "routing", RUN, list(arguments)) == ours
    if speed:
        wrong = in_javascript(page, "routing", RUN, list(arguments), ("Math.sign(mean - load[e])", "(mean - load[e])"))
        assert wrong != ours


def test_packing_keeps_twelve_bits():
    rows = [[n / 4096 for n in range(i, 4096, 64)] for i in range(64)]
    assert faces_v3.unpack_scores(faces_v3.pack_scores(rows), 64) == rows
    packed = faces_v3.pack_scores([[1.0, 0.99999, 0.5001]])
    assert faces_v3.unpack_scores(packed, 3) == [[4095 / 4096, 4095 / 4096, 0.5]]


# ---- speculation ------------------------------------------------------------------------------------------------


def speculation_cases():
    pick = random.Random(1)
    cases = []
    for size in (2, 3, 8, 50):
        for _ in range(20):
            both = [[pick.random() ** 3 for _ in range(size)] for _ in range(2)]
            cases.append([[x / sum(weights) for x in weights] for weights in both])
    return cases


SPECULATE = """[data[0].map(([p, q]) => [acceptance(p, q), residual(p, q), residual(p, p)]),
  data[1].map(([rate, depth]) => expectedTokens(rate, depth)), data[2].map((one) => isAccepted(...one))]"""


def speculated():
    pairs = speculation_cases()
    grid = list(itertools.product([0, 0.1, 0.5, 0.85, 0.9, 1], range(5)))
    draws = [(0.5, 0.5, 0.999), (0.5, 0.5, 0), (0.2, 0.4, 0.5), (0.2, 0.4, 0.499), (0, 1, 0), (1, 0.1, 0.9)]
    ours = [
        [[speculation.acceptance(p, q), speculation.residual(p, q), p] for p, q in pairs],
        [speculation.expected_tokens(*one) for one in grid],
        [speculation.is_accepted(*one) for one in draws],
    ]
    return [pairs, grid, draws], ours


def test_speculation_agrees(new_page):
    data, ours = speculated()
    assert rounded(in_javascript(new_page(), "speculation", SPECULATE, data)) == rounded(ours)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("Math.min(x, q[i])", "x * q[i]"),
        ("Math.max(0, x - q[i])", "Math.abs(x - q[i])"),
        ("total = 1 + rate * total", "total += rate"),
        ("uniform * q < p", "uniform * q <= p"),
    ],
)
def test_a_planted_speculation_error_is_seen(new_page, right, wrong):
    data, ours = speculated()
    assert rounded(in_javascript(new_page(), "speculation", SPECULATE, data, (right, wrong))) != rounded(ours)


# ---- FP8 --------------------------------------------------------------------------------------------------------


def e4m3_cases():
    numbers = [float8.e4m3_value(bits) for bits in range(127)]
    ties = [(a + b) / 2 for a, b in itertools.pairwise(numbers)]
    near = [x * (1 + sign * 2.0**-30) for x in numbers + ties for sign in (1, -1)]
    cases = [*numbers, *ties, *near, 448.0001, 464.0, 480.0, 1e9, 1e-12]
    return cases + [-x for x in cases]


ROUND = "data.map((x) => { const r = roundE4m3(x); return [r, Object.is(r, -0), bitsOf(r)]; })"


def in_e4m3():
    ours = [float8.round_e4m3(x) for x in e4m3_cases()]
    bits = {str(float8.e4m3_value(i)): i for i in range(256) if i & 127 < 127}
    return [[x, str(x) == "-0.0", bits[str(x)]] for x in ours]


def test_e4m3_agrees_in_value_sign_and_bits(new_page):
    assert in_javascript(new_page(), "float8", ROUND, e4m3_cases()) == in_e4m3()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("below + (below % 2)", "below + 1"),
        ("const E4M3_MAX = 448;", "const E4M3_MAX = 480;"),
        ("const SMALLEST_STEP = 2 ** -9;", "const SMALLEST_STEP = 2 ** -10;"),
        (">= 16 * step", "> 16 * step"),
        ("8 * exponent", "4 * exponent"),
    ],
)
def test_a_planted_e4m3_error_is_seen(new_page, right, wrong):
    assert in_javascript(new_page(), "float8", ROUND, e4m3_cases(), (right, wrong)) != in_e4m3()


def test_the_numbers_around_are_e4m3_numbers(new_page):
    numbers = [float8.e4m3_value(bits) for bits in range(127)]
    cases = [x for x in e4m3_cases() if 0 <= x < 449]
    found = in_javascript(new_page(), "float8", "data.map(numbersAround)", cases)
    for x, around in zip(cases, found, strict=True):
        split = sum(n <= x for n in numbers)
        assert around == numbers[max(0, split - 2) : split + 2]


QUANTIZE = """data.map(([values, scheme, tile, power]) => {
  const q = quantize(values.map((row) => row.map(Math.fround)), scheme, tile, power);
  const exact = values.map((row) => row.map(Math.fround));
  return [q.scales, q.scaled, q.rounded, q.back, lost(q.back, exact), meanRelativeError(q.back, exact)];
})"""


def quantize_cases():
    pick = random.Random(2)
    cases = []
    for outlier in (1, 3000, 2**18):
        values = [[pick.gauss(0, 1) for _ in range(20)] for _ in range(6)]
        values[1][7] *= outlier
        values[2] = [0.0] * 20
        cases += [[values, *rest] for rest in itertools.product(float8.SCHEMES, (4, 8), (False, True))]
    powers = [[448.0 / 2**i, *(x / 7 for x in range(19))] for i in range(6)]  # amax / 448 is a power of two already
    return [*cases, [powers, "tile", 8, True]]


def quantized():
    ours = []
    for values, scheme, tile, power in quantize_cases():
        exact = [[float8.float32(x) for x in row] for row in values]
        result = float8.quantize(exact, scheme, tile, power)
        ours.append([*result, float8.lost(result.back, exact), float8.mean_relative_error(result.back, exact)])
    return ours


def test_quantising_agrees_to_the_last_digit(new_page):
    theirs, ours = in_javascript(new_page(), "float8", QUANTIZE, quantize_cases()), quantized()
    assert [one[:5] for one in theirs] == [one[:5] for one in ours]
    assert [one[5] for one in theirs] == pytest.approx([one[5] for one in ours], rel=1e-12)
    assert not any(math.isnan(one[5]) for one in ours)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("while (power < scale) power *= 2;", ""),
        ("while (power / 2 >= scale) power /= 2;", "while (power / 2 > scale) power /= 2;"),
        ("const SMALLEST_AMAX = 1e-4", "const SMALLEST_AMAX = 1e-3"),
        ("Math.fround(x / scales[i][j])", "x / scales[i][j]"),
        ('scheme === "tile" ? row', 'scheme === "block" ? row'),
    ],
)
def test_a_planted_scale_error_is_seen(new_page, right, wrong):
    theirs = in_javascript(new_page(), "float8", QUANTIZE, quantize_cases(), (right, wrong))
    assert [one[:5] for one in theirs] != [one[:5] for one in quantized()]

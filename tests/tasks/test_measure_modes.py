"""Figures of both modes, by hand: against a model that is made to say what the test wants it to say."""

import itertools
from statistics import mean

import pytest
import torch
from planted import planted
from tiny import CONFIGS, make_model

from dsmini.language.tokenizer import END_THINK, EOS, THINK, TOKENIZER
from dsmini.tasks import countdown, measure_modes, shell_game
from dsmini.tasks.draw import split_of
from dsmini.tasks.measure import held_out
from dsmini.tasks.modes import Asked, in_mode, said_text, turn_text
from dsmini.tasks.shell_game import SWAPS, ShellGame

GAME = ShellGame((2, 4), ((1, 2), (3, 4)))  # the balls end under cups 1 and 3
REPORT = ("greedy", "pass@1", "tokens", "longest", "whole", "leaks")


@pytest.fixture
def saying(monkeypatch):
    """saying(say, module): every model of the module says say(problem, sample) now; sample is None when greedy.

    Returns what was asked of it: a list of (problems, samples, temperature, limit, seed).
    """

    def replace(say, module=measure_modes):
        calls = []

        def stand_in(model, problems, samples=1, temperature=1.0, max_new_tokens=160, seed=0):
            calls.append((problems, samples, temperature, max_new_tokens, seed))
            numbers = range(samples) if temperature else [None]
            return [[turn_text(problem, say(problem, number)) for number in numbers] for problem in problems]

        monkeypatch.setattr(module, "ask", stand_in)
        return calls

    return replace


# ---- one row of figures ---------------------------------------------------------------------------------------------

THINKING = {  # greedily, and in four samples: what is said -> tokens, right, whole, leaks
    None: (f"a 1-2 1 4{END_THINK}1 4{EOS}", 8, 0, 1, 0),
    0: (f"a 1-2 1 4 b 3-4 1 3{END_THINK}1 3{EOS}", 12, 1, 1, 0),
    1: (f"{END_THINK}1 3{EOS}", 4, 1, 1, 1),
    2: (f"a 1-2 1 4{END_THINK}1 4{EOS}", 8, 0, 1, 0),
    3: ("a 1-2 1 4 b 3-4 1 3 c 1-2 2 3 d 1-2 1 3", 16, 0, 0, 0),  # cut off
}
DIRECT = {
    None: (f"1 3{EOS}", 3, 1, 1, 0),
    0: (f"1 3{EOS}", 3, 1, 1, 0),
    1: (f"{THINK}a 1-2 1 4{END_THINK}1 3{EOS}", 9, 0, 0, 1),
    2: ("1 2 3", 3, 0, 0, 0),  # cut off, but no leak
    3: (f"{END_THINK}1 3{EOS}", 4, 0, 0, 1),
}


def check_figures(module, saying):
    for thinking, script in ((True, THINKING), (False, DIRECT)):
        calls = saying(lambda problem, number, script=script: script[number][0], module)
        asked = in_mode([GAME, GAME, GAME], thinking)
        row = module.figures(None, asked, samples=4, seed=9)
        _, tokens, right, whole, leaks = (column for column in zip(*(script[i] for i in range(4)), strict=True))
        assert row == {"greedy": script[None][2], "pass@1": mean(right), "tokens": mean(tokens),
                       "longest": max(tokens), "whole": mean(whole), "leaks": mean(leaks)}  # fmt: skip
        limit = {True: 200, False: 12}[thinking]
        assert calls == [(asked, 1, 0, limit, 9), (asked, 4, 1.0, limit, 9)]
        # samples of different problems: two thirds of them hold to the end
        saying(lambda problem, number, script=script: script[number][0] if problem.difficulty else EOS, module)
        mixed = module.figures(None, in_mode([GAME, ShellGame((2, 4), ()), GAME], thinking), samples=4)
        assert mixed["pass@1"] == pytest.approx(mean(right) * 2 / 3) and mixed["longest"] == max(tokens)
        assert mixed["tokens"] == pytest.approx((2 * mean(tokens) + 1) / 3)


def test_figures_are_counted_by_hand_in_both_modes(saying):
    check_figures(measure_modes, saying)


def test_thinking_row_reads_as_it_was_meant(saying):
    """The same once more in plain numbers, lest the table be computed as wrongly as what it checks."""
    saying(lambda problem, number: THINKING[number][0])
    row = measure_modes.figures(None, [Asked(GAME, True)], samples=4)
    assert row == {"greedy": 0, "pass@1": 0.5, "tokens": 10, "longest": 16, "whole": 0.75, "leaks": 0.25}
    saying(lambda problem, number: DIRECT[number][0])
    row = measure_modes.figures(None, [Asked(GAME, False)], samples=4)
    assert row == {"greedy": 1, "pass@1": 0.25, "tokens": 4.75, "longest": 9, "whole": 0.25, "leaks": 0.5}


# ---- the report -----------------------------------------------------------------------------------------------------


def check_report(module, saying):
    """Right where the swaps are even, and longer with every swap: each row is its own, and "all" weighs them alike."""
    length = {swaps: 3 + swaps for swaps in range(10)}

    def say(problem, number):
        if isinstance(problem.problem, countdown.Countdown):
            return f"a{END_THINK}{problem.answer}{EOS}" if problem.thinking else f"1 + 1{EOS}"
        words = " ".join(["wait"] * (length[problem.difficulty] - 1))
        right = problem.difficulty % 2 == 0
        leaking = problem.difficulty == 9 and number == 0
        answer = problem.answer if right else "1 1"
        if problem.thinking:
            return f"{END_THINK}{answer}{EOS}" if leaking else f"{words}{END_THINK}{answer}{EOS}"
        return f"{THINK}{answer}{EOS}" if leaking else f"{answer}{EOS}"

    calls = saying(say, module)
    report = module.measure_modes(None, problems=20, samples=2, seed=3)
    assert list(report) == ["thinking", "direct"]
    for mode, tasks in report.items():
        assert list(tasks) == ["shell_game", "countdown"] and list(tasks["countdown"]) == ["all"]
        rows = tasks["shell_game"]
        assert list(rows) == [*map(str, range(10)), "all"] and all(tuple(row) == REPORT for row in rows.values())
        for swaps in range(10):
            tokens = 3 + length[swaps] if mode == "thinking" else 3
            expected = dict.fromkeys(("greedy", "pass@1"), float(swaps % 2 == 0))
            expected |= {"tokens": tokens, "longest": tokens, "whole": 1, "leaks": 0}
            if swaps == 9:  # half of the samples, in the other mode
                half = (tokens + 4) / 2
                expected |= {
                    "leaks": 0.5,
                    "tokens": half,
                    "longest": max(tokens, 4),
                    "whole": 0.5 + (mode != "direct") / 2,
                }
            assert rows[str(swaps)] == pytest.approx(expected), f"{mode}, {swaps} swaps"
        for name in REPORT:  # alike, although 0 swaps have 3 problems, 1 has 17 and the others 20
            over = max if name == "longest" else mean
            assert rows["all"][name] == pytest.approx(over(rows[str(swaps)][name] for swaps in range(10)))
        assert rows["all"]["pass@1"] == 0.5 and rows["all"]["leaks"] == pytest.approx(0.05)
        assert rows["all"]["longest"] == (15 if mode == "thinking" else 4)
        right = float(mode == "thinking")
        assert tasks["countdown"]["all"]["greedy"] == tasks["countdown"]["all"]["pass@1"] == right
    check_asked(calls)


def check_asked(calls):
    """What was asked: held out, all different, in the mode, of its difficulty, and as many as there are."""
    assert len(calls) == 2 * 2 * 11  # modes, greedily and sampled, ten numbers of swaps and countdown
    for place, (problems, samples, temperature, limit, seed) in enumerate(calls):
        mode, kind = place < 22, place // 2 % 11
        assert {problem.thinking for problem in problems} == {mode} and {p.split for p in problems} == {"test"}
        assert len({problem.prompt for problem in problems}) == len(problems) == {0: 3, 1: 17, 10: 80}.get(kind, 20)
        expected = countdown.Countdown if kind == 10 else ShellGame
        assert {type(problem.problem) for problem in problems} == {expected}
        assert {problem.difficulty for problem in problems} == {3 if kind == 10 else kind}
        at_1 = {0: 14, 1: 3}.get(kind, 2)  # 40 answers at least, however few problems there are
        assert (samples, temperature) == ((at_1, 1.0) if place % 2 else (1, 0)) and seed == 3
        assert limit == (200 if mode else 12)
        assert [p.problem for p in problems] == [p.problem for p in calls[(place + 22) % 44][0]], "the same in both"


def test_report_is_of_every_difficulty_and_weighs_them_alike(saying):
    check_report(measure_modes, saying)


def test_modes_that_are_not_asked_for_are_not_measured(saying):
    calls = saying(lambda problem, number: f"{problem.answer}{EOS}")
    report = measure_modes.measure_modes(None, problems=2, samples=1, thinking=(False,))
    assert list(report) == ["direct"] and report["direct"]["shell_game"]["all"]["pass@1"] == 1
    assert {problem.thinking for problems, *_ in calls for problem in problems} == {False}
    assert {len(problems) for problems, *_ in calls} == {2, 8}, "no more than are asked for, of 0 and 1 swaps too"


def check_seeds(module, saying):
    calls = saying(lambda problem, number: EOS, module)
    for seed in (0, 1):
        module.measure_modes(None, problems=4, samples=1, seed=seed, thinking=(True,))
    for kind in range(3, 11):  # three swaps and more, countdown
        first, second = ({problem.prompt for problem in calls[2 * kind + start][0]} for start in (0, 22))
        assert len(first & second) <= len(first) / 2, "of so many problems, few are drawn twice"


def test_other_seeds_ask_other_problems(saying):
    check_seeds(measure_modes, saying)


# ---- how many problems there are ------------------------------------------------------------------------------------


def every_game(swaps):
    """All games of so many swaps, one by one."""
    balls = itertools.permutations(range(1, shell_game.CUPS + 1), 2)
    for pair, moves in itertools.product(balls, itertools.product(SWAPS, repeat=swaps)):
        yield ShellGame(pair, moves)


def check_counts(module):
    """As many as the module says are held out: not one less, or it would never end, and not one more."""
    for swaps, count in module._HELD_OUT.items():
        games = [game for game in every_game(swaps) if split_of(game.prompt) == "test"]
        assert len(games) == len({game.prompt for game in games}) == count
        assert {g.prompt for g in held_out(shell_game, count, swaps=(swaps, swaps))} == {g.prompt for g in games}
    assert module._HELD_OUT[0] == 3 and module._HELD_OUT[1] == 17
    more = max(module._HELD_OUT) + 1
    some = sum(split_of(game.prompt) == "test" for game in itertools.islice(every_game(more), 5000))
    assert more == 3 and some > 400, "where nothing is said there are more than anybody asks for"


def test_number_of_held_out_games_with_few_swaps_is_what_is_said():
    check_counts(measure_modes)


# ---- a model --------------------------------------------------------------------------------------------------------


def test_a_model_is_measured_and_its_figures_repeat():
    """A real model, untrained: every answer is within the mode's limit, and the figures follow from the seed."""
    model = make_model(CONFIGS["mla"].replace(vocab_size=TOKENIZER.vocab_size), seed=2)
    with torch.no_grad():
        model.lm_head.weight[TOKENIZER.id(EOS)] *= 3
    asked = in_mode(held_out(shell_game, 3, swaps=(2, 2)), False)
    row = measure_modes.figures(model, asked, samples=3, seed=1)
    assert row == measure_modes.figures(model, asked, samples=3, seed=1)
    texts = measure_modes.ask(model, asked, 3, max_new_tokens=12, seed=1)
    lengths = [len(TOKENIZER.encode(said_text(p, text))) for p, said in zip(asked, texts, strict=True) for text in said]
    assert row["longest"] == max(lengths) <= 12 and row["tokens"] == mean(lengths) > 1
    assert len(set(lengths)) > 2, "a real test"


MISTAKES = {
    "the sampled are greedy": (check_figures, "texts = ask(model, asked, samples,",
                               "texts = ask(model, asked, samples, 0,"),
    "the greedy are sampled": (check_figures, "temperature=0, ", ""),
    "limits change places": (check_figures, "{True: 200, False: 12}", "{True: 12, False: 200}"),
    "greedy answers are pass@1": (check_figures, '"pass@1": grade(modes, asked, texts)', '"pass@1": greedy'),
    "any sample will do": (check_figures, "grade(modes, asked, texts).mean()",
                           "grade(modes, asked, texts).amax(1).mean()"),
    "the prompt's tag is charged": (check_figures, "TOKENIZER.encode(modes.said_text(*pair))",
                                    "TOKENIZER.encode(pair[1])"),
    "characters are tokens": (check_figures, "len(TOKENIZER.encode(modes.said_text(*pair)))",
                              "len(modes.said_text(*pair))"),
    "the longest is the mean": (check_figures, "float(max(lengths))", "mean(lengths)"),
    "the first problem's samples": (check_figures, "for problem, said in zip(asked, texts, strict=True) for",
                                    "for problem, said in zip(asked[:1], texts[:1], strict=True) for"),
    "the whole is what is right": (check_figures, "mean(parse_response(text) is not None for _, text in pairs)",
                                   "grade(modes, asked, texts).mean().item()"),
    "leaks are forgiven": (check_figures, "mean(modes.leaks(*pair) for pair in pairs)", "0.0"),
    "leaks are what is not whole": (check_figures, "mean(modes.leaks(*pair) for pair in pairs)",
                                    "mean(parse_response(text) is None for _, text in pairs)"),
    "leaks by the other mode": (check_figures, "modes.leaks(*pair)",
                                "modes.leaks(modes.Asked(pair[0].problem, not pair[0].thinking), pair[1])"),
    "one mode for both": (check_report, "swaps=(swaps, swaps)), mode)", "swaps=(swaps, swaps)), True)"),
    "countdown thinks": (check_report, "4 * problems, seed), mode)", "4 * problems, seed), True)"),
    "names change places": (check_report, '"thinking" if mode else "direct"', '"direct" if mode else "thinking"'),
    "up to so many swaps": (check_report, "swaps=(swaps, swaps)", "swaps=(0, swaps)"),
    "eight swaps at most": (check_report, "MOST_SWAPS = 9", "MOST_SWAPS = 8"),
    "seeds are lost": (check_seeds, "held_out(shell_game, count, seed,", "held_out(shell_game, count, 0,"),
    "few answers where there are few problems": (check_report, "math.ceil(problems * samples / count)", "samples"),
    "one answer too few": (check_report, "math.ceil(problems * samples / count)", "problems * samples // count"),
    "samples are lost": (check_report, "figures(model, asked, samples, seed)", "figures(model, asked, 4, seed)"),
    "every problem weighs alike": (check_report, "mean)(row[name] for row in rows)",
                                   "mean)(row[name] for n, row in zip((3, 17, *[20] * 8), rows) for _ in range(n))"),
    "the longest are averaged": (check_report, '(max if name == "longest" else mean)', "mean"),
    "seeds of countdown are lost": (check_seeds, "held_out(countdown, 4 * problems, seed)",
                                    "held_out(countdown, 4 * problems)"),
    "few countdowns": (check_report, "4 * problems", "problems"),
    "one more than there is": (check_counts, "{0: 3, 1: 17, 2: 182}", "{0: 3, 1: 17, 2: 181}"),
    "none of one swap": (check_counts, "{0: 3, 1: 17, 2: 182}", "{0: 3, 1: 16, 2: 182}"),
    "two swaps have no end": (check_counts, "{0: 3, 1: 17, 2: 182}", "{0: 3, 1: 17}"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_planted_mistake_shows(mistake, saying):
    check, right, wrong = MISTAKES[mistake]
    with pytest.raises(AssertionError):
        check(planted(measure_modes, right, wrong), *([] if check is check_counts else [saying]))

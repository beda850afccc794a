"""The hybrid: what was accepted, what it is taught and asked, and that the shipped weights do what is recorded."""

from types import SimpleNamespace

import pytest
from planted import planted

from dsmini.language.chat import render
from dsmini.language.frame import parse_response
from dsmini.language.tokenizer import ASSISTANT, BOS, END_THINK, EOS, THINK, TOKENIZER, USER
from dsmini.tasks import countdown, shell_game
from dsmini.tasks.countdown import Countdown
from dsmini.tasks.draw import Draw
from dsmini.tasks.measure_modes import MOST_TOKENS, measure_modes
from dsmini.tasks.modes import Asked, in_mode, leaks, mode_kept, said_text, turn_text
from dsmini.tasks.rewards import accuracy
from dsmini.tasks.shell_game import ShellGame
from dsmini.tasks.stream import stream
from dsmini.zoo import hybrid, r1
from dsmini.zoo.recipe import find

NAME = "hybrid"
MODES = (True, False)
GAME = ShellGame((2, 4), ((1, 2), (3, 4)))  # the balls end under cups 1 and 3


# ---- what was accepted ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "task", "metric"), hybrid.ACCEPTED)
def test_recorded_metrics_are_accepted(shipped, mode, task, metric):
    low, high = hybrid.ACCEPTED[mode, task, metric]
    assert low <= shipped[1]["metrics"][mode][task]["all"][metric] <= high


def test_thresholds_are_those_that_chapter_9_builds_on():
    """Over all difficulties. What the hybrid loses against its specialists is asserted of three seeds, in the
    benchmark's stored file."""
    accepted = hybrid.ACCEPTED
    assert accepted["thinking", "shell_game", "pass@1"][0] >= 0.9
    for task in ("shell_game", "countdown"):
        assert all(accepted[mode, task, "leaks"][1] <= 0.01 for mode in ("thinking", "direct"))
        assert accepted["direct", task, "greedy"][0] >= 0.25
        # of countdown the right answers have six, and one in hundreds that never stops may have twelve
        assert accepted["direct", task, "tokens"][1] <= {"shell_game": 6, "countdown": 6.1}[task]
    assert accepted["thinking", "countdown", "pass@1"][0] >= r1.ACCEPTED["countdown", "pass@1"][0]


def test_two_stages_of_at_most_300_cpu_seconds_on_average(shipped):
    model, record = shipped
    assert [(stage["name"], stage["steps"]) for stage in record["stages"]] == [
        ("sft", hybrid.SFT.steps),
        ("mixed-rl", hybrid.RL.steps),
    ]
    assert record["cpu_seconds"] <= 600 and set(record["parents"]) == {"base", "r1", "direct"} and not model.mtp


def test_every_row_of_the_record_keeps_to_its_mode(shipped):
    """No number of swaps at which it leaks, and none at which an answer at once is long."""
    metrics = shipped[1]["metrics"]
    assert list(metrics) == ["thinking", "direct"]
    for mode, tasks in metrics.items():
        assert list(tasks["shell_game"]) == [*map(str, range(10)), "all"]
        for row in (*tasks["shell_game"].values(), *tasks["countdown"].values()):
            assert row["leaks"] <= 0.02 and row["longest"] <= MOST_TOKENS[mode == "thinking"]
            assert mode == "thinking" or row["tokens"] <= 6.1
    thinking, direct = metrics["thinking"]["shell_game"], metrics["direct"]["shell_game"]
    assert min(row["pass@1"] for row in thinking.values()) > 0.8, "at any length"
    assert (
        thinking["9"]["pass@1"] > direct["9"]["pass@1"] + 0.5 and thinking["9"]["tokens"] > 10 * direct["9"]["tokens"]
    )


def test_practice_kept_both_modes(shipped):
    curves = shipped[1]["stages"][1]["curves"]
    assert {"reward", "accuracy", "mode", "tokens", "entropy"} <= curves.keys()
    last = {name: sum(curve[-5:]) / 5 for name, curve in curves.items()}
    assert last["reward"] == pytest.approx(last["accuracy"] + last["mode"], abs=1e-3)
    assert last["mode"] > 0.9 * 0.25 and max(curves["mode"]) <= 0.25
    assert max(curves["mismatch"]) < 1e-3 and max(curves["clip_fraction"]) == 0  # on-policy


def test_shipped_weights_do_on_other_problems_what_the_record_says(shipped):
    """Other held-out problems than the record's, and fewer: four standard errors of leeway for the draw."""
    model, record = shipped
    measured = measure_modes(model, problems=8, samples=2, seed=7)
    leeway = {("thinking", "shell_game", "pass@1"): 0.1, ("thinking", "shell_game", "tokens"): 5,
              ("thinking", "shell_game", "leaks"): 0.02, ("thinking", "countdown", "pass@1"): 0.28,
              ("direct", "shell_game", "greedy"): 0.15, ("direct", "shell_game", "pass@1"): 0.12,
              ("direct", "shell_game", "leaks"): 0.02, ("direct", "shell_game", "tokens"): 0.1,
              ("direct", "countdown", "pass@1"): 0.28, ("direct", "countdown", "tokens"): 0.2}  # fmt: skip
    for (mode, task, metric), width in leeway.items():
        recorded = record["metrics"][mode][task]["all"][metric]
        assert measured[mode][task]["all"][metric] == pytest.approx(recorded, abs=width), f"{mode} {task} {metric}"


# ---- lessons --------------------------------------------------------------------------------------------------------


def check_lessons(module):
    """A specialist that says all there is to say: only the good ones are kept, of these the shortest, each once."""
    for thinking in MODES:
        calls = []

        def ask(model, problems, samples, max_new_tokens, seed, thinking=thinking, calls=calls):
            calls.append((model, len(problems), samples, max_new_tokens, seed))
            assert [problem.thinking for problem in problems] == [thinking] * len(problems)
            return [said(problem, thinking) for problem in problems]

        def said(problem, thinking):
            right, wrong = f"{problem.answer}{EOS}", f"1 1{EOS}"
            if not thinking:
                good = right if len(problem.prompt) % 3 else wrong  # a third of them it does not know
                said = [wrong, good, f"{THINK}a{END_THINK}{right}", f"{END_THINK}{right}", problem.answer, good]
                return [turn_text(problem, text) for text in said]
            return [f"a b c{END_THINK}{right}", f"{END_THINK}{right}", f"a{END_THINK}{wrong}", f"a b{END_THINK}{right}",
                    f" {END_THINK}{right}", f"a b c d{END_THINK}{right}", f"a{END_THINK}{problem.answer}",
                    f"a b{END_THINK}{right}"]  # fmt: skip

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "ask", ask)
            taught = module.lessons("the specialist", thinking, 620, 8, 2 if thinking else 1, seed=40)
        problems = stream(module.MIX, 620, 40)(0)
        if thinking:
            expected = [(Asked(problem, True), f"{thought}{END_THINK}{problem.answer}{EOS}")
                        for problem in problems for thought in ("a b", "a b c")]  # fmt: skip
        else:
            expected = [(Asked(problem, False), f"{END_THINK}{problem.answer}{EOS}")
                        for problem in problems if len(problem.prompt) % 3]  # fmt: skip
        assert taught == expected
        assert {asked.split for asked, _ in taught} == {"train"}
        assert [(model, count, samples, limit) for model, count, samples, limit, _ in calls] == [
            ("the specialist", 500, 8, MOST_TOKENS[thinking]),
            ("the specialist", 120, 8, MOST_TOKENS[thinking]),
        ]
        assert len({seed for *_, seed in calls}) == 2, "no two batches throw the same dice"


def test_only_right_answers_in_the_right_mode_are_taught_and_the_shortest_of_them():
    check_lessons(hybrid)


def test_any_right_answer_is_good():
    """By the task's verifier: countdown has many."""
    problem, said = Countdown((3, 9, 7), 30), f"{END_THINK}7 * 3 + 9{EOS}"
    assert problem.answer != "7 * 3 + 9" and accuracy(Asked(problem, False), said) == 1
    assert hybrid.reward(Asked(problem, False), said) == {"accuracy": 1.0, "mode": 0.25}


def check_short_thoughts(module):
    taught = module.short_thoughts(200, seed=5)
    assert taught == module.short_thoughts(200, seed=5) != module.short_thoughts(200, seed=6)
    for asked, text in taught:
        response = parse_response(text)
        assert asked.thinking and asked.split == "train" and asked.difficulty in (0, 1)
        assert response.thought and not leaks(asked, text) and mode_kept(asked, text) == accuracy(asked, text) == 1
        if asked.difficulty:
            assert shell_game.is_complete(asked.problem, response.thought)
        else:
            assert response.thought == " ".join(map(str, asked.problem.balls)) == response.answer
    assert 60 < sum(asked.difficulty for asked, _ in taught) < 140


def test_short_thoughts_are_never_empty_and_say_every_step():
    check_short_thoughts(hybrid)


def told(seed=0, count=150):
    """Lessons of both modes and both tasks, as specialists would write them."""
    draw, taught = Draw("told", seed), []
    for i, problem in enumerate(stream(hybrid.MIX, count, seed)(0)):
        if i % 2:
            taught.append((Asked(problem, False), f"{END_THINK}{problem.answer}{EOS}"))
            continue
        game = isinstance(problem, ShellGame)
        thought, answer = (
            shell_game.write(problem, "careful", draw) if game else countdown.write(problem, "solve", draw)
        )
        taught.append((Asked(problem, True), f"{thought or 'a'}{END_THINK}{answer}{EOS}"))
    return taught


def check_examples(module):
    """Every lesson once and in its place, behind V3.1's own prompt; a share of them behind other questions."""
    taught = told()
    thoughts = {asked.prompt: [] for asked, _ in taught}
    for asked, text in taught:
        thoughts[asked.prompt].append(text.removesuffix(EOS))
    for share in (0, 1 / 3, 1):
        examples = module.examples_of(taught, 7, share)
        assert examples == module.examples_of(taught, 7, share) and len(examples) == len(taught)
        counts = []
        for (prompt, response), (asked, text) in zip(examples, taught, strict=True):
            assert response == said_text(asked, text)
            whole = f"{prompt}{response}"
            assert whole.count(THINK) == asked.thinking and len(TOKENIZER.encode(whole)) <= module.SFT.context
            questions = [piece.partition(ASSISTANT)[0] for piece in prompt.split(USER)[1:]]
            answers = [piece.partition(END_THINK)[2].removesuffix(EOS) for piece in prompt.split(USER)[1:-1]]
            messages = []
            for question, answer in zip(questions, answers, strict=False):
                assert any(
                    accuracy(Asked(earlier.problem, True), f"a{END_THINK}{answer}{EOS}")
                    for earlier, _ in taught
                    if earlier.prompt == question
                ), "other lessons, rightly answered"
                # with a thought in the content, as a front end would have it: the template drops it
                content = f"{thoughts[question][0].partition(END_THINK)[0]}{END_THINK}{answer}"
                messages += [{"role": "user", "content": question}, {"role": "assistant", "content": content}]
            messages += [{"role": "user", "content": asked.prompt}]
            assert (
                prompt == render(messages, "deepseek-v3.1", thinking=asked.thinking) and questions[-1] == asked.prompt
            )
            counts.append(len(answers))
        late = sum(count > 0 for count in counts) / len(counts)
        assert late == share if share in (0, 1) else abs(late - share) < 0.13
        assert set(counts) == {0: {0}, 1: {1, 2}}.get(share, {0, 1, 2})
    assert module.examples_of(taught, 7, 1) != module.examples_of(taught, 8, 1)


def test_lessons_in_conversations_are_v31s_template_exactly_and_fit_the_context():
    check_examples(hybrid)


def test_longest_lesson_in_the_longest_conversation_fits_the_context():
    """As long as a specialist may speak, behind two of the longest questions that there are."""
    longest = Asked(ShellGame((1, 2), ((1, 2),) * 9), True)
    text = " ".join(["wait"] * (MOST_TOKENS[True] - 4)) + f"{END_THINK}1 2{EOS}"
    assert len(TOKENIZER.encode(text)) == MOST_TOKENS[True]
    lengths = {
        len(TOKENIZER.encode(prompt + said)) for prompt, said in hybrid.examples_of([(longest, text)] * 40, 0, 1)
    }
    assert len(lengths) == 2 and max(lengths) <= hybrid.SFT.context


def test_a_share_of_the_lessons_comes_late_in_a_conversation():
    late = [prompt.count(USER) > 1 for prompt, _ in hybrid.examples_of(told(count=400), 3)]
    assert 0 < hybrid.IN_CONVERSATION < 1 and abs(sum(late) / 400 - hybrid.IN_CONVERSATION) < 0.1


# ---- stages ---------------------------------------------------------------------------------------------------------


def pretended(rehearsing=False):
    """A run that trains nothing, and the list of what it was told to do."""
    done = []
    run = SimpleNamespace(
        rehearsing=rehearsing,
        seed=100,
        load=lambda name: f"model {name}",
        fine_tune=lambda *arguments: done.append(arguments),
        reinforce=lambda *arguments: done.append(arguments),
    )
    return run, done


def check_batches(module):
    """A student of one mode reads as many lessons of it at a step, and as often in all, as a student of both."""
    thoughts, answers = [pair for pair in told() if pair[0].thinking], [pair for pair in told() if not pair[0].thinking]
    for taught in ({True: thoughts[:30], False: answers[:60]}, {True: thoughts[:60], False: answers[:20]}):
        size, stages = {}, {}
        for modes in (MODES, (True,), (False,)):
            run, done = pretended()
            assert module.fine_tuned(run, taught, modes) == "model base"
            ((name, model, examples, settings),) = done
            assert (name, model) == ("sft", "model base") and settings.steps == module.SFT.steps
            assert len(examples) == sum(len(taught[mode]) for mode in modes)
            ends = {prompt.endswith(THINK) for prompt, _ in examples}
            assert ends == set(modes), "no lesson of another mode"
            size[modes], stages[modes] = settings.batch_size, examples
        assert size[MODES] == module.SFT.batch_size
        for mode in MODES:
            with_both = module.SFT.batch_size * len(taught[mode]) / len(stages[MODES])
            assert size[mode,] == pytest.approx(with_both, abs=0.5)


def test_student_of_one_mode_has_as_many_of_its_lessons_at_a_step_as_the_hybrid():
    check_batches(hybrid)


def check_practice(module):
    """Every problem of a step in each mode; a student of one mode is asked the same problems in its own."""
    for rehearsing in (False, True):
        asked, sizes = {}, {}
        for modes in (MODES, (True,), (False,)):
            run, done = pretended(rehearsing)
            assert module.reinforced(run, "the model", modes) is None
            ((name, model, problems, reward, settings),) = done
            assert (name, model, reward) == ("mixed-rl", "the model", module.reward)
            asked[modes] = [problems(step) for step in (0, 7, 0)]
            sizes[modes] = settings.prompts
            assert {len(step) for step in asked[modes]} == {settings.prompts}, "as many as `train_grpo` expects"
            assert settings.steps == module.RL.steps
        assert sizes[MODES] == 2 * sizes[True,] == 2 * sizes[False,] == (4 if rehearsing else module.RL.prompts)
        for step in range(3):
            plain = {mode: [problem.problem for problem in asked[mode,][step]] for mode in MODES}
            assert plain[True] == plain[False] and {problem.split for problem in plain[True]} == {"train"}
            for mode in MODES:
                assert asked[mode,][step] == in_mode(plain[True], mode)
                assert [problem for problem in asked[MODES][step] if problem.thinking is mode] == asked[mode,][step]
        assert asked[MODES][0] == asked[MODES][2] != asked[MODES][1]


def test_every_problem_is_practised_in_each_mode():
    check_practice(hybrid)


def test_right_answer_in_the_wrong_mode_is_worth_less_than_one_in_the_right_mode():
    thought, direct = Asked(GAME, True), Asked(GAME, False)
    cases = {
        (thought, f"a{END_THINK}1 3{EOS}"): (1, 0.25),
        (thought, f"a{END_THINK}3 1{EOS}"): (0, 0.25),
        (thought, f"{END_THINK}1 3{EOS}"): (1, 0),
        (thought, "a 1-2"): (0, 0),
        (direct, f"{END_THINK}1 3{EOS}"): (1, 0.25),
        (direct, f"{END_THINK}3 1{EOS}"): (0, 0.25),
        (direct, f"{END_THINK}{THINK}a{END_THINK}1 3{EOS}"): (0, 0),
        (direct, f"{END_THINK}1 3"): (0, 0),
    }
    for case, (right, kept) in cases.items():
        assert hybrid.reward(*case) == {"accuracy": right, "mode": kept}


def test_each_mode_is_taught_by_its_own_specialist(monkeypatch):
    asked = []

    def lessons(specialist, thinking, count, samples, keep, seed):
        asked.append((specialist, thinking, seed))
        assert samples >= keep >= 1 and count >= 1000
        return told()[thinking - 1 :: 2] if thinking else told()[1::2]

    monkeypatch.setattr(hybrid, "lessons", lessons)
    run, _ = pretended()
    taught = hybrid.all_lessons(run)
    assert [(specialist, thinking) for specialist, thinking, _ in asked] == [
        ("model r1", True),
        ("model direct", False),
    ]
    assert len({seed for *_, seed in asked}) == 2 and set(hybrid.ASKED) == set(taught) == set(MODES)
    for mode, pairs in taught.items():
        assert {problem.thinking for problem, _ in pairs} == {mode}
    short = [pair for pair in taught[True] if pair[0].difficulty <= 1 and isinstance(pair[0].problem, ShellGame)]
    assert short and all(parse_response(text).thought for _, text in short)
    assert set(find("hybrid").parents) == {"base", "r1", "direct"}


def test_rehearsal_asks_nobody_and_teaches_both_modes():
    run, done = pretended(rehearsing=True)
    taught = hybrid.all_lessons(run)
    for mode in MODES:
        assert {problem.thinking for problem, _ in taught[mode]} == {mode} and len(taught[mode]) >= 100
        assert all(mode_kept(*pair) and accuracy(*pair) for pair in taught[mode])
    assert hybrid.build(run) == "model base" and [stage[0] for stage in done] == ["sft", "mixed-rl"]


MISTAKES = {
    "wrong answers are taught": (check_lessons, "if accuracy(problem, text) and mode_kept", "if mode_kept"),
    "leaks are taught": (check_lessons, "if accuracy(problem, text) and mode_kept(problem, text)",
                         "if accuracy(problem, text)"),
    "the longest are taught": (check_lessons, "key=lambda text: (len(text), text))[:keep]",
                               "key=lambda text: (-len(text), text))[:keep]"),
    "all are taught": (check_lessons, ")[:keep]", ")"),
    "the same twice": (check_lessons,
                       "{text for text in texts if accuracy(problem, text) and mode_kept(problem, text)}",
                       "[text for text in texts if accuracy(problem, text) and mode_kept(problem, text)]"),
    "asked in the other mode": (check_lessons, "seed)(0), thinking), []", "seed)(0), not thinking), []"),
    "the same dice for every batch": (check_lessons, "seed=seed + start", "seed=seed"),
    "the first batch again": (check_lessons, "problems[start : start + 500]", "problems[:500]"),
    "thoughts without words": (check_short_thoughts, "thought or problem.answer", "thought"),
    "sloppy thoughts": (check_short_thoughts, '"careful"', '"sloppy"'),
    "long thoughts": (check_short_thoughts, "swaps=(0, 1)", "swaps=(0, 2)"),
    "short answers": (check_short_thoughts, "Asked(problem, True)", "Asked(problem, False)"),
    "thoughts in the history": (check_examples, '"content": problem.answer}',
                                '"content": THINKS + problem.answer}'),
    "every mode thinks": (check_examples, "thinking=asked.thinking)", "thinking=True)"),
    "the template of another family": (check_examples, '"deepseek-v3.1", thinking', '"qwen3", thinking'),
    "responses with the prompt's tag": (check_examples, "said_text(asked, text)))", "text))"),
    "all in conversations": (check_examples, "if draw.happens(share) else []", ""),
    "never more than one before": (check_examples, "range(1 + draw.below(2))", "range(1)"),
    "full batches for half the lessons": (check_batches, "round(SFT.batch_size * share)", "SFT.batch_size"),
    "half batches whatever the lessons": (check_batches, "share = len(chosen) / sum(map(len, taught.values()))",
                                          "share = len(modes) / 2"),
    "lessons of both modes for all": (check_batches, "for mode in modes for lesson", "for mode in taught for lesson"),
    "one mode alone is asked twice as much": (check_practice, "prompts=count * len(modes)", "prompts=2 * count"),
    "one mode alone is asked other problems": (check_practice, "stream(MIX, count, run.seed + 40)",
                                               "stream(MIX, count, run.seed + 40 + len(modes))"),
    "the hybrid thinks only": (check_practice, "in_both_modes(problems) if",
                             "(lambda step: in_mode(2 * problems(step), True)) if"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_planted_mistake_shows(mistake):
    check, right, wrong = MISTAKES[mistake]
    with pytest.raises(AssertionError):
        check(planted(hybrid, right, wrong.replace("THINKS", repr(f"a{BOS}"))))

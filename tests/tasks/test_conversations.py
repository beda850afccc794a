"""Conversations: as V3.1's own template writes them, made of what the model itself said, counted token by token."""

import dataclasses
import re
from types import SimpleNamespace

import pytest
import torch
from planted import planted
from tiny import CONFIGS, make_model

from dsmini.language.chat import render
from dsmini.language.frame import Response
from dsmini.language.tokenizer import END_THINK, EOS, SPECIAL, THINK, TOKENIZER
from dsmini.tasks import conversations, countdown, measure, shell_game
from dsmini.tasks.conversations import HISTORIES, by_turn, converse, history_text
from dsmini.tasks.countdown import Countdown
from dsmini.tasks.modes import Asked
from dsmini.tasks.shell_game import ShellGame

GAME = ShellGame((2, 4), ((1, 2), (3, 4)))  # the balls end under cups 1 and 3
SUM = Countdown((3, 9, 7), 30)
THOUGHT = "a 1-2 1 4 b 3-4 1 3"
# one conversation: a thought, an answer at once, a wrong thought, a last question; with what is said to each
ASKED = [Asked(GAME, True), Asked(SUM, False), Asked(SUM, True), Asked(GAME, False)]
SAID = [f"{THOUGHT}{END_THINK}1 3{EOS}", f"3 * 7 + 9{EOS}", f"3 + 9 = 12 no{END_THINK}3 + 9 + 7{EOS}", f"1 3{EOS}"]
BAR, LOW = "\uff5c", "\u2581"  # the tokens' own spelling, once more, for strings that are compared


def spelled(text):
    """A shorthand for conversations: [ begins, U and A are the roles, . ends a sentence."""
    tokens = {"[": f"<{BAR}begin{LOW}of{LOW}sentence{BAR}>", ".": f"<{BAR}end{LOW}of{LOW}sentence{BAR}>",
              "U:": f"<{BAR}User{BAR}>", "A:": f"<{BAR}Assistant{BAR}>"}  # fmt: skip
    return re.sub("|".join(map(re.escape, tokens)), lambda found: tokens[found[0]], text)


def scripted(said):
    """A stand-in for `generate`: to the i-th conversation's n-th prompt it says said[i][n]; it keeps what it read."""
    read = []

    def generate(model, prompts, max_new_tokens, temperature, generator, stop):
        assert stop == TOKENIZER.id(EOS)
        read.append([TOKENIZER.decode(prompt) for prompt in prompts])
        return SimpleNamespace(tokens=[TOKENIZER.encode(texts[len(read) - 1]) for texts in said])

    generate.read = read
    return generate


def led(module, said, questions, rule="V3.1"):
    """Conversations in which that is said, and the texts that were read, turn by turn."""
    generate = scripted(said)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "generate", generate)
        return module.converse(None, questions, rule), generate.read


def messages(asked, said):
    """A conversation as its front end keeps it: all that was said, thoughts and their closing tags included."""
    turns = []
    for problem, text in zip(asked, said, strict=False):
        turns += [{"role": "user", "content": problem.prompt}]
        turns += [{"role": "assistant", "content": text.removesuffix(EOS)}]
    return turns


# ---- what is read ---------------------------------------------------------------------------------------------------


def check_template(module):
    """Rule "V3.1" against the template itself, in every order of the modes, at every turn."""
    cases = [(ASKED, SAID)]
    thought, direct = (Asked(GAME, True), SAID[0]), (Asked(GAME, False), SAID[3])
    for number in range(8):
        cases.append(tuple(zip(*[thought if number >> turn & 1 else direct for turn in range(3)], strict=True)))
    for asked, said in cases:
        (turns,), read = led(module, [said], [asked])
        for n, problem in enumerate(asked):
            history = messages(asked[:n], said)
            question = {"role": "user", "content": problem.prompt}
            expected = render([*history, question], "deepseek-v3.1", thinking=problem.thinking)
            assert turns[n].prompt == read[n][0] == expected
            if history:
                told = render(history, "deepseek-v3.1", add_generation_prompt=False)
                assert module.history_text(turns[:n]) == told
        assert THOUGHT not in "".join(turn.prompt for turn in turns)


def test_rule_of_v31_is_its_template_byte_for_byte():
    check_template(conversations)


GOLDEN = {  # what stands before the fourth question
    "V3.1": "[U:cups 2 4 a 1-2 b 3-4A:</think>1 3.U:reach 30 with 3 9 7A:</think>3 * 7 + 9."
            "U:reach 30 with 3 9 7A:</think>3 + 9 + 7.",
    "thoughts kept": "[U:cups 2 4 a 1-2 b 3-4A:<think>a 1-2 1 4 b 3-4 1 3</think>1 3."
                     "U:reach 30 with 3 9 7A:</think>3 * 7 + 9."
                     "U:reach 30 with 3 9 7A:<think>3 + 9 = 12 no</think>3 + 9 + 7.",
    "empty pair": "[U:cups 2 4 a 1-2 b 3-4A:<think></think>1 3.U:reach 30 with 3 9 7A:<think></think>3 * 7 + 9."
                  "U:reach 30 with 3 9 7A:<think></think>3 + 9 + 7.",
    "no tag": "[U:cups 2 4 a 1-2 b 3-4A:1 3.U:reach 30 with 3 9 7A:3 * 7 + 9.U:reach 30 with 3 9 7A:3 + 9 + 7.",
}  # fmt: skip


def check_rules(module):
    """Every rule against a string that is written out, and against a family's template that does the same."""
    assert module.HISTORIES.keys() == GOLDEN.keys()
    for rule, golden in GOLDEN.items():
        (turns,), read = led(module, [SAID], [ASKED], rule)
        assert module.history_text(turns[:3], rule) == spelled(golden)
        for n, problem in enumerate(ASKED):
            tag = "<think>" if problem.thinking else "</think>"
            question = spelled(f"U:{problem.prompt}A:{tag}")
            assert turns[n].prompt == read[n][0] == module.history_text(turns[:n], rule) + question
        # V3's template keeps an answer as it finds it, R1's leaves the answer alone
        kept = [f"{THINK if p.thinking else END_THINK}{text}" for p, text in zip(ASKED, SAID, strict=True)]
        pair = [f"{THINK}{END_THINK}{text.rpartition(END_THINK)[2]}" for text in SAID]
        same = {"thoughts kept": ("deepseek-v3", kept), "empty pair": ("deepseek-v3", pair),
                "no tag": ("deepseek-r1", SAID), "V3.1": ("deepseek-v3.1", SAID)}  # fmt: skip
        family, said = same[rule]
        assert module.history_text(turns, rule) == render(messages(ASKED, said), family, add_generation_prompt=False)


def test_every_rule_is_what_its_name_says():
    check_rules(conversations)


def test_first_turn_is_the_same_under_every_rule():
    firsts = [led(conversations, [SAID], [ASKED], rule)[1][0] for rule in HISTORIES]
    assert firsts == 4 * [[spelled("[U:cups 2 4 a 1-2 b 3-4A:<think>")]]
    assert history_text([]) == spelled("[")


CUT = f"{THOUGHT} c 1-2"  # a thought that the limit cut off


def check_cut_off(module):
    """A thought that never ends is a thought without an answer, under every rule, and the conversation goes on."""
    for text in (CUT, CUT + EOS):  # cut off; ended without being closed
        golden = {"V3.1": "A:</think>.", "thoughts kept": f"A:<think>{CUT}</think>.",
                  "empty pair": "A:<think></think>.", "no tag": "A:."}  # fmt: skip
        for rule, answered in golden.items():
            ((first, second),), read = led(module, [[text, SAID[1]]], [ASKED[:2]], rule)
            assert first.response == Response(CUT, "") and not first.right and first.text == text
            expected = f"[U:{GAME.prompt}{answered}U:{SUM.prompt}A:</think>"
            assert second.prompt == read[1][0] == spelled(expected)
            assert second.right, "what came before does not make it wrong"
        # a front end that keeps thoughts apart has no content for such a turn
        kept = messages(ASKED[:1], [EOS]) + [{"role": "user", "content": SUM.prompt}]
        kept[1]["reasoning_content"] = CUT
        ((_, second),), _ = led(module, [[text, SAID[1]]], [ASKED[:2]])
        assert second.prompt == render(kept, "deepseek-v3.1", thinking=False)


def test_cut_off_thought_is_a_thought_without_an_answer():
    check_cut_off(conversations)


def test_answer_that_is_cut_off_or_closed_twice_leaves_one_closing_tag():
    """However often a model closes its thought, a history holds no tag but the rule's own."""
    for text in (f"{THOUGHT}{END_THINK}1", f"{THOUGHT}{END_THINK}1 3{END_THINK}1 3{EOS}"):
        for rule, tags in (("V3.1", [END_THINK]), ("thoughts kept", [THINK, END_THINK]), ("no tag", [])):
            ((first, second),), _ = led(conversations, [[text, SAID[1]]], [ASKED[:2]], rule)
            assert re.findall("</?think>", second.prompt) == [*tags, END_THINK], "the last is the question's"
            assert not first.right and first.response.answer == ""


# ---- who says what --------------------------------------------------------------------------------------------------


def test_turn_is_right_by_its_own_problem():
    (turns,), _ = led(conversations, [SAID], [ASKED])
    assert [turn.right for turn in turns] == [True, True, False, True]
    assert [turn.response for turn in turns] == [(THOUGHT, "1 3"), ("", "3 * 7 + 9"), ("3 + 9 = 12 no", "3 + 9 + 7"),
                                                 ("", "1 3")]  # fmt: skip
    assert turns[1].text == f"{END_THINK}3 * 7 + 9{EOS}", "the prompt's tag, in front"
    assert [turn.asked for turn in turns] == ASKED
    with pytest.raises(dataclasses.FrozenInstanceError):
        turns[0].text = ""


def check_own_words(module):
    """Two conversations side by side: each goes on from its own questions and its own answers, right or wrong."""
    questions = [ASKED[:3], [Asked(SUM, False), Asked(GAME, True), Asked(GAME, False)]]
    said = [[SAID[0], f"9 * 3 + 7{EOS}", SAID[2]], [f"9 + 9 + 9{EOS}", f"a{END_THINK}5 5{EOS}", SAID[3]]]
    held, read = led(module, said, questions)
    assert [len(turns) for turns in held] == [3, 3] and [len(prompts) for prompts in read] == [2, 2, 2]
    assert read[2] == [turns[2].prompt for turns in held]
    first, second = read[2]
    assert first == spelled(f"[U:{GAME.prompt}A:</think>1 3.U:{SUM.prompt}A:</think>9 * 3 + 7.U:{SUM.prompt}A:<think>")
    assert second == spelled(f"[U:{SUM.prompt}A:</think>9 + 9 + 9.U:{GAME.prompt}A:</think>5 5."
                             f"U:{GAME.prompt}A:</think>")  # fmt: skip
    assert [[turn.right for turn in turns] for turns in held] == [[True, False, False], [False, False, True]]


def test_later_turns_hold_what_the_model_itself_said():
    check_own_words(conversations)


def eager():
    """A model with the book's symbols that closes thoughts and ends answers often, and says no other tag often."""
    model = make_model(CONFIGS["mla"].replace(vocab_size=TOKENIZER.vocab_size), seed=2)
    with torch.no_grad():
        model.lm_head.weight[[TOKENIZER.id(tag) for tag in SPECIAL]] *= 0.2
        model.lm_head.weight[[TOKENIZER.id(EOS), TOKENIZER.id(END_THINK)]] *= 10
    return model


def questions(conversations, turns):
    """Problems of both tasks in modes that differ from turn to turn and from conversation to conversation."""
    problems = measure.held_out(shell_game, 8) + measure.held_out(countdown, 8)
    asked = iter([Asked(problem, (i + i // turns) % 2 == 0) for i, problem in enumerate(problems)])
    return [[next(asked) for _ in range(turns)] for _ in range(conversations)]


def check_model(module):
    """Greedy, against a loop that reads every prompt anew, one conversation after the other."""
    model, asked, limit = eager(), questions(5, 3), 5
    held = module.converse(model, asked, temperature=0, max_new_tokens=limit)
    for turns, problems in zip(held, asked, strict=True):
        for turn, problem in zip(turns, problems, strict=True):
            read = TOKENIZER.encode(turn.prompt).tolist()
            start = len(read)
            while len(read) < start + limit and read[-1] != TOKENIZER.id(EOS):
                read.append(int(model(torch.tensor([read]))[0, -1].argmax()))
            said = TOKENIZER.decode(read[start:])
            assert (turn.asked, turn.text) == (problem, said if problem.thinking else END_THINK + said)
    return held


def test_a_model_is_led_through_conversations():
    held = check_model(conversations)
    answers = {turn.response.answer for turns in held for turn in turns}
    assert len(answers) > 3, "a real test: what was said differs, and some of it stays"
    assert {turn.asked.thinking for turns in held for turn in turns} == {True, False}


def check_draws(module):
    """Sampled conversations repeat with their seed, and no turn throws the dice of another."""
    model, asked = eager(), [[Asked(GAME, True)] * 3] * 4

    def told(**options):
        held = module.converse(model, asked, max_new_tokens=8, **options)
        return [[turn.text for turn in turns] for turns in held]

    first = told(temperature=3.0)
    assert first == told(temperature=3.0, seed=0) != told(temperature=3.0, seed=1)
    assert len({text for texts in first for text in texts}) > 9
    assert told(temperature=0) == told(temperature=0, seed=1) != first
    draws = []  # of the first number of every turn

    def generate(model, prompts, max_new_tokens, temperature, generator, stop):
        draws.append(torch.rand(1, generator=generator).item())
        return SimpleNamespace(tokens=[TOKENIZER.encode(SAID[0])] * len(prompts))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "generate", generate)
        module.converse(None, asked, seed=5)
    assert len(set(draws)) == 3


def test_draws_repeat_with_the_seed_and_differ_from_turn_to_turn():
    check_draws(conversations)


# ---- what it costs --------------------------------------------------------------------------------------------------


def check_counts(module):
    """By hand, in symbols: the game's question has 7, the sum's 6; a prompt adds begin, User, Assistant and a tag."""
    asked = [[Asked(GAME, True), Asked(SUM, False)], [Asked(SUM, False), Asked(GAME, False)]]
    said = [
        [SAID[0], SAID[1]],  # 8 of a thought, a tag, 2, an end; 5, an end
        [f"9 + 9 + 7{EOS}", f"{THINK}a 1-2{END_THINK}1 3{EOS}"],  # 5, an end, wrong; a leak: 1, 2, 1, 2, an end
    ]
    held, _ = led(module, said, asked)
    one = {"read": (11 + 10) / 2, "said": (12 + 6) / 2, "accuracy": 0.5, "leaks": 0}
    # a turn of the past: User, the question, Assistant, a tag, the answer, an end
    two = {"read": 1 + ((4 + 7 + 2) + (3 + 6) + (4 + 6 + 5) + (3 + 7)) / 2, "said": (6 + 7) / 2, "accuracy": 0.5,
           "leaks": 0.5}  # fmt: skip
    assert module.by_turn(held) == [one, two]
    kept, _ = led(module, said, asked, "thoughts kept")
    assert module.by_turn(kept) == [one, two | {"read": two["read"] + (1 + 8) / 2}], "an opening tag and a thought"
    bare, _ = led(module, said, asked, "no tag")
    assert module.by_turn(bare) == [one, two | {"read": two["read"] - 1}]


def test_tokens_are_counted_by_hand():
    check_counts(conversations)


def test_tokens_are_those_that_the_model_read_and_wrote():
    """Against the tensors that go in and come out of `generate`."""
    seen, original = [], conversations.generate

    def generate(model, prompts, *arguments, **options):
        result = original(model, prompts, *arguments, **options)
        seen.append([sum(map(len, rows)) / len(rows) for rows in (prompts, result.tokens)])
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversations, "generate", generate)
        rows = by_turn(converse(eager(), questions(5, 3), "thoughts kept", temperature=1.5, max_new_tokens=12))
    assert [[row["read"], row["said"]] for row in rows] == seen
    assert rows[0]["read"] < rows[1]["read"] < rows[2]["read"]


def test_history_of_thoughts_costs_what_the_thoughts_are_long():
    """Turn by turn, the two rules differ by every earlier thought and its opening tag."""
    kept, dropped = (by_turn(led(conversations, [SAID], [ASKED], rule)[0]) for rule in ("thoughts kept", "V3.1"))
    more = [row["read"] - less["read"] for row, less in zip(kept, dropped, strict=True)]
    assert more == [0, 9, 9, 9 + 7]
    assert [row["said"] for row in kept] == [12, 6, 6 + 1 + 5 + 1, 3]


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "rule", "message"),
    [
        ([ASKED], "v3.1", "rule = 'v3.1': expected one of V3.1, thoughts kept, empty pair, no tag"),
        ([ASKED], None, "rule = None: expected one of"),
        ([ASKED, ASKED[:2]], "V3.1", "questions: of [2, 4] turns, expected as many for all"),
        ([], "V3.1", "questions: of [] turns"),
    ],
)
def test_conversations_that_are_none(asked, rule, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        led(conversations, [SAID, SAID], asked, rule)
    if len(asked) == 1:
        with pytest.raises(ValueError, match=re.escape(message)):
            history_text([], rule)


MISTAKES = {
    "thoughts stay in V3.1's history": (check_template, '"V3.1": lambda thinking, thought, answer: f"{END_THINK}',
                                        '"V3.1": lambda thinking, thought, answer: f"{thought}{END_THINK}'),
    "V3.1's history has no tag": (check_template, '"V3.1": lambda thinking, thought, answer: f"{END_THINK}{answer}"',
                                  '"V3.1": lambda thinking, thought, answer: answer'),
    "the empty pair for V3.1": (check_template, '"V3.1": lambda thinking, thought, answer: f"{END_THINK}',
                                '"V3.1": lambda thinking, thought, answer: f"{THINK}{END_THINK}'),
    "a tag for thoughts only": (check_template, '"V3.1": lambda thinking, thought, answer: f"{END_THINK}{answer}"',
                                '"V3.1": lambda thinking, thought, answer: END_THINK * thinking + answer'),
    "a new line before the question": (check_template, "{history_text(turns, rule)}{USER}",
                                       "{history_text(turns, rule)}\\n{USER}"),
    "history without ends": (check_template, "*turn.response)}{EOS}", "*turn.response)}"),
    "every turn begins": (check_template, 'BOS + "".join(told)', "BOS + BOS.join(told)"),
    "nothing begins": (check_template, 'BOS + "".join(told)', '"".join(told)'),
    "the last mode for all turns": (check_template, "THINK if problem.thinking else", "THINK if turn % 2 else"),
    "all think": (check_template, "{THINK if problem.thinking else END_THINK}", "{THINK}"),
    "the question is forgotten": (check_template, "{USER}{turn.asked.prompt}{ASSISTANT}{HIS", "{ASSISTANT}{HIS"),
    "only the last turn is told": (check_template, "for turn in turns\n    ]", "for turn in turns[-1:]\n    ]"),
    "modes are forgotten": (check_rules, 'f"{THINK}{thought}{END_THINK}{answer}" if thinking else',
                            'f"{THINK}{thought}{END_THINK}{answer}" if True else'),
    "opening tags are lost": (check_rules, 'f"{THINK}{thought}{END_THINK}{answer}" if',
                              'f"{thought}{END_THINK}{answer}" if'),
    "the rule is not passed on": (check_rules, "history_text(turns, rule)}", "history_text(turns)}"),
    "the pair is no pair": (check_rules, 'f"{THINK}{END_THINK}{answer}",', 'f"{END_THINK}{answer}",'),
    "no tag but one": (check_rules, '"no tag": lambda thinking, thought, answer: answer',
                       '"no tag": lambda thinking, thought, answer: END_THINK + answer'),
    "what is cut off is an answer": (check_cut_off, 'END_THINK, " "), "")', 'END_THINK, " "), self.text)'),
    "what is cut off is nothing": (check_cut_off, 'Response(self.text.removesuffix(EOS).replace(END_THINK, " "), "")',
                                   'Response("", "")'),
    "an end inside a turn": (check_cut_off, ".removesuffix(EOS)", ""),
    "one history for all": (check_own_words, "{history_text(turns, rule)}{USER}",
                            "{history_text(conversations[0], rule)}{USER}"),
    "what would have been right": (check_own_words, "*turn.response)}{EOS}",
                                   "turn.response.thought, turn.asked.answer)}{EOS}"),
    "every question at every turn": (check_own_words, "[conversation[turn] for", "[conversation[0] for"),
    "answers change places": (check_own_words, "prompt, tokens in zip(conversations, asked, prompts, said, strict",
                              "prompt, tokens in zip(conversations, asked, prompts, said[::-1], strict"),
    "right is what is whole": (check_own_words, "response is not None and is_right(self.asked, response.answer)",
                               "response is not None"),
    "the prompt's tag is missing": (check_model, "turn_text(problem, TOKENIZER.decode(tokens))",
                                    "TOKENIZER.decode(tokens)"),
    "nobody listens to the end": (check_model, "stop=TOKENIZER.id(EOS)", "stop=()"),
    "limits are the default's": (check_model, "for prompt in prompts], max_new_tokens,",
                                 "for prompt in prompts], 200,"),
    "always sampled": (check_model, "max_new_tokens, temperature,\n", "max_new_tokens, 1.0,\n"),
    "one seed for all": (check_draws, "manual_seed(seed)", "manual_seed(0)"),
    "every turn throws the same dice": (check_draws, "generator=generator",
                                        "generator=torch.Generator().manual_seed(seed)"),
    "the prompt's tag is charged": (check_counts, " - (not is_thinking(turn.asked))", ""),
    "a tag too few": (check_counts, "(not is_thinking(turn.asked))", "1"),
    "what is read is words": (check_counts, "len(TOKENIZER.encode(turn.prompt))", "len(turn.prompt.split())"),
    "what is read is the question": (check_counts, "len(TOKENIZER.encode(turn.prompt))",
                                     "len(TOKENIZER.encode(turn.asked.prompt))"),
    "leaks are forgiven": (check_counts, "mean(leaks(turn.asked, turn.text)", "mean(0 * leaks(turn.asked, turn.text)"),
    "the first conversation's turn": (check_counts, "zip(*conversations, strict=True)",
                                      "zip(*conversations[:1], strict=True)"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_planted_mistake_shows(mistake):
    check, right, wrong = MISTAKES[mistake]
    with pytest.raises(AssertionError):
        check(planted(conversations, right, wrong))

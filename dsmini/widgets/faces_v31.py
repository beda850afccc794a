"""The Python faces of the widgets of chapter 9: the template explorer, and the explorer of thinking budgets."""

import html
import math

from traitlets import Bool, Dict, Enum, Int, List, TraitError, Unicode, observe, validate

from dsmini.widgets import template_cases
from dsmini.widgets.base import Widget, state
from dsmini.widgets.template_cases import EFFORTS, LABELS, MOST_TURNS, ROLES, Setting

_LONGEST_QUESTION = 120  # characters
_MOST_BUDGETS, _MOST_CURVES = 64, 8
_AXES = ("budget", "tokens")


def template_explorer(family="deepseek-v3.1", thinking=None, effort=None, turns=2, tools=False, keep_thoughts=False,
                      add_generation_prompt=True, question=""):  # fmt: skip
    """A small conversation as each family's template writes it, every character marked with who said it.

    family, thinking, effort, add_generation_prompt: as in `dsmini.language.chat.render`, None for its defaults.
    turns: questions asked, 1 to 3. tools: True for a tool that adds; turn 1 uses it.
    keep_thoughts: True for an error that clients make: earlier thoughts are glued to their answers, where no template
      finds them. question: the reader's own last question, 120 characters at most; "" for the conversation's.
    Returns an anywidget; every argument is a trait of the same name, and `text()` is the string that it shows. A change
    of family, mode or turns takes along what it makes impossible; any other impossible choice is a TraitError.
    The strings come from `render`, when the first widget is made.
    """
    mode = template_cases.first_mode(family) if thinking is None else thinking
    return TemplateExplorer(table=template_cases.table(), family=family, thinking=bool(mode),
                            effort=effort or "medium", turns=turns, tools=tools, keep_thoughts=keep_thoughts,
                            add_generation_prompt=add_generation_prompt, question=question)  # fmt: skip


def budget_explorer(curves=None, marks=(), efforts=None, budget=None, curve=None, across="budget"):
    """Accuracy against the budget of a thought: a measured curve, where it stands at a budget, and what that costs.

    curves: rows of `dsmini.tasks.measure.accuracy_at_budgets` (dicts with budget, accuracy, tokens, forced), or a dict
      label -> such rows, all at the same budgets; an invented model by default.
    marks: other ways to answer, dicts with label, tokens (the mean of a thought) and accuracy.
    efforts: named levels, name -> one of the budgets, such as {"low": 8, "high": 32}.
    budget: the one shown; the middle one by default. curve: the label shown; the first by default.
    across: "budget" for the budget as the horizontal axis, "tokens" for the tokens really spent.
    Returns an anywidget; every argument is a trait of the same name.
    """
    curves = {"an invented model": _invented_curve()} if curves is None else curves
    curves = curves if isinstance(curves, dict) else {"accuracy": curves}
    if not 1 <= len(curves) <= _MOST_CURVES:
        raise ValueError(f"curves: {len(curves)} of them, expected 1 to {_MOST_CURVES}")
    read = [{"label": str(label), "rows": _read_rows(label, rows)} for label, rows in curves.items()]
    budgets = [row["budget"] for row in read[0]["rows"]]
    for one in read:
        if [row["budget"] for row in one["rows"]] != budgets:
            raise ValueError(f"curves[{one['label']!r}]: not at the budgets of the first, expected {budgets}")
    return BudgetExplorer(
        curves=read,
        marks=[_read_point(f"marks[{i}]", mark, ("tokens", "accuracy"), ("label",)) for i, mark in enumerate(marks)],
        efforts={str(name): int(tokens) for name, tokens in (efforts or {}).items()},
        budget=budgets[len(budgets) // 2] if budget is None else budget,
        curve=read[0]["label"] if curve is None else curve,
        across=across,
    )


class TemplateExplorer(Widget):
    """The face of template_explorer.js. See `template_explorer`."""

    module = "template_explorer"
    table = state(Dict())
    family = state(Enum(tuple(LABELS)))
    thinking = state(Bool())
    effort = state(Enum(EFFORTS))
    turns = state(Int(min=1, max=MOST_TURNS))
    tools = state(Bool())
    keep_thoughts = state(Bool())
    add_generation_prompt = state(Bool())
    question = state(Unicode())

    @validate("thinking", "tools", "keep_thoughts")
    def _possible_choice(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        if (value or name == "thinking") and not self._knows(**{name: value}):
            told = f"{name} = {value!r}: {self.family} does not have it"
            raise TraitError(f"{told} with thinking = {self.thinking!r}, turns = {self.turns}")
        return value

    @validate("question")
    def _one_line(self, proposal):
        if len(proposal["value"]) > _LONGEST_QUESTION or len(proposal["value"].splitlines()) > 1:
            raise TraitError(f"question = {proposal['value']!r}: expected one line of at most {_LONGEST_QUESTION}")
        return proposal["value"]

    @observe("family", "thinking", "turns")
    def _keep_possible(self, _change):
        if not any(key[0] == str(int(self.thinking)) for key in self.table["cases"][self.family]):
            self.thinking = not self.thinking
        for name in ("tools", "keep_thoughts"):
            if getattr(self, name) and not self._knows(**{name: True}):
                setattr(self, name, False)

    def text(self):
        """The string that the widget shows, as `render` made it, with the reader's own question."""
        parts = self._pieces()
        last = max(i for i, (_, role, _) in enumerate(parts) if role == "user")
        if self.question and self.add_generation_prompt and not (self.tools and self.turns == 1):
            parts[last] = (self.question, "user", False)
        return "".join(text for text, *_ in parts)

    def fallback(self):
        ends = []
        for family, label in LABELS.items():
            for thinking in (False, True):
                asked = Setting(family, thinking, "medium" if family == "gpt-oss" else None, 1, False, False, True)
                if asked.key in self.table["cases"][family]:
                    parts = self._pieces(asked)
                    question = [role for _, role, _ in parts].index("user")
                    end = html.escape("".join(text for text, *_ in parts[question + 1 :])).replace("\n", "↵")
                    ends.append(f"<li>{label}, {'thinking' if thinking else 'not thinking'}: <code>{end}</code></li>")
        return (
            f"<p>What a template writes behind the user's question says whether the model thinks:</p>"
            f"<ul>{''.join(ends)}</ul><p>{LABELS[self.family]}, the whole of a conversation:</p>"
            f'<p style="white-space: pre-wrap; overflow-wrap: anywhere"><code>{html.escape(self.text())}</code></p>'
        )

    def _setting(self, **changes):
        effort = self.effort if self.family == "gpt-oss" else None
        return Setting(self.family, self.thinking, effort, self.turns, self.tools, self.keep_thoughts,
                       self.add_generation_prompt)._replace(**changes)  # fmt: skip

    def _knows(self, **changes):
        """Whether a choice is possible with those that come before it: the order is the key's."""
        upto = max(Setting._fields.index(name) for name in changes)
        start = self._setting(**changes).key[:upto]
        return any(key.startswith(start) for key in self.table["cases"][self.family])

    def _pieces(self, setting=None):
        """What is shown, as a list of (text, role, special)."""
        setting = self._setting() if setting is None else setting
        runs = self.table["cases"][setting.family][setting.key][1:]
        parts = [self.table["pieces"][i] for run in runs for i in self.table["runs"][run]]
        return [(text, ROLES[role], bool(special)) for text, role, special in parts]


class BudgetExplorer(Widget):
    """The face of budget_explorer.js. See `budget_explorer`."""

    module = "budget_explorer"
    curves = state(List(Dict()))
    marks = state(List(Dict()))
    efforts = state(Dict())
    budget = state(Int(min=0))
    curve = state(Unicode())
    across = state(Enum(_AXES))

    @validate("budget", "efforts")
    def _measured(self, proposal):
        name, value, known = proposal["trait"].name, proposal["value"], self._budgets()
        if other := {"budget": value} if name == "budget" else value:
            for level, tokens in other.items():
                if tokens not in known:
                    raise TraitError(f"{name}, {level} = {tokens}: expected one of {', '.join(map(str, known))}")
        return value

    @validate("curve")
    def _known_curve(self, proposal):
        labels = [curve["label"] for curve in self.curves]
        if proposal["value"] not in labels:
            raise TraitError(f"curve = {proposal['value']!r}: expected one of {', '.join(labels)}")
        return proposal["value"]

    def fallback(self):
        told = []
        for curve in self.curves:
            points = [f"{row['accuracy']:.0%} at {row['budget']}" for row in curve["rows"]]
            told.append(f"<li>{html.escape(curve['label'])}: {', '.join(points)}</li>")
        told += [f"<li>{html.escape(mark['label'])}: {mark['accuracy']:.0%}, with {mark['tokens']:g} tokens of thought"
                 "</li>" for mark in self.marks]  # fmt: skip
        levels = ", ".join(f"{html.escape(name)} = {tokens}" for name, tokens in self.efforts.items())
        return (
            f"<p>How often an answer is right when its thought is closed after so many tokens:</p>"
            f"<ul>{''.join(told)}</ul>" + (f"<p>Levels of effort: {levels} tokens.</p>" if levels else "")
        )

    def _budgets(self):
        return [row["budget"] for row in self.curves[0]["rows"]]


def _read_rows(label, rows):
    """A curve's rows as the widget wants them, by budget: rounded, no other keys."""
    if not 2 <= len(rows) <= _MOST_BUDGETS:
        raise ValueError(f"curves[{label!r}]: {len(rows)} budgets, expected 2 to {_MOST_BUDGETS}")
    fields = ("budget", "accuracy", "tokens", "forced")
    read = sorted((_read_point(f"curves[{label!r}][{i}]", row, fields) for i, row in enumerate(rows)),
                  key=lambda row: row["budget"])  # fmt: skip
    budgets = [row["budget"] for row in read]
    if len(set(budgets)) < len(budgets) or any(budget != int(budget) for budget in budgets):
        raise ValueError(f"curves[{label!r}]: budgets {budgets}, expected different whole numbers")
    return [{**row, "budget": int(row["budget"])} for row in read]


def _read_point(where, point, numbers, words=()):
    """A row's numbers, finite, from 0, shares up to 1, to four decimals; and its words as text."""
    if missing := [name for name in (*numbers, *words) if name not in point]:
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    read = {name: round(float(point[name]), 4) for name in numbers}
    for name, value in read.items():
        most = 1 if name in ("accuracy", "forced") else math.inf
        if not (math.isfinite(value) and 0 <= value <= most):
            raise ValueError(f"{where}: {name} = {value}, expected a number from 0{' to 1' if most == 1 else ''}")
    return {**{name: str(point[name]) for name in words}, **read}


def _invented_curve():
    """Rows of a model whose thoughts are 6 to 54 tokens long, each length as often, and right if they may end."""
    lengths = range(6, 55, 6)
    rows = []
    for budget in range(0, 65, 8):
        ended = [length <= budget for length in lengths]
        done = sum(ended) / len(ended)
        rows.append({"budget": budget, "accuracy": 1 / 3 + 2 / 3 * done, "forced": 1 - done,
                     "tokens": sum(min(length, budget) for length in lengths) / len(ended)})  # fmt: skip
    return rows

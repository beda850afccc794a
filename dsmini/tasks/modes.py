"""Two modes of one model: a problem asked with a thought, or without one.

DeepSeek-V3.1 is told by the last token of its prompt which mode it is in: `<think>` or `</think>` (its model card). The
one decision to know: what a model says is always read as what follows an opened thought. Without thinking the prompt
itself has closed the thought, so its `</think>` is put before what is said, and every verifier reads both modes alike.
"""

import dataclasses

from dsmini.language.frame import parse_response, prompt_text
from dsmini.language.tokenizer import END_THINK, EOS, THINK, TOKENIZER
from dsmini.tasks import rewards


@dataclasses.dataclass(frozen=True)
class Asked:
    """A problem of any task, and the mode in which it is asked. The rest is the problem's own."""

    problem: object
    thinking: bool

    @property
    def prompt(self):
        return self.problem.prompt

    @property
    def answer(self):
        return self.problem.answer

    @property
    def difficulty(self):
        return self.problem.difficulty

    @property
    def split(self):
        return self.problem.split


def is_right(asked, answer):
    """Whether an answer's text is right, by the verifier of the problem's own task."""
    return rewards.is_right(asked.problem, answer)


def in_mode(problems, thinking):
    """The problems, each asked in this mode: a list of `Asked`."""
    return [Asked(problem, thinking) for problem in problems]


def in_both_modes(problems):
    """A stream (see `dsmini.tasks.stream`) whose problems are asked twice, with a thought and without.

    Returns a stream of twice as many: first all with thinking, then the same ones without.
    """
    return lambda step: [asked for mode in (True, False) for asked in in_mode(problems(step), mode)]


def is_thinking(problem):
    """The mode that a problem is asked in: that of an `Asked`; any other problem is asked to be thought about."""
    return getattr(problem, "thinking", True)


def question_text(problem):
    """What a model reads before it answers this problem, in the problem's mode: see `frame.prompt_text`."""
    return prompt_text(problem.prompt, is_thinking(problem))


def turn_text(problem, said):
    """What a model said to this problem, as what follows an opened thought: `thought</think>answer<eos>`."""
    return said if is_thinking(problem) else END_THINK + said


def turns_of(problems, tokens, samples):
    """What a model said to problems, `samples` times each, as `generate` returns it: a list of turns for each problem.

    tokens: a list of problems x samples tensors, (n,) int64. For the turns see `turn_text`.
    """
    asked = [problem for problem in problems for _ in range(samples)]
    texts = [turn_text(*pair) for pair in zip(asked, map(TOKENIZER.decode, tokens), strict=True)]
    return [texts[i : i + samples] for i in range(0, len(texts), samples)]


def said_text(problem, turn):
    """The inverse of `turn_text`: what the model itself said."""
    return turn if is_thinking(problem) else turn.removeprefix(END_THINK)


def leaks(problem, text):
    """Whether a turn is in the wrong mode: an empty thought where one was asked for, or think tags where none was.

    text: as `turn_text` gives it, read up to its end of sentence. A thought that is cut off is no leak; what follows an
    empty one does not make it less so.
    """
    said, _, _ = said_text(problem, text).partition(EOS)
    if is_thinking(problem):
        thought, closed, _ = said.partition(END_THINK)
        return bool(closed) and not thought.replace(THINK, "").strip()
    return THINK in said or END_THINK in said


def mode_kept(problem, text):
    """A reward: 1.0 for a whole response in the mode that was asked for, else 0.0."""
    return float(parse_response(text) is not None and not leaks(problem, text))

"""Rewards: from what a model said to a number, by rules alone.

DeepSeek-R1-Zero was trained on two of them, accuracy and format, with no learned reward model for fear of its being
hacked (R1 report, section 2.2). A reward is a function of a problem and of the text said after its prompt; it returns
a float, or a dict of named parts that are summed.
"""

import importlib

from dsmini.language.frame import parse_response
from dsmini.language.tokenizer import SECOND_LANGUAGE


def is_right(problem, answer):
    """Whether an answer's text is right, by the verifier of the problem's own task.

    Raises ValueError for what is a problem of no task.
    """
    task = importlib.import_module(type(problem).__module__)
    if not hasattr(task, "is_right"):
        raise ValueError(f"problem = {problem!r}: expected a problem of a task")
    return task.is_right(problem, answer)


def accuracy(problem, text):
    """1.0 for a response with a right answer, 0.0 for anything else; an answer that is never closed is none."""
    response = parse_response(text)
    return float(response is not None and is_right(problem, response.answer))


def well_formed(problem, text):
    """1.0 for text of the form `thought</think>answer<eos>`, whatever it says; else 0.0."""
    return float(parse_response(text) is not None)


def language_consistency(problem, text):
    """The share of a thought's words that could be in either language which are in the user's: 0.0 to 1.0.

    Problems are asked in digits; `one` to `five` is the second language. Labels and swaps belong to both and do not
    count. 1.0 for a thought without such words, 0.0 for no response. R1 report, section 2.3.2: target-language words
    over all words of the thought.
    """
    response = parse_response(text)
    if response is None:
        return 0.0
    words = response.thought.split()
    foreign = sum(word in SECOND_LANGUAGE for word in words)
    own = sum(word.isdigit() for word in words)
    return own / (own + foreign) if own + foreign else 1.0


def combined(**rewards):
    """One reward of several, weighed: combined(accuracy=(accuracy, 1.0), ...) -> a reward with these named parts.

    Raises ValueError for a part that is no pair of a reward and its weight.
    """
    for name, pair in rewards.items():
        if not (isinstance(pair, tuple) and len(pair) == 2):
            raise ValueError(f"{name} = {pair!r}: expected a pair (reward, weight)")

    def reward(problem, text):
        return {name: weight * part(problem, text) for name, (part, weight) in rewards.items()}

    return reward

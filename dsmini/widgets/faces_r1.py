"""The Python faces of the widgets of chapter 7: the clip map, and the explorer of group advantages."""

import html
import math

from traitlets import Dict, Enum, Float, Int, List, TraitError, validate

from dsmini.accounting import policy
from dsmini.widgets import toys
from dsmini.widgets.base import Widget, state

_MOST_ANSWERS, _MOST_GROUPS = 16, 24


def clip_map(advantage=-1.0, ratio=1.5, epsilon=0.2, epsilon_high=None, rule="ppo"):
    """One token under the clip: objective and gradient against its ratio, for good and for bad tokens.

    advantage: -2 to 2. ratio: pi / pi_old, 0.05 to 8. epsilon, epsilon_high: 0.01 to 10, the second as the first by
    default. rule: "ppo", "none" or "inverted", as in `dsmini.accounting.policy.clipped_objective`.
    Returns an anywidget; every argument is a trait of the same name.
    """
    high = epsilon if epsilon_high is None else epsilon_high
    return ClipMap(advantage=advantage, ratio=ratio, epsilon=epsilon, epsilon_high=high, rule=rule)


def group_advantages(groups=None, group=1, scale_rewards="group", normalization="sequence", max_tokens=None):
    """From rewards to what pushes each token: a group of answers, its mean, its deviation, and the lengths.

    groups: a list of dicts, each with prompt (text) and answers, a list of 2 to 16 dicts with reward (a number),
      tokens (the length) and, optional, text; every group has as many answers. Four invented groups by default.
    group: the group shown, from 1. scale_rewards, normalization: as in `dsmini.accounting.policy`.
    max_tokens: what "constant" divides by; the longest answer's tokens by default.
    Returns an anywidget; every argument is a trait of the same name. The reader's changes are its trait `rewards`,
    P lists of G floats. "batch" and the tokens' weights are over all the groups.
    """
    rows = _read_groups(toys.answer_groups() if groups is None else groups)
    longest = max(answer["tokens"] for row in rows for answer in row["answers"])
    return GroupAdvantages(
        groups=rows,
        rewards=[[answer["reward"] for answer in row["answers"]] for row in rows],
        group=group,
        scale_rewards=scale_rewards,
        normalization=normalization,
        max_tokens=longest if max_tokens is None else max_tokens,
    )


class ClipMap(Widget):
    """The face of clip_map.js. See `clip_map`."""

    module = "clip_map"
    advantage = state(Float(min=-2, max=2))
    ratio = state(Float(min=0.05, max=8))
    epsilon = state(Float(min=0.01, max=10))
    epsilon_high = state(Float(min=0.01, max=10))
    rule = state(Enum(policy.RULES))

    def fallback(self):
        rows = []
        for rule, name in zip(("ppo", "none", "inverted"), ("PPO", "no clip", "the inverted clip"), strict=True):
            point = (self.ratio, self.advantage, self.epsilon, self.epsilon_high, rule)
            objective, gradient = policy.clipped_objective(*point), policy.clipped_gradient(*point)
            rows.append(f"<li>{name}: objective {objective:.2f}, gradient {gradient:.2f}</li>")
        low = (
            f"has fallen below {1 - self.epsilon:g}"
            if self.epsilon < 1
            else f"would lie below {1 - self.epsilon:g}, so none"
        )
        return (
            f"<p>PPO cuts a token's gradient in two of four cases: a good token that is more than "
            f"{1 + self.epsilon_high:g} times as likely as when it was drawn, and a bad one that {low}. A good token "
            f"that became rarer and a bad one that became likelier are always pushed back. At advantage "
            f"{self.advantage:g} and ratio {self.ratio:g}:</p><ul>{''.join(rows)}</ul>"
        )


class GroupAdvantages(Widget):
    """The face of group_advantages.js. See `group_advantages`."""

    module = "group_advantages"
    groups = state(List(Dict()))
    rewards = state(List(List(Float())))
    group = state(Int(min=1))
    scale_rewards = state(Enum(policy.SCALES))
    normalization = state(Enum(policy.NORMALIZATIONS))
    max_tokens = state(Int(min=1))

    @validate("group")
    def _possible_group(self, proposal):
        if proposal["value"] > len(self.groups):
            raise TraitError(f"group = {proposal['value']}: expected at most {len(self.groups)}")
        return proposal["value"]

    @validate("rewards")
    def _possible_rewards(self, proposal):
        found, wanted = ([len(row) for row in proposal["value"]], [len(row["answers"]) for row in self.groups])
        if found != wanted or not all(math.isfinite(x) for row in proposal["value"] for x in row):
            raise TraitError(f"rewards: groups of {found}, expected finite numbers for the answers, {wanted}")
        return proposal["value"]

    def advantages(self):
        """The advantages of the rewards as they stand: P lists of G floats."""
        return policy.group_advantages(self.rewards, self.scale_rewards)

    def fallback(self):
        told = [
            _told(row, *numbers) for row, *numbers in zip(self.groups, self.rewards, self.advantages(), strict=True)
        ]
        silent = sum(max(rewards) == min(rewards) for rewards in self.rewards)
        return (
            f"<p>Groups of {len(self.rewards[0])} answers and what they are worth, scale {self.scale_rewards!r}:</p>"
            f"<ul>{''.join(told)}</ul>"
            f"<p>A group whose answers all have the same reward has advantage 0 everywhere and no gradient: "
            f"{silent} of {len(self.groups)} here.</p>"
        )


def _told(row, rewards, advantages):
    """A group in a sentence, for a page without JavaScript."""
    mean, deviation = sum(rewards) / len(rewards), policy.deviation(rewards)
    return (
        f"<li><q>{html.escape(row['prompt'])}</q>: mean reward {mean:.2f}, standard deviation {deviation:.2f}, "
        f"advantages from {min(advantages):.2f} to {max(advantages):.2f}</li>"
    )


def _read_groups(groups):
    """The groups as the widget wants them, if they can be shown: plain numbers, no other keys."""
    if not 1 <= len(groups) <= _MOST_GROUPS:
        raise ValueError(f"groups: {len(groups)} of them, expected 1 to {_MOST_GROUPS}")
    rows = []
    for i, group in enumerate(groups, 1):
        if missing := {"prompt", "answers"} - set(group):
            raise ValueError(f"group {i} lacks {', '.join(sorted(missing))}")
        answers = [_read_answer(f"group {i}, answer {j}", answer) for j, answer in enumerate(group["answers"], 1)]
        rows.append({"prompt": str(group["prompt"]), "answers": answers})
    sizes = {len(row["answers"]) for row in rows}
    if len(sizes) != 1 or not 2 <= min(sizes) <= _MOST_ANSWERS:
        raise ValueError(f"groups of {sorted(sizes)} answers, expected 2 to {_MOST_ANSWERS}, the same for every group")
    return rows


def _read_answer(where, answer):
    if missing := {"reward", "tokens"} - set(answer):
        raise ValueError(f"{where} lacks {', '.join(sorted(missing))}")
    reward, tokens = float(answer["reward"]), int(answer["tokens"])
    if not math.isfinite(reward) or tokens < 1:
        raise ValueError(f"{where}: reward = {reward}, tokens = {tokens}, expected a finite number, 1 token or more")
    text = {"text": str(answer["text"])} if answer.get("text") else {}
    return {"reward": round(reward, 4), "tokens": tokens, **text}

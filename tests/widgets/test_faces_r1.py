"""The faces of the clip map and of the group's advantages: what they take, refuse, and say without JavaScript."""

import pytest
import torch
from traitlets import TraitError

from dsmini import widgets
from dsmini.accounting import policy
from dsmini.training import grpo
from dsmini.training.rollout import Rollout

ANSWERS = [{"reward": 1.0, "tokens": 4}, {"reward": 0.0, "tokens": 9}]
GROUP = {"prompt": "q", "answers": ANSWERS}


def group(**changes):
    return [{**GROUP, "answers": [{**ANSWERS[0], **changes}, ANSWERS[1]]}]


@pytest.mark.parametrize(
    ("make", "changes"),
    [
        (widgets.clip_map, {"advantage": 0.5, "ratio": 0.3, "epsilon": 10.0, "epsilon_high": 0.28, "rule": "inverted"}),
        (widgets.group_advantages, {"group": 4, "scale_rewards": "none", "normalization": "constant",
                                    "max_tokens": 512, "rewards": [[0.5] * 12] * 4}),
    ],
)  # fmt: skip
def test_traits_go_both_ways(make, changes):
    widget, other = make(), make()
    for name, value in changes.items():
        setattr(widget, name, value)
    assert {name: widget.get_state()[name] for name in changes} == changes
    other.set_state(changes)
    assert {name: getattr(other, name) for name in changes} == changes


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (widgets.clip_map, {"advantage": 2.5}, "advantage"),
        (widgets.clip_map, {"ratio": 0.01}, "ratio"),
        (widgets.clip_map, {"epsilon": 0}, "epsilon"),
        (widgets.clip_map, {"epsilon_high": 11}, "epsilon_high"),
        (widgets.clip_map, {"rule": "max"}, "rule"),
        (widgets.group_advantages, {"groups": []}, "groups: 0 of them, expected 1 to 24"),
        (widgets.group_advantages, {"groups": [{"prompt": "q"}]}, "group 1 lacks answers"),
        (
            widgets.group_advantages,
            {"groups": [GROUP, {"prompt": "q", "answers": [{}]}]},
            "group 2, answer 1 lacks rew",
        ),
        (widgets.group_advantages, {"groups": [{**GROUP, "answers": ANSWERS[:1]}]}, "groups of \\[1\\] answers"),
        (widgets.group_advantages, {"groups": [GROUP, {**GROUP, "answers": ANSWERS * 2}]}, "groups of \\[2, 4\\]"),
        (widgets.group_advantages, {"groups": [{**GROUP, "answers": ANSWERS * 9}]}, "expected 2 to 16"),
        (widgets.group_advantages, {"groups": group(tokens=0)}, "group 1, answer 1: reward = 1.0, tokens = 0"),
        (widgets.group_advantages, {"groups": group(reward=float("nan"))}, "reward = nan"),
        (widgets.group_advantages, {"group": 5}, "group = 5: expected at most 4"),
        (widgets.group_advantages, {"group": 0}, "group"),
        (widgets.group_advantages, {"scale_rewards": "std"}, "scale_rewards"),
        (widgets.group_advantages, {"normalization": "mean"}, "normalization"),
        (widgets.group_advantages, {"max_tokens": 0}, "max_tokens"),
    ],
)
def test_bad_arguments_are_named(make, arguments, message):
    with pytest.raises((ValueError, TraitError), match=message):
        make(**arguments)


@pytest.mark.parametrize("rewards", [[[1.0]], [[1.0, 2.0, 3.0]], [[1.0, float("inf")]], [[0.0, 1.0]] * 2])
def test_rewards_of_another_shape_are_refused(rewards):
    own = widgets.group_advantages([GROUP])
    with pytest.raises(TraitError, match="rewards: groups of"):
        own.rewards = rewards
    assert own.rewards == [[1.0, 0.0]]


def test_one_epsilon_serves_both_sides():
    assert widgets.clip_map(epsilon=0.3).epsilon_high == 0.3
    assert widgets.clip_map(epsilon=0.2, epsilon_high=0.28).epsilon_high == 0.28


def test_a_rollout_fits_and_its_advantages_are_those_of_training():
    rewards = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.25, 0.25]], dtype=torch.float64)
    tokens = [torch.zeros(n, dtype=torch.int64) for n in (3, 5, 8, 1, 2, 2)]
    rollout = Rollout(
        ["p", "q"], [], tokens, [], torch.ones(6, dtype=torch.bool), [list("abc"), list("def")], rewards, {}
    )
    groups = [
        {"prompt": problem, "answers": [{"text": text, "reward": reward, "tokens": len(tokens[3 * i + j])}
                                        for j, (text, reward) in enumerate(zip(texts, row, strict=True))]}
        for i, (problem, texts, row) in enumerate(zip(rollout.problems, rollout.texts, rewards, strict=True))
    ]  # fmt: skip
    for scale in policy.SCALES:
        own = widgets.group_advantages(groups, scale_rewards=scale)
        theirs = grpo.group_advantages(rewards, scale)
        torch.testing.assert_close(torch.tensor(own.advantages()).double(), theirs, rtol=1e-6, atol=1e-7)
    assert own.max_tokens == 8 and own.groups[1]["answers"][2] == {"text": "f", "reward": 0.25, "tokens": 2}


def test_the_fallback_tells_the_numbers():
    told = widgets.clip_map(advantage=-1, ratio=5, epsilon=0.2, epsilon_high=0.28).fallback()
    assert "PPO: objective -5.00, gradient -5.00" in told
    assert "the inverted clip: objective -1.28, gradient 0.00" in told
    assert "more than 1.28 times as likely" in told and "fallen below 0.8" in told
    told = widgets.group_advantages().fallback()
    assert "mean reward 0.08, standard deviation 0.29, advantages from -0.29 to 3.17" in told
    assert "no gradient: 2 of 4 here" in told
    own = widgets.group_advantages(scale_rewards="none")
    own.rewards = [[1.0] * 12] * 3 + [[1.0] * 6 + [0.0] * 6]
    assert "advantages from -0.50 to 0.50" in own.fallback() and "3 of 4 here" in own.fallback()


def test_text_from_a_run_is_escaped():
    evil = "</ds-widget><script>'"
    markup = widgets.group_advantages(
        [{"prompt": evil, "answers": [{**one, "text": evil} for one in ANSWERS]}]
    ).to_html()
    assert "<script" not in markup and markup.count("</ds-widget>") == 1

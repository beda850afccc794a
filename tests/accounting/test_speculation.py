"""The arithmetic of speculative decoding: chances by hand, against the tensor code, and against a simulation."""

import random

import pytest
import torch

from dsmini.accounting import speculation
from dsmini.inference import speculative

P, Q = [0.5, 0.3, 0.2, 0.0], [0.25, 0.25, 0.25, 0.25]


def test_the_acceptance_is_the_chance_that_a_draft_stays():
    assert speculation.acceptance(P, Q) == pytest.approx(0.25 + 0.25 + 0.2)
    by_rule = sum(q * min(1, p / q) for p, q in zip(P, Q, strict=True))
    assert speculation.acceptance(P, Q) == pytest.approx(by_rule)


def test_nothing_is_lost():
    """A draft that stays, or else a draw from the residual: together exactly p."""
    left, rest = speculation.residual(P, Q), 1 - speculation.acceptance(P, Q)
    assert sum(left) == pytest.approx(1)
    assert [min(p, q) + rest * x for p, q, x in zip(P, Q, left, strict=True)] == pytest.approx(P)
    assert speculation.residual(P, P) == P


def test_rule_and_residual_are_the_tensor_code_s():
    generator = torch.Generator().manual_seed(0)
    p, q = torch.rand(2, 200, 6, generator=generator, dtype=torch.float64).softmax(-1)
    uniform, draft = torch.rand(200, generator=generator, dtype=torch.float64), torch.arange(200) % 6
    kept = speculative.accept(draft, p, q, uniform).tolist()
    left = speculative.residual(p, q)
    assert 0 < sum(kept) < 200
    for i in range(200):
        d = int(draft[i])
        assert speculation.is_accepted(p[i, d].item(), q[i, d].item(), uniform[i].item()) == kept[i]
        assert speculation.residual(p[i].tolist(), q[i].tolist()) == pytest.approx((left[i] / left[i].sum()).tolist())


@pytest.mark.parametrize(
    ("rate", "depth", "tokens"), [(0.85, 1, 1.85), (0.9, 1, 1.9), (0.5, 3, 1.875), (0, 4, 1), (1, 4, 5)]
)
def test_expected_tokens_are_exact(rate, depth, tokens):
    assert speculation.expected_tokens(rate, depth) == pytest.approx(tokens, abs=1e-12)


def test_expected_tokens_agree_with_a_simulation():
    pick, total = random.Random(0), 0
    for _ in range(20_000):
        kept = next((i for i in range(3) if pick.random() >= 0.8), 3)
        total += kept + 1
    assert total / 20_000 == pytest.approx(speculation.expected_tokens(0.8, 3), abs=0.03)

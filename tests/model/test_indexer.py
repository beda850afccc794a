"""The lightning indexer: its equation, its ties, and the FP8 that it is simulated in."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import CONFIGS, difference, shake

from dsmini.model.indexer import LightningIndexer, hadamard, round_to_fp8, select_topk
from dsmini.model.layers import RotaryEmbedding

CONFIG = CONFIGS["sparse mla"]


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def indexer_and_inputs(config=CONFIG, length=11, seed=0):
    """A random indexer, hidden states, query latents and rotary tables."""
    indexer = shake(LightningIndexer(config), seed).double()
    x, c_q = random(2, length, config.hidden_size), random(2, length, config.q_lora_rank, seed=1)
    return indexer, x, c_q, RotaryEmbedding(config)(torch.arange(length), torch.float64)


def half_split(vector, cos, sin):
    """Dimension i and dimension i + d/2 as one complex number, turned."""
    half = len(vector) // 2
    turned = torch.complex(vector[:half], vector[half:]) * torch.complex(cos, sin)
    return torch.cat((turned.real, turned.imag))


def written_out(indexer, x, c_q, rope, config):
    """The report's equation, one pair of tokens and one head at a time; the rest as the released code has it."""
    d_r, d_i, heads = config.qk_rope_head_dim, config.index_head_dim, config.index_n_heads
    scores = torch.zeros(*x.shape[:2], x.shape[1], dtype=torch.float64)
    for b in range(len(x)):
        keys = []
        for s, h in enumerate(x[b]):
            k = indexer.wk.weight @ h
            k = (k - k.mean()) / (k.var(unbiased=False) + 1e-6).sqrt() * indexer.k_norm.weight + indexer.k_norm.bias
            keys.append(torch.cat((half_split(k[:d_r], rope[0][s], rope[1][s]), k[d_r:])))
        for t, h in enumerate(x[b]):
            weights = indexer.weights_proj.weight @ h
            for j in range(heads):
                q = indexer.wq_b.weight[j * d_i : (j + 1) * d_i] @ c_q[b, t]
                q = torch.cat((half_split(q[:d_r], rope[0][t], rope[1][t]), q[d_r:]))
                for s, k in enumerate(keys):
                    scores[b, t, s] += weights[j] * heads**-0.5 * d_i**-0.5 * torch.clamp(q @ k, min=0)
    return scores


@torch.no_grad()
def test_scores_are_the_reports_equation():
    indexer, x, c_q, rope = indexer_and_inputs(length=5)
    assert difference(indexer(x, c_q, rope), written_out(indexer, x, c_q, rope, CONFIG)) < 1e-13


def test_scores_take_both_signs_and_exact_zeros():
    indexer, x, c_q, rope = indexer_and_inputs(length=40)
    scores = indexer(x, c_q, rope)
    assert (scores < 0).any() and (scores > 0).any() and (scores == 0).any(), "every head may say nothing"


def test_every_parameter_learns_from_the_scores():
    indexer, x, c_q, rope = indexer_and_inputs()
    indexer(x, c_q, rope).pow(2).sum().backward()
    assert all(parameter.grad.any() for parameter in indexer.parameters())


def test_weights_carry_the_checkpoints_names_and_shapes():
    indexer = LightningIndexer(CONFIG)
    assert {name: tuple(parameter.shape) for name, parameter in indexer.named_parameters()} == {
        "wq_b.weight": (5 * 8, 14),
        "wk.weight": (8, 32),
        "k_norm.weight": (8,),
        "k_norm.bias": (8,),
        "weights_proj.weight": (5, 32),
    }
    assert indexer.k_norm.eps == 1e-6


def test_half_precision_is_scored_in_float32():
    indexer, x, c_q, rope = indexer_and_inputs()
    exact = indexer(x, c_q, rope)
    half = indexer.bfloat16()(x.bfloat16(), c_q.bfloat16(), tuple(table.bfloat16() for table in rope))
    assert half.dtype == torch.float32
    assert difference(half, exact) < 0.05 * exact.abs().max()


# ---- ties -----------------------------------------------------------------------------------------------------------


def stable(scores, k):
    """The k best places of one list of scores, the lower place first among equals."""
    return sorted(sorted(range(len(scores)), key=lambda place: -scores[place])[:k])


@given(st.lists(st.lists(st.integers(-2, 2), min_size=9, max_size=9), min_size=1, max_size=6), st.integers(1, 9))
def test_ties_go_to_the_lowest_place(rows, k):
    chosen = select_topk(torch.tensor(rows, dtype=torch.float32), k)
    assert [sorted(places) for places in chosen.tolist()] == [stable(row, k) for row in rows]


@given(st.lists(st.integers(-1, 1), min_size=1, max_size=30), st.integers(1, 8), st.integers(0, 30))
def test_hidden_tokens_change_no_choice(row, k, hidden):
    """What a longer row hides may not decide a tie: a cached pass has no such places."""
    k = min(k, len(row))
    scores = torch.tensor(row + [float("-inf")] * hidden)
    assert sorted(select_topk(scores[None], k)[0].tolist()) == stable(row, k)


def test_torch_topk_alone_would_not_do():
    """Why `select_topk` exists: among equals, `torch.topk` chooses by the length of the row."""
    choices = {tuple(sorted(torch.zeros(n).topk(4).indices.tolist())) for n in range(5, 200)}
    assert choices != {(0, 1, 2, 3)}


def test_choice_without_ties_is_topk():
    scores = random(3, 7, 50)
    assert torch.equal(select_topk(scores, 9).sort(-1).values, scores.topk(9).indices.sort(-1).values)


def test_negative_zero_is_zero():
    assert select_topk(torch.tensor([[0.0, -0.0, 0.0, -0.0, -1.0]]), 2).sort().values.tolist() == [[0, 1]]


# ---- Hadamard and FP8 -----------------------------------------------------------------------------------------------


def test_hadamard_is_the_matrix_of_its_name():
    matrix = hadamard(torch.eye(8, dtype=torch.float64)) * 8**0.5
    assert torch.equal(matrix.abs().round(decimals=12), torch.ones(8, 8, dtype=torch.float64))
    assert difference(matrix @ matrix.T, 8 * torch.eye(8)) < 1e-12


@given(st.integers(0, 7), st.integers(0, 9))
def test_hadamard_keeps_dot_products_and_is_its_own_inverse(power, seed):
    x, y = random(2, 3, 2**power, seed=seed)
    assert difference((hadamard(x) * hadamard(y)).sum(-1), (x * y).sum(-1)) < 1e-12
    assert difference(hadamard(hadamard(x)), x) < 1e-12


def test_hadamard_spreads_an_outlier():
    x = torch.zeros(64)
    x[5] = 8.0
    assert torch.equal(hadamard(x).abs(), torch.ones(64))


def test_hadamard_needs_a_power_of_two():
    with pytest.raises(ValueError, match="hadamard: a last dimension of 12, expected a power of two"):
        hadamard(torch.zeros(3, 12))


def test_hadamard_changes_no_score():
    indexer, x, c_q, rope = indexer_and_inputs()
    plain = indexer(x, c_q, rope)
    indexer.hadamard = True
    assert difference(indexer(x, c_q, rope), plain) < 1e-12
    assert difference(indexer.keys(x, rope), indexer.keys(x, rope).flip(0)) > 0.1


def test_fp8_moves_scores_a_little_and_keeps_most_of_the_choice():
    indexer, x, c_q, rope = indexer_and_inputs(length=64)
    exact = indexer(x, c_q, rope)
    indexer.hadamard = indexer.fp8 = True
    rounded = indexer(x, c_q, rope)
    assert 0 < difference(rounded, exact) < 0.1 * exact.abs().max()
    chosen = [torch.zeros_like(s, dtype=torch.bool).scatter_(-1, select_topk(s, 8), True) for s in (exact, rounded)]
    assert 0.8 < (chosen[0] & chosen[1]).sum() / chosen[0].sum() < 1


def test_fp8_has_a_scale_for_every_vector_and_lets_gradients_pass():
    x = torch.tensor([[1.0, 2.0, 448.0], [0.001, 0.002, 0.448]], dtype=torch.float64, requires_grad=True)
    rounded = round_to_fp8(x)
    assert rounded.dtype == torch.float64
    assert difference(rounded / x.detach(), torch.ones(2, 3)) < 0.07
    rounded.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))

"""One MLA layer against transformers' `DeepseekV3Attention`, at positions and with masks that no model asks for."""

import pytest
import torch
from tiny import difference, shake
from transformers import DynamicCache
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Attention, DeepseekV3RotaryEmbedding
from twins import YARN, our_config, precision, rope, v3

from dsmini.model.cache import LatentCache
from dsmini.model.layers import RotaryEmbedding
from dsmini.model.mla import LatentAttention

CONFIGS = {
    "plain RoPE": v3(),
    "YaRN": v3(rope_parameters=YARN),
    "YaRN on rope alone": v3(rope_parameters=rope(mscale=1.0)),
    "plain queries": v3(q_lora_rank=None, rope_parameters=YARN),
    "biases, half-split": v3(attention_bias=True, rope_interleave=False),
}
POSITIONS = {
    "from zero": torch.arange(9)[None],
    "from far away": torch.arange(9)[None] + 5000,
    "other in every row": torch.stack((torch.arange(9), 3 * torch.arange(9) + 100)),
}


def layers(config, seed=0, dtype=torch.float64):
    theirs = shake(DeepseekV3Attention(config, layer_idx=0), seed, gain=1.5 if dtype == torch.float64 else 1.0)
    ours = LatentAttention(our_config(config))
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 9, config.hidden_size, dtype=dtype, generator=torch.Generator().manual_seed(seed))
    return theirs.to(dtype).eval(), ours.to(dtype).eval(), x


@torch.no_grad()
def their_output(layer, x, positions, visible, cache=None):
    """visible: (T, S) bool; transformers wants the mask as numbers to add."""
    mask = torch.zeros(visible.shape, dtype=x.dtype).masked_fill(~visible, float("-inf"))[None, None]
    table = DeepseekV3RotaryEmbedding(layer.config)  # inverse frequencies are float32 in every precision
    with precision(x.dtype):
        return layer(x, table(x, positions), mask, past_key_values=cache)[0]


@torch.no_grad()
def our_output(layer, config, x, positions, mask=None, cache=None):
    return layer(x, RotaryEmbedding(our_config(config))(positions, x.dtype), mask, cache)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", CONFIGS)
def test_outputs_are_equal(name, seed, positions):
    config, positions = CONFIGS[name], POSITIONS[positions]
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-5)):
        theirs, ours, x = layers(config, seed, dtype)
        expected = their_output(theirs, x, positions, torch.ones(9, 9).tril().bool())
        assert expected.std() > 0.2
        assert difference(our_output(ours, config, x, positions), expected) <= tolerance


@pytest.mark.parametrize("name", CONFIGS)
def test_outputs_are_equal_under_a_mask(name):
    config, positions = CONFIGS[name], POSITIONS["from zero"]
    theirs, ours, x = layers(config)
    visible = torch.ones(9, 9).tril().bool() & (torch.rand(9, 9, generator=torch.Generator().manual_seed(1)) < 0.6)
    visible |= torch.eye(9).bool()
    expected = their_output(theirs, x, positions, visible)
    assert difference(our_output(ours, config, x, positions, visible[None, None]), expected) <= 1e-12


@pytest.mark.parametrize("name", CONFIGS)
def test_both_caches_continue_alike(name):
    config = CONFIGS[name]
    theirs, ours, x = layers(config)
    whole = their_output(theirs, x, POSITIONS["from zero"], torch.ones(9, 9).tril().bool())
    their_cache = DynamicCache(config=config)
    our_cache = LatentCache(our_config(config), batch_size=2, max_tokens=9, dtype=torch.float64)
    for start, end in ((0, 4), (4, 7), (7, 8), (8, 9)):
        positions = our_cache.begin(end - start)
        mask = our_cache.mask(positions)
        found = our_output(ours, config, x[:, start:end], positions, mask, our_cache.layers[0])
        our_cache.finish()
        visible = torch.arange(end) <= torch.arange(start, end)[:, None]
        expected = their_output(theirs, x[:, start:end], positions, visible, their_cache)
        assert difference(found, expected) <= 1e-12
        assert difference(found, whole[:, start:end]) <= 1e-12

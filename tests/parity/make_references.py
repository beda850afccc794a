"""Make the stored references of `dsmini.reference`: python tests/parity/make_references.py

Each one is a tiny random model of another library, run in float64: its config, weights, inputs and outputs. The
weights are float32 numbers (so the file stays small), which float64 holds exactly. TRL's objective has no weights, and
a list of options in place of a config. Needs the extra `parity`.
"""

import functools
import importlib.metadata
import itertools
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import save, save_file
from transformers import (
    AutoModelForCausalLM,
    DeepseekV2Config,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    DeepseekV32Config,
    DeepseekV32ForCausalLM,
    FineGrainedFP8Config,
)
from transformers.integrations.finegrained_fp8 import Fp8Dequantize, Fp8Quantize
from transformers.modeling_layers import MtpModel
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Moe
from transformers.models.deepseek_v3.modeling_deepseek_v3 import (
    DeepseekV3Attention,
    DeepseekV3MoE,
    DeepseekV3RotaryEmbedding,
)
from true_float64 import TrueFloat64

from dsmini.files import atomically

FOLDER = Path(__file__).resolve().parents[2] / "dsmini" / "reference"

YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 40.0, "beta_fast": 32.0, "beta_slow": 1.0,
        "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 64}  # fmt: skip


def deepseek_v3_attention():
    """One MLA layer with query compression and YaRN, 2 rows of 24 tokens: (config, weights, inputs)."""
    config = DeepseekV3Config(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=4, vocab_size=97,
        intermediate_size=96, first_k_dense_replace=1, q_lora_rank=24, kv_lora_rank=16, qk_nope_head_dim=16,
        qk_rope_head_dim=8, v_head_dim=12, max_position_embeddings=40 * 64, rope_parameters=YARN,
    )  # fmt: skip
    random = torch.Generator().manual_seed(20241226)
    weights = {}
    for name, weight in DeepseekV3Attention(config, layer_idx=0).state_dict().items():
        noise = torch.randn(weight.shape, generator=random)
        gain = 0.8 if name == "o_proj.weight" else 1.5  # outputs of size 1, attention far from uniform
        weights[name] = 1 + 0.1 * noise if weight.dim() == 1 else gain * weight.shape[1] ** -0.5 * noise
    x = torch.randn(2, 24, config.hidden_size, generator=random, dtype=torch.float64)
    return config, weights, {"x": x, "positions": torch.arange(x.shape[1])[None]}


def run_deepseek_v3_attention(config, weights, inputs):
    """What transformers answers: {"y": (B, T, D) float64}."""
    config._attn_implementation = "eager"
    attention = DeepseekV3Attention(config, layer_idx=0).double().eval()
    attention.load_state_dict(weights)
    rope = DeepseekV3RotaryEmbedding(config)  # made out here: inverse frequencies are float32 in every precision
    length = inputs["x"].shape[1]
    causal = torch.full((length, length), float("-inf"), dtype=torch.float64).triu(1)[None, None]
    with torch.no_grad(), TrueFloat64():
        y, _ = attention(inputs["x"], rope(inputs["x"], inputs["positions"]), causal)
    return {"y": y}


EXPERTS = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4,
           "vocab_size": 61, "intermediate_size": 48, "first_k_dense_replace": 0, "n_routed_experts": 16,
           "n_group": 4, "topk_group": 2, "num_experts_per_tok": 4, "moe_intermediate_size": 12}  # fmt: skip


def deepseek_v3_moe():
    """One MoE layer, 16 experts in 4 groups; 2 rows of 24 tokens: (config, weights, inputs).

    Biases lie below zero, so that most biased scores do: a mask of 0 instead of -inf chooses other experts.
    """
    config = DeepseekV3Config(**EXPERTS, n_shared_experts=1, routed_scaling_factor=2.5, norm_topk_prob=True)
    random = torch.Generator().manual_seed(20241229)
    return config, *moe_weights(DeepseekV3MoE(config), config.hidden_size, random)


def deepseek_v2_moe():
    """The same with V2's softmax router: groups by their best expert, weights not normalised, times 16."""
    config = DeepseekV2Config(
        **EXPERTS, n_shared_experts=2, routed_scaling_factor=16.0, norm_topk_prob=False,
        topk_method="group_limited_greedy",
    )  # fmt: skip
    random = torch.Generator().manual_seed(20240507)
    return config, *moe_weights(DeepseekV2Moe(config), config.hidden_size, random)


def moe_weights(layer, width, random):
    """Weights for one of their MoE layers, and tokens for it."""
    weights = {}
    for name, weight in layer.state_dict().items():
        noise = torch.randn(weight.shape, generator=random)
        weights[name] = 0.3 * noise - 0.9 if weight.dim() == 1 else 1.5 * weight.shape[-1] ** -0.5 * noise
    return weights, {"x": torch.randn(2, 24, width, generator=random, dtype=torch.float64)}


def run_moe(config, weights, inputs):
    """{"y": (B, T, D), "routing": (B, T, E), the weight of each expert for each token, 0 where it was not chosen}."""
    config._experts_implementation = "eager"
    kind = DeepseekV2Moe if config.model_type == "deepseek_v2" else DeepseekV3MoE
    layer = kind(config).double().eval()
    layer.load_state_dict(weights)
    x = inputs["x"]
    with torch.no_grad(), TrueFloat64():
        _, chosen_weights, experts = layer.gate(x)
        routing = x.new_zeros(experts.shape[0], config.n_routed_experts).scatter_(1, experts, chosen_weights)
        return {"y": layer(x), "routing": routing.unflatten(0, x.shape[:2])}


def deepseek_v3_mtp():
    """A dense layer and V3's MTP module, with experts, behind it; 2 rows of 16 tokens: (config, weights, inputs)."""
    config = DeepseekV3Config(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=4, vocab_size=61,
        intermediate_size=48, first_k_dense_replace=1, q_lora_rank=14, kv_lora_rank=12, qk_nope_head_dim=8,
        qk_rope_head_dim=8, v_head_dim=8, n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=2,
        moe_intermediate_size=16, n_group=4, topk_group=2, routed_scaling_factor=2.5, num_mtp_layers=1,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, max_position_embeddings=256,
    )  # fmt: skip
    random = torch.Generator().manual_seed(20241227)
    weights = {}
    for prefix, module in zip(("main.", "mtp."), deepseek_v3_with_mtp(config), strict=True):
        for name, weight in module.state_dict().items():
            if not name.startswith(("embed_tokens", "shared_head")):  # the module's are the main model's
                noise = torch.randn(weight.shape, generator=random)
                small = 1 + 0.2 * noise if name.endswith("norm.weight") else 0.2 * noise
                weights[prefix + name] = small if weight.dim() == 1 else 1.5 * weight.shape[-1] ** -0.5 * noise
    return config, weights, {"tokens": torch.randint(config.vocab_size, (2, 16), generator=random)}


def deepseek_v3_with_mtp(config):
    """Their main model and their MTP modules, which share its embedding and its head."""
    config._attn_implementation = config._experts_implementation = "eager"
    main = DeepseekV3ForCausalLM(config).eval()
    return main, MtpModel(main, config.num_mtp_layers).eval()


def run_deepseek_v3_mtp(config, weights, inputs):
    """{"hidden": (B, T, D) of the main model, "ahead": (B, T - 1, D) of the module, "logits": (B, T - 1, V)}."""
    main, mtp = deepseek_v3_with_mtp(config)
    main.load_state_dict({key[5:]: weight for key, weight in weights.items() if key.startswith("main.")})
    mtp.load_state_dict({key[4:]: weight for key, weight in weights.items() if key.startswith("mtp.")}, strict=False)
    main, mtp = main.double(), mtp.double()
    tokens = inputs["tokens"]
    with torch.no_grad(), TrueFloat64():
        hidden = main.model(tokens).last_hidden_state
        positions = torch.arange(1, tokens.shape[1])[None]  # theirs are those of the tokens read
        ahead = mtp.forward_layer(0, hidden[:, :-1], positions, None, input_ids=tokens[:, 1:])
        return {"hidden": hidden, "ahead": ahead, "logits": mtp.shared_head(ahead)}


def deepseek_v3_model():
    """A whole small V3, one dense layer and two with experts, YaRN; 2 rows of 16 tokens: (config, weights, inputs).

    The weights have the names of the hub's checkpoints, where every expert lies alone.
    """
    config = DeepseekV3Config(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4, vocab_size=61,
        intermediate_size=48, first_k_dense_replace=1, q_lora_rank=14, kv_lora_rank=12, qk_nope_head_dim=8,
        qk_rope_head_dim=8, v_head_dim=8, n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=3,
        moe_intermediate_size=12, n_group=4, topk_group=2, routed_scaling_factor=2.5, num_mtp_layers=0,
        rope_parameters=YARN, max_position_embeddings=40 * 64,
    )  # fmt: skip
    random = torch.Generator().manual_seed(20241228)
    weights = hub_weights(DeepseekV3ForCausalLM(config), random)
    return config, weights, {"tokens": torch.randint(config.vocab_size, (2, 16), generator=random)}


def deepseek_v32_model():
    """A small V3.2, a dense layer and one with experts, 2 rows of 48 tokens, of which each sees 8.

    16 indexer heads: no score is 0 for want of a head that speaks, so no two are equal, and the choice needs no rule.
    """
    config = DeepseekV32Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, vocab_size=61,
        intermediate_size=48, first_k_dense_replace=1, q_lora_rank=14, kv_lora_rank=12, qk_nope_head_dim=8,
        qk_rope_head_dim=8, v_head_dim=8, n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=3,
        moe_intermediate_size=12, n_group=4, topk_group=2, routed_scaling_factor=2.5, index_n_heads=16,
        index_head_dim=12, index_topk=8, rope_parameters=YARN, max_position_embeddings=40 * 64,
    )  # fmt: skip
    random = torch.Generator().manual_seed(20250929)
    weights = hub_weights(DeepseekV32ForCausalLM(config), random)
    return config, weights, {"tokens": torch.randint(config.vocab_size, (2, 48), generator=random)}


def hub_weights(model, random):
    """Random weights for one of their models, by the names of a checkpoint on the hub."""
    weights = {}
    for name, whole in model.state_dict().items():
        for part, shape in names_on_the_hub(name, whole.shape):
            noise = torch.randn(shape, generator=random)
            small = 1 + 0.2 * noise if part.endswith("norm.weight") else 0.2 * noise
            weights[part] = small if len(shape) == 1 else 1.5 * shape[-1] ** -0.5 * noise
    return weights


def names_on_the_hub(name, shape):
    """A tensor of their model as [(name, shape)] on disk: fused experts are stored one by one, gate and up apart."""
    stem, _, which = name.rpartition(".")
    if not stem.endswith(".experts"):
        return [(name, shape)]
    experts, rows, columns = shape
    parts = {"gate_up_proj": (("gate_proj", rows // 2), ("up_proj", rows // 2))}.get(which, ((which, rows),))
    return [(f"{stem}.{e}.{part}.weight", (height, columns)) for e in range(experts) for part, height in parts]


def run_model(config, weights, inputs):
    """What comes out of the embedding, each layer, the last norm, (B, T, D), and the head, (B, T, V).

    For V3.2 also "selected.i", (B, T, T) bool, where the queries of layer i look. transformers reads the weights from a
    folder, as it reads a download.
    """
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        save_file(weights, Path(folder) / "model.safetensors", {"format": "pt"})
        options = {"attn_implementation": "eager", "experts_implementation": "eager", "dtype": torch.float64}
        model = AutoModelForCausalLM.from_pretrained(folder, **options).double().eval()
    watched = {"embed_tokens": model.model.embed_tokens, "norm": model.model.norm, "logits": model.lm_head}
    watched |= {f"layers.{i}": layer for i, layer in enumerate(model.model.layers)}
    found = {}
    for name, module in watched.items():
        module.register_forward_hook(lambda _, __, output, name=name: found.update({name: output}))
    for i, layer in enumerate(model.model.layers):
        if config.model_type == "deepseek_v32":
            keep = functools.partial(keep_selected, found, f"selected.{i}")
            layer.self_attn.indexer.register_forward_hook(keep)
    with torch.no_grad(), TrueFloat64():
        model(inputs["tokens"])
    return found


def keep_selected(found, name, module, inputs, places):
    """Their indexer's places as a mask; rows with fewer tokens than places are filled up with later ones: not kept."""
    length = places.shape[1]
    chosen = torch.zeros(len(places), length, length, dtype=torch.bool).scatter_(-1, places.long(), True)
    found[name] = chosen.tril()


def fp8_blocks():
    """A matrix whose 16 x 16 blocks differ in size by many powers of two: (config, weights, inputs)."""
    settings = {"quant_method": "fp8", "weight_block_size": [16, 16], "scale_fmt": "ue8m0"}
    random = torch.Generator().manual_seed(20241229)
    sizes = torch.randn(6, 4, generator=random).mul(3).exp2().repeat_interleave(16, 0).repeat_interleave(16, 1)
    weight = torch.randn(96, 64, generator=random) * sizes
    return DeepseekV3Config(hidden_size=64, quantization_config=settings), {"weight": weight}, {}


def run_fp8_blocks(config, weights, inputs):
    """E4M3 "values" (O, D), power-of-two "scales" (O/16, D/16), and "back" (O, D): as they store and load a weight."""
    settings = config.quantization_config
    settings = FineGrainedFP8Config(weight_block_size=settings["weight_block_size"], scale_fmt=settings["scale_fmt"])
    stored = Fp8Quantize(SimpleNamespace(quantization_config=settings)).convert(weights)
    values, scales = stored["weight"], stored["weight_scale_inv"].float()
    back = Fp8Dequantize(None).convert({"weight": [values], "weight_scale_inv": [scales]})["weight"]
    return {"values": values.float(), "scales": scales, "back": back}


class Options(dict):
    """What stands in for a config where there is no model."""

    @classmethod
    def from_dict(cls, options):
        return cls(options)

    def to_dict(self):
        return dict(self)


def trl_grpo():
    """Six answers of up to eight tokens under three policies, and 48 combinations of options for TRL's loss.

    The policies have little to do with one another, so that every clip and every weight matters; one answer is as good
    as the mean, one has a single token.
    """
    grid = itertools.product(("grpo", "bnpo", "dapo", "dr_grpo"), ("token", "sequence"), (0.2, 0.28),
                             ((0.0, False), (0.04, False), (0.04, True)))  # fmt: skip
    options = [[loss_type, level, high, *divergence] for loss_type, level, high, divergence in grid]
    random = torch.Generator().manual_seed(20240205)
    log_probs, old, ref = -2 * torch.rand(3, 6, 8, generator=random, dtype=torch.float64)
    advantages = torch.tensor([1.3, -0.7, 0.4, -1.6, 0.0, 0.9], dtype=torch.float64)
    mask = torch.arange(8) < torch.tensor([8, 3, 1, 5, 7, 2])[:, None]
    fields = ["loss_type", "importance_sampling_level", "epsilon_high", "beta", "use_bias_correction_kl"]
    config = Options(fields=fields, options=options, epsilon=0.2, max_completion_length=9)
    inputs = {"log_probs": log_probs, "old": old, "ref": ref, "advantages": advantages, "mask": mask}
    return config, {}, inputs


def run_trl_grpo(config, weights, inputs):
    """What TRL's trainer computes with each of n options: "loss" (n,) and "gradient" (n, B, T), float64."""
    from trl_objective import loss_and_gradient  # TRL takes seconds to import

    pairs = [loss_and_gradient(inputs, *row, config["max_completion_length"]) for row in config["options"]]
    losses, gradients = zip(*pairs, strict=True)
    return {"loss": torch.stack(losses), "gradient": torch.stack(gradients)}


REFERENCES = {
    "deepseek_v3_attention": (deepseek_v3_attention, run_deepseek_v3_attention),
    "deepseek_v3_moe": (deepseek_v3_moe, run_moe),
    "deepseek_v2_moe": (deepseek_v2_moe, run_moe),
    "deepseek_v3_mtp": (deepseek_v3_mtp, run_deepseek_v3_mtp),
    "deepseek_v3_model": (deepseek_v3_model, run_model),
    "deepseek_v32_model": (deepseek_v32_model, run_model),
    "fp8_blocks": (fp8_blocks, run_fp8_blocks),
    "trl_grpo": (trl_grpo, run_trl_grpo),
}


def with_sorted_header(data):
    """The same safetensors file with its metadata in alphabetical order: the library's order is another every time."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode().ljust(end - 8)
    assert len(text) == end - 8
    return data[:8] + text + data[end:]


def write(name, folder=FOLDER):
    """Make the reference `name` and put it into its file, atomically."""
    make, run = REFERENCES[name]
    config, weights, inputs = make()
    groups = {"weights": weights, "inputs": inputs, "outputs": run(config, weights, inputs)}
    tensors = {f"{group}/{key}": tensor.contiguous() for group in groups for key, tensor in groups[group].items()}
    library = "trl" if name.startswith("trl_") else "transformers"
    metadata = {
        "config": json.dumps(config.to_dict(), sort_keys=True),
        "made_by": f"{library} {importlib.metadata.version(library)}",
    }
    data = with_sorted_header(save(tensors, metadata))
    path = Path(folder) / f"{name}.safetensors"
    with atomically(path) as temporary:
        temporary.write_bytes(data)
    return path


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in REFERENCES:
        path = write(name)
        print(f"{path.relative_to(FOLDER.parents[1])}: {path.stat().st_size:,} bytes")

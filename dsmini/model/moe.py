"""DeepSeekMoE: many small experts, a router that picks a few for each token, and shared experts for all.

DeepSeek-V3 report, section 2.1.2; V2's softmax router by config (V2 report, section 2.2). Weight names and the fused
layout of the expert weights are Hugging Face's. The one decision to know: the balancing bias takes part in the choice
of experts and in nothing else; what a chosen expert weighs comes from the score without it.
"""

import contextlib
import functools
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from dsmini.model.layers import SwiGLU, at_least_float32


class Routing(NamedTuple):
    """What a router decided, for every token.

    experts: (B, T, k) int64   weights: theirs, (B, T, k)   scores: of all, (B, T, E).
    """

    experts: torch.Tensor
    weights: torch.Tensor
    scores: torch.Tensor


def select_experts(scores, k, n_group=1, topk_group=1, group_by="top2"):
    """The k experts with the highest scores, from a token's topk_group best groups.

    scores: (..., E), for V3 with the bias added   returns (..., k) int64, best first.
    A group counts what its two best experts score together ("top2", V3) or what its best
    one scores ("max", V2). Others get -inf and not 0: a biased score may be negative.
    V3 report, section 2.1.2, node-limited routing.
    """
    if topk_group < n_group:
        groups = scores.unflatten(-1, (n_group, -1))  # (..., G, E/G)
        best = min(2, groups.shape[-1]) if group_by == "top2" else 1
        group_scores = groups.topk(best, dim=-1).values.sum(-1)  # (..., G)
        kept = torch.zeros_like(group_scores, dtype=torch.bool)
        kept.scatter_(-1, group_scores.topk(topk_group, dim=-1).indices, True)
        scores = groups.masked_fill(~kept[..., None], float("-inf")).flatten(-2)
    return scores.topk(k, dim=-1).indices


class Router(nn.Module):
    """Scores all experts for every token and picks k: x (B, T, D) -> Routing.

    V3 report, eq. 13-16. The matrix product and the scores are float32 at least: in bfloat16 near-equal scores tie,
    and other experts would be chosen. V3's e_score_correction_bias is a buffer, not a
    parameter: no gradient reaches it, `balance` moves it.
    """

    def __init__(self, config):
        super().__init__()
        self.k, self.sigmoid = config.num_experts_per_tok, config.scoring_func == "sigmoid"
        self.n_group, self.topk_group = config.n_group, config.topk_group
        self.normalise, self.scale = config.norm_topk_prob, config.routed_scaling_factor
        self.weight = nn.Parameter(torch.zeros(config.n_routed_experts, config.hidden_size))
        self.group_by = "top2" if config.topk_method == "noaux_tc" else "max"
        if config.topk_method == "greedy":
            self.n_group = self.topk_group = 1
        bias = torch.zeros(config.n_routed_experts) if config.topk_method == "noaux_tc" else None
        self.register_buffer("e_score_correction_bias", bias)

    def forward(self, x):
        logits = F.linear(at_least_float32(x), at_least_float32(self.weight))  # (B, T, E)
        scores = logits.sigmoid() if self.sigmoid else logits.softmax(-1)
        bias = self.e_score_correction_bias
        biased = scores.detach() if bias is None else scores.detach() + bias
        experts = select_experts(biased, self.k, self.n_group, self.topk_group, self.group_by)
        weights = scores.gather(-1, experts)  # without the bias
        if self.normalise:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        return Routing(experts, weights * self.scale, scores)

    @torch.no_grad()
    def balance(self, load, speed):
        """Raise the bias of experts below the mean load by `speed`, lower it above.

        load: (E,), tokens of each expert in the last step. V3 report, section 2.1.2.
        """
        load = load.to(self.e_score_correction_bias)
        self.e_score_correction_bias += speed * torch.sign(load.mean() - load)

    def _apply(self, fn, recurse=True):
        """Module.bfloat16() and so on leave the bias alone: its steps need float32."""
        before = self.e_score_correction_bias
        super()._apply(fn, recurse)
        after = self.e_score_correction_bias
        if after is not None and after.dtype in (torch.bfloat16, torch.float16):
            self.e_score_correction_bias = before.to(after.device)
        return self


class Experts(nn.Module):
    """All routed experts of a layer, each a SwiGLU of width i.

    (B, T, D), Routing -> (B, T, D).
    gate_up_proj: (E, 2 i, D), the gate's rows first. down_proj: (E, D, i).
    """

    def __init__(self, config):
        super().__init__()
        experts, width = config.n_routed_experts, config.hidden_size
        inner = config.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.zeros(experts, 2 * inner, width))
        self.down_proj = nn.Parameter(torch.zeros(experts, width, inner))

    def forward(self, x, routing):
        """Sort the (token, expert) pairs by expert: each works on one block of rows."""
        chosen = routing.experts.flatten()  # (B T k,): pair after pair
        order = chosen.argsort(stable=True)
        rows = order // routing.experts.shape[-1]  # (B T k,): the token of each pair
        counts = chosen.bincount(minlength=len(self.down_proj)).tolist()
        tokens = x.flatten(0, -2)  # (B T, D)
        blocks = tokens.index_select(0, rows).split(counts)
        weights = zip(self.gate_up_proj.unbind(), self.down_proj.unbind(), strict=True)
        work = zip(blocks, weights, strict=True)
        done = [expert_forward(block, *weight) for block, weight in work if len(block)]
        weighted = torch.cat(done) * routing.weights.flatten()[order, None]  # (B T k, D)
        summed = torch.zeros_like(tokens, dtype=weighted.dtype).index_add(0, rows, weighted)
        return summed.to(x.dtype).view_as(x)


def expert_forward(x, gate_up, down):
    """One expert: down(silu(gate(x)) * up(x)), (n, D) -> (n, D).

    gate_up: (2 i, D), the gate's rows first   down: (D, i).
    """
    gate, up = F.linear(x, gate_up).chunk(2, dim=-1)
    return F.linear(F.silu(gate) * up, down)


class MixtureOfExperts(nn.Module):
    """The feed-forward of a MoE layer: shared experts plus k weighted routed ones.

    (B, T, D) -> (B, T, D). V3 report, eq. 12, without the residual, which the layer adds.
    """

    def __init__(self, config):
        super().__init__()
        self.gate = Router(config)
        self.experts = Experts(config)
        if config.n_shared_experts:
            width = config.n_shared_experts * config.moe_intermediate_size
            self.shared_experts = SwiGLU(config.hidden_size, width)  # all of them as one

    def forward(self, x):
        out = self.experts(x, self.gate(x))
        return out + self.shared_experts(x) if hasattr(self, "shared_experts") else out


def expert_load(experts, num_experts):
    """How many tokens each expert received: (..., k) int64 -> (E,) int64."""
    return experts.flatten().bincount(minlength=num_experts)


def max_violation(load):
    """MaxVio: how far the busiest expert lies above the mean load; 0 is even.

    load: (E,) counts   returns a float.   Wang et al. 2024 (arXiv 2408.15664), section 4.1.
    """
    load = load.double()
    return (load.max() / load.mean() - 1).item()


def sequence_balance_loss(scores, k):
    """The sequence-wise balance loss, without its factor alpha. V3 report, eq. 17-20.

    scores: (B, T, E), unbiased. Per sequence: f_i, how often expert i is among a token's k
    best, times P_i, its mean share of a token's scores; 1 where both are even. Returns the
    mean over sequences. Only P carries a gradient.
    """
    chosen = torch.zeros_like(scores).scatter_(-1, scores.topk(k, dim=-1).indices, 1.0)
    f = chosen.mean(1) * scores.shape[-1] / k  # (B, E)
    p = (scores / scores.sum(-1, keepdim=True)).mean(1)  # (B, E)
    return (f * p).sum(-1).mean()


@contextlib.contextmanager
def watch_routing(model):
    """Watch a model's routers: yields a dict, name of a router -> its latest Routing.

    model: any module with `Router`s inside. Names are those of `model.get_submodule`;
    gradients stay attached.
    """
    latest, hooks = {}, []
    for name, module in model.named_modules():
        if isinstance(module, Router):
            hook = functools.partial(_keep_routing, latest, name)
            hooks.append(module.register_forward_hook(hook))
    try:
        yield latest
    finally:
        for hook in hooks:
            hook.remove()


def _keep_routing(latest, name, module, inputs, routing):
    latest[name] = routing

"""Multi-token prediction: one more token from the same trunk, by one more layer.

DeepSeek-V3 report, section 2.2. The module sees what the trunk made of tokens 0..i and the embedding of token i+1,
and predicts token i+2; embedding and head are the main model's. Two things differ between the report and the released
weights: the order of the two halves (the report writes [hidden; embedding], the weights expect [embedding; hidden]),
and a norm before the shared head that the equations omit. The default is the weights'.
"""

import torch
from torch import nn
from torch.nn import functional as F

from dsmini.model.layers import RMSNorm


class MultiTokenPrediction(nn.Module):
    """One MTP module around a layer: (B, T, D), (B, T, D) -> (B, T, D), for lm_head.

    block: the layer, made by the caller. embedding_first: which half comes first.
    forward(hidden, embedded, rope, mask=None, cache=None): hidden[:, i] is the output
    of the trunk (or of the module before) at token i, embedded[:, i] the embedding of
    the token that comes next; rope, mask, cache as a layer's. V3 report, eq. 21-23.
    """

    def __init__(self, config, block, embedding_first=True):
        super().__init__()
        width = config.hidden_size
        self.enorm = RMSNorm(width, config.rms_norm_eps)
        self.hnorm = RMSNorm(width, config.rms_norm_eps)
        self.eh_proj = nn.Linear(2 * width, width, bias=False)
        self.block = block
        self.shared_head = nn.Module()  # the checkpoint's name
        self.shared_head.norm = RMSNorm(width, config.rms_norm_eps)
        self.embedding_first = embedding_first

    def forward(self, hidden, embedded, rope, mask=None, cache=None):
        halves = self.enorm(embedded), self.hnorm(hidden)  # (B, T, D) each
        if not self.embedding_first:
            halves = halves[::-1]
        x = self.eh_proj(torch.cat(halves, dim=-1))  # (B, T, D)
        return self.shared_head.norm(self.block(x, rope, mask, cache))


def multi_token_losses(model, hidden, tokens):
    """Cross-entropy in nats of every MTP module of a `Transformer`, first depth first.

    hidden: (B, T, D), `model.hidden_states(tokens[:, :T])`
    tokens: (B, T + 1), the text that the windows come from.
    Module `depth` (from 0) predicts the token depth + 2 places after that of its state,
    so it has depth + 1 places fewer than the main model. V3 report, eq. 24; eq. 25, the
    loss that is trained, is lambda times the mean of these.
    """
    losses = []
    for depth in range(len(model.mtp)):
        next_tokens = tokens[:, depth + 1 : -1]  # (B, T - depth - 1)
        hidden = model.predict_ahead(hidden[:, :-1], next_tokens, depth=depth)
        targets = tokens[:, depth + 2 :]  # one further than next_tokens
        logits = model.lm_head(hidden)
        losses.append(F.cross_entropy(logits.flatten(0, 1), targets.flatten()))
    return losses

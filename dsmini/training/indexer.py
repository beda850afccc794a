"""How a lightning indexer is trained: a dense warm-up, then a sparse stage with the whole model.

DeepSeek-V3.2-Exp report, section 2.1; V3.2 report, section 2.1.1. A choice of tokens passes no gradient, so the indexer
learns by imitation: its scores, through a softmax, are to be the attention that the layer pays, all heads together. In
the warm-up the model attends to everything and only indexers learn. In the sparse stage it attends to what they
select; they go on learning, on the selected tokens alone and from inputs cut off the graph, and the model learns from
its own loss alone. So two losses share a step and no parameter hears both.

The decision to know: a step looks at some queries, drawn at random, and not at all of them; a mean over a sample costs
less than a mean over all and has the same expectation. The report has sums over queries; the scale is the optimiser's
business.
"""

import contextlib
import dataclasses
import math

import torch

from dsmini.model.dsa import SparseLatentAttention, watch_selection
from dsmini.model.selectors import selecting
from dsmini.model.transformer import Transformer
from dsmini.training.answers import answer_loss, checked, fingerprint_of
from dsmini.training.loop import must_be_finite, run_steps
from dsmini.training.pretrain import learning_rate_at
from dsmini.training.snapshot import describe

_MAY_BE_ZERO = ("warmup_steps", "weight_decay", "model_learning_rate")


@dataclasses.dataclass(frozen=True)
class IndexerSettings:
    """One stage. learning_rate is the indexers' peak, model_learning_rate that of everything else in the sparse stage;
    both fall to about a tenth.

    queries: how many of a text's queries a step looks at, None for all. max_grad_norm: of the indexers together, and of
    the rest together.
    """

    steps: int = 200
    learning_rate: float = 3e-3
    model_learning_rate: float = 1e-3
    warmup_steps: int = 10
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    queries: int | None = 64

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            low = 0 if field.name in _MAY_BE_ZERO else 1e-12
            if value is not None and not value >= low or value is None and field.name != "queries":
                raise ValueError(f"{field.name} = {value!r}: expected {'0 or more' if low == 0 else 'more than 0'}")


def with_indexer(model, topk, heads=None, head_dim=None, seed=0):
    """A copy of an MLA model that attends to `topk` tokens: V3 becomes V3.2.

    heads, head_dim: of the indexers; None keeps what the model has. An indexer that the model has is copied with the
    rest; new ones get initial weights from the seed. Raises ValueError for a model without MLA or without compressed
    queries, and for one that has no indexer and is given no sizes.
    """
    config = model.config
    if config.attention != "mla":
        raise ValueError(f"model: its attention is {config.attention!r}, expected 'mla'")
    sizes = {"index_n_heads": heads or config.index_n_heads, "index_head_dim": head_dim or config.index_head_dim}
    model_type = "deepseek_v32" if config.model_type else None
    config = config.replace(index_topk=topk, model_type=model_type, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        copy = Transformer(config).to(model.lm_head.weight)
    own = copy.state_dict()  # an indexer of other sizes stays new
    kept = {name: weight for name, weight in model.state_dict().items() if own[name].shape == weight.shape}
    copy.load_state_dict(kept, strict=False)
    return copy.train(model.training)


def divergence(shares, scores, among):
    """KL(p || softmax(I)) of every query in nats, the softmax over the tokens of `among` alone.

    shares: p, rows that sum to 1 over `among` and are 0 elsewhere. scores: I, of any value outside. among: bool.
    All (B, R, S); returns (B, R), 0 for a query without tokens. V3.2-Exp report, section 2.1.
    """
    log_q = scores.masked_fill(~among, float("-inf")).log_softmax(-1)
    log_q = log_q.masked_fill(~among, 0)  # 0 times infinity is no number
    return (torch.xlogy(shares, shares) - shares * log_q).sum(-1)


def warmup_divergence(selection):
    """The indexer against the attention to everything that a query sees: a layer's `Selection` -> (B, R)."""
    return divergence(selection.attention, selection.scores, selection.scores != float("-inf"))


def sparse_divergence(selection):
    """The indexer against the attention to the selected tokens, among these alone: a `Selection` -> (B, R)."""
    return divergence(selection.of_selected, selection.scores, selection.selected)


def indexer_loss(seen, of_layer, queries, lengths=None):
    """The mean divergence of all layers and of all queries that are no padding: a scalar, in nats a query.

    seen: from `watch_selection`. of_layer: `warmup_divergence` or `sparse_divergence`. queries: their places, (R,).
    lengths: (B,), how many tokens of each row are real; None for all. 0 where no query is.
    """
    losses = torch.stack([of_layer(selection) for selection in seen.values()])  # (layers, B, R)
    if lengths is None:
        return losses.mean()
    real = queries < lengths[:, None]  # (B, R)
    return losses.masked_fill(~real, 0).sum() / (len(losses) * real.sum().clamp(min=1))


def train_warmup(model, data, settings, seed=0, progress=True, on_step=None, snapshot=None, snapshot_every=100):
    """The dense warm-up, in place: indexers learn, nothing else does; returns every step's divergence, a list.

    data: a function, data(step) -> (inputs, targets, mask) as in `answers.train_answers`, or with the lengths (B,) of
    right-padded rows behind them; only inputs and lengths are read here. settings: `IndexerSettings`. seed: which
    queries are looked at. The rest is as in `pretrain.train`.
    Raises ValueError for a model without sparse attention and for data of other shapes; FloatingPointError, naming the
    step, if the loss is no longer finite; SnapshotError for a snapshot of another run.
    """

    def losses(batch, queries):
        with torch.no_grad(), selecting(model, topk=math.inf), watch_selection(model, queries) as seen:
            model.hidden_states(batch[0])
        return None, indexer_loss(seen, warmup_divergence, queries, batch[3])

    with only_indexers_learn(model):
        return _train(model, losses, data, settings, seed, "warm-up", progress, on_step, snapshot, snapshot_every)


def train_sparse(model, data, settings, seed=0, progress=True, on_step=None, snapshot=None, snapshot_every=100):
    """The sparse stage, in place; returns a list of dicts: loss, the model's own in nats an answer, and divergence.

    The model attends to what its indexers select, `index_topk` tokens. Arguments and errors as in `train_warmup`.
    """

    def losses(batch, queries):
        with watch_selection(model, queries) as seen:
            loss = answer_loss(model, *batch[:3])
        return loss, indexer_loss(seen, sparse_divergence, queries, batch[3])

    return _train(model, losses, data, settings, seed, "sparse stage", progress, on_step, snapshot, snapshot_every)


@contextlib.contextmanager
def only_indexers_learn(model):
    """For a while, no parameter outside the indexers requires a gradient."""
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        model.requires_grad_(False)
        for indexer in _indexers(model):
            indexer.requires_grad_()
        yield
    finally:
        for parameter, required in before.items():
            parameter.requires_grad_(required)


def _train(model, losses, data, settings, seed, name, progress, on_step, snapshot, snapshot_every):
    optimizer, generator = _new_optimizer(model, settings), torch.Generator().manual_seed(seed)
    run = snapshot and describe(model, f"{name}, {fingerprint_of(data)}", settings, seed)

    def take_step(step):
        batch = checked(data(step))
        queries = draw_queries(batch[0].shape[1], settings.queries, generator)
        own, divergence = losses(batch, queries)
        both = divergence if own is None else own + divergence  # of different parameters: the sum mixes nothing
        must_be_finite(both.item(), step)
        _learn(optimizer, both, settings, step)
        if own is None:
            return divergence.item()
        return {"loss": own.item(), "divergence": divergence.item()}

    return run_steps(take_step, model, optimizer, generator, settings.steps, name=name, progress=progress,
                     on_step=on_step, snapshot=snapshot, snapshot_every=snapshot_every, run=run)  # fmt: skip


def draw_queries(length, count, generator):
    """Places of `count` different queries of a text, in order, (R,) int64; all of them for None or too many."""
    if count is None or count >= length:
        return torch.arange(length)
    return torch.randperm(length, generator=generator)[:count].sort().values


def _learn(optimizer, loss, settings, step):
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * learning_rate_at(step, settings) / settings.learning_rate
    for part in ("indexers", "rest"):
        parameters = [p for group in optimizer.param_groups if group["part"] == part for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
    optimizer.step()


def _new_optimizer(model, settings):
    """AdamW over what is to be trained, indexers at their own rate. Matrices decay, norms and biases do not."""
    indexers = {parameter for indexer in _indexers(model) for parameter in indexer.parameters()}
    groups = []
    for part, peak in (("indexers", settings.learning_rate), ("rest", settings.model_learning_rate)):
        own = [p for p in model.parameters() if p.requires_grad and (p in indexers) == (part == "indexers")]
        for weight_decay, some in ((settings.weight_decay, [p for p in own if p.dim() > 1]),
                                   (0.0, [p for p in own if p.dim() <= 1])):  # fmt: skip
            groups.append({"params": some, "lr": peak, "peak": peak, "part": part, "weight_decay": weight_decay})
    return torch.optim.AdamW([group for group in groups if group["params"]], betas=(0.9, 0.95))


def _indexers(model):
    found = [module.indexer for module in model.modules() if isinstance(module, SparseLatentAttention)]
    if not found:
        raise ValueError("model: expected one with sparse attention (a config with an indexer)")
    return found

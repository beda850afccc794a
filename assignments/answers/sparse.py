"""Wrong and differently written right answers to the problem set on sparse attention.

The tests show that every wrong one loses points, for several students, and that every right one gets them all. Most
wrong answers are a right one with one change: `_changed` makes it, and refuses a change that changes nothing.
"""


def _changed(source, *changes):
    for old, new in changes:
        if source.count(old) != 1:
            raise ValueError(f"{old!r} occurs {source.count(old)} times, expected once")
        source = source.replace(old, new)
    return source


# --------------------------------------------------------------------------------------------------------------------
_RECALL = """
def head_recall(attention, selected, lengths):
    length = attention.shape[-1]
    visible = torch.ones(length, length, dtype=torch.bool).tril()
    real = torch.arange(length) < lengths[:, None]
    counts = real & (visible & ~selected).any(-1)
    attention = torch.where(counts[:, None, :, None], attention, 0)
    kept = torch.einsum("bhts,bts->h", attention, (selected & visible).to(attention.dtype))
    if not counts.any():
        return torch.ones_like(kept)
    return kept / counts.sum()
"""

_RECALL_RIGHT = {
    "one einsum over all texts": _RECALL,
    "query by query": """
def head_recall(attention, selected, lengths):
    found = []
    for b, length in enumerate(lengths.tolist()):
        for t in range(length):
            row = selected[b, t, : t + 1]
            if not row.all():
                found.append(attention[b, :, t, : t + 1][:, row].sum(-1))
    return torch.stack(found).mean(0) if found else torch.ones(attention.shape[1], dtype=attention.dtype)
""",
    "the share that was lost, without NaN": """
def head_recall(attention, selected, lengths):
    B, H, T, _ = attention.shape
    left_out = torch.tril(~selected)
    counts = left_out.any(dim=2)
    for b in range(B):
        counts[b, int(lengths[b]):] = False
    if counts.sum() == 0:
        return torch.full((H,), 1.0, dtype=attention.dtype)
    lost = torch.where(left_out.unsqueeze(1), attention, torch.zeros((), dtype=attention.dtype)).sum(3)
    return torch.stack([1 - lost[:, h][counts].mean() for h in range(H)])
""",
}

_RECALL_WRONG = {
    "all real queries count, the perfect first ones too": _changed(
        _RECALL, ("real & (visible & ~selected).any(-1)", "real")
    ),
    "padding counts": _changed(_RECALL, ("real & (visible", "(visible")),
    "padding begins one token late": _changed(_RECALL, ("< lengths", "<= lengths")),
    "the future counts as left out": _changed(_RECALL, ("(visible & ~selected)", "(~selected)")),
    "places are counted, not compared": _changed(
        _RECALL, ("(visible & ~selected).any(-1)", "(selected.sum(-1) < torch.arange(1, length + 1))")
    ),
    "a mean of the texts' means": '''
def head_recall(attention, selected, lengths):
    length = attention.shape[-1]
    visible = torch.ones(length, length, dtype=torch.bool).tril()
    counts = (torch.arange(length) < lengths[:, None]) & (visible & ~selected).any(-1)
    kept = attention.masked_fill(~(visible & selected)[:, None], 0).sum(-1)
    means = [row[:, some].mean(-1) for row, some in zip(kept, counts) if some.any()]
    return torch.stack(means).mean(0) if means else kept.new_ones(kept.shape[1])
''',
    "one number for all heads": _changed(
        _RECALL, ("return kept / counts.sum()", "return (kept / counts.sum()).mean().expand_as(kept)")
    ),
    "padding is multiplied away: NaN": _changed(
        _RECALL, ("torch.where(counts[:, None, :, None], attention, 0)", "attention * counts[:, None, :, None]")
    ),
    "no query counts: 0 / 0": _changed(_RECALL, ("if not counts.any()", "if False")),
    "no query counts: 0": _changed(_RECALL, ("torch.ones_like(kept)", "torch.zeros_like(kept)")),
    "the share of places, not of attention": _changed(
        _RECALL,
        ('"bhts,bts->h", attention,', '"bhts,bts->h", (attention > 0).to(attention.dtype),'),
    ),
    "who has lost no attention does not count": _changed(
        _RECALL,
        ("(visible & ~selected).any(-1)",
         "(attention.nan_to_num(0) * (visible & ~selected)[:, None]).sum(-1).gt(1e-9).any(1)"),
    ),
    "each head counts only the queries where it lost something": '''
def head_recall(attention, selected, lengths):
    length = attention.shape[-1]
    visible = torch.ones(length, length, dtype=torch.bool).tril()
    real = torch.arange(length) < lengths[:, None]
    kept = attention.masked_fill(~(visible & selected)[:, None], 0).sum(-1).transpose(0, 1)  # (H, B, T)
    counts = real & (kept < 1 - 1e-9)
    rows = zip(kept, counts)
    return torch.stack([row[some].mean() if some.any() else row.new_ones(()) for row, some in rows])
''',
    "padding is cleared in the input": '''
def head_recall(attention, selected, lengths):
    length = attention.shape[-1]
    visible = torch.ones(length, length, dtype=torch.bool).tril()
    counts = (torch.arange(length) < lengths[:, None]) & (visible & ~selected).any(-1)
    kept = attention.masked_fill_(~(visible & selected)[:, None], 0).sum(-1).transpose(0, 1)[:, counts]
    return kept.mean(-1) if counts.any() else attention.new_ones(attention.shape[1])
''',
}  # fmt: skip

# --------------------------------------------------------------------------------------------------------------------
_SINKS = """
def sinks_and_window(scores, sinks, window, k):
    if sinks < 0:
        raise ValueError(f"sinks is {sinks}")
    if window < 1:
        raise ValueError(f"window is {window}")
    if sinks + window > k:
        raise ValueError(f"sinks and window do not fit into {k}")
    batch, length, seen = scores.shape
    found = torch.full((batch, length, k), -1)
    for t in range(length):
        own = seen - length + t
        kept = [s for s in range(own + 1) if s < sinks or s > own - window]
        rest = [s for s in range(own + 1) if s not in kept]
        room = min(len(rest), k - len(kept))
        for b in range(batch):
            order = scores[b, t, rest].sort(descending=True, stable=True).indices[:room].tolist()
            places = sorted(kept + [rest[i] for i in order])
            found[b, t, : len(places)] = torch.tensor(places)
    return found
"""

_SINKS_BY_KEY = """
def sinks_and_window(scores, sinks, window, k):
    if sinks < 0 or window < 1 or sinks + window > k:
        raise ValueError(f"sinks = {sinks}, window = {window}, k = {k}")
    T, S = scores.shape[1:]
    place, own = torch.arange(S), torch.arange(T)[:, None] + S - T
    visible = (place <= own).expand_as(scores)
    kept = visible & ((place < sinks) | (own - place < window))
    wanted = torch.where(kept, math.inf, torch.where(visible, scores, -math.inf))
    count = min(k, S)
    chosen = torch.zeros_like(visible).scatter(-1, select_topk(wanted, count), True) & visible
    order = torch.where(chosen, place, S).sort(-1).values[..., :count]
    found = torch.full((*scores.shape[:2], k), -1)
    found[..., :count] = torch.where(order < S, order, -1)
    return found
"""

_SINKS_RIGHT = {
    "lists of places, query by query": _SINKS,
    "the package's select_topk over raised scores": _SINKS_BY_KEY,
    "reserved places and the best of the others, joined": """
def sinks_and_window(scores, sinks, window, k):
    if sinks < 0:
        raise ValueError("negative sinks")
    if window <= 0:
        raise ValueError("the window has no place")
    if sinks + window > k:
        raise ValueError("sinks + window > k")
    B, T, S = scores.shape
    own = torch.arange(S - T, S).view(1, T, 1)
    place = torch.arange(S).view(1, 1, S)
    reserved = ((place < sinks) | (place > own - window)) & (place <= own)
    free = (place <= own) & ~reserved
    room = k - reserved.sum(-1, keepdim=True)
    ranks = torch.where(free, scores, -math.inf).argsort(dim=-1, descending=True, stable=True).argsort(-1)
    keep = reserved | (free & (ranks < room))
    out = torch.full((B, T, k), -1, dtype=torch.int64)
    b, t, s = keep.nonzero(as_tuple=True)
    out[b, t, keep.cumsum(-1)[b, t, s] - 1] = s
    return out
""",
}

_SINKS_WRONG = {
    "queries are taken for the first of the tokens": _changed(_SINKS_BY_KEY, ("[:, None] + S - T", "[:, None]")),
    "the window leaves the query's own place out": _changed(
        _SINKS_BY_KEY, ("(own - place < window)", "(own - place <= window) & (place < own)")
    ),
    "a window of one place more": _changed(_SINKS_BY_KEY, ("own - place < window", "own - place <= window")),
    "no sinks": _changed(_SINKS_BY_KEY, ("((place < sinks) | (own - place < window))", "(own - place < window)")),
    "no second look at causality": _changed(_SINKS_BY_KEY, (", True) & visible", ", True)")),
    "torch.topk among ties": _changed(_SINKS_BY_KEY, ("select_topk(wanted, count)", "wanted.topk(count).indices")),
    "ties go to the higher place": _changed(
        _SINKS_BY_KEY, ("select_topk(wanted, count)", "(S - 1 - select_topk(wanted.flip(-1), count))")
    ),
    "the surplus points at token 0": _changed(_SINKS_BY_KEY, ("torch.where(order < S, order, -1)", "order % S")),
    "in the order of the scores": _changed(
        _SINKS,
        ("places = sorted(kept + [rest[i] for i in order])", "places = kept + [rest[i] for i in order]"),
    ),
    "what sinks and window share is named twice": _changed(
        _SINKS,
        ("kept = [s for s in range(own + 1) if s < sinks or s > own - window]",
         "kept = [*range(min(sinks, own + 1)), *range(max(0, own - window + 1), own + 1)][:k]"),
    ),
    "reserved places come on top of the budget": _changed(
        _SINKS_BY_KEY,
        ("wanted = torch.where(kept, math.inf, torch.where", "wanted = (torch.where"),
        ("True) & visible", "True) & visible | kept"),
    ),
    "reserved places get a raise of 1000": _changed(
        _SINKS_BY_KEY,
        ("torch.where(kept, math.inf, torch.where(visible, scores, -math.inf))",
         "torch.where(visible, scores + 1000 * kept, -math.inf)"),
    ),
    "the future is multiplied away": _changed(
        _SINKS_BY_KEY, ("torch.where(visible, scores, -math.inf))", "scores * visible)")
    ),
    "a list as long as the text": _changed(_SINKS_BY_KEY, ("(*scores.shape[:2], k)", "(*scores.shape[:2], count)")),
    "no check of the sizes": _changed(_SINKS_BY_KEY, ("sinks < 0 or window < 1 or sinks + window > k", "False")),
    "the window is looked at first": _changed(
        _SINKS,
        ('    if sinks < 0:\n        raise ValueError(f"sinks is {sinks}")\n', ""),
        ('raise ValueError(f"window is {window}")\n',
         'raise ValueError(f"window is {window}")\n    if sinks < 0:\n        raise ValueError(f"sinks is {sinks}")\n'),
    ),
    "sinks and window may not fill the budget": _changed(_SINKS_BY_KEY, ("sinks + window > k", "sinks + window >= k")),
    "the query before the last is the last": _changed(_SINKS_BY_KEY, ("+ S - T", "+ S - T - int(T > 1)")),
    "the future is hidden in the input": '''
def sinks_and_window(scores, sinks, window, k):
    if sinks < 0 or window < 1 or sinks + window > k:
        raise ValueError(f"sinks = {sinks}, window = {window}, k = {k}")
    T, S = scores.shape[1:]
    place, own = torch.arange(S), torch.arange(T)[:, None] + S - T
    scores.masked_fill_(((place < sinks) | (own - place < window)) & (place <= own), math.inf)
    scores.masked_fill_(place > own, -math.inf)
    order = scores.sort(dim=-1, descending=True, stable=True).indices[..., :k]
    order = torch.where(order <= own, order, S).sort(-1).values
    order = torch.nn.functional.pad(order, (0, k - order.shape[-1]), value=S)
    return torch.where(order < S, order, -1)
''',
}  # fmt: skip

# --------------------------------------------------------------------------------------------------------------------
_EVEN = """
def prompt_break_even(config):
    H, k, W = config.num_attention_heads, config.index_topk, config.index_n_heads * config.index_head_dim
    dense = 2 * H * (config.qk_head_dim + config.v_head_dim)
    core = 2 * H * (2 * config.kv_lora_rank + config.qk_rope_head_dim)
    score = 2 * W
    made = 2 * (config.q_lora_rank * W + config.hidden_size * (config.index_head_dim + config.index_n_heads))
    if score >= dense:
        return None

    def triangle(n):
        return n * (n + 1) // 2

    def is_cheaper(n):
        before = dense * triangle(n)
        after = n * made + score * triangle(n) + core * (triangle(n) if n <= k else triangle(k) + (n - k) * k)
        return after < before

    step = 1
    while not is_cheaper(step):
        step *= 2
    n = 0  # the most that is known not to be cheaper
    while step:
        if not is_cheaper(n + step):
            n += step
        step //= 2
    return n + 1
"""

_EVEN_RIGHT = {
    "from the config's fields, by halving steps": _EVEN,
    "bisect over a list of truth values": """
def prompt_break_even(config):
    import bisect
    from fractions import Fraction

    flops = accounting.attention_flops
    k = config.index_topk
    d0, d1 = flops(config, 0, "expanded"), flops(config, 1, "expanded")
    s0, s1, sk, sk1 = (flops(config, n, "sparse") for n in (0, 1, k, k + 1))
    per_dense, per_late = d1 - d0, sk1 - sk
    if per_dense <= per_late:
        return None

    def gain(n):
        total = Fraction(n) * d0 + Fraction(per_dense * n * (n + 1), 2)
        m = min(n, k)
        total -= Fraction(m) * s0 + Fraction((s1 - s0) * m * (m + 1), 2)
        late = n - m
        return total - Fraction(late) * sk - Fraction(per_late * late * (late + 1), 2)

    top = next(2**e for e in range(200) if gain(2**e) > 0)
    return bisect.bisect_left(range(top + 1), True, key=lambda n: gain(n) > 0)
""",
    "the larger root of a quadratic, from the given prices": """
def prompt_break_even(config):
    dense, fixed, score, core = prices(config)
    k = config.index_topk
    if dense <= score:
        return None
    early = dense - score - core
    if early > 0:  # already within the budget: early (n + 1) / 2 > fixed
        n = max(1, 2 * fixed // early)
        if n <= k:
            return n
    a, b = dense - score, dense - score - 2 * core * k - 2 * fixed
    c = core * k * (k - 1)
    root = math.isqrt(max(0, b * b - 4 * a * c))
    n = max(1, (-b + root) // (2 * a) - 2)
    while a * n * n + b * n + c <= 0:
        n += 1
    return n
""",
}

_NUMBERS_OF_ANOTHER = """
def my_numbers():
    return {"break_even": 10763, "worst": 5377}
"""

_EVEN_WRONG = {
    "the place from which a query pays, not the prompt": '''
def prompt_break_even(config):
    H, k, W = config.num_attention_heads, config.index_topk, config.index_n_heads * config.index_head_dim
    dense = 2 * H * (config.qk_head_dim + config.v_head_dim)
    core = 2 * H * (2 * config.kv_lora_rank + config.qk_rope_head_dim)
    made = 2 * (config.q_lora_rank * W + config.hidden_size * (config.index_head_dim + config.index_n_heads))
    if 2 * W >= dense:
        return None
    return (core * k + made) // (dense - 2 * W) + 1
''',
    "no more FLOPs instead of fewer": _changed(_EVEN, ("return after < before", "return after <= before")),
    "one token early": _changed(_EVEN, ("return n + 1", "return n")),
    "queries see 0 to L - 1 tokens": _changed(_EVEN, ("return n * (n + 1) // 2", "return n * (n - 1) // 2")),
    "the first queries attend to topk tokens too": _changed(
        _EVEN, ("(triangle(n) if n <= k else triangle(k) + (n - k) * k)", "n * k")
    ),
    "the dense form is the absorbed one": _changed(
        _EVEN,
        ("(config.qk_head_dim + config.v_head_dim)", "(config.kv_lora_rank * 2 + config.qk_rope_head_dim)"),
    ),
    "the new token's part of the indexer is forgotten": _changed(_EVEN, ("n * made + score", "score")),
    "the indexer scores only what is selected": _changed(
        _EVEN, ("score * triangle(n)", "score * (triangle(n) if n <= k else triangle(k) + (n - k) * k)")
    ),
    "None only where the indexer costs more": _changed(
        _EVEN,
        ("if score >= dense", "if score > dense"),
        ("while not is_cheaper(step):", "while not is_cheaper(step) and step < 2**60:"),
    ),
    "0 for never": _changed(_EVEN, ("return None", "return 0")),
    "a search up to a million": _changed(
        _EVEN, ("        step *= 2\n", "        step *= 2\n        if step > 10**6:\n            return None\n")
    ),
    "a sum that ends at topk": _changed(_EVEN, ("triangle(k) + (n - k) * k", "triangle(k)")),
    "a cheap latent is overlooked: no prompt within topk": _changed(
        _EVEN, ("n = 0 ", "n = k "), ("return n + 1", "return n + 1")
    ),
    "a float": _changed(
        _EVEN, ("return n + 1", "return n + 1.5")
    ),
    "the root of a quadratic, in floats": '''
def prompt_break_even(config):
    flops, k = accounting.attention_flops, config.index_topk
    fixed = flops(config, 0, "sparse") - flops(config, 0, "expanded")
    dense = flops(config, 1, "expanded") - flops(config, 0, "expanded")
    score = flops(config, k + 1, "sparse") - flops(config, k, "sparse")
    core = flops(config, 1, "sparse") - flops(config, 0, "sparse") - score
    if dense <= score:
        return None
    early = dense - score - core
    if early > 0 and max(1, 2 * fixed // early) <= k:
        return max(1, 2 * fixed // early)
    a, b, c = dense - score, dense - score - 2 * core * k - 2 * fixed, core * k * (k - 1)
    return math.floor((-b + math.sqrt(b * b - 4 * a * c)) / (2 * a)) + 1
''',
    "numbers of somebody else's model": _EVEN + _NUMBERS_OF_ANOTHER,
    "numbers of V3.2 instead of the own model": _EVEN + '''

def my_numbers():
    config, saved, worst, lost = PRESETS["deepseek-v3.2"], 0, 0, 0
    for n in range(1, prompt_break_even(config) + 1):
        saved += accounting.attention_flops(config, n, "expanded") - accounting.attention_flops(config, n, "sparse")
        if -saved > lost:
            worst, lost = n, -saved
    return {"break_even": prompt_break_even(config), "worst": worst}
''',
    "what the worst query loses, not the prompt": _EVEN + '''

def my_numbers():
    loss = [accounting.attention_flops(mine, n, "sparse") - accounting.attention_flops(mine, n, "expanded")
            for n in range(1, prompt_break_even(mine) + 1)]
    return {"break_even": prompt_break_even(mine), "worst": loss.index(max(loss)) + 1}
''',
    "the worst place is one early": _EVEN + '''

def my_numbers():
    saved = [0]
    for n in range(1, prompt_break_even(mine) + 1):
        gain = accounting.attention_flops(mine, n, "expanded") - accounting.attention_flops(mine, n, "sparse")
        saved.append(saved[-1] + gain)
    return {"break_even": prompt_break_even(mine), "worst": saved.index(min(saved)) - 1}
''',
    "the worst is where sparse has saved the most: a wrong sign": _EVEN + '''

def my_numbers():
    saved = [0]
    for n in range(1, prompt_break_even(mine) + 1):
        gain = accounting.attention_flops(mine, n, "expanded") - accounting.attention_flops(mine, n, "sparse")
        saved.append(saved[-1] + gain)
    return {"break_even": prompt_break_even(mine), "worst": saved.index(max(saved))}
''',
}  # fmt: skip

# --------------------------------------------------------------------------------------------------------------------
_LEVELS = """
def two_level(scores, size, blocks, k):
    for name, value in {"size": size, "blocks": blocks, "k": k}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}")
    B, T, S = scores.shape
    place = torch.arange(S)
    visible = (place <= torch.arange(S - T, S)[:, None]).expand_as(scores)
    hidden = torch.where(visible, scores, -math.inf)
    block = place // size
    count = (S - 1) // size + 1
    best = torch.full((B, T, count), -math.inf, dtype=scores.dtype)
    best = best.scatter_reduce(-1, block.expand_as(hidden), hidden, "amax")
    top = select_topk(best, min(blocks, count))
    opened = (block == top[..., None]).any(-2) & visible
    inside = torch.where(opened, hidden, -math.inf)
    chosen = torch.zeros_like(opened).scatter(-1, select_topk(inside, min(k, S)), True)
    return chosen & opened
"""

_LEVELS_RIGHT = {
    "scatter_reduce and the package's select_topk": _LEVELS,
    "one query at a time": """
def two_level(scores, size, blocks, k):
    if size < 1:
        raise ValueError("size must be 1 or more")
    if blocks < 1:
        raise ValueError("blocks must be 1 or more")
    if k < 1:
        raise ValueError("k must be 1 or more")
    out = torch.zeros(scores.shape, dtype=torch.bool)
    T, S = scores.shape[1:]
    for b, rows in enumerate(scores):
        for t, row in enumerate(rows):
            row = row[: S - T + t + 1]
            parts = row.split(size)
            best = torch.stack([part.max() for part in parts])
            keep = best.argsort(descending=True, stable=True)[:blocks].sort().values
            places = torch.cat([torch.arange(len(row))[j * size : (j + 1) * size] for j in keep.tolist()])
            order = row[places].argsort(descending=True, stable=True)[:k]
            out[b, t, places[order]] = True
    return out
""",
    "by ranks": """
def two_level(scores, size, blocks, k):
    for name, value in zip(("size", "blocks", "k"), (size, blocks, k)):
        if not value >= 1:
            raise ValueError(f"expected {name} >= 1")

    def rank(x):
        return x.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)

    T, S = scores.shape[-2:]
    future = torch.ones(T, S, dtype=torch.bool).triu(S - T + 1)
    hidden = scores.masked_fill(future, -math.inf)
    best = torch.stack([hidden[..., i : i + size].amax(-1) for i in range(0, S, size)], dim=-1)
    shut = rank(best) >= blocks
    shut = torch.stack([shut[..., s // size] for s in range(S)], dim=-1) | future
    return (rank(hidden.masked_fill(shut, -math.inf)) < k) & ~shut
""",
}

_LEVELS_WRONG = {
    "a block's score looks into the future": _changed(
        _LEVELS,
        ("block.expand_as(hidden), hidden,", "block.expand_as(hidden), scores,"),
    ),
    "a block's mean instead of its best": _changed(
        _LEVELS,
        ('block.expand_as(hidden), hidden, "amax")',
         'block.expand_as(hidden), torch.where(visible, scores, 0), "sum", include_self=False)'),
        ("    top =", "    best = best / torch.zeros_like(best).scatter_reduce(-1, block.expand_as(hidden), "
                      "visible.to(best.dtype), 'sum').clamp(min=1)\n    top ="),
    ),
    "a hidden score is 0": _changed(_LEVELS, ("(visible, scores, -math.inf)", "(visible, scores, 0)")),
    "a hidden score is multiplied away": _changed(
        _LEVELS,
        ("torch.where(visible, scores, -math.inf)", "scores.masked_fill(scores.isnan(), 0) * visible"),
    ),
    "blocks are padded with 0": '''
def two_level(scores, size, blocks, k):
    for name, value in {"size": size, "blocks": blocks, "k": k}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}")
    T, S = scores.shape[1:]
    visible = torch.arange(S) <= torch.arange(S - T, S)[:, None]
    hidden = scores.masked_fill(~visible, -math.inf)
    padded = torch.nn.functional.pad(hidden, (0, -S % size)).unflatten(-1, (-1, size)).amax(-1)
    top = padded.sort(dim=-1, descending=True, stable=True).indices[..., :blocks]
    opened = torch.zeros_like(padded, dtype=torch.bool).scatter(-1, top, True)
    opened = opened.repeat_interleave(size, dim=-1)[..., :S] & visible
    inside = hidden.masked_fill(~opened, -math.inf)
    order = inside.sort(dim=-1, descending=True, stable=True).indices[..., :k]
    return torch.zeros_like(opened).scatter(-1, order, True) & opened
''',
    "the ragged last block is dropped": '''
def two_level(scores, size, blocks, k):
    for name, value in {"size": size, "blocks": blocks, "k": k}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}")
    T, S = scores.shape[1:]
    whole = S // size
    visible = torch.arange(S) <= torch.arange(S - T, S)[:, None]
    hidden = scores.masked_fill(~visible, -math.inf)
    best = hidden[..., : whole * size].unflatten(-1, (-1, size)).amax(-1)
    top = best.sort(dim=-1, descending=True, stable=True).indices[..., :blocks]
    opened = torch.zeros_like(visible.expand_as(scores))
    kept = torch.zeros_like(best, dtype=torch.bool).scatter(-1, top, True)
    opened[..., : whole * size] = kept.repeat_interleave(size, -1)
    opened = opened & visible
    order = hidden.masked_fill(~opened, -math.inf).sort(dim=-1, descending=True, stable=True).indices[..., :k]
    return torch.zeros_like(opened).scatter(-1, order, True) & opened
''',
    "no second look at causality": _changed(_LEVELS, ("return chosen & opened", "return chosen")),
    "all of the blocks, not the best of them": _changed(_LEVELS, ("return chosen & opened", "return opened")),
    "k places of each block": _changed(
        _LEVELS,
        ("chosen = torch.zeros_like(opened).scatter(-1, select_topk(inside, min(k, S)), True)",
         "chosen = torch.zeros_like(opened)\n"
         "    for j in range(count):\n"
         "        own = torch.where(block == j, inside, -math.inf)\n"
         "        chosen |= torch.zeros_like(opened).scatter(-1, select_topk(own, min(k, S)), True)"),
    ),
    "the flat choice": _changed(_LEVELS, ("torch.where(opened, hidden, -math.inf)", "hidden"),
                                ("return chosen & opened", "return chosen & visible")),
    "the flat choice, cut to the blocks": _changed(_LEVELS, ("torch.where(opened, hidden, -math.inf)", "hidden")),
    "ties among blocks by torch.topk": _changed(
        _LEVELS, ("select_topk(best, min(blocks, count))", "best.topk(min(blocks, count)).indices")
    ),
    "ties among places by torch.topk": _changed(
        _LEVELS, ("select_topk(inside, min(k, S))", "inside.topk(min(k, S)).indices")
    ),
    "ties among blocks go to the later block": _changed(
        _LEVELS, ("select_topk(best, min(blocks, count))", "count - 1 - select_topk(best.flip(-1), min(blocks, count))")
    ),
    "queries are taken for the first of the tokens": _changed(
        _LEVELS, ("torch.arange(S - T, S)[:, None]", "torch.arange(T)[:, None]")
    ),
    "a query does not see itself": _changed(_LEVELS, ("(place <= torch", "(place < torch")),
    "places instead of truth values": _changed(
        _LEVELS, ("return chosen & opened", "return (chosen & opened).long()")
    ),
    "no check of the sizes": _changed(_LEVELS, ("if value < 1:", "if value is None:")),
    "the error speaks of size and blocks alone": _changed(
        _LEVELS, ('ValueError(f"{name} is {value}")', 'ValueError("size and blocks must be 1 or more")')
    ),
    "a hidden score is -1e9": _changed(
        _LEVELS,
        ("torch.where(visible, scores, -math.inf)", "torch.where(visible, scores, -1e9)"),
        ("torch.where(opened, hidden, -math.inf)", "torch.where(opened, hidden, -1e9)"),
    ),
    "too many blocks or places: an error": _changed(
        _LEVELS, ("select_topk(best, min(blocks, count))", "select_topk(best, blocks)"), ("min(k, S)", "k")
    ),
    "the future is hidden in the input": _changed(
        _LEVELS,
        ("torch.where(visible, scores, -math.inf)", "scores.masked_fill_(~visible, -math.inf)"),
    ),
}  # fmt: skip

# --------------------------------------------------------------------------------------------------------------------
_ATTEND = """
def attend_chosen(q, k, v, places, scale):
    B, T, H, d = q.shape
    G, n = places.shape[2:]
    order = places.sort(-1).values
    counts = order >= 0
    at = order.clamp(min=0).transpose(1, 2).reshape(B, G, T * n, 1)

    def look_up(rows):
        width = rows.shape[-1]
        found = rows.transpose(1, 2).gather(2, at.expand(B, G, T * n, width)).view(B, G, T, n, width)
        return torch.where(counts.transpose(1, 2)[..., None], found, 0)

    keys, values = look_up(k), look_up(v)
    queries = q.view(B, T, G, H // G, d).permute(0, 2, 1, 3, 4)
    logits = scale * queries @ keys.mT
    keep = counts.transpose(1, 2)[..., None, :]
    top = torch.where(keep, logits, -math.inf).amax(-1, keepdim=True).detach().clamp(min=-1e30)
    weights = torch.where(keep, (logits - top).clamp(max=0), -math.inf).exp()
    total = weights.sum(-1, keepdim=True)
    out = (weights / torch.where(total > 0, total, 1)) @ values
    return out.permute(0, 2, 1, 3, 4).reshape(B, T, H, -1)
"""

_ATTEND_INDEXED = """
def attend_chosen(q, k, v, places, scale):
    B, T, H, _ = q.shape
    G = k.shape[2]
    counts = places != -1
    b, g = torch.arange(B).view(B, 1, 1, 1), torch.arange(G).view(1, 1, G, 1)
    at = places.clamp(min=0)
    keys = k[b, at, g].masked_fill(~counts[..., None], 0).repeat_interleave(H // G, dim=2)
    values = v[b, at, g].masked_fill(~counts[..., None], 0).repeat_interleave(H // G, dim=2)
    counts = counts.repeat_interleave(H // G, dim=2)
    logits = (keys @ (scale * q)[..., None])[..., 0]
    weights = logits.masked_fill(~counts, -1e30).softmax(-1)
    weights = weights * counts
    return torch.einsum("bthn,bthnd->bthd", weights, values)
"""

_ATTEND_RIGHT = {
    "sorted places, one gather, a softmax by hand": _ATTEND,
    "every head's own copy of keys and values": _ATTEND_INDEXED,
    "minus infinity, and NaN replaced: masked_fill keeps it out of the gradient": _changed(
        _ATTEND_INDEXED,
        ("~counts, -1e30)", "~counts, -math.inf)"),
        ("weights = weights * counts", "weights = weights.nan_to_num(0)"),
    ),
    "one query and one group at a time": """
def attend_chosen(q, k, v, places, scale):
    size = q.shape[2] // k.shape[2]
    texts = []
    for b in range(q.shape[0]):
        queries = []
        for t in range(q.shape[1]):
            groups = []
            for g in range(k.shape[2]):
                named = places[b, t, g]
                named = named[named >= 0]
                heads = q[b, t, g * size : (g + 1) * size]
                if len(named):
                    groups.append((scale * heads @ k[b, named, g].T).softmax(-1) @ v[b, named, g])
                else:
                    groups.append(v.new_zeros(size, v.shape[-1]))
            queries.append(torch.cat(groups))
        texts.append(torch.stack(queries))
    return torch.stack(texts)
""",
}

_ATTEND_WRONG = {
    "-1 is the last token": _changed(
        _ATTEND_INDEXED, ("at = places.clamp(min=0)", "at = places"), ("places != -1", "places >= -1")
    ),
    "-1 is token 0": _changed(_ATTEND_INDEXED, ("places != -1", "places >= -1")),
    "place 0 is none, too": _changed(_ATTEND_INDEXED, ("places != -1", "places > 0")),
    "the list ends at the first hole": _changed(
        _ATTEND_INDEXED, ("counts = places != -1", "counts = (places != -1).long().cumprod(-1).bool()")
    ),
    "holes are hidden only behind the softmax": _changed(
        _ATTEND_INDEXED, ("logits.masked_fill(~counts, -1e30).softmax(-1)", "logits.softmax(-1)")
    ),
    "a query without a place: NaN": _changed(_ATTEND_INDEXED, ("~counts, -1e30)", "~counts, -math.inf)")),
    "a query without a place: the mean of nothing's values": _changed(
        _ATTEND_INDEXED,
        ("    weights = weights * counts\n", ""),
        ("v[b, at, g].masked_fill(~counts[..., None], 0)", "v[b, at, g]"),
    ),
    "a weight of NaN is replaced, its gradient is not": _changed(
        _ATTEND_INDEXED,
        ("logits.masked_fill(~counts, -1e30)", "(logits + torch.where(counts, 0, -math.inf))"),
        ("weights = weights * counts", "weights = weights.nan_to_num(0)"),
    ),
    "the row behind a hole is read: zero times NaN": _changed(
        _ATTEND_INDEXED, ("v[b, at, g].masked_fill(~counts[..., None], 0)", "v[b, at, g]")
    ),
    "the key behind a hole is read": _changed(
        _ATTEND_INDEXED,
        ("k[b, at, g].masked_fill(~counts[..., None], 0)", "k[b, at, g]"),
        ("logits.masked_fill(~counts, -1e30)", "(logits - 1e30 * ~counts)"),
    ),
    "a mask over all tokens": '''
def attend_chosen(q, k, v, places, scale):
    B, T, H, _ = q.shape
    S, G = k.shape[1:3]
    named = torch.zeros(B, T, G, S + 1, dtype=torch.bool).scatter(-1, places.masked_fill(places < 0, S), True)
    named = named[..., :S].repeat_interleave(H // G, dim=2)
    keys, values = (x.repeat_interleave(H // G, dim=2) for x in (k, v))
    logits = scale * torch.einsum("bthd,bshd->bths", q, keys)
    weights = logits.masked_fill(~named, -1e30).softmax(-1) * named
    return torch.einsum("bths,bshd->bthd", weights, values)
''',
    "a mask over all tokens, NaN replaced in advance": '''
def attend_chosen(q, k, v, places, scale):
    B, T, H, _ = q.shape
    S, G = k.shape[1:3]
    named = torch.zeros(B, T, G, S + 1, dtype=torch.bool).scatter(-1, places.clamp(min=0), True)
    named = named[..., :S].repeat_interleave(H // G, dim=2)
    keys, values = (x.nan_to_num(0, 0, 0).repeat_interleave(H // G, dim=2) for x in (k, v))
    logits = scale * torch.einsum("bthd,bshd->bths", q, keys)
    weights = logits.masked_fill(~named, -1e30).softmax(-1) * named
    return torch.einsum("bths,bshd->bthd", weights, values)
''',
    "heads are dealt out to the groups in turn": _changed(
        _ATTEND_INDEXED,
        ("keys = k[b, at, g].masked_fill(~counts[..., None], 0).repeat_interleave(H // G, dim=2)",
         "keys = k[b, at, g].masked_fill(~counts[..., None], 0).repeat(1, 1, H // G, 1, 1)"),
        ("values = v[b, at, g].masked_fill(~counts[..., None], 0).repeat_interleave(H // G, dim=2)",
         "values = v[b, at, g].masked_fill(~counts[..., None], 0).repeat(1, 1, H // G, 1, 1)"),
        ("counts = counts.repeat_interleave(H // G, dim=2)", "counts = counts.repeat(1, 1, H // G, 1)"),
    ),
    "the first group's choice for all": _changed(
        _ATTEND_INDEXED, ("    counts = places", "    places = places[:, :, :1].expand_as(places)\n    counts = places")
    ),
    "the first group's keys for all": _changed(
        _ATTEND_INDEXED, ("keys = k[b, at, g]", "keys = k[b, at, torch.zeros_like(g)]")
    ),
    "the scale is forgotten": _changed(_ATTEND_INDEXED, ("(scale * q)", "q")),
    "the scale is one over the root of the width": _changed(
        _ATTEND_INDEXED, ("(scale * q)", "(q.shape[-1] ** -0.5 * q)")
    ),
    "all texts read from the first": _changed(
        _ATTEND_INDEXED, ("torch.arange(B).view(B, 1, 1, 1)", "torch.zeros(B, 1, 1, 1, dtype=torch.int64)")
    ),
    "a hidden logit is -1e4": _changed(_ATTEND_INDEXED, ("~counts, -1e30)", "~counts, -1e4)")),
    "a single query loses its dimension": _changed(
        _ATTEND_INDEXED, ("weights, values)", "weights, values).squeeze(1)")
    ),
    "the logits are cut off": _changed(
        _ATTEND_INDEXED, ("logits.masked_fill(~counts, -1e30)", "logits.clamp(-80, 80).masked_fill(~counts, -1e30)")
    ),
    "a softmax without its maximum": _changed(
        _ATTEND_INDEXED,
        ("weights = logits.masked_fill(~counts, -1e30).softmax(-1)",
         "weights = logits.exp() * counts\n    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-30)"),
    ),
    "no gradient for the keys": _changed(_ATTEND_INDEXED, ("keys = k[b", "keys = k.detach()[b")),
    "holes are filled in the input": _changed(
        _ATTEND_INDEXED, ("at = places.clamp(min=0)", "at = places.clamp_(min=0)")
    ),
}  # fmt: skip

# --------------------------------------------------------------------------------------------------------------------
_JS = """
def jensen_shannon(p, scores, among, temperature=1.0):
    if not temperature > 0:
        raise ValueError(f"temperature {temperature}")
    p = torch.where(among, p.detach(), 0)
    logits = torch.where(among, scores / temperature, -1e30)
    log_q = torch.where(among, logits.log_softmax(-1), 0)
    q = log_q.exp()
    log_m = torch.logaddexp(p.log(), log_q) - math.log(2)
    of_p = torch.where(p > 0, p * (p.clamp(min=1e-38).log() - log_m), 0)
    of_q = q * (log_q - log_m)
    return torch.where(among, 0.5 * of_p + 0.5 * of_q, 0).sum(-1)
"""

_JS_BY_HAND = """
class _JS(torch.autograd.Function):
    @staticmethod
    def forward(ctx, p, scores, among, temperature):
        p = p.masked_fill(~among, 0)
        logits = (scores / temperature).masked_fill(~among, -math.inf)
        q = logits.softmax(-1).masked_fill(~among, 0)
        m = (p + q) / 2
        entropy = lambda x: -torch.xlogy(x, x).sum(-1)
        slope = torch.where(q > 0, torch.where(q > 0, q / m, 1).log(), 0)
        slope = q * (slope - (q * slope).sum(-1, keepdim=True)) / (2 * temperature)
        ctx.save_for_backward(slope)
        return entropy(m) - (entropy(p) + entropy(q)) / 2

    @staticmethod
    def backward(ctx, grad):
        return None, ctx.saved_tensors[0] * grad[..., None], None, None


def jensen_shannon(p, scores, among, temperature=1.0):
    if temperature <= 0:
        raise ValueError(f"temperature = {temperature}")
    return _JS.apply(p, scores, among, temperature)
"""

_JS_RIGHT = {
    "where instead of masked_fill": _JS,
    "minus infinity, hidden again behind the softmax": _changed(_JS, ("-1e30", "-math.inf")),
    "the middle passes no gradient: it would add up to zero": _changed(
        _JS,
        ("torch.logaddexp(p.log(), log_q) - math.log(2)", "(torch.logaddexp(p.log(), log_q) - math.log(2)).detach()"),
    ),
    "one query at a time": """
def jensen_shannon(p, scores, among, temperature=1.0):
    if temperature <= 0:
        raise ValueError("the temperature must be above 0")
    p = p.detach()
    values = []
    for target, row, some in zip(p.flatten(0, 1), scores.flatten(0, 1), among.flatten(0, 1)):
        if not some.any():
            values.append(torch.zeros((), dtype=scores.dtype))
            continue
        target, log_q = target[some], (row[some] / temperature).log_softmax(0)
        log_m = torch.logaddexp(target.log(), log_q) - math.log(2)
        of_p = (target * (target.log() - log_m))[target > 0].sum()
        values.append((of_p + (log_q.exp() * (log_q - log_m)).sum()) / 2)
    return torch.stack(values).view(p.shape[:2])
""",
    "the entropy of the middle less the middle of the entropies, with its own gradient": _JS_BY_HAND,
}

_JS_WRONG = {
    "the report's loss": _changed(
        _JS,
        ("0.5 * of_p + 0.5 * of_q", "torch.xlogy(p, p) - p * log_q"),
    ),
    "the other direction alone": _changed(_JS, ("0.5 * of_p + 0.5 * of_q", "of_q - q * math.log(2)")),
    "the two halves are not halved": _changed(_JS, ("0.5 * of_p + 0.5 * of_q", "of_p + of_q")),
    "the middle is a sum": _changed(_JS, (" - math.log(2)\n", "\n")),
    "Jeffreys' divergence": _changed(
        _JS, ("0.5 * of_p + 0.5 * of_q", "0.5 * (p - q) * (p.clamp(min=1e-9).log() - log_q)")
    ),
    "in bits": _changed(_JS, ("sum(-1)", "sum(-1) / math.log(2)")),
    "a mean over the tokens": _changed(_JS, ("0).sum(-1)", "0).mean(-1)")),
    "a mean over the queries": _changed(_JS, ("0).sum(-1)", "0).sum(-1).mean()")),
    "the temperature multiplies": _changed(_JS, ("scores / temperature", "scores * temperature")),
    "the temperature is forgotten": _changed(_JS, ("scores / temperature", "scores")),
    "the temperature's square, as in distillation": _changed(_JS, ("sum(-1)", "sum(-1) * temperature**2")),
    "any temperature": _changed(_JS, ("if not temperature > 0:", "if False:")),
    "the softmax runs over all tokens": _changed(
        _JS, ("torch.where(among, scores / temperature, -1e30)", "(scores / temperature).nan_to_num(0)")
    ),
    "the target keeps its gradient": _changed(_JS, ("p.detach()", "p")),
    "minus infinity: zero times it is no number": _changed(
        _JS, ("-1e30", "-math.inf"), ("torch.where(among, logits.log_softmax(-1), 0)", "logits.log_softmax(-1)")
    ),
    "a probability's logarithm: NaN where q is 0": _changed(
        _JS,
        ("log_q = torch.where(among, logits.log_softmax(-1), 0)\n    q = log_q.exp()\n",
         "q = torch.where(among, logits.softmax(-1), 0)\n"),
        ("torch.logaddexp(p.log(), log_q) - math.log(2)", "((p + q) / 2).log()"),
        ("of_q = q * (log_q - log_m)", "of_q = torch.xlogy(q, q) - q * log_m"),
    ),
    "a small number in every logarithm": _changed(
        _JS,
        ("log_q = torch.where(among, logits.log_softmax(-1), 0)\n    q = log_q.exp()\n",
         "q = torch.where(among, logits.softmax(-1), 0)\n    log_q = (q + 1e-4).log()\n"),
        ("torch.logaddexp(p.log(), log_q) - math.log(2)", "((p + q) / 2 + 1e-4).log()"),
    ),
    "the indexer's share passes no gradient": _changed(_JS, ("of_q = q * (", "of_q = q.detach() * (")),
    "the mean of the logarithms instead of the logarithm of the mean": _changed(
        _JS, ("torch.logaddexp(p.log(), log_q) - math.log(2)", "(p.clamp(min=1e-30).log() + log_q) / 2")
    ),
    "p is read where it does not count": _changed(
        _JS, ("p = torch.where(among, p.detach(), 0)", "p = p.detach()"),
        ("torch.where(among, 0.5 * of_p + 0.5 * of_q, 0)", "(0.5 * of_p + 0.5 * of_q * among)"),
    ),
    "a hidden score is -100": _changed(_JS, ("scores / temperature, -1e30", "scores / temperature, -100.0")),
    "a hidden score is -1e4": _changed(_JS, ("scores / temperature, -1e30", "scores / temperature, -1e4")),
    "scores are cut off": _changed(
        _JS, ("among, scores / temperature", "among, scores.clamp(-100, 100) / temperature")
    ),
    "its own gradient, whatever comes from above": _changed(
        _JS_BY_HAND, ("ctx.saved_tensors[0] * grad[..., None]", "ctx.saved_tensors[0]")
    ),
    "NaN outside is multiplied away": _changed(
        _JS, ("torch.where(among, scores / temperature, -1e30)", "scores / temperature * among - 1e30 * ~among")
    ),
    "NaN outside is hidden behind the sum": _changed(
        _JS,
        ("where(among, scores / temperature", "where(among | scores.isnan(), scores / temperature"),
    ),
    "the target is cleared in the input": _changed(
        _JS, ("torch.where(among, p.detach(), 0)", "p.detach().masked_fill_(~among, 0)")
    ),
}  # fmt: skip

WRONG = {
    "head_recall": _RECALL_WRONG,
    "sinks_and_window": _SINKS_WRONG,
    "prompt_break_even": _EVEN_WRONG,
    "two_level": _LEVELS_WRONG,
    "attend_chosen": _ATTEND_WRONG,
    "jensen_shannon": _JS_WRONG,
}
RIGHT = {
    "head_recall": _RECALL_RIGHT,
    "sinks_and_window": _SINKS_RIGHT,
    "prompt_break_even": _EVEN_RIGHT,
    "two_level": _LEVELS_RIGHT,
    "attend_chosen": _ATTEND_RIGHT,
    "jensen_shannon": _JS_RIGHT,
}

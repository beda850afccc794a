"""Answers to the problem set `rlvr`: wrong ones that its tests have to find, right ones that they have to let pass.

The sources run in the notebook's namespace, in the place of the function's solution. WRONG holds what students write:
the bugs of chapters 6 to 8 carried over, and small slips. RIGHT does the same in another way. A wrong one whose only
fault is a hard-coded number has the numbers of nobody's id.
"""

WRONG = {
    "best_of_k": {
        "k blocks instead of all sets": """
def best_of_k(rewards, k):
    n = rewards.shape[1]
    if not 1 <= k <= n:
        raise ValueError(f"k = {k}")
    return rewards.double()[:, : n // k * k].unflatten(1, (-1, k)).amax(2).mean(1)
""",
        "draws with replacement, the obvious estimate": """
def best_of_k(rewards, k):
    n = rewards.shape[1]
    if not 1 <= k <= n:
        raise ValueError(f"k = {k}")
    edges = (torch.arange(n + 1, dtype=torch.float64) / n) ** k
    return rewards.double().sort(1).values @ edges.diff()
""",
        "the worst of k: sorted from the top": """
def best_of_k(rewards, k):
    n = rewards.shape[1]
    if not 1 <= k <= n:
        raise ValueError(f"k = {k}")
    share = torch.tensor([math.comb(i, k - 1) / math.comb(n, k) for i in range(n)], dtype=torch.float64)
    return rewards.double().sort(1, descending=True).values @ share
""",
        "off by one: the best chosen among its k": """
def best_of_k(rewards, k):
    n = rewards.shape[1]
    if not 1 <= k <= n:
        raise ValueError(f"k = {k}")
    share = torch.tensor([math.comb(i + 1, k - 1) for i in range(n)], dtype=torch.float64)
    return rewards.double().sort(1).values @ (share / share.sum())
""",
        "binomials as floats": """
def best_of_k(rewards, k):
    n = rewards.shape[1]
    if not 1 <= k <= n:
        raise ValueError(f"k = {k}")
    ways = torch.tensor([float(math.comb(i, k - 1)) for i in range(n)], dtype=torch.float64)
    return rewards.double().sort(1).values @ (ways / float(math.comb(n, k)))
""",
        "a maximum that starts at 0": """
def best_of_k(rewards, k):
    n = rewards.shape[1]
    if not 1 <= k <= n:
        raise ValueError(f"k = {k}")
    share = torch.tensor([math.comb(i, k - 1) / math.comb(n, k) for i in range(n)], dtype=torch.float64)
    return rewards.double().clamp(min=0).sort(1).values @ share
""",
        "pass@k of positive rewards": """
def best_of_k(rewards, k):
    return pass_at_k(rewards.shape[1], (rewards > 0).sum(1), k)
""",
        "the mean over problems, too": """
def best_of_k(rewards, k):
    n = rewards.shape[1]
    if not 1 <= k <= n:
        raise ValueError(f"k = {k}")
    share = torch.tensor([math.comb(i, k - 1) / math.comb(n, k) for i in range(n)], dtype=torch.float64)
    return (rewards.double().sort(1).values @ share).mean()
""",
        "sorts the input in place": """
def best_of_k(rewards, k):
    n = rewards.shape[1]
    if not 1 <= k <= n:
        raise ValueError(f"k = {k}")
    rewards.copy_(rewards.sort(1).values)
    share = torch.tensor([math.comb(i, k - 1) / math.comb(n, k) for i in range(n)], dtype=torch.float64)
    return rewards.double() @ share
""",
        "no error for k = 0": """
def best_of_k(rewards, k):
    n = rewards.shape[1]
    if k > n:
        raise ValueError(f"k = {k}")
    share = [math.comb(i, k - 1) / math.comb(n, k) if k > 0 else 0.0 for i in range(n)]
    return rewards.double().sort(1).values @ torch.tensor(share, dtype=torch.float64)
""",
    },
    "kept_advantages": {
        "exactly zero only if the whole batch is alike": """
def kept_advantages(rewards, finished):
    if finished.dtype != torch.bool or finished.shape != rewards.shape:
        raise ValueError("finished")
    values = rewards[finished]
    if len(values) == 0 or (values == values[0]).all():
        return torch.zeros_like(rewards)
    rewards = rewards.masked_fill(~finished, 0)
    n = finished.sum(1, keepdim=True)
    others = (rewards.sum(1, keepdim=True) - rewards) / (n - 1).clamp(min=1)
    return (rewards - others).masked_fill(~finished | (n < 2), 0)
""",
        "what is small is taken for zero": """
def kept_advantages(rewards, finished):
    if finished.dtype != torch.bool or finished.shape != rewards.shape:
        raise ValueError("finished")
    rewards = rewards.masked_fill(~finished, 0)
    n = finished.sum(1, keepdim=True)
    advantages = rewards - (rewards.sum(1, keepdim=True) - rewards) / (n - 1).clamp(min=1)
    return advantages.masked_fill(~finished | (n < 2) | (advantages.abs() < 1e-4), 0)
""",
        "cut off counts as wrong": """
def kept_advantages(rewards, finished):
    if finished.dtype != torch.bool or finished.shape != rewards.shape:
        raise ValueError("finished")
    rewards = rewards.masked_fill(~finished, 0)
    return rewards - (rewards.sum(1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
""",
        "the baseline has the answer itself in it": """
def kept_advantages(rewards, finished):
    if finished.dtype != torch.bool or finished.shape != rewards.shape:
        raise ValueError("finished")
    rewards = rewards.masked_fill(~finished, 0)
    gaps = (rewards[:, :, None] - rewards[:, None, :]) * (finished[:, :, None] & finished[:, None, :])
    return gaps.sum(2) / finished.sum(1, keepdim=True).clamp(min=1)
""",
        "multiplies by the mask: nan times 0": """
def kept_advantages(rewards, finished):
    if finished.dtype != torch.bool or finished.shape != rewards.shape:
        raise ValueError("finished")
    gaps = (rewards[:, :, None] - rewards[:, None, :]) * (finished[:, :, None] & finished[:, None, :])
    return gaps.sum(2) / (finished.sum(1, keepdim=True) - 1).clamp(min=1)
""",
        "a rounding error where all are alike": """
def kept_advantages(rewards, finished):
    if finished.dtype != torch.bool or finished.shape != rewards.shape:
        raise ValueError("finished")
    rewards = rewards.masked_fill(~finished, 0)
    n = finished.sum(1, keepdim=True)
    others = (rewards.sum(1, keepdim=True) - rewards) / (n - 1).clamp(min=1)
    return (rewards - others).masked_fill(~finished | (n < 2), 0)
""",
        "the only finished answer keeps its reward": """
def kept_advantages(rewards, finished):
    if finished.dtype != torch.bool or finished.shape != rewards.shape:
        raise ValueError("finished")
    rewards = rewards.masked_fill(~finished, 0)
    n = finished.sum(1, keepdim=True)
    high = rewards.masked_fill(~finished, -1e9).amax(1, keepdim=True)
    alike = rewards.masked_fill(~finished, 1e9).amin(1, keepdim=True) == high
    others = (rewards.sum(1, keepdim=True) - rewards) / (n - 1).clamp(min=1)
    return (rewards - others).masked_fill(~finished | (alike & (n > 1)), 0)
""",
        "0 / 0 where only one has finished": """
def kept_advantages(rewards, finished):
    if finished.dtype != torch.bool or finished.shape != rewards.shape:
        raise ValueError("finished")
    rewards = rewards.masked_fill(~finished, 0)
    gaps = (rewards[:, :, None] - rewards[:, None, :]) * (finished[:, :, None] & finished[:, None, :])
    return gaps.sum(2) / (finished.sum(1, keepdim=True) - 1)
""",
        "the mean of the whole batch": """
def kept_advantages(rewards, finished):
    if finished.dtype != torch.bool or finished.shape != rewards.shape:
        raise ValueError("finished")
    rewards = rewards.masked_fill(~finished, 0)
    n = finished.sum()
    others = (rewards.sum() - rewards) / (n - 1).clamp(min=1)
    return (rewards - others).masked_fill(~finished, 0)
""",
        "the cut off have an advantage, too": """
def kept_advantages(rewards, finished):
    if finished.dtype != torch.bool or finished.shape != rewards.shape:
        raise ValueError("finished")
    rewards = rewards.masked_fill(~finished, 0)
    gaps = (rewards[:, :, None] - rewards[:, None, :]) * finished[:, None, :]
    return gaps.sum(2) / (finished.sum(1, keepdim=True) - 1).clamp(min=1)
""",
        "divided by the deviation": """
def kept_advantages(rewards, finished):
    if finished.dtype != torch.bool or finished.shape != rewards.shape:
        raise ValueError("finished")
    rewards = rewards.masked_fill(~finished, 0)
    gaps = (rewards[:, :, None] - rewards[:, None, :]) * (finished[:, :, None] & finished[:, None, :])
    found = gaps.sum(2) / (finished.sum(1, keepdim=True) - 1).clamp(min=1)
    return found / (found.std(1, keepdim=True) + 1e-4)
""",
        "fills the rewards in place": """
def kept_advantages(rewards, finished):
    if finished.dtype != torch.bool or finished.shape != rewards.shape:
        raise ValueError("finished")
    rewards[~finished] = 0
    gaps = (rewards[:, :, None] - rewards[:, None, :]) * (finished[:, :, None] & finished[:, None, :])
    return gaps.sum(2) / (finished.sum(1, keepdim=True) - 1).clamp(min=1)
""",
        "takes a mask of integers": """
def kept_advantages(rewards, finished):
    if finished.is_floating_point() or finished.shape != rewards.shape:
        raise ValueError("finished")
    finished = finished.bool()
    rewards = rewards.masked_fill(~finished, 0)
    gaps = (rewards[:, :, None] - rewards[:, None, :]) * (finished[:, :, None] & finished[:, None, :])
    return gaps.sum(2) / (finished.sum(1, keepdim=True) - 1).clamp(min=1)
""",
        "lets a mask broadcast": """
def kept_advantages(rewards, finished):
    if finished.dtype != torch.bool or finished.shape[1] != rewards.shape[1]:
        raise ValueError("finished")
    rewards = rewards.masked_fill(~finished, 0)
    gaps = (rewards[:, :, None] - rewards[:, None, :]) * (finished[:, :, None] & finished[:, None, :])
    return gaps.sum(2) / (finished.sum(1, keepdim=True) - 1).clamp(min=1)
""",
    },
    "my_groups": {
        "somebody else's numbers": """
def my_groups():
    return {"silent": 0.36482910, "answers": 4.1173305, "smallest": 23}
""",
        "all cut off is counted twice": """
def my_groups():
    right, cut = me.integer("right", 6, 20) / 100, me.integer("cut", 35, 45) / 100
    G = me.integer("group size", 5, 8)
    wrong = 1 - right - cut
    silent = lambda G: (wrong + cut) ** G + (right + cut) ** G
    answers = G * (right * (1 - (1 - wrong) ** (G - 1)) + wrong * (1 - (1 - right) ** (G - 1)))
    return {"silent": silent(G), "answers": answers, "smallest": next(n for n in range(2, 999) if silent(n) <= 0.1)}
""",
        "chapter 7's silent groups: nobody is cut off": """
def my_groups():
    right, cut = me.integer("right", 6, 20) / 100, me.integer("cut", 35, 45) / 100
    G = me.integer("group size", 5, 8)
    wrong = 1 - right - cut
    silent = lambda G: right**G + (1 - right) ** G
    answers = G * (right * (1 - (1 - wrong) ** (G - 1)) + wrong * (1 - (1 - right) ** (G - 1)))
    return {"silent": silent(G), "answers": answers, "smallest": next(n for n in range(2, 999) if silent(n) <= 0.1)}
""",
        "answers as if finishing and being mixed were independent": """
def my_groups():
    right, cut = me.integer("right", 6, 20) / 100, me.integer("cut", 35, 45) / 100
    G = me.integer("group size", 5, 8)
    wrong = 1 - right - cut
    silent = lambda G: (wrong + cut) ** G + (right + cut) ** G - cut**G
    answers = G * (right + wrong) * (1 - silent(G))
    return {"silent": silent(G), "answers": answers, "smallest": next(n for n in range(2, 999) if silent(n) <= 0.1)}
""",
        "the cut off have an advantage, too": """
def my_groups():
    right, cut = me.integer("right", 6, 20) / 100, me.integer("cut", 35, 45) / 100
    G = me.integer("group size", 5, 8)
    wrong = 1 - right - cut
    silent = lambda G: (wrong + cut) ** G + (right + cut) ** G - cut**G
    answers = G * (1 - silent(G))
    return {"silent": silent(G), "answers": answers, "smallest": next(n for n in range(2, 999) if silent(n) <= 0.1)}
""",
        "the smallest group, one too large": """
def my_groups():
    right, cut = me.integer("right", 6, 20) / 100, me.integer("cut", 35, 45) / 100
    G = me.integer("group size", 5, 8)
    wrong = 1 - right - cut
    silent = lambda G: (wrong + cut) ** G + (right + cut) ** G - cut**G
    answers = G * (right * (1 - (1 - wrong) ** (G - 1)) + wrong * (1 - (1 - right) ** (G - 1)))
    return {"silent": silent(G), "answers": answers, "smallest": next(n for n in range(2, 999) if silent(n - 1) <= 0.1)}
""",
        "the smallest group from the wrong answers alone": """
def my_groups():
    right, cut = me.integer("right", 6, 20) / 100, me.integer("cut", 35, 45) / 100
    G = me.integer("group size", 5, 8)
    wrong = 1 - right - cut
    silent = (wrong + cut) ** G + (right + cut) ** G - cut**G
    answers = G * (right * (1 - (1 - wrong) ** (G - 1)) + wrong * (1 - (1 - right) ** (G - 1)))
    return {"silent": silent, "answers": answers, "smallest": math.ceil(math.log(0.1) / math.log(wrong))}
""",
        "dice instead of a formula": """
def my_groups():
    right, cut = me.integer("right", 6, 20) / 100, me.integer("cut", 35, 45) / 100
    G = me.integer("group size", 5, 8)
    coin = torch.rand(100_000, 40, generator=torch.Generator().manual_seed(1))
    good, kept = coin < right, coin < 1 - cut

    def mixed(n):
        return good[:, :n].any(1) & (kept & ~good)[:, :n].any(1)

    answers = (kept[:, :G].sum(1) * mixed(G)).double().mean().item()
    smallest = next(n for n in range(2, 999) if mixed(n).double().mean() >= 0.9)
    return {"silent": 1 - mixed(G).double().mean().item(), "answers": answers, "smallest": smallest}
""",
    },
    "same_set": {},
    "best_weight": {
        "a small variance is taken for none": """
def best_weight(log_pi, log_ref):
    said = log_pi > -math.inf
    pi = log_pi.exp()
    k1 = (log_pi - log_ref).masked_fill(~said, 0)
    y = (log_ref - log_pi).masked_fill(~said, 0).exp()
    y = (y - (pi * y).sum(-1, keepdim=True)).masked_fill(~said, 0)
    variance = (pi * y**2).sum(-1)
    flat = variance < 1e-9
    return (-(pi * k1 * y).sum(-1) / variance.masked_fill(flat, 1)).masked_fill(flat, 1)
""",
        "a wide bound for equal policies": """
def best_weight(log_pi, log_ref):
    said = log_pi > -math.inf
    pi = log_pi.exp()
    k1 = (log_pi - log_ref).masked_fill(~said, 0)
    y = (log_ref - log_pi).masked_fill(~said, 0).exp()
    y = (y - (pi * y).sum(-1, keepdim=True)).masked_fill(~said, 0)
    variance = (pi * y**2).sum(-1)
    flat = y.abs().amax(-1) < 1e-3
    return (-(pi * k1 * y).sum(-1) / variance.masked_fill(flat, 1)).masked_fill(flat, 1)
""",
        "always 1, as k3 has it": """
def best_weight(log_pi, log_ref):
    return torch.ones(log_pi.shape[:-1], dtype=log_pi.dtype)
""",
        "the sign": """
def best_weight(log_pi, log_ref):
    said = log_pi > -math.inf
    pi = log_pi.exp()
    k1 = (log_pi - log_ref).masked_fill(~said, 0)
    y = (log_ref - log_pi).masked_fill(~said, 0).exp()
    y = (y - (pi * y).sum(-1, keepdim=True)).masked_fill(~said, 0)
    flat = y.abs().amax(-1) < 1e-9
    return ((pi * k1 * y).sum(-1) / (pi * y**2).sum(-1).masked_fill(flat, 1)).masked_fill(flat, 1)
""",
        "the mean of the variate taken to be 1": """
def best_weight(log_pi, log_ref):
    said = log_pi > -math.inf
    pi = log_pi.exp()
    k1 = (log_pi - log_ref).masked_fill(~said, 0)
    y = ((log_ref - log_pi).masked_fill(~said, 0).exp() - 1).masked_fill(~said, 0)
    flat = y.abs().amax(-1) < 1e-9
    return (-(pi * k1 * y).sum(-1) / (pi * y**2).sum(-1).masked_fill(flat, 1)).masked_fill(flat, 1)
""",
        "every token counts alike": """
def best_weight(log_pi, log_ref):
    said = log_pi > -math.inf
    pi = said.double() / said.sum(-1, keepdim=True)
    k1 = (log_pi - log_ref).masked_fill(~said, 0)
    y = (log_ref - log_pi).masked_fill(~said, 0).exp()
    y = (y - (pi * y).sum(-1, keepdim=True)).masked_fill(~said, 0)
    flat = y.abs().amax(-1) < 1e-9
    return (-(pi * k1 * y).sum(-1) / (pi * y**2).sum(-1).masked_fill(flat, 1)).masked_fill(flat, 1)
""",
        "tokens drawn from the reference": """
def best_weight(log_pi, log_ref):
    said = log_pi > -math.inf
    pi = log_ref.exp() * said
    pi = pi / pi.sum(-1, keepdim=True)
    k1 = (log_pi - log_ref).masked_fill(~said, 0)
    k1 = k1 - (pi * k1).sum(-1, keepdim=True)
    y = (log_ref - log_pi).masked_fill(~said, 0).exp()
    y = (y - (pi * y).sum(-1, keepdim=True)).masked_fill(~said, 0)
    flat = y.abs().amax(-1) < 1e-9
    return (-(pi * k1 * y).sum(-1) / (pi * y**2).sum(-1).masked_fill(flat, 1)).masked_fill(flat, 1)
""",
        "nan where a token cannot be said": """
def best_weight(log_pi, log_ref):
    pi = log_pi.exp()
    k1 = log_pi - log_ref
    y = (log_ref - log_pi).exp()
    y = y - (pi * y).sum(-1, keepdim=True)
    flat = y.abs().amax(-1) < 1e-9
    return (-(pi * k1 * y).sum(-1) / (pi * y**2).sum(-1).masked_fill(flat, 1)).masked_fill(flat, 1)
""",
        "0 / 0 where the policies are equal": """
def best_weight(log_pi, log_ref):
    said = log_pi > -math.inf
    pi = log_pi.exp()
    k1 = (log_pi - log_ref).masked_fill(~said, 0)
    y = (log_ref - log_pi).masked_fill(~said, 0).exp()
    y = (y - (pi * y).sum(-1, keepdim=True)).masked_fill(~said, 0)
    return -(pi * k1 * y).sum(-1) / (pi * y**2).sum(-1)
""",
        "0 where the policies are equal": """
def best_weight(log_pi, log_ref):
    said = log_pi > -math.inf
    pi = log_pi.exp()
    k1 = (log_pi - log_ref).masked_fill(~said, 0)
    y = (log_ref - log_pi).masked_fill(~said, 0).exp()
    y = (y - (pi * y).sum(-1, keepdim=True)).masked_fill(~said, 0)
    flat = y.abs().amax(-1) < 1e-9
    return (-(pi * k1 * y).sum(-1) / (pi * y**2).sum(-1).masked_fill(flat, 1)).masked_fill(flat, 0)
""",
        "one weight for all places": """
def best_weight(log_pi, log_ref):
    said = log_pi > -math.inf
    pi = log_pi.exp()
    k1 = (log_pi - log_ref).masked_fill(~said, 0)
    y = (log_ref - log_pi).masked_fill(~said, 0).exp()
    y = (y - (pi * y).sum(-1, keepdim=True)).masked_fill(~said, 0)
    if y.abs().max() < 1e-9:
        return torch.ones(log_pi.shape[:-1])
    return (-(pi * k1 * y).sum() / (pi * y**2).sum()).expand(log_pi.shape[:-1])
""",
        "constant only if all places are": """
def best_weight(log_pi, log_ref):
    said = log_pi > -math.inf
    pi = log_pi.exp()
    k1 = (log_pi - log_ref).masked_fill(~said, 0)
    y = (log_ref - log_pi).masked_fill(~said, 0).exp()
    y = (y - (pi * y).sum(-1, keepdim=True)).masked_fill(~said, 0)
    if y.abs().max() < 1e-9:
        return torch.ones(log_pi.shape[:-1])
    return -(pi * k1 * y).sum(-1) / (pi * y**2).sum(-1)
""",
        "divided by k1's variance": """
def best_weight(log_pi, log_ref):
    said = log_pi > -math.inf
    pi = log_pi.exp()
    k1 = (log_pi - log_ref).masked_fill(~said, 0)
    k1 = k1 - (pi * k1).sum(-1, keepdim=True)
    y = (log_ref - log_pi).masked_fill(~said, 0).exp()
    y = (y - (pi * y).sum(-1, keepdim=True)).masked_fill(~said, 0)
    flat = y.abs().amax(-1) < 1e-9
    return (-(pi * k1 * y).sum(-1) / (pi * k1**2).sum(-1).masked_fill(flat, 1)).masked_fill(flat, 1)
""",
    },
    "answer_ratio_loss": {},
    "set_advantages": {},
}

RIGHT = {
    "best_of_k": {
        "from the top, by the chance that nothing better was drawn": """
def best_of_k(rewards, k):
    n = rewards.shape[1]
    if k < 1 or k > n:
        raise ValueError(f"k is {k}: expected 1 to {n}")
    chance, left = [], Fraction(1)  # left: none of the best i has been drawn
    for i in range(n):
        chance.append(float(left * Fraction(k, n - i)))
        left *= Fraction(n - i - k, n - i)
        if left == 0:
            break
    chance = torch.tensor(chance, dtype=torch.float64)
    return (rewards.double().sort(1, descending=True).values[:, : len(chance)] * chance).sum(1)
""",
        "a sum over thresholds, each a pass@k": """
def best_of_k(rewards, k):
    n = rewards.shape[1]
    answer = []
    for row in rewards.double():
        steps = row.sort().values
        at_least = pass_at_k(n, n - torch.arange(1, n), k)  # that one of the n - i best is drawn; checks k
        answer.append(steps[0] + (steps.diff() * at_least).sum())
    return torch.stack(answer)
""",
    },
    "kept_advantages": {
        "loops": """
def kept_advantages(rewards, finished):
    if finished.shape != rewards.shape:
        raise ValueError(f"finished: {tuple(finished.shape)}")
    if finished.dtype is not torch.bool:
        raise ValueError(f"finished: {finished.dtype}")
    answer = torch.zeros_like(rewards)
    for p in range(len(rewards)):
        kept = [i for i in range(rewards.shape[1]) if finished[p, i]]
        values = [rewards[p, i].item() for i in kept]
        if len(kept) < 2 or max(values) == min(values):
            continue
        for i, value in zip(kept, values, strict=True):
            answer[p, i] = value - (sum(values) - value) / (len(kept) - 1)
    return answer
""",
        "the group's mean, stretched": """
def kept_advantages(rewards, finished):
    if finished.dtype != torch.bool or finished.size() != rewards.size():
        raise ValueError("finished: expected a bool for each reward")
    values = torch.where(finished, rewards, torch.zeros_like(rewards)).double()
    n = finished.sum(1, keepdim=True).double()
    mean = values.sum(1, keepdim=True) / n.clamp(min=1)
    advantages = (values - mean) * n / (n - 1).clamp(min=1)
    high = torch.where(finished, values, -torch.inf).amax(1, keepdim=True)
    low = torch.where(finished, values, torch.inf).amin(1, keepdim=True)
    return torch.where(finished & (high > low), advantages, 0.0)
""",
    },
    "my_groups": {
        "every group listed": """
def my_groups():
    right, cut = me.integer("right", 6, 20) / 100, me.integer("cut", 35, 45) / 100
    G = me.integer("group size", 5, 8)
    wrong = 1 - right - cut

    def mixed(n):
        for r in range(1, n):
            for w in range(1, n - r + 1):
                ways = math.factorial(n) // (math.factorial(r) * math.factorial(w) * math.factorial(n - r - w))
                yield r + w, ways * right**r * wrong**w * cut ** (n - r - w)

    smallest = 2
    while sum(p for _, p in mixed(smallest)) < 0.9:
        smallest += 1
    return {"silent": 1 - sum(p for _, p in mixed(G)), "answers": sum(n * p for n, p in mixed(G)), "smallest": smallest}
""",
        "answer by answer, as a state machine": """
def my_groups():
    right, cut = me.integer("right", 6, 20) / 100, me.integer("cut", 35, 45) / 100
    G = me.integer("group size", 5, 8)
    states = {(0, 0): 1.0}
    result = {}
    for size in itertools.count(1):
        after = {}
        for (r, w), p in states.items():
            for step, q in (((1, 0), right), ((0, 1), 1 - right - cut), ((0, 0), cut)):
                key = r + step[0], w + step[1]
                after[key] = after.get(key, 0.0) + p * q
        states = after
        silent = sum(p for (r, w), p in states.items() if not r or not w)
        if size == G:
            result["silent"] = silent
            result["answers"] = sum((r + w) * p for (r, w), p in states.items() if r and w)
        if silent <= 0.1 and size > 1:
            result.setdefault("smallest", size)
        if len(result) == 3:
            return result
""",
    },
    "same_set": {},
    "best_weight": {
        "by covariances, place by place": """
def best_weight(log_pi, log_ref):
    answer = []
    for lp, lr in zip(log_pi.reshape(-1, log_pi.shape[-1]), log_ref.reshape(-1, log_ref.shape[-1]), strict=True):
        keep = torch.isfinite(lp)
        p, x, y = lp[keep].exp(), (lp - lr)[keep], (lr - lp)[keep].exp()
        y = y - (p * y).sum()
        x = x - (p * x).sum()
        answer.append(1.0 if y.abs().max() < 1e-9 else (-(p * x * y).sum() / (p * y * y).sum()).item())
    return torch.tensor(answer, dtype=torch.float64).view(log_pi.shape[:-1])
""",
        "the vertex of the parabola through three variances": """
def best_weight(log_pi, log_ref):
    said = torch.isfinite(log_pi)
    p = torch.where(said, log_pi, -torch.inf).exp()
    x = torch.where(said, log_pi - log_ref, 0.0)
    y = torch.where(said, (log_ref - torch.where(said, log_pi, 0.0)).exp(), 0.0)
    y = torch.where(said, y - (p * y).sum(-1, keepdim=True), 0.0)
    scale = y.abs().amax(-1)
    flat = scale < 1e-9
    unit = y / torch.where(flat, 1.0, scale)[..., None]

    def variance(w):
        value = x + w * unit
        mean = (p * value).sum(-1, keepdim=True)
        return (p * (value - mean) ** 2).sum(-1)

    low, middle, high = variance(-1), variance(0), variance(1)
    bend = low + high - 2 * middle
    vertex = (low - high) / 2 / torch.where(flat, 1.0, bend)
    return torch.where(flat, 1.0, vertex / torch.where(flat, 1.0, scale))
""",
    },
    "answer_ratio_loss": {},
    "set_advantages": {},
}

# ------------------------------------------------------------------ intervals: one skeleton, and what is changed in it
_SAME_SET = """
def same_set(key, answer):
    def read(text):
        pieces = []
        parts = pieces_of(text)
        if parts is None:
            raise ValueError(text)
        for opening, numbers, closing in parts:
            if opening == "{":
                pieces += [(x, x, True, True) for x in numbers]
                continue
            low, high = numbers
            left, right = opening == "[", closing == "]"
            if low > high:
                raise ValueError("ends")
            if (low == -math.inf and left) or (high == math.inf and right):
                raise ValueError("infinity is not in")
            if low < high or (left and right):
                pieces.append((low, high, left, right))
        return pieces

    def joined(pieces):
        done = []  # disjoint pieces that do not touch, in order: a set has one such form
        for low, high, left, right in sorted(pieces, key=lambda piece: (piece[0], not piece[2])):
            if done and (low < done[-1][1] or (low == done[-1][1] and (left or done[-1][3]))):
                a, b, first, last = done[-1]
                done[-1] = (a, max(b, high), first, right if high > b else last or (right and high == b))
            else:
                done.append((low, high, left, right))
        return done

    try:
        wanted = joined(read(key))
    except ValueError:
        raise ValueError(f"key = {key!r}") from None
    try:
        return joined(read(answer)) == wanted
    except ValueError:
        return False
"""
_BY_PLACES = """
def same_set(key, answer):
    def read(text):
        pieces = pieces_of(text)
        if pieces is None:
            return None
        for opening, numbers, closing in pieces:
            if opening != "{":
                a, b = numbers
                if b < a or (opening, a) == ("[", -math.inf) or (closing, b) == ("]", math.inf):
                    return None
        return pieces

    def inside(x, pieces):
        for opening, numbers, closing in pieces:
            if opening == "{":
                if x in numbers:
                    return True
                continue
            a, b = numbers
            if (a <= x if opening == "[" else a < x) and (x <= b if closing == "]" else x < b):
                return True
        return False

    one, two = read(key), read(answer)
    if one is None:
        raise ValueError(f"key {key!r}")
    if two is None:
        return False
    ends = sorted({x for _, numbers, _ in one + two for x in numbers if abs(x) < math.inf})
    gaps = [(a + b) / 2 for a, b in zip(ends, ends[1:])]
    outside = [ends[0] - 1, ends[-1] + 1] if ends else [0]
    return all(inside(x, one) == inside(x, two) for x in ends + gaps + outside)
"""


def _changed(source, *changes):
    for old, new in changes:
        if source.count(old) != 1:
            raise ValueError(f"{old!r} stands {source.count(old)} times in the source, expected once")
        source = source.replace(old, new)
    return source


RIGHT["same_set"] = {
    "pieces are sorted and joined": _SAME_SET,
    "membership at the ends, between them and outside": _BY_PLACES,
    "pieces as ends with a side: open and closed are numbers": """
def same_set(key, answer):
    def cuts(text):
        # where the set begins and ends, as (number, 0 before it or 1 behind it)
        found = []
        for opening, numbers, closing in pieces_of(text):
            if opening == "{":
                for x in numbers:
                    found += [((x, 0), 1), ((x, 1), -1)]
                continue
            low, high = (numbers[0], int(opening == "(")), (numbers[1], int(closing == "]"))
            if numbers[0] > numbers[1] or low == (-math.inf, 0) or high == (math.inf, 1):
                raise TypeError
            if low < high:
                found += [(low, 1), (high, -1)]
        edges, depth = [], 0
        for cut, group in itertools.groupby(sorted(found), key=lambda pair: pair[0]):
            before = depth
            depth += sum(step for _, step in group)
            if (before > 0) != (depth > 0):
                edges.append(cut)
        return edges

    try:
        wanted = cuts(key)
    except TypeError:
        raise ValueError(f"the key {key!r} is no set") from None
    try:
        return cuts(answer) == wanted
    except TypeError:
        return False
""",
    "the parts of the line that a set covers, as numbers of a list": """
def same_set(key, answer):
    def accepted(pieces):
        return pieces is not None and all(
            a == "{" or (x <= y and (a == "(" or x > -math.inf) and (b == ")" or y < math.inf))
            for a, (x, y), b in ((a, numbers if a != "{" else (0, 0), b) for a, numbers, b in pieces)
        )

    mine, theirs = pieces_of(key), pieces_of(answer)
    if not accepted(mine):
        raise ValueError("key: " + key)
    if not accepted(theirs):
        return False
    places = sorted({-math.inf, math.inf}.union(*(numbers for _, numbers, _ in mine + theirs)))
    at = {x: 2 * i for i, x in enumerate(places)}  # the odd numbers between are the gaps

    def covered(pieces):
        parts = set()
        for opening, numbers, closing in pieces:
            if opening == "{":
                parts |= {at[x] for x in numbers}
            else:
                parts |= set(range(at[numbers[0]] + (opening == "("), at[numbers[1]] + (closing == "]")))
        return parts

    return covered(mine) == covered(theirs)
""",
}
_TOUCH = "(low == done[-1][1] and (left or done[-1][3]))"
WRONG["same_set"] = {
    "compares pieces, not sets": _changed(
        _SAME_SET,
        ("wanted = joined(read(key))", "wanted = set(read(key))"),
        ("return joined(read(answer)) == wanted", "return set(read(answer)) == wanted"),
    ),
    "floats instead of fractions": _changed(_SAME_SET, ("= numbers\n", "= map(float, numbers)\n")).replace(
        "(x, x, True, True)", "(float(x), float(x), True, True)"
    ),
    "pieces that only touch are not joined": _changed(
        _SAME_SET, (_TOUCH, "(low == done[-1][1] and left and done[-1][3])")
    ),
    "pieces that touch are always joined": _changed(_SAME_SET, (_TOUCH, "low == done[-1][1]")),
    "the joined piece ends where the last one does": _changed(
        _SAME_SET,
        ("(a, max(b, high), first, right if high > b else last or (right and high == b))", "(a, high, first, right)"),
    ),
    "the last one's bracket counts where two end together": _changed(
        _SAME_SET, ("right if high > b else last or (right and high == b)", "right if high >= b else last")
    ),
    "the first one's bracket counts where two end together": _changed(
        _SAME_SET, ("right if high > b else last or (right and high == b)", "right if high > b else last")
    ),
    "pieces are not sorted": _changed(
        _SAME_SET, ("sorted(pieces, key=lambda piece: (piece[0], not piece[2]))", "pieces")
    ),
    "pieces are sorted by their left ends alone": _changed(
        _SAME_SET, ("key=lambda piece: (piece[0], not piece[2])", "key=lambda piece: piece[0]")
    ),
    "brackets are ignored": _changed(
        _SAME_SET,
        (
            "return joined(read(answer)) == wanted",
            "return [p[:2] for p in joined(read(answer))] == [p[:2] for p in wanted]",
        ),
    ),
    "points are an interval from the first to the last": _changed(
        _SAME_SET,
        ("[(x, x, True, True) for x in numbers]", "[(min(numbers), max(numbers), True, True)] if numbers else []"),
    ),
    "an empty interval is a point": _changed(_SAME_SET, ("if low < high or (left and right):", "if low <= high:")),
    "half open at one place holds the place": _changed(
        _SAME_SET, ("if low < high or (left and right):", "if low < high or left or right:")
    ),
    "an empty interval is refused": _changed(
        _SAME_SET, ("if low > high:", "if low > high or (low == high and not (left and right)):")
    ),
    "an interval of one point is lost": _changed(_SAME_SET, ("if low < high or (left and right):", "if low < high:")),
    "ends in the wrong order are exchanged": _changed(
        _SAME_SET, ("low, high = numbers", "low, high = sorted(numbers)")
    ),
    "ends in the wrong order are an empty piece": _changed(
        _SAME_SET, ('                raise ValueError("ends")', "                continue")
    ),
    "infinity may be closed": _changed(
        _SAME_SET,
        (
            '                raise ValueError("infinity is not in")',
            "                left, right = left and low > -math.inf, False",
        ),
    ),
    "only the right infinity is looked at": _changed(_SAME_SET, ("(low == -math.inf and left) or ", "")),
    "infinity is a thousand": _changed(
        _SAME_SET,
        (
            "            if low < high or",
            "            low, high = max(low, -1000), min(high, 1000)\n            if low < high or",
        ),
    ),
    "a bad key is False": _changed(_SAME_SET, ('raise ValueError(f"key = {key!r}") from None', "return False")),
    "a bad answer raises an error": _changed(
        _SAME_SET,
        (
            "    try:\n        return joined(read(answer)) == wanted\n    except ValueError:\n        return False\n",
            "    return joined(read(answer)) == wanted\n",
        ),
    ),
    "a bad answer is the empty set": _changed(_SAME_SET, ("return False", "return not wanted")),
    "the empty set is no key": _changed(
        _BY_PLACES, ("if one is None:", "if not one or not any(n for _, n, _ in one):")
    ),
    "the empty set is no answer": _changed(
        _BY_PLACES, ("if two is None:", "if not two or not any(n for _, n, _ in two):")
    ),
    "a bad answer hides a bad key": _changed(
        _BY_PLACES, ("    if one is None:", "    if two is None:\n        return False\n    if one is None:")
    ),
    "only keys that cannot be read are refused": _changed(
        _BY_PLACES, ("    one, two = read(key), read(answer)", "    one, two = pieces_of(key), read(answer)")
    ),
    "only the ends are looked at": _changed(_BY_PLACES, ("ends + gaps + outside", "ends + outside")),
    "only the gaps are looked at": _changed(_BY_PLACES, ("ends + gaps + outside", "gaps + outside")),
    "nothing outside the ends is looked at": _changed(_BY_PLACES, ("ends + gaps + outside", "ends + gaps")),
    "only the key's ends are looked at": _changed(_BY_PLACES, ("in one + two for", "in one for")),
    "whole numbers speak for all": _changed(_BY_PLACES, ("ends + gaps + outside", "range(-50, 51)")),
    "floats between the ends": _changed(_BY_PLACES, ("(a + b) / 2 for", "(float(a) + float(b)) / 2 for")),
    "the answer is only a part of the key": _changed(
        _BY_PLACES, ("inside(x, one) == inside(x, two)", "inside(x, one) >= inside(x, two)")
    ),
    "the key is only a part of the answer": _changed(
        _BY_PLACES, ("inside(x, one) == inside(x, two)", "inside(x, one) <= inside(x, two)")
    ),
}

# ---------------------------------------------------------------- the loss: one skeleton, and what is changed in it
_LOSS = """
def answer_ratio_loss(log_probs, old_log_probs, advantages, mask, epsilon=0.2, epsilon_high=0.28, ceiling=3.0):
    if not ceiling > 1 + epsilon_high:
        raise ValueError("ceiling")
    new = log_probs.masked_fill(~mask, 0)
    old, A = old_log_probs.detach().masked_fill(~mask, 0), advantages.detach().masked_fill(~mask, 0)
    tokens = mask.sum(1, keepdim=True).clamp(min=1)
    s = ((new - old).sum(1, keepdim=True) / tokens).exp().detach()
    ratio = s * (1 + new - new.detach())
    objective = torch.minimum(ratio * A, ratio.clamp(1 - epsilon, 1 + epsilon_high) * A)
    objective = torch.where(A < 0, torch.maximum(objective, ceiling * A), objective)
    return -(objective * mask / tokens).sum() / len(mask)
"""
RIGHT["answer_ratio_loss"] = {
    "a linear ratio with the same slope": _LOSS,
    "loops, and bounds by sign": """
def answer_ratio_loss(log_probs, old_log_probs, advantages, mask, epsilon=0.2, epsilon_high=0.28, ceiling=3.0):
    if ceiling <= 1 + epsilon_high:
        raise ValueError(f"ceiling {ceiling} is inside the clip")
    total = log_probs.new_zeros(())
    for i in range(len(mask)):
        new, old, A = (part[i][mask[i]] for part in (log_probs, old_log_probs.detach(), advantages.detach()))
        if not len(new):
            continue
        s = (new.detach() - old).mean().exp()
        ratio = s * torch.exp(new - new.detach())
        good, bad = ratio.clamp(max=1 + epsilon_high), ratio.clamp(min=1 - epsilon, max=ceiling)
        total = total - torch.where(A > 0, good * A, bad * A).mean()
    return total / len(mask) + 0 * log_probs.masked_fill(~mask, 0).sum()
""",
    "dsmini's loss on a gradient that is put in": """
def answer_ratio_loss(log_probs, old_log_probs, advantages, mask, epsilon=0.2, epsilon_high=0.28, ceiling=3.0):
    if not ceiling > 1 + epsilon_high:
        raise ValueError("ceiling: too low")
    new = torch.where(mask, log_probs, 0.0)
    tokens = mask.sum(1, keepdim=True).clamp(min=1)
    gap = torch.where(mask, new.detach() - old_log_probs.detach(), 0.0)
    s = (gap.sum(1, keepdim=True) / tokens).exp().expand_as(new)
    A = torch.where(mask, advantages.detach(), 0.0)
    bound = torch.where(A > 0, s.clamp(max=1 + epsilon_high), s.clamp(1 - epsilon, ceiling))
    push = torch.where(bound == s, s * A, 0.0)
    return -(length_weights(mask) * (bound * A + push * (new - new.detach()))).sum()
""",
}
WRONG["answer_ratio_loss"] = {
    "GSPO: the push is spread over the answer": """
def answer_ratio_loss(log_probs, old_log_probs, advantages, mask, epsilon=0.2, epsilon_high=0.28, ceiling=3.0):
    if not ceiling > 1 + epsilon_high:
        raise ValueError("ceiling")
    new = log_probs.masked_fill(~mask, 0)
    old, A = old_log_probs.detach().masked_fill(~mask, 0), advantages.detach().masked_fill(~mask, 0)
    tokens = mask.sum(1, keepdim=True).clamp(min=1)
    ratio = ((new - old).sum(1, keepdim=True) / tokens).exp().expand_as(new)
    objective = torch.minimum(ratio * A, ratio.clamp(1 - epsilon, 1 + epsilon_high) * A)
    objective = torch.where(A < 0, torch.maximum(objective, ceiling * A), objective)
    return -(objective * mask / tokens).sum() / len(mask)
""",
    "grpo_loss, level sequence": """
def answer_ratio_loss(log_probs, old_log_probs, advantages, mask, epsilon=0.2, epsilon_high=0.28, ceiling=3.0):
    if not ceiling > 1 + epsilon_high:
        raise ValueError("ceiling")
    return grpo_loss(log_probs, old_log_probs, advantages, mask, epsilon=epsilon, epsilon_high=epsilon_high,
                     importance_sampling_level="sequence")[0]
""",
    "one ratio a token": _changed(
        _LOSS, ("((new - old).sum(1, keepdim=True) / tokens).exp().detach()", "(new - old).exp().detach()")
    ),
    "the product of the ratios": _changed(
        _LOSS, ("((new - old).sum(1, keepdim=True) / tokens)", "(new - old).sum(1, keepdim=True)")
    ),
    "the mean of the ratios": _changed(
        _LOSS,
        (
            "((new - old).sum(1, keepdim=True) / tokens).exp().detach()",
            "(((new - old).exp() * mask).sum(1, keepdim=True) / tokens).detach()",
        ),
    ),
    "the mean over the padded width": _changed(
        _LOSS, ("((new - old).sum(1, keepdim=True) / tokens)", "(new - old).mean(1, keepdim=True)")
    ),
    "no gradient at all": _changed(_LOSS, ("s * (1 + new - new.detach())", "s * torch.ones_like(new)")),
    "the gradient counted twice": _changed(_LOSS, (".exp().detach()\n", ".exp()\n")),
    "no clip": _changed(
        _LOSS, ("torch.minimum(ratio * A, ratio.clamp(1 - epsilon, 1 + epsilon_high) * A)", "ratio * A")
    ),
    "clipped without the minimum": _changed(
        _LOSS,
        (
            "torch.minimum(ratio * A, ratio.clamp(1 - epsilon, 1 + epsilon_high) * A)",
            "ratio.clamp(1 - epsilon, 1 + epsilon_high) * A",
        ),
    ),
    "the clip that is turned round": _changed(
        _LOSS,
        (
            "torch.minimum(ratio * A, ratio.clamp(1 - epsilon, 1 + epsilon_high) * A)",
            "torch.where(A >= 0, torch.minimum(ratio * A, ratio.clamp(1 - epsilon, 1 + epsilon_high) * A), "
            "torch.maximum(ratio * A, ratio.clamp(1 - epsilon, 1 + epsilon_high) * A))",
        ),
    ),
    "one epsilon on both sides": _changed(
        _LOSS, ("ratio.clamp(1 - epsilon, 1 + epsilon_high)", "ratio.clamp(1 - epsilon, 1 + epsilon)")
    ),
    "bounds exchanged": _changed(
        _LOSS, ("ratio.clamp(1 - epsilon, 1 + epsilon_high)", "ratio.clamp(1 - epsilon_high, 1 + epsilon)")
    ),
    "no ceiling": _changed(
        _LOSS, ("torch.where(A < 0, torch.maximum(objective, ceiling * A), objective)", "objective")
    ),
    "the ceiling as a minimum": _changed(
        _LOSS, ("torch.maximum(objective, ceiling * A)", "torch.minimum(objective, ceiling * A)")
    ),
    "a ceiling that is always 3": _changed(
        _LOSS, ("torch.maximum(objective, ceiling * A)", "torch.maximum(objective, 3.0 * A)")
    ),
    "every token of the batch alike": _changed(
        _LOSS, ("(objective * mask / tokens).sum() / len(mask)", "(objective * mask).sum() / mask.sum().clamp(min=1)")
    ),
    "answers without tokens are not counted": _changed(_LOSS, ("/ len(mask)", "/ mask.any(1).sum()")),
    "0 / 0 for an answer without tokens": _changed(
        _LOSS, ("mask.sum(1, keepdim=True).clamp(min=1)", "mask.sum(1, keepdim=True)")
    ),
    "multiplies by the mask: nan times 0": _changed(
        _LOSS, ("log_probs.masked_fill(~mask, 0)\n    old", "log_probs * mask\n    old")
    ),
    "advantages of the padding are read": _changed(
        _LOSS, ("advantages.detach().masked_fill(~mask, 0)", "advantages.detach()")
    ),
    "the old log-probabilities learn, too": _changed(
        _LOSS,
        ("old, A = old_log_probs.detach()", "old, A = old_log_probs"),
        ("s * (1 + new - new.detach())", "s * (1 + new - new.detach() - old + old.detach())"),
    ),
    "the sign of the loss": _changed(_LOSS, ("return -(objective", "return (objective")),
    "no error": _changed(_LOSS, ("if not ceiling > 1 + epsilon_high:", "if ceiling < 0:")),
    "an error only below 1": _changed(_LOSS, ("if not ceiling > 1 + epsilon_high:", "if not ceiling > 1:")),
}

# ---------------------------------------------------------------- sets: one skeleton, and what is changed in it
_SETS = """
def set_advantages(rewards, k):
    P, G = rewards.shape
    if k < 2 or k > G:
        raise ValueError(f"k = {k}: expected 2 to {G}")
    values = rewards.double()
    advantages = torch.zeros_like(values)
    for i in range(G):
        others = values[:, [j for j in range(G) if j != i]].sort(1).values
        for j in range(k - 2, G - 1):
            share = math.comb(j, k - 2) / math.comb(G - 1, k - 1)
            advantages[:, i] += k * share * (values[:, i] - others[:, j]).clamp(min=0)
    return advantages
"""
RIGHT["set_advantages"] = {
    "loops over answers and ranks": _SETS,
    "best of k, with and without the answer": """
def set_advantages(rewards, k):
    G = rewards.shape[1]
    if not 2 <= k <= G:
        raise ValueError("k has to lie between 2 and the size of the group")
    values = rewards.double()

    def best(values, k):
        n = values.shape[1]
        share = torch.tensor([math.comb(i, k - 1) / math.comb(n, k) for i in range(n)], dtype=torch.float64)
        return values.sort(1).values @ share

    columns = []
    for i in range(G):
        others = values[:, torch.arange(G) != i]
        lifted = torch.maximum(others, values[:, i : i + 1])  # the best of a set with the answer in it
        columns.append(k * (best(lifted, k - 1) - best(others, k - 1)))
    return torch.stack(columns, dim=1)
""",
    "steps between neighbours in rank": """
def set_advantages(rewards, k):
    G = rewards.shape[1]
    if k not in range(2, G + 1):
        raise ValueError(f"k = {k}")
    sets = math.comb(G - 1, k - 1)
    # below[j]: the share of sets of k - 1 others that lie among the j lowest; the answer gains each step above them
    below = torch.tensor([math.comb(j, k - 1) / sets for j in range(G)], dtype=torch.float64)
    steps, order = rewards.double().sort(1)
    gains = torch.nn.functional.pad(steps.diff(dim=1) * below[1:], (1, 0))
    return torch.zeros_like(steps).scatter(1, order, k * gains.cumsum(1))
""",
}
WRONG["set_advantages"] = {
    "without the factor k": _changed(_SETS, ("k * share * ", "share * ")),
    "G / k instead of k": _changed(_SETS, ("k * share * ", "G / k * share * ")),
    "the best of k others": _changed(
        _SETS,
        ("range(k - 2, G - 1)", "range(k - 1, G - 1)"),
        ("math.comb(j, k - 2) / math.comb(G - 1, k - 1)", "math.comb(j, k - 1) / max(1, math.comb(G - 1, k))"),
    ),
    "the best of k - 2 others": _changed(
        _SETS,
        (
            "math.comb(j, k - 2) / math.comb(G - 1, k - 1)",
            "math.comb(j, max(0, k - 3)) / math.comb(G - 1, max(1, k - 2))",
        ),
        ("range(k - 2, G - 1)", "range(max(0, k - 3), G - 1)"),
    ),
    "the answer competes with itself": _changed(
        _SETS,
        ("values[:, [j for j in range(G) if j != i]].sort(1).values", "values.sort(1).values"),
        ("range(k - 2, G - 1)", "range(k - 2, G)"),
        ("math.comb(G - 1, k - 1)", "math.comb(G, k - 1)"),
    ),
    "credit below zero": _changed(_SETS, (".clamp(min=0)", "")),
    "the mean of the others instead of their best": """
def set_advantages(rewards, k):
    G = rewards.shape[1]
    if not 2 <= k <= G:
        raise ValueError("k")
    return k * (rewards - (rewards.sum(1, keepdim=True) - rewards) / (G - 1)).clamp(min=0)
""",
    "the set's reward without a baseline: right on average, another function": """
def set_advantages(rewards, k):
    P, G = rewards.shape
    if not 2 <= k <= G:
        raise ValueError("k")
    values = rewards.double()
    columns = []
    for i in range(G):
        others = values[:, torch.arange(G) != i].sort(1).values
        share = torch.tensor([math.comb(j, k - 2) / math.comb(G - 1, k - 1) for j in range(G - 1)]).double()
        columns.append(k * (torch.maximum(others, values[:, i : i + 1]) @ share))
    return torch.stack(columns, dim=1)
""",
    "others drawn with replacement": """
def set_advantages(rewards, k):
    P, G = rewards.shape
    if not 2 <= k <= G:
        raise ValueError("k")
    values = rewards.double()
    columns = []
    for i in range(G):
        others = values[:, torch.arange(G) != i].sort(1).values
        share = ((torch.arange(G).double() / (G - 1)) ** (k - 1)).diff()
        columns.append(k * ((values[:, i : i + 1] - others).clamp(min=0) @ share))
    return torch.stack(columns, dim=1)
""",
    "sorted from the top": _changed(_SETS, (".sort(1).values", ".sort(1, descending=True).values")),
    "rewards of 0 and 1 only": """
def set_advantages(rewards, k):
    P, G = rewards.shape
    if not 2 <= k <= G:
        raise ValueError("k")
    right = (rewards > 0).double()
    needed = [k * math.comb(G - int(c), k - 1) / math.comb(G - 1, k - 1) for c in right.sum(1)]
    return right * torch.tensor(needed, dtype=torch.float64)[:, None]
""",
    "divided by the group's deviation": _changed(
        _SETS, ("    return advantages", "    return advantages / (values.std(1, keepdim=True) + 1e-4)")
    ),
    "less the group's mean": _changed(
        _SETS, ("    return advantages", "    return advantages - advantages.mean(1, keepdim=True)")
    ),
    "one group of the whole batch": """
def set_advantages(rewards, k):
    P, G = rewards.shape
    if not 2 <= k <= G:
        raise ValueError("k")
    values = rewards.double().flatten()
    below = torch.tensor([math.comb(j, k - 1) / math.comb(P * G - 1, k - 1) for j in range(P * G)]).double()
    steps, order = values.sort()
    gains = torch.nn.functional.pad(steps.diff() * below[1:], (1, 0))
    return torch.zeros_like(steps).scatter(0, order, k * gains.cumsum(0)).view(P, G)
""",
    "sorts the input in place": """
def set_advantages(rewards, k):
    G = rewards.shape[1]
    if not 2 <= k <= G:
        raise ValueError("k")
    below = torch.tensor([math.comb(j, k - 1) / math.comb(G - 1, k - 1) for j in range(G)], dtype=torch.float64)
    steps, order = rewards.double().sort(1)
    rewards.copy_(steps)
    gains = torch.nn.functional.pad(steps.diff(dim=1) * below[1:], (1, 0))
    return torch.zeros_like(steps).scatter(1, order, k * gains.cumsum(1))
""",
    "no error for k = 1": _changed(
        _SETS,
        ("if k < 2 or k > G:", "if k > G:"),
        ("math.comb(j, k - 2)", "math.comb(j, max(0, k - 2))"),
        ("range(k - 2, G - 1)", "range(max(0, k - 2), G - 1)"),
        ("math.comb(G - 1, k - 1)", "math.comb(G - 1, max(0, k - 1))"),
    ),
    "no error for k above G": _changed(
        _SETS, ("if k < 2 or k > G:", "if k < 2:"), ("/ math.comb(G - 1, k - 1)", "/ max(1, math.comb(G - 1, k - 1))")
    ),
}

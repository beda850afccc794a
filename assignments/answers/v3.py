"""Problem set v3: wrong answers that must lose points, and right ones, written differently, that must not.

Sources are run in the notebook's namespace. Each wrong one is a slip that a student makes, not a typing error.
"""

_CACHE = """
def my_cache():
    everywhere = plan["latent"] + 4 * -(-plan["latent"] // 128) + 2 * plan["rope"]
    nearby = 2 * plan["groups"] * plan["head_dim"] * 2
    global_layers = plan["layers"] // plan["every"]
    local_layers = plan["layers"] - global_layers
    full = local_layers * plan["window"] * nearby
    per_token = global_layers * everywhere
    return {
        "bytes": plan["chats"] * (plan["tokens"] * per_token + full),
        "longest": (plan["gib"] * 2**30 // plan["chats"] - full) // per_token,
        "pays_from": plan["window"] * nearby // everywhere + 1,
    }
"""

_MOVE = """
def move_cached(rows, shift, frequencies, interleaved=True):
    d_rope = 2 * len(frequencies)
    if shift.shape != rows.shape[:1]:
        raise ValueError(f"shift: {tuple(shift.shape)}")
    if rows.shape[-1] < d_rope:
        raise ValueError(f"frequencies: {len(frequencies)}")
    latent, key = rows.split((rows.shape[-1] - d_rope, d_rope), dim=-1)
    angles = (shift[:, None] * frequencies)[:, None]
    turned = apply_rope(key[:, :, None], angles.cos(), angles.sin(), interleaved)[:, :, 0]
    return torch.cat((latent, turned.to(rows.dtype)), dim=-1)
"""

_ROUTE = """
def adaptive_route(scores, bias, mass, most):
    if not 0 < mass <= 1:
        raise ValueError(f"mass = {mass}")
    if not 1 <= most <= scores.shape[-1]:
        raise ValueError(f"most = {most}")
    order = (scores + bias).detach().argsort(dim=-1, descending=True, stable=True)
    held = scores.detach().gather(-1, order).cumsum(-1)
    go_on = held < mass * held[..., -1:]
    taken = torch.cat((torch.ones_like(go_on[..., :1]), go_on[..., :-1]), dim=-1)
    taken[..., most:] = False
    kept = scores * torch.zeros_like(taken).scatter(-1, order, taken)
    return kept / (kept.sum(-1, keepdim=True) + 1e-20)
"""

_CHOICE = """
def expert_choice(scores, capacity, real):
    if capacity < 1:
        raise ValueError(f"capacity = {capacity}")
    if real.shape != scores.shape[:2]:
        raise ValueError(f"real: {tuple(real.shape)}")
    wanted = scores.detach().masked_fill(~real[..., None], float("-inf"))
    best = wanted.argsort(dim=1, descending=True, stable=True)[:, :capacity]
    taken = torch.zeros_like(scores, dtype=torch.bool).scatter(1, best, True) & real[..., None]
    kept = scores * taken
    total = kept.sum(-1, keepdim=True)
    return kept / total.masked_fill(total == 0, 1.0)
"""

_FP4 = """
def fp4_tiles(x, tile=32):
    if tile < 1:
        raise ValueError(f"tile = {tile}")
    if not x.isfinite().all():
        raise ValueError("x: not finite")
    padded = torch.nn.functional.pad(x.float(), (0, -x.shape[-1] % tile)).unflatten(-1, (-1, tile))
    mantissa, exponent = torch.frexp(padded.abs().amax(-1))
    exponent = exponent - torch.where(mantissa > 0.75, 2, 3)
    exponent = exponent.masked_fill(mantissa == 0, 0)
    scales = torch.ldexp(torch.ones_like(mantissa), exponent)
    scaled = padded / scales[..., None]
    size = scaled.abs()
    step = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0))
    values = (scaled / step).round() * step
    return values.flatten(-2)[..., : x.shape[-1]], scales
"""

_CHANCE = """
def second_chance(p, q, tries):
    if tries < 1:
        raise ValueError(f"tries = {tries}")
    if q.shape != p.shape:
        raise ValueError(f"q: {tuple(q.shape)}")
    stays, reached, left = [], p.new_ones(()), p
    for _ in range(tries):
        kept = torch.minimum(left, q).sum()
        stays.append(reached * kept)
        reached = reached * (1 - kept)
        left = residual(left[None], q[None])[0]
        left = left / left.sum()
    return torch.stack(stays), left
"""


def _but(source, *changes):
    """The source with some of its text replaced; each old text must be there."""
    for old, new in changes:
        assert old in source, old
        source = source.replace(old, new)
    return source


WRONG = {
    "my_cache": {
        "the last, shorter stretch of layers gets a global layer too": _but(
            _CACHE, ('plan["layers"] // plan["every"]', '-(-plan["layers"] // plan["every"])')
        ),
        "global and local layers exchanged": _but(
            _CACHE,
            (
                'global_layers = plan["layers"] // plan["every"]\n    local_layers = plan["layers"] - global_layers',
                'local_layers = plan["layers"] // plan["every"]\n    global_layers = plan["layers"] - local_layers',
            ),
        ),
        "the values are forgotten": _but(_CACHE, ('2 * plan["groups"]', 'plan["groups"]')),
        "local layers keep all tokens": _but(
            _CACHE, ('local_layers * plan["window"]', 'local_layers * plan["tokens"]')
        ),
        "no scales": _but(_CACHE, (' + 4 * -(-plan["latent"] // 128)', "")),
        "no scale for the shorter last group": _but(_CACHE, ('-(-plan["latent"] // 128)', '(plan["latent"] // 128)')),
        "the rotary key in one byte": _but(_CACHE, ('2 * plan["rope"]', 'plan["rope"]')),
        "gigabytes of 10^9": _but(_CACHE, ("2**30", "10**9")),
        "one conversation instead of all": _but(_CACHE, ('plan["chats"] * (', "("), (' // plan["chats"]', "")),
        "the window is paid once, not by every conversation": _but(
            _CACHE,
            (
                '(plan["gib"] * 2**30 // plan["chats"] - full) // per_token',
                '(plan["gib"] * 2**30 - full) // plan["chats"] // per_token',
            ),
        ),
        "pays where both are equal or one token earlier": _but(_CACHE, ("everywhere + 1", "everywhere")),
        "longest is rounded up": _but(_CACHE, (") // per_token", ") // per_token + 1")),
        "floats": _but(_CACHE, (") // per_token", ") / per_token")),
        "another student's numbers": """
def my_cache():
    return {"bytes": 3_583_850_880, "longest": 1_367_713, "pays_from": 3_693}
""",
    },
    "move_cached": {
        "turns the wrong way": _but(_MOVE, ("shift[:, None] * frequencies", "-shift[:, None] * frequencies")),
        "the pairs' layout is ignored": _but(_MOVE, (", interleaved)[", ")[")),
        "all rows take the first shift": _but(_MOVE, ("shift[:, None] * freq", "shift[:1, None] * freq")),
        "turns the first dimensions, not the last": _but(
            _MOVE,
            (
                "latent, key = rows.split((rows.shape[-1] - d_rope, d_rope)",
                "key, latent = rows.split((d_rope, rows.shape[-1] - d_rope)",
            ),
            ("torch.cat((latent, turned.to(rows.dtype))", "torch.cat((turned.to(rows.dtype), latent)"),
        ),
        "turns by the place as well": _but(
            _MOVE,
            (
                "(shift[:, None] * frequencies)[:, None]",
                "(shift[:, None] + torch.arange(rows.shape[1]))[..., None] * frequencies",
            ),
        ),
        "its own frequencies instead of those given": _but(_MOVE, ("* frequencies)", "* rope_frequencies(d_rope))")),
        "shifts lie along the tokens": _but(
            _MOVE, ("(shift[:, None] * frequencies)[:, None]", "(shift[:, None] * frequencies)[None]")
        ),
        "turns the rows in place": _but(
            _MOVE,
            (
                "    return torch.cat((latent, turned.to(rows.dtype)), dim=-1)",
                "    with torch.no_grad():\n        rows[..., -d_rope:] = turned\n    return rows",
            ),
        ),
        "the dtype of the angles": _but(
            _MOVE, (".to(rows.dtype)", ".to(frequencies.dtype)"), ("(latent, ", "(latent.to(frequencies.dtype), ")
        ),
        "no gradient": _but(_MOVE, ("latent, key = rows.split", "latent, key = rows.detach().split")),
        "no check of the shift": _but(_MOVE, ("if shift.shape != rows.shape[:1]:", "if False:")),
        "no check of the width": _but(_MOVE, ("if rows.shape[-1] < d_rope:", "if False:")),
        "angles in the dtype of the rows": _but(
            _MOVE, ("shift[:, None] * frequencies", "shift[:, None].to(rows.dtype) * frequencies.to(rows.dtype)")
        ),
        "half precision comes back as float32": _but(
            _MOVE,
            ("turned.to(rows.dtype)", "turned.float() if rows.dtype == torch.bfloat16 else turned.to(rows.dtype)"),
        ),
        "the rows themselves where nothing moves": _but(
            _MOVE, ("    latent, key", "    if not shift.any():\n        return rows\n    latent, key")
        ),
        "any shape of the shift with as many numbers": _but(
            _MOVE, ("shift.shape != rows.shape[:1]", "shift.numel() != len(rows)")
        ),
    },
    "adaptive_route": {
        "the bias weighs": _but(_ROUTE, ("kept = scores *", "kept = (scores + bias.detach()) *")),
        "the bias counts towards the mass": _but(_ROUTE, ("scores.detach().gather", "(scores + bias).detach().gather")),
        "the order is that of the scores alone": _but(_ROUTE, ("(scores + bias).detach()", "scores.detach()")),
        "one expert too few: the one that reaches the mass is left out": _but(
            _ROUTE,
            (
                "    taken = torch.cat((torch.ones_like(go_on[..., :1]), go_on[..., :-1]), dim=-1)",
                "    taken = held <= mass * held[..., -1:]\n    taken[..., 0] = True",
            ),
        ),
        "exactly the mass is not enough": _but(_ROUTE, ("held < mass", "held <= mass")),
        "no limit": _but(_ROUTE, ("taken[..., most:] = False", "pass")),
        "one more than the limit": _but(_ROUTE, ("most:] = False", "most + 1 :] = False")),
        "mass as an absolute number": _but(_ROUTE, ("mass * held[..., -1:]", "mass")),
        "weights are not divided": _but(_ROUTE, ("return kept / (kept.sum(-1, keepdim=True) + 1e-20)", "return kept")),
        "divided by the sum of all scores": _but(_ROUTE, ("(kept.sum(-1", "(scores.sum(-1")),
        "softmax over those taken": _but(
            _ROUTE,
            (
                "return kept / (kept.sum(-1, keepdim=True) + 1e-20)",
                "return kept.masked_fill(kept == 0, -torch.inf).softmax(-1)",
            ),
        ),
        "NaN where all scores are 0": _but(_ROUTE, (" + 1e-20", "")),
        "ties go to the higher index": _but(
            _ROUTE,
            (
                "order = (scores + bias).detach().argsort(dim=-1, descending=True, stable=True)",
                "order = (scores + bias).detach().argsort(dim=-1, stable=True).flip(-1)",
            ),
        ),
        "no gradient": _but(_ROUTE, ("kept = scores *", "kept = scores.detach() *")),
        "no gradient through the sum": _but(_ROUTE, ("(kept.sum(", "(kept.detach().sum(")),
        "weights in the order of the choice": _but(
            _ROUTE, ("scores * torch.zeros_like(taken).scatter(-1, order, taken)", "scores.gather(-1, order) * taken")
        ),
        "adds the bias to the scores in place": _but(
            _ROUTE,
            (
                "    order = (scores + bias).detach()",
                "    plain = scores\n    scores = scores.detach().add_(bias)\n    order = scores",
            ),
            ("scores.detach().gather", "(scores - bias).gather"),
            ("kept = scores *", "kept = (plain - bias) *"),
        ),
        "no check of the mass": _but(_ROUTE, ("if not 0 < mass <= 1:", "if False:")),
        "a mass of 1 is refused": _but(_ROUTE, ("if not 0 < mass <= 1:", "if not 0 < mass < 1:")),
        "no check of the limit": _but(_ROUTE, ("if not 1 <= most <= scores.shape[-1]:", "if False:")),
        "1e-6 under the sum": _but(_ROUTE, ("1e-20", "1e-6")),
        "a little less than the mass is enough": _but(
            _ROUTE, ("mass * held[..., -1:]", "(mass - 1e-3) * held[..., -1:]")
        ),
        "NaN in the gradient, hidden by where": _but(
            _ROUTE,
            (
                "return kept / (kept.sum(-1, keepdim=True) + 1e-20)",
                "total = kept.sum(-1, keepdim=True)\n"
                "    return torch.where(total > 0, kept / total, torch.zeros_like(kept))",
            ),
        ),
        "NaN made 0 afterwards": _but(
            _ROUTE,
            (
                "return kept / (kept.sum(-1, keepdim=True) + 1e-20)",
                "return (kept / kept.sum(-1, keepdim=True)).nan_to_num()",
            ),
        ),
        "a biased score below 0 counts as 0": _but(_ROUTE, ("(scores + bias)", "(scores + bias).clamp(min=0)")),
    },
    "expert_choice": {
        "tokens choose experts": _but(
            _CHOICE,
            (
                "argsort(dim=1, descending=True, stable=True)[:, :capacity]",
                "argsort(dim=-1, descending=True, stable=True)[..., :capacity]",
            ),
            (".scatter(1, best", ".scatter(-1, best"),
        ),
        "experts choose over the whole batch": """
def expert_choice(scores, capacity, real):
    if capacity < 1:
        raise ValueError("capacity")
    if real.shape != scores.shape[:2]:
        raise ValueError("real")
    wanted = scores.detach().masked_fill(~real[..., None], float("-inf")).flatten(0, 1)
    best = wanted.argsort(dim=0, descending=True, stable=True)[: capacity * len(scores)]
    taken = torch.zeros_like(wanted, dtype=torch.bool).scatter(0, best, True).view_as(scores) & real[..., None]
    kept = scores * taken
    total = kept.sum(-1, keepdim=True)
    return kept / total.masked_fill(total == 0, 1.0)
""",
        "padding is chosen where room is left": _but(_CHOICE, (", True) & real[..., None]", ", True)")),
        "padding takes part in the choice": _but(_CHOICE, ('.masked_fill(~real[..., None], float("-inf"))', "")),
        "the mask upside down": _but(_CHOICE, ("~real", "real"), ("& real", "& ~real")),
        "divided by the sum over all experts": _but(_CHOICE, ("total = kept.sum", "total = scores.sum")),
        "divided by the sum over an expert's tokens": _but(
            _CHOICE, ("total = kept.sum(-1, keepdim=True)", "total = kept.sum(1, keepdim=True)")
        ),
        "not divided": _but(_CHOICE, ("return kept / total.masked_fill(total == 0, 1.0)", "return kept")),
        "NaN for a token that nobody took": _but(_CHOICE, ("total.masked_fill(total == 0, 1.0)", "total")),
        "NaN in the gradient, hidden by where": _but(
            _CHOICE,
            (
                "return kept / total.masked_fill(total == 0, 1.0)",
                "return torch.where(total > 0, kept / total, torch.zeros_like(kept))",
            ),
        ),
        "no gradient": _but(_CHOICE, ("kept = scores *", "kept = scores.detach() *")),
        "ties go to the later token": _but(
            _CHOICE,
            (
                "argsort(dim=1, descending=True, stable=True)[:, :capacity]",
                "argsort(dim=1, stable=True).flip(1)[:, :capacity]",
            ),
        ),
        "all with the threshold's score are taken": _but(
            _CHOICE,
            (
                "    best = wanted.argsort(dim=1, descending=True, stable=True)[:, :capacity]\n",
                "    last = min(capacity, scores.shape[1]) - 1\n"
                "    lowest = wanted.sort(dim=1, descending=True).values[:, last, None]\n",
            ),
            ("torch.zeros_like(scores, dtype=torch.bool).scatter(1, best, True)", "(wanted >= lowest)"),
        ),
        "topk fails when there is room for more than all": _but(
            _CHOICE,
            (
                "wanted.argsort(dim=1, descending=True, stable=True)[:, :capacity]",
                "wanted.topk(capacity, dim=1).indices",
            ),
        ),
        "marks the padding in the scores, in place": _but(
            _CHOICE, ("scores.detach().masked_fill(", "scores.detach().masked_fill_(")
        ),
        "no check of the capacity": _but(_CHOICE, ("if capacity < 1:", "if False:")),
        "no check of the mask": _but(_CHOICE, ("if real.shape != scores.shape[:2]:", "if False:")),
        "1e-6 under the sum": _but(_CHOICE, ("total.masked_fill(total == 0, 1.0)", "(total + 1e-6)")),
        "any mask with as many entries": _but(
            _CHOICE, ("real.shape != scores.shape[:2]", "real.numel() != scores[..., 0].numel()")
        ),
        "any mask as long as a row": _but(
            _CHOICE, ("real.shape != scores.shape[:2]", "real.shape[-1] != scores.shape[1]")
        ),
        "the shortest row limits all": _but(
            _CHOICE, ("[:, :capacity]", "[:, : min(capacity, int(real.sum(1).min()))]")
        ),
    },
    "fp4_tiles": {
        "halves go away from zero": _but(
            _FP4, ("(scaled / step).round() * step", "(size / step + 0.5).floor() * step * scaled.sign()")
        ),
        "halves go towards zero": _but(
            _FP4, ("(scaled / step).round() * step", "(size / step - 0.5).ceil() * step * scaled.sign()")
        ),
        "cut off instead of rounded": _but(_FP4, ("(scaled / step).round()", "(scaled / step).trunc()")),
        "no 0.5: without the numbers below 1": _but(
            _FP4, ("    return values", "    values = torch.where(values.abs() == 0.5, 0.0, values)\n    return values")
        ),
        "evenly spaced, as whole halves": _but(
            _FP4, ("torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0))", "0.5")
        ),
        "the scale rounds to the nearest power": _but(
            _FP4,
            ("torch.where(mantissa > 0.75, 2, 3)", "torch.where(mantissa < 0.53, 4, 3)"),
            ("values = (scaled / step).round() * step", "values = ((scaled / step).round() * step).clamp(-6, 6)"),
        ),
        "the scale rounds down and the largest are clipped": _but(
            _FP4,
            ("torch.where(mantissa > 0.75, 2, 3)", "3"),
            ("values = (scaled / step).round() * step", "values = ((scaled / step).round() * step).clamp(-6, 6)"),
        ),
        "a largest number of exactly 6 gets the next scale": _but(_FP4, ("mantissa > 0.75", "mantissa >= 0.75")),
        "a scale that is no power of two": _but(
            _FP4,
            (
                "scales = torch.ldexp(torch.ones_like(mantissa), exponent)",
                "scales = padded.abs().amax(-1) / 6\n    scales = scales.masked_fill(scales == 0, 1.0)",
            ),
        ),
        "one scale for a whole row": _but(
            _FP4,
            ("scales = torch.ldexp(", "scales = torch.zeros_like(mantissa) + torch.ldexp("),
            ("    scaled =", "    scales = scales.amax(-1, keepdim=True).expand_as(scales)\n    scaled ="),
        ),
        "the sign is lost in the scale: largest value, not largest size": _but(
            _FP4, ("torch.frexp(padded.abs().amax(-1))", "torch.frexp(padded.amax(-1).clamp(min=0))")
        ),
        "the sign is lost": _but(_FP4, ("(scaled / step).round()", "(size / step).round()")),
        "a tile of zeros has the scale 1/8": _but(
            _FP4, ("    exponent = exponent.masked_fill(mantissa == 0, 0)\n", "")
        ),
        "a floor under the largest number, as for eight bits": _but(
            _FP4, ("padded.abs().amax(-1))", "padded.abs().amax(-1).clamp(min=1e-4))")
        ),
        "NaN for a tile of zeros": _but(
            _FP4, ("torch.ldexp(torch.ones_like(mantissa), exponent)", "torch.ldexp((mantissa > 0).float(), exponent)")
        ),
        "the last, shorter tile is dropped": _but(
            _FP4,
            (
                "    padded = torch.nn.functional.pad(x.float(), (0, -x.shape[-1] % tile)).unflatten",
                "    padded = x.float()[..., : x.shape[-1] // tile * tile].unflatten",
            ),
        ),
        "the padding stays": _but(_FP4, ("values.flatten(-2)[..., : x.shape[-1]]", "values.flatten(-2)")),
        "values come back multiplied by the scale": _but(
            _FP4, ("return values.flatten", "return (values * scales[..., None]).flatten")
        ),
        "scales are divisors": _but(_FP4, (", scales\n", ", 1 / scales\n")),
        "float64 in, float64 out": _but(_FP4, ("x.float()", "x.double()")),
        "only matrices": _but(_FP4, ("    padded", "    rows, _ = x.shape\n    padded")),
        "no check of x": _but(_FP4, ("if not x.isfinite().all():", "if False:")),
        "no check of the tile": _but(_FP4, ("if tile < 1:", "if False:")),
        "a logarithm in float32": _but(
            _FP4,
            (
                "    scales = torch.ldexp(torch.ones_like(mantissa), exponent)",
                "    amax = padded.abs().amax(-1)\n"
                "    scales = torch.where(amax > 0, 2.0 ** (amax / 6).log2().ceil(), 1.0)",
            ),
        ),
        "a little more than 6 is let through": _but(_FP4, ("mantissa > 0.75", "mantissa > 0.7501")),
        "float64 is rounded as it is": _but(
            _FP4,
            ("pad(x.float()", "pad(x.double()"),
            ("x.shape[-1]], scales", "x.shape[-1]].float(), scales.float()"),
        ),
        "infinity is let through": _but(_FP4, ("not x.isfinite().all()", "x.isnan().any()")),
    },
    "second_chance": {
        "every draft is judged against p": _but(
            _CHANCE,
            ("        left = left / left.sum()\n", "        left, now = p, left / left.sum()\n"),
            ("return torch.stack(stays), left", "return torch.stack(stays), now"),
        ),
        "what is left is not normalised": _but(_CHANCE, ("        left = left / left.sum()\n", "")),
        "normalised at the end only": _but(
            _CHANCE, ("        left = left / left.sum()\n", ""), ("(stays), left", "(stays), left / left.sum()")
        ),
        "chances once the draft is reached, not from the start": _but(
            _CHANCE, ("stays.append(reached * kept)", "stays.append(kept)")
        ),
        "sums up to each draft": _but(_CHANCE, ("torch.stack(stays), left", "torch.stack(stays).cumsum(0), left")),
        "all drafts stay alike": _but(
            _CHANCE, ("kept = torch.minimum(left, q).sum()", "kept = torch.minimum(p, q).sum()")
        ),
        "p and q exchanged in what is left": _but(
            _CHANCE, ("residual(left[None], q[None])", "residual(q[None], left[None])")
        ),
        "the absolute difference is left": _but(_CHANCE, ("residual(left[None], q[None])[0]", "(left - q).abs()")),
        "no word is drafted twice": _but(
            _CHANCE,
            (
                "        left = left / left.sum()\n",
                "        left = left / left.sum()\n        q = (q * (1 - q))\n        q = q / q.sum()\n",
            ),
        ),
        "drafts of the most likely word only": _but(
            _CHANCE, ("kept = torch.minimum(left, q).sum()", "kept = (left[q.argmax()] / q.max()).clamp(max=1)")
        ),
        "NaN when nothing is left": _but(_CHANCE, ("residual(left[None], q[None])[0]", "(left - q).clamp(min=0)")),
        "what is left one round too early": _but(
            _CHANCE,
            ("        left = residual", "        earlier = left\n        left = residual"),
            ("(stays), left", "(stays), earlier"),
        ),
        "always two drafts": _but(_CHANCE, ("in range(tries)", "in range(2)")),
        "writes into p": _but(
            _CHANCE,
            (
                "        left = residual(left[None], q[None])[0]\n        left = left / left.sum()\n",
                "        left.copy_(residual(left[None], q[None])[0])\n        left /= left.sum()\n",
            ),
        ),
        "no check of the tries": _but(
            _CHANCE, ("if tries < 1:", "if False:"), ("torch.stack(stays)", "torch.tensor(stays)")
        ),
        "no check of the words": _but(_CHANCE, ("if q.shape != p.shape:", "if False:")),
        "almost equal is equal": _but(
            _CHANCE,
            (
                "        left = residual",
                "        if torch.allclose(left, q):\n            continue\n        left = residual",
            ),
        ),
        "1e-9 under the sum": _but(_CHANCE, ("left / left.sum()", "left / (left.sum() + 1e-9)")),
        "in float32": _but(_CHANCE, ("    stays, reached", "    p, q = p.float(), q.float()\n    stays, reached")),
        "any shape with as many rows": _but(_CHANCE, ("q.shape != p.shape", "len(q) != len(p)")),
    },
}

RIGHT = {
    "my_cache": {
        "layer by layer, searching upwards and by halves": """
def my_cache():
    def of_layer(number, tokens):
        if number % plan["every"] == 0:
            groups = math.ceil(plan["latent"] / 128)
            return tokens * (plan["latent"] + groups * 4 + plan["rope"] * 2)
        return min(tokens, plan["window"]) * plan["groups"] * plan["head_dim"] * 4

    def of_model(tokens):
        return plan["chats"] * sum(of_layer(number, tokens) for number in range(1, plan["layers"] + 1))

    low, high = 0, 10**9
    while high - low > 1:
        middle = (low + high) // 2
        if of_model(middle) <= plan["gib"] * 1024**3:
            low = middle
        else:
            high = middle
    pays = 1
    while of_layer(1, pays) >= of_layer(plan["every"], pays):
        pays += 1
    return {"pays_from": pays, "longest": low, "bytes": of_model(plan["tokens"])}
""",
        "other brackets": """
def my_cache():
    latent, every, layers = plan["latent"], plan["every"], plan["layers"]
    wide = latent + (latent + 127) // 128 * 4 + plan["rope"] * 2
    whole = len(range(every, layers + 1, every))
    windows = (layers - whole) * plan["window"] * plan["groups"] * plan["head_dim"] * 4 * plan["chats"]
    a_token = whole * wide * plan["chats"]
    pays_from = int(plan["window"] * plan["groups"] * plan["head_dim"] * 4 / wide) + 1
    longest = (plan["gib"] * 1024**3 - windows) // a_token
    return dict(bytes=windows + plan["tokens"] * a_token, longest=longest, pays_from=pays_from)
""",
    },
    "move_cached": {
        "complex numbers": """
def move_cached(rows, shift, frequencies, interleaved=True):
    half = frequencies.shape[0]
    if shift.dim() != 1 or len(shift) != len(rows):
        raise ValueError("shift must have one entry for each row of the batch")
    if 2 * half > rows.shape[-1]:
        raise ValueError("too many frequencies")
    out = rows.clone()
    key = rows[..., rows.shape[-1] - 2 * half :]
    pairs = key.unflatten(-1, (half, 2)) if interleaved else key.unflatten(-1, (2, half)).transpose(-1, -2)
    angle = shift.double()[:, None, None] * frequencies.double()
    plain = torch.complex(pairs[..., 0].double(), pairs[..., 1].double())
    back = torch.view_as_real(plain * torch.polar(torch.ones_like(angle), angle))
    back = back if interleaved else back.transpose(-1, -2)
    out[..., rows.shape[-1] - 2 * half :] = back.flatten(-2).to(rows.dtype)
    return out
""",
        "a rotation matrix for each conversation": """
def move_cached(rows, shift, frequencies, interleaved=True):
    half = len(frequencies)
    if tuple(shift.shape) != (rows.shape[0],):
        raise ValueError(f"shift has the shape {tuple(shift.shape)}")
    if rows.shape[-1] < 2 * half:
        raise ValueError(f"{half} frequencies are too many")
    wide = torch.promote_types(rows.dtype, torch.float32)
    matrices = torch.eye(rows.shape[-1], dtype=wide).repeat(len(rows), 1, 1)
    offset = rows.shape[-1] - 2 * half
    for i in range(half):
        a, b = (2 * i, 2 * i + 1) if interleaved else (i, i + half)
        a, b = a + offset, b + offset
        cos, sin = (shift * frequencies[i]).cos(), (shift * frequencies[i]).sin()
        matrices[:, a, a], matrices[:, a, b] = cos.to(wide), -sin.to(wide)
        matrices[:, b, a], matrices[:, b, b] = sin.to(wide), cos.to(wide)
    return torch.einsum("bij,bsj->bsi", matrices, rows.to(wide)).to(rows.dtype)
""",
        "one conversation after the other": """
def move_cached(rows, shift, frequencies, interleaved=True):
    if shift.ndim != 1 or shift.numel() != rows.shape[0]:
        raise ValueError("shift")
    d_r = frequencies.numel() * 2
    if d_r > rows.shape[-1]:
        raise ValueError("frequencies")
    moved = []
    for row, by in zip(rows, shift.tolist(), strict=True):
        angles = (by * frequencies).expand(len(row), -1)
        key = apply_rope(row[None, :, None, rows.shape[-1] - d_r :], angles.cos(), angles.sin(), interleaved)
        moved.append(torch.cat((row[:, : rows.shape[-1] - d_r], key[0, :, 0]), dim=1))
    return torch.stack(moved).to(rows.dtype)
""",
    },
    "adaptive_route": {
        "token by token": """
def adaptive_route(scores, bias, mass, most):
    if mass <= 0 or mass > 1:
        raise ValueError("mass")
    if most < 1 or most > scores.shape[-1]:
        raise ValueError("most")
    rows = []
    for row in scores.flatten(0, -2) if scores.dim() > 1 else scores[None]:
        plain = row.detach()
        order = sorted(range(len(row)), key=lambda i: -(plain[i] + bias.detach()[i]).item())
        goal, held, mask = mass * plain.sum().item(), 0.0, torch.zeros_like(plain)
        for i in order[:most]:
            mask[i] = 1
            held += plain[i].item()
            if held >= goal:
                break
        kept = row * mask
        rows.append(kept / kept.sum() if kept.sum() > 0 else kept)
    return torch.stack(rows).view(scores.shape)
""",
        "ranks and shares": """
def adaptive_route(scores, bias, mass, most):
    if not (mass > 0 and mass <= 1):
        raise ValueError(f"mass {mass}")
    if most not in range(1, scores.shape[-1] + 1):
        raise ValueError(f"most {most}")
    with torch.no_grad():
        _, order = (-(scores + bias)).sort(dim=-1, stable=True)
        total = scores.sum(-1, keepdim=True)
        share = scores / total.masked_fill(total == 0, 1)
        ordered = share.gather(-1, order)
        before = torch.nn.functional.pad(ordered.cumsum(-1), (1, 0))[..., :-1]
        count = (before < mass).sum(-1, keepdim=True).clamp(1, most)
        count = count.masked_fill(total == 0, 1)
        rank = order.argsort(-1)
        mask = (rank < count).to(scores.dtype)
    kept = scores * mask
    whole = torch.einsum("...e,...e->...", scores, mask)[..., None]
    return kept / whole.clamp(min=1e-30)
""",
        "V3's 1e-20 under the sum": _ROUTE,
        "comparing all pairs of experts": """
def adaptive_route(scores, bias, mass, most):
    if not 0 < mass <= 1:
        raise ValueError("mass")
    if not 0 < most <= scores.shape[-1]:
        raise ValueError("most")
    biased, index = (scores + bias).detach(), torch.arange(scores.shape[-1])
    ahead = biased[..., None, :] > biased[..., :, None]
    ahead = ahead | (biased[..., None, :] == biased[..., :, None]) & (index[None, :] < index[:, None])
    rank, before = ahead.sum(-1), (ahead * scores.detach()[..., None, :]).sum(-1)
    mask = (rank < most) & ((before < mass * scores.detach().sum(-1, keepdim=True)) | (rank == 0))
    kept = torch.where(mask, scores, torch.zeros_like(scores))
    total = kept.sum(-1, keepdim=True)
    return kept / torch.where(total > 0, total, torch.ones_like(total))
""",
    },
    "expert_choice": {
        "loops over rows and experts": """
def expert_choice(scores, capacity, real):
    if capacity <= 0:
        raise ValueError("capacity must be positive")
    if tuple(real.shape) != tuple(scores.shape[:2]):
        raise ValueError("real must be (B, T)")
    mask = torch.zeros_like(scores)
    for b in range(scores.shape[0]):
        places = real[b].nonzero().flatten()
        for e in range(scores.shape[2]):
            _, order = scores[b, places, e].detach().sort(descending=True, stable=True)
            mask[b, places[order[:capacity]], e] = 1
    kept = scores * mask
    return kept / (kept.sum(2, keepdim=True) + 1e-30)
""",
        "ranks instead of places": """
def expert_choice(scores, capacity, real):
    if capacity < 1:
        raise ValueError("capacity")
    if list(real.shape) != list(scores.shape[:-1]):
        raise ValueError("real")
    with torch.no_grad():
        keys = torch.where(real[:, :, None], -scores, torch.full_like(scores, torch.inf))
        rank = keys.argsort(dim=1, stable=True).argsort(dim=1)
        mask = (rank < capacity) & real[:, :, None]
    kept = torch.where(mask, scores, torch.zeros_like(scores))
    total = torch.einsum("bte->bt", kept)[..., None]
    safe = torch.where(total > 0, total, torch.ones_like(total))
    return torch.where(mask, scores / safe, torch.zeros_like(scores))
""",
    },
    "fp4_tiles": {
        "the nearest of eight sizes": """
def fp4_tiles(x, tile=32):
    if tile < 1:
        raise ValueError("tile")
    if not torch.isfinite(x).all():
        raise ValueError("x is not finite")
    sizes = torch.tensor([0, 1, 2, 4, 0.5, 1.5, 3, 6])  # the even ones first: argmin takes the first of equals
    values, scales = [], []
    for part in x.float().split(tile, dim=-1):
        amax = part.abs().amax(-1, keepdim=True)
        scale = torch.ones_like(amax)
        for _ in range(300):
            scale = torch.where(amax > 6 * scale, scale * 2, scale)
            scale = torch.where((amax <= 3 * scale) & (amax > 0), scale / 2, scale)
        which = ((part / scale).abs()[..., None] - sizes).abs().argmin(-1)
        values.append(sizes[which] * part.sign())
        scales.append(scale)
    return torch.cat(values, -1), torch.cat(scales, -1)
""",
        "logarithm and thresholds": """
def fp4_tiles(x, tile=32):
    if not isinstance(tile, int) or tile <= 0:
        raise ValueError("tile must be positive")
    if x.isnan().any() or x.isinf().any():
        raise ValueError("x has values that are not finite")
    x = x.to(torch.float32)
    width = x.shape[-1]
    count = math.ceil(width / tile)
    room = x.new_zeros(*x.shape[:-1], count * tile)
    room[..., :width] = x
    amax = room.view(*x.shape[:-1], count, tile).abs().max(dim=-1).values
    exponent = (amax.double() / 6).log2().ceil()
    scales = torch.where(amax > 0, (2.0**exponent).float(), torch.ones_like(amax))
    y = x / scales.repeat_interleave(tile, dim=-1)[..., :width]
    a, out = y.abs(), torch.zeros_like(x)
    for bound, closed, size in ((0.25, False, 0.5), (0.75, True, 1.0), (1.25, False, 1.5), (1.75, True, 2.0),
                                (2.5, False, 3.0), (3.5, True, 4.0), (5.0, False, 6.0)):
        reached = a >= bound if closed else a > bound
        out = torch.where(reached, torch.full_like(out, size), out)
    return torch.copysign(out, x), scales
""",
    },
    "second_chance": {
        "what is owed, not normalised": """
def second_chance(p, q, tries):
    if tries <= 0:
        raise ValueError("tries")
    if p.shape != q.shape:
        raise ValueError("q")
    owed, stays = p.clone(), []
    for _ in range(tries):
        reached = owed.sum()
        rest = (owed - reached * q).clamp(min=0)
        stays.append(reached - rest.sum())
        if rest.sum() <= 0:
            stays += [torch.zeros_like(reached)] * (tries - len(stays))
            break
        owed = rest
    return torch.stack(stays), owed / owed.sum()
""",
        "plain numbers": """
def second_chance(p, q, tries):
    from dsmini.accounting import speculation
    if tries < 1:
        raise ValueError("tries")
    if p.ndim != 1 or p.size() != q.size():
        raise ValueError("q")
    left, other, chance, stays = p.tolist(), q.tolist(), 1.0, []
    for _ in range(tries):
        share = speculation.acceptance(left, other)
        stays.append(chance * share)
        chance -= chance * share
        left = speculation.residual(left, other)
    return torch.tensor(stays, dtype=p.dtype), torch.tensor(left, dtype=p.dtype)
""",
    },
}

"""Wrong and right answers to the problem set `hybrid`, for the test of its tests.

WRONG: function -> what is wrong, in words -> source; each must lose points under every id. RIGHT: function -> how it
differs -> source; each must get full marks. Most wrong ones are one edit away from an answer that is right.
"""


def _edited(source, *edits):
    """The source with each (old, new) done once; fails where there is nothing to edit."""
    for old, new in edits:
        if old not in source:
            raise ValueError(f"{old!r} is not in the source")
        source = source.replace(old, new, 1)
    return source


_RENDER = """
def render_keeping(earlier, question, tags, keep, thinking):
    if not isinstance(keep, int) or keep < 0:
        raise ValueError(f"keep = {keep!r}")
    for turn in [*earlier, (question, None, None)]:
        for text in turn:
            for tag in tags:
                if text is not None and tag in text:
                    raise ValueError(f"a text holds {tag}")
    text, first = tags.begin, sum(turn[1] is not None for turn in earlier) - keep
    seen = 0
    for asked, thought, answer in earlier:
        text += tags.user + asked + tags.model
        if thought is not None:
            if seen >= first:
                text += tags.think + thought
            seen += 1
        text += tags.close + answer + tags.end
    return text + tags.user + question + tags.model + (tags.think if thinking else tags.close)
"""

_BILL = """
def reading_bill(prompts, replies, page):
    if page < 1:
        raise ValueError("page: expected 1 or more")
    if len(prompts) != len(replies):
        raise ValueError("replies: expected as many as prompts")
    caches, bill = [], []
    for prompt, reply in zip(prompts, replies):
        reused = 0
        for cache in caches:
            common = 0
            for a, b in zip(cache, prompt[:-1]):
                if a != b:
                    break
                common += 1
            reused = max(reused, common - common % page)
        bill.append(len(prompt) - reused)
        caches.append(prompt + reply[:-1])
    return bill
"""

_SCORED = """
def scored(tokens, thought_about):
    row, mask = tokens.tolist(), []
    ids = {tag: TOKENIZER.id(tag) for tag in (USER, ASSISTANT, THINK, EOS, PAD, *TOOLS)}
    if row.count(ids[ASSISTANT]) != len(thought_about):
        raise ValueError("thought_about: expected one for each turn")
    state, turn, learned = "read", -1, False
    for token in row:
        mask.append(False)
        if state == "switch":
            thinks = token == ids[THINK]
            if thinks and not thought_about[turn]:
                raise ValueError(f"thought_about[{turn}] is False for a thought")
            learned, state = thinks or not thought_about[turn], "say"
        elif token == ids[ASSISTANT]:
            turn, state = turn + 1, "switch"
        elif token == ids[TOOLS[-2]]:
            state = "read"
        elif token == ids[TOOLS[-1]]:
            state = "say"
        elif token == ids[USER] or token == ids[PAD]:
            state = "read"
        elif state == "say":
            mask[-1] = learned
            if token == ids[EOS]:
                state = "read"
    return torch.tensor(mask, dtype=torch.bool)
"""

_SPEND = """
def spend(confidence, direct_tokens, thinking_tokens, budget):
    if confidence.shape != direct_tokens.shape or confidence.shape != thinking_tokens.shape:
        raise ValueError("thinking_tokens: expected one shape")
    if budget < direct_tokens.mean():
        raise ValueError("budget: the direct answers cost more")
    for value in sorted(set(confidence.tolist())):
        below, at = confidence < value, confidence == value
        spent = (direct_tokens + below * thinking_tokens).mean()
        price = (at * thinking_tokens).mean()
        if spent + price > budget:
            return value, float((budget - spent) / price)
    return math.inf, 0.0
"""

_THINK = """
def think_within(step, budget, grace, room, close_id, end_id, stops=(), bridge=()):
    for name, value in {"budget": budget, "grace": grace, "room": room}.items():
        if value < 0:
            raise ValueError(f"{name} = {value}")
    tokens, forced, closed = [], [], False
    while not closed:
        n, ends = len(tokens), not tokens or tokens[-1] in stops
        if n >= budget + grace or (n >= budget and ends):
            break
        token = step(list(tokens))
        if token == end_id:
            break
        tokens.append(token)
        forced.append(False)
        closed = token == close_id
    if not closed:
        for token in [*bridge, close_id]:
            tokens.append(token)
            forced.append(True)
    said = 0
    while said < room:
        token = step(list(tokens))
        tokens.append(token)
        forced.append(False)
        said += 1
        if token == end_id:
            break
    return tokens, forced
"""

_SPLIT = """
def split_stream(chunks, thinking, tags):
    state, text = "thought" if thinking else "answer", ""
    for chunk in chunks:
        text += chunk
        while True:
            inner = {"thought": tags.close, "answer": tags.call, "call": tags.end_call}[state]
            places = sorted((text.find(tag), tag) for tag in {inner, tags.end} if tag in text)
            if not places:
                break
            at, tag = places[0]
            before, text = text[:at], text[at + len(tag):]
            if tag == tags.end:
                if state == "call":
                    yield "cut", before
                elif before:
                    yield state, before
                return
            if state == "call":
                yield "call", before
            elif before:
                yield state, before
            state = {"thought": "answer", "answer": "call", "call": "answer"}[state]
        if state != "call":
            keep = 0
            for n in range(1, max(len(inner), len(tags.end))):
                for tag in (inner, tags.end):
                    if n < len(tag) and text.endswith(tag[:n]):
                        keep = n
            sure = len(text) - keep
            if sure:
                yield state, text[:sure]
                text = text[sure:]
    if state == "call":
        yield "cut", text
    elif text:
        yield state, text
"""

RIGHT = {
    "render_keeping": {
        "counts the thoughts forwards": _RENDER,
        "walks from the last turn to the first": """
def render_keeping(earlier, question, tags, keep, thinking):
    if type(keep) is not int or keep < 0:
        raise ValueError("keep: expected 0 or more")
    everything = [question]
    for turn in earlier:
        everything.extend(filter(None, turn))
    for tag in tags:
        if [text for text in everything if text.count(tag)]:
            raise ValueError(tag)
    pieces = [f"{tags.user}{question}{tags.model}{tags.think if thinking else tags.close}"]
    left = keep
    for asked, thought, answer in earlier[::-1]:
        inside = ""
        if thought is not None and left:
            inside, left = tags.think + thought, left - 1
        pieces.insert(0, f"{tags.user}{asked}{tags.model}{inside}{tags.close}{answer}{tags.end}")
    return tags.begin + "".join(pieces)
""",
    },
    "reading_bill": {
        "loops over zipped tokens": _BILL,
        "keeps a set of pages, named by all that comes before their ends": """
def reading_bill(prompts, replies, page):
    if len(prompts) != len(replies):
        raise ValueError(f"replies: {len(replies)}")
    if page <= 0:
        raise ValueError(f"page: {page}")
    pages, bill = set(), []
    for prompt, reply in zip(prompts, replies):
        end = 0
        while end + page <= len(prompt) - 1 and tuple(prompt[: end + page]) in pages:
            end += page
        bill.append(len(prompt) - end)
        computed = list(prompt) + list(reply)
        if reply:
            computed.pop()
        for stop in range(page, len(computed) + 1, page):
            pages.add(tuple(computed[:stop]))
    return bill
""",
        "os.path.commonprefix; my_bill of literal structure": """
import os

def reading_bill(prompts, replies, page):
    if page < 1:
        raise ValueError("page")
    if len(prompts) != len(replies):
        raise ValueError("replies")
    rows = [p + r[:-1] for p, r in zip(prompts, replies)]
    bill = []
    for i, prompt in enumerate(prompts):
        best = max((len(os.path.commonprefix([prompt[:-1], row])) for row in rows[:i]), default=0)
        bill.append(len(prompt) - page * (best // page))
    return bill

def my_bill():
    bills = {}
    for rule in my_talks:
        prompts, replies = my_talks[rule]
        bills[rule] = reading_bill(prompts, replies, my_page)
    return bills
""",
    },
    "scored": {
        "a machine of three states": _SCORED,
        "decides segment by segment, with slices": """
def scored(tokens, thought_about):
    row = [int(token) for token in tokens]
    starts = [i for i, token in enumerate(row) if token == TOKENIZER.id(ASSISTANT)]
    if len(starts) != len(thought_about):
        raise ValueError("thought_about has another length")
    mask = torch.zeros(len(row), dtype=torch.bool)

    def score(start):
        ends = {TOKENIZER.id(tag) for tag in (EOS, USER, PAD, TOOLS[-2])}
        stop = next((i for i in range(start, len(row)) if row[i] in ends), len(row))
        if stop < len(row) and row[stop] == TOKENIZER.id(EOS):
            stop += 1
        mask[start:stop] = True

    for start, thought in zip(starts, thought_about):
        if start + 1 >= len(row):
            continue
        opened = row[start + 1] == TOKENIZER.id(THINK)
        if opened and not thought:
            raise ValueError("thought_about is False for a thought")
        if thought and not opened:
            continue
        score(start + 2)
        for i in range(start + 2, len(row)):
            if row[i] == TOKENIZER.id(USER):
                break
            if row[i] == TOKENIZER.id(TOOLS[-1]):
                score(i + 1)
    return mask
""",
    },
    "spend": {
        "what each threshold costs, by masks": _SPEND,
        "sorts, and sums the runs of equals": """
def spend(confidence, direct_tokens, thinking_tokens, budget):
    if len({tuple(t.shape) for t in (confidence, direct_tokens, thinking_tokens)}) > 1:
        raise ValueError("thinking_tokens and the others: expected one shape")
    rest = budget * len(confidence) - float(direct_tokens.sum())
    if rest < 0:
        raise ValueError(f"budget = {budget} is too small")
    values, group = torch.unique(confidence, sorted=True, return_inverse=True)
    prices = torch.zeros(len(values), dtype=torch.float64).index_add(0, group, thinking_tokens)
    ends = prices.cumsum(0)
    k = int((ends <= rest).sum())
    if k == len(values):
        return math.inf, 0.0
    return values[k].item(), ((rest - (ends[k] - prices[k])) / prices[k]).item()
""",
    },
    "think_within": {
        "the closing behind the loop": _THINK,
        "thought and answer in functions of their own": """
def think_within(step, budget, grace, room, close_id, end_id, stops=(), bridge=()):
    if min(budget, grace, room) < 0:
        raise ValueError(f"budget, grace or room is negative: {budget, grace, room}")
    written = []  # (token, forced)

    def draw():
        return step([token for token, _ in written])

    def must_close():
        n = len(written)
        if n < budget:
            return False
        return n >= budget + grace or n == 0 or written[-1][0] in stops

    def think():
        while not must_close():
            token = draw()
            if token == end_id:
                return False
            written.append((token, False))
            if token == close_id:
                return True
        return False

    if not think():
        written.extend((token, True) for token in bridge)
        written.append((close_id, True))
    for _ in range(room):
        written.append((draw(), False))
        if written[-1][0] == end_id:
            break
    return [token for token, _ in written], [mark for _, mark in written]
""",
    },
    "split_stream": {
        "sorted places, a counted overlap": _SPLIT,
        "character by character": """
def split_stream(chunks, thinking, tags):
    kind, held, call = ("thought" if thinking else "answer"), "", ""
    following = {"thought": (tags.close, "answer"), "answer": (tags.call, "call"), "call": (tags.end_call, "answer")}
    for chunk in chunks:
        for character in chunk:
            held += character
            tag, after = following[kind]
            if held in (tag, tags.end):
                if kind == "call":
                    yield ("call" if held == tag else "cut"), call
                    call = ""
                if held == tags.end:
                    return
                kind, held = after, ""
                continue
            out = ""
            while held and not (tag.startswith(held) or tags.end.startswith(held)):
                out, held = out + held[0], held[1:]
            if kind == "call":
                call += out
            elif out:
                yield kind, out
    if kind == "call":
        yield "cut", call + held
    elif held:
        yield kind, held
""",
    },
}

WRONG = {
    "render_keeping": {
        "keep = 0 keeps all, by a slice that begins at minus zero": _edited(
            _RENDER,
            ("    seen = 0\n", "    kept = [i for i, turn in enumerate(earlier) if turn[1] is not None][-keep:]\n"),
            ("for asked, thought, answer in earlier:", "for i, (asked, thought, answer) in enumerate(earlier):"),
            ("            if seen >= first:\n", "            if i in kept:\n"),
            ("            seen += 1\n", ""),
        ),
        "counts turns, not thoughts": _edited(
            _RENDER,
            ("sum(turn[1] is not None for turn in earlier)", "len(earlier)"),
            ("            seen += 1\n", "        seen += 1\n"),
        ),
        "keeps the first thoughts": _edited(_RENDER, ("seen >= first", "seen < keep")),
        "keeps one thought too many": _edited(_RENDER, ("seen >= first", "seen >= first - 1")),
        "keeps one thought too few": _edited(_RENDER, ("seen >= first", "seen > first")),
        "an empty thought is none": _edited(
            _RENDER, ("if thought is not None:", "if thought:"), ("turn[1] is not None for", "bool(turn[1]) for")
        ),
        "an empty thought is not shown, but counts": _edited(
            _RENDER, ("            if seen >= first:", "            if seen >= first and thought:")
        ),
        "leaves the opening tag of a dropped thought": _edited(
            _RENDER,
            ("text += tags.think + thought", "text += thought"),
            ("            if seen", "            text += tags.think\n            if seen"),
        ),
        "no closing tag before an answer at once": _edited(
            _RENDER,
            (
                "        text += tags.close + answer",
                "        text += (tags.close if thought is not None else '') + answer",
            ),
        ),
        "always opens a thought": _edited(_RENDER, ("(tags.think if thinking else tags.close)", "tags.think")),
        "asks for no thought with an empty pair": _edited(
            _RENDER, ("(tags.think if thinking else tags.close)", "tags.think + ('' if thinking else tags.close)")
        ),
        "no end behind an earlier answer": _edited(_RENDER, ("answer + tags.end", "answer")),
        "begins every turn": _edited(
            _RENDER,
            ("text += tags.user + asked", "text += (tags.begin if text != tags.begin else '') + tags.user + asked"),
        ),
        "looks for tags in the open question only": _edited(
            _RENDER, ("[*earlier, (question, None, None)]", "[(question, None, None)]")
        ),
        "looks for tags in what is shown only": _edited(
            _RENDER,
            (
                "            for tag in tags:",
                "            for tag in tags if text is not turn[1] or keep >= len(earlier) else ():",
            ),
        ),
        "looks for some of the tags only": _edited(_RENDER, ("for tag in tags:", "for tag in tags[:6]:")),
        "takes white space off the answers": _edited(_RENDER, ("answer + tags.end", "answer.lstrip() + tags.end")),
        "takes white space off the open question": _edited(
            _RENDER, ("return text + tags.user + question", "return text + tags.user + question.strip()")
        ),
        "takes any keep": _edited(_RENDER, ("not isinstance(keep, int) or keep < 0", "False")),
        "drops thoughts from the list it was given": _edited(
            _RENDER,
            ("    seen = 0\n", "    seen = 0\n    earlier.reverse()\n    earlier.reverse()\n    del earlier[:0]\n"),
            ("    return text", "    while earlier:\n        earlier.pop()\n    return text"),
        ),
    },
    "reading_bill": {
        "the last token said is in the cache too": _edited(_BILL, ("prompt + reply[:-1]", "prompt + reply")),
        "nothing that was said is in the cache": _edited(_BILL, ("prompt + reply[:-1]", "prompt")),
        "no pages": _edited(_BILL, ("common - common % page", "common")),
        "the last token of an empty reply is the prompt's": _edited(
            _BILL, ("prompt + reply[:-1]", "(prompt + reply)[:-1]")
        ),
        "a page is what it holds, wherever it stands": """
def reading_bill(prompts, replies, page):
    if page < 1:
        raise ValueError("page: expected 1 or more")
    if len(prompts) != len(replies):
        raise ValueError("replies: expected as many as prompts")
    known, bill = set(), []
    for prompt, reply in zip(prompts, replies):
        end = 0
        while end + page < len(prompt) and tuple(prompt[end : end + page]) in known:
            end += page
        bill.append(len(prompt) - end)
        row = prompt + reply[:-1]
        known |= {tuple(row[i : i + page]) for i in range(0, len(row) - page + 1, page)}
    return bill
""",
        "pages are rounded up": _edited(_BILL, ("common - common % page", "-(-common // page) * page")),
        "a known prompt is not read at all": _edited(_BILL, ("prompt[:-1]):", "prompt):")),
        "a known prompt costs one token, whatever the page": _edited(
            _BILL, ("prompt[:-1]):", "prompt):"), ("len(prompt) - reused", "max(1, len(prompt) - reused)")
        ),
        "looks at the turn before only": _edited(_BILL, ("for cache in caches:", "for cache in caches[-1:]:")),
        "adds up what several turns share": _edited(
            _BILL, ("max(reused, common - common % page)", "min(len(prompt) - 1, reused + common - common % page)")
        ),
        "counts equal tokens behind a difference": _edited(
            _BILL, ("                    break\n", "                    continue\n")
        ),
        "counts pages": _edited(
            _BILL, ("bill.append(len(prompt) - reused)", "bill.append(-(-(len(prompt) - reused) // page))")
        ),
        "counts what is taken over": _edited(_BILL, ("bill.append(len(prompt) - reused)", "bill.append(reused)")),
        "longer by what it has said": _edited(
            _BILL, ("bill.append(len(prompt) - reused)", "bill.append(len(prompt) + len(reply) - reused)")
        ),
        "takes any page": _edited(_BILL, ("if page < 1", "if page == 0")),
        "does not count the replies": _edited(_BILL, ("len(prompts) != len(replies)", "False")),
        "grows the prompts that it was given": _edited(
            _BILL, ("caches.append(prompt + reply[:-1])", "prompt += reply[:-1]\n        caches.append(prompt)")
        ),
        "another student's numbers": _BILL
        + """
def my_bill():
    return {"none kept": [16, 13, 16, 21, 25, 21], "last kept": [16, 10, 78, 75, 62, 103],
            "all kept": [16, 10, 15, 17, 16, 16]}
""",
        "the lengths of my prompts": _BILL
        + """
def my_bill():
    return {rule: [len(prompt) for prompt in my_talks[rule][0]] for rule in my_talks}
""",
        "my bill without my pages": _BILL
        + """
def my_bill():
    return {rule: reading_bill(*my_talks[rule], 1) for rule in my_talks}
""",
    },
    "scored": {
        "scores the switch": _edited(
            _SCORED, ('thought_about[turn], "say"\n', 'thought_about[turn], "say"\n            mask[-1] = learned\n')
        ),
        "does not score the end of the sentence": _edited(
            _SCORED, ("mask[-1] = learned\n", "mask[-1] = learned and token != ids[EOS]\n")
        ),
        "scores dropped thoughts' answers": _edited(
            _SCORED, ("learned, state = thinks or not thought_about[turn]", "learned, state = True")
        ),
        "scores turns with a thought only": _edited(
            _SCORED, ("learned, state = thinks or not thought_about[turn]", "learned, state = thinks")
        ),
        "scores what is behind a tool in a dropped turn": _edited(
            _SCORED, ('            state = "say"\n', '            state, learned = "say", True\n')
        ),
        "nothing behind a tool's result": _edited(
            _SCORED, ('            state = "say"\n', '            state = "read"\n')
        ),
        "scores the results": _edited(
            _SCORED,
            ('        elif token == ids[TOOLS[-2]]:\n            state = "read"\n', ""),
            ('            if token == ids[EOS]:\n                state = "read"\n', ""),
        ),
        "scores the second of two results": _edited(
            _SCORED,
            (
                'elif token == ids[TOOLS[-2]]:\n            state = "read"',
                'elif token == ids[TOOLS[-2]] and state != "say":\n            state = "read"',
            ),
        ),
        "scores the tag behind a result": _edited(
            _SCORED, ('            state = "say"\n', '            state, mask[-1] = "say", learned\n')
        ),
        "scores the last turn only": _edited(
            _SCORED,
            (
                'turn, state = turn + 1, "switch"',
                'turn, state = turn + 1, "switch"\n            mask = [False] * len(mask)',
            ),
        ),
        "does not score the tag that the model closes with": _edited(
            _SCORED, ("mask[-1] = learned\n", "mask[-1] = learned and token != TOKENIZER.id(END_THINK)\n")
        ),
        "scores everything behind the first answer, padding as well": _edited(
            _SCORED,
            (" or token == ids[PAD]", ""),
            ('                state = "read"\n    return', "                pass\n    return"),
        ),
        "does not score think tags in an answer": _edited(
            _SCORED,
            (
                "mask[-1] = learned\n",
                "mask[-1] = learned and (token != TOKENIZER.id(END_THINK) or ids[THINK] in row)\n",
            ),
        ),
        "takes a think tag in an answer for a contradiction": _edited(
            _SCORED,
            (
                '        elif state == "say":\n',
                '        elif state == "say" and token == ids[THINK] and not thought_about[turn]:\n'
                '            raise ValueError("thought_about")\n        elif state == "say":\n',
            ),
        ),
        "scores what fills up a row that is cut off": _edited(_SCORED, (" or token == ids[PAD]", "")),
        "scores nothing without an end of the sentence": _edited(
            _SCORED,
            ("    return torch", "    mask = mask if ids[EOS] in row else [False] * len(row)\n    return torch"),
        ),
        "the mask is one token early": _edited(
            _SCORED, ("torch.tensor(mask, dtype=torch.bool)", "torch.tensor(mask[1:] + [False], dtype=torch.bool)")
        ),
        "numbers in the place of truth values": _edited(_SCORED, ("dtype=torch.bool", "dtype=torch.float32")),
        "does not count the turns": _edited(
            _SCORED,
            ("row.count(ids[ASSISTANT]) != len(thought_about)", "False"),
            ("    state, turn", "    thought_about = [*thought_about, *[True] * 9]\n    state, turn"),
        ),
        "does not see a contradiction": _edited(_SCORED, ("if thinks and not thought_about[turn]", "if False")),
        "forgets the user": _edited(
            _SCORED,
            ("token == ids[USER] or token == ids[PAD]", "False"),
            ('            if token == ids[EOS]:\n                state = "read"\n', ""),
        ),
    },
    "spend": {
        "one by one, as if nobody tied": """
def spend(confidence, direct_tokens, thinking_tokens, budget):
    if not confidence.shape == direct_tokens.shape == thinking_tokens.shape:
        raise ValueError("thinking_tokens")
    left = budget * len(confidence) - direct_tokens.sum().item()
    if left < 0:
        raise ValueError("budget")
    for i in confidence.argsort(stable=True).tolist():
        if thinking_tokens[i] > left:
            return confidence[i].item(), (left / thinking_tokens[i]).item()
        left -= thinking_tokens[i].item()
    return math.inf, 0.0
""",
        "the direct attempt is free where it thinks": _edited(
            _SPEND,
            ("(direct_tokens + below * thinking_tokens)", "torch.where(below, thinking_tokens, direct_tokens)"),
            ("(at * thinking_tokens)", "(at * (thinking_tokens - direct_tokens))"),
        ),
        "direct answers are free": _edited(
            _SPEND, ("(direct_tokens + below * thinking_tokens)", "(below * thinking_tokens)")
        ),
        "thinks where it is most sure": _edited(
            _SPEND,
            ("sorted(set(confidence.tolist()))", "sorted(set(confidence.tolist()), reverse=True)"),
            ("confidence < value", "confidence > value"),
        ),
        "p = 1 where the budget is met": _edited(_SPEND, ("spent + price > budget", "spent + price >= budget")),
        "no coin": _edited(_SPEND, ("float((budget - spent) / price)", "0.0")),
        "the coin's other side": _edited(
            _SPEND, ("float((budget - spent) / price)", "1 - float((budget - spent) / price)")
        ),
        "p is a share of the budget": _edited(
            _SPEND, ("float((budget - spent) / price)", "float((budget - spent) / budget)")
        ),
        "every thought costs the mean": _edited(
            _SPEND,
            (
                "    for value",
                "    thinking_tokens = torch.full_like(thinking_tokens, thinking_tokens.mean().item())\n    for value",
            ),
        ),
        "the mean of the group, not its sum": _edited(
            _SPEND, ("(at * thinking_tokens).mean()", "thinking_tokens[at].mean()")
        ),
        "the largest confidence in the place of infinity": _edited(
            _SPEND, ("return math.inf, 0.0", "return confidence.max().item(), 1.0")
        ),
        "spends what cannot be paid": _edited(_SPEND, ("budget < direct_tokens.mean()", "budget < 0")),
        "takes what broadcasts": _edited(
            _SPEND, ("confidence.shape != direct_tokens.shape or confidence.shape != thinking_tokens.shape", "False")
        ),
        "sorts its input": _edited(
            _SPEND, ("    for value", "    confidence.copy_(confidence.sort().values)\n    for value")
        ),
        "p is at most 0.95": _edited(
            _SPEND, ("float((budget - spent) / price)", "min(0.95, float((budget - spent) / price))")
        ),
        "steps of one hundredth in p": _edited(
            _SPEND, ("float((budget - spent) / price)", "round(float((budget - spent) / price), 2)")
        ),
    },
    "think_within": {
        "no grace: cuts with the budget": _edited(
            _THINK, ("n >= budget + grace or (n >= budget and ends)", "n >= budget")
        ),
        "waits for the grace's end, whatever ends before": _edited(
            _THINK, ("n >= budget + grace or (n >= budget and ends)", "n >= budget + grace")
        ),
        "waits for a sentence's end for ever": _edited(
            _THINK, ("n >= budget + grace or (n >= budget and ends)", "(n >= budget and ends) or n > 500")
        ),
        "no grace without stops": _edited(_THINK, ("n >= budget + grace", "n >= budget + (grace if stops else 0)")),
        "one token over the grace": _edited(_THINK, ("n >= budget + grace", "n > budget + grace")),
        "a sentence's end counts one token too late": _edited(
            _THINK, ("(n >= budget and ends)", "(n > budget and ends)")
        ),
        "a sentence's end counts before the budget": _edited(_THINK, ("(n >= budget and ends)", "ends and n > 0")),
        "the beginning is no end of a sentence": _edited(
            _THINK, ("not tokens or tokens[-1] in stops", "tokens[-1:] != [] and tokens[-1] in stops")
        ),
        "looks at the sentence only behind a draw, so grace 0 and budget 0 draw once": _edited(
            _THINK,
            ("if n >= budget + grace", "if n and n >= budget + grace"),
            ("(n >= budget and ends)", "(n and n >= budget and ends)"),
        ),
        "draws a token and throws it away": _edited(
            _THINK,
            ("        if n >= budget + grace", "        token = step(list(tokens))\n        if n >= budget + grace"),
            ("            break\n        token = step(list(tokens))\n", "            break\n"),
        ),
        "an end inside the thought ends everything": _edited(
            _THINK,
            (
                "        if token == end_id:\n            break\n        tokens",
                "        if token == end_id:\n            return tokens + [token], forced + [False]\n        tokens",
            ),
        ),
        "writes the end inside the thought": _edited(
            _THINK,
            (
                "        if token == end_id:\n            break\n        tokens",
                "        if token == end_id:\n            tokens.append(token)\n"
                "            forced.append(False)\n            break\n        tokens",
            ),
        ),
        "an end inside the thought is a token of it": _edited(
            _THINK, ("        if token == end_id:\n            break\n        tokens", "        tokens")
        ),
        "no bridge": _edited(_THINK, ("[*bridge, close_id]", "[close_id]")),
        "the bridge behind the tag": _edited(_THINK, ("[*bridge, close_id]", "[close_id, *bridge]")),
        "a bridge when the model closes by itself": _edited(
            _THINK,
            (
                "        tokens.append(token)\n",
                "        tokens += list(bridge) * (token == close_id)\n"
                "        forced += [True] * len(bridge) * (token == close_id)\n        tokens.append(token)\n",
            ),
        ),
        "the bridge is not marked as forced": _edited(
            _THINK, ("forced.append(True)", "forced.append(token == close_id)")
        ),
        "the model's own close is marked as forced": _edited(
            _THINK, ("forced.append(False)\n        closed", "forced.append(token == close_id)\n        closed")
        ),
        "the end does not count in the room": _edited(_THINK, ("while said < room:", "while said <= room:")),
        "the thought uses up the room": _edited(_THINK, ("    said = 0\n", "    said = len(tokens)\n")),
        "a closing tag ends the answer": _edited(
            _THINK, ("said += 1\n        if token == end_id", "said += 1\n        if token in (end_id, close_id)")
        ),
        "adds an end where the room is used up": _edited(
            _THINK,
            (
                "    return tokens, forced",
                "    if tokens[-1] != end_id:\n        tokens.append(end_id)\n        forced.append(True)\n"
                "    return tokens, forced",
            ),
        ),
        "does not show the model what was forced": _edited(
            _THINK,
            (
                "        token = step(list(tokens))\n        tokens.append(token)\n"
                "        forced.append(False)\n        said",
                "        token = step([t for t, f in zip(tokens, forced) if not f])\n"
                "        tokens.append(token)\n        forced.append(False)\n        said",
            ),
        ),
        "takes negative numbers": _edited(_THINK, ("if value < 0", "if value is None")),
        "forgets to check the room": _edited(_THINK, (', "room": room}', "}")),
    },
    "split_stream": {
        "looks for tags within a chunk only": _edited(
            _SPLIT, ("            sure = len(text) - keep\n", "            sure = len(text)\n")
        ),
        "waits for the end with everything": _edited(
            _SPLIT,
            (
                "    for chunk in chunks:\n        text += chunk\n",
                "    for chunk in [''.join(chunks)]:\n        text += chunk\n",
            ),
        ),
        "a list, not a stream": _edited(_SPLIT, ("def split_stream(", "def _split_stream("))
        + """
def split_stream(chunks, thinking, tags):
    return list(_split_stream(chunks, thinking, tags))
""",
        "always holds back the length of a tag": _edited(
            _SPLIT,
            (
                "sure = len(text) - keep\n            if sure:",
                "sure = len(text) - max(len(inner), len(tags.end)) + 1\n            if sure > 0:",
            ),
        ),
        "holds back from any bracket": _edited(
            _SPLIT,
            (
                "            sure = len(text) - keep\n",
                "            places = [text.find(c) for c in (inner[0], tags.end[0]) if c in text]\n"
                "            sure = min(places, default=len(text))\n",
            ),
        ),
        "holds back the shortest beginning of a tag": _edited(
            _SPLIT, ("                        keep = n\n", "                        keep = keep or n\n")
        ),
        "does not hold back for the end": _edited(
            _SPLIT,
            (
                "for tag in (inner, tags.end):\n                    if n",
                "for tag in (inner,):\n                    if n",
            ),
        ),
        "holds back for the end only": _edited(
            _SPLIT,
            (
                "for tag in (inner, tags.end):\n                    if n",
                "for tag in (tags.end,):\n                    if n",
            ),
        ),
        "holds back beginnings of tags that do not count": _edited(
            _SPLIT,
            ("for tag in (inner, tags.end):\n                    if n", "for tag in tags:\n                    if n"),
            ("max(len(inner), len(tags.end))", "max(map(len, tags))"),
        ),
        "drops half a tag at the end of the stream": _edited(
            _SPLIT, ("    elif text:\n        yield state, text\n", "")
        ),
        "starts over without looking back": """
def split_stream(chunks, thinking, tags):
    kind, held, call = ("thought" if thinking else "answer"), "", ""
    following = {"thought": (tags.close, "answer"), "answer": (tags.call, "call"), "call": (tags.end_call, "answer")}
    for chunk in chunks:
        for character in chunk:
            held += character
            tag, after = following[kind]
            if held in (tag, tags.end):
                if kind == "call":
                    yield ("call" if held == tag else "cut"), call
                    call = ""
                if held == tags.end:
                    return
                kind, held = after, ""
            elif not (tag.startswith(held) or tags.end.startswith(held)):
                if kind == "call":
                    call += held
                else:
                    yield kind, held
                held = ""
    if kind == "call":
        yield "cut", call + held
    elif held:
        yield kind, held
""",
        "cuts at the last closing tag of a chunk": _edited(
            _SPLIT,
            ("text.find(tag), tag) for tag", "(text.rfind if tag == tags.close else text.find)(tag), tag) for tag"),
        ),
        "closes the answer's thought again": _edited(
            _SPLIT,
            (
                '            if state == "call":\n                yield "call", before\n',
                "            before = before.replace(tags.close, '')\n            if state == \"call\":\n"
                '                yield "call", before\n',
            ),
        ),
        "reads calls in a thought": _edited(
            _SPLIT,
            (
                "            places = sorted(",
                "            also = {tags.call} if state == 'thought' else set()\n            places = sorted(",
            ),
            ("for tag in {inner, tags.end} if", "for tag in {inner, tags.end} | also if"),
            (
                '            state = {"thought": "answer", "answer": "call", "call": "answer"}[state]\n',
                '            state = "call" if tag == tags.call else "answer"\n',
            ),
        ),
        "reads the end in no call": _edited(
            _SPLIT,
            ("for tag in {inner, tags.end} if", "for tag in ({inner} if state == 'call' else {inner, tags.end}) if"),
        ),
        "reads on behind the end": _edited(
            _SPLIT, ("                return\n", "                text = ''\n                break\n")
        ),
        "asks for one chunk more": _edited(
            _SPLIT, ("                return\n", "                next(iter(chunks), None)\n                return\n")
        ),
        "a call that is cut off is a call": _edited(
            _SPLIT,
            (
                '    if state == "call":\n        yield "cut", text',
                '    if state == "call":\n        yield "call", text',
            ),
        ),
        "a call that is cut off is lost": _edited(
            _SPLIT,
            ('    if state == "call":\n        yield "cut", text\n    elif text:', '    if text and state != "call":'),
        ),
        "a call that is cut off by the end is a call": _edited(
            _SPLIT, ('                    yield "cut", before', '                    yield "call", before')
        ),
        "no empty calls": _edited(
            _SPLIT,
            (
                '                yield "call", before\n            elif before:',
                '                if before:\n                    yield "call", before\n            elif before:',
            ),
        ),
        "calls in pieces": _edited(_SPLIT, ('        if state != "call":\n', "        if True:\n")),
        "a thought where none was asked for": _edited(
            _SPLIT, ('"thought" if thinking else "answer", ""', '"thought", ""')
        ),
        "never in a thought": _edited(_SPLIT, ('"thought" if thinking else "answer", ""', '"answer", ""')),
        "nothing comes behind a call": _edited(
            _SPLIT,
            (
                '                yield "call", before\n',
                '                yield "call", before\n                return\n',
            ),
        ),
        "takes white space off": _edited(
            _SPLIT,
            (
                "before, text = text[:at], text[at + len(tag):]",
                "before, text = text[:at].strip(), text[at + len(tag):].lstrip()",
            ),
        ),
        "takes the line breaks off a thought": _edited(
            _SPLIT,
            (
                '            if state == "call":\n                yield "call", before\n',
                '            before = before.rstrip("\\n") if state == "thought" else before\n'
                '            if state == "call":\n                yield "call", before\n',
            ),
        ),
        "empty pieces": _edited(
            _SPLIT,
            (
                "                elif before:\n                    yield state, before\n",
                "                else:\n                    yield state, before\n",
            ),
        ),
    },
}

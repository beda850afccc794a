"""Reads the tape of a speculative run into what the widget draws, and refuses one whose verdicts break the rule."""

from dsmini.accounting import speculation

LONGEST = 64  # steps


def read_tape(label, tape, decode):
    """A tape as the widget wants it: text for ids, rounded numbers, and only if its verdicts follow the rule."""
    if set(tape) != {"prompt", "first", "greedy", "steps"}:
        raise ValueError(f"tapes[{label!r}]: has {', '.join(tape)}, expected prompt, first, greedy and steps")
    if not 1 <= len(tape["steps"]) <= LONGEST:
        raise ValueError(f"tapes[{label!r}]: {len(tape['steps'])} steps, expected 1 to {LONGEST}")
    steps = [_step(f"tapes[{label!r}], step {i}", step, decode) for i, step in enumerate(tape["steps"], 1)]
    texts = {name: _text(f"tapes[{label!r}], {name}", tape[name], decode) for name in ("prompt", "first")}
    return {"label": label, **texts, "greedy": bool(tape["greedy"]), "steps": steps}


def _step(where, step, decode):
    step = step._asdict() if hasattr(step, "_asdict") else dict(step)
    if missing := [name for name in ("draft", "q", "p", "uniform", "accepted", "token", "count") if name not in step]:
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    q, p, uniform, accepted, count = (step[name] for name in ("q", "p", "uniform", "accepted", "count"))
    if not (0 < q <= 1.0001 and 0 <= p <= 1.0001 and 0 <= uniform <= 1):
        raise ValueError(f"{where}: q = {q}, p = {p}, uniform = {uniform}, expected probabilities, q above 0")
    if accepted != speculation.is_accepted(p, q, uniform) and abs(uniform * q - p) > 1e-6:
        raise ValueError(f"{where}: accepted = {accepted}, but q = {q}, p = {p}, uniform = {uniform} say otherwise")
    if count not in (1, 2) or count > 1 + accepted:
        raise ValueError(f"{where}: count = {count}, expected 1, or 2 behind an accepted draft")
    row = {
        "draft": _text(where, step["draft"], decode), "q": round(q, 6), "p": round(p, 6), "uniform": round(uniform, 6),
        "accepted": bool(accepted), "token": _text(where, step["token"], decode), "count": int(count),
    }  # fmt: skip
    if "top" in step:
        if "overlap" not in step or len(step["top"]) > 8:
            raise ValueError(f"{where}: top needs overlap beside it, and 8 rows at most")
        row["top"] = [[_text(where, text, decode), round(p, 6), round(q, 6)] for text, p, q in step["top"]]
        row["overlap"] = round(step["overlap"], 6)
    return row


def _text(where, token, decode):
    if isinstance(token, str):
        return token
    if decode is None:
        raise ValueError(f"{where}: the token {token!r} is no text, expected a string, or decode")
    return decode(token)


def written(step):
    """The text that a step of a tape adds."""
    own = step["token"] if step["count"] == 2 or not step["accepted"] else ""
    return (step["draft"] if step["accepted"] else "") + own

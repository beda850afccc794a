"""Result files of the benchmarks: JSON, one measured row a line, written in one step."""

import hashlib
import json
import platform

import torch

from dsmini import __version__
from dsmini.files import atomically


def versions():
    """What the figures were measured with."""
    return {"dsmini": __version__, "python": platform.python_version(), "torch": torch.__version__}


def processor():
    """The processor's own name where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def fingerprint(tokens):
    """A text's identity: the start of the SHA-256 of its tokens, each below 256."""
    return hashlib.sha256(bytes(tokens.flatten().tolist())).hexdigest()[:16]


def curve(losses, points=40):
    """A loss curve as at most `points` means of neighbouring steps."""
    return [round(part.mean().item(), 3) for part in losses.chunk(points)]


def write(path, conditions, rows):
    """Replace the file, so that a benchmark stopped midway never leaves half a result."""
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    text = f'{{\n "conditions": {json.dumps(conditions)},\n "rows": [\n  {lines}\n ]\n}}\n'
    json.loads(text)
    with atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read(path, conditions):
    """The rows of an earlier run under the same conditions; none otherwise."""
    if not path.exists():
        return []
    stored = json.loads(path.read_text(encoding="utf-8"))
    return stored["rows"] if stored["conditions"] == conditions else []

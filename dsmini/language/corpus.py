"""Text that every reader already has: the source of their own Python's standard library.

It is read in place, never copied, so there is nothing to download. Another Python version has other files, so losses
differ in the second decimal from one reader to the next; comparisons within one run do not mind.
"""

import sysconfig
from pathlib import Path

# Packages that are large, generated, or missing in some distributions.
_SKIPPED = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "encodings", "turtledemo"}


def standard_library_text(max_bytes=2_000_000):
    """Python source, file after file in alphabetical order, cut at `max_bytes` bytes of UTF-8.

    Raises FileNotFoundError, naming the folder, where the standard library's source is not on disk.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    parts, size = [], 0
    for path in sorted(root.rglob("*.py")):
        if _SKIPPED.intersection(path.relative_to(root).parts):
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        parts.append(text)
        size += len(text.encode("utf-8"))
        if size >= max_bytes:
            break
    if not parts:
        raise FileNotFoundError(f"no Python source below {root}: this Python ships its library without it")
    return "".join(parts).encode("utf-8")[:max_bytes].decode("utf-8", errors="ignore")

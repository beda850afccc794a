"""Files that are either whole or not there."""

import contextlib
import os
import secrets
from pathlib import Path


@contextlib.contextmanager
def atomically(path):
    """Write a file in one step: yields a temporary path beside `path`, which takes its place when the block ends well.

    Whatever goes wrong inside, `path` is what it was before and nothing else is left behind. Two writers at once do
    not disturb each other: the last one to finish wins, whole.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)

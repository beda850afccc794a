"""Files that are either whole or not there."""

import contextlib
import os
import secrets
from pathlib import Path


@contextlib.contextmanager
def atomically(path):
    """Write a file in one step: yields a temporary path beside `path`, which takes its place when the block ends well.

    Whatever goes wrong inside, `path` is what it was before and nothing else is left behind. Two writers at once do
    not disturb each other: the last one to finish wins, whole. Folders that are missing are made. Only a process that
    is killed midway leaves its temporary file, `.NAME.*.tmp`, and never half of `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # on the disk before it gets its name, or a power cut could leave an empty file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)

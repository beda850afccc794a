"""The helpers beside this file are importable, and the example's release is built once."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import example  # noqa: E402


@pytest.fixture(scope="session")
def example_folder(tmp_path_factory):
    """A folder with source/ and release/ of the example."""
    from release import release

    root = tmp_path_factory.mktemp("example")
    release(root / "release", source=example.write_source(root / "source"))
    return root

"""A file is whole or not there, whatever happens while it is written."""

import signal
import subprocess
import sys
import threading

import pytest

from dsmini.files import atomically

KILLED_MIDWAY = """
import os, signal, sys
from dsmini.files import atomically
with atomically(sys.argv[1]) as temporary:
    temporary.write_text("half of it")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_file_takes_its_place_when_the_block_ends(tmp_path):
    path = tmp_path / "result"
    path.write_text("old")
    with atomically(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and names(tmp_path) == ["result"]


def test_folders_that_are_missing_are_made(tmp_path):
    with atomically(str(tmp_path / "a" / "b" / "result")) as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a" / "b" / "result").read_text() == "new"


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), SystemExit(1)], ids=repr)
@pytest.mark.parametrize("before", ["old", None])
def test_whatever_goes_wrong_leaves_what_was_there(tmp_path, error, before):
    path = tmp_path / "result"
    if before is not None:
        path.write_text(before)
    with pytest.raises(type(error)), atomically(path) as temporary:
        temporary.write_text("half of it")
        raise error
    assert names(tmp_path) == (["result"] if before else [])
    assert before is None or path.read_text() == before


def test_block_that_writes_nothing_is_an_error(tmp_path):
    path = tmp_path / "result"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), atomically(path):
        pass
    assert path.read_text() == "old" and names(tmp_path) == ["result"]


def test_rename_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "result" / "occupied").mkdir(parents=True)
    with pytest.raises(OSError), atomically(tmp_path / "result") as temporary:
        temporary.write_text("new")
    assert names(tmp_path) == ["result"]


def test_of_two_writers_the_last_one_wins_whole(tmp_path):
    path = tmp_path / "result"
    with atomically(path) as first:
        first.write_text("first")
        with atomically(path) as second:
            second.write_text("second")
            assert first.read_text() == "first"
        assert path.read_text() == "second"
    assert path.read_text() == "first" and names(tmp_path) == ["result"]


def test_writers_in_a_race_never_show_a_mixture(tmp_path):
    path, texts = tmp_path / "result", [letter * 100_000 for letter in "ab"]

    def write(text):
        for _ in range(20):
            with atomically(path) as temporary:
                temporary.write_text(text)

    write(texts[0])
    writers = [threading.Thread(target=write, args=(text,)) for text in texts]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        seen.add(path.read_text())
    assert seen <= set(texts) and path.read_text() in texts
    assert names(tmp_path) == ["result"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_process_killed_midway_leaves_the_old_file(tmp_path):
    path = tmp_path / "result"
    path.write_text("old")
    killed = subprocess.run([sys.executable, "-c", KILLED_MIDWAY, str(path)])
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == "old"

"""The text that every reader has: read in order, cut to size, without what is left out."""

import sysconfig

import pytest

from dsmini.language.corpus import standard_library_text


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A toy standard library in place of this Python's."""
    files = {"b.py": "bb\n", "a.py": "é\n", "test/c.py": "test\n", "lib/d.py": "d\n", "lib/site-packages/e.py": "e\n"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    return tmp_path


def test_files_are_joined_in_order_without_tests_and_packages(library):
    assert standard_library_text() == "é\nbb\nd\n"


def test_text_is_cut_to_size_and_stays_text(library):
    assert standard_library_text(max_bytes=5) == "é\nbb"
    assert standard_library_text(max_bytes=1) == "", "half an é is no letter"


def test_bytes_that_are_no_utf8_are_skipped(library):
    (library / "a.py").write_bytes(b"x\xff\n")
    assert standard_library_text(max_bytes=2) == "x\n"


def test_python_without_its_source_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(FileNotFoundError, match=f"no Python source below {tmp_path}"):
        standard_library_text()


def test_this_pythons_library_is_enough_to_train_on():
    text = standard_library_text(300_000)
    assert 299_990 <= len(text.encode("utf-8")) <= 300_000
    assert text.count(" def ") > 100
    assert text == standard_library_text(300_000)

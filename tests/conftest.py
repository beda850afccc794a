"""One thread, reproducible property tests, and the tests' own helpers (`tiny`, `chromium`, `parity/...`) importable."""

import os
import pickle
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # read when PyTorch is imported: small models only lose time to more threads

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "parity")]

import chromium  # noqa: E402

settings.register_profile("dsmini", derandomize=True, deadline=None, database=None, max_examples=20)
settings.load_profile("dsmini")


@pytest.fixture
def no_pickle(monkeypatch):
    """Every way into pickle raises, PyTorch's own included."""

    def refuse(*_, **__):
        raise AssertionError("pickle")

    for module, names in ((pickle, ("dump", "dumps", "load", "loads")), (torch, ("save", "load"))):
        for name in names:
            monkeypatch.setattr(module, name, refuse)


def pytest_terminal_summary(terminalreporter):
    if any(chromium.MISSING in str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])):
        terminalreporter.section("BROWSER TESTS WERE SKIPPED", red=True)
        terminalreporter.line(f"{chromium.MISSING}: widgets, dark mode and accessibility were not checked.", red=True)

"""The system's Chromium, without a network: what the widgets' tests and the book's pages are driven with."""

import os
import shutil
from contextlib import contextmanager

import pytest

BROWSERS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge"]
MAC_CHROME = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
# Names resolve nowhere, so whatever a page asks of the network fails; the tests also log what it asked for.
FLAGS = [
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MISSING = "no Chromium or Chrome was found (on PATH, or at $CHROMIUM)"


def find():
    """The browser's path, or None."""
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, [*BROWSERS, MAC_CHROME])), None)


@contextmanager
def launched():
    """A running browser. Without one the test is skipped, loudly (see conftest.py), and fails where CI is set."""
    executable = find()
    if executable is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(MISSING)
    from playwright.sync_api import sync_playwright  # here: every test run reads this file, few need it

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()

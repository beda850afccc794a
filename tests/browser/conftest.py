"""The built book, a local server for it, and a Chromium whose network reaches nothing else."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import chromium
import pytest
import yaml

ROOT = Path(__file__).parents[2]
SITE = ROOT / "_build" / "html"


def pages():
    """The book's pages in reading order, as paths below the site without their ending."""

    def files(entry):
        if isinstance(entry, list):
            return [name for item in entry for name in files(item)]
        found = [entry[key] for key in ("root", "file") if key in entry]
        return found + [name for key in ("parts", "chapters", "sections") for name in files(entry.get(key, []))]

    return files(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))


def pytest_generate_tests(metafunc):
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", pages(), scope="session")


@pytest.fixture(scope="session")
def site():
    if not (SITE / "index.html").exists():
        pytest.fail("the book is not built: run `make book SERVE=0`", pytrace=False)
    return SITE


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="session")
def address(site):
    """The site on a free port of this computer."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="session")
def browser():
    with chromium.launched() as browser:
        yield browser


class Log:
    """What went wrong on a page since it was opened."""

    def __init__(self, page):
        self.trouble = []
        page.on("console", lambda message: self.note(message.type == "error", f"console: {message.text}"))
        page.on("pageerror", lambda error: self.note(True, f"exception: {error}"))
        page.on("requestfailed", lambda request: self.note(True, f"request failed: {request.url}"))
        page.on("response", lambda response: self.note(response.status >= 400, f"{response.status}: {response.url}"))
        page.on("request", lambda request: self.note(self.is_external(request.url), f"external: {request.url}"))

    def note(self, is_trouble, text):
        if is_trouble:
            self.trouble.append(text)

    @staticmethod
    def is_external(url):
        return not url.startswith(("http://127.0.0.1:", "file:", "data:", "blob:", "about:"))


def settle(page):
    """Wait until the page has loaded, its mathematics is set and its widgets stand."""
    page.wait_for_load_state("load")
    page.evaluate("window.MathJax?.startup?.promise")
    page.wait_for_function("[...document.querySelectorAll('ds-widget')].every(w => w.querySelector('input, button'))")


@pytest.fixture(scope="session")
def open_page(browser):
    """A function that opens an address; what goes wrong on the page is kept in its `log`."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme="light", reduced_motion="reduce"
    )
    context.set_default_timeout(10_000)

    def open_page(url):
        page = context.new_page()
        page.log = Log(page)
        page.goto(url)
        settle(page)
        return page

    yield open_page
    context.close()


@pytest.fixture(scope="session")
def page(open_page, address, name):
    """One page of the book, opened once for all tests."""
    page = open_page(f"{address}/{name}.html")
    yield page
    page.close()

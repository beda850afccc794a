"""What can be read off the built files without a browser: links, figures, fallbacks, weight, downloads."""

import json
import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).parents[2]
MAX_PAGE_BYTES = 1_500_000
MIN_ALT, MIN_FALLBACK = 20, 20
FILE_NAME = re.compile(r"[\w./-]+\.(png|svg|jpe?g)", re.IGNORECASE)
ADDRESSES = {"a": "href", "link": "href", "img": "src", "script": "src", "source": "src", "iframe": "src"}


@cache
def soup(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(path):
    return {tag["id"] for tag in soup(path).find_all(id=True)} | {
        tag["name"] for tag in soup(path).find_all("a", attrs={"name": True})
    }


def addresses(path):
    """(tag, address) of everything a page links to or loads."""
    for tag, attribute in ADDRESSES.items():
        for element in soup(path).find_all(tag):
            if element.get(attribute):
                yield element, element[attribute]


def target(path, address):
    """The file that a relative address means, or None for another site."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return None
    file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    return file / "index.html" if file.is_dir() else file


def test_internal_links_and_anchors_are_whole(site, name):
    path = site / f"{name}.html"
    broken = []
    for _, address in addresses(path):
        file, anchor = target(path, address), unquote(urlsplit(address).fragment)
        if file is None or address.startswith("#") and not anchor:
            continue
        if not file.is_file() or (anchor and file.suffix == ".html" and anchor not in anchors(file)):
            broken.append(address)
    assert broken == []


def test_nothing_is_loaded_from_elsewhere(site, name):
    path = site / f"{name}.html"
    loaded = [
        address
        for element, address in addresses(path)
        if target(path, address) is None
        and not address.startswith("data:")
        and (element.name != "a" and not (element.name == "link" and "canonical" in element.get("rel", [])))
    ]
    assert loaded == []


def test_figures_are_described(site, name):
    article = soup(site / f"{name}.html").select_one("article.bd-article")
    poor = [
        (image["src"], image.get("alt"))
        for image in article.find_all("img")
        if len(image.get("alt", "").strip()) < MIN_ALT or FILE_NAME.fullmatch(image["alt"].strip())
    ]
    assert poor == []


def test_page_is_light(site, name):
    """The page's own bytes: what the theme and MathJax bring is shared by all pages and does not count.

    A link to the page before or after, to the index or the search names a page and loads nothing.
    """
    path = site / f"{name}.html"
    pages = {"prev", "next", "index", "search"}
    loaded = [
        address
        for element, address in addresses(path)
        if element.name != "a" and not pages.intersection(element.get("rel", []))
    ]
    files = {target(path, address) for address in loaded} - {None}
    own = {path} | {file for file in files if "_static" not in file.parts or file.parent.name == "dsmini"}
    weight = sum(file.stat().st_size for file in own)
    assert weight <= MAX_PAGE_BYTES, sorted((file.stat().st_size, file.name) for file in own)


def test_widgets_have_a_fallback(site, name):
    for widget in soup(site / f"{name}.html").find_all("ds-widget"):
        assert len(widget.get_text(" ", strip=True)) >= MIN_FALLBACK, widget["name"]


def test_page_names_no_machine(site, name):
    text = (site / f"{name}.html").read_text(encoding="utf-8")
    assert str(ROOT) not in text and str(Path.home()) + "/" not in text


def test_chapters_offer_their_notebook(site, name):
    if not (ROOT / f"{name}.ipynb").exists():
        return
    path = site / f"{name}.html"
    (button,) = soup(path).select("a.btn-download-notebook")
    assert button["title"] and button.get_text(strip=True)
    assert json.loads(target(path, button["href"]).read_text()) == json.loads((ROOT / f"{name}.ipynb").read_text())


def test_the_site_s_address_leads_to_the_first_page(site):
    refresh = soup(site / "index.html").find("meta", attrs={"http-equiv": True})
    start = refresh["content"].partition("url=")[2]
    assert (site / start).is_file() and start.endswith("book/index.html")


@pytest.mark.parametrize(
    ("html", "check"),
    [
        ('<a href="gone.html">x</a>', test_internal_links_and_anchors_are_whole),
        ('<a href="#nowhere">x</a>', test_internal_links_and_anchors_are_whole),
        ('<a href="page.html#nowhere">x</a>', test_internal_links_and_anchors_are_whole),
        ('<script src="https://cdn.example.org/x.js"></script>', test_nothing_is_loaded_from_elsewhere),
        ('<link rel="stylesheet" href="//cdn.example.org/x.css">', test_nothing_is_loaded_from_elsewhere),
        ('<img src="a.png" alt="a plot">', test_figures_are_described),
        ('<img src="a.png" alt="../../_images/0123456789abcdef.png">', test_figures_are_described),
        ("<p>" + "x" * MAX_PAGE_BYTES, test_page_is_light),
        ('<ds-widget name="x" props="{}"> </ds-widget>', test_widgets_have_a_fallback),
        (f"<pre>{ROOT}/chapters</pre>", test_page_names_no_machine),
    ],
)
def test_the_checks_find_planted_errors(tmp_path, html, check):
    (tmp_path / "page.html").write_text(f'<article class="bd-article">{html}</article>')
    with pytest.raises(AssertionError):
        check(tmp_path, "page")

"""Sphinx extension of this book: everything a page needs comes from the book's own folder.

It copies the style sheets and the MathJax subset, bundles the widgets into one classic script (an ES module would
not load from file://), shows a "download notebook" button on every chapter, and fills in the repository's address
when the environment knows one (the publishing workflow does).
"""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

from dsmini.widgets.bundle import bundle

ASSETS = Path(__file__).parents[1] / "_assets"
# The parts of MathJax that TeX input and HTML output load: 2 of the package's 24 MB.
MATHJAX_PARTS = ["tex-mml-chtml.js", "input/tex/extensions", "output/chtml/fonts/woff-v2"]


def add_repository(app, config):
    """Turn the repository buttons on if BOOK_REPOSITORY holds an address."""
    address = os.environ.get("BOOK_REPOSITORY")
    if address:
        config.html_theme_options |= {
            "repository_url": address,
            "use_repository_button": True,
            "use_issues_button": True,
        }


def copy_assets(app):
    """Put style sheets, the MathJax subset and the widget script into _static."""
    if app.builder.format != "html":
        return
    static = Path(app.outdir, "_static")
    own = static / "dsmini"
    own.mkdir(parents=True, exist_ok=True)
    for sheet in sorted(ASSETS.glob("*.css")):
        shutil.copyfile(sheet, own / sheet.name)
        app.add_css_file(f"dsmini/{sheet.name}", priority=900)
    (own / "widgets.js").write_text(bundle(), encoding="utf-8")

    package = find_spec("sphinx-mathjax-offline")
    source = Path(package.origin).parent / "static" / "mathjax"
    target = static / Path(app.config.mathjax_path).parent
    for part in MATHJAX_PARTS:
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part, dirs_exist_ok=True)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / part, target / part)


def finish_page(app, pagename, templatename, context, doctree):
    """Load the widgets only where there is one, and offer a chapter's notebook for download."""
    body = context.get("body", "")
    # docutils gives a bibliography roles that ARIA has withdrawn or does not allow here.
    context["body"] = body = body.replace(' role="doc-biblioentry"', "").replace(
        ' role="list" class="citation', ' class="citation'
    )
    if "<ds-widget" in body:
        app.add_js_file("dsmini/widgets.js", loading_method="defer")
    if context.get("page_source_suffix") == ".ipynb":
        button = {
            "type": "link",
            "url": f"{context['pathto']('_sources', 1)}/{context['sourcename']}",
            "text": "Notebook",
            "icon": "fas fa-download",
            "tooltip": "Download this chapter as a notebook",
            "label": "download-notebook",
        }
        others = [b for b in context["header_buttons"] if b.get("label") != "download-buttons"]
        context["header_buttons"] = [button, *others]


def setup(app):
    app.connect("config-inited", add_repository)
    app.connect("builder-inited", copy_assets)
    app.connect("html-page-context", finish_page, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

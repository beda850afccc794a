"""A page with the widgets, outside the book, and a browser for it."""

from importlib.util import find_spec
from pathlib import Path

import chromium
import pytest
from lean_attention import LEAN, LEAN_WORDS

import dsmini
from dsmini import widgets
from dsmini.widgets.bundle import bundle

MINI = dsmini.ModelConfig(
    hidden_size=128, num_hidden_layers=4, num_attention_heads=4, q_lora_rank=48, kv_lora_rank=32, qk_nope_head_dim=16,
    qk_rope_head_dim=8, v_head_dim=16, max_position_embeddings=1024,
)  # fmt: skip

# Groups as a run makes them: texts, and rewards that are no verdicts.
MARKED = [
    {"prompt": prompt, "answers": [{"reward": 0.1 * j + 0.25 * i, "tokens": 10 + 7 * j, "text": f"sum {i} <{j}>"}
                                   for j in range(4)]}
    for i, prompt in enumerate(("first", "second"))
]  # fmt: skip

# Curves as `accuracy_at_budgets` measures them, and two ways to answer beside them.
CURVES = {
    f"{swaps} swaps": [{"budget": n, "accuracy": 0.2 + 0.7 * n / 40 / swaps, "tokens": 0.8 * n, "forced": 1 - n / 40}
                       for n in (0, 8, 16, 32)]
    for swaps in (1, 2)
}  # fmt: skip
WAYS = [{"label": "not thinking", "tokens": 2, "accuracy": 0.3}, {"label": "sure", "tokens": 30, "accuracy": 0.99}]


@pytest.fixture(scope="module")  # not the session: two of Playwright's loops cannot be open at once
def browser():
    with chromium.launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A page with all the widgets, one of them twice, under the theme's own style sheets."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "widgets.js").write_text(bundle(), encoding="utf-8")
    sheets = [
        *_folder_of("pydata_sphinx_theme").rglob("pydata-sphinx-theme.css"),
        *_folder_of("sphinx_book_theme").rglob("sphinx-book-theme.css"),
        Path(__file__).parents[2] / "book" / "_assets" / "widgets.css",
    ]
    assert len(sheets) == 3
    links = "".join(f'<link rel="stylesheet" href="{sheet.as_uri()}">' for sheet in sheets)
    shown = [
        widgets.timeline(),
        widgets.kv_calculator(),
        widgets.absorption(models={"V3": dsmini.PRESETS["deepseek-v3"], "mini": MINI}),
        widgets.kv_calculator(preset="llama-3-70b", context=4096),
        widgets.router(),
        widgets.mtp_tape(),
        widgets.fp8_tiles(),
        widgets.clip_map(),
        widgets.group_advantages(),
        widgets.group_advantages(MARKED),
        widgets.template_explorer(),
        widgets.template_explorer("qwen3", turns=3, tools=True, keep_thoughts=True),
        widgets.budget_explorer(),
        widgets.budget_explorer(CURVES, WAYS, {"high": 32, "low": 8}),
        widgets.sparsity(),
        widgets.sparsity(LEAN, words=LEAN_WORDS, k=2),
    ]
    outputs = "".join(
        f'<div class="cell_output"><div class="output text_html">{w.to_html()}</div></div>' for w in shown
    )
    (folder / "page.html").write_text(
        '<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>Widgets</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">{links}<script defer src="widgets.js">'
        f'</script></head><body style="display: block"><main class="bd-content" style="display: block">'
        f'<article class="bd-article">{outputs}</article></main></body></html>',
        encoding="utf-8",
    )
    return folder


def _folder_of(package):
    return Path(find_spec(package).origin).parent


@pytest.fixture
def new_page(browser):
    """A maker of pages that fail the test when the console shows an error or a page asks for the network."""
    contexts, complaints = [], []

    def make(**options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: _local(request) or complaints.append(request.url))
        page.complaints = complaints
        return page

    yield make
    for context in contexts:
        context.close()
    assert not complaints


def _local(request):
    return request.url.startswith(("file:", "blob:", "data:", "about:"))


@pytest.fixture
def measured():
    """The curves of the second budget explorer."""
    return CURVES


@pytest.fixture
def page(new_page, folder):
    page = new_page(viewport={"width": 900, "height": 900})
    page.goto((folder / "page.html").as_uri())
    return page

"""The facts file and the bibliography: every fact has a source, every source exists."""

import dataclasses
import importlib.util
import json
import re
from datetime import date
from pathlib import Path

import pytest
from pybtex.database import parse_file

import dsmini
from dsmini.accounting import kv_cache_bytes

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = {"base", "dedicated", "hybrid", "math", "preview"}
CHAPTERS = range(16)
RELEASES = dsmini.facts()["releases"]
BENCHMARKS = dsmini.facts()["benchmarks"]
PRESETS = dsmini.facts()["presets"]


@pytest.fixture(scope="module")
def bibliography():
    return parse_file(ROOT / "book" / "references.bib").entries


def prose():
    """Every text of the book as (path, text): the Markdown pages and the notebooks' text cells."""
    for page in sorted((ROOT / "book").glob("*.md")):
        yield page.name, page.read_text(encoding="utf-8")
    for notebook in sorted((ROOT / "chapters").glob("*.ipynb")):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        yield (notebook.name, "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown"))


def cited(text):
    """The citation keys of a MyST text."""
    groups = re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text)
    return {key.strip() for group in groups for key in group.split(",")}


def described(row):
    return row.get("name") or ", ".join(value for value in row.values() if isinstance(value, str))


@pytest.mark.parametrize(
    "table",
    [
        "releases",
        "benchmarks",
        "families",
        "ablations",
        "hardware",
        "r1_stages",
        "distilled",
        "family_line",
        "v31_modes",
        "terminus_changes",
        "dsa_stages",
        "qwen3_stages",
    ],
)
def test_every_row_names_sources_that_exist(table, bibliography):
    for row in dsmini.facts()[table]:
        assert row["source"], f"{described(row)} has no source"
        assert set(row["source"]) <= set(bibliography), f"{described(row)}: {row['source']}"


def test_every_preset_names_sources_that_exist(bibliography):
    for name, preset in PRESETS.items():
        assert set(preset["sources"]) <= set(bibliography), name


def test_sources_have_the_addresses_of_the_bibliography(bibliography):
    facts = dsmini.facts()
    rows = [key for table in ("releases", "benchmarks", "families") for row in facts[table] for key in row["source"]]
    presets = [key for preset in PRESETS.values() for key in preset["sources"]]
    assert set(facts["sources"]) == {*rows, *presets}
    for key, source in facts["sources"].items():
        assert source["url"] == bibliography[key].fields["url"], key
    labels = [source["label"] for source in facts["sources"].values()]
    assert len(set(labels)) == len(labels)


def test_every_field_of_a_preset_has_a_source():
    for name, preset in PRESETS.items():
        named = {field for fields in preset["sources"].values() for field in fields}
        fields = set(preset["config"]) - {"model_type"}
        assert named - {"*"} <= fields, f"{name}: sources for absent fields {named - {'*'} - fields}"
        assert "*" in named or fields <= named, f"{name}: no source for {fields - named}"


def test_every_field_of_a_preset_is_a_config_field():
    known = {field.name for field in dataclasses.fields(dsmini.ModelConfig)} | {"model_type"}
    for name, preset in PRESETS.items():
        assert set(preset["config"]) <= known, name


def test_every_citation_of_the_book_exists(bibliography):
    for name, text in prose():
        assert cited(text) <= set(bibliography), f"{name}: {cited(text) - set(bibliography)}"


def test_every_entry_of_the_bibliography_says_who_what_when_and_where(bibliography):
    for key, entry in bibliography.items():
        assert entry.persons.get("author"), key
        assert {"title", "year", "url"} <= set(entry.fields), key
        assert entry.fields["url"].startswith("https://"), key
        assert 1990 <= int(entry.fields["year"]) <= 2026, key


def test_releases_are_dated_and_in_order():
    days = [date.fromisoformat(row["date"]) for row in RELEASES]
    assert days == sorted(days)
    assert days[0].year == 2024 and days[-1] > date(2025, 12, 1)


def test_release_rows_are_complete():
    for row in RELEASES:
        wanted = {
            "date",
            "name",
            "short",
            "total",
            "active",
            "context",
            "change",
            "kind",
            "family",
            "chapters",
            "source",
        }
        assert set(row) == wanted, row["name"]
        assert row["family"] in FAMILIES, row["name"]
        assert set(row["chapters"]) <= set(CHAPTERS), row["name"]
        assert re.fullmatch(r"[\d.]+[MBT]( / [\d.]+[MBT])?", row["total"]), row["name"]
        assert re.fullmatch(r"[\d.]+[MBT]( / [\d.]+[MBT])?", row["active"]), row["name"]
        assert row["change"].endswith("."), row["name"]
    assert len({row["name"] for row in RELEASES}) == len(RELEASES)
    assert len({row["short"] for row in RELEASES}) == len(RELEASES)


def test_every_chapter_from_the_second_on_belongs_to_a_release():
    # Chapter 0 is about all releases, chapter 1 about the attentions before them.
    assert {number for row in RELEASES for number in row["chapters"]} == set(CHAPTERS) - {0, 1}


def test_benchmark_rows_hold_plausible_numbers():
    for row in BENCHMARKS:
        assert set(row) <= {"model", "mode", "scores", "contests", "thousand_tokens", "source"}, described(row)
        assert row["scores"], described(row)
        for benchmark, score in row["scores"].items():
            low, high = (500, 4000) if benchmark == "Codeforces" else (0, 100)
            assert low < score < high, f"{described(row)}: {benchmark}"
        assert set(row.get("thousand_tokens", {})) <= set(row["scores"]), described(row)


def test_no_score_is_reported_twice_with_different_values():
    seen = {}
    for row in BENCHMARKS:
        for benchmark, score in row["scores"].items():
            place = (row["model"], row["mode"], benchmark)
            assert seen.setdefault(place, score) == score, place


def test_numbers_on_the_cover_are_computed():
    cover = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    v3 = dsmini.PRESETS["deepseek-v3"]
    latent = kv_cache_bytes(v3, 1)
    plain = kv_cache_bytes(v3.with_attention("mha"), 1)
    assert f"{latent:,} bytes" in cover
    assert f"{plain:,}" in cover
    assert round(plain / latent) == 57 and "fifty-seven times" in cover


def test_notation_table_holds_the_values_of_v3():
    page = (ROOT / "book" / "notation.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|[^|]*\|[^|]*\| `([a-z_.]+)` \| ([\d,.]+) \|$", page, flags=re.MULTILINE)
    assert len(rows) >= 20
    v3 = PRESETS["deepseek-v3"]["config"] | PRESETS["deepseek-v3.2"]["config"]
    flat = v3 | {f"rope_scaling.{name}": value for name, value in v3["rope_scaling"].items()}
    for field, shown in rows:
        assert float(shown.replace(",", "")) == flat[field], field


def test_chapter_maps_of_cover_and_readme_follow_the_contents():
    files = re.findall(r"file: (chapters/(\d\d)_\w+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
    ready = {int(number) for _, number in files}
    cover = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    here, coming = cover.split("In this edition:")[1].split("Coming:")
    assert {int(n) for n in re.findall(r"^\| (\d+) \|", here, flags=re.MULTILINE)} == ready
    assert {int(n) for n in re.findall(r"^\| (\d+) \|", coming, flags=re.MULTILINE)} == set(CHAPTERS) - ready
    assert all(f"](../{file}.ipynb)" in here for file, _ in files)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    states = {int(n): state for n, state in re.findall(r"\| (\d+) \| [^|]+ \| (here|coming) (?=\|)", readme)}
    assert states == {number: "here" if number in ready else "coming" for number in CHAPTERS}


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_picture_of_the_book_is_what_its_script_draws(mode):
    spec = importlib.util.spec_from_file_location("line", ROOT / "book" / "_tools" / "line.py")
    line = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(line)
    committed = (ROOT / "book" / "_assets" / f"line-{mode}.svg").read_text(encoding="utf-8")
    assert committed == line.picture(mode)


def test_stages_of_sparse_attention_have_the_reports_tokens():
    tokens = {row["name"]: row["steps"] * row["sequences"] * row["tokens"] for row in dsmini.facts()["dsa_stages"]}
    assert {name: round(count / 1e9, 1) for name, count in tokens.items()} == {"warm-up": 2.1, "sparse": 943.7}

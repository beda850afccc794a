"""Export the chapters' figures for slides, from the outputs that the notebooks store. Nothing is run.

    python book/_tools/figures.py [--to _build/figures] [chapters/02_mla.ipynb ...]

Every figure becomes a slide of 1920 x 1080 pixels on white, named after its chapter and section. `index.html` beside
them shows all, each with its description (the figure's alt text) and the line that the licence asks for; both are also
in the picture's own metadata. Stored figures are about 800 pixels wide: a slide shows them enlarged, not sharper.
"""

import argparse
import base64
import html
import io
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
from PIL import Image
from PIL.PngImagePlugin import PngInfo

ROOT = Path(__file__).parents[2]
SLIDE, MARGIN = (1920, 1080), 60
LICENCE = "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/"
CREDIT = "DeepSeek, rebuilt; {chapter}, {section}. CC BY 4.0"
HEADING = re.compile(r"^(#+) +(.+)$", re.MULTILINE)
FENCE = re.compile(r"^(`{3,}|:{3,}).*?^\1", re.MULTILINE | re.DOTALL)

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Figures of DeepSeek, rebuilt</title>
<style>
  body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; }}
  img {{ width: 100%; border: 1px solid #b3bfcc; }}
  figure {{ margin: 1.5rem 0 3rem; }}
  code {{ user-select: all; }}
</style>
<h1>Figures of <em>DeepSeek, rebuilt</em></h1>
<p>Text and figures: {licence}. The line below a figure is the credit to put on the slide.</p>
{body}
</html>
"""
ENTRY = """<figure id="{name}">
<a href="{name}.png"><img src="{name}.png" alt="{alt}" loading="lazy"></a>
<figcaption><p>{alt}</p><p><code>{credit}</code><br>{name}.png, from {file}</p></figcaption>
</figure>"""


@dataclass(frozen=True)
class Figure:
    """A stored picture and what is known about it. name: of the file, without its ending."""

    name: str
    file: str
    chapter: str
    section: str
    alt: str
    png: bytes

    @property
    def credit(self):
        return CREDIT.format(chapter=f"chapter {self.chapter}", section=f'"{self.section}"')


def figures(path):
    """The figures of one notebook, in order."""
    notebook, number = nbformat.read(path, as_version=4), Path(path).name.split("_")[0]
    chapter = section = Path(path).stem
    found, counts = [], {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for marks, title in HEADING.findall(FENCE.sub("", cell.source)):
                section = re.sub(r"[`*$]", "", title).strip()
                chapter = section if marks == "#" else chapter
            continue
        for output in cell.get("outputs", []):
            if "image/png" not in output.get("data", {}):
                continue
            slug = f"{number}-{re.sub(r'[^a-z0-9]+', '-', section.lower()).strip('-')}"
            counts[slug] = counts.get(slug, 0) + 1
            name = slug if counts[slug] == 1 else f"{slug}-{counts[slug]}"
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            png = base64.b64decode(output.data["image/png"])
            found.append(Figure(name, Path(path).name, chapter, section, alt, png))
    return found


def slide(figure):
    """The picture of a slide: as large as the margins allow, centred on white."""
    picture = Image.open(io.BytesIO(figure.png)).convert("RGB")
    scale = min((full - 2 * MARGIN) / own for full, own in zip(SLIDE, picture.size, strict=True))
    picture = picture.resize([round(scale * own) for own in picture.size], Image.Resampling.LANCZOS)
    card = Image.new("RGB", SLIDE, "white")
    card.paste(picture, tuple((full - own) // 2 for full, own in zip(SLIDE, picture.size, strict=True)))
    return card


def export(paths, folder):
    """Write the slides and their index; returns the figures."""
    found = [figure for path in paths for figure in figures(path)]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    for figure in found:
        about = PngInfo()
        for key, text in {"Description": figure.alt, "Source": figure.credit, "Copyright": LICENCE}.items():
            about.add_itxt(key, text)
        slide(figure).quantize(256, dither=Image.Dither.NONE).save(folder / f"{figure.name}.png", pnginfo=about)
    (folder / "index.html").write_text(index(found), encoding="utf-8")
    return found


def index(found):
    """The page that shows all figures with their descriptions and credits."""
    parts, chapter = [], None
    for figure in found:
        if figure.chapter != chapter:
            chapter = figure.chapter
            parts.append(f"<h2>{html.escape(chapter)}</h2>")
        texts = {key: html.escape(getattr(figure, key)) for key in ("name", "alt", "credit", "file")}
        parts.append(ENTRY.format(**texts))
    return PAGE.format(licence=LICENCE, body="\n".join(parts))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, default=ROOT / "_build" / "figures", help="folder to write to")
    parser.add_argument("paths", nargs="*", type=Path, help="notebooks (default: all chapters)")
    arguments = parser.parse_args(argv)
    found = export(arguments.paths or sorted((ROOT / "chapters").glob("*.ipynb")), arguments.to)
    print(f"{len(found)} figures and their index: {arguments.to / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

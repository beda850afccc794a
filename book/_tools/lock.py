"""Resolve pyproject.toml into the requirements files of the book, its tests and a classroom (needs uv: `make lock`).

The lock holds for every platform and for the oldest supported Python. PyTorch brings its own CUDA packages on Linux;
they are left out, so that a reader with the CPU build of PyTorch does not download them.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
OLDEST_PYTHON = "3.11.0"
CUDA = re.compile(r"nvidia|cuda|triton")


def resolve(*extras):
    command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--quiet", "--universal"]
    command += ["--python-version", OLDEST_PYTHON, "--no-header", "--no-annotate"]
    for extra in extras:
        command += ["--extra", extra]
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [line for line in lines if not CUDA.match(line)]


def package(line):
    return line.partition("==")[0]


def main():
    book = resolve("book")
    names = {package(line) for line in book}
    files = {"requirements.txt": book}
    for name, extras in {"test": ("test", "parity"), "classroom": ("classroom",)}.items():
        more = [line for line in resolve("book", *extras) if package(line) not in names]
        files[f"requirements-{name}.txt"] = ["-r requirements.txt", *more]
    for name, lines in files.items():
        (ROOT / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{name}: {len(lines)} lines")


if __name__ == "__main__":
    main()

"""The wheel holds what the package needs at run time, and works without the repository around it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMOKE = """
import pathlib
import dsmini
from dsmini.widgets.bundle import bundle
assert pathlib.Path(dsmini.__file__).is_relative_to(pathlib.Path.cwd()), dsmini.__file__
assert dsmini.facts() and dsmini.PRESETS["deepseek-v3"].kv_lora_rank == 512
assert "customElements.define" in bundle()
assert dsmini.accounting.kv_cache_bytes(dsmini.PRESETS["deepseek-v3"], 1) == 70272
from dsmini.zoo.__main__ import main
assert main(["check"]) == 0
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that neither old build folders nor new ones get in the way."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("dsmini", "book", "chapters", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", target, source]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = target.glob("*.whl")
    return zipfile.ZipFile(path)


def test_wheel_holds_the_package_with_its_data_and_nothing_else(wheel):
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "dsmini").rglob("*")
        if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in path.parts)
    }
    assert held == wanted
    assert {"dsmini/facts.toml", "dsmini/widgets/page.js", "dsmini/widgets/widgets.css"} <= held
    assert any(name.endswith(".safetensors") for name in held)


def test_wheel_works_on_its_own(wheel, tmp_path):
    wheel.extractall(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", SMOKE]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr

"""The package's front door: lazy names, the edition check, the facts file."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import dsmini

# Any attempt to import these fails, as on a machine that does not have them.
WITHOUT_TORCH = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "matplotlib", "safetensors"):
            raise ImportError(f"{name} was imported")

sys.meta_path.insert(0, Absent())
"""


def run_without_torch(code):
    return subprocess.run([sys.executable, "-c", WITHOUT_TORCH + code], capture_output=True, text=True)


@pytest.mark.parametrize("module", ["dsmini", "dsmini.accounting", "dsmini.config", "dsmini.widgets"])
def test_light_modules_import_without_torch(module):
    result = run_without_torch(f"import {module}")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("widget", ["timeline", "kv_calculator", "absorption"])
def test_widgets_are_made_without_torch(widget):
    result = run_without_torch(f"import dsmini; dsmini.widgets.{widget}()")
    assert result.returncode == 0, result.stderr


def test_models_do_need_torch():
    assert "torch was imported" in run_without_torch("import dsmini; dsmini.Transformer").stderr


def test_arithmetic_and_facts_work_without_torch():
    result = run_without_torch(
        "import dsmini; dsmini.edition('0.1'); dsmini.facts()\n"
        "print(dsmini.accounting.kv_cache_bytes(dsmini.PRESETS['deepseek-v3'], tokens=1))"
    )
    assert result.stdout == "70272\n", result.stderr


def test_every_public_name_resolves():
    for name in dsmini.__all__:
        assert getattr(dsmini, name) is not None
        assert name in dir(dsmini)
    from dsmini import ModelConfig, Transformer  # as readers write it

    assert Transformer.__module__ == "dsmini.model.transformer"
    assert isinstance(dsmini.PRESETS["deepseek-v3"], ModelConfig)


def test_unknown_name_is_named():
    with pytest.raises(AttributeError, match="'dsmini' has no attribute 'Magic'"):
        dsmini.Magic  # noqa: B018


def test_edition_accepts_its_own_and_says_nothing():
    major, minor, _ = dsmini.__version__.split(".")
    assert dsmini.edition(f"{major}.{minor}") is None


@pytest.mark.parametrize("other", ["0.0", "0.10", "1.0", "0.1.0", ""])
def test_edition_refuses_another_and_says_what_to_do(other):
    with pytest.raises(RuntimeError, match=rf"edition {other} .*dsmini {dsmini.__version__} .*pip install"):
        dsmini.edition(other)


def test_version_is_the_projects():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert dsmini.__version__ == project["version"]


def test_facts_are_read_once():
    assert dsmini.facts() is dsmini.facts()
    assert {"presets", "releases", "benchmarks"} <= set(dsmini.facts())

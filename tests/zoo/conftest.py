"""A zoo of two tiny recipes in a folder of its own: `tiny`, with experts and MTP, and `child`, which starts from it."""

import importlib
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dsmini.zoo import make, recipe, store

TINY = '''
"""A recipe of two stages: one on a function, one on a text."""
import torch
from dsmini.config import ModelConfig
from dsmini.training import pretrain
from dsmini.zoo.recipe import Recipe

CONFIG = ModelConfig(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, vocab_size=29, intermediate_size=24, q_lora_rank=8,
    kv_lora_rank=8, qk_nope_head_dim=4, qk_rope_head_dim=4, v_head_dim=8, n_routed_experts=4, num_experts_per_tok=2,
    moe_intermediate_size=8, n_shared_experts=1, first_k_dense_replace=1, num_nextn_predict_layers=1,
)
SETTINGS = pretrain.TrainingSettings(steps=7, batch_size=2, context=8, warmup_steps=2, bias_speed=0.01)
TEXT = torch.arange(200) ** 2 % 29

def windows(step):
    return (torch.arange(18).view(2, 9) + step) % 29

def build(run):
    model = run.new_model()
    run.train("counting", model, windows, SETTINGS)
    run.train("squares", model, TEXT, SETTINGS)  # a second stage
    return model

def evaluate(model):
    """Half of the truth."""
    loss = pretrain.evaluate(model, TEXT, context=8, batches=1)
    rounded = all(torch.equal(p, p.bfloat16().float()) for p in model.parameters())
    return {"loss": loss, "rounded": rounded, "training": model.training, "modules": len(model.mtp)}

RECIPE = Recipe("tiny", build, evaluate, config=CONFIG, seed=3)
'''
CHILD = '''
from dsmini.training import pretrain
from dsmini.zoo.recipe import Recipe

def build(run):
    model = run.load("tiny")

    def trainer(snapshot, progress, on_step):
        losses = []
        for step in range(6):
            losses.append(model.lm_head.weight.abs().mean().item() + step)
            on_step(step, losses[-1])
        model.lm_head.weight.data.mul_(2)
        return losses

    run.stage("doubling", trainer)
    return model

def evaluate(model):
    return {"modules": len(model.mtp)}

RECIPE = Recipe("child", build, evaluate, parents=("tiny",))
'''
# What a second process does first: the same zoo.
PRELUDE = """
import sys
from pathlib import Path
sys.path.insert(0, {recipes!r})
from dsmini import zoo
from dsmini.zoo import make, recipe, run, store
recipe.RECIPES = {names!r}
store.SHIPPED = Path({shipped!r})
run.SNAPSHOT_EVERY = 2
"""
_numbers = itertools.count()


def use(folder, monkeypatch):
    """Point the package to a zoo in `folder`; returns its parts."""
    recipes, shipped, home = folder / "recipes", folder / "shipped", folder / "home"
    for new in (recipes, shipped, home):
        new.mkdir(parents=True, exist_ok=True)
    zoo = SimpleNamespace(shipped=shipped, cache=home / "zoo")
    environment, names = os.environ | {"DSMINI_HOME": str(home)}, {}

    def define(name, source):
        """Write a recipe as a new module, and let the name mean it."""
        module = f"zoo_recipe_{next(_numbers)}"
        (recipes / f"{module}.py").write_text(source, encoding="utf-8")
        importlib.invalidate_caches()
        names[name] = module
        return recipe.find(name)

    monkeypatch.setattr(sys, "path", [str(recipes), *sys.path])
    monkeypatch.setattr(recipe, "RECIPES", names)
    monkeypatch.setattr(store, "SHIPPED", shipped)
    monkeypatch.setenv("DSMINI_HOME", str(home))
    zoo.define, zoo.tiny, zoo.child = define, define("tiny", TINY), define("child", CHILD)

    def start(code):
        """Run code in another process with the same zoo; a `subprocess.Popen` with its output as text."""
        code = PRELUDE.format(recipes=str(recipes), names=names, shipped=str(shipped)) + code
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes)

    zoo.source, zoo.module, zoo.start = TINY, sys.modules[zoo.tiny.build.__module__], start
    return zoo


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The files of `tiny`, made once."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        zoo = use(tmp_path_factory.mktemp("zoo"), monkeypatch)
        make.build(zoo.tiny, progress=False)
    return zoo.shipped


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """The zoo before anything was made."""
    return use(tmp_path, monkeypatch)


@pytest.fixture
def filled(empty, built):
    """The zoo with `tiny` shipped."""
    for path in Path(built).iterdir():
        shutil.copy(path, empty.shipped)
    return empty


@pytest.fixture(scope="module")
def shipped(request):
    """(model, record) of the recipe that the test's module calls NAME, from the package and from nowhere else: nothing
    is trained here."""
    data, record = store.read(store.SHIPPED, recipe.find(request.module.NAME))
    return store.decode(data), record

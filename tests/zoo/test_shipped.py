"""What the package ships is what its recipes make: hash, digest, size, and the first steps of every stage."""

import functools
import json

import pytest

from dsmini import zoo
from dsmini.zoo import make, store
from dsmini.zoo.recipe import RECIPES, find


def shipped(name):
    """(bytes, record) of a shipped result."""
    try:
        return store.read(store.SHIPPED, find(name))
    except store.Unfit as fault:
        pytest.fail(f"{fault}; train it again with `make zoo` (python -m dsmini.zoo build {name})")


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_has_its_name_and_parents_before_it(name):
    recipe, before = find(name), zoo.names()[: zoo.names().index(name)]
    assert recipe.name == name and set(recipe.parents) <= set(before)
    assert recipe.build.__module__ == recipe.evaluate.__module__ == RECIPES[name]  # all of it is hashed


@pytest.mark.parametrize("name", RECIPES)
def test_file_was_made_by_the_recipe_and_is_whole(name):
    data, record = shipped(name)
    assert record["recipe"] == find(name).hash() and record["seed"] == find(name).seed
    assert record["parents"] == {parent: shipped(parent)[1]["sha256"] for parent in find(name).parents}
    about = json.loads(store.header(data)["__metadata__"]["dsmini"])
    assert about == {"name": name, "recipe": record["recipe"], "config": record["config"]}


@pytest.mark.parametrize("name", RECIPES)
def test_file_is_small(name):
    assert len(shipped(name)[0]) == (store.SHIPPED / f"{name}.safetensors").stat().st_size <= 2_000_000


@functools.cache
def rehearsed(name):
    """The `Run` of a rehearsal, made once for all tests."""
    return make.rehearsed(find(name))


@pytest.mark.parametrize("name", RECIPES)
def test_first_steps_of_every_stage_repeat(name):
    """If this fails and the recipe did not change, library code has changed what training does."""
    recorded = shipped(name)[1]["first_losses"]
    losses = rehearsed(name).first_losses
    assert make.repeats(losses, recorded), f"now {losses}, recorded {recorded}"


@pytest.mark.parametrize("name", RECIPES)
def test_record_is_complete(name):
    record = shipped(name)[1]
    assert record["metrics"] and record["cpu_seconds"] > 0
    assert [stage["name"] for stage in record["stages"]] == list(record["first_losses"])
    for stage in record["stages"]:
        assert ("losses" in stage) != ("curves" in stage)
        for curve in stage.get("curves", {"loss": stage.get("losses")}).values():
            assert len(curve) == -(-stage["steps"] // stage["every"])  # every n-th, from the first one on
        assert len(record["first_losses"][stage["name"]]) == min(5, stage["steps"])
    first = record["stages"][0]
    if rehearsed(name).alike != first["name"]:
        return  # this recipe has asked whether it is rehearsed: its first stage may begin otherwise
    curve = first["curves"]["entropy"] if "curves" in first else first["losses"]
    begun = record["first_losses"][first["name"]]
    assert first["every"] > 1 or curve[: len(begun)] == [round(value, 4) for value in begun]


def test_nothing_else_is_shipped():
    assert {path.name for path in store.SHIPPED.iterdir()} == {
        f"{name}.{kind}" for name in RECIPES for kind in ("json", "safetensors")
    }

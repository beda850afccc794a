"""Stored results: small, exact, the same bytes every time, and trusted only if they are whole."""

import hashlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tiny import CONFIGS, difference, make_model, make_tokens

from dsmini.model.transformer import Transformer
from dsmini.zoo import store

RECORD = {"name": "tiny", "metrics": {"loss": 0.1, "list": [1, 2.5]}}


def stored(zoo, folder=None, model=None):
    """`tiny` in a folder, untrained: (folder, the bytes)."""
    folder = folder or zoo.shipped
    data = store.encode(model or Transformer(zoo.tiny.config), zoo.tiny)
    store.write(folder, "tiny", data, RECORD | {"recipe": zoo.tiny.hash()})
    return folder, data


# ---- weights as bytes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mqa", "mla, YaRN", "mla, softmax experts", "mla, experts, MTP"])
@pytest.mark.parametrize("tied", [False, True])
def test_weights_come_back_rounded_to_bfloat16(empty, name, tied):
    model = make_model(CONFIGS[name].replace(tie_word_embeddings=tied), dtype=torch.float32)
    again = store.decode(store.encode(model, empty.tiny))
    assert again.config == model.config and not again.training
    wanted = model.state_dict()
    assert again.state_dict().keys() == wanted.keys()
    for key, tensor in again.state_dict().items():
        bias = key.endswith("e_score_correction_bias")
        rounded = wanted[key] if bias else wanted[key].bfloat16().float()
        assert torch.equal(tensor, rounded) and tensor.dtype == torch.float32, key
        assert bias or not torch.equal(tensor, wanted[key]) or tensor.dim() == 1
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == tied
    assert all(parameter.requires_grad for parameter in again.parameters())
    tokens = make_tokens(model.config, 2, 9)
    assert 0 < difference(again(tokens), model(tokens)) < 0.5


def test_tied_head_is_stored_once(empty):
    config = CONFIGS["mla"]
    sizes = [len(store.encode(Transformer(config.replace(tie_word_embeddings=tied)), empty.tiny)) for tied in (0, 1)]
    assert sizes[0] - sizes[1] > 2 * config.vocab_size * config.hidden_size


def test_rounding_twice_is_rounding_once(empty):
    data = store.encode(make_model(CONFIGS["mla, experts, MTP"]), empty.tiny)
    assert store.encode(store.decode(data), empty.tiny) == data


def test_another_process_finds_the_same_hash_and_the_same_bytes(empty):
    code = """
import hashlib, torch
from dsmini.model.transformer import Transformer
torch.manual_seed(0)
data = store.encode(Transformer(recipe.find("tiny").config), recipe.find("tiny"))
print(recipe.find("child").hash(), hashlib.sha256(data).hexdigest())
"""
    torch.manual_seed(0)
    data = store.encode(Transformer(empty.tiny.config), empty.tiny)
    with empty.start(code) as process:
        assert process.communicate()[0] == f"{empty.child.hash()} {hashlib.sha256(data).hexdigest()}\n"


def test_default_precision_of_the_caller_does_not_matter(empty):
    data = store.encode(Transformer(empty.tiny.config), empty.tiny)
    torch.set_default_dtype(torch.float64)
    try:
        assert {tensor.dtype for tensor in store.decode(data).state_dict().values()} == {torch.float32}
    finally:
        torch.set_default_dtype(torch.float32)


def test_file_says_what_it_is(empty):
    folder, _ = stored(empty)
    with safe_open(folder / "tiny.safetensors", framework="pt") as file:
        about = json.loads(file.metadata()["dsmini"])
    assert about["name"] == "tiny" and about["recipe"] == empty.tiny.hash()
    assert about["config"]["hidden_size"] == 16
    weights = load_file(folder / "tiny.safetensors")
    kinds = {key.endswith("e_score_correction_bias"): tensor.dtype for key, tensor in weights.items()}
    assert kinds == {False: torch.bfloat16, True: torch.float32}


def test_nothing_is_pickled(empty, no_pickle):
    folder, data = stored(empty)
    assert store.read(folder, empty.tiny)[0] == data
    store.decode(data)


def test_limit_is_the_last_size_that_passes(empty, monkeypatch):
    model = Transformer(empty.tiny.config)
    size = len(store.encode(model, empty.tiny))
    assert store.LIMIT == 2_000_000
    monkeypatch.setattr(store, "LIMIT", size)
    store.encode(model, empty.tiny)
    monkeypatch.setattr(store, "LIMIT", size - 1)
    with pytest.raises(ValueError, match=rf"tiny takes {size:,} bytes in bfloat16: expected at most {size - 1:,}"):
        store.encode(model, empty.tiny)


# ---- files ----------------------------------------------------------------------------------------------------------


def test_record_comes_back_with_size_and_digest(empty):
    folder, data = stored(empty)
    again, record = store.read(folder, empty.tiny)
    assert again == data and record["bytes"] == len(data)
    assert record["sha256"] == hashlib.sha256((folder / "tiny.safetensors").read_bytes()).hexdigest()
    assert {key: record[key] for key in RECORD} == RECORD
    assert sorted(path.name for path in folder.iterdir()) == ["tiny.json", "tiny.safetensors"]


def test_record_is_a_few_lines_of_json(empty):
    folder, _ = stored(empty)
    lines = (folder / "tiny.json").read_text().splitlines()
    assert lines[2] == ' "metrics": {"loss": 0.1, "list": [1, 2.5]},' and len(lines) == 8


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


DAMAGE = {
    "weights missing": (lambda f: (f / "tiny.safetensors").unlink(), "tiny.safetensors is missing"),
    "record missing": (lambda f: (f / "tiny.json").unlink(), "tiny.json is missing"),
    "both missing": (lambda f: [path.unlink() for path in f.iterdir()], "tiny.json is missing"),
    "weights cut": (
        lambda f: (f / "tiny.safetensors").write_bytes((f / "tiny.safetensors").read_bytes()[:-7]),
        r"tiny.safetensors is damaged: it has [\d,]+ bytes and should have [\d,]+",
    ),
    "weights empty": (lambda f: (f / "tiny.safetensors").write_bytes(b""), "is damaged: it has 0 bytes"),
    "one bit of a weight": (lambda f: flip(f / "tiny.safetensors", -1), "damaged: its SHA-256 is not the recorded one"),
    "one bit of the header": (lambda f: flip(f / "tiny.safetensors", 20), "damaged: its SHA-256 is not the recorded"),
    "record cut": (lambda f: (f / "tiny.json").write_text((f / "tiny.json").read_text()[:-3]), "tiny.json is damaged"),
    "record empty": (lambda f: (f / "tiny.json").write_text(""), "tiny.json is damaged"),
    "record of another kind": (lambda f: (f / "tiny.json").write_text("[]"), "tiny.json is damaged"),
    "record without a checksum": (lambda f: (f / "tiny.json").write_text("{}"), "tiny.json is damaged"),
    "record not text": (lambda f: (f / "tiny.json").write_bytes(b"\xff\xfe{}"), "tiny.json is damaged"),
    "a better metric": (
        lambda f: (f / "tiny.json").write_text((f / "tiny.json").read_text().replace('"loss": 0.1', '"loss": 0.01')),
        "tiny.json is damaged",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_noticed_and_named(empty, damage):
    folder, _ = stored(empty)
    store.read(folder, empty.tiny)
    harm, message = DAMAGE[damage]
    harm(folder)
    with pytest.raises(store.Unfit, match=message):
        store.read(folder, empty.tiny)


def test_result_of_another_recipe_is_unfit(empty):
    folder, _ = stored(empty)
    changed = empty.define("tiny", empty.source.replace("seed=3", "seed=4"))
    with pytest.raises(store.Unfit, match="tiny.safetensors was made by another recipe than the package holds now"):
        store.read(folder, changed)


@pytest.mark.parametrize("metrics", [{"x": float("nan")}, {"x": object()}, {"x": torch.ones(1)}], ids=["nan", "?", "t"])
def test_metrics_that_are_no_json_leave_the_old_result(empty, metrics):
    folder, data = stored(empty)
    with pytest.raises((ValueError, TypeError)):
        store.write(folder, "tiny", b"new", RECORD | {"metrics": metrics})
    assert store.read(folder, empty.tiny)[0] == data and len(list(folder.iterdir())) == 2


# ---- the cache folder -----------------------------------------------------------------------------------------------


def test_cache_folder_follows_the_system(monkeypatch):
    for name in ("DSMINI_HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/reader"))
    expected = {"linux": ".cache", "darwin": "Library/Caches", "win32": "AppData/Local"}
    for platform, below in expected.items():
        monkeypatch.setattr(sys, "platform", platform)
        assert store.cache_folder() == Path("/home/reader") / below / "dsmini" / "zoo"
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert store.cache_folder() == Path("/local/dsmini/zoo")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert store.cache_folder() == Path("/caches/dsmini/zoo")
    monkeypatch.setenv("DSMINI_HOME", "~/mine")
    monkeypatch.setenv("HOME", "/home/reader")
    assert store.cache_folder() == Path("/home/reader/mine/zoo")
    monkeypatch.setenv("DSMINI_HOME", "")
    assert store.cache_folder() == Path("/caches/dsmini/zoo")


def test_cache_folder_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("DSMINI_HOME", str(tmp_path / "file"))
    message = r"base.lock cannot be written \(.*\); set DSMINI_HOME to a folder that can"
    with pytest.raises(OSError, match=message), store.lock("base", print):
        pass


# ---- the lock -------------------------------------------------------------------------------------------------------


def test_lock_lets_one_in_at_a_time_and_tells_who_waits(empty):
    inside, most, told = 0, 0, []

    def work(name):
        nonlocal inside, most
        with store.lock(name, lambda: told.append(name)):
            inside += 1
            most = max(most, inside)
            threading.Event().wait(0.15)
            inside -= 1

    threads = [threading.Thread(target=work, args=("tiny",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and told == ["tiny", "tiny"]


def test_locks_of_different_names_do_not_wait(empty):
    with store.lock("tiny", pytest.fail), store.lock("child", pytest.fail):
        pass
    with pytest.raises(KeyboardInterrupt), store.lock("tiny", pytest.fail):
        raise KeyboardInterrupt
    with store.lock("tiny", pytest.fail):  # given back on the way out, whatever the way
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_lock_of_a_killed_process_is_free_at_once(empty):
    held, holds = os.pipe()
    process = os.fork()
    if process == 0:
        with store.lock("tiny", print):
            os.write(holds, b"!")
            time.sleep(60)
        os._exit(0)
    os.read(held, 1)
    with open(empty.cache / "tiny.lock", "r+b") as file:
        assert not store._try_lock(file)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        assert store._try_lock(file)


def test_file_system_without_locks_is_no_obstacle(empty, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(38, "function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with store.lock("tiny", pytest.fail), store.lock("tiny", pytest.fail):
        pass

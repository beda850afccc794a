"""A recipe becomes a file; a lost file comes back; who was killed goes on; two at once do not clash."""

import json
import os
import re
import signal

import pytest
import torch

from dsmini import zoo
from dsmini.model.transformer import Transformer
from dsmini.training import pretrain
from dsmini.zoo import make, run, store
from dsmini.zoo.__main__ import main
from dsmini.zoo.run import Log


def content(folder, name="tiny"):
    """What a result says, without what it cost."""
    record = json.loads((folder / f"{name}.json").read_text())
    said = {key: value for key, value in record.items() if key not in ("cpu_seconds", "checksum")}
    return (folder / f"{name}.safetensors").read_bytes(), said


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def train_by_hand(zoo):
    """(the model, the losses of both stages) of `tiny`, in full precision."""
    torch.manual_seed(3)
    model, module = Transformer(zoo.tiny.config), zoo.module
    data = (module.windows, module.TEXT)
    return model, [pretrain.train(model, each, module.SETTINGS, seed=3, progress=False) for each in data]


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(make, "make", lambda *_: pytest.fail("it was trained"))


# ---- build ----------------------------------------------------------------------------------------------------------


def test_build_ships_two_files_and_leaves_nothing_behind(filled):
    before = content(filled.shipped)
    (filled.shipped / ".tiny.json.0123abcd.tmp").write_text("of a process that was killed")
    record = zoo.build("tiny")
    assert content(filled.shipped) == before  # the same again, to the bit
    assert record == zoo.record("tiny") and record["cpu_seconds"] > 0
    assert files(filled.shipped) == ["tiny.json", "tiny.safetensors"]
    assert files(filled.cache) == ["tiny.lock", "unfinished"] and files(filled.cache / "unfinished") == []


def test_record_tells_how_the_model_was_made(filled):
    record = zoo.record("tiny")
    assert record["recipe"] == filled.tiny.hash() and record["seed"] == 3 and record["parents"] == {}
    assert record["config"]["n_routed_experts"] == 4
    assert record["versions"].keys() == {"dsmini", "python", "torch"}
    _, losses = train_by_hand(filled)
    for stage, name, exact in zip(record["stages"], ("counting", "squares"), losses, strict=True):
        assert (stage["name"], stage["steps"], stage["every"]) == (name, 7, 1)
        assert stage["losses"] == [round(loss, 4) for loss in exact]


def test_loads_are_the_shares_of_every_expert(filled):
    curves = [stage["loads"] for stage in zoo.record("tiny")["stages"]]
    for loads in curves:
        assert loads.keys() == {"every", "model.layers.1.mlp.gate", "mtp.0.block.mlp.gate"} and loads["every"] == 1
        for name in loads.keys() - {"every"}:
            assert len(loads[name]) == 7 and all(sum(shares) == pytest.approx(1, abs=1e-3) for shares in loads[name])
    torch.manual_seed(3)
    model = Transformer(filled.tiny.config)
    with torch.no_grad(), pretrain.watch_routing(model) as routes:
        model(filled.module.windows(0)[:, :-1])
    chosen = routes["model.layers.1.mlp.gate"].experts
    assert curves[0]["model.layers.1.mlp.gate"][0] == [round((chosen == e).sum().item() / 32, 4) for e in range(4)]


def test_metrics_are_measured_after_rounding(filled):
    metrics = zoo.metrics("tiny")
    assert metrics == filled.tiny.evaluate(zoo.load("tiny"))  # to the last digit
    assert metrics["rounded"] and not metrics["training"] and metrics["modules"] == 1
    model, _ = train_by_hand(filled)
    exact = filled.tiny.evaluate(model)
    assert not exact["rounded"] and exact["loss"] != metrics["loss"]
    for name, weight in zoo.load("tiny").named_parameters():
        assert torch.equal(weight, model.get_parameter(name).bfloat16().float())


def test_child_starts_from_its_parent_without_mtp(filled):
    record = zoo.build("child")
    assert record["parents"] == {"tiny": zoo.record("tiny")["sha256"]}
    assert record["metrics"] == {"modules": 0} and record["config"]["hidden_size"] == 16
    assert record["stages"][0]["loads"] == {} and len(record["stages"][0]["losses"]) == 6
    child, parent = zoo.load("child"), zoo.load("tiny")
    assert torch.equal(child.lm_head.weight, 2 * parent.lm_head.weight)
    assert child.state_dict().keys() == parent.without_mtp().state_dict().keys()


def test_build_does_not_mind_the_callers_settings(filled):
    before, threads = content(filled.shipped), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(2)
    random = torch.manual_seed(99).get_state()
    try:
        with torch.inference_mode():
            zoo.build("tiny")
        assert torch.get_default_dtype() == torch.float64 and torch.get_num_threads() == 2
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(threads)
    assert content(filled.shipped) == before
    assert torch.equal(torch.get_rng_state(), random)


def test_model_above_the_limit_is_refused_before_it_is_trained(filled, monkeypatch):
    monkeypatch.setattr(store, "LIMIT", 5000)
    monkeypatch.setattr(pretrain, "train", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(ValueError, match=r"tiny takes [\d,]+ bytes in bfloat16: expected at most 5,000"):
        zoo.build("tiny")
    assert "unfinished" not in files(filled.cache)


def test_metrics_that_fail_cost_no_training(filled, monkeypatch):
    broken = "def evaluate(model):\n    raise ArithmeticError\n\ndef unused(model):"
    recipe = filled.define("tiny", filled.source.replace("def evaluate(model):", broken))
    for _ in range(2):
        with pytest.raises(ArithmeticError):
            make.build(recipe)
        monkeypatch.setattr(Log, "add", lambda *_: pytest.fail("trained again"))


# ---- load -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_training")
def test_load_gives_a_fresh_model_each_time(filled):
    first, second = zoo.load("tiny"), zoo.load("tiny")
    assert not first.training and {p.dtype for p in first.parameters()} == {torch.float32}
    torch.nn.init.zeros_(first.lm_head.weight)
    assert second.lm_head.weight.abs().max() > 0 and zoo.load("tiny").lm_head.weight.abs().max() > 0
    assert not filled.cache.exists()  # nothing was written


def damaged_by(change):
    def damage(folder):
        path = folder / "tiny.safetensors"
        path.write_bytes(change(path.read_bytes()))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "tiny.safetensors").unlink(), "tiny.safetensors is missing; tiny is trained again"),
        (damaged_by(lambda data: data[:999]), "is damaged: it has 999 bytes and should have .*; tiny is trained again"),
        (damaged_by(lambda data: data[:-2] + b"!!"), "its SHA-256 is not the recorded one; tiny is trained again"),
    ],
    ids=["missing", "truncated", "tampered"],
)
def test_result_that_is_unfit_is_made_again_in_the_cache(filled, capsys, monkeypatch, damage, message):
    whole = content(filled.shipped)
    damage(filled.shipped)
    left = {path: path.read_bytes() for path in filled.shipped.iterdir()}
    model = zoo.load("tiny")
    said = capsys.readouterr().err
    assert said.startswith("dsmini.zoo: ") and str(filled.cache) in said.splitlines()[0]
    assert re.search(message, said.splitlines()[0])
    assert "tiny: counting:" in said and "tiny: squares:" in said  # the bars
    assert content(filled.cache) == whole
    assert {path: path.read_bytes() for path in filled.shipped.iterdir()} == left  # the package is not touched
    monkeypatch.setattr(make, "make", lambda *_: pytest.fail("trained again"))
    assert torch.equal(zoo.load("tiny").lm_head.weight, model.lm_head.weight)
    assert capsys.readouterr().err == ""


def test_cache_that_is_unfit_too_is_made_again(filled, capsys):
    (filled.shipped / "tiny.safetensors").unlink()
    zoo.load("tiny")
    whole = content(filled.cache)
    damaged_by(lambda data: data[:-1])(filled.cache)
    capsys.readouterr()
    zoo.load("tiny")
    assert "tiny.safetensors is missing and " in capsys.readouterr().err.splitlines()[0]
    assert content(filled.cache) == whole


def test_result_of_an_older_recipe_is_made_again(filled, capsys):
    filled.define("tiny", filled.source.replace("seed=3", "seed=4"))
    assert zoo.record("tiny")["seed"] == 4
    assert "was made by another recipe than the package holds now; tiny is trained" in capsys.readouterr().err
    assert files(filled.cache) == ["tiny.json", "tiny.lock", "tiny.safetensors", "unfinished"]


def test_parents_that_are_missing_are_made_first(empty):
    zoo.load("child")
    assert {"child.safetensors", "tiny.safetensors"} <= set(files(empty.cache)) and files(empty.shipped) == []
    assert zoo.record("child")["parents"] == {"tiny": zoo.record("tiny")["sha256"]}


# ---- killed ---------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


@pytest.mark.parametrize("fatal", [1, 6, 8, 14])
def test_build_killed_at_a_step_goes_on_to_the_same_result(empty, built, monkeypatch, fatal):
    monkeypatch.setattr(run, "SNAPSHOT_EVERY", 2)
    add, steps = Log.add, []

    def killed(log, step, entry):
        add(log, step, entry)
        steps.append(step)
        if len(steps) == fatal:
            raise Killed

    monkeypatch.setattr(Log, "add", killed)
    with pytest.raises(Killed):
        zoo.build("tiny")
    assert files(empty.shipped) == []
    steps.clear()
    monkeypatch.setattr(Log, "add", lambda log, step, entry: steps.append(step) or add(log, step, entry))
    zoo.build("tiny")
    assert content(empty.shipped) == content(built)
    done = (fatal - 1) // 7 * 7 + (fatal - 1) % 7 // 2 * 2  # steps that snapshots held
    assert len(steps) == 14 - done


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_build_that_is_really_killed_goes_on_to_the_same_result(empty, built, monkeypatch):
    code = """
import os, signal
add = run.Log.add
def killed(log, step, entry):
    add(log, step, entry)
    if "squares" in str(log.path) and step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
run.Log.add = killed
zoo.build("tiny")
"""
    with empty.start(code) as process:
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    (unfinished,) = (empty.cache / "unfinished" / "tiny").iterdir()
    assert files(unfinished) == ["counting.log", "counting.safetensors", "squares.log", "squares.safetensors"]
    begun, add = [], Log.add
    monkeypatch.setattr(Log, "add", lambda log, step, entry: begun.append(step) or add(log, step, entry))
    zoo.build("tiny")
    assert begun == [2, 3, 4, 5, 6] and content(empty.shipped) == content(built)
    assert files(empty.cache / "unfinished") == []


def test_kill_between_the_two_files_is_noticed_and_mended(filled, monkeypatch):
    before, replace = content(filled.shipped), os.replace
    filled.define("tiny", filled.source.replace("seed=3", "seed=4"))

    def killed(source, target):
        if target == filled.shipped / "tiny.safetensors":
            raise Killed
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "replace", killed)
        zoo.build("tiny")
    assert files(filled.shipped) == ["tiny.json", "tiny.safetensors"]
    assert (filled.shipped / "tiny.safetensors").read_bytes() == before[0]  # the old weights under a new record
    with pytest.raises(store.Unfit, match="its SHA-256 is not the recorded one"):
        store.read(store.SHIPPED, make.find("tiny"))
    monkeypatch.setattr(Log, "add", lambda *_: pytest.fail("trained again"))  # its snapshots are still there
    assert zoo.build("tiny")["seed"] == 4


def test_snapshot_that_is_damaged_is_dropped(empty, built, monkeypatch, capsys):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(store, "encode", lambda *_: (_ for _ in ()).throw(Killed))
        zoo.build("tiny")
    (snapshot,) = (empty.cache / "unfinished").glob("tiny/*/squares.safetensors")
    snapshot.write_bytes(snapshot.read_bytes()[:-50])
    zoo.build("tiny")
    assert "squares.safetensors is not a whole snapshot" in capsys.readouterr().err
    assert content(empty.shipped) == content(built)


# ---- two at once ----------------------------------------------------------------------------------------------------


def test_two_processes_that_load_at_once_train_once_and_agree(empty, built):
    code = """
import hashlib
model = zoo.load("tiny")
print(hashlib.sha256(model.lm_head.weight.detach().numpy().tobytes()).hexdigest())
"""
    with empty.start(code) as first, empty.start(code) as second:
        (one, said), (other, said_too) = first.communicate(), second.communicate()
    assert one == other and len(one) == 65, said + said_too
    assert (said + said_too).count("tiny is trained again") == 1
    assert content(empty.cache) == content(built)
    assert files(empty.cache) == ["tiny.json", "tiny.lock", "tiny.safetensors", "unfinished"]


def test_who_waits_says_so_and_takes_what_the_other_made(filled, monkeypatch, capsys):
    """Another process holds the lock, and has the result by the time it lets go."""
    data, record = store.read(store.SHIPPED, filled.tiny)
    (filled.shipped / "tiny.json").unlink()
    tries = iter([False, False, True])

    def try_lock(file):
        free = next(tries)
        if free:
            store.write(filled.cache, "tiny", data, {k: v for k, v in record.items() if k != "checksum"})
        return free

    monkeypatch.setattr(store, "_try_lock", try_lock)
    monkeypatch.setattr(make, "make", lambda *_: pytest.fail("trained as well"))
    zoo.load("tiny")
    assert capsys.readouterr().err == "dsmini.zoo: another process is making tiny: waiting for it\n"


# ---- the rehearsal --------------------------------------------------------------------------------------------------


def test_rehearsal_is_the_first_five_steps_of_every_stage(filled):
    recorded = zoo.record("tiny")["first_losses"]
    _, losses = train_by_hand(filled)
    assert recorded["counting"] == losses[0][:5]  # in full precision
    assert len(recorded["squares"]) == 5 and recorded["squares"] != losses[1][:5]  # after 5 steps of counting, not 7
    assert make.rehearse(filled.tiny) == recorded
    assert make.repeats(recorded, recorded) and not filled.cache.exists()


@pytest.mark.parametrize(
    ("name", "change", "stages"),
    [
        ("learning_rate_at", lambda whole: lambda *a: 1.5 * whole(*a), {"counting", "squares"}),
        ("random_windows", lambda whole: lambda tokens, *a: whole(tokens.flip(0), *a), {"squares"}),
        ("multi_token_losses", lambda whole: lambda *a: [3 * loss for loss in whole(*a)], {"counting", "squares"}),
    ],
)
def test_library_code_that_alters_training_shows_in_a_rehearsal(filled, monkeypatch, name, change, stages):
    recorded = zoo.record("tiny")["first_losses"]
    monkeypatch.setattr(pretrain, name, change(getattr(pretrain, name)))
    losses = make.rehearse(filled.tiny)
    assert not make.repeats(losses, recorded)
    assert stages <= {stage for stage in losses if not make.repeats({stage: losses[stage]}, {stage: recorded[stage]})}


def test_rehearsals_agree_to_a_thousandth_and_in_shape():
    recorded = {"a": [1.0, 2.0], "b": [3.0]}
    assert make.repeats({"a": [1.0009, 1.9991], "b": [3.0]}, recorded)
    assert not make.repeats({"a": [1.0, 2.0011], "b": [3.0]}, recorded)
    assert not make.repeats({"a": [1.0, float("nan")], "b": [3.0]}, recorded)
    for other in ({"a": [1.0, 2.0]}, {"a": [1.0], "b": [3.0]}, {"a": [1.0, 2.0], "c": [3.0]}, {}):
        assert not make.repeats(other, recorded)


def test_recipe_that_does_not_repeat_itself_is_refused(empty):
    restless = "COUNT = iter(range(999))\n\ndef windows(step):\n    step = next(COUNT)"
    empty.define("tiny", empty.source.replace("def windows(step):", restless))
    with pytest.raises(RuntimeError, match="tiny does not repeat itself: stage counting began with .*, in rehearsal"):
        zoo.build("tiny")
    assert files(empty.shipped) == []
    # whoever asked whether it is a rehearsal may do something else in one
    source = empty.source.replace("def windows(step):", restless)
    source = source.replace("    model = run.new_model()", "    run.rehearsing\n    model = run.new_model()")
    empty.define("tiny", source)
    assert zoo.build("tiny")["first_losses"]


# ---- the command line -----------------------------------------------------------------------------------------------


def test_check_says_what_fits_and_what_does_not(filled, capsys):
    assert main(["check", "tiny"]) == 0
    size = (filled.shipped / "tiny.safetensors").stat().st_size
    assert capsys.readouterr().out == f"tiny: fits its recipe; {size:,} bytes\n"
    assert main(["check"]) == 1
    assert "child.json is missing" in capsys.readouterr().out
    assert not filled.cache.exists()


def test_build_without_names_builds_all(empty, built, capsys):
    assert main(["build"]) == 0
    out = capsys.readouterr().out
    assert out.index("tiny: ") < out.index("child: ") and "loss = " in out
    assert content(empty.shipped) == content(built) and main(["check"]) == 0


@pytest.mark.parametrize("arguments", [["build", "bass"], ["check", "tiny", "bass"], [], ["bake"]])
@pytest.mark.usefixtures("filled")
def test_command_that_makes_no_sense_is_told(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "error: " in capsys.readouterr().err

"""What a recipe's build works with."""

import functools
from types import SimpleNamespace

import pytest
import torch

from dsmini.language.frame import prompt_text, response_text
from dsmini.training.pretrain import TrainingSettings
from dsmini.training.rlvr import GRPOSettings, train_grpo
from dsmini.zoo import run as run_module
from dsmini.zoo import store
from dsmini.zoo.run import Log, Run


def new_run(zoo, tmp_path, **options):
    return Run(zoo.tiny, parent=lambda name: pytest.fail(name), folder=tmp_path / "unfinished", **options)


def counting(steps):
    """A trainer that learns nothing: its loss is the step."""

    def trainer(snapshot, progress, on_step):
        for step in range(steps):
            on_step(step, float(step))
        return [step + 1 / 3 for step in range(steps)]

    return trainer


def test_new_model_follows_the_seed_and_nothing_else(empty, tmp_path):
    run = new_run(empty, tmp_path)
    first, second = run.new_model(), run.new_model()
    torch.manual_seed(3)
    third = store.Transformer(empty.tiny.config)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name]) and torch.equal(weight, third.state_dict()[name])


def test_long_curves_are_thinned(empty, tmp_path):
    run = new_run(empty, tmp_path)
    assert len(run.stage("long", counting(2500))) == 2500
    (stage,) = run.stages
    assert (stage["steps"], stage["every"], len(stage["losses"])) == (2500, 3, 834)
    assert stage["losses"][:2] == [0.3333, 3.3333] and stage["losses"][-1] == 2499.3333
    assert run.first_losses == {"long": [step + 1 / 3 for step in range(5)]}


def test_loads_are_thinned_to_fifty_points(empty, tmp_path):
    run, module = new_run(empty, tmp_path, progress=False), empty.module
    model = run.new_model()
    settings = module.pretrain.TrainingSettings(steps=120, batch_size=2, context=8)
    run.train("long", model, module.windows, settings)
    loads = run.stages[0]["loads"]
    assert loads["every"] == 3 and len(loads["model.layers.1.mlp.gate"]) == 40


@pytest.mark.parametrize("stage", ["", "First", "a b", "../a", "a.safetensors", "twice"])
def test_stage_needs_a_new_name_fit_for_a_file(empty, tmp_path, stage):
    run = new_run(empty, tmp_path)
    run.stage("twice", counting(1))
    with pytest.raises(ValueError, match=f"stage = '{stage}': expected a new name of small letters"):
        run.stage(stage, counting(1))


def test_only_parents_can_be_loaded(empty, tmp_path):
    with pytest.raises(ValueError, match=r"name = 'base': expected one of the recipe's parents, \(\)"):
        new_run(empty, tmp_path).load("base")


def test_parent_may_keep_its_modules(empty):
    parent = store.Transformer(empty.tiny.config)
    run = Run(empty.child, parent={"tiny": parent}.get)
    assert len(run.load("tiny").mtp) == 0 and len(run.load("tiny", keep_mtp=True).mtp) == 1


def test_trainer_is_told_where_to_keep_its_snapshot_and_what_to_call_its_bar(empty, tmp_path):
    told = {}

    def trainer(snapshot, progress, on_step):
        told.update(snapshot=snapshot, progress=progress)
        return [0.0]

    new_run(empty, tmp_path).stage("sft", trainer)
    assert told == {"snapshot": tmp_path / "unfinished" / "sft.safetensors", "progress": "tiny: sft"}
    new_run(empty, tmp_path, progress=False).stage("sft", trainer)
    assert told["progress"] is False


def test_only_a_first_stage_before_anybody_asked_begins_alike(empty, tmp_path):
    for asks, alike in ((False, "first"), (True, None)):
        run = new_run(empty, tmp_path / str(asks), steps=5)
        assert not asks or run.rehearsing
        for stage in ("first", "second"):
            run.stage(stage, counting(7))
        assert run.alike == alike


def test_rehearsal_cuts_stages_and_keeps_nothing(empty, tmp_path):
    run, model = new_run(empty, tmp_path, steps=5), store.Transformer(empty.tiny.config)
    assert run.rehearsing and not new_run(empty, tmp_path).rehearsing
    assert run.stage("long", counting(2500)) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert run.stage("short", counting(2)) == [0.0, 1.0]
    run.train("text", model, empty.module.TEXT, empty.module.SETTINGS)
    assert {name: len(losses) for name, losses in run.first_losses.items()} == {"long": 5, "short": 2, "text": 5}
    assert not model.training and not (tmp_path / "unfinished").exists()


def test_trainer_that_does_not_tell_its_steps_is_refused(empty, tmp_path):
    with pytest.raises(ValueError, match=r"stage = 'sft': its trainer never called on_step\(step, loss\)"):
        new_run(empty, tmp_path, steps=5).stage("sft", lambda **_: [0.0])


def test_log_keeps_whole_lines_up_to_where_a_run_goes_on(tmp_path):
    log = Log(tmp_path / "stage.log")
    for step in range(4):
        log.add(step, {"seconds": step})
    log.path.write_text(log.path.read_text() + '{"secon')  # killed while it wrote
    again = Log(log.path)
    assert len(again.entries) == 4
    assert [entry["seconds"] for entry in again.entries] == [0, 1, 2, 3]
    again.add(2, {"seconds": 20})
    again.add(3, {"seconds": 30})
    assert [entry["seconds"] for entry in Log(log.path).entries] == [0, 1, 20, 30]


def test_any_trainer_can_make_a_stage_and_dicts_without_an_entropy_are_compared_by_their_loss(empty, tmp_path):
    told = {}

    def trainer(model, data, settings, seed, snapshot_every, snapshot, progress, on_step):
        told.update(model=model, data=data, settings=settings, seed=seed, every=snapshot_every)
        history = [{"loss": step + 0.25, "divergence": 9.0} for step in range(7)]
        for step, entry in enumerate(history):
            on_step(step, entry)
        return history

    run = new_run(empty, tmp_path)
    model = run.new_model()
    for stage, seed in (("first", None), ("second", 8)):
        history = run.learn(stage, trainer, model, "data", "settings", seed)
        assert told == {"model": model, "data": "data", "settings": "settings", "seed": 3 if seed is None else 8,
                        "every": run_module.SNAPSHOT_EVERY}  # fmt: skip
    assert run.stages[0]["curves"] == {name: [entry[name] for entry in history] for name in ("loss", "divergence")}
    assert run.first_losses["first"] == [0.25, 1.25, 2.25, 3.25, 4.25]


# ---- stages after pre-training --------------------------------------------------------------------------------------

EXAMPLES = [(prompt_text(f"{n} + {n}"), response_text("", str(2 * n))) for n in range(9)]
FEW = GRPOSettings(steps=7, prompts=2, group_size=4, max_new_tokens=4)


def problems(step):
    return [SimpleNamespace(prompt=f"{step} + {n}") for n in range(FEW.prompts)]


def parts(problem, text):
    return {"words": float(len(text.split())), "ones": float("1" in text)}


@pytest.fixture
def speaking(empty, tmp_path):
    """Runs of a recipe whose model knows the book's symbols."""
    recipe = empty.define("speaker", empty.source.replace("vocab_size=29", "vocab_size=128"))
    return lambda **options: Run(recipe, parent={}.get, folder=tmp_path / "unfinished", progress=False, **options)


def test_reinforcement_is_recorded_as_curves(speaking):
    run = speaking()
    model = run.new_model()
    history = run.reinforce("rl", model, problems, parts, FEW)
    (stage,) = run.stages
    assert len(history) == stage["steps"] == 7 and stage["every"] == 1 and "losses" not in stage
    assert stage["curves"].keys() == history[0].keys() >= {"reward", "words", "ones", "tokens", "entropy", "kl", "loss"}
    for name, curve in stage["curves"].items():
        assert curve == [round(entry[name], 4) for entry in history]
    assert run.first_losses == {"rl": [entry["entropy"] for entry in history[:5]]}
    assert stage["loads"].keys() == {"every", "model.layers.1.mlp.gate"} and not model.training


def test_fine_tuning_is_recorded_as_losses(speaking):
    run = speaking()
    settings = TrainingSettings(steps=7, batch_size=2, context=20)
    losses = run.fine_tune("sft", run.new_model(), EXAMPLES, settings)
    (stage,) = run.stages
    assert stage["losses"] == [round(loss, 4) for loss in losses] and len(losses) == stage["steps"] == 7
    assert run.first_losses == {"sft": losses[:5]}


def test_rehearsal_of_later_stages_is_the_start_of_them(speaking):
    run, settings = speaking(), TrainingSettings(steps=7, batch_size=2, context=20)
    short = speaking(steps=5)
    for each in (run, short):
        model = each.new_model()
        each.fine_tune("sft", model, EXAMPLES, settings)
    run.reinforce("rl", run.new_model(), problems, parts, FEW)
    short.reinforce("rl", short.new_model(), problems, parts, FEW)
    assert short.first_losses == run.first_losses and not short.stages


def test_killed_reinforcement_goes_on_and_keeps_its_log(speaking, monkeypatch):
    class Killed(Exception):
        pass

    def killing(step):
        if step == 5:
            raise Killed
        return problems(step)

    whole = speaking()
    history = whole.reinforce("whole", whole.new_model(), problems, parts, FEW)
    monkeypatch.setattr(run_module, "train_grpo", functools.partial(train_grpo, snapshot_every=2))
    killed = speaking()
    with pytest.raises(Killed):
        killed.reinforce("rl", killed.new_model(), killing, parts, FEW)
    again, asked = speaking(), []
    assert again.reinforce("rl", again.new_model(), lambda n: asked.append(n) or problems(n), parts, FEW) == history
    assert asked == [0, 4, 5, 6]  # 0 to know the run by
    assert again.stages[0]["curves"] == whole.stages[0]["curves"] and again.cpu_seconds > 0


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_reinforcement_may_have_a_reference(speaking, beta):
    run = speaking()
    settings = GRPOSettings(steps=1, prompts=2, group_size=4, max_new_tokens=4, beta=beta)
    other = make_other(run.new_model())
    (entry,) = run.reinforce("rl", run.new_model(), problems, parts, settings, reference=other)
    assert (entry["kl"] > 0) == (beta > 0)


def make_other(model):
    with torch.no_grad():
        model.lm_head.weight.mul_(30)
    return model

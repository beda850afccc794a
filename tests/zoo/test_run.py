"""What a recipe's build works with."""

import pytest
import torch

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

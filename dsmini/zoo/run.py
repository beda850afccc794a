"""One run of a recipe: what its `build` function is given, and what is noted while it trains.

A run can be killed at any moment: every stage has a snapshot, and a log for what a snapshot does not hold. A rehearsal
is a run whose stages are cut to five steps each. It is recorded with every result and repeated by the tests: a change
of library code that alters training shows there, in every stage, within seconds.
"""

import contextlib
import json
import math
import time

import torch

from dsmini.files import atomically
from dsmini.model.moe import expert_load, watch_routing
from dsmini.model.transformer import Transformer
from dsmini.training import pretrain
from dsmini.training.rlvr import train_grpo
from dsmini.training.sft import train_sft
from dsmini.zoo.recipe import NAME
from dsmini.zoo.store import encode

REHEARSAL = 5  # steps of each stage
SNAPSHOT_EVERY = 50  # steps
_MOST_LOSSES, _MOST_LOADS = 1000, 50  # points of a recorded curve


class Run:
    """What a recipe's `build` works with.

    config, seed: the recipe's. alike: the first stage, if a rehearsal begins it as the run does; None where a recipe
    has asked before whether it is `rehearsing`. Global random numbers are not part of a snapshot: draw from generators
    of your own.
    """

    def __init__(self, recipe, parent, folder=None, progress=True, steps=None):
        """parent: name -> model. folder: where snapshots go, None for none. steps: where to cut every stage."""
        self.config, self.seed = recipe.config, recipe.seed
        self.stages, self.first_losses, self.cpu_seconds = [], {}, 0.0
        self._recipe, self._parent, self._folder, self._progress, self._steps = recipe, parent, folder, progress, steps
        self._clock, self.alike, self._has_asked = time.process_time(), None, False

    @property
    def rehearsing(self):
        """True in a rehearsal; a recipe makes expensive work between its stages small then.

        Who has asked may do something else in a rehearsal.
        """
        self._has_asked = True
        return self._steps is not None

    def new_model(self):
        """A `Transformer` of the recipe's config with initial weights from its seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return Transformer(self.config)

    def load(self, name, keep_mtp=False):
        """A parent's model, without its MTP modules: after pre-training nothing trains them."""
        if name not in self._recipe.parents:
            raise ValueError(f"name = {name!r}: expected one of the recipe's parents, {self._recipe.parents}")
        model = self._parent(name)
        return model if keep_mtp else model.without_mtp()

    def train(self, stage, model, data, settings, seed=None):
        """One stage of `dsmini.training.pretrain.train`; returns its losses. seed: None takes the recipe's."""
        return self.learn(stage, pretrain.train, model, data, settings, seed)

    def learn(self, stage, trainer, model, data, settings, seed=None):
        """One stage of a trainer whose arguments are those of `pretrain.train`; returns what that returns."""
        seed = self.seed if seed is None else seed
        return self.stage(
            stage, lambda **keep: trainer(model, data, settings, seed, snapshot_every=SNAPSHOT_EVERY, **keep), model
        )

    def fine_tune(self, stage, model, examples, settings):
        """One stage of `dsmini.training.sft.train_sft`; returns its losses."""
        return self.learn(stage, train_sft, model, examples, settings)

    def reinforce(self, stage, model, problems, reward, settings, reference=None):
        """One stage of `dsmini.training.rlvr.train_grpo`; returns its steps' dicts."""
        return self.stage(
            stage,
            lambda **keep: train_grpo(model, problems, reward, settings, self.seed, reference, **keep),
            model,
        )

    def stage(self, stage, trainer, model=None):
        """One stage of any training; returns what the trainer returns, a list: a float or a dict of floats a step.

        stage: its name. trainer(snapshot=..., progress=..., on_step=...): as those arguments of `pretrain.train`.
        model: whose routers to watch. Raises ValueError for a name that is not fit for a file or was there before, and
        for a model that would be too large to store.
        """
        if not NAME.fullmatch(stage) or stage in self.first_losses:
            raise ValueError(f"stage = {stage!r}: expected a new name of small letters and digits, with - between them")
        if model is not None:
            encode(model, self._recipe)  # not to find out after the training
        if not self.first_losses and not self._has_asked:
            self.alike = stage
        if self._steps is not None:
            return self._rehearse(stage, trainer, model)
        log = Log(self._folder / f"{stage}.log")
        with watch_routing(model) if model is not None else contextlib.nullcontext({}) as routes:
            losses = trainer(
                snapshot=self._folder / f"{stage}.safetensors",
                progress=self._progress and f"{self._recipe.name}: {stage}",
                on_step=lambda step, _: log.add(step, {"seconds": self.lap(), "loads": _loads(routes)}),
            )
        self.cpu_seconds += sum(entry["seconds"] for entry in log.entries)
        every = math.ceil(len(losses) / _MOST_LOSSES)
        self.stages.append(
            {
                "name": stage,
                "steps": len(losses),
                "every": every,
                **_curves(losses[::every]),
                "loads": _thinned([entry["loads"] for entry in log.entries]),
            }
        )
        self.first_losses[stage] = [_number(loss) for loss in losses[:REHEARSAL]]
        return losses

    def lap(self):
        """CPU seconds of this process since the last call."""
        before, self._clock = self._clock, time.process_time()
        return round(self._clock - before, 4)

    def _rehearse(self, stage, trainer, model):
        losses = []

        def on_step(step, loss):
            losses.append(_number(loss))
            if len(losses) == self._steps:
                raise _Enough

        try:
            trainer(snapshot=None, progress=False, on_step=on_step)
        except _Enough:
            if model is not None:
                model.eval()
        if not losses:
            raise ValueError(f"stage = {stage!r}: its trainer never called on_step(step, loss)")
        self.first_losses[stage] = losses
        return losses


class _Enough(Exception):
    """Ends a stage of a rehearsal."""


class Log:
    """CPU seconds and loads of every step of a stage, one line of JSON each, so that a killed run keeps them.

    A step is logged before the snapshot that includes it; lines beyond the snapshot that a run goes on from are
    dropped when it takes its first step.
    """

    def __init__(self, path):
        self.path, self.entries, self._begun = path, [], False
        if path.exists():
            with contextlib.suppress(ValueError):  # the last line may be cut
                for line in path.read_text(encoding="utf-8").splitlines():
                    self.entries.append(json.loads(line))

    def add(self, step, entry):
        if not self._begun:
            self.entries, self._begun = self.entries[:step], True
            with atomically(self.path) as temporary:
                temporary.write_text("".join(json.dumps(old) + "\n" for old in self.entries), encoding="utf-8")
        self.entries.append(entry)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def _number(entry):
    """What a rehearsal compares of a step: its loss, or the policy's entropy, which one sample hardly moves."""
    if not isinstance(entry, dict):
        return entry
    return entry["entropy"] if "entropy" in entry else entry["loss"]


def _curves(entries):
    """A stage's steps for its record: {"losses": [...]}, or {"curves": name -> [...]} where a step is a dict."""
    if not isinstance(entries[0], dict):
        return {"losses": [round(loss, 4) for loss in entries]}
    return {"curves": {name: [round(entry[name], 4) for entry in entries] for name in entries[0]}}


def _loads(routes):
    """Router name -> the share of the tokens' choices that each of its experts got in the last step."""
    shares = {}
    for name, route in routes.items():
        load = expert_load(route.experts, route.scores.shape[-1])
        shares[name] = [round(share, 4) for share in (load / load.sum()).tolist()]
    return shares


def _thinned(loads):
    """A list over steps, each router -> shares, as router -> a list over every n-th step."""
    if not loads or not loads[0]:
        return {}
    every = math.ceil(len(loads) / _MOST_LOADS)
    thin = loads[::every]
    return {"every": every, **{name: [step[name] for step in thin] for name in thin[0]}}

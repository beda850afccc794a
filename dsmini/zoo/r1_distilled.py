"""A small dense model that R1 has taught: supervised fine-tuning on its answers and nothing else.

DeepSeek distilled R1 into dense models of Qwen and Llama that way (R1 report, section 2.4 of its first version). The
student here has less than half of the teacher's weights, no experts, and less pre-training on the same corpus. The
decision to know: only right answers are taught, and a student never sees a probability of its teacher, only texts.
"""

from dsmini.config import PRESETS
from dsmini.tasks.corpus import corpus
from dsmini.training.pretrain import TrainingSettings
from dsmini.zoo import base, r1
from dsmini.zoo.recipe import Recipe

# name, corpus, settings: the base model's, for fewer steps
PRETRAINING = (
    ("careful", base.CAREFUL, TrainingSettings(steps=800, batch_size=32, context=128, learning_rate=5e-3)),
    ("mixed", base.MIXED, TrainingSettings(steps=150, batch_size=32, context=128, learning_rate=3e-3)),
)
DISTILLATION = TrainingSettings(steps=400, batch_size=40, context=320, learning_rate=2e-3, warmup_steps=20)
PROBLEMS = 2000  # that the teacher is asked


def student(run):
    """The student before it is taught."""
    model = run.new_model()
    for stage, (name, shares, settings) in enumerate(PRETRAINING):
        data = corpus(shares, settings.batch_size, settings.context, seed=run.seed + 100 * stage)
        run.train(name, model, data, settings)
    return model


def distil(run, model, teacher):
    """Teach a model, in place, by a teacher's right answers."""
    # a rehearsal asks nobody: what is sampled may differ between machines
    taught = r1.written(200, run.seed) if run.rehearsing else lessons(teacher, PROBLEMS, run.seed)
    run.fine_tune("distillation", model, taught, DISTILLATION)


def lessons(teacher, count, seed):
    """(prompt, response) pairs: the teacher's right answers to train problems, and to simple questions a fifth more."""
    asked = r1.rejection_sampled(teacher, count, seed + 10)
    return asked + r1.rejection_sampled(teacher, count // 5, seed + 20, sources=r1.GENERAL)


def build(run):
    model = student(run)
    distil(run, model, run.load("r1"))
    return model


def evaluate(model):
    return r1.evaluate(model)


# task, metric -> (lowest, highest) that is accepted
ACCEPTED = {("shell_game", "pass@1"): (0.8, 1), ("countdown", "pass@1"): (0.3, 1)}

RECIPE = Recipe("r1-distilled", build, evaluate, config=PRESETS["mini-dense"], seed=0, parents=("r1",))

"""A model that finds needles in a haystack: dense, with the sizes of V3.2 and an indexer that nobody has trained.

Four stages, from texts of 32 tokens to 1024. Short ones teach what a question wants, in a fiftieth of the time; long
ones teach to find it among more. `index_topk` is as large as the longest text, so the model attends to everything and
its indexers, as they were drawn, never decide anything: chapter 10 looks at this attention, chapter 11 makes it sparse.
"""

from dsmini.config import ModelConfig
from dsmini.tasks.measure_needle import find_needles
from dsmini.tasks.needle import VOCAB_SIZE, needles
from dsmini.training.answers import train_answers
from dsmini.training.pretrain import TrainingSettings
from dsmini.zoo.recipe import Recipe

CONFIG = ModelConfig(
    vocab_size=VOCAB_SIZE, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
    max_position_embeddings=1024, initializer_range=0.1, q_lora_rank=48, kv_lora_rank=32, qk_nope_head_dim=16,
    qk_rope_head_dim=8, v_head_dim=16, index_n_heads=4, index_head_dim=32, index_topk=1024,
)  # fmt: skip

# the length of its texts names a stage; `context` is that length
STAGES = (
    TrainingSettings(steps=400, batch_size=64, context=32, learning_rate=5e-3, warmup_steps=30),
    TrainingSettings(steps=100, batch_size=16, context=128, learning_rate=4e-3, warmup_steps=10),
    TrainingSettings(steps=100, batch_size=8, context=512, learning_rate=3e-3, warmup_steps=10),
    TrainingSettings(steps=30, batch_size=2, context=1024, learning_rate=5e-4, warmup_steps=10),
)
LENGTHS = (128, 512, 1024)  # at which it is measured


def build(run):
    model = run.new_model()
    for settings in STAGES:
        data = needles(settings.batch_size, settings.context, run.seed)
        run.learn(f"length-{settings.context}", train_answers, model, data, settings)
    return model


def evaluate(model):
    return {"accuracy": {str(length): find_needles(model, length) for length in LENGTHS}}


# metric, length -> (lowest, highest) that is accepted
ACCEPTED = {("accuracy", "512"): (0.97, 1), ("accuracy", "1024"): (0.95, 1)}

RECIPE = Recipe("needle", build, evaluate, config=CONFIG, seed=0)

"""One step of GRPO in dsmini and in TRL, on the same model, prompts and number of tokens: rollout, update, the whole.

    python benchmarks/grpo_step.py [--steps 9]

Both read the same random DeepSeek-V3 (3.8 million parameters, float32) and answer the same 16 prompts 8 times each with
exactly 64 tokens: nothing ends an answer, and every answer has a reward of its own, so no group is dropped. TRL runs
its own `GRPOTrainer`, as shipped, on transformers; at the end of each of its steps dsmini takes one. One thread, CPU
seconds. In the first step, which does not count, dsmini also learns from TRL's rollout: the gradients' norms must be
equal. Needs the extra `parity`.
"""

import argparse
import json
import statistics
import tempfile
import time
import zlib
from pathlib import Path

import model_speed
import store
import torch
import transformers
import trl
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from dsmini.language.frame import prompt_text
from dsmini.language.tokenizer import EOS, PAD, TOKENIZER
from dsmini.tasks import shell_game
from dsmini.tasks.draw import Draw
from dsmini.training.grpo import group_advantages
from dsmini.training.pretrain import new_optimizer
from dsmini.training.rlvr import GRPOSettings, learn, policy
from dsmini.training.rollout import Rollout, pad, roll_out

RESULT = Path(__file__).parent / "results" / "grpo_step.json"
model_speed.SHAPE["vocab_size"] = TOKENIZER.vocab_size
PROMPTS, GROUP, NEW_TOKENS, SWAPS = 16, 8, 64, 4
ANSWERS = PROMPTS * GROUP
SETTINGS = GRPOSettings(prompts=PROMPTS, group_size=GROUP, max_new_tokens=NEW_TOKENS, learning_rate=1e-5)
SIDES = ("dsmini", "trl")


def distinct(text):
    """A reward that no two texts share: a number from 0 to 1 made of the text's bits."""
    return zlib.crc32(text.encode()) / 2**32


def make_problems():
    """Shell games of one length, so that nobody has to pad the prompts."""
    draw = Draw("benchmark of a step")
    return [shell_game.sample(draw, swaps=(SWAPS, SWAPS)) for _ in range(PROMPTS)]


def word(token):
    """How a token is called in text for TRL. No name is part of another: special tokens are found inside words."""
    return f"<{token}>"


def as_words(problem):
    return " ".join(map(word, TOKENIZER.encode(prompt_text(problem.prompt)).tolist()))


def make_tokenizer():
    """For TRL, of those names."""
    names = {word(token): token for token in range(TOKENIZER.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(names, unk_token=word(0)))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = {"eos_token": word(TOKENIZER.id(EOS)), "pad_token": word(TOKENIZER.id(PAD))}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="left", **ends)


def make_trainer(folder, problems, steps, callback):
    """TRL's own, with the options that mean what dsmini's settings mean."""
    s = SETTINGS
    config = GRPOConfig(
        output_dir=f"{folder}/trl", max_steps=steps, per_device_train_batch_size=ANSWERS, num_generations=GROUP,
        max_completion_length=NEW_TOKENS, generation_kwargs={"min_new_tokens": NEW_TOKENS}, temperature=s.temperature,
        loss_type="grpo", scale_rewards=s.scale_rewards, epsilon=s.epsilon, beta=s.beta,
        learning_rate=s.learning_rate, lr_scheduler_type="constant", warmup_steps=0, weight_decay=s.weight_decay,
        adam_beta2=0.95, max_grad_norm=s.max_grad_norm, use_cpu=True, bf16=False, gradient_checkpointing=False,
        report_to="none", save_strategy="no", logging_steps=1, disable_tqdm=True, shuffle_dataset=False,
    )  # fmt: skip
    return GRPOTrainer(
        model_speed.load("transformers", folder), args=config,
        reward_funcs=lambda completion_ids, **_: [distinct(str(ids)) for ids in completion_ids],
        train_dataset=Dataset.from_list([{"prompt": as_words(problem)} for problem in problems]),
        processing_class=make_tokenizer(), callbacks=[callback],
    )  # fmt: skip


class TakeTurns(TrainerCallback):
    """Times TRL's steps, and lets dsmini take one at the end of each."""

    def __init__(self, folder, problems):
        self.problems, self.samples, self.started, self.norms = problems, [], None, []
        self.model = model_speed.load("dsmini", folder).train()
        self.untouched = model_speed.load("dsmini", folder)
        self.optimizer, self.generator = new_optimizer(self.model, SETTINGS), torch.Generator().manual_seed(0)

    def watch(self, trainer):
        """Time the half of a step in which TRL generates, and keep what it generated."""
        generate_and_score = trainer._generate_and_score_completions

        def timed(inputs):
            start = time.process_time()
            self.rollout = generate_and_score(inputs)
            self.generating = time.process_time() - start
            return self.rollout

        trainer._generate_and_score_completions = timed

    def on_step_begin(self, *_, **__):
        self.started = time.process_time()

    def on_step_end(self, *_, **__):
        seconds = time.process_time() - self.started
        asked = {tuple(prompt) for prompt in self.rollout["prompt_ids"].tolist()}
        assert asked == {tuple(TOKENIZER.encode(prompt_text(problem.prompt)).tolist()) for problem in self.problems}
        assert self.rollout["completion_mask"].sum() == ANSWERS * NEW_TOKENS
        theirs = {"rollout": self.generating, "update": seconds - self.generating, "step": seconds}
        self.samples.append({"dsmini": self.our_step(), "trl": theirs})

    def on_log(self, *_, logs=None, **__):
        if self.untouched is not None and "grad_norm" in logs:
            self.norms = [our_norm(self.untouched, self.rollout), logs["grad_norm"]]
            self.untouched = None

    def our_step(self):
        start = time.process_time()
        said = roll_out(self.model, self.problems, lambda _, text: distinct(text), GROUP, NEW_TOKENS,
                        SETTINGS.temperature, self.generator, stop=())  # fmt: skip
        between = time.process_time()
        entry = learn(self.model, self.optimizer, said, SETTINGS)
        end = time.process_time()
        assert entry["tokens"] == NEW_TOKENS and entry["zero_groups"] == 0
        return {"rollout": between - start, "update": end - between, "step": end - start}


def our_norm(model, theirs):
    """The norm of dsmini's gradient for the first rollout of TRL."""
    prompts, tokens = list(theirs["prompt_ids"]), list(theirs["completion_ids"])
    inputs, targets, mask = pad(prompts, tokens)
    with torch.no_grad():
        drawn = policy(model, inputs, targets)[0]
    drawn = [row[kept] for row, kept in zip(drawn, mask, strict=True)]
    rewards = torch.tensor([distinct(str(said.tolist())) for said in tokens]).double().view(-1, GROUP)
    difference = (group_advantages(rewards).flatten() - theirs["advantages"]).abs().max().item()
    assert difference < 1e-4, f"advantages differ by {difference}: nothing to compare"
    rollout = Rollout([None] * PROMPTS, prompts, tokens, drawn, torch.zeros(ANSWERS), [[""] * GROUP], rewards, {})
    return learn(model, new_optimizer(model, SETTINGS), rollout, SETTINGS)["grad_norm"]


def summary(what, samples):
    """A row: medians of both sides, and the ratio of each pair of neighbours, its median, lowest and highest."""
    seconds = {side: [sample[side][what] for sample in samples] for side in SIDES}
    ratios = [theirs / ours for ours, theirs in zip(*seconds.values(), strict=True)]
    medians = {side: statistics.median(values) for side, values in seconds.items()}
    tokens = ANSWERS * NEW_TOKENS
    return {
        "what": what,
        "samples": len(samples),
        "seconds": {side: float(f"{value:.4g}") for side, value in medians.items()},
        "tokens_per_second": {side: float(f"{tokens / value:.4g}") for side, value in medians.items()},
        "ratio": round(statistics.median(ratios), 3),
        "ratio_lowest": round(min(ratios), 3),
        "ratio_highest": round(max(ratios), 3),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=9, help="steps of each side after one to warm up (default 9)")
    parser.add_argument("--output", type=Path, default=RESULT, help="result file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        model_speed.make_checkpoint(folder)
        model_speed.the_same(folder)
        turns = TakeTurns(folder, make_problems())
        trainer = make_trainer(folder, turns.problems, arguments.steps + 1, turns)
        trainer.remove_callback(PrinterCallback)
        turns.watch(trainer)
        trainer.train()
    ours, theirs = turns.norms
    assert abs(ours / theirs - 1) < 1e-4, f"gradients of norm {ours} and {theirs}: not the same step"
    theirs = trainer.model.config
    conditions = {
        "processor": store.processor(),
        "threads": torch.get_num_threads(),
        "dtype": "float32",
        "parameters": sum(parameter.numel() for parameter in turns.model.parameters()),
        "config": model_speed.SHAPE,
        "prompts": PROMPTS,
        "prompt_tokens": len(as_words(turns.problems[0]).split()),
        "group_size": GROUP,
        "new_tokens": NEW_TOKENS,
        "their_attention": theirs._attn_implementation,
        "their_experts": theirs._experts_implementation,
        "trl": trl.__version__,
        "transformers": transformers.__version__,
        **store.versions(),
    }
    rows = [summary(what, turns.samples[1:]) for what in ("rollout", "update", "step")]
    for row in rows:
        print(json.dumps(row))
    store.write(arguments.output, conditions, rows)


if __name__ == "__main__":
    main()

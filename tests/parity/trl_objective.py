"""TRL's own loss, asked without a trainer: `GRPOTrainer._compute_loss` with a stand-in for `self`.

There is no model and nothing random in between: log-probabilities, masks and advantages go in, loss and gradient come
out. The import takes seconds, so whoever needs no loss should not import this.
"""

from collections import defaultdict
from types import SimpleNamespace

import torch
from trl import GRPOTrainer


def stand_in(**attributes):
    """What the trainer's methods read of `self`, for one process without anything fancy."""
    accelerator = SimpleNamespace(num_processes=1, process_index=0, device="cpu", gather=lambda x: x,
                                  reduce=lambda x, reduction: x)  # fmt: skip
    arguments = SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1,
                                per_device_train_batch_size=1, gradient_accumulation_steps=1,
                                gradient_checkpointing_kwargs=None)  # fmt: skip
    trainer = SimpleNamespace(
        accelerator=accelerator, args=arguments, current_gradient_accumulation_steps=1,
        model=SimpleNamespace(training=True, is_gradient_checkpointing=False), aux_loss_enabled=False,
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, use_vllm=False, _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list)},
    )  # fmt: skip
    vars(trainer).update(attributes)
    return trainer


def loss_and_gradient(batch, loss_type, level, epsilon_high, beta, unbiased, max_tokens):
    """TRL's loss, and its gradient by the new log-probabilities: a scalar and (B, T).

    batch: a dict of log-probabilities log_probs, old and ref (B, T), advantages (B,) and mask (B, T). unbiased: their
    use_bias_correction_kl, the divergence times the ratio. max_tokens: their max_completion_length.
    """
    log_probs = batch["log_probs"].clone().requires_grad_()
    trainer = stand_in(
        loss_type=loss_type, importance_sampling_level=level, beta=beta, epsilon_low=0.2, epsilon_high=epsilon_high,
        max_completion_length=max_tokens,
        _get_per_token_logps_and_entropies=lambda *_, **__: (log_probs, torch.zeros_like(log_probs), None),
    )  # fmt: skip
    trainer.args.use_bias_correction_kl = unbiased
    mask = batch["mask"].long()
    inputs = {"prompt_ids": mask[:, :1], "prompt_mask": mask[:, :1], "completion_ids": mask, "completion_mask": mask,
              "advantages": batch["advantages"], "old_per_token_logps": batch["old"],
              "ref_per_token_logps": batch["ref"], "num_items_in_batch": mask.sum()}  # fmt: skip
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    return loss.detach(), torch.autograd.grad(loss, log_probs)[0]

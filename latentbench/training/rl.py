"""The RL stage: state, order and logging of updates whose mathematics stand in `update.py`."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import torch

from latentbench.config.sections import AnswerConfig, RlConfig
from latentbench.errors import NotFinite
from latentbench.keys import Key, Purpose
from latentbench.model.backbone import train_only
from latentbench.model.layout import Layout
from latentbench.model.policy import Decoding, Policy, fresh_draws
from latentbench.records import Prompt, Rollouts
from latentbench.runtime.device import peak_memory_mb
from latentbench.training.greedy import greedy_accuracy
from latentbench.training.module import TrainingModule
from latentbench.training.rollout import chunks, roll_out
from latentbench.training.update import (
    Objective,
    Scorer,
    advantages_of,
    drawn_anew,
    kept_groups,
    part_loss,
    replay_gap,
    telling_groups,
    whole_of,
)

log = logging.getLogger(__name__)

REPLAY_TOLERANCE = 1e-2
UNFAITHFUL = (
    "rl update {update}: replay differs from the rollout by {gap:.3g} in log-probability; noise "
    "source and carrier must act the same in both"
)
MAX_BAD_UPDATES = 5
# What an interrupted training goes on from, beside weights and optimizer.
STATE = (
    *("update", "silent_updates", "skipped_updates", "mixed_groups"),
    *("bad_updates", "steps_taken", "best"),
)


class RlModule(TrainingModule):
    """One training step is one update of the policy on fresh groups."""

    def __init__(
        self,
        policy: Policy,
        reference: Policy | None,
        layout: Layout,
        objective: Objective,
        config: RlConfig,
        answer: AnswerConfig,
        validation: Sequence[Prompt],
        seed: int,
    ) -> None:
        super().__init__()
        self.model = policy.model
        self.policy, self.reference, self.layout = policy, reference, layout
        self.objective, self.config, self.seed = objective, config, seed
        self.decoding = Decoding(answer.temperature, answer.budget)
        self.scorer = Scorer(policy, objective.latent_loss, answer.temperature, layout.markers.pad)
        self.validation = validation
        self.silent_updates = 0
        self.skipped_updates = 0
        self.mixed_groups = 0
        self.bad_updates = 0
        self.steps_taken = 0
        self.best: dict[str, Any] = {}
        train_only(self.model, config.trainable)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = [p for p in self.model.parameters() if p.requires_grad]
        return torch.optim.AdamW(trained, lr=self.config.lr, weight_decay=self.config.weight_decay)

    # -- the step -----------------------------------------------------------------------------

    def training_step(self, batch: Any, batch_idx: int) -> None:
        started = time.perf_counter()
        prompts = [self.layout.prompt(item) for item in self.data().batch(self.update)]
        key = Key(self.seed, Purpose.FRESH, self.update)
        with fresh_draws(self.policy.noise, key, self.device):
            rollouts = self.sample(prompts)
            torch.clear_autocast_cache()  # what was cast without gradient must not serve the replay
            self.mixed_groups += int(rollouts.mixed().sum())
            kept = kept_groups(rollouts, self.config.keep, self.config.prompts)
            metrics = self.learn(kept, advantages_of(kept, self.objective))
        self.update += 1
        metrics |= figures_of(rollouts, kept, time.perf_counter() - started)
        metrics["train/silent_updates"] = float(self.silent_updates)
        metrics["train/skipped_updates"] = float(self.skipped_updates)
        if self._validation_is_due():
            metrics["validation/pass@1"] = self._validate()
        self.report(metrics)

    def sample(self, prompts: Sequence[Prompt]) -> Rollouts:
        """This update's groups of graded rollouts."""
        return roll_out(
            self.policy,
            prompts,
            self.layout,
            self.objective.reward,
            self.decoding,
            self.config.group_size,
            self.seed,
            self.update,
            self.config.rollout_rows,
        )

    def learn(self, rollouts: Rollouts, advantages: torch.Tensor) -> dict[str, float]:
        """The inner updates on groups that say anything; none at all where no group does."""
        telling = telling_groups(advantages, penalised=self.reference is not None)
        if not telling:
            self.silent_updates += 1
            return {"train/loss": 0.0, "train/grad_norm": 0.0}
        old: list[torch.Tensor] = []
        metrics: dict[str, float] = {}
        for turn in range(self.config.inner_updates):
            skipped = self.skipped_updates
            scored = drawn_anew(rollouts, self.policy, self.seed, self.update, turn)
            inner = self.inner_update(scored, advantages, telling, old)
            metrics = inner | {key: metrics[key] for key in FIRST_INNER if key in metrics}
            if self.skipped_updates > skipped:
                break  # nothing has moved: another pass would be the same
        return metrics

    def inner_update(
        self,
        rollouts: Rollouts,
        advantages: torch.Tensor,
        telling: Sequence[int],
        old: list[torch.Tensor],
    ) -> dict[str, float]:
        """One pass over the telling groups and one optimizer step; fills `old` the first time."""
        optimizer = self.optimizer()
        optimizer.zero_grad(set_to_none=True)
        whole = whole_of(rollouts, self.objective.latent_loss)
        sums: dict[str, float] = {}
        gaps = [torch.zeros((), device=self.device)]
        size = max(self.config.micro_batch // rollouts.group_size, 1)
        for index, chosen in enumerate(chunks(telling, size)):
            part = rollouts.groups(chosen)
            found = part_loss(
                self.scorer,
                self.objective,
                part,
                advantages[list(chosen)].flatten(0, 1).to(self.device),
                old[index] if index < len(old) else None,
                whole,
                self.reference,
                self.config.kl,
            )
            if index == len(old):
                # Later inner updates have moved away from the rollout by design.
                old.append(found.old)
                gaps.append(replay_gap(found, part, self.objective.latent_loss))
            self.manual_backward(found.loss)
            for name, value in found.sums.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach())
        gap = float(torch.stack(gaps).max())  # NaN where any is
        norm = self.take_step(optimizer, gap)
        return {
            "train/loss": sums["loss"],
            "train/grad_norm": norm,
            "train/kl": sums["kl"],
            "train/replay_gap": gap,
            "train/ratio_clipped": sums["ratio_clipped"] / max(sums["tokens"], 1.0),
        }

    def take_step(self, optimizer: Any, gap: float) -> float:
        """Clip and step; a step whose gradient is not finite is skipped, told and counted."""
        clip = self.config.grad_clip or float("inf")
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip))
        if norm != norm or norm == float("inf"):
            self.bad_updates += 1
            self.skipped_updates += 1
            log.warning("rl update %d: its gradient is not finite; skipped", self.update)
            if self.bad_updates >= MAX_BAD_UPDATES:
                raise NotFinite(
                    f"rl update {self.update}: {MAX_BAD_UPDATES} gradients in a row were not "
                    "finite; lower rl.lr or set rl.grad_clip"
                )
            return norm
        faithful = self.policy.noise.replayed and self.dtype == torch.float32
        if not gap <= REPLAY_TOLERANCE and faithful and self.full_precision():
            raise RuntimeError(UNFAITHFUL.format(update=self.update, gap=gap))
        self.bad_updates = 0
        self.steps_taken += 1
        optimizer.step()
        torch.clear_autocast_cache()  # it holds casts of the weights before this step
        return norm

    # -- around the step ----------------------------------------------------------------------

    def _validation_is_due(self) -> bool:
        every = self.config.validate_every
        return every > 0 and (self.update % every == 0 or self.update == self.config.updates)

    def _validate(self) -> float:
        accuracy = greedy_accuracy(
            self.policy,
            self.validation,
            self.layout,
            self.objective.reward,
            self.decoding.budget,
            f"rl update {self.update}: validation",
        )
        if self.config.select == "validation" and accuracy > self.best.get("accuracy", -1.0):
            weights = {name: value.cpu().clone() for name, value in self.model.state_dict().items()}
            self.best = {"accuracy": accuracy, "update": self.update, "weights": weights}
        return accuracy

    def on_train_end(self) -> None:
        if self.skipped_updates and not self.steps_taken:
            raise NotFinite(
                f"rl: of {self.update} updates {self.skipped_updates} had gradients that were not "
                "finite, and no step was taken; lower rl.lr or set rl.grad_clip"
            )
        if self.best:
            self.model.load_state_dict(self.best["weights"])
            message = "rl.select=validation: the weights of update %d, %.1f %% on validation"
            log.info(message, self.best["update"], 100 * self.best["accuracy"])

    def train(self, mode: bool = True) -> RlModule:
        """Lightning asks for train mode; a policy stays in eval mode, where dropout is off and
        the only randomness is the noise record."""
        return super().train(False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["latentbench"] = {name: getattr(self, name) for name in STATE}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name in STATE:
            setattr(self, name, checkpoint["latentbench"][name])


# What describes the sampled policy, and so is reported from the first inner update.
FIRST_INNER = ("train/replay_gap",)


def figures_of(rollouts: Rollouts, kept: Rollouts, seconds: float) -> dict[str, float]:
    """What an update is told of by: the sampled policy and the time that it all took."""
    tokens, rows = int(rollouts.answers.text.mask.sum()), rollouts.rewards.numel()
    return {
        "train/reward_mean": float(rollouts.rewards.mean()),
        "train/zero_variance_groups": 1.0 - float(rollouts.mixed().float().mean()),
        "train/groups_kept": float(len(kept.prompts)),
        "train/answer_entropy": float(rollouts.answers.entropy.sum()) / max(tokens, 1),
        "train/truncated": float(rollouts.answers.truncated.float().mean()),
        "latent/dispersion": rollouts.dispersion,
        "perf/rollouts_per_s": rows / seconds,
        "perf/tokens_per_s": (tokens + rows * rollouts.latents) / seconds,
        "perf/peak_memory_mb": peak_memory_mb(rollouts.last.device),
    }

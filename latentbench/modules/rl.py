"""Group-relative RL on latent rollouts: roll out -> reward -> advantage -> replay -> loss.

Simplifications, stated: the law that is scored is the law that was sampled; old log-probabilities
are those of the first replay, so the ratio of the first inner update is 1, and the gap between
replay and rollout is reported as `train/replay_gap`; groups without variance are left out of the
replay, which saves time and changes nothing, since their advantage is 0 (under a KL penalty they
stay in). Where latent slots are scored, they stand before the answer's tokens in everything that
has a position: log-probabilities, ratios, advantages.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from latentbench.advantage import Advantage
from latentbench.evaluation.greedy import greedy_accuracy
from latentbench.keys import Key, Purpose
from latentbench.latent_loss import LatentLoss
from latentbench.layout import Layout
from latentbench.models import train_only
from latentbench.modules.training_module import TrainingModule
from latentbench.policy import Decoding, Policy, fresh_draws
from latentbench.policy_loss import PolicyLoss
from latentbench.records import Groups, LossInput, Prompt, Replay, Rollouts, collate_prompts
from latentbench.rollout import chunks, roll_out
from latentbench.schema import AnswerConfig, RlConfig
from latentbench.transform import Transform

log = logging.getLogger(__name__)

REPLAY_TOLERANCE = 1e-2
MAX_BAD_UPDATES = 5


@dataclass(frozen=True)
class Objective:
    """What is optimised: the reward and what is made of it."""

    reward: Any
    advantage: Advantage
    transforms: tuple[Transform, ...]
    policy_loss: PolicyLoss
    latent_loss: LatentLoss


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
        self.validation = validation
        self.silent_updates = 0
        self.skipped_updates = 0
        self.bad_updates = 0
        self.best: dict[str, Any] = {}
        train_only(self.model, config.trainable)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = [p for p in self.model.parameters() if p.requires_grad]
        return torch.optim.AdamW(trained, lr=self.config.lr, weight_decay=self.config.weight_decay)

    # -- the step -----------------------------------------------------------------------------

    def training_step(self, batch: Any, batch_idx: int) -> None:
        started = time.perf_counter()
        items = self.data().batch(self.update)
        prompts = [self.layout.prompt(item) for item in items]
        with fresh_draws(self.policy.noise, self._key(), self.device):
            rollouts = self._roll_out(prompts)
            torch.clear_autocast_cache()  # what was cast without gradient must not serve the replay
            kept = self._keep(rollouts)
            advantages = self._advantages(kept)
            metrics = self._learn(kept, advantages)
        self.update += 1
        metrics |= self._describe(rollouts, kept, time.perf_counter() - started)
        if self._validation_is_due():
            metrics["validation/pass@1"] = self._validate()
        self.report(metrics)

    def _key(self) -> Key:
        return Key(self.seed, Purpose.FRESH, self.update)

    def _roll_out(self, prompts: Sequence[Prompt]) -> Rollouts:
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

    def _keep(self, rollouts: Rollouts) -> Rollouts:
        """All groups, or the first `prompts` of those with more than one distinct reward."""
        if self.config.keep == "all":
            return rollouts
        mixed = rollouts.mixed().nonzero()[:, 0].tolist()
        return rollouts.groups(mixed[: self.config.prompts])

    def _advantages(self, rollouts: Rollouts) -> torch.Tensor:
        """[prompt, rollout, position] over the scored positions."""
        shape = rollouts.rewards.shape
        sampled, mask = self._sampled(rollouts), self._positions(rollouts)
        mean = (sampled * mask).sum(dim=1) / mask.sum(dim=1)
        groups = Groups(
            rewards=rollouts.rewards,
            truncated=rollouts.answers.truncated.reshape(shape).cpu(),
            log_probs=mean.reshape(shape).cpu(),
        )
        estimate = self.objective.advantage
        advantages = estimate(groups)[..., None].expand(*shape, mask.shape[1])
        for transform in self.objective.transforms:
            advantages = transform(advantages, groups, estimate)
        return advantages

    def _positions(self, rollouts: Rollouts) -> torch.Tensor:
        """Which positions are scored [row, position]: latent slots, then real answer tokens."""
        mask = rollouts.answers.text.mask
        if not self.objective.latent_loss.scores:
            return mask
        return torch.cat([mask.new_ones(len(mask), self.policy.latents), mask], dim=1)

    def _penalised(self, rollouts: Rollouts) -> torch.Tensor:
        """Which positions a KL penalty counts [row, position]: the scored ones but for latent slots
        without a ratio, whose score is no log-probability of a draw."""
        mask = self._positions(rollouts).clone()
        if self.objective.latent_loss.on_policy:
            mask[:, : self.policy.latents] = 0
        return mask

    def _sampled(self, rollouts: Rollouts) -> torch.Tensor:
        """The log-probabilities of the scored positions when they were sampled."""
        text = rollouts.answers.log_probs
        if not self.objective.latent_loss.scores:
            return text
        choice = rollouts.thoughts.choice
        even = text.new_zeros(len(text), self.policy.latents)
        latent = self.objective.latent_loss.log_probs(choice["log_probs"], choice, even)
        return torch.cat([latent.to(text.dtype), text], dim=1)

    def _scored(self, replay: Replay, part: Rollouts, advantages: torch.Tensor) -> torch.Tensor:
        """The log-probabilities of the scored positions in a replay."""
        if replay.choice_log_probs is None:
            return replay.log_probs
        latent = self.objective.latent_loss.log_probs(
            replay.choice_log_probs,
            part.thoughts.choice,
            advantages[:, : self.policy.latents],
        )
        return torch.cat([latent.to(replay.log_probs.dtype), replay.log_probs], dim=1)

    def _learn(self, rollouts: Rollouts, advantages: torch.Tensor) -> dict[str, float]:
        """The inner updates on groups that say anything; none at all where no group does.

        Under a KL penalty every group does: its pull towards the reference needs no reward.
        """
        telling = (advantages != 0).flatten(1).any(dim=1).nonzero()[:, 0].tolist()
        if self.reference is not None:
            telling = list(range(len(rollouts.prompts)))
        if not telling:
            self.silent_updates += 1
            return {"train/loss": 0.0, "train/grad_norm": 0.0}
        old: list[torch.Tensor] = []
        metrics: dict[str, float] = {}
        for _ in range(self.config.inner_updates):
            skipped = self.skipped_updates
            inner = self._inner_update(rollouts, advantages, telling, old)
            metrics = inner | {key: metrics[key] for key in FIRST_INNER if key in metrics}
            if self.skipped_updates > skipped:
                break  # nothing has moved: another pass would be the same
        return metrics

    def _inner_update(
        self,
        rollouts: Rollouts,
        advantages: torch.Tensor,
        telling: Sequence[int],
        old: list[torch.Tensor],
    ) -> dict[str, float]:
        """One pass over the telling groups and one optimizer step; fills `old` the first time."""
        optimizer = self.optimizer()
        optimizer.zero_grad(set_to_none=True)
        total_rows = rollouts.rewards.numel()
        total_tokens = int(self._positions(rollouts).sum())
        penalised = int(self._penalised(rollouts).sum())
        sums: dict[str, float] = {}
        gaps = [torch.zeros((), device=self.device)]
        size = max(self.config.micro_batch // rollouts.group_size, 1)
        for index, chosen in enumerate(chunks(telling, size)):
            part = rollouts.groups(chosen)
            mask = self._positions(part)
            signal = advantages[list(chosen)].flatten(0, 1).to(self.device)
            replay = self._replay(self.policy, part)
            log_probs = self._scored(replay, part, signal)
            if len(old) <= index:
                old.append(log_probs.detach())
                gaps.append(((old[index] - self._sampled(part)) * mask).abs().max())
            loss = self.objective.policy_loss(
                LossInput(
                    log_probs=log_probs,
                    old_log_probs=self._old(old[index], log_probs),
                    mask=mask,
                    advantages=signal,
                    total_rows=total_rows,
                    total_tokens=total_tokens,
                )
            )
            penalty = self._kl(part, log_probs, signal) / max(penalised, 1)
            self.manual_backward(loss.loss + self.config.kl * penalty)
            _add(sums, loss.sums)
            written = part.answers.text.mask.sum()
            _add(sums, {"loss": loss.loss, "kl": penalty, "entropy": replay.entropy.sum()})
            _add(sums, {"written": written})
        # Of the first inner update: later ones have moved away from the rollout by design.
        gap = float(torch.stack(gaps).max())  # NaN where any is
        norm = self._step(optimizer, gap)
        return {
            "train/loss": sums["loss"],
            "train/grad_norm": norm,
            "train/kl": sums["kl"],
            "train/replay_gap": gap,
            "train/ratio_clipped": sums["ratio_clipped"] / max(sums["tokens"], 1.0),
            "train/answer_entropy": sums["entropy"] / max(sums["written"], 1.0),
        }

    def _old(self, old: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """The old log-probabilities; latent slots without a ratio have the present ones."""
        if not self.objective.latent_loss.on_policy:
            return old
        slots = self.policy.latents
        return torch.cat([present[:, :slots].detach(), old[:, slots:]], dim=1)

    def _replay(self, policy: Policy, part: Rollouts) -> Replay:
        """Score a part again under its own noise record, with gradient through the latents, or on
        its stored thoughts where these are scored themselves."""
        assert not self.model.training, "replay in train mode draws dropout that was never sampled"
        prompts = collate_prompts(part.prompts, self.layout.markers.pad, self.device)
        stored = part.thoughts if self.objective.latent_loss.scores else None
        return policy.replay(
            prompts,
            part.noise,
            part.answers.text,
            part.group_size,
            self.decoding.temperature,
            stored,
        )

    def _kl(self, part: Rollouts, present: torch.Tensor, signal: torch.Tensor) -> torch.Tensor:
        """Summed k3 estimate of KL(policy || reference) on the penalised positions, both under one
        noise record and one set of thoughts: exp(d) - d - 1, d = log ref - log policy in [-10, 10].
        """
        if self.reference is None:
            return torch.zeros((), device=self.device)
        with torch.no_grad():
            reference = self._scored(self._replay(self.reference, part), part, signal)
        difference = (reference - present).clamp(-10, 10)
        return ((difference.exp() - difference - 1) * self._penalised(part)).sum()

    def _step(self, optimizer: Any, gap: float) -> float:
        """Clip and step; a step whose gradient is not finite is skipped, told and counted."""
        clip = self.config.grad_clip or float("inf")
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip))
        if norm != norm or norm == float("inf"):
            self.bad_updates += 1
            self.skipped_updates += 1
            log.warning("rl update %d: its gradient is not finite; skipped", self.update)
            if self.bad_updates >= MAX_BAD_UPDATES:
                raise FloatingPointError(
                    f"rl update {self.update}: {MAX_BAD_UPDATES} gradients in a row were not "
                    "finite; lower rl.lr or set rl.grad_clip"
                )
            return norm
        faithful = self.policy.noise.replayed and self.dtype == torch.float32
        if not gap <= REPLAY_TOLERANCE and faithful and self._full_precision():
            raise RuntimeError(
                f"rl update {self.update}: replay differs from the rollout by {gap:.3g} in "
                "log-probability; noise source and carrier must act the same in both"
            )
        self.bad_updates = 0
        optimizer.step()
        torch.clear_autocast_cache()  # it holds casts of the weights before this step
        return norm

    # -- around the step ----------------------------------------------------------------------

    def _describe(self, rollouts: Rollouts, kept: Rollouts, seconds: float) -> dict[str, float]:
        tokens = int(rollouts.answers.text.mask.sum())
        rows = rollouts.rewards.numel()
        metrics = {
            "train/reward_mean": float(rollouts.rewards.mean()),
            "train/zero_variance_groups": 1.0 - float(rollouts.mixed().float().mean()),
            "train/groups_kept": float(len(kept.prompts)),
            "train/truncated": float(rollouts.answers.truncated.float().mean()),
            "train/silent_updates": float(self.silent_updates),
            "train/skipped_updates": float(self.skipped_updates),
            "latent/dispersion": rollouts.dispersion,
            "perf/rollouts_per_s": rows / seconds,
            "perf/tokens_per_s": (tokens + rows * self.policy.latents) / seconds,
        }
        if self.device.type == "cuda":
            metrics["perf/peak_memory_mb"] = torch.cuda.max_memory_allocated(self.device) / 2**20
        else:
            metrics["perf/peak_memory_mb"] = _peak_resident_mb()
        return metrics

    def _validation_is_due(self) -> bool:
        every = self.config.validate_every
        return every > 0 and (self.update % every == 0 or self.update == self.config.updates)

    def _validate(self) -> float:
        accuracy = greedy_accuracy(
            self.policy, self.validation, self.layout, self.objective.reward, self.decoding.budget
        )
        if self.config.select == "validation" and accuracy > self.best.get("accuracy", -1.0):
            weights = {name: value.cpu().clone() for name, value in self.model.state_dict().items()}
            self.best = {"accuracy": accuracy, "update": self.update, "weights": weights}
        return accuracy

    def on_train_end(self) -> None:
        if self.best:
            self.model.load_state_dict(self.best["weights"])
            message = "rl.select=validation: the weights of update %d, %.1f %% on validation"
            log.info(message, self.best["update"], 100 * self.best["accuracy"])

    def train(self, mode: bool = True) -> RlModule:
        """Lightning asks for train mode; a policy stays in eval mode, where dropout is off and
        the only randomness is the noise record."""
        return super().train(False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["latentbench"] = {
            "update": self.update,
            "silent_updates": self.silent_updates,
            "skipped_updates": self.skipped_updates,
            "bad_updates": self.bad_updates,
            "best": self.best,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["latentbench"]
        self.update, self.best = state["update"], state["best"]
        self.silent_updates, self.bad_updates = state["silent_updates"], state["bad_updates"]
        self.skipped_updates = state["skipped_updates"]

    def _full_precision(self) -> bool:
        return str(self.trainer.precision) == "32-true"


# What describes the sampled policy, and so is reported from the first inner update.
FIRST_INNER = ("train/replay_gap", "train/answer_entropy")


def _add(sums: dict[str, float], values: Any) -> None:
    for name, value in values.items():
        sums[name] = sums.get(name, 0.0) + float(value.detach())


def _peak_resident_mb() -> float:
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10

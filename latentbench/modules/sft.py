"""The supervised stage: a curriculum of rows, a loss, and updates.

The gradient runs through the whole latent chain and the cached keys and values.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from latentbench.curriculum import Curriculum
from latentbench.keys import Key, Purpose
from latentbench.layout import Layout
from latentbench.models import set_dropout, train_only
from latentbench.modules.data import Stages, sft_rows
from latentbench.modules.training_module import TrainingModule
from latentbench.policy import Policy
from latentbench.records import SftRow, Slots
from latentbench.rollout import chunks
from latentbench.schema import SftConfig
from latentbench.sft_loss import SftLoss


class SftModule(TrainingModule):
    """One training step: rows of the stage -> latent phase -> loss -> update.

    `trainable` is what is trained, as `rl.trainable` says it. With `seconds` the training ends once
    they have been spent, whatever the number of updates.
    """

    def __init__(
        self,
        policy: Policy,
        layout: Layout,
        curriculum: Curriculum,
        slots: Slots,
        stages: Stages,
        loss: SftLoss,
        config: SftConfig,
        seed: int,
        trainable: str = "all",
        seconds: float | None = None,
    ) -> None:
        super().__init__()
        self.model = policy.model
        self.policy, self.layout, self.loss = policy, layout, loss
        self.curriculum, self.slots, self.stages = curriculum, slots, stages
        self.config, self.seed = config, seed
        self.since_reset = 0
        self.seconds, self.spent = seconds, 0.0
        train_only(self.model, trainable)
        set_dropout(self.model, config.dropout)
        self.model.train()  # Lightning leaves the mode alone; dropout acts in train mode only

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            [p for p in self.parameters() if p.requires_grad],
            lr=self.config.lr,
            betas=(self.config.betas[0], self.config.betas[1]),
            weight_decay=self.config.weight_decay,
        )

    def on_train_start(self) -> None:
        self._stop_when_spent()  # a checkpoint may be from the very end

    def _stop_when_spent(self) -> None:
        if self.seconds is not None and self.spent >= self.seconds:
            self.trainer.should_stop = True

    def training_step(self, batch: Any, batch_idx: int) -> None:
        started = time.perf_counter()
        self._prepare_optimizer()
        stage = self.stages.stage(self.update)
        rows = sft_rows(
            self.data().batch(self.update),
            stage,
            self.update,
            self.curriculum,
            self.slots,
            self.layout,
            self.config,
            self.seed,
            self.loss.needs,
        )
        loss = self._backward(rows)
        clip = self.config.grad_clip or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        if not bool(torch.isfinite(norm)):
            raise FloatingPointError(
                f"sft update {self.update}: the gradient is not finite; lower sft.lr or set "
                "sft.grad_clip"
            )
        self.optimizer().step()
        self.update += 1
        self.since_reset += 1
        passed = time.perf_counter() - started
        self.spent += passed
        self._stop_when_spent()
        self.report(
            {
                "train/loss": loss,
                "train/grad_norm": float(norm),
                "train/stage": stage,
                "perf/tokens_per_s": sum(len(row.text) for row in rows) / passed,
            }
        )

    def _backward(self, rows: Sequence[SftRow]) -> float:
        """Accumulate the gradient of the batch's loss; returns the loss."""
        total = 0.0
        # Dropout of the model itself is the one draw that is not keyed by row; its seed is.
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(Key(self.seed, Purpose.DROPOUT, self.update).integer())
            for latents in sorted({row.latents for row in rows}):
                alike = [row for row in rows if row.latents == latents]
                policy = replace(self.policy, latents=latents)
                for chunk in chunks(alike, self.config.micro_batch):
                    loss = self.loss(policy, chunk, rows, self.layout.markers.pad)
                    self.manual_backward(loss)
                    total += float(loss.detach())
        return total

    def _prepare_optimizer(self) -> None:
        optimizer = self.optimizer()
        if self.stages.starts(self.update, self.config.reset_optimizer):
            optimizer.state.clear()
            self.since_reset = 0
        rise = min(1.0, (self.since_reset + 1) / max(self.config.warmup, 1))
        fall = min(1.0, (self.stages.total - self.update) / max(self.config.cooldown, 1))
        for group in optimizer.param_groups:
            group["lr"] = self.config.lr * rise * fall
        optimizer.zero_grad(set_to_none=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["latentbench"] = {
            "update": self.update,
            "since_reset": self.since_reset,
            "spent": self.spent if self.seconds is not None else 0.0,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["latentbench"]
        self.update, self.since_reset = state["update"], state["since_reset"]
        self.spent = state["spent"]

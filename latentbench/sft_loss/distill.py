"""Self-distillation (CODI, arXiv 2502.21074 §3): one model is teacher with written-out steps and
student with latent slots, L = CE(student) + CE(teacher) + weight * KD.

KD is the smooth L1 distance between the hidden states of student and teacher (detached) at the
token before the answer, divided by the teacher's deviation over rows and features and averaged over
the blocks and the embedding layer (official model.py). The teacher's text leaves the last step out,
which mostly holds the answer, so that what is distilled is not the state of copying it (official
train.py, `include_last_cot` is False). The deviation is, there as here, that of one micro-batch,
whose size is therefore part of what is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch

from latentbench.errors import InputError
from latentbench.records import SftRow
from latentbench.sft_loss._pass import Pass, summed_cross_entropy, supervised_pass, text_tokens

if TYPE_CHECKING:
    from latentbench.model.policy import Policy


@dataclass(frozen=True)
class Distill:
    """Knobs: `weight` of the alignment (1 in the official GPT-2 scripts, 20 in those of Llama),
    `teacher_weight`; `last_step`, whether the teacher writes it; `embeddings`, whether their layer
    is one of those that are aligned."""

    weight: float = 1.0
    teacher_weight: float = 1.0
    last_step: bool = False
    embeddings: bool = True

    by_micro_batch: ClassVar[bool] = True

    @property
    def needs(self) -> tuple[str, ...]:
        return ("written",) if self.last_step else ("written but the last",)

    def __post_init__(self) -> None:
        for name in ("weight", "teacher_weight"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise InputError(f"sft_loss.{name}={value}: must be at least 0, for example 1")

    def __call__(
        self, policy: Policy, rows: Sequence[SftRow], batch: Sequence[SftRow], pad: int
    ) -> torch.Tensor:
        student = supervised_pass(policy, rows, pad, every_layer=True)
        written = [replace(row, latents=0, text=row.written) for row in rows]
        teacher = supervised_pass(replace(policy, latents=0), written, pad, every_layer=True)
        tokens = sum(len(row.written) for row in batch)
        loss = summed_cross_entropy(policy, student) / text_tokens(batch)
        loss = loss + self.teacher_weight * summed_cross_entropy(policy, teacher) / tokens
        first = 0 if self.embeddings else 1
        goal = _before_answer(teacher, written)[first:].detach()
        spread = goal.std(dim=(1, 2), keepdim=True).clamp(min=1e-6)
        distance = torch.nn.functional.smooth_l1_loss(
            _before_answer(student, rows)[first:], goal, reduction="none"
        )
        return loss + self.weight * (distance / spread).mean(dim=(0, 2)).sum() / len(batch)


def _before_answer(run: Pass, rows: Sequence[SftRow]) -> torch.Tensor:
    """The hidden states [layer, row, feature] from which each answer's first token is predicted."""
    places = [len(row.text) - row.answer for row in rows]
    return run.layers[:, torch.arange(len(rows)), places]

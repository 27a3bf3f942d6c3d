"""Greedy answers with noise off, the primary protocol."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from latentbench.model.layout import Layout
from latentbench.model.policy import Decoding, Policy
from latentbench.noise.none import None_
from latentbench.records import NoiseRecord, Prompt, collate_prompts
from latentbench.reward import Reward
from latentbench.training.rollout import answer_texts, check_finite, chunks


@torch.no_grad()
def greedy_accuracy(
    policy: Policy,
    prompts: Sequence[Prompt],
    layout: Layout,
    reward: Reward,
    budget: int,
    where: str,
    batch_rows: int = 512,
) -> float:
    """The mean reward of greedy answers without noise. Raises NotFinite, which names `where`."""
    policy = policy.under(None_())
    record = NoiseRecord()
    total = 0.0
    for chunk in chunks(prompts, batch_rows):
        batch = collate_prompts(chunk, layout.markers.pad, policy.device)
        state, _ = policy.latent_phase(batch, record, group_size=1)
        answers = policy.decode(state, batch.cue, record, Decoding(0.0, budget))
        check_finite(answers, chunk, where)
        texts = answer_texts(answers.text, layout)
        total += sum(reward(text, p.gold) for text, p in zip(texts, chunk, strict=True))
    return total / len(prompts)

"""Mechanism controls: what stands in the latent slots in place of the model's own thoughts.

All answers of an item, greedy and sampled, have the same vectors in their slots. The statistics are
those of the whole benchmark, so they do not depend on how it is cut into batches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from latentbench.config.sections import ProtocolConfig
from latentbench.keys import Key, Purpose
from latentbench.model.layout import Layout
from latentbench.model.policy import Policy
from latentbench.noise.none import None_
from latentbench.records import NoiseRecord, Prompt, collate_prompts


def steps_under(protocol: ProtocolConfig, trained: int) -> int:
    """How many latent slots a model trained with `trained` has at test."""
    if protocol.intervention == "skip":
        return 0
    return trained if protocol.latent_steps is None else protocol.latent_steps


def needs_thoughts(protocol: ProtocolConfig) -> bool:
    """Whether the intervention is made from the thoughts of the whole benchmark."""
    return protocol.intervention not in ("none", "skip")


@torch.no_grad()
def thoughts_of(
    policy: Policy, prompts: Sequence[Prompt], layout: Layout, chunks: Sequence[Sequence[int]]
) -> torch.Tensor:
    """The thoughts [item, step, feature] of all prompts, without noise or intervention, on the CPU.

    `chunks` are the indices of the prompts that run together.
    """
    quiet = policy.under(None_())
    found: dict[int, torch.Tensor] = {}
    for chunk in chunks:
        batch = collate_prompts([prompts[i] for i in chunk], layout.markers.pad, policy.device)
        _, thoughts = quiet.latent_phase(batch, NoiseRecord(), group_size=1)
        found.update(zip(chunk, thoughts.vectors.cpu(), strict=True))
    return torch.stack([found[i] for i in range(len(prompts))])


def forced_thoughts(
    kind: str, thoughts: torch.Tensor, uids: Sequence[int], seed: int
) -> torch.Tensor:
    """What the slots of each item hold under an intervention [item, step, feature].

    `shuffle` gives every item the thoughts of another one; `noise` draws from a Gaussian with the
    mean and the standard deviation over items of each step and feature, by the item's own key.
    """
    if kind == "zero":
        return torch.zeros_like(thoughts)
    if kind == "shuffle":
        return thoughts[torch.tensor(derangement(uids, seed))]
    mean = thoughts.double().mean(dim=0, keepdim=True)
    if kind == "mean":
        return mean.to(thoughts.dtype).expand_as(thoughts)
    assert kind == "noise", kind
    deviation = thoughts.double().std(dim=0, correction=0, keepdim=True)
    keys = [Key(seed, Purpose.INTERVENTION, 0, uid) for uid in uids]
    draws = np.stack([key.generator().standard_normal(thoughts.shape[1:]) for key in keys])
    return (mean + deviation * torch.from_numpy(draws)).to(thoughts.dtype)


def derangement(uids: Sequence[int], seed: int) -> list[int]:
    """For each item the place of another one; a function of the set of uids and the seed alone.

    One keyed random cycle through all items, so no item keeps its place.
    """
    by_uid = sorted(range(len(uids)), key=lambda place: uids[place])
    cycle = Key(seed, Purpose.INTERVENTION, 1).generator().permutation(len(uids))
    partner = [0] * len(uids)
    for here, there in zip(cycle, np.roll(cycle, -1), strict=True):
        partner[by_uid[here]] = by_uid[there]
    return partner

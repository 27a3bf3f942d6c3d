"""One update of group-relative RL as functions: groups -> advantages -> replay -> loss.

Simplifications, stated: the law that is scored is the law that was sampled; old log-probabilities
are those of the first replay, so the ratio of the first inner update is 1, and the gap between
replay and rollout is reported (noise that is not replayed has the sampler's, as a trainer without
replay has, and ratios that are not 1); groups without variance are left out of the replay, which
saves time and changes nothing, since their advantage is 0 (under a KL penalty they stay in). Where
latent slots are scored, they stand before the answer's tokens in everything that has a position:
log-probabilities, ratios, advantages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from latentbench.advantage import Advantage
from latentbench.keys import Key, Purpose
from latentbench.latent_loss import LatentLoss
from latentbench.model.policy import Policy
from latentbench.policy_loss import PolicyLoss
from latentbench.records import Groups, LossInput, Replay, Rollouts, collate_prompts
from latentbench.reward import Reward
from latentbench.transform import Transform


@dataclass(frozen=True)
class Objective:
    """What is optimised: the reward and what is made of it."""

    reward: Reward
    advantage: Advantage
    transforms: tuple[Transform, ...]
    policy_loss: PolicyLoss
    latent_loss: LatentLoss


# -- which groups, and what each rollout is worth --------------------------------------------------


def kept_groups(rollouts: Rollouts, keep: str, most: int) -> Rollouts:
    """All groups, or with `keep` "mixed" the first `most` that have more than one reward."""
    if keep == "all":
        return rollouts
    mixed = rollouts.mixed().nonzero()[:, 0].tolist()
    return rollouts.groups(mixed[:most])


def advantages_of(rollouts: Rollouts, objective: Objective) -> torch.Tensor:
    """[prompt, rollout, position] over the scored positions: the estimator's, then transformed."""
    shape = rollouts.rewards.shape
    sampled = sampled_log_probs(rollouts, objective.latent_loss)
    mask = scored_positions(rollouts, objective.latent_loss)
    mean = (sampled * mask).sum(dim=1) / mask.sum(dim=1)
    groups = Groups(
        rewards=rollouts.rewards,
        truncated=rollouts.answers.truncated.reshape(shape).cpu(),
        log_probs=mean.reshape(shape).cpu(),
    )
    estimate = objective.advantage
    advantages = estimate(groups)[..., None].expand(*shape, mask.shape[1])
    for transform in objective.transforms:
        advantages = transform(advantages, groups, estimate)
    return advantages


def telling_groups(advantages: torch.Tensor, penalised: bool) -> list[int]:
    """The groups whose replay moves anything. Under a KL penalty every one does: the pull towards
    the reference needs no reward."""
    if penalised:
        return list(range(len(advantages)))
    return (advantages != 0).flatten(1).any(dim=1).nonzero()[:, 0].tolist()


# -- what is scored --------------------------------------------------------------------------------


def scored_positions(rollouts: Rollouts, latent_loss: LatentLoss) -> torch.Tensor:
    """Which positions are scored [row, position]: latent slots, then real answer tokens."""
    mask = rollouts.answers.text.mask
    if not latent_loss.scores:
        return mask
    return torch.cat([mask.new_ones(len(mask), rollouts.latents), mask], dim=1)


def penalised_positions(rollouts: Rollouts, latent_loss: LatentLoss) -> torch.Tensor:
    """Which positions a KL penalty counts [row, position]: the scored ones but for latent slots
    without a ratio, whose score is no log-probability of a draw."""
    mask = scored_positions(rollouts, latent_loss).clone()
    if latent_loss.on_policy:
        mask[:, : rollouts.latents] = 0
    return mask


def sampled_log_probs(rollouts: Rollouts, latent_loss: LatentLoss) -> torch.Tensor:
    """The log-probabilities of the scored positions when they were sampled."""
    text = rollouts.answers.log_probs
    if not latent_loss.scores:
        return text
    choice = rollouts.thoughts.choice
    even = text.new_zeros(len(text), rollouts.latents)
    latent = latent_loss.log_probs(choice["log_probs"], choice, even)
    return torch.cat([latent.to(text.dtype), text], dim=1)


@dataclass(frozen=True)
class Scorer:
    """A policy that scores rollouts again, with gradient, at the temperature they were sampled at;
    `pad` fills short prompts."""

    policy: Policy
    latent_loss: LatentLoss
    temperature: float
    pad: int

    def replay(self, part: Rollouts) -> Replay:
        """A part under its own noise record, with gradient through the latents, or on its stored
        thoughts where these are scored themselves."""
        model = self.policy.model
        assert not model.training, "replay in train mode draws dropout that was never sampled"
        prompts = collate_prompts(part.prompts, self.pad, self.policy.device)
        stored = part.thoughts if self.latent_loss.scores else None
        policy = replace(self.policy, fixed_inputs=self.latent_loss.fixed_inputs)
        return policy.replay(
            prompts, part.noise, part.answers.text, part.group_size, self.temperature, stored
        )

    def log_probs(self, replay: Replay, part: Rollouts, signal: torch.Tensor) -> torch.Tensor:
        """The log-probabilities of the scored positions [row, position] in a replay; `signal` are
        their advantages, which a latent loss may ask for."""
        if replay.choice_log_probs is None:
            return replay.log_probs
        latent = self.latent_loss.log_probs(
            replay.choice_log_probs, part.thoughts.choice, signal[:, : part.latents]
        )
        return torch.cat([latent.to(replay.log_probs.dtype), replay.log_probs], dim=1)


def drawn_anew(rollouts: Rollouts, policy: Policy, seed: int, update: int, turn: int) -> Rollouts:
    """The rollouts as inner update `turn` scores them: under their own noise or, where that is not
    replayed, under another draw."""
    if policy.noise.replayed:
        return rollouts
    size = rollouts.group_size
    keys = [
        Key(seed, Purpose.FRESH, update, prompt.uid, (turn + 1) * size + k)
        for prompt in rollouts.prompts
        for k in range(size)
    ]
    record = policy.noise.draw(keys, policy.sites(), policy.latents).to(policy.device)
    return replace(rollouts, noise=record)


# -- the loss --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Whole:
    """The sizes of a whole update, by which the loss of each part of it is divided."""

    rows: int
    tokens: int
    penalised: int


def whole_of(rollouts: Rollouts, latent_loss: LatentLoss) -> Whole:
    """The sizes of an update on these rollouts: groups that are left out count too."""
    return Whole(
        rollouts.rewards.numel(),
        int(scored_positions(rollouts, latent_loss).sum()),
        int(penalised_positions(rollouts, latent_loss).sum()),
    )


@dataclass(frozen=True)
class PartLoss:
    """`loss` to go downhill on; the present `log_probs`, detached; the `old` ones, for the next
    inner update; and `sums` to be reported."""

    loss: torch.Tensor
    log_probs: torch.Tensor
    old: torch.Tensor
    sums: Mapping[str, torch.Tensor]


def part_loss(
    scorer: Scorer,
    objective: Objective,
    part: Rollouts,
    signal: torch.Tensor,
    old: torch.Tensor | None,
    whole: Whole,
    reference: Policy | None,
    kl: float,
) -> PartLoss:
    """The share of some groups in the loss of an update.

    `signal` are their advantages [row, position], `old` the old log-probabilities
    (None: this is the first replay), `kl` the weight of the penalty towards `reference`.
    """
    latent_loss = objective.latent_loss
    replay = scorer.replay(part)
    log_probs = scorer.log_probs(replay, part, signal)
    if old is None:
        replayed = scorer.policy.noise.replayed
        old = log_probs.detach() if replayed else sampled_log_probs(part, latent_loss)
    before = old
    if latent_loss.on_policy:  # latent slots without a ratio have the present ones
        slots = part.latents
        before = torch.cat([log_probs[:, :slots].detach(), before[:, slots:]], dim=1)
    surrogate = objective.policy_loss(
        LossInput(
            log_probs=log_probs,
            old_log_probs=before,
            mask=scored_positions(part, latent_loss),
            advantages=signal,
            total_rows=whole.rows,
            total_tokens=whole.tokens,
        )
    )
    penalty = torch.zeros((), device=log_probs.device)
    if reference is not None:
        penalty = k3_towards(reference, scorer, part, log_probs, signal)
    penalty = penalty / max(whole.penalised, 1)
    sums = {"loss": surrogate.loss, "kl": penalty} | dict(surrogate.sums)
    return PartLoss(surrogate.loss + kl * penalty, log_probs.detach(), old, sums)


def k3_towards(
    reference: Policy,
    scorer: Scorer,
    part: Rollouts,
    present: torch.Tensor,
    signal: torch.Tensor,
) -> torch.Tensor:
    """Summed k3 estimate of KL(policy || reference) on the penalised positions, both under one
    noise record and one set of thoughts: exp(d) - d - 1, d = log ref - log policy in [-10, 10],
    beyond which one token would outweigh all others. `present` are the policy's log-probabilities.
    """
    judge = replace(scorer, policy=reference)
    with torch.no_grad():
        other = judge.log_probs(judge.replay(part), part, signal)
    difference = (other - present).clamp(-10, 10)
    mask = penalised_positions(part, scorer.latent_loss)
    return ((difference.exp() - difference - 1) * mask).sum()


def replay_gap(found: PartLoss, part: Rollouts, latent_loss: LatentLoss) -> torch.Tensor:
    """The largest difference in log-probability between a part's replay and its rollout."""
    difference = found.log_probs - sampled_log_probs(part, latent_loss)
    return (difference * scored_positions(part, latent_loss)).abs().max()

"""Feature-wise Bernoulli masks on residual-branch outputs, the common part of the mask family.

A mask has one entry per feature and none per position, with inverted scaling m = b/(1-p),
b ~ Bernoulli(1-p): it can be held while the sequence grows, and equals zeroing rows of weight
matrices, one draw of a posterior over parameters (Gal & Ghahramani's reading).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch

from latentbench.errors import InputError, refuse_unknown
from latentbench.keys import Key, Purpose
from latentbench.noise import (
    Effects,
    Gain,
    NoiseSource,
    Site,
    acts_at,
    check_scope,
    first_phase,
    kind_of,
)
from latentbench.records import NoiseRecord

KINDS = ("attention", "mlp", "embedding")
SCHEDULES = ("constant", "linear", "cosine")
PAIRS = ("none", "antithetic", "same")


@dataclass(frozen=True)
class FeatureMask(NoiseSource):
    """Knobs: `rate` p in [0, 1); `sites`, kinds out of attention, mlp, embedding; `scope`, the
    phases that are masked; `per_site`, whether each site draws its own mask or all share one.

    `schedule` moves p from `rate` to `rate_end` over `rate_updates` updates. `pairs` couples
    rollouts 2j and 2j+1 of a group: `antithetic` gives them u and 1-u, so that (for p up to 1/2) no
    feature is dropped in both, and at p = 1/2 one mask is the other's complement; `same` gives them
    one mask, so that the two halves of a group differ in their answers alone. With `replayed`
    false an update scores each rollout under another draw: the control for what replay is worth.
    """

    rate: float = 0.2
    sites: list[str] = field(default_factory=lambda: ["attention", "mlp"])
    scope: str = "prompt+latent"
    per_site: bool = True
    pairs: str = "none"
    schedule: str = "constant"
    rate_end: float = 0.0
    rate_updates: int | None = None
    replayed: bool = True

    acts_on: ClassVar[tuple[str, ...]] = ()  # sites that every model has
    strength: ClassVar[str | None] = "rate"

    def __post_init__(self) -> None:
        for name, rate in (("rate", self.rate), ("rate_end", self.rate_end)):
            if not 0.0 <= rate < 1.0:
                raise InputError(
                    f"noise.{name}={rate}: a mask rate lies in [0, 1), for example 0.2"
                )
        check_scope(self.scope)
        refuse_unknown("noise.pairs", self.pairs, PAIRS)
        refuse_unknown("noise.schedule", self.schedule, SCHEDULES)
        if self.rate_updates is not None and self.rate_updates < 1:
            raise InputError(f"noise.rate_updates={self.rate_updates}: must be at least 1")
        if self.schedule != "constant" and self.rate_updates is None:
            raise InputError(
                f"noise.schedule={self.schedule} with noise.rate_updates={self.rate_updates}: say "
                "over how many updates, for example 'noise.rate_updates=${rl.updates}'"
            )
        wrong = [kind for kind in self.sites if kind not in KINDS]
        if wrong or not self.sites:
            raise InputError(f"noise.sites={self.sites}: choose out of [{', '.join(KINDS)}]")

    @property
    def diverges(self) -> str:
        if self.rate == 0.0 and self.schedule == "constant":
            return "answer"  # every mask is all ones: the deterministic path, to the bit
        return first_phase(self.scope)

    def masks_per_rollout(self, latents: int) -> int:
        """How many masks one rollout draws per site."""
        raise NotImplementedError

    def column(self, step: int) -> int:
        """Which of them acts at a step."""
        raise NotImplementedError

    def rate_at(self, update: int) -> float:
        """The rate at an update."""
        if self.schedule == "constant" or self.rate_updates is None:
            return self.rate
        passed = min(update / self.rate_updates, 1.0)
        if self.schedule == "cosine":
            passed = (1.0 - math.cos(math.pi * passed)) / 2.0
        return (1.0 - passed) * self.rate + passed * self.rate_end

    def _rate_of(self, key: Key) -> float:
        """The rate of a draw: that of its update, and at test that of the schedule's end."""
        training = key.purpose in (Purpose.NOISE, Purpose.FRESH)
        return self.rate_at(key.step if training else self.rate_updates or 0)

    def draw(self, keys: Sequence[Key], sites: Mapping[str, Site], latents: int) -> NoiseRecord:
        widths = {s: site.width for s, site in sites.items() if kind_of(s) in self.sites}
        if self.diverges == "answer" or not widths:
            return NoiseRecord()
        distinct = widths if self.per_site else {"shared": max(widths.values())}
        shape = (self.masks_per_rollout(latents), sum(distinct.values()))
        draws = np.stack([self._uniforms(key, shape) for key in keys])
        rates = np.array([self._rate_of(key) for key in keys])[:, None, None]
        kept = torch.from_numpy(draws >= rates.astype(np.float32))
        gains = kept.to(torch.float32) / torch.from_numpy((1.0 - rates).astype(np.float32))
        parts = dict(zip(distinct, gains.split(list(distinct.values()), dim=-1), strict=True))
        if self.per_site:
            return NoiseRecord(parts)
        return NoiseRecord({site: parts["shared"][..., :width] for site, width in widths.items()})

    def _uniforms(self, key: Key, shape: tuple[int, int]) -> np.ndarray:
        """Uniform numbers in [0, 1), as coupled as `pairs` says."""
        if self.pairs == "none":
            return key.generator().random(shape, dtype=np.float32)
        pair, second = divmod(key.rollout, 2)
        draws = Key(key.seed, key.purpose, key.step, key.prompt, pair).generator()
        uniform = draws.random(shape, dtype=np.float32)
        if second and self.pairs == "antithetic":
            return np.float32(1.0 - 2.0**-24) - uniform  # stays in [0, 1)
        return uniform

    def gains(self, record: NoiseRecord, step: int) -> dict[str, torch.Tensor]:
        """The masks [row, 1, feature] of the sites that are masked at a step."""
        if not acts_at(self.scope, step):
            return {}
        column = self.column(step)
        return {site: masks[:, column, None, :] for site, masks in record.tensors.items()}

    def effects(self, record: NoiseRecord, step: int) -> Effects:
        return {site: Gain(gain) for site, gain in self.gains(record, step).items()}

"""Feature-wise Bernoulli masks on residual-branch outputs, the common part of the mask family.

A mask has one entry per feature and none per position, with inverted scaling m = b/(1-p),
b ~ Bernoulli(1-p): it can be held while the sequence grows, and equals zeroing rows of weight
matrices, one draw of a posterior over parameters (Gal & Ghahramani's reading).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from latentbench.errors import InputError
from latentbench.keys import Key
from latentbench.noise import ANSWER, PROMPT, Gains
from latentbench.records import NoiseRecord

SCOPES = ("latent", "prompt+latent", "all")
KINDS = ("attention", "mlp", "embedding")


@dataclass(frozen=True)
class FeatureMask:
    """Knobs: `rate` p in [0, 1); `sites`, kinds out of attention, mlp, embedding; `scope`, the
    phases that are masked; `per_site`, whether each site draws its own mask or all share one."""

    rate: float = 0.2
    sites: list[str] = field(default_factory=lambda: ["attention", "mlp"])
    scope: str = "prompt+latent"
    per_site: bool = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate < 1.0:
            raise InputError(f"noise.rate={self.rate}: a mask rate lies in [0, 1), for example 0.2")
        if self.scope not in SCOPES:
            raise InputError(f"noise.scope={self.scope}: choose one of {', '.join(SCOPES)}")
        wrong = [kind for kind in self.sites if kind not in KINDS]
        if wrong or not self.sites:
            raise InputError(f"noise.sites={self.sites}: choose out of [{', '.join(KINDS)}]")

    @property
    def diverges(self) -> str:
        if self.rate == 0.0:  # every mask is all ones: the deterministic path, to the bit
            return "answer"
        return "latent" if self.scope == "latent" else "prompt"

    def masks_per_rollout(self, latents: int) -> int:
        """How many masks one rollout draws per site."""
        raise NotImplementedError

    def column(self, step: int) -> int:
        """Which of them acts at a step."""
        raise NotImplementedError

    def draw(self, keys: Sequence[Key], sites: Mapping[str, int], latents: int) -> NoiseRecord:
        widths = {s: w for s, w in sites.items() if s.partition(".")[0] in self.sites}
        if self.rate == 0.0 or not widths:
            return NoiseRecord()
        distinct = widths if self.per_site else {"shared": max(widths.values())}
        shape = (self.masks_per_rollout(latents), sum(distinct.values()))
        draws = np.stack([key.generator().random(shape, dtype=np.float32) for key in keys])
        gains = torch.from_numpy(draws >= self.rate).to(torch.float32) / (1.0 - self.rate)
        parts = dict(zip(distinct, gains.split(list(distinct.values()), dim=-1), strict=True))
        if self.per_site:
            return NoiseRecord(parts)
        return NoiseRecord({site: parts["shared"][..., :width] for site, width in widths.items()})

    def gains(self, record: NoiseRecord, step: int) -> Gains:
        masked = {PROMPT: self.scope != "latent", ANSWER: self.scope == "all"}.get(step, True)
        if not masked:
            return {}
        column = self.column(step)
        return {site: masks[:, column, None, :] for site, masks in record.tensors.items()}

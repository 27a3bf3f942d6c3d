"""One Bernoulli mask per rollout, the same at every step of it (Dropout-GRPO, arXiv 2606.10184)."""

from __future__ import annotations

from dataclasses import dataclass

from latentbench.noise._mask import FeatureMask


@dataclass(frozen=True)
class SharedMask(FeatureMask):
    def masks_per_rollout(self, latents: int) -> int:
        return 1

    def column(self, step: int) -> int:
        return 0

"""A fresh Bernoulli mask at every latent step, replayed like any other record: the control arm that
isolates *sharing* the mask (LatentTTS, arXiv 2510.07745, resamples per step).

The prompt has mask 0, latent slot t mask t, and the answer one mask for all its tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from latentbench.noise._mask import FeatureMask


@dataclass(frozen=True)
class PerStepMask(FeatureMask):
    def masks_per_rollout(self, latents: int) -> int:
        return latents + 2

    def column(self, step: int) -> int:
        return step

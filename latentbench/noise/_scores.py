"""Gumbel noise on the scores of a mixture, the common part of the Gumbel family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from latentbench.errors import InputError
from latentbench.keys import Key
from latentbench.noise import NoiseSource, Site


class ScoreNoise(NoiseSource):
    """Knobs of the family: `scale` of the noise, and `top_p`, the nucleus of its candidates."""

    scale: float
    top_p: float

    acts_on: ClassVar[tuple[str, ...]] = ("scores",)
    strength: ClassVar[str | None] = "scale"

    def check(self, count: str) -> None:
        """Raises InputError for knobs out of range; `count` names a number of token types."""
        if not 0 <= self.scale < float("inf"):
            raise InputError(f"noise.scale={self.scale}: must be at least 0; 0 is no noise")
        if not 0 < self.top_p <= 1:
            raise InputError(f"noise.top_p={self.top_p}: must lie in (0, 1]; 1 keeps all")
        if getattr(self, count) < 1:
            raise InputError(f"noise.{count}={getattr(self, count)}: must be at least 1, e.g. 10")

    def check_size(self, count: str, size: int) -> None:
        """Refuse a `count` that there are not enough token types for. Raises InputError."""
        if getattr(self, count) > size:
            raise InputError(
                f"noise.{count}={getattr(self, count)}: this model can write {size} token types; "
                "choose at most that"
            )

    @property
    def diverges(self) -> str:
        return "latent" if self.scale > 0 else "answer"

    def gumbels(self, keys: Sequence[Key], scores: Site, latents: int) -> np.ndarray:
        """Standard Gumbel draws [row, step, token type], float64."""
        return np.stack([key.generator().gumbel(size=(latents, scores.width)) for key in keys])

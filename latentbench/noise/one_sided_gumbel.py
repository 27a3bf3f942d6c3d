"""One-sided clipped Gumbel noise on the scores of a mixture (Latent-GRPO, arXiv 2604.27998;
official sampler): s_i = log p_i + scale * (clip(G_i, -a, b) + a + delta); no score is pushed down.

Candidates are the nucleus, but at least `at_least` token types; the carrier mixes the best k of
them by their disturbed scores. `one_sided=false` leaves the shift out: the ablation that the paper
says collapses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from latentbench.errors import InputError
from latentbench.filters import keep, nucleus
from latentbench.keys import Key
from latentbench.noise import Effects, Site
from latentbench.noise._scores import ScoreNoise
from latentbench.records import NoiseRecord


@dataclass(frozen=True)
class OneSidedGumbel(ScoreNoise):
    """Knobs: `scale`; the clip `low` a and `high` b; `delta` (0 in the code, small and positive in
    the paper); `top_p` and `at_least`, the candidates."""

    scale: float = 1.0
    low: float = 1.5
    high: float = 3.0
    delta: float = 0.0
    one_sided: bool = True
    top_p: float = 0.95
    at_least: int = 10

    gumbel_margins: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("low", "high", "delta"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise InputError(f"noise.{name}={value}: must be at least 0")
        self.check("at_least")

    def check_vocabulary(self, size: int) -> None:
        """Refuse more candidates than there are token types. Raises InputError."""
        self.check_size("at_least", size)

    def draw(self, keys: Sequence[Key], sites: Mapping[str, Site], latents: int) -> NoiseRecord:
        if self.scale == 0:
            return NoiseRecord()
        draws = self.gumbels(keys, sites["scores"], latents)
        shift = self.low + self.delta if self.one_sided else 0.0
        noise = self.scale * (draws.clip(-self.low, self.high) + shift)
        return NoiseRecord({"scores": torch.from_numpy(noise.astype(np.float32))})

    def effects(self, record: NoiseRecord, step: int) -> Effects:
        if step < 1 or self.scale == 0:
            return {}

        def disturb(log_law: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            best = scores.topk(min(self.at_least, scores.shape[-1]), dim=-1).indices
            inside = nucleus(scores, self.top_p).scatter(-1, best, True)
            return keep(scores, inside) + record.tensors["scores"][:, step - 1]

        return {"scores": disturb}

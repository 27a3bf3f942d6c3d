"""The negative control: ordinary dropout on both residual branches, as `model.train()` would have
it: fresh masks at every forward, position and call, and NOT replayed.

The update scores a rollout under other masks than it was made with, against the log-probabilities
of the sampler: the ratio is not 1 at the old parameters, clipping fires at random, and the
estimator is biased.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from latentbench.errors import InputError
from latentbench.keys import Key
from latentbench.noise import Effects, NoiseSource, Site, acts_at, check_scope, first_phase, kind_of
from latentbench.records import NoiseRecord


@dataclass(frozen=True)
class NativeDropout(NoiseSource):
    """Knobs: `rate` p in [0, 1); `scope`, the phases that it acts in."""

    rate: float = 0.2
    scope: str = "prompt+latent"

    acts_on: ClassVar[tuple[str, ...]] = ()
    replayed: ClassVar[bool] = False
    strength: ClassVar[str | None] = "rate"

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate < 1.0:
            raise InputError(f"noise.rate={self.rate}: a mask rate lies in [0, 1), for example 0.2")
        check_scope(self.scope)

    @property
    def diverges(self) -> str:
        if self.rate == 0:
            return "answer"
        return first_phase(self.scope)

    def draw(self, keys: Sequence[Key], sites: Mapping[str, Site], latents: int) -> NoiseRecord:
        """Which sites are masked, and nothing of how: that is drawn at every forward."""
        masked = [site for site in sites if kind_of(site) in ("attention", "mlp")]
        return NoiseRecord(shared={site: torch.empty(0) for site in masked})

    def effects(self, record: NoiseRecord, step: int) -> Effects:
        if not acts_at(self.scope, step) or self.rate == 0:
            return {}
        return dict.fromkeys(record.shared, self._drop)

    def _drop(self, inputs: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(output, self.rate, training=True)

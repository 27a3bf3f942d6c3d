"""Carriers: how the last hidden state becomes the next input vector. One file each."""

from __future__ import annotations

from typing import Any, Protocol

import torch


class Carrier(Protocol):
    def __call__(self, hidden: torch.Tensor, model: Any) -> torch.Tensor:
        """hidden [row, feature] after the final norm -> next input vector [row, feature]."""
        ...

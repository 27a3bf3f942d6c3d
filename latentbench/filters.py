"""Filters of scores over token types: what is cut becomes -inf."""

from __future__ import annotations

import torch


def keep_top_k(scores: torch.Tensor, k: int) -> torch.Tensor:
    """The k largest scores [row, token type] of each row; ties are broken by position."""
    best = scores.topk(min(k, scores.shape[-1]), dim=-1).indices
    return keep(scores, torch.zeros_like(scores, dtype=torch.bool).scatter(-1, best, True))


def nucleus(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    """Which token types [row, token type] belong to the nucleus of softmax(scores): those before
    which less than `top_p` of the probability lies (arXiv 1904.09751). Never empty; all for 1."""
    if top_p >= 1:  # rounded sums reach 1 before the tail ends
        return torch.ones_like(scores, dtype=torch.bool)
    ordered = scores.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    before = ordered.values.cumsum(dim=-1) - ordered.values
    inside = before < top_p
    inside[..., 0] = True
    return torch.zeros_like(inside).scatter(-1, ordered.indices, inside)


def keep(scores: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """The scores where `inside`, -inf elsewhere."""
    return scores.masked_fill(~inside, float("-inf"))

"""The records that pass between the five calls of a training step, and the texts behind them.

Shapes are given as [axis, axis]; `row` is one rollout, rows stand in group-major order: the rollouts
of prompt 0 first. Tensors that do not depend on a rollout have a `prompt` axis instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch


def content_uid(text: str) -> int:
    """A 63-bit identity of a question by its content: the same on every machine and in every run."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


@dataclass(frozen=True)
class Item:
    """One problem as text: the question, its written-out steps, the gold answer."""

    question: str
    steps: tuple[str, ...]
    answer: str

    @property
    def uid(self) -> int:
        return content_uid(self.question)


@dataclass(frozen=True)
class Template:
    """The token contract of a data set: what stands after a question, a step, and before the answer.

    The official Coconut layout for GSM8K is the default: `question\\n`, `step\\n` ..., `### answer`.
    """

    question_end: str = "\n"
    step_end: str = "\n"
    answer_start: str = "### "


@dataclass(frozen=True)
class Splits:
    """The three disjoint parts of a data set and where they came from (files, revisions, digests)."""

    train: Sequence[Item]
    validation: Sequence[Item]
    test: Sequence[Item]
    provenance: Mapping[str, Any] = field(default_factory=dict)

"""The records that pass between the five calls of a training step, and the texts behind them.

Shapes are given as [axis, axis]; `row` is one rollout, and rows stand in group-major order: the
rollouts of prompt 0 first. Tensors that no rollout changes have a `prompt` axis instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch


def content_uid(text: str) -> int:
    """A 63-bit identity of a question by its content, the same on every machine."""
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
    """A data set's token contract: what follows a question and a step, what leads the answer in.

    The default is the official Coconut layout for GSM8K: `question\\n`, `step\\n`, `### answer`.
    """

    question_end: str = "\n"
    step_end: str = "\n"
    answer_start: str = "### "


@dataclass(frozen=True)
class Slots:
    """Latent slots of an experiment: `per_step` for each step replaced (Coconut's c), at most
    `max_stage` steps; `pad_to_max` gives problems with fewer steps the same number of slots."""

    per_step: int
    max_stage: int
    pad_to_max: bool


SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Splits:
    """The three disjoint parts of a data set, and where they came from."""

    train: Sequence[Item]
    validation: Sequence[Item]
    test: Sequence[Item]
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prompt:
    """A question as tokens: everything up to the latent slots, and the cue that ends them.

    `cue` is the token after which text is generated: `<|end-latent|>` for latent layouts, and the
    last token of the question itself where a layout has no markers.
    """

    uid: int
    ids: tuple[int, ...]
    cue: int
    gold: str = ""


@dataclass(frozen=True)
class PromptBatch:
    """Left-padded prompts: `ids`, `mask` [prompt, position]; `cue` [prompt]."""

    uids: tuple[int, ...]
    ids: torch.Tensor
    mask: torch.Tensor
    cue: torch.Tensor

    def __len__(self) -> int:
        return len(self.uids)

    def repeat(self, times: int) -> PromptBatch:
        """Each prompt `times` times, group-major."""
        return PromptBatch(
            uids=tuple(uid for uid in self.uids for _ in range(times)),
            ids=self.ids.repeat_interleave(times, dim=0),
            mask=self.mask.repeat_interleave(times, dim=0),
            cue=self.cue.repeat_interleave(times, dim=0),
        )


def collate_prompts(
    prompts: Sequence[Prompt], pad: int, device: torch.device | str = "cpu"
) -> PromptBatch:
    """Left-pad prompts so that the first latent slot stands in one column."""
    width = max(len(prompt.ids) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad, dtype=torch.long)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt.ids) :] = torch.tensor(prompt.ids)
        mask[row, width - len(prompt.ids) :] = 1
    return PromptBatch(
        uids=tuple(prompt.uid for prompt in prompts),
        ids=ids.to(device),
        mask=mask.to(device),
        cue=torch.tensor([prompt.cue for prompt in prompts], device=device),
    )


@dataclass(frozen=True)
class Text:
    """Right-padded token rows: `ids` [row, token] and `mask` [row, token] (1 on real tokens)."""

    ids: torch.Tensor
    mask: torch.Tensor

    def rows(self, index: torch.Tensor | slice) -> Text:
        return Text(self.ids[index], self.mask[index])


def collate_text(
    rows: Sequence[Sequence[int]], pad: int, device: torch.device | str = "cpu"
) -> Text:
    """Right-pad token rows."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[index, : len(row)] = 1
    return Text(ids.to(device), mask.to(device))


@dataclass(frozen=True)
class SftRow:
    """One problem of an SFT batch.

    `latents` slots, the prompt, the text to be predicted; `targets`, for each slot the tokens of
    the step that it stands for (none where it stands for no step); `written`, the text with all
    steps written out; `answer`, how many tokens at the end of both texts are the answer itself.
    """

    latents: int
    prompt: Prompt
    text: tuple[int, ...]
    targets: tuple[tuple[int, ...], ...] = ()
    written: tuple[int, ...] = ()
    answer: int = 1


@dataclass(frozen=True)
class NoiseRecord:
    """All that a noise source needs to act again exactly as it did: `tensors` with rows first, and
    `shared` ones that are the same for all rows."""

    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
    shared: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def rows(self, index: torch.Tensor | slice) -> NoiseRecord:
        picked = {name: tensor[index] for name, tensor in self.tensors.items()}
        return NoiseRecord(picked, self.shared)

    def to(self, device: torch.device | str) -> NoiseRecord:
        return NoiseRecord(
            {name: tensor.to(device) for name, tensor in self.tensors.items()},
            {name: tensor.to(device) for name, tensor in self.shared.items()},
        )


@dataclass(frozen=True)
class Thoughts:
    """The latent phase of some rows.

    `vectors` [row, step, feature] are the inputs of the latent slots, `sources` [row, step,
    feature] the hidden states that each was made from. `choice` is what a carrier mixed them of,
    [row, step, k]: `ids`, `scores`, `weights`, `log_probs`; empty for carriers that choose nothing.
    """

    vectors: torch.Tensor
    sources: torch.Tensor
    choice: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def rows(self, index: torch.Tensor | slice) -> Thoughts:
        choice = {name: tensor[index] for name, tensor in self.choice.items()}
        return Thoughts(self.vectors[index], self.sources[index], choice)

    def repeat(self, times: int) -> Thoughts:
        """Each row `times` times, group-major."""
        rows = torch.arange(len(self.vectors), device=self.vectors.device)
        return self if times == 1 else self.rows(rows.repeat_interleave(times))


@dataclass(frozen=True)
class Answers:
    """What the decoder wrote: `log_probs` [row, token] under the sampling law and the `entropy`
    [row, token] of that law in nats (both 0 where `text.mask` is 0), and which rows reached the
    token budget without an end of text (`truncated` [row])."""

    text: Text
    log_probs: torch.Tensor
    entropy: torch.Tensor
    truncated: torch.Tensor


@dataclass(frozen=True)
class Replay:
    """A rollout scored again with gradient.

    `log_probs`, `entropy` [row, token] (0 where `text.mask` is 0); `thoughts` [row, step, feature],
    the input vectors of the latent slots. `choice_log_probs` [row, step, k] are those of the token
    types that stored thoughts are mixed of; None where the thoughts were made again.
    """

    log_probs: torch.Tensor
    entropy: torch.Tensor
    thoughts: torch.Tensor
    choice_log_probs: torch.Tensor | None = None


def dispersion(states: torch.Tensor, group_size: int) -> float:
    """How far apart the states [row, feature] of a group lie: the deviation between its rows,
    relative to the root mean square of all. Exactly 0 where the rows of every group are equal."""
    if group_size < 2:
        return 0.0
    values = states.detach().float()
    grouped = values.reshape(-1, group_size, values.shape[-1])
    spread = grouped.var(dim=1, unbiased=True).mean().sqrt()
    return float(spread / values.square().mean().sqrt().clamp(min=1e-12))


@dataclass(frozen=True)
class Rollouts:
    """A batch of groups: `group_size` rollouts of each prompt, rows group-major.

    `last` [row, feature] are the hidden states after the last latent slot, `rewards` [prompt,
    rollout].
    """

    prompts: tuple[Prompt, ...]
    group_size: int
    noise: NoiseRecord
    thoughts: Thoughts
    last: torch.Tensor
    answers: Answers
    texts: tuple[str, ...]
    rewards: torch.Tensor

    @property
    def latents(self) -> int:
        """The number of latent slots."""
        return self.thoughts.vectors.shape[1]

    @property
    def dispersion(self) -> float:
        """How far apart the last states of a group lie, see `dispersion`."""
        return dispersion(self.last, self.group_size)

    def mixed(self) -> torch.Tensor:
        """Which groups have more than one distinct reward [prompt]."""
        return self.rewards.amax(dim=1) != self.rewards.amin(dim=1)

    def groups(self, index: Sequence[int]) -> Rollouts:
        """The sub-batch of the given prompts, whole groups only."""
        size = self.group_size
        places = [group * size + k for group in index for k in range(size)]
        rows = torch.tensor(places, dtype=torch.long, device=self.answers.log_probs.device)
        return Rollouts(
            prompts=tuple(self.prompts[g] for g in index),
            group_size=size,
            noise=self.noise.rows(rows),
            thoughts=self.thoughts.rows(rows),
            last=self.last[rows],
            answers=Answers(
                self.answers.text.rows(rows),
                self.answers.log_probs[rows],
                self.answers.entropy[rows],
                self.answers.truncated[rows],
            ),
            texts=tuple(self.texts[place] for place in places),
            rewards=self.rewards[torch.tensor(list(index), dtype=torch.long)],
        )


@dataclass(frozen=True)
class Groups:
    """What an advantage estimator sees, all [prompt, rollout]: rewards, which answers were
    truncated, and the mean log-probability of all scored positions when they were sampled. Always
    whole groups of the whole batch."""

    rewards: torch.Tensor
    truncated: torch.Tensor
    log_probs: torch.Tensor

    def pick(self, prompt: int, rollouts: torch.Tensor) -> Groups:
        """One group [1, rollout] with some of its rollouts."""
        return Groups(
            self.rewards[prompt, rollouts][None],
            self.truncated[prompt, rollouts][None],
            self.log_probs[prompt, rollouts][None],
        )


@dataclass(frozen=True)
class LossInput:
    """One micro-batch of scored positions, with the totals of the batch that it belongs to.

    `log_probs` (with gradient), `old_log_probs`, `mask`, `advantages` [row, position]: the tokens
    of the answer, led by the latent slots where these are scored. `total_rows` and `total_tokens`
    count rows and positions of the whole batch, so that micro-batch losses add up.
    """

    log_probs: torch.Tensor
    old_log_probs: torch.Tensor
    mask: torch.Tensor
    advantages: torch.Tensor
    total_rows: int
    total_tokens: int


@dataclass(frozen=True)
class LossOutput:
    """A scalar loss and its metrics, each a sum over this micro-batch's tokens."""

    loss: torch.Tensor
    sums: Mapping[str, torch.Tensor] = field(default_factory=dict)

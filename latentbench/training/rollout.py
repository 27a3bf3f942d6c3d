"""Rolling out groups: prefill -> think -> decode -> reward, in chunks of whole groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch.nn.functional import pad

from latentbench.errors import NotFinite
from latentbench.keys import Purpose, rollout_keys, uniforms
from latentbench.model.layout import Layout
from latentbench.model.policy import Decoding, Policy
from latentbench.records import (
    Answers,
    NoiseRecord,
    Prompt,
    Rollouts,
    Text,
    Thoughts,
    collate_prompts,
)
from latentbench.reward import Reward

SHOWN = 3


@torch.no_grad()
def roll_out(
    policy: Policy,
    prompts: Sequence[Prompt],
    layout: Layout,
    reward: Reward,
    decoding: Decoding,
    group_size: int,
    seed: int,
    step: int,
    max_rows: int,
) -> Rollouts:
    """`group_size` rollouts of each prompt, graded; at most `max_rows` rows in one forward.

    Draws depend on (seed, step, prompt uid, rollout index) alone, so chunking changes none.
    """
    device = policy.device

    def roll(chunk: Sequence[Prompt]) -> Rollouts:
        batch = collate_prompts(chunk, layout.markers.pad, device)
        noise_keys = rollout_keys(seed, Purpose.NOISE, step, batch.uids, group_size)
        record = policy.noise.draw(noise_keys, policy.sites(), policy.latents).to(device)
        draws = None
        if decoding.temperature > 0:
            answer_keys = rollout_keys(seed, Purpose.ANSWER, step, batch.uids, group_size)
            draws = torch.from_numpy(uniforms(answer_keys, decoding.budget)).to(device)
        state, thoughts = policy.latent_phase(batch, record, group_size)
        cue = batch.cue.repeat_interleave(group_size)
        answers = policy.decode(state, cue, record, decoding, draws)
        check_finite(answers, chunk, f"rl update {step}: rollouts")
        texts = tuple(answer_texts(answers.text, layout))
        golds = [prompt.gold for prompt in chunk for _ in range(group_size)]
        rewards = [reward(text, gold) for text, gold in zip(texts, golds, strict=True)]
        return Rollouts(
            prompts=tuple(chunk),
            group_size=group_size,
            noise=record,
            thoughts=thoughts,
            last=state.hidden,
            answers=answers,
            texts=texts,
            rewards=torch.tensor(rewards, dtype=torch.float32).reshape(len(chunk), group_size),
        )

    parts = [roll(chunk) for chunk in chunks(prompts, max(max_rows // group_size, 1))]
    return parts[0] if len(parts) == 1 else _join(parts, layout.markers.eos)


def chunks(items: Sequence, size: int) -> Iterator[Sequence]:
    """Consecutive pieces of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def check_finite(answers: Answers, prompts: Sequence[Prompt], where: str) -> None:
    """Raise NotFinite where the law of a written token was no law: its logits were not finite.

    `answers` are of `prompts`, as many of each; `where` says of which moment. An answer written
    from such logits is some token, and its grade no measurement.
    """
    bad = ~answers.log_probs.isfinite().all(dim=1)
    if not bool(bad.any()):
        return
    each = len(bad) // len(prompts)
    of = sorted({int(row) // each for row in bad.nonzero()[:, 0]})
    uids = ", ".join(f"{prompts[place].uid:016x}" for place in of[:SHOWN])
    more = " and others" if len(of) > SHOWN else ""
    raise NotFinite(
        f"{where}: the logits behind {int(bad.sum())} of {len(bad)} answers are not finite (items "
        f"{uids}{more}); the weights have come to harm: lower the learning rate, set a clip, or "
        "start from sound weights"
    )


def answer_texts(text: Text, layout: Layout) -> list[str]:
    """Each row as a grader reads it."""
    ids, lengths = text.ids.tolist(), text.mask.sum(dim=1).tolist()
    return [layout.decode(row[:length]) for row, length in zip(ids, lengths, strict=True)]


def _join(parts: Sequence[Rollouts], filler: int) -> Rollouts:
    width = max(part.answers.text.ids.shape[1] for part in parts)

    def widen(tensors: list[torch.Tensor], value: float = 0) -> torch.Tensor:
        return torch.cat([pad(t, (0, width - t.shape[1]), value=value) for t in tensors])

    answers = [part.answers for part in parts]
    records = [part.noise for part in parts]
    thoughts = [part.thoughts for part in parts]
    return Rollouts(
        prompts=tuple(prompt for part in parts for prompt in part.prompts),
        group_size=parts[0].group_size,
        noise=NoiseRecord(_stacked([r.tensors for r in records]), records[0].shared),
        thoughts=Thoughts(
            torch.cat([t.vectors for t in thoughts]),
            torch.cat([t.sources for t in thoughts]),
            _stacked([t.choice for t in thoughts]),
        ),
        last=torch.cat([part.last for part in parts]),
        answers=Answers(
            Text(
                widen([a.text.ids for a in answers], filler), widen([a.text.mask for a in answers])
            ),
            widen([a.log_probs for a in answers]),
            widen([a.entropy for a in answers]),
            torch.cat([a.truncated for a in answers]),
        ),
        texts=tuple(text for part in parts for text in part.texts),
        rewards=torch.cat([part.rewards for part in parts]),
    )


def _stacked(parts: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Tensors of the same names, rows under rows."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

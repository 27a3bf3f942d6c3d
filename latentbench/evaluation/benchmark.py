"""One benchmark under the matched protocol: a greedy answer and n sampled ones for every item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from latentbench.keys import Purpose, rollout_keys, uniforms
from latentbench.layout import Layout
from latentbench.noise.none import None_
from latentbench.policy import Decoding, Policy, State
from latentbench.records import Answers, NoiseRecord, Prompt, collate_prompts
from latentbench.rollout import answer_texts, chunks
from latentbench.schema import ProtocolConfig


@dataclass(frozen=True)
class Benchmark:
    """Items to be answered, as prompts, under the name that stands in every table.

    `questions` are the prompts' texts as published, for a person to read.
    """

    name: str
    prompts: tuple[Prompt, ...]
    questions: tuple[str, ...] = ()


@torch.no_grad()
def evaluate(
    policy: Policy,
    benchmark: Benchmark,
    layout: Layout,
    reward: Any,
    protocol: ProtocolConfig,
    budget: int,
    stage: str,
    advance: Callable[[int], None] = lambda items: None,
) -> pd.DataFrame:
    """The rows of items.parquet for one benchmark and stage, in the order of the items.

    A row's draws depend on (protocol.seed, item, sample) alone, so that all methods meet the same
    ones. `advance` is told how many items are done.
    """
    by_length = sorted(range(len(benchmark.prompts)), key=lambda i: len(benchmark.prompts[i].ids))
    rows: dict[int, list[dict[str, Any]]] = {}
    for chunk in chunks(by_length, max(protocol.batch_rows // protocol.samples, 1)):
        prompts = [benchmark.prompts[i] for i in chunk]
        greedy, sampled = _answer(policy, prompts, layout, protocol, budget)
        for place, index in enumerate(chunk):
            rows[index] = [
                {"decode": "greedy", "sample": 0, **greedy[place]},
                *(
                    {"decode": "sampled", "sample": sample, **answer}
                    for sample, answer in enumerate(
                        sampled[place * protocol.samples : (place + 1) * protocol.samples]
                    )
                ),
            ]
        advance(len(chunk))
    return pd.DataFrame(
        [
            _row(benchmark.name, prompt, stage, reward, policy.latents, answer)
            for index, prompt in enumerate(benchmark.prompts)
            for answer in rows[index]
        ]
    )


def _row(
    name: str, prompt: Prompt, stage: str, reward: Any, latents: int, answer: dict[str, Any]
) -> dict[str, Any]:
    text = answer["answer_text"]
    return {
        "benchmark": name,
        "item": f"{prompt.uid:016x}",
        "stage": stage,
        "decode": answer["decode"],
        "sample": answer["sample"],
        "answer_text": text,
        "prediction": reward.extract(text),
        "gold": prompt.gold,
        "correct": bool(reward(text, prompt.gold) == 1.0),
        "truncated": answer["truncated"],
        "latent_steps": latents,
        "answer_tokens": answer["answer_tokens"],
    }


def _answer(
    policy: Policy,
    prompts: Sequence[Prompt],
    layout: Layout,
    protocol: ProtocolConfig,
    budget: int,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The greedy answer and the samples of each prompt, group-major."""
    quiet, nothing = policy.under(None_()), NoiseRecord()
    batch = collate_prompts(prompts, layout.markers.pad, policy.device)
    state, _ = quiet.latent_phase(batch, nothing, group_size=1)
    greedy = quiet.decode(state, batch.cue, nothing, Decoding(0.0, budget))
    samples = protocol.samples
    explorer, record, start = quiet, nothing, state
    if protocol.explore == "answer":
        start = state.repeat(samples)
    else:
        keys = rollout_keys(protocol.seed, Purpose.TEST_NOISE, 0, batch.uids, samples)
        explorer = policy
        record = policy.noise.draw(keys, policy.sites(), policy.latents).to(policy.device)
        start, _ = policy.latent_phase(batch, record, samples)
    sampled = _sample(explorer, start, batch.cue, record, batch.uids, protocol, budget)
    return _described(greedy, layout), _described(sampled, layout)


def _sample(
    policy: Policy,
    state: State,
    cue: torch.Tensor,
    record: NoiseRecord,
    uids: Sequence[int],
    protocol: ProtocolConfig,
    budget: int,
) -> Answers:
    cue = cue.repeat_interleave(protocol.samples)
    if protocol.explore == "latent":
        return policy.decode(state, cue, record, Decoding(0.0, budget))
    keys = rollout_keys(protocol.seed, Purpose.TEST_ANSWER, 0, uids, protocol.samples)
    draws = torch.from_numpy(uniforms(keys, budget)).to(policy.device)
    return policy.decode(state, cue, record, Decoding(protocol.temperature, budget), draws)


def _described(answers: Answers, layout: Layout) -> list[dict[str, Any]]:
    texts = answer_texts(answers.text, layout)
    lengths = answers.text.mask.sum(dim=1).tolist()
    truncated = answers.truncated.tolist()
    return [
        {"answer_text": text, "answer_tokens": length, "truncated": cut}
        for text, length, cut in zip(texts, lengths, truncated, strict=True)
    ]

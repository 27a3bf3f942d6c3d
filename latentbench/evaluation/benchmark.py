"""One benchmark under the matched protocol: a greedy answer and n sampled ones for every item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch

from latentbench.config.sections import ProtocolConfig
from latentbench.evaluation.interventions import forced_thoughts, needs_thoughts, thoughts_of
from latentbench.keys import Purpose, rollout_keys, uniforms
from latentbench.model.layout import Layout
from latentbench.model.policy import Decoding, Policy, State
from latentbench.noise.none import None_
from latentbench.records import Answers, NoiseRecord, Prompt, collate_prompts
from latentbench.training.rollout import answer_texts, check_finite, chunks


@dataclass(frozen=True)
class Benchmark:
    """Items to be answered, as prompts, under the name that stands in every table.

    `questions` are the prompts' texts as published, for a person to read. `reward` grades the
    answers; `grader` is its name and settings as plain values; `provenance` says where the data
    set is from and which edition of it was read.
    """

    name: str
    prompts: tuple[Prompt, ...]
    questions: tuple[str, ...] = ()
    reward: Any = None
    grader: tuple[str, Mapping[str, Any]] = ("", {})
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Examination:
    """A policy before a benchmark: who answers what, how, and at which stage of a run.

    A row's draws depend on (protocol.seed, item, sample) alone, so that all methods meet the same
    ones; `policy.latents` is the number of slots under the protocol.
    """

    policy: Policy
    benchmark: Benchmark
    layout: Layout
    protocol: ProtocolConfig
    budget: int
    stage: str

    def plan(self) -> list[tuple[int, ...]]:
        """The places of the items that are answered together, short questions first.

        Always the same cut, so that answers do not depend on where an evaluation was interrupted.
        """
        prompts, protocol = self.benchmark.prompts, self.protocol
        by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i].ids))
        size = max(protocol.batch_rows // protocol.samples, 1)
        return [tuple(chunk) for chunk in chunks(by_length, size)]

    def forced(self) -> torch.Tensor | None:
        """What the intervention puts into the slots of all items [item, step, feature]."""
        if not needs_thoughts(self.protocol):
            return None
        prompts = self.benchmark.prompts
        thoughts = thoughts_of(self.policy, prompts, self.layout, self.plan())
        uids = [prompt.uid for prompt in prompts]
        return forced_thoughts(self.protocol.intervention, thoughts, uids, self.protocol.seed)

    @torch.no_grad()
    def answer(self, places: Sequence[int], forced: torch.Tensor | None) -> pd.DataFrame:
        """The rows of items.parquet for the items at `places`."""
        prompts = [self.benchmark.prompts[place] for place in places]
        own = None if forced is None else forced[list(places)]
        greedy, sampled = self._answers(prompts, own)
        samples = self.protocol.samples
        rows = []
        for place, prompt in enumerate(prompts):
            rows.append(self._row(prompt, "greedy", 0, greedy[place]))
            for sample in range(samples):
                answer = sampled[place * samples + sample]
                rows.append(self._row(prompt, "sampled", sample, answer))
        return pd.DataFrame(rows)

    def _row(
        self, prompt: Prompt, decode: str, sample: int, answer: Mapping[str, Any]
    ) -> dict[str, Any]:
        text, reward = answer["answer_text"], self.benchmark.reward
        before = sum(reward.failures.values())
        correct = bool(reward(text, prompt.gold) == 1.0)
        return {
            "benchmark": self.benchmark.name,
            "item": item_name(prompt),
            "stage": self.stage,
            "decode": decode,
            "sample": sample,
            "answer_text": text,
            "prediction": reward.extract(text),
            "gold": prompt.gold,
            "correct": correct,
            "truncated": answer["truncated"],
            "latent_steps": self.policy.latents,
            "answer_tokens": answer["answer_tokens"],
            "grader_failed": sum(reward.failures.values()) > before,
        }

    def _answers(
        self, prompts: Sequence[Prompt], forced: torch.Tensor | None
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The greedy answer and the samples of each prompt, group-major."""
        policy, protocol, layout = self.policy, self.protocol, self.layout
        quiet, nothing = policy.under(None_()), NoiseRecord()
        batch = collate_prompts(prompts, layout.markers.pad, policy.device)
        forced = None if forced is None else forced.to(policy.device)
        state, _ = quiet.latent_phase(batch, nothing, group_size=1, forced=forced)
        greedy = quiet.decode(state, batch.cue, nothing, Decoding(0.0, self.budget))
        where = f"evaluation of {self.benchmark.name} ({self.stage})"
        check_finite(greedy, prompts, where)
        samples = protocol.samples
        explorer, record, start = quiet, nothing, state
        if protocol.explore == "answer":
            start = state.repeat(samples)
        else:
            keys = rollout_keys(protocol.seed, Purpose.TEST_NOISE, 0, batch.uids, samples)
            explorer = policy
            record = policy.noise.draw(keys, policy.sites(), policy.latents).to(policy.device)
            each = None if forced is None else forced.repeat_interleave(samples, dim=0)
            start, _ = policy.latent_phase(batch, record, samples, forced=each)
        sampled = self._sample(explorer, start, batch.cue, record, batch.uids)
        check_finite(sampled, prompts, where)
        return _described(greedy, layout), _described(sampled, layout)

    def _sample(
        self,
        policy: Policy,
        state: State,
        cue: torch.Tensor,
        record: NoiseRecord,
        uids: Sequence[int],
    ) -> Answers:
        protocol, budget = self.protocol, self.budget
        cue = cue.repeat_interleave(protocol.samples)
        if protocol.explore == "latent":
            return policy.decode(state, cue, record, Decoding(0.0, budget))
        keys = rollout_keys(protocol.seed, Purpose.TEST_ANSWER, 0, uids, protocol.samples)
        draws = torch.from_numpy(uniforms(keys, budget)).to(policy.device)
        return policy.decode(state, cue, record, Decoding(protocol.temperature, budget), draws)


def item_name(prompt: Prompt) -> str:
    """An item's identity in all files."""
    return f"{prompt.uid:016x}"


def in_order(rows: pd.DataFrame, benchmark: Benchmark) -> pd.DataFrame:
    """Rows as they stand in items.parquet: in the order of the items, greedy first."""
    order = {item_name(prompt): place for place, prompt in enumerate(benchmark.prompts)}
    places = [order[item] for item in rows["item"]]
    return (
        rows.assign(_place=places)
        .sort_values(["_place", "decode", "sample"], kind="stable")
        .drop(columns="_place")
        .reset_index(drop=True)
    )


def _described(answers: Answers, layout: Layout) -> list[dict[str, Any]]:
    texts = answer_texts(answers.text, layout)
    lengths = answers.text.mask.sum(dim=1).tolist()
    truncated = answers.truncated.tolist()
    return [
        {"answer_text": text, "answer_tokens": length, "truncated": cut}
        for text, length, cut in zip(texts, lengths, truncated, strict=True)
    ]

"""The evaluation of one model: every benchmark under the protocol, part by part, resumable.

Each part is kept on disk as soon as its items are answered. With several devices the parts are
dealt out to processes, which changes no answer: what runs together is always the same.
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning
import pandas as pd
import torch
from torch.utils.data import DataLoader

from latentbench.config.sections import AnswerConfig, DeviceConfig, ProtocolConfig
from latentbench.errors import InputError
from latentbench.evaluation.benchmark import Benchmark, Examination, in_order, item_name
from latentbench.evaluation.interventions import steps_under
from latentbench.evaluation.loading import Home, items_digest, marked_grader
from latentbench.evaluation.second_opinion import second_opinion
from latentbench.evaluation.thoughts import look_at_thoughts
from latentbench.keys import Key, Purpose
from latentbench.model.layout import Layout
from latentbench.model.policy import Decoding, Policy, fresh_draws
from latentbench.runtime.device import device_of
from latentbench.runtime.parts import FOLDER, PartFiles, weights_fingerprint
from latentbench.runtime.progress import Bar
from latentbench.runtime.provenance import digest

log = logging.getLogger(__name__)


def evaluate(
    policy: Policy,
    layout: Layout,
    benchmarks: Sequence[Benchmark],
    protocol: ProtocolConfig,
    answer: AnswerConfig,
    trainer: DeviceConfig,
    stage: str,
    directory: Path,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of items.parquet and latents.parquet of one stage.

    Finished parts lie below `directory` until `forget_parts`. Weights, noise, carrier, benchmark
    and protocol name them, so an interrupted evaluation goes on and a changed one starts afresh.
    """
    policy = replace(policy, latents=steps_under(protocol, policy.latents))
    weights = weights_fingerprint(policy.model)
    workers = []
    for benchmark in benchmarks:
        examination = Examination(policy, benchmark, layout, protocol, answer.budget, stage)
        parts = PartFiles(directory / FOLDER / _identity(examination, weights))
        parts.sweep()
        workers.append(Worker(examination, parts, trainer.progress))
        if trainer.devices > 1:
            _spread(workers[-1], trainer)
        else:
            workers[-1].run()
    items = [in_order(worker.parts.rows(), worker.examination.benchmark) for worker in workers]
    for benchmark, rows in zip(benchmarks, items, strict=True):
        _tell_failures(benchmark, rows)
    looked = [pd.DataFrame()]
    if protocol.thought_items:
        policy.model.to(device_of(trainer.accelerator))
        decoding = Decoding(answer.temperature, answer.budget)
        shown = [(worker.examination, worker.forced) for worker in workers]
        with fresh_draws(policy.noise, Key(protocol.seed, Purpose.FRESH), policy.device):
            looked += [look_at_thoughts(one, decoding, forced) for one, forced in shown]
    return pd.concat(items, ignore_index=True), pd.concat(looked, ignore_index=True)


def second_opinions(
    items: pd.DataFrame, benchmarks: Sequence[Benchmark], grader: str | None, home: Home
) -> dict[str, float]:
    """How often another grader sees the final greedy answers differently, by benchmark.

    `<benchmark>/second_opinion` is the share of answers that differ; examples go to the log. Empty
    without a grader. Raises InputError for a name that is no reward.
    """
    if grader is None:
        return {}
    second = marked_grader(grader, "protocol.second_opinion", home)
    metrics = {}
    for benchmark in benchmarks:
        final = (items["stage"] == "final") & (items["decode"] == "greedy")
        rows = items.loc[final & (items["benchmark"] == benchmark.name)]
        texts, golds = rows["answer_text"].tolist(), rows["gold"].tolist()
        found = second_opinion(texts, golds, rows["correct"].tolist(), second)
        if found.rate is None:
            log.info("%s: %s can read none of its gold answers", benchmark.name, grader)
            continue
        metrics[f"{benchmark.name}/second_opinion"] = found.rate
        log.info(
            "%s: %s disagrees on %d of %d greedy answers",
            benchmark.name,
            grader,
            found.disagreements,
            found.compared,
        )
        if found.failures:
            log.info(
                "%s: %d comparisons of %s came to no end and counted as not equal",
                benchmark.name,
                found.failures,
                grader,
            )
        for case in found.examples:
            log.info(
                "  %r, gold %s: %s, %s %s", case.text, case.gold, case.first, grader, case.second
            )
    return metrics


def forget_parts(directory: Path) -> None:
    """Remove the part files once their rows stand in items.parquet."""
    shutil.rmtree(directory / FOLDER, ignore_errors=True)


def questions_of(benchmarks: Sequence[Benchmark]) -> pd.DataFrame:
    """The rows of questions.parquet: what each item of items.parquet asks, once."""
    rows = [
        {"benchmark": b.name, "item": item_name(prompt), "question": question}
        for b in benchmarks
        for prompt, question in zip(b.prompts, b.questions, strict=True)
    ]
    return pd.DataFrame(rows)


def protocol_identity(
    protocol: ProtocolConfig, budget: int, latents: int, benchmarks: Sequence[Benchmark]
) -> str:
    """A hash of what must agree for two runs to stand in one table.

    `latents` is how many slots the model was trained with. The marker of the answers is a habit of
    the model and no part of the protocol.
    """
    return digest(
        {
            "items": {b.name: items_digest(b) for b in benchmarks},
            "graders": {b.name: [b.grader[0], _without_marker(b.grader[1])] for b in benchmarks},
            "split": protocol.split,
            "samples": protocol.samples,
            "ks": list(protocol.ks),
            "temperature": protocol.temperature,
            "explore": protocol.explore,
            "seed": protocol.seed,
            "latents": steps_under(protocol, latents),
            "intervention": protocol.intervention,
            "budget": budget,
        }
    )


def _without_marker(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != "marker"}


def benchmarks_record(benchmarks: Sequence[Benchmark]) -> dict[str, Any]:
    """`benchmarks` of result.json: how each is graded, the marker included, and which edition of
    which data set its items are from."""
    return {
        b.name: {
            "items": len(b.prompts),
            "grader": b.grader[0],
            "grader_settings": dict(b.grader[1]),
            "provenance": dict(b.provenance),
        }
        for b in benchmarks
    }


def check_protocol_fits(
    protocol: ProtocolConfig, latents: int, benchmarks: Sequence[Benchmark], who: str
) -> None:
    """Refuse latent steps and interventions that a model or a benchmark cannot have.

    `latents` is how many slots the model was trained with; `who` names it. Raises InputError.
    """
    if latents == 0 and (protocol.latent_steps or protocol.intervention != "none"):
        key = "latent_steps" if protocol.latent_steps else "intervention"
        raise InputError(
            f"protocol.{key}={getattr(protocol, key)}: {who} has no latent slots; leave it out, or "
            "evaluate a model that thinks in latents"
        )
    for benchmark in benchmarks:
        if protocol.intervention == "shuffle" and len(benchmark.prompts) < 2:
            raise InputError(
                f"protocol.intervention=shuffle: eval={benchmark.name} has "
                f"{len(benchmark.prompts)} item, and no other one's thoughts to give it; raise "
                "its limit"
            )


def _identity(examination: Examination, weights: str) -> str:
    """The name of an evaluation's parts: all that its rows depend on."""
    policy, benchmark, protocol = (
        examination.policy,
        examination.benchmark,
        asdict(examination.protocol),
    )
    for free in ("batch_rows", "ks", "thought_items", "second_opinion"):
        del protocol[free]
    content = [
        weights,
        repr(policy.carrier),
        repr(policy.noise),
        policy.latents,
        list(policy.forbidden),
        list(policy.ends),
        [[p.uid, list(p.ids), p.cue, p.gold] for p in benchmark.prompts],
        list(benchmark.grader),
        protocol,
        examination.budget,
    ]
    return f"{examination.stage}-{benchmark.name}-{digest(content)}"


@dataclass
class Worker:
    """One process's share of an evaluation: every `world`-th part of the plan."""

    examination: Examination
    parts: PartFiles
    progress: str
    known: set[str] = field(default_factory=set)
    right: int = 0
    seen: int = 0

    @cached_property
    def forced(self) -> torch.Tensor | None:
        """What the intervention puts into the slots of all items, once somebody asks for it."""
        return self.examination.forced()

    def run(self) -> None:
        """All of it, in this process."""
        bar = self.start(0, 1)
        try:
            for chunk in self.examination.plan():
                self.do(chunk, bar)
        finally:
            bar.close()

    def start(self, rank: int, world: int) -> Bar:
        """Look at what is done already, and show a bar."""
        rows = self.parts.rows()
        self.known = set() if rows.empty else set(rows["item"].tolist())
        prompts, benchmark = self.examination.benchmark.prompts, self.examination.benchmark
        share = [i for chunk in self.examination.plan()[rank::world] for i in chunk]
        mine = [item_name(prompts[i]) for i in share]
        if not rows.empty:
            self._count(rows.loc[rows["item"].isin(mine)])
        title = f"evaluate {self.examination.stage} on {benchmark.name}"
        title += f" (process {rank + 1} of {world})" if world > 1 else ""
        return Bar(title, len(share), self.progress if rank == 0 else "quiet", done=self.seen)

    def do(self, chunk: Sequence[int], bar: Bar) -> None:
        """Answer the items of one part that have no answers yet, and keep them."""
        prompts = self.examination.benchmark.prompts
        missing = [i for i in chunk if item_name(prompts[i]) not in self.known]
        if not missing:
            return
        policy, protocol = self.examination.policy, self.examination.protocol
        key, forced = Key(protocol.seed, Purpose.FRESH, 0, prompts[missing[0]].uid), self.forced
        with fresh_draws(policy.noise, key, policy.device):
            rows = self.examination.answer(missing, forced)
        self.parts.add(rows)
        self._count(rows)
        bar.advance(len(missing), f"accuracy {self.right / self.seen:.1%}")

    def _count(self, rows: pd.DataFrame) -> None:
        grades = rows.loc[rows["decode"] == "greedy", "correct"].to_numpy(dtype=bool)
        self.seen += len(grades)
        self.right += int(grades.sum())


class Predictor(lightning.LightningModule):
    """The worker of one process of Lightning's predict loop; a batch is a part of the plan."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self.worker = worker
        self.model = worker.examination.policy.model
        self.bar: Bar | None = None

    def predict_dataloader(self) -> Any:
        # As many parts for each process, some of them empty: Lightning stops at one without any.
        plan, world = self.worker.examination.plan(), self.trainer.world_size
        mine = [*plan, *[()] * (-len(plan) % world)][self.trainer.global_rank :: world]
        return DataLoader(mine, batch_size=None, collate_fn=lambda chunk: chunk)  # type: ignore

    def on_predict_start(self) -> None:
        if not logging.getLogger().handlers:  # a fresh process
            logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
        self.bar = self.worker.start(self.trainer.global_rank, self.trainer.world_size)

    def predict_step(self, batch: Sequence[int], batch_idx: int) -> None:
        assert self.bar is not None
        self.worker.do(batch, self.bar)

    def on_predict_end(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _spread(worker: Worker, trainer: DeviceConfig) -> None:
    """Run an evaluation on several devices, a process each; they meet in the part files alone."""
    started = lightning.Trainer(
        accelerator=trainer.accelerator,
        devices=trainer.devices,
        strategy="ddp_spawn",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    started.predict(Predictor(worker), return_predictions=False)


def _tell_failures(benchmark: Benchmark, rows: pd.DataFrame) -> None:
    count = int(rows["grader_failed"].to_numpy().sum())
    if count:
        log.warning(
            "%s: %s came to no end on %d of %d answers, which count as wrong",
            benchmark.name,
            benchmark.grader[0],
            count,
            len(rows),
        )

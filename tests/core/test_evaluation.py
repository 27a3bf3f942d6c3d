"""Answers, interventions and numbers of latent steps, against one uncached row at a time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from checks import FORBIDDEN, LATENTS, LAYOUT, make_policy, make_prompts, twin

from latentbench.analysis.metrics import summary_metrics
from latentbench.analysis.runs import ITEM_COLUMNS
from latentbench.config.sections import AnswerConfig, ProtocolConfig, TrainerConfig
from latentbench.errors import InputError
from latentbench.evaluation.benchmark import Benchmark, Examination, in_order, item_name
from latentbench.evaluation.interventions import (
    derangement,
    forced_thoughts,
    steps_under,
    thoughts_of,
)
from latentbench.evaluation.stage import (
    benchmarks_record,
    check_protocol_fits,
    evaluate,
    protocol_identity,
)
from latentbench.model.policy import Policy
from latentbench.noise.shared_mask import SharedMask
from latentbench.records import NoiseRecord, Prompt, collate_prompts
from latentbench.reward import Reward
from latentbench.reward.exact_number import ExactNumber
from latentbench.runtime.parts import PartFiles, weights_fingerprint

BUDGET = 5
QUIET = TrainerConfig(accelerator="cpu", progress="quiet")


class FirstDigit(Reward):
    """Right where the first digit of the answer is even."""

    def extract(self, text: str) -> str | None:
        return text[:1] or None

    def __call__(self, text: str, gold: str) -> float:
        return float(text[:1] in ("0", "2", "4", "6"))


def benchmark(count: int = 7) -> Benchmark:
    prompts = tuple(make_prompts(count))
    return Benchmark("b", prompts, tuple(map(str, range(count))), FirstDigit(), ("first", {}))


def protocol(**changes: Any) -> ProtocolConfig:
    return replace(ProtocolConfig(samples=2, ks=[1, 2], thought_items=2), **changes)


def run(policy: Policy, folder: Path, chosen: ProtocolConfig, tests: Any = None) -> pd.DataFrame:
    return evaluate(
        policy,
        LAYOUT,
        [tests or benchmark()],
        chosen,
        AnswerConfig(1.0, BUDGET),
        QUIET,
        "final",
        folder,
    )[0]


# -- the naive side: one row, everything forwarded again for each slot and token -------------------


def naive_row(
    policy: Policy, prompt: Prompt, slots: list[torch.Tensor] | int
) -> tuple[torch.Tensor, list[int]]:
    """Thoughts [step, feature] and greedy tokens of one row, with these vectors in the slots, or
    with so many thoughts of its own."""
    table = policy.model.get_input_embeddings().weight

    def hidden(columns: list[torch.Tensor]) -> torch.Tensor:
        vectors = torch.stack(columns)[None]
        output = policy.model(inputs_embeds=vectors, output_hidden_states=True, use_cache=False)
        return output.hidden_states[-1][0, -1]

    columns = [table[token] for token in prompt.ids]
    start = len(columns)
    for slot in range(slots if isinstance(slots, int) else len(slots)):
        columns.append(hidden(columns) if isinstance(slots, int) else slots[slot])
    thoughts = torch.stack(columns[start:]) if len(columns) > start else torch.zeros(0, 32)
    tokens: list[int] = [prompt.cue]
    for _ in range(BUDGET):
        columns.append(table[tokens[-1]])
        logits = hidden(columns) @ policy.model.get_output_embeddings().weight.T
        logits[list(FORBIDDEN)] = float("-inf")
        tokens.append(int(logits.argmax()))
        if tokens[-1] == policy.eos:
            break
    return thoughts, tokens[1:]


def naive_texts(policy: Policy, slots: list[Any]) -> list[str]:
    prompts = benchmark().prompts
    rows = [naive_row(policy, prompt, own) for prompt, own in zip(prompts, slots, strict=True)]
    return [LAYOUT.decode(tokens) for _, tokens in rows]


def greedy_texts(rows: pd.DataFrame) -> list[str]:
    return rows.loc[rows["decode"] == "greedy", "answer_text"].tolist()


@pytest.fixture
def policy() -> Policy:
    return make_policy(twin("gpt2", dtype=torch.float64))


@pytest.fixture
def own(policy: Policy) -> torch.Tensor:
    """The thoughts [item, step, feature] of all items, the naive way."""
    with torch.no_grad():
        return torch.stack([naive_row(policy, p, LATENTS)[0] for p in benchmark().prompts])


def in_slots(kind: str, own: torch.Tensor) -> list[Any]:
    """What an intervention leaves in the slots of each item, worked out apart from the package."""
    items = len(own)
    if kind == "none":
        return [LATENTS] * items
    if kind == "skip":
        return [0] * items
    if kind == "zero":
        return [[torch.zeros(32, dtype=torch.float64)] * LATENTS] * items
    if kind == "mean":
        return [list(sum(own[1:], own[0]) / items)] * items
    uids = [prompt.uid for prompt in benchmark().prompts]
    if kind == "shuffle":
        words = (0, 0, 10, 1, 0, 0, 0)  # one cycle through the items in the order of their uids
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))
        cycle, ordered = generator.permutation(items).tolist(), sorted(uids)
        after = {ordered[a]: ordered[b] for a, b in zip(cycle, [*cycle[1:], cycle[0]], strict=True)}
        return [list(own[uids.index(after[uid])]) for uid in uids]
    mean = own.numpy().mean(axis=0)
    deviation = np.sqrt(((own.numpy() - mean) ** 2).mean(axis=0))
    drawn = []
    for uid in uids:
        words = (0, 0, 10, 0, *divmod(uid, 2**32), 0)
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))
        drawn.append(list(torch.tensor(mean + deviation * generator.standard_normal(mean.shape))))
    return drawn


KINDS = ("none", "zero", "mean", "shuffle", "skip", "noise")


@pytest.mark.parametrize("kind", KINDS)
def test_an_intervention_is_what_it_says(
    kind: str, policy: Policy, own: torch.Tensor, tmp_path: Path
) -> None:
    rows = run(policy, tmp_path, protocol(intervention=kind, batch_rows=6))
    with torch.no_grad():
        assert greedy_texts(rows) == naive_texts(policy, in_slots(kind, own))
    assert set(rows["latent_steps"]) == {0 if kind == "skip" else LATENTS}


def test_interventions_change_answers(policy: Policy, tmp_path: Path) -> None:
    """Or the test above would not tell them apart."""
    seen = {
        kind: tuple(greedy_texts(run(policy, tmp_path, protocol(intervention=kind))))
        for kind in KINDS
    }
    assert len(set(seen.values())) == len(KINDS)


@pytest.mark.parametrize("steps", [0, 1, LATENTS, LATENTS + 2])
def test_any_number_of_latent_steps(steps: int, policy: Policy, tmp_path: Path) -> None:
    rows = run(policy, tmp_path, protocol(latent_steps=steps))
    with torch.no_grad():
        assert greedy_texts(rows) == naive_texts(policy, [steps] * 7)
    assert set(rows["latent_steps"]) == {steps}


def test_samples_have_the_intervention_too(policy: Policy, tmp_path: Path) -> None:
    """Almost greedy samples equal the greedy answers, whatever stands in the slots; and the noise
    of the latent phase acts on forced thoughts as well."""
    for kind in KINDS:
        rows = run(policy, tmp_path, protocol(intervention=kind, temperature=1e-6))
        greedy = greedy_texts(rows)
        sampled = rows.loc[rows["decode"] == "sampled", "answer_text"].tolist()
        assert sampled == [text for text in greedy for _ in range(2)]
    noisy = policy.under(SharedMask(rate=0.7, scope="latent"))
    rows = run(noisy, tmp_path, protocol(intervention="zero", explore="latent", samples=8))
    sampled = rows[rows["decode"] == "sampled"]
    assert sampled.groupby("item")["answer_text"].nunique().max() > 1


@pytest.mark.parametrize("batch_rows", [2, 6, 1000])
@pytest.mark.parametrize("kind", ["shuffle", "noise", "mean"])
def test_batches_do_not_matter(kind: str, batch_rows: int, policy: Policy, tmp_path: Path) -> None:
    chosen = protocol(intervention=kind)
    one = run(policy, tmp_path / "a", chosen)
    other = run(policy, tmp_path / "b", replace(chosen, batch_rows=batch_rows))
    pd.testing.assert_frame_equal(one, other)


def test_forced_vectors_are_fed_to_the_slots(policy: Policy, own: torch.Tensor) -> None:
    """Hidden states after the slots equal those of a row with these inputs, to rounding."""
    prompts = benchmark().prompts
    batch = collate_prompts(prompts, LAYOUT.markers.pad)
    forced = torch.randn(7, LATENTS, 32, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        state, thoughts = policy.latent_phase(batch, NoiseRecord(), 1, forced=forced)
        assert torch.equal(thoughts.vectors, forced)
        table = policy.model.get_input_embeddings().weight
        for row, prompt in enumerate(prompts):
            vectors = torch.cat([table[torch.tensor(prompt.ids)], forced[row]])[None]
            output = policy.model(inputs_embeds=vectors, output_hidden_states=True)
            assert torch.allclose(state.hidden[row], output.hidden_states[-1][0, -1], atol=1e-12)
        plan = Examination(policy, benchmark(), LAYOUT, protocol(), BUDGET, "final").plan()
        assert torch.allclose(thoughts_of(policy, prompts, LAYOUT, plan), own, atol=1e-12)


def test_a_derangement_moves_every_item_and_follows_the_items() -> None:
    rng = np.random.default_rng(0)
    for count in (2, 3, 10, 101):
        uids = [int(uid) for uid in rng.integers(2**63, size=count)]
        partner = derangement(uids, 3)
        assert sorted(partner) == list(range(count))
        assert all(here != there for here, there in enumerate(partner))
        given = {uids[here]: uids[there] for here, there in enumerate(partner)}
        order = rng.permutation(count)
        mixed = [uids[place] for place in order]
        again = derangement(mixed, 3)
        assert {mixed[here]: mixed[there] for here, there in enumerate(again)} == given
    assert derangement(uids, 3) != derangement(uids, 4)


def test_noise_has_the_mean_and_deviation_of_the_thoughts() -> None:
    generator = torch.Generator().manual_seed(0)
    thoughts = torch.randn(4000, 2, 3, generator=generator) * torch.tensor([1.0, 3.0, 0.1]) + 5.0
    drawn = forced_thoughts("noise", thoughts, list(range(4000)), 0)
    assert torch.allclose(drawn.mean(dim=0), thoughts.mean(dim=0), atol=0.2)
    assert torch.allclose(drawn.std(dim=0), thoughts.std(dim=0), rtol=0.06)
    flat = np.corrcoef(drawn.reshape(4000, 6).numpy(), rowvar=False) - np.eye(6)
    assert abs(flat).max() < 0.06
    assert torch.equal(drawn[7:9], forced_thoughts("noise", thoughts, list(range(4000)), 0)[7:9])


def test_steps_under_a_protocol() -> None:
    assert steps_under(protocol(), 6) == 6
    assert steps_under(protocol(latent_steps=2), 6) == 2
    assert steps_under(protocol(latent_steps=0), 6) == 0
    assert steps_under(protocol(intervention="skip"), 6) == 0


# -- parts: interrupted, continued -----------------------------------------------------------------


class Counting:
    """Notes which rows go through the model, and stops after so many parts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> None:
        self.answered: Counter[int] = Counter()
        self.left = stop_after
        original = Examination.answer

        def answer(examination: Examination, places: Any, forced: Any) -> pd.DataFrame:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left = None if self.left is None else self.left - 1
            self.answered.update(places)
            return original(examination, places, forced)

        monkeypatch.setattr(Examination, "answer", answer)


@pytest.mark.parametrize("kind", ["none", "shuffle"])
@pytest.mark.parametrize("stop_after", [0, 1, 2, 3])
def test_an_interrupted_evaluation_goes_on(
    kind: str, stop_after: int, policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is answered twice or counted twice, and the file is the same to the byte."""
    chosen = protocol(batch_rows=4, intervention=kind)
    whole = run(policy, tmp_path / "whole", chosen)
    whole.to_parquet(tmp_path / "whole.parquet")
    with monkeypatch.context() as patch:
        counting = Counting(patch, stop_after)
        with pytest.raises(KeyboardInterrupt):
            run(policy, tmp_path / "cut", chosen)
        counting.left = None
        run(policy, tmp_path / "cut", chosen).to_parquet(tmp_path / "cut.parquet")
        assert counting.answered == Counter(dict.fromkeys(range(7), 1))
        again = run(policy, tmp_path / "cut", chosen)
        assert sum(counting.answered.values()) == 7
    assert (tmp_path / "cut.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    pd.testing.assert_frame_equal(again, whole)


def test_other_batches_after_an_interruption_still_answer_each_item_once(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting(monkeypatch, stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        run(policy, tmp_path, protocol(batch_rows=4))
    counting.left = None
    rows = run(policy, tmp_path, protocol(batch_rows=6))
    assert counting.answered == Counter(dict.fromkeys(range(7), 1))
    assert rows.groupby("item").size().tolist() == [3] * 7


def test_parts_of_something_else_are_not_taken(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other weights, carrier, noise, protocol, grader or questions start afresh."""
    counting = Counting(monkeypatch)

    def answered(who: Policy, chosen: ProtocolConfig, tests: Benchmark | None = None) -> int:
        counting.answered.clear()
        run(who, tmp_path, chosen, tests)
        return sum(counting.answered.values())

    base = protocol()
    assert answered(policy, base) == 7
    assert answered(policy, replace(base, ks=[1], batch_rows=8, thought_items=0)) == 0
    other = make_policy(twin("gpt2", seed=1, dtype=torch.float64))
    assert answered(other, base) == 7
    assert answered(policy.under(SharedMask(rate=0.3)), base) == 7
    assert answered(replace(policy, latents=2), base) == 7
    for change in ({"seed": 1}, {"temperature": 0.5}, {"samples": 3}, {"intervention": "zero"}):
        assert answered(policy, replace(base, **change)) == 7
    assert answered(policy, base, replace(benchmark(), grader=("other", {}))) == 7
    assert answered(policy, base, benchmark(4)) == 4
    assert answered(policy, base) == 0


def test_an_unreadable_part_is_named(policy: Policy, tmp_path: Path) -> None:
    run(policy, tmp_path, protocol())
    part = next(tmp_path.rglob("*.parquet"))
    part.write_bytes(b"torn")
    with pytest.raises(InputError, match=rf"{part}.*delete it"):
        run(policy, tmp_path, protocol())


def test_weights_have_a_fingerprint() -> None:
    one, same, other = twin("gpt2"), twin("gpt2"), twin("gpt2")
    assert weights_fingerprint(one) == weights_fingerprint(same)
    with torch.no_grad():
        other.transformer.h[1].mlp.c_fc.bias[3] += 1e-6
    assert weights_fingerprint(one) != weights_fingerprint(other)
    assert weights_fingerprint(one) != weights_fingerprint(twin("gpt2").double())


# -- files and metrics -----------------------------------------------------------------------------


def test_rows_have_the_columns_that_the_analysis_reads(policy: Policy, tmp_path: Path) -> None:
    rows = run(policy, tmp_path, protocol())
    assert tuple(rows.columns) == (*ITEM_COLUMNS, "grader_failed")
    names = [item_name(prompt) for prompt in benchmark().prompts]
    assert rows["item"].tolist() == [name for name in names for _ in range(3)]
    assert rows["decode"].tolist() == ["greedy", "sampled", "sampled"] * 7
    assert rows["sample"].tolist() == [0, 0, 1] * 7
    shuffled = rows.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(in_order(shuffled, benchmark()), rows)
    metrics = summary_metrics(rows, [1, 2])
    greedy = rows[rows["decode"] == "greedy"]
    assert metrics["b/pass@1"] == pytest.approx(greedy["correct"].mean())
    any_right = rows[rows["decode"] == "sampled"].groupby("item")["correct"].any()
    assert metrics["b/coverage"] == metrics["b/pass@2"] == pytest.approx(any_right.mean())
    assert metrics["b/latent_steps"] == LATENTS
    assert metrics["b/truncated"] == pytest.approx(greedy["truncated"].mean())


def test_what_each_latent_would_say(policy: Policy, tmp_path: Path) -> None:
    """One row for rollout and step; under an intervention the table shows what was in the slot."""
    answer = AnswerConfig(1.0, BUDGET)
    looked = {
        kind: evaluate(
            policy,
            LAYOUT,
            [benchmark()],
            protocol(intervention=kind),
            answer,
            QUIET,
            "final",
            tmp_path,
        )[1]
        for kind in ("none", "zero", "skip")
    }
    assert len(looked["none"]) == len(looked["zero"]) == 2 * 2 * LATENTS
    assert looked["skip"].empty
    assert not np.stack(looked["zero"]["vector"]).any()
    first = looked["none"].iloc[0]
    head = policy.model.get_output_embeddings().weight.detach().float()
    logits = head @ torch.tensor(first["vector"])
    logits[list(FORBIDDEN)] = float("-inf")
    best = int(logits.argmax())
    assert first["top_tokens"][0] == LAYOUT.tokenizer.decode([best])
    assert first["top_probs"][0] == pytest.approx(float(logits.softmax(0)[best]), rel=1e-4)


def test_a_result_under_another_protocol_never_shares_a_table() -> None:
    tests = [benchmark()]
    same = protocol_identity(protocol(), 5, 3, tests)
    assert same == protocol_identity(protocol(batch_rows=8, thought_items=0), 5, 3, tests)
    assert same == protocol_identity(protocol(latent_steps=3), 5, 3, tests)
    others = [
        protocol_identity(protocol(latent_steps=2), 5, 3, tests),
        protocol_identity(protocol(intervention="zero"), 5, 3, tests),
        protocol_identity(protocol(intervention="skip"), 5, 3, tests),
        protocol_identity(protocol(latent_steps=0), 5, 3, tests),
        protocol_identity(protocol(), 6, 3, tests),
        protocol_identity(protocol(), 5, 3, [replace(tests[0], grader=("first", {"relative": 1}))]),
        protocol_identity(protocol(), 5, 3, [replace(tests[0], grader=("second", {}))]),
        protocol_identity(protocol(), 5, 3, [benchmark(6)]),
    ]
    assert len({same, *others}) == len(others) + 1


def test_a_models_marker_is_no_part_of_the_protocol(policy: Policy, tmp_path: Path) -> None:
    """Models that lead their answers in differently share a table, and are graded differently."""
    tests = [replace(benchmark(), grader=("g", {"marker": m, "relative": 0})) for m in ("#", ":")]
    one, other = (protocol_identity(protocol(), 5, 3, [test]) for test in tests)
    assert one == other
    marked = [benchmarks_record([test])["b"]["grader_settings"]["marker"] for test in tests]
    assert marked == ["#", ":"]
    for test in tests:
        run(policy, tmp_path, protocol(), test)
    assert len(list((tmp_path / "evaluation").iterdir())) == 2  # parts of one are not the other's


class Failing(FirstDigit):
    """Comes to no end on answers that begin with a 3; counts them, and others' before them."""

    def __init__(self) -> None:
        self.counts = {"timed_out": 40, "crashed": 2}

    @property
    def failures(self) -> dict[str, int]:
        return self.counts

    def __call__(self, text: str, gold: str) -> float:
        self.counts["timed_out"] += text[:1] == "3"
        return 0.0 if text[:1] == "3" else super().__call__(text, gold)


def test_answers_that_the_grader_gave_up_on_are_counted(policy: Policy, tmp_path: Path) -> None:
    """Per answer, so that they survive an interruption and other processes; the log says so."""
    chosen = protocol(samples=8, temperature=3.0)
    rows = run(policy, tmp_path, chosen, replace(benchmark(), reward=Failing()))
    begins = rows["answer_text"].str[:1] == "3"
    assert begins.any() and rows["grader_failed"].tolist() == begins.tolist()
    assert summary_metrics(rows, [1])["b/grader_failures"] == begins.sum()
    again = run(policy, tmp_path, chosen, replace(benchmark(), reward=Failing()))
    pd.testing.assert_frame_equal(again, rows)
    assert not run(policy, tmp_path / "sound", chosen)["grader_failed"].any()


def test_an_intervention_is_computed_when_it_is_needed(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for a benchmark, and not at all where every item has its answers already."""
    asked: list[str] = []
    original = Examination.forced

    def forced(examination: Examination) -> Any:
        asked.append(examination.benchmark.name)
        return original(examination)

    monkeypatch.setattr(Examination, "forced", forced)
    chosen = protocol(intervention="mean", batch_rows=4, thought_items=0)
    first = run(policy, tmp_path, chosen)
    assert asked == ["b"]
    pd.testing.assert_frame_equal(run(policy, tmp_path, chosen), first)
    assert asked == ["b"]


@pytest.mark.parametrize(
    ("changes", "latents", "count", "message"),
    [
        ({"latent_steps": 2}, 0, 7, "protocol.latent_steps=2: method=cot has no latent slots"),
        ({"intervention": "zero"}, 0, 7, "protocol.intervention=zero: method=cot has no latent"),
        ({"intervention": "shuffle"}, 3, 1, "protocol.intervention=shuffle: eval=b has 1 item"),
    ],
)
def test_what_cannot_be_intervened_on_is_refused(
    changes: dict[str, Any], latents: int, count: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_protocol_fits(protocol(**changes), latents, [benchmark(count)], "method=cot")
    check_protocol_fits(protocol(latent_steps=0), 0, [benchmark(1)], "method=cot")


def test_parts_hold_each_item_once(tmp_path: Path) -> None:
    parts = PartFiles(tmp_path / "p")
    assert parts.rows().empty
    parts.add(pd.DataFrame({"item": ["a", "a"], "sample": [0, 1]}))
    parts.add(pd.DataFrame({"item": ["b"], "sample": [0]}))
    (tmp_path / "p" / ".x.parquet.abc.part").write_bytes(b"half")
    parts.sweep()
    assert sorted(parts.rows()["item"]) == ["a", "a", "b"]
    assert len(list((tmp_path / "p").iterdir())) == 2


def test_the_reward_of_a_benchmark_grades_it(policy: Policy, tmp_path: Path) -> None:
    """Two benchmarks with the same questions, each by its own grader."""
    strict = replace(benchmark(), name="strict", reward=ExactNumber(), grader=("exact_number", {}))
    answer = AnswerConfig(1.0, BUDGET)
    rows, _ = evaluate(
        policy, LAYOUT, [benchmark(), strict], protocol(), answer, QUIET, "final", tmp_path
    )
    by_name = {name: part for name, part in rows.groupby("benchmark")}
    assert by_name["b"]["answer_text"].tolist() == by_name["strict"]["answer_text"].tolist()
    assert by_name["b"]["correct"].any() and not by_name["strict"]["correct"].any()

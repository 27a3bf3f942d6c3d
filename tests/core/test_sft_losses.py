"""The losses of the supervised stage against unbatched, uncached computations, and what their rows
say of slots and answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checks import LAYOUT, gap, gradient_gap, gradients, make_layout, naive_hidden, twin, untouched
from plain import FEW, log_law, policy_with

from latentbench.carrier.mixture import Mixture
from latentbench.config.sections import SftConfig
from latentbench.curriculum.at_once import AtOnce
from latentbench.curriculum.coconut import Coconut
from latentbench.data._chains import solve
from latentbench.errors import InputError
from latentbench.model.layout import Layout
from latentbench.model.policy import Policy
from latentbench.model.tokenizer import add_markers, load_tokenizer
from latentbench.records import Item, SftRow, Slots, Template
from latentbench.sft_loss.distill import Distill
from latentbench.sft_loss.lexical import Lexical
from latentbench.sft_loss.text import TextLoss
from latentbench.training.data import Stages, sft_rows, slot_targets
from latentbench.training.sft import SftModule

GPT2_FILES = Path(__file__).resolve().parents[3] / "shared" / "data" / "gpt2_bpe"
needs_gpt2 = pytest.mark.skipif(not GPT2_FILES.is_dir(), reason="no GPT-2 tokenizer files here")
F64 = torch.float64
SLOTS = Slots(per_step=1, max_stage=3, pad_to_max=True)
PAIRS = Slots(per_step=2, max_stage=2, pad_to_max=True)
ITEMS = [
    solve((1, 2), "+", 10),
    solve((3, 4, 9), "+-", 10),
    solve((7, 1, 1, 2), "++-", 10),
    solve((5, 5, 5, 5, 5), "-+-+", 10),
]
CONFIG = SftConfig(lr=1e-3, batch_size=4, stages=[1])


def rows_of(
    loss: Any, curriculum: Any = None, slots: Slots = SLOTS, stage: int = 3
) -> list[SftRow]:
    return sft_rows(ITEMS, stage, 0, curriculum or Coconut(), slots, LAYOUT, CONFIG, 0, loss.needs)


def shares(loss: Any, policy: Policy, rows: Sequence[SftRow]) -> torch.Tensor:
    """The batch's loss: the shares of rows with equal numbers of slots, added up."""
    total = torch.zeros((), dtype=F64)
    for latents in sorted({row.latents for row in rows}):
        alike = [row for row in rows if row.latents == latents]
        own = replace(policy, latents=latents)
        total = total + loss(own, alike, rows, LAYOUT.markers.pad)
    return total


# -- the naive side ------------------------------------------------------------------------------


def thoughts_and_hidden(
    policy: Policy, row: SftRow, latents: int, text: Sequence[int]
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The hidden states before each slot; and of embeddings and blocks before each token."""
    model = policy.model
    table = model.get_input_embeddings().weight
    columns, sources = [table[token] for token in row.prompt.ids], []
    for _ in range(latents):
        source = naive_hidden(model, columns, [0] * len(columns), untouched)[-1]
        sources.append(source)
        columns = [*columns, naive_thought(policy, source)]
    columns = columns + [table[token] for token in (row.prompt.cue, *text[:-1])]
    output = model(
        inputs_embeds=torch.stack(columns)[None], output_hidden_states=True, use_cache=False
    )
    layers = [hidden[0, -len(text) :] for hidden in output.hidden_states]
    return sources, layers


def naive_thought(policy: Policy, source: torch.Tensor) -> torch.Tensor:
    if not isinstance(policy.carrier, Mixture):
        return source
    logits = policy.model.get_output_embeddings().weight @ source
    best = [t for t in logits.argsort(descending=True).tolist() if t not in policy.forbidden]
    kept = best[: policy.carrier.k]
    weights = logits[kept].exp() / logits[kept].exp().sum()
    return weights @ policy.model.get_input_embeddings().weight[kept]


def cross_entropy(policy: Policy, hidden: torch.Tensor, text: Sequence[int]) -> torch.Tensor:
    """Over the whole vocabulary: training text may hold anything."""
    logits = hidden @ policy.model.get_output_embeddings().weight.T
    return sum(
        (logits[i].logsumexp(0) - logits[i, token] for i, token in enumerate(text)),
        torch.zeros((), dtype=F64),
    )


def naive_text(policy: Policy, rows: Sequence[SftRow]) -> torch.Tensor:
    total = torch.zeros((), dtype=F64)
    for row in rows:
        _, layers = thoughts_and_hidden(policy, row, row.latents, row.text)
        total = total + cross_entropy(policy, layers[-1], row.text)
    return total / sum(len(row.text) for row in rows)


@pytest.mark.parametrize("carrier", [None, Mixture(k=6)], ids=["hidden", "mixture"])
def test_text_loss_is_the_mean_over_the_batchs_tokens(exact_model: Any, carrier: Any) -> None:
    policy = policy_with(exact_model, carrier)
    rows = rows_of(TextLoss())
    found, truth = shares(TextLoss(), policy, rows), naive_text(policy, rows)
    assert gap(found, truth) < 1e-10
    slopes = gradients(exact_model, found), gradients(exact_model, truth)
    assert gradient_gap(*slopes) < 1e-9


# -- lexical -------------------------------------------------------------------------------------


def soft_label(target: Sequence[int], size: int) -> np.ndarray:
    label = np.zeros(size)
    for token in target:
        label[token] += 1 / len(target)
    return label


@pytest.mark.parametrize("slots", [SLOTS, PAIRS], ids=["one_slot", "two_slots"])
@pytest.mark.parametrize("carrier", [None, Mixture(k=6)], ids=["hidden", "mixture"])
def test_the_lexical_loss_adds_the_slots_mean_kl(carrier: Any, slots: Slots) -> None:
    """KL(soft label || p) in NumPy float64 on the law before each slot; the text beside it."""
    policy = policy_with(twin("gpt2", dtype=F64), carrier)
    loss = Lexical(weight=0.7)
    rows = rows_of(loss, slots=slots, stage=slots.max_stage)
    terms = []
    for row in rows:
        sources, _ = thoughts_and_hidden(policy, row, row.latents, row.text)
        for source, target in zip(sources, row.targets, strict=True):
            if target:
                law = log_law(source.detach().numpy(), policy.model, FEW)
                label = soft_label(target, len(law))
                on = label > 0
                terms.append(float((label[on] * (np.log(label[on]) - law[on])).sum()))
    assert min(terms) >= 0 and len(terms) < sum(row.latents for row in rows)
    expected = float(naive_text(policy, rows).detach()) + 0.7 * np.mean(terms)
    assert abs(float(shares(loss, policy, rows).detach()) - expected) < 1e-10


def test_the_gradient_of_the_lexical_loss_is_that_of_the_formula() -> None:
    policy = policy_with(twin("llama", dtype=F64), Mixture(k=6))
    loss = Lexical(weight=0.7)
    rows = rows_of(loss)
    terms = []
    for row in rows:
        sources, _ = thoughts_and_hidden(policy, row, row.latents, row.text)
        for source, target in zip(sources, row.targets, strict=True):
            if target:
                logits = policy.model.get_output_embeddings().weight @ source
                allowed = [t for t in range(len(logits)) if t not in FEW]
                law = logits - logits[allowed].logsumexp(0)
                terms.append(-sum((law[token] for token in target), law[0] * 0) / len(target))
    truth = naive_text(policy, rows) + 0.7 * torch.stack(terms).mean()
    slopes = gradients(policy.model, shares(loss, policy, rows)), gradients(policy.model, truth)
    assert gradient_gap(*slopes) < 1e-9


def test_without_targets_the_lexical_loss_is_the_text_loss() -> None:
    policy = policy_with(twin("gpt2", dtype=F64))
    rows = rows_of(Lexical(), stage=0)
    assert all(row.latents == 0 and row.targets == () for row in rows)
    assert torch.equal(shares(Lexical(), policy, rows), shares(TextLoss(), policy, rows))
    rows = rows_of(Lexical())
    weightless = shares(Lexical(weight=0.0), policy, rows)
    assert gap(weightless, shares(TextLoss(), policy, rows)) < 1e-12


def test_slots_stand_for_their_steps_tokens() -> None:
    steps = [(1, 2, 3), (4, 5), (6,)]
    one, two = Slots(1, 4, True), Slots(2, 3, True)
    assert slot_targets(steps, 2, one) == ((1, 2, 3), (4, 5))
    assert slot_targets(steps, 4, one) == ((1, 2, 3), (4, 5), (6,), ())
    assert slot_targets(steps, 0, one) == ()
    halves = slot_targets(steps, 6, two)
    assert halves[2:4] == ((4,), (5,))
    assert halves[0] + halves[1] == (1, 2, 3) and 1 <= len(halves[0]) <= 2
    assert sorted(map(len, halves[4:])) == [0, 1]
    assert slot_targets(steps[:1], 6, two)[2:] == ((),) * 4, "slots beyond the last step"
    assert slot_targets([], 3, one) == ((), (), ())


def test_rows_carry_the_targets_of_their_stage() -> None:
    """At stage 2 the first two steps are latent; the shortest problem has one, and a slot left."""
    rows = rows_of(Lexical(), stage=2)
    for item, row in zip(ITEMS, rows, strict=True):
        tokens = [LAYOUT.tokenizer(step)["input_ids"] for step in item.steps]
        known = [tuple(t) for t in tokens[:2]]
        assert row.targets == (*known, *[()] * (row.latents - len(known)))
    assert rows[0].targets[1:] == ((),)
    assert all(row.targets == () and row.written == () for row in rows_of(TextLoss()))


# -- distill -------------------------------------------------------------------------------------


def smooth_l1(difference: torch.Tensor) -> torch.Tensor:
    size = difference.abs()
    return torch.where(size < 1, size**2 / 2, size - 0.5)


def naive_distill(policy: Policy, rows: Sequence[SftRow], loss: Distill, alike: int) -> Any:
    """Teacher and student one row at a time; the deviation over the rows of a micro-batch."""
    student = [thoughts_and_hidden(policy, row, row.latents, row.text)[1] for row in rows]
    teacher = [thoughts_and_hidden(policy, row, 0, row.written)[1] for row in rows]
    total = naive_text(policy, rows)
    own = sum(
        (
            cross_entropy(policy, layers[-1], row.written)
            for layers, row in zip(teacher, rows, strict=True)
        ),
        torch.zeros((), dtype=F64),
    )
    total = total + loss.teacher_weight * own / sum(len(row.written) for row in rows)
    for start in range(0, len(rows), alike):
        part = range(start, min(start + alike, len(rows)))
        first = 0 if loss.embeddings else 1
        for layer in range(first, len(student[0])):
            goals = torch.stack([teacher[i][layer][-rows[i].answer] for i in part]).detach()
            found = torch.stack([student[i][layer][-rows[i].answer] for i in part])
            spread = (((goals - goals.mean()) ** 2).sum() / (goals.numel() - 1)).sqrt()
            distance = (smooth_l1(found - goals) / spread).mean(dim=1).sum()
            total = total + loss.weight * distance / len(rows) / (len(student[0]) - first)
    return total


@pytest.mark.parametrize(
    "loss", [Distill(), Distill(0.5, 0.3, last_step=True, embeddings=False)], ids=repr
)
@pytest.mark.parametrize("alike", [4, 2])
def test_distillation_is_student_teacher_and_the_distance_before_the_answer(
    family: str, loss: Distill, alike: int
) -> None:
    """Smooth L1 over the teacher's deviation, the mean over the embedding layer, blocks and
    features; no gradient to the goal."""
    policy = policy_with(twin(family, dtype=F64))
    rows = rows_of(loss, AtOnce(), stage=0)
    assert {row.latents for row in rows} == {3}
    found = torch.zeros((), dtype=F64)
    for start in range(0, 4, alike):
        found = found + loss(policy, rows[start : start + alike], rows, LAYOUT.markers.pad)
    truth = naive_distill(policy, rows, loss, alike)
    assert gap(found, truth) < 1e-9
    slopes = gradients(policy.model, found), gradients(policy.model, truth)
    assert gradient_gap(*slopes) < 1e-8


@pytest.mark.parametrize("last_step", [False, True])
def test_rows_carry_the_written_text_and_the_length_of_the_answer(last_step: bool) -> None:
    """The state before the answer is the same place in both texts: right after its lead. The
    teacher leaves the last step out, unless it is told to write it."""
    for item, row in zip(ITEMS, rows_of(Distill(last_step=last_step), AtOnce()), strict=True):
        assert row.written == LAYOUT.text(item, item.steps if last_step else item.steps[:-1])
        assert row.text == LAYOUT.text(item, ())
        assert LAYOUT.decode(row.written[-row.answer :]) == item.answer
        assert LAYOUT.decode(row.text[: -row.answer]) == "#"
        assert row.written[-row.answer - 1] == row.text[-row.answer - 1]


@pytest.mark.parametrize("loss", [Lexical, Distill])
def test_a_weight_out_of_range_is_refused(loss: Any) -> None:
    for weight in (-1.0, float("inf"), float("nan")):
        with pytest.raises(InputError, match=r"sft_loss\.weight="):
            loss(weight=weight)


# -- the answer's own tokens ---------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["7", "12", "-3", "1,000"])
@pytest.mark.parametrize("lead", ["#", "### ", ""])
def test_answer_tokens_of_characters_are_its_characters_and_the_end(answer: str, lead: str) -> None:
    layout = replace(make_layout(), template=Template("", "", lead))
    item = Item("1+1", (), answer)
    assert layout.answer_tokens(item) == len(answer) + 1


def gpt2_layout(template: Template) -> Layout:
    tokenizer = load_tokenizer(str(GPT2_FILES), None)
    return Layout(tokenizer, add_markers(tokenizer), template, True)


@needs_gpt2
@pytest.mark.parametrize("answer", ["7", "12", "18000", "-3", "2.5", "1,000", "0"])
def test_answer_tokens_of_gpt2_begin_after_the_lead(answer: str) -> None:
    """`### 18`: the space belongs to the answer's first token; the lead is all before it."""
    layout = gpt2_layout(Template())
    item = Item("q", ("<<1+1=2>>",), answer)
    count = layout.answer_tokens(item)
    for steps in ((), item.steps):
        text = layout.text(item, steps)
        assert text[-1] == layout.markers.eos
        assert layout.tokenizer.decode(text[-count:-1]) == " " + answer
        assert layout.tokenizer.decode(text[:-count]).endswith("###")


@needs_gpt2
def test_answer_tokens_of_gpt2_may_share_no_token_with_the_lead() -> None:
    layout = gpt2_layout(Template(answer_start="The answer is: "))
    count = layout.answer_tokens(Item("q", (), "42"))
    text = layout.text(Item("q", (), "42"), ())
    assert layout.tokenizer.decode(text[-count:-1]) == " 42"


# -- at once -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [0, 1, 5])
def test_at_once_makes_all_steps_latent_from_the_first_stage(stage: int) -> None:
    """Coconut's last stage, whatever the stage; and the stage that it is tested in is 0."""
    for slots in (SLOTS, PAIRS, replace(SLOTS, pad_to_max=False), Slots(2, 4, False)):
        for item in ITEMS:
            found = AtOnce().split(item, stage, slots)
            assert found == Coconut().split(item, slots.max_stage + 1, slots)
            steps = slots.max_stage if slots.pad_to_max else min(slots.max_stage, len(item.steps))
            assert found == (steps * slots.per_step, ())
        assert AtOnce().last_stage(slots) == 0 and AtOnce().markers


@pytest.mark.parametrize("loss", [TextLoss(), Lexical(), Distill()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("curriculum", [Coconut(), AtOnce()], ids=["coconut", "at_once"])
def test_the_module_adds_the_shares_up(loss: Any, curriculum: Any) -> None:
    """The gradient of the batch, rows with different numbers of slots in micro-batches of their
    own; distillation takes its deviations from these."""
    slots = replace(SLOTS, pad_to_max=False)
    policy = policy_with(twin("gpt2", dtype=F64))
    stages = Stages((1,), "updates", 1)
    module: Any = SftModule(policy, LAYOUT, curriculum, slots, stages, loss, CONFIG, 0)
    module.manual_backward = lambda value: value.backward()
    rows = rows_of(loss, curriculum, slots, stage=4)
    assert len({row.latents for row in rows}) > 1
    policy.model.zero_grad(set_to_none=True)
    reported = module._backward(rows)
    found = [parameter.grad.clone() for parameter in policy.model.parameters()]
    truth = shares(loss, policy, rows)
    assert abs(reported - float(truth.detach())) < 1e-9
    assert gradient_gap(found, gradients(policy.model, truth)) < 1e-9

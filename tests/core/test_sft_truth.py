"""The supervised stage against a plain implementation of the official Coconut code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checks import LAYOUT, gradient_gap, make_layout, make_policy, twin

from latentbench.carrier.hidden import Hidden
from latentbench.config.sections import ModelConfig, SftConfig, TrainerConfig
from latentbench.curriculum.coconut import Coconut
from latentbench.curriculum.cot import Cot
from latentbench.curriculum.no_cot import NoCot
from latentbench.data._chains import solve
from latentbench.data.arithmetic import Arithmetic
from latentbench.keys import Key, Purpose
from latentbench.model.backbone import create
from latentbench.model.layout import Layout
from latentbench.model.tokenizer import MARKERS, add_markers, load_tokenizer
from latentbench.records import Item, Prompt, SftRow, Slots, Template
from latentbench.sft_loss._pass import summed_cross_entropy, supervised_pass
from latentbench.sft_loss.text import TextLoss
from latentbench.training.data import Stages, TrainingData, sft_rows
from latentbench.training.fitting import fit
from latentbench.training.sft import SftModule

GPT2_FILES = Path(__file__).resolve().parents[3] / "shared" / "data" / "gpt2_bpe"
needs_gpt2 = pytest.mark.skipif(not GPT2_FILES.is_dir(), reason="no GPT-2 tokenizer files here")
QUIET = TrainerConfig(accelerator="cpu", progress="quiet", checkpoint_every=10_000)
SLOTS = Slots(per_step=1, max_stage=3, pad_to_max=True)
ITEMS = [
    solve((1, 2), "+", 10),
    solve((3, 4, 9), "+-", 10),
    solve((7, 1, 1, 2), "++-", 10),
    solve((5, 5, 5, 5, 5), "-+-+", 10),
]


def config(**changes: Any) -> SftConfig:
    base: dict[str, Any] = {"lr": 1e-3, "batch_size": 4, "stages": [1, 1, 1, 1]}
    base |= changes
    return SftConfig(**base)


# -- the official forward, one row at a time, without cache ---------------------------------------


def official_row(
    item: Item, latents: int, steps: Sequence[str], layout: Layout
) -> tuple[list[int], list[int]]:
    """Tokens and labels of the official dataset.py: -100 on all that is not text."""

    def tokens(text: str) -> list[int]:
        return layout.tokenizer(text, add_special_tokens=False)["input_ids"]

    marks = layout.markers
    lead = tokens(item.question + layout.template.question_end)
    if layout.latent:
        lead = [*lead, marks.start, *[marks.latent] * latents, marks.end]
    text = [t for step in steps for t in tokens(step + layout.template.step_end)]
    text += [*tokens(layout.template.answer_start + item.answer), marks.eos]
    return lead + text, [-100] * len(lead) + text


def official_loss(
    model: Any, ids: Sequence[int], labels: Sequence[int], latent: int
) -> torch.Tensor:
    """Summed cross-entropy; latent slots filled by slicing and stacking, run again each time."""
    vectors = model.get_input_embeddings()(torch.tensor(ids))
    for place in [i for i, token in enumerate(ids) if token == latent]:
        output = model(inputs_embeds=vectors[None, :place], output_hidden_states=True)
        columns = [vectors[i] for i in range(len(ids))]
        columns[place] = output.hidden_states[-1][0, place - 1]
        vectors = torch.stack(columns)
    law = torch.log_softmax(model(inputs_embeds=vectors[None]).logits[0], dim=-1)
    scored = [i for i in range(1, len(ids)) if labels[i] != -100]
    return -torch.stack([law[i - 1, labels[i]] for i in scored]).sum()


def official_batch(
    model: Any, curriculum: Any, stage: int, slots: Slots, layout: Layout
) -> tuple[float, list[torch.Tensor]]:
    """The batch's mean token loss and its gradient."""
    total, tokens = torch.zeros((), dtype=model.dtype), 0
    for item in ITEMS:
        latents, steps = curriculum.split(item, stage, slots)
        row = official_row(item, latents, steps, layout)
        total = total + official_loss(model, *row, layout.markers.latent)
        tokens += sum(label != -100 for label in row[1])
    loss = total / tokens
    return loss.item(), list(torch.autograd.grad(loss, list(model.parameters())))


def module_of(
    model: Any, curriculum: Any, layout: Layout, slots: Slots = SLOTS, **changes: Any
) -> Any:
    """An SFT module that can go backward without a trainer."""
    settings = config(**changes)
    stages = Stages(tuple(settings.stages), settings.unit, 1)
    policy = make_policy(model)
    module: Any = SftModule(policy, layout, curriculum, slots, stages, TextLoss(), settings, 0)
    module.manual_backward = lambda loss: loss.backward()
    return module


def batch_of(
    model: Any, curriculum: Any, stage: int, slots: Slots, layout: Layout, **changes: Any
) -> tuple[float, list[torch.Tensor]]:
    """The same by the SFT module."""
    module = module_of(model, curriculum, layout, slots, **changes)
    rows = sft_rows(ITEMS, stage, 0, curriculum, slots, layout, module.config, 0)
    model.zero_grad(set_to_none=True)
    loss = module._backward(rows)
    return loss, [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize("stage", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("pad_to_max", [True, False])
def test_coconut_loss_and_gradient_are_the_official_ones(
    model: Any, stage: int, pad_to_max: bool
) -> None:
    slots = replace(SLOTS, pad_to_max=pad_to_max)
    loss, slopes = batch_of(model, Coconut(), stage, slots, LAYOUT)
    expected, truth = official_batch(model, Coconut(), stage, slots, LAYOUT)
    assert abs(loss - expected) <= 1e-6
    assert gradient_gap(slopes, truth) <= 1e-5


def test_two_slots_per_step_are_the_official_ones(gpt2: Any) -> None:
    slots = Slots(per_step=2, max_stage=2, pad_to_max=True)
    for stage in (1, 2, 3):
        loss, slopes = batch_of(gpt2, Coconut(), stage, slots, LAYOUT)
        expected, truth = official_batch(gpt2, Coconut(), stage, slots, LAYOUT)
        assert abs(loss - expected) <= 1e-6 and gradient_gap(slopes, truth) <= 1e-5


@pytest.mark.parametrize("curriculum", [Cot(), NoCot()], ids=["cot", "no_cot"])
def test_layouts_without_markers_are_plain_language_modelling(model: Any, curriculum: Any) -> None:
    layout = make_layout(latent=False)
    loss, slopes = batch_of(model, curriculum, 0, SLOTS, layout)
    expected, truth = official_batch(model, curriculum, 0, SLOTS, layout)
    assert abs(loss - expected) <= 1e-6
    assert gradient_gap(slopes, truth) <= 1e-5


@pytest.mark.parametrize("stage", [0, 2, 4])
def test_micro_batches_do_not_change_the_gradient(stage: int) -> None:
    """Of rows with different numbers of slots and tokens, in float64."""
    slots = replace(SLOTS, pad_to_max=False)
    model = twin("gpt2", dtype=torch.float64)
    whole, truth = batch_of(model, Coconut(), stage, slots, LAYOUT, micro_batch=1024)
    truth = [slope.clone() for slope in truth]
    for size in (1, 3):
        loss, slopes = batch_of(model, Coconut(), stage, slots, LAYOUT, micro_batch=size)
        assert abs(loss - whole) < 1e-12
        assert gradient_gap(slopes, truth) < 1e-12


def summed(policy: Any, rows: list[SftRow]) -> torch.Tensor:
    return summed_cross_entropy(policy, supervised_pass(policy, rows, LAYOUT.markers.pad))


def test_only_text_is_scored() -> None:
    """Summed loss of n text tokens: with a head of zeros it is n log V, whatever the lead-in."""
    model = twin("llama")
    torch.nn.init.zeros_(model.lm_head.weight)
    policy = make_policy(model)
    for lead, text in (((5, 6), (7, 8, 9)), (tuple(range(3, 20)), (7,))):
        rows = [SftRow(3, Prompt(0, lead, 4), text)]
        loss = summed(policy, rows)
        assert abs(loss.item() - len(text) * np.log(len(LAYOUT.tokenizer))) < 1e-4


def test_a_row_has_the_same_loss_beside_a_longer_question(gpt2: Any) -> None:
    """Left padding moves no loss (also the sum of two rows is the sum of their losses)."""
    rows = [
        SftRow(3, Prompt(0, (5, 6), 4), (7, 8, 9)),
        SftRow(3, Prompt(1, tuple(range(3, 40)), 4), (9, 9, 9, 9, 8)),
    ]
    policy = make_policy(gpt2)
    alone = [summed(policy, [row]).item() for row in rows]
    assert abs(summed(policy, rows).item() - sum(alone)) < 1e-5


# -- stages ---------------------------------------------------------------------------------------

LONG = Item("q", ("a", "b", "c", "d", "e"), "1")
SHORT = Item("q", ("a",), "1")


def test_the_official_stage_table_epoch_by_epoch() -> None:
    """GSM8K: c = 2, at most 3 steps; 25 epochs, 3 per stage and 13 in the last."""
    table = [
        *[(0, ("a", "b", "c", "d", "e"))] * 3,
        *[(2, ("b", "c", "d", "e"))] * 3,
        *[(4, ("c", "d", "e"))] * 3,
        *[(6, ("d", "e"))] * 3,
        *[(6, ())] * 13,
    ]
    per_epoch = 7
    stages = Stages((3, 3, 3, 3, 13), "epochs", per_epoch)
    slots = Slots(per_step=2, max_stage=3, pad_to_max=True)
    assert stages.total == 25 * per_epoch and len(table) == 25
    found = [stage for stage in range(5) for _ in range(stages.length(stage) // per_epoch)]
    assert [Coconut().split(LONG, stage, slots) for stage in found] == table


def trained_stages(stages: Stages) -> list[int]:
    """The stage of each update, as `after` and `length` lead through them."""
    found: list[int] = []
    stage = stages.after(-1)
    while stage is not None:
        found += [stage] * stages.length(stage)
        stage = stages.after(stage)
    return found


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ((1, 1, 1), [0, 1, 2]),
        ((2, 2, 2), [0, 0, 1, 1, 2, 2]),
        ((3, 3, 3), [0, 0, 0, 1, 1, 1, 2, 2, 2]),
        ((0, 2, 1), [1, 1, 2]),
        ((1, 0, 2), [0, 2, 2]),
    ],
)
def test_stages_last_as_long_as_they_say(lengths: tuple[int, ...], expected: list[int]) -> None:
    updates = Stages(lengths, "updates", 4)
    assert updates.total == len(expected)
    assert trained_stages(updates) == expected
    epochs = Stages(lengths, "epochs", 4)
    assert epochs.total == 4 * len(expected)
    assert trained_stages(epochs) == [stage for stage in expected for _ in range(4)]


def test_short_problems_are_padded_to_the_same_slots_or_not() -> None:
    on, off = Slots(2, 3, True), Slots(2, 3, False)
    assert [Coconut().split(SHORT, s, on) for s in range(6)] == [
        (0, ("a",)),
        *[(2, ()), (4, ()), (6, ())],
        *[(6, ())] * 2,
    ]
    assert [Coconut().split(SHORT, 4, off), Coconut().split(LONG, 4, off)] == [(2, ()), (6, ())]
    assert Coconut().last_stage(on) == 3 and Cot().last_stage(on) == NoCot().last_stage(on) == 0
    assert Cot().split(LONG, 3, on) == (0, LONG.steps) and NoCot().split(LONG, 3, on) == (0, ())


class StepsAlone:
    """A layout that keeps only which steps stay text."""

    def prompt(self, item: Item) -> Prompt:
        return Prompt(0, (1,), 2)

    def text(self, item: Item, steps: Sequence[str]) -> tuple[int, ...]:
        return tuple(ord(step) for step in steps)


def test_mixing_draws_other_stages_at_the_rate() -> None:
    """`earlier`: a share mix of stages 0..s, evenly; `all`: 0..the problem's number of steps."""
    slots, items = Slots(1, 3, True), [LONG] * 40_000

    def shares(over: str, stage: int) -> np.ndarray:
        """How often each stage is drawn; stages past the last one, 4 and 5, look the same."""
        settings, plain = config(mix=0.3, mix_over=over), StepsAlone()
        rows = sft_rows(items, stage, 5, Coconut(), slots, plain, settings, 0)  # type: ignore[arg-type]
        found = [3 + (row.text == ()) if row.latents == 3 else row.latents for row in rows]
        return np.bincount(found, minlength=5) / len(found)

    sigma = 5 * (0.25 / len(items)) ** 0.5
    assert np.abs(shares("earlier", 2) - [0.1, 0.1, 0.8, 0, 0]).max() < sigma
    evenly = 0.3 / 6
    expected = [evenly, 0.7 + evenly, evenly, evenly, 2 * evenly]
    assert np.abs(shares("all", 1) - expected).max() < sigma
    assert (shares("earlier", 0) == [1, 0, 0, 0, 0]).all()


def test_without_mixing_every_row_is_of_its_stage() -> None:
    rows = sft_rows(ITEMS, 2, 0, Coconut(), SLOTS, LAYOUT, config(), 0)
    for item, row in zip(ITEMS, rows, strict=True):
        assert row == SftRow(2, LAYOUT.prompt(item), LAYOUT.text(item, item.steps[2:]))


# -- the token contract ---------------------------------------------------------------------------


@needs_gpt2
def test_the_token_contract_with_gpt2() -> None:
    """`question\\n`, markers, `step\\n`, `### answer`, end of text; each piece tokenised apart."""
    tokenizer = load_tokenizer(str(GPT2_FILES), None)
    plain = load_tokenizer(str(GPT2_FILES), None)
    markers = add_markers(tokenizer)
    item = Item("Ann has 3 eggs, buys 4. How many?", ("<<3+4=7>>", "<<7*2=14>>"), "14")

    def tokens(text: str) -> tuple[int, ...]:
        return tuple(plain(text)["input_ids"])

    assert (markers.start, markers.latent, markers.end) == (50257, 50258, 50259)
    assert markers.eos == 50256 and tokens("\n") == (198,) and tokens("### ") == (21017, 220)
    latent = Layout(tokenizer, markers, Template(), True)
    prompt = latent.prompt(item)
    question = tokens("Ann has 3 eggs, buys 4. How many?\n")
    assert question[-1] == 198
    assert prompt == Prompt(item.uid, (*question, 50257), 50259, "14")
    assert latent.text(item, item.steps) == (
        *tokens("<<3+4=7>>\n"),
        *tokens("<<7*2=14>>\n"),
        *tokens("### 14"),
        50256,
    )
    assert latent.text(item, ()) == (*tokens("### 14"), 50256)
    assert latent.decode(latent.text(item, ())) == "### 14"
    bare = replace(latent, latent=False)
    assert bare.prompt(item) == Prompt(item.uid, question[:-1], 198, "14")


def test_the_token_contract_of_characters() -> None:
    item = ITEMS[1]
    ids = LAYOUT.tokenizer.get_vocab()
    prompt = LAYOUT.prompt(item)
    assert prompt.ids == (*[ids[c] for c in "3+4-9="], LAYOUT.markers.start)
    assert prompt.cue == LAYOUT.markers.end
    written = "<3+4=7><7-9=8>#8"
    assert LAYOUT.text(item, item.steps) == (*[ids[c] for c in written], LAYOUT.markers.eos)
    assert LAYOUT.decode(LAYOUT.text(item, item.steps)) == written


def scratch(tokenizer: str, family: str) -> ModelConfig:
    if family == "gpt2":
        shape = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 64}
    else:
        shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
        shape |= {"num_key_value_heads": 1, "intermediate_size": 8, "max_position_embeddings": 64}
    return ModelConfig("x", tokenizer=tokenizer, architecture={"model_type": family, **shape})


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("source", ["character", pytest.param("gpt2", marks=needs_gpt2)])
def test_new_tokens_start_as_copies_of_the_brackets(source: str, kind: str) -> None:
    """In the input table and, where it is a table of its own, in the head."""
    name = str(GPT2_FILES) if source == "gpt2" else source
    backbone = create(scratch(name, kind), Key(0, Purpose.WEIGHTS), Hidden())
    vocabulary = backbone.tokenizer.get_vocab()
    bracket = vocabulary["<<"] if source == "gpt2" else vocabulary["<"]
    embedded = backbone.model.get_input_embeddings().weight
    head = backbone.model.get_output_embeddings().weight
    assert (head.data_ptr() == embedded.data_ptr()) == (kind == "gpt2")
    assert embedded.shape[0] == len(backbone.tokenizer) == max(vocabulary.values()) + 1
    for table in (embedded, head):
        for marker in MARKERS:
            assert torch.equal(table[vocabulary[marker]], table[bracket])
        assert not torch.equal(table[bracket + 1], table[bracket])
    again = create(scratch(name, kind), Key(0, Purpose.WEIGHTS), Hidden()).model.state_dict()
    other = create(scratch(name, kind), Key(1, Purpose.WEIGHTS), Hidden()).model.state_dict()
    state = backbone.model.state_dict()
    assert all(torch.equal(again[key], state[key]) for key in state)
    assert any(not torch.equal(other[key], state[key]) for key in state)


# -- updates --------------------------------------------------------------------------------------


class Watched(SftModule):
    """An SFT module that writes down what each update did."""

    def watch(self) -> Watched:
        self.steps: list[int] = []
        self.rates: list[float] = []
        self.stage_of: list[int] = []
        return self

    def training_step(self, batch: Any, batch_idx: int) -> None:
        super().training_step(batch, batch_idx)
        optimizer: Any = self.optimizers()
        parameter = next(self.model.parameters())
        self.steps.append(int(optimizer.state[parameter]["step"]))
        self.rates.append(optimizer.param_groups[0]["lr"])
        self.stage_of.append(int(self.progress["train/stage"]))


def fitted(directory: Path, updates_per_epoch: int, model: Any = None, **changes: Any) -> Watched:
    settings = config(**changes)
    items = ITEMS * updates_per_epoch
    feed = TrainingData(items, len(ITEMS), 0, 0)
    stages = Stages(tuple(settings.stages), settings.unit, feed.updates_per_epoch)
    feed.updates = stages.total
    policy = make_policy(model or twin("gpt2"))
    module = Watched(policy, LAYOUT, Coconut(), SLOTS, stages, TextLoss(), settings, 0).watch()
    fit(module, feed, QUIET, directory, "sft", loggers=[], owner={})
    return module


@pytest.mark.parametrize(
    ("reset", "expected"),
    [
        ("never", [1, 2, 3, 4, 5, 6]),
        ("stage", [1, 2, 3, 1, 2, 3]),
        ("epoch", [1, 2, 1, 1, 1, 2]),
    ],
)
def test_the_optimizer_starts_anew_exactly_where_it_says(
    tmp_path: Path, reset: str, expected: list[int]
) -> None:
    """Two updates per epoch, stages of three: AdamW's own count after each of six updates."""
    module = fitted(tmp_path, 2, stages=[3, 3], reset_optimizer=reset)
    assert module.steps == expected
    assert module.stage_of == [0, 0, 0, 1, 1, 1]


def test_the_rate_rises_after_every_reset(tmp_path: Path) -> None:
    module = fitted(tmp_path, 1, stages=[3, 2], warmup=2, lr=1e-3)
    assert np.allclose(module.rates, [5e-4, 1e-3, 1e-3, 5e-4, 1e-3])


def test_the_rate_falls_towards_the_end(tmp_path: Path) -> None:
    module = fitted(tmp_path, 1, stages=[3, 2], warmup=2, cooldown=4, lr=1e-3)
    assert np.allclose(module.rates, [5e-4, 1e-3, 3 / 4 * 1e-3, 1 / 2 * 5e-4, 1 / 4 * 1e-3])


def test_updates_are_adamw_on_the_official_gradient(tmp_path: Path) -> None:
    """Two real updates against torch's AdamW driven by naive gradients, weight decay included."""
    twins = [twin("gpt2", dtype=torch.float64) for _ in range(2)]
    fitted(tmp_path, 1, twins[0], stages=[0, 2], weight_decay=0.1, betas=[0.8, 0.95])
    optimizer = torch.optim.AdamW(
        twins[1].parameters(), lr=1e-3, betas=(0.8, 0.95), weight_decay=0.1
    )
    for _ in range(2):
        _, slopes = official_batch(twins[1], Coconut(), 1, SLOTS, LAYOUT)
        for parameter, slope in zip(twins[1].parameters(), slopes, strict=True):
            parameter.grad = slope
        optimizer.step()
    for one, other in zip(twins[0].parameters(), twins[1].parameters(), strict=True):
        assert float((one - other).detach().abs().max()) < 1e-8


def test_dropout_is_on_while_sft_trains(tmp_path: Path) -> None:
    """The configured rate acts: the loss of an update differs from the one without dropout, and is
    the same again for the same seed."""
    losses = {}
    for name, rate in (("none", 0.0), ("some", 0.3), ("again", 0.3)):
        model = create(scratch("character", "gpt2"), Key(0, Purpose.WEIGHTS), Hidden()).model
        module = fitted(tmp_path / name, 1, model, stages=[1], dropout=rate)
        losses[name] = module.progress["train/loss"]
    assert losses["some"] == losses["again"]
    assert abs(losses["some"] - losses["none"]) > 1e-5


def test_no_dropout_acts_at_rate_zero(tmp_path: Path) -> None:
    """The loss of an update is the official one, although the model came with a rate of its own."""
    model = twin("gpt2")
    assert model.config.resid_pdrop == 0.1
    expected, _ = official_batch(model, Coconut(), 0, SLOTS, LAYOUT)
    found = fitted(tmp_path, 1, model.train(), stages=[1], dropout=0.0).progress["train/loss"]
    assert abs(found - expected) < 1e-6


# -- the data module ------------------------------------------------------------------------------


def test_every_epoch_is_a_permutation_by_the_seed_alone() -> None:
    items = Arithmetic(n_train=50, n_validation=5, n_test=5).load().train
    data, same, other = (TrainingData(items, 8, 0, seed) for seed in (0, 0, 1))
    assert data.updates_per_epoch == 7
    epochs = [[item for u in range(7) for item in data.batch(7 * e + u)] for e in range(3)]
    assert all(sorted(map(repr, epoch)) == sorted(map(repr, items)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] and epochs[0] != list(items)
    assert [len(data.batch(u)) for u in range(7)] == [8] * 6 + [2]
    backwards = {update: same.batch(update) for update in (20, 3, 13, 3, 7, 0)}
    assert all(batch == data.batch(update) for update, batch in backwards.items())
    assert other.batch(0) != data.batch(0)


def test_a_small_data_set_is_one_batch() -> None:
    data = TrainingData(ITEMS, 100, 0, 0)
    assert data.updates_per_epoch == 1
    assert sorted(map(repr, data.batch(5))) == sorted(map(repr, ITEMS))

"""What makes two runs, two start models or two tokenizers the same: content, not names or paths."""

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from driver import QUICK, Composed, composed, inside, tree

from latentbench.errors import InputError
from latentbench.records import Item, Splits


@functools.cache
def run_id(*overrides: str) -> str:
    from latentbench.run.training import run_identity

    found = quickly(*overrides)
    return run_identity(found.config, found.choices)


@functools.cache
def quickly(*overrides: str) -> Composed:
    """What a quick run with these overrides would be."""
    return composed(*QUICK, *overrides)


def init_id(*overrides: str, tokenizer: Any = None) -> str:
    from latentbench.model.tokenizer import add_markers, character_tokenizer
    from latentbench.run.init_store import identify

    if tokenizer is None:
        tokenizer = character_tokenizer()
        add_markers(tokenizer)
    found = quickly(*overrides)
    return identify(found.config, found.choices, Splits([], [], [], {"digest": "d"}), tokenizer)


@pytest.mark.parametrize("overrides", [(), ("rl.lr=1e-6", "method=lepo")], ids=str)
def test_a_run_is_known_by_the_identity_of_its_configuration(
    overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the command line hands to the run, so that all below can do without it."""
    import latentbench.run.training

    seen: list[str] = []

    def noted(_config: Any, _choices: Any, _directory: Any, identity: str) -> dict[str, Any]:
        seen.append(identity)
        return {}

    monkeypatch.setattr(latentbench.run.training, "run", noted)
    outcome = inside(*QUICK, *overrides, f"hydra.run.dir={tmp_path / 'run'}")
    assert outcome.code == 0, outcome
    assert seen == [run_id(*overrides)]


# What changes memory, speed, place or what is watched, and nothing that is computed.
SAME = (
    ("sft.micro_batch=3",),
    ("rl.micro_batch=3",),
    ("protocol.batch_rows=7",),
    ("trainer=cpu",),
    ("trainer.accelerator=cpu",),
    ("logger=tensorboard",),
    ("limit.rl_updates=100",),
    ("limit.samples=100",),
    ("limit.sft_updates_per_stage=100",),
    ("init.root=elsewhere",),
)


@pytest.mark.parametrize("overrides", SAME, ids=" ".join)
def test_same_run(overrides: tuple[str, ...]) -> None:
    assert run_id() == run_id(*overrides) and init_id() == init_id(*overrides)


def test_what_a_cap_does_is_no_other_run() -> None:
    """A run that stopped at a cap is carried on with `sft.at_cap=go_on`."""
    gated = ("sft.gate=0.9", "sft.target=0.9")
    going_on = (*gated, "sft.at_cap=go_on")
    assert run_id(*gated) == run_id(*going_on) != run_id()
    assert init_id(*gated) == init_id(*going_on)


def test_micro_batches_count_where_the_loss_depends_on_them() -> None:
    """Distillation divides by a deviation over the micro-batch; past the batch there is no more."""
    runs = [("sft_loss=distill", f"sft.micro_batch={n}") for n in (3, 4, 16, 1024)]
    assert len({run_id(*run) for run in runs}) == len({init_id(*run) for run in runs}) == 3
    assert run_id(*runs[2]) == run_id(*runs[3]) and init_id(*runs[2]) == init_id(*runs[3])


def test_a_limit_is_the_value_it_leads_to() -> None:
    assert run_id("limit.rl_updates=2") == run_id("rl.updates=2")


def test_a_debug_choice_is_the_values_it_sets() -> None:
    caps = ("eval_items", "rl_updates", "sft_updates_per_stage")
    profile = ("debug=profile", *(f"limit.{cap}=null" for cap in caps))
    assert run_id(*profile) == run_id()


@pytest.mark.parametrize(
    "override",
    ["trainer.precision=bf16-mixed", "limit.train_items=5", "limit.eval_items=5", "rl.lr=1e-6"],
)
def test_another_run(override: str) -> None:
    assert run_id() != run_id(override)


def test_precision_and_tokenizer_make_another_init() -> None:
    from latentbench.model.tokenizer import add_markers, character_tokenizer

    assert init_id() != init_id("trainer.precision=bf16-mixed")
    larger = character_tokenizer()
    add_markers(larger)
    larger.add_tokens(["12"])
    assert init_id() != init_id(tokenizer=larger)


def test_a_tokenizer_is_its_content(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from latentbench.model.tokenizer import add_markers, character_tokenizer, tokenizer_digest

    tokenizer = character_tokenizer()
    add_markers(tokenizer)
    digest = tokenizer_digest(tokenizer)
    tokenizer(["1", "22"], padding=True)
    assert tokenizer_digest(tokenizer) == digest
    for name in ("here", "there"):
        tokenizer.save_pretrained(tmp_path / name)
        assert tokenizer_digest(AutoTokenizer.from_pretrained(tmp_path / name)) == digest
    tokenizer.pad_token = tokenizer.eos_token
    assert tokenizer_digest(tokenizer) != digest


@pytest.mark.parametrize("status", ["completed", "preempted"])
def test_a_run_from_other_weights_is_not_carried_on(
    status: str, finished: Path, tmp_path: Path, quick: Any
) -> None:
    """The path is the same, what lies there is not."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(finished / "model", tmp_path / "start")
    command = (f"init.path={tmp_path / 'start'}", "rl.updates=1")
    assert quick(tmp_path / "run", *command).code == 0
    assert "already completed" in quick(tmp_path / "run", *command).out
    file = tmp_path / "start" / "model.safetensors"
    weights = load_file(file)
    name = next(iter(weights))
    save_file(weights | {name: weights[name] + 1}, file, metadata={"format": "pt"})
    record = tmp_path / "run" / "result.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"status": status}))
    before = tree(tmp_path)
    outcome = quick(tmp_path / "run", *command)
    assert outcome.code == 2 and outcome.err.count("\n") == 1, outcome
    assert "was made from other data, tokenizer or weights" in outcome.err
    assert tree(tmp_path) == before


def test_a_completed_run_is_shown_without_its_weights(
    finished: Path, tmp_path: Path, quick: Any
) -> None:
    shutil.copytree(finished / "model", tmp_path / "start")
    command = (f"init.path={tmp_path / 'start'}", "rl.updates=1")
    assert quick(tmp_path / "run", *command).code == 0
    shutil.rmtree(tmp_path / "start")
    outcome = quick(tmp_path / "run", *command)
    assert outcome.code == 0 and "not compared" in outcome.out, outcome


# -- what a start model must be -------------------------------------------------------------------


def test_another_number_of_latents_is_refused(finished: Path, tmp_path: Path) -> None:
    more = ("latent.max_stage=2", f"hydra.run.dir={tmp_path / 'run'}")
    outcome = inside(*QUICK, f"init.path={finished}", *more)
    assert outcome.code == 2 and outcome.err.count("\n") == 1, outcome
    assert "was trained with" in outcome.err and "latent.max_stage" in outcome.err
    assert tree(tmp_path) == {}


def test_sft_goes_on_from_a_run_directory(finished: Path, tmp_path: Path) -> None:
    outcome = inside(
        *QUICK,
        "method=coconut",
        f"model.path={finished}",
        f"init.root={tmp_path / 'inits'}",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert outcome.code == 0, outcome


@pytest.mark.parametrize("latents", [3, 0])
def test_marker_rows_start_from_the_step_mark(latents: int, finished: Path, tmp_path: Path) -> None:
    """Rows that were trained with latents stay; others are copied, as for a new model."""
    import torch

    from latentbench.carrier.hidden import Hidden
    from latentbench.keys import Key, Purpose
    from latentbench.model.backbone import create
    from latentbench.model.weights import METADATA

    start = tmp_path / "start"
    shutil.copytree(finished / "model", start)
    (start / METADATA).write_text(json.dumps({"latents": latents}))
    config = quickly(f"model.path={start}").config.model
    backbone = create(config, Key(0, Purpose.WEIGHTS), Hidden())
    table = backbone.model.get_input_embeddings().weight
    mark = table[backbone.tokenizer("<<")["input_ids"][0]]
    same = torch.equal(table[backbone.markers.latent], mark)
    assert same == (latents == 0)


def test_rows_beyond_the_tokenizer_are_never_written() -> None:
    from types import SimpleNamespace

    from latentbench.model.backbone import Backbone
    from latentbench.model.tokenizer import add_markers, character_tokenizer

    tokenizer = character_tokenizer()
    markers = add_markers(tokenizer)
    size = len(tokenizer)
    model = SimpleNamespace(config=SimpleNamespace(vocab_size=size + 3))
    forbidden = Backbone(model, tokenizer, markers).forbidden
    assert {size, size + 1, size + 2, markers.latent} <= set(forbidden)
    assert markers.eos not in forbidden


# -- lengths and devices --------------------------------------------------------------------------


def test_a_long_validation_question_is_refused() -> None:
    from latentbench.model.backbone import outline
    from latentbench.run.init_store import layout_of
    from latentbench.run.preflight import check_lengths

    config, short = quickly().config, Item("1+1=", ("<1+1=2>",), "2")
    outlined = outline(config.model, None, None)
    layout = layout_of(config, outlined)
    for long in (Item("1+" * 150 + "1=", (), "1"), Item("é+" * 150 + "1=", (), "1")):
        data = Splits([short], [long], [short])
        with pytest.raises(InputError, match=r"validation question .*\.\.\.'.*positions"):
            check_lengths(config, data, [], layout, outlined.positions)


def test_many_items_are_written_as_each_alone() -> None:
    from latentbench.model.backbone import outline
    from latentbench.run.init_store import layout_of

    config = quickly().config
    layout = layout_of(config, outline(config.model, None, None))
    items = list(config.data.load().train)
    assert layout.prompts(items) == [layout.prompt(item) for item in items]
    assert layout.prompts([]) == [] and layout.text_lengths([]) == []
    for item, length in zip(items, layout.text_lengths(items), strict=True):
        assert length == len(layout.text(item, item.steps))
        most = layout.most(item)
        assert most and most[0] >= len(layout.prompt(item).ids) and most[1] >= length


def test_lightning_gets_the_device_of_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from latentbench.config.sections import TrainerConfig
    from latentbench.runtime.device import resolved

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    for cuda, name in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        assert resolved(TrainerConfig(accelerator="auto")).accelerator == name


@pytest.mark.parametrize("root", ["~/inits", "'~/inits'"])
def test_the_home_folder_is_found(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    outcome = inside(*QUICK, "method=no_cot", f"init.root={root}", "hydra.run.dir=run")
    assert outcome.code == 0, outcome
    assert list((tmp_path / "home" / "inits").glob("*/init.json"))
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("work", [True, False])
def test_a_late_refusal_keeps_the_record_of_work(work: bool, tmp_path: Path) -> None:
    """Without result.json the checkpoints beside it could not be carried on from."""
    from latentbench.runtime.run_directory import RunDirectory

    directory = RunDirectory(tmp_path / "run")
    with pytest.raises(InputError), directory.claim("id", {}):
        directory.record(run_id="id", status="failed")
        if work:
            (directory.path / "checkpoints").mkdir()
            (directory.path / "checkpoints" / "last.ckpt").write_bytes(b"weights")
        raise InputError("late")
    assert (directory.path / "result.json").exists() == work
    with RunDirectory(tmp_path / "run").claim("id", {}):  # and the directory can be taken again
        pass


def test_a_foreign_benchmark_with_training_questions_is_refused() -> None:
    """Another data set's items are compared with what this run trains on, by normalised text."""
    from latentbench.evaluation.loading import Home, check_unseen

    train = [Item("How many  apples?", (), "3"), Item("How many pears?", (), "4")]
    home = Home("own", Splits(train, [], []), None, None, "exact_number")
    check_unseen("other", [Item("How many plums?", (), "5")], home)
    items = [Item("how many apples?", (), "3"), Item("How many plums?", (), "5")]
    with pytest.raises(InputError, match="eval=other: 1 of its 2 items are training questions"):
        check_unseen("other", items, home)

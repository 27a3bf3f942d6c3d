"""The control that only trains longer: which stage it carries on, how long, and what it moves."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from checks import LAYOUT, make_policy, twin
from driver import QUICK, inside
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict
from safetensors.torch import load_file

from latentbench.config import sections
from latentbench.data._chains import solve
from latentbench.records import Splits
from latentbench.run import training
from latentbench.runtime.run_directory import RunDirectory
from latentbench.training import sft
from latentbench.training.data import TrainingData, sft_rows
from latentbench.training.sft import SftModule

CONF = Path(__file__).resolve().parents[2] / "conf"
ITEMS = [solve((5, 5, 5, 5, 5), "-+-+", 10), solve((1, 2), "+", 10)]


@pytest.fixture
def composing() -> Iterator[None]:
    sections.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield
    HydraConfig.instance().cfg = None


def typed(*overrides: str) -> sections.Config:
    config = compose("config", list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    return sections.typed(config)


def continued(
    config: sections.Config, monkeypatch: pytest.MonkeyPatch
) -> tuple[SftModule, TrainingData]:
    """What would be trained, on what."""
    fitted: list[Any] = []
    monkeypatch.setattr(training, "fit", lambda module, feed, *_: fitted.append((module, feed)))
    start: Any = SimpleNamespace(data=Splits(ITEMS, (), ()), layout=LAYOUT)
    policy = make_policy(twin("gpt2"))
    of = {"run_id": "id", "seed": 0, "inputs": "in"}
    training._continue(config, policy, start, RunDirectory(Path(), of), [])
    return fitted[0]


@pytest.mark.parametrize(
    ("overrides", "stage"),
    [
        (["data=gsm8k"], 4),  # all steps are gone in the stage after max_stage
        (["data=gsm8k", "limit.sft_updates_per_stage=1"], 4),
        (["data=gsm8k", "sft.stages=[25,3,3,3,0]"], 3),
        (["data=arithmetic"], 3),
        (["data=arithmetic", "curriculum=no_cot"], 0),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_the_rows_are_those_of_the_last_trained_stage(
    overrides: list[str], stage: int, composing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written steps and latent slots of every row, from the first update to the last."""
    config = typed("method=sft_continued", "rl.updates=7", *overrides)
    module, feed = continued(config, monkeypatch)
    assert module.stages.total == feed.updates == 7
    for update in range(7):
        rows = sft_rows(
            ITEMS,
            module.stages.after(-1),
            update,
            module.curriculum,
            module.slots,
            LAYOUT,
            module.config,
            0,
        )
        for item, row in zip(ITEMS, rows, strict=True):
            latents, steps = config.curriculum.split(item, stage, module.slots)
            assert (row.latents, row.text) == (latents, LAYOUT.text(item, steps))
    if stage == 4:
        assert all(not config.curriculum.split(i, 4, module.slots)[1] for i in ITEMS)


def test_seconds_know_no_number_of_updates(
    composing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = typed("method=sft_continued", "rl.updates=1", "rl.seconds=5")
    module, feed = continued(config, monkeypatch)
    assert len(feed.train_dataloader()) > 10**9
    assert module.stage == 3 and module.stages.length(3) > 10**9
    assert module.stages.after(3) is None


def trained(folder: Path, inits: Path, *overrides: str) -> dict[str, Any]:
    where = (f"init.root={inits}", f"hydra.run.dir={folder}")
    outcome = inside(*QUICK, "method=sft_continued", *where, *overrides)
    assert outcome.code == 0, outcome
    return json.loads((folder / "result.json").read_text())


def test_time_ends_it_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six updates of an eighth of a second, past rl.updates; and carried on after the last update
    it adds none."""
    long = ("rl.seconds=0.75",)
    ticks = itertools.count(step=0.125)
    monkeypatch.setattr(sft, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    original = training.evaluate

    def stopping(*arguments: Any, **named: Any) -> Any:
        if "final" in arguments:
            raise RuntimeError("killed")
        return original(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(training, "evaluate", stopping)
        with pytest.raises(RuntimeError):
            trained(tmp_path / "run", tmp_path / "inits", *long)
    saved = tmp_path / "run/checkpoints/last.ckpt"
    done = torch.load(saved, weights_only=True)["latentbench"]
    assert done["update"] == 6 and done["spent"] == 0.75
    result = trained(tmp_path / "run", tmp_path / "inits", *long)
    assert result["metrics"]["train/updates"] == 6


def test_what_is_not_to_be_trained_stays(tmp_path: Path) -> None:
    """rl.trainable holds for the control as for RL: the same weights move."""
    own = ("rl.trainable=value_projections", "sft.weight_decay=0")
    trained(tmp_path / "run", tmp_path / "inits", *own)
    (init,) = (tmp_path / "inits").glob("*/model")
    before, after = (load_file(d / "model.safetensors") for d in (init, tmp_path / "run/model"))
    for name, start in before.items():
        same = torch.equal(start, after[name])
        if name.endswith("c_attn.weight"):
            width = start.shape[-1] // 3
            assert torch.equal(start[..., : 2 * width], after[name][..., : 2 * width]) and not same
        else:
            assert same, name


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["rl.kl=0.1"], "rl.kl=0.1"),
        (["rl.trainable=value_projections"], "sft.weight_decay=0.01"),
        (["init.path=x", "sft.stages=[4,4]"], "sft.stages=[4, 4]"),
        (["rl.seconds=5", "sft.cooldown=1"], "rl.seconds=5"),
    ],
)
def test_what_it_cannot_do_is_refused(overrides: list[str], named: str, composing: None) -> None:
    with pytest.raises(sections.InputError) as refusal:
        typed("method=sft_continued", *overrides)
    assert named in str(refusal.value)

"""W&B sweep files, and the command lines that W&B's own agent makes of them."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from driver import CHECKOUT, composed, inside

SWEEPS = sorted((CHECKOUT / "sweeps").glob("*.yaml"))
GOALS = {"maximize", "minimize"}


def agent_arguments(values: dict[str, Any]) -> list[str]:
    """`${args_no_hyphens}` as the installed agent writes it."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    args = {name: {"value": value} for name, value in values.items()}
    return create_sweep_command_args({"args": args})["args_no_hyphens"]


def grid(sweep: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every point of a grid, as the W&B server would deal them out."""
    choices = {
        name: one["values"] if "values" in one else [one["value"]]
        for name, one in sweep["parameters"].items()
    }
    for point in product(*choices.values()):
        yield dict(zip(choices, point, strict=True))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.name)
def test_the_file_is_a_sweep(path: Path) -> None:
    sweep = yaml.safe_load(path.read_text())
    assert set(sweep) <= {"program", "command", "method", "metric", "parameters", "name"}
    assert (CHECKOUT / sweep["program"]).is_file()
    assert sweep["command"] == ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]
    assert sweep["method"] in {"grid", "random", "bayes"}
    assert sweep["metric"]["goal"] in GOALS and "/" in sweep["metric"]["name"]
    assert sweep["parameters"]["logger"] == {"value": "wandb"}, "the metric has to reach W&B"
    for one in sweep["parameters"].values():
        assert set(one) in ({"value"}, {"values"})


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.name)
def test_every_point_composes(path: Path) -> None:
    points = list(grid(yaml.safe_load(path.read_text())))
    assert len(points) == len({str(point) for point in points})
    for point in points[:: max(len(points) // 4, 1)]:
        config = composed(*agent_arguments(point)).config
        assert config.seed == point["seed"]
        assert hasattr(config.noise, "rate") == (point["noise"] != "none")


def test_values_of_every_type_arrive() -> None:
    values = {
        **{"latent.pad_to_max": True, "rl.lr": 1e-05, "seed": 3},
        **{"protocol.ks": [1, 2, 4], "data.operators": "+", "transform": ["invalid_mask"]},
    }
    outcome = inside("--cfg", "job", *agent_arguments(values))
    assert outcome.code == 0, outcome.err
    shown = yaml.safe_load(outcome.out)
    assert shown["latent"]["pad_to_max"] is True and shown["seed"] == 3
    assert float(shown["rl"]["lr"]) == 1e-5 and shown["protocol"]["ks"] == [1, 2, 4]
    assert shown["data"]["operators"] == "+" and list(shown["transform"])


def test_null_from_the_agent_is_refused_by_name() -> None:
    outcome = inside(*agent_arguments({"init.path": None}))
    assert outcome.code == 2 and "init.path=None" in outcome.err and "null" in outcome.err


def test_a_resumed_run_hands_its_configuration_back() -> None:
    from latentbench.cli import without_handed_back

    whole = {"method": "dropout_grpo", "rl": {"lr": 0.1, "ks": [1]}, "init": {"path": None}}
    swept = {"noise": "none", "seed": 2, "logger.wandb.mode": "offline", "logger": "wandb"}
    notes = {"latentbench": whole, "_wandb": {"t": {"1": [1]}}, "wandb_version": 1}
    arguments = agent_arguments(notes | swept)
    assert without_handed_back(arguments) == agent_arguments(swept)
    outcome = inside("--cfg", "job", *arguments)
    assert outcome.code == 0, outcome.err
    assert yaml.safe_load(outcome.out)["seed"] == 2
    assert [line for line in outcome.err.splitlines() if "latentbench=" in line]

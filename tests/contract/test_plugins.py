"""Plug-ins are found by file name, hold their own defaults, keep their contracts and stay apart."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from latentbench.config import plugins, sections
from latentbench.data._published import Published
from latentbench.keys import Key, Purpose
from latentbench.noise import Site
from latentbench.records import Groups

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
PACKAGE = ROOT / "latentbench"
# Where a YAML file deliberately says something else than its dataclass: (kind, name) -> fields.
OVERRIDES: dict[tuple[str, str], set[str]] = {
    ("noise", "shared_mask"): {"rate"},
    ("noise", "per_step_mask"): {"rate"},
    ("noise", "native_dropout"): {"rate"},
}


def files(kind: str) -> list[str]:
    names = [path.stem for path in (PACKAGE / kind).glob("*.py")]
    return sorted(name for name in names if not name.startswith("_"))


def options(kind: str) -> list[str]:
    return sorted(path.stem for path in (CONF / kind).glob("*.yaml"))


def base_of(kind: str, option: str) -> str:
    """The plug-in that an option configures: the `base_<name>` in its defaults."""
    content = yaml.safe_load((CONF / kind / f"{option}.yaml").read_text())
    schemas = [line for line in content["defaults"] if isinstance(line, str)]
    (base,) = [line.partition("@")[0] for line in schemas if line.startswith("base_")]
    return base.removeprefix("base_")


# Data sets to be tested on: they publish no training problems, and are no option of `data`.
BENCHMARKS = {
    name
    for name in files("data")
    for cls in [plugins.plugin("data", name)]
    if issubclass(cls, Published) and not any(f.split == "train" for f in cls.files)
}
PLUGINS = [(kind, name) for kind in plugins.KINDS for name in files(kind)]
PRESETS = [
    (kind, name) for kind in plugins.KINDS for name in options(kind) if name not in files(kind)
]
METHODS = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))
# Every method with two data sets of different models and recipes, every data set with two methods.
PAIRS = [
    (method, data)
    for method in METHODS
    for data in options("data")
    if data in ("sums", "gsm8k") or method in ("dropout_grpo", "lepo")
]


@pytest.fixture(scope="module")
def composing() -> Iterator[None]:
    sections.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield
    HydraConfig.instance().cfg = None


def composed(*overrides: str) -> DictConfig:
    """The configuration of a command line, resolved as in a run."""
    config = compose("config", list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    return config


@cache
def row(number: int) -> DictConfig:
    """The composition of the number-th option of every kind: far fewer than one for each option.

    Not of data sets, which bring values along that others refer to; this one's recipe sets none of
    a plug-in's.
    """
    kinds = [kind for kind in plugins.KINDS if kind != "data"]
    chosen = {kind: options(kind)[number % len(options(kind))] for kind in kinds}
    chosen["transform"] = f"[{chosen['transform']}]"
    return composed("data=arithmetic", *(f"{kind}={option}" for kind, option in chosen.items()))


def node_of(kind: str, option: str) -> Any:
    """The plug-in that an option gives, in a composition where it was chosen."""
    config = composed(f"data={option}") if kind == "data" else row(options(kind).index(option))
    return OmegaConf.to_object(config[kind][option] if kind == "transform" else config[kind])


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_every_plugin_has_a_config_of_its_name_and_every_config_a_plugin(kind: str) -> None:
    """Further options of a kind are presets: other values of one of its plug-ins."""
    assert files(kind), "a kind without any plug-in"
    assert set(files(kind)) <= set(plugins.plugin_names(kind))
    missing = set(files(kind)) - set(options(kind))
    assert missing == (BENCHMARKS if kind == "data" else set())
    for option in options(kind):
        base = base_of(kind, option)
        assert base == option if option in files(kind) else base in files(kind)


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_a_plugin_is_one_frozen_dataclass_in_a_file_with_a_docstring(kind: str, name: str) -> None:
    tree = ast.parse((PACKAGE / kind / f"{name}.py").read_text())
    cls = plugins.plugin(kind, name)
    assert cls is not None and is_dataclass(cls)
    assert vars(cls)["__dataclass_params__"].frozen
    assert ast.get_docstring(tree), "the module says what it is and where it is from"


@pytest.mark.parametrize(("kind", "name"), [p for p in PLUGINS if p[1] not in BENCHMARKS])
def test_a_config_has_the_defaults_of_its_dataclass(kind: str, name: str, composing: None) -> None:
    """Said once: the YAML file repeats no value, except those listed here."""
    found, expected = node_of(kind, name), plugins.plugin(kind, name)
    assert expected is not None and type(found) is expected
    allowed = OVERRIDES.get((kind, name), set())
    default: Any = expected()
    for field in fields(found):  # type: ignore[arg-type]
        same = getattr(found, field.name) == getattr(default, field.name)
        assert same != (field.name in allowed), field.name


@pytest.mark.parametrize(("kind", "name"), PRESETS)
def test_a_preset_is_its_plugin_with_other_values(kind: str, name: str, composing: None) -> None:
    found, cls = node_of(kind, name), plugins.plugin(kind, base_of(kind, name))
    assert cls is not None and type(found) is cls and found != cls()


def test_the_arms_of_the_mask_comparison_differ_in_nothing_else(composing: None) -> None:
    """Shared and per-step masks act at one rate, on the same sites, in the same phases."""
    one, other = (composed(f"noise={name}").noise for name in ("shared_mask", "per_step_mask"))
    assert OmegaConf.to_container(one) == OmegaConf.to_container(other)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_a_choice_of_plugins_and_holds_no_value(method: str) -> None:
    content = yaml.safe_load((CONF / "method" / f"{method}.yaml").read_text())
    assert set(content) == {"defaults"}
    for line in content["defaults"]:
        ((key, value),) = line.items()
        group = key.removeprefix("override /")
        assert key != group
        chosen = value if isinstance(value, list) else [value]
        assert all((CONF / group / f"{name}.yaml").is_file() for name in chosen)


@pytest.mark.parametrize(("method", "data"), PAIRS)
def test_every_method_composes_with_every_data_set(method: str, data: str, composing: None) -> None:
    config = sections.typed(composed(f"method={method}", f"data={data}"))
    assert config.method == method and config.data.name == data
    assert list(config.eval) == [data]
    content = yaml.safe_load((CONF / "method" / f"{method}.yaml").read_text())
    chosen = {k.removeprefix("override /"): v for d in content["defaults"] for k, v in d.items()}
    for kind in set(chosen) & set(plugins.KINDS) - {"transform"}:
        assert type(getattr(config, kind)) is plugins.plugin(kind, base_of(kind, chosen[kind]))
    assert config.algorithm == chosen["algorithm"]


# -- contracts of the kinds -----------------------------------------------------------------------

LATENTS = 3
WEIGHT = torch.linspace(-1, 1, 64).reshape(8, 8)
SITES = {
    **dict.fromkeys(("embedding", "attention.0", "mlp.0", "thought"), Site(8)),
    "value.0": Site(8, WEIGHT),
    "scores": Site(12),
}


def noises() -> list[Any]:
    """Each noise at its defaults, at every scope it knows, and at no strength."""
    found: list[Any] = []
    for name in files("noise"):
        cls: Any = plugins.plugin("noise", name)
        scopes = ["latent", "prompt+latent", "all"]
        found += [cls(scope=scope) for scope in scopes] if cls().scope else [cls()]
        if cls.strength:
            found.append(cls(**{cls.strength: 0.0}))
    return found


@pytest.mark.parametrize("noise", noises(), ids=lambda n: f"{type(n).__name__}-{n.diverges}")
def test_a_noise_source_keeps_its_contract(noise: Any) -> None:
    """Rows first in records, effects on known sites that keep their shape, none before it says that
    it acts; a row's effect is its own, whatever rows stand beside it and in whatever order."""
    keys = [Key(0, Purpose.NOISE, 0, prompt, k) for prompt in (1, 2, 3) for k in range(2)]
    assert noise.diverges in ("prompt", "latent", "answer")
    assert set(noise.acts_on) <= {"scores", "thought"}
    record = noise.draw(keys, SITES, LATENTS)
    assert all(len(tensor) == len(keys) for tensor in record.tensors.values())
    picked = torch.tensor([4, 1])
    for step in (0, 1, 2, LATENTS, -1):
        effects, some = noise.effects(record, step), noise.effects(record.rows(picked), step)
        assert set(some) == set(effects) <= set(SITES)
        for site, effect in effects.items():
            shape = (len(keys), SITES[site].width)
            if site not in ("scores", "thought"):
                shape = (len(keys), 4, SITES[site].width)
            inputs = torch.linspace(-2, 2, torch.Size(shape).numel()).reshape(shape)
            found = effect(inputs, inputs)
            assert found.shape == shape and found.dtype == torch.float32
            assert not found.isnan().any()
            if noise.replayed:
                own = some[site](inputs[picked], inputs[picked])
                assert torch.allclose(own, found[picked], atol=1e-6)
    if noise.diverges in ("latent", "answer"):
        assert not noise.effects(record, 0)
    if noise.diverges == "answer" and type(noise).__name__ != "Gumbel":  # it still filters
        assert not any(noise.effects(record, step) for step in range(1, LATENTS + 1))
    again = noise.draw(list(reversed(keys)), SITES, LATENTS)
    for site, tensor in record.tensors.items():
        assert torch.equal(again.tensors[site].flip(0), tensor)


@pytest.mark.parametrize("name", files("advantage"))
def test_an_advantage_of_equal_rewards_is_zero_and_of_others_is_not(name: str) -> None:
    cls: Any = plugins.plugin("advantage", name)
    rewards = torch.tensor([[0.0] * 4, [1.0] * 4, [1.0, 0.0, 0.0, 1.0]])
    cut = torch.zeros(3, 4, dtype=torch.bool)
    batch = Groups(rewards, cut, torch.zeros(3, 4))
    found = cls()(batch)
    assert found.shape == rewards.shape and found.isfinite().all()
    assert (found[:2] == 0).all()
    assert (found[2, [0, 3]] > 0).all() and (found[2, [1, 2]] < 0).all()


@pytest.mark.parametrize("name", files("curriculum"))
def test_a_curriculum_ends_with_the_slots_it_is_tested_with(name: str) -> None:
    """Markers exactly where there are slots; written steps are always a tail of the problem's."""
    from latentbench.records import Item, Slots

    cls: Any = plugins.plugin("curriculum", name)
    slots, item = Slots(2, 3, True), Item("q", ("a", "b", "c", "d"), "1")
    for stage in range(6):
        latents, steps = cls().split(item, stage, slots)
        assert item.steps[len(item.steps) - len(steps) :] == tuple(steps)
        assert latents == 0 or cls().markers
    latents, _ = cls().split(item, cls().last_stage(slots), slots)
    assert latents == (6 if cls().markers else 0)

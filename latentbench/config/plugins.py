"""The plug-ins: found by file name or entry point, built from plain values.

Every plug-in file `latentbench/<kind>/<name>.py` defines one frozen dataclass, and
`conf/<kind>/<name>.yaml` selects it. There is no registry to edit.

A plug-in of another package is an entry point of the group `latentbench.<kind>`: its name is the
option's, its value a module that defines one frozen dataclass, or `module:Class`. The YAML file of
the same name lies in that package, on `hydra.searchpath`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pkgutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from latentbench.errors import InputError

_PACKAGE = Path(__file__).resolve().parents[1]
CONF = next(top / "conf" for top in (_PACKAGE, _PACKAGE.parent) if (top / "conf").is_dir())
KINDS = (
    "carrier",
    "noise",
    "reward",
    "advantage",
    "transform",
    "policy_loss",
    "latent_loss",
    "curriculum",
    "sft_loss",
    "data",
)


def plugin_names(kind: str) -> list[str]:
    """The plug-ins of a kind, those of this repository and those of other packages."""
    return sorted({*file_names(kind), *(name for of, name in external_plugins() if of == kind)})


def plugin(kind: str, name: str) -> type | None:
    """The frozen dataclass behind a plug-in's name; None where there is none.

    Raises InputError for an entry point that leads to nothing usable.
    """
    entry = external_plugins().get((kind, name))
    if entry is not None:
        return _external_class(kind, entry)
    if name not in file_names(kind):
        return None
    own = _frozen_dataclasses(importlib.import_module(f"latentbench.{kind}.{name}"))
    if len(own) > 1:
        raise InputError(
            f"latentbench/{kind}/{name}.py defines {len(own)} frozen dataclasses; a plug-in is one"
        )
    return own[0] if own else None


@functools.cache
def external_plugins() -> Mapping[tuple[str, str], EntryPoint]:
    """The entry points of the groups `latentbench.<kind>`, by kind and name. Nothing is imported.

    Raises InputError for a name that is taken, by this repository or by another package.
    """
    found: dict[tuple[str, str], EntryPoint] = {}
    installed = entry_points()
    for kind in KINDS:
        for entry in installed.select(group=f"latentbench.{kind}"):
            taken = "latentbench itself" if entry.name in file_names(kind) else None
            if (kind, entry.name) in found:
                taken = _package(found[kind, entry.name])
            if taken:
                raise InputError(
                    f"{kind}={entry.name}: a plug-in of {_package(entry)}, but {taken} has one of "
                    "that name; rename the entry point or uninstall the package"
                )
            found[kind, entry.name] = entry
    return found


def plugin_name(part: Any) -> str:
    """The name of the file that a plug-in stands in."""
    return type(part).__module__.rpartition(".")[2]


def native_choices(conf: Path, method: str) -> dict[str, str]:
    """The option of each group that a method's file selects; none for a method from outside."""
    file = conf / "method" / f"{method}.yaml"
    if not file.is_file():
        return {}
    lines = yaml.safe_load(file.read_text())["defaults"]
    return {key.removeprefix("override /"): name for line in lines for key, name in line.items()}


def plugin_of(conf: Path, kind: str, option: str) -> type | None:
    """The plug-in behind an option: the one of that name, or the one whose values a preset in
    `conf/<kind>` sets; None where there is neither."""
    preset = conf / kind / f"{option}.yaml"
    if option in plugin_names(kind) or not preset.is_file():
        return plugin(kind, option)
    return plugin(kind, _settings(preset)[0])


def configured(conf: Path, kind: str, option: str) -> Any:
    """The plug-in that `conf/<kind>/<option>.yaml` configures; values that another section decides
    (`${...}`) are left at its defaults."""
    name, values = _settings(conf / kind / f"{option}.yaml")
    cls: Any = plugin(kind, name)
    return cls(**{k: v for k, v in values.items() if not str(v).startswith("${")})


def _settings(file: Path) -> tuple[str, dict[str, Any]]:
    """The plug-in that an option's YAML file is about, and the values that it sets."""
    values = yaml.safe_load(file.read_text())
    (base,) = [line for line in values.pop("defaults") if str(line).startswith("base_")]
    return base.partition("@")[0].removeprefix("base_"), values


def plugin_packages(config: Any, kinds: Sequence[str] = KINDS) -> dict[str, str]:
    """Name -> version of the other packages whose plug-ins a configuration uses."""
    used: set[tuple[str, type]] = set()
    for kind in kinds:
        section = getattr(config, kind)
        parts = section.values() if kind == "transform" else [section]
        used |= {(kind, type(part)) for part in parts}
    benchmarks = {("data", name) for name in config.eval} if "data" in kinds else set()
    found: dict[str, str] = {}
    for (kind, name), entry in external_plugins().items():
        if (kind, name) in benchmarks or any(
            kind == of and _leads_to(entry, cls) for of, cls in used
        ):
            assert entry.dist is not None
            found[entry.dist.name] = entry.dist.version
    return found


def packages_of(plugins: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Name -> version of the other packages that bring these plug-ins, given as (kind, name)."""
    external = external_plugins()
    entries = [external[plugin] for plugin in plugins if plugin in external]
    return {entry.dist.name: entry.dist.version for entry in entries if entry.dist}


def file_names(kind: str) -> list[str]:
    """Files that start with an underscore are parts of plug-ins."""
    package = importlib.import_module(f"latentbench.{kind}")
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return sorted(name for name in names if not name.startswith("_"))


def _frozen_dataclasses(module: ModuleType) -> list[type]:
    return [
        value
        for value in vars(module).values()
        if _is_frozen_dataclass(value) and value.__module__ == module.__name__
    ]


def _is_frozen_dataclass(value: Any) -> bool:
    return (
        isinstance(value, type)
        and dataclasses.is_dataclass(value)
        and value.__dataclass_params__.frozen  # type: ignore[attr-defined]
    )


def _external_class(kind: str, entry: EntryPoint) -> type:
    """Import what an entry point names; all that can be wrong with it is said in one line."""
    what = f"{kind}={entry.name}: {entry.value} of {_package(entry)}"
    try:
        module = importlib.import_module(entry.module)
        named = [getattr(module, entry.attr)] if entry.attr else _frozen_dataclasses(module)
        classes = [value for value in named if _is_frozen_dataclass(value)]
        for cls in classes:
            writable(cls)  # its fields are of types that a configuration can hold
    except Exception as error:  # whatever somebody else's module raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{what} cannot be loaded: {reason}") from error
    if len(classes) != 1:
        raise InputError(f"{what} is {len(classes)} frozen dataclasses; a plug-in is exactly one")
    return classes[0]


def _leads_to(entry: EntryPoint, cls: type) -> bool:
    """Whether a class that is in use, so that its module is imported, came by this entry point."""
    module = sys.modules.get(entry.module)
    if not entry.attr:
        return cls.__module__ == entry.module
    return module is not None and getattr(module, entry.attr, None) is cls


def _package(entry: EntryPoint) -> str:
    assert entry.dist is not None
    return f"{entry.dist.name} {entry.dist.version}"


# -- plug-ins as schemas, and from plain values ---------------------------------------------------


def writable(schema: type) -> DictConfig:
    """OmegaConf makes a frozen dataclass read-only; Hydra has yet to merge YAML into it."""
    node = OmegaConf.structured(schema)
    OmegaConf.set_readonly(node, None)
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig | ListConfig):
            OmegaConf.set_readonly(child, None)
    return node


def built(cls: type, values: Mapping[str, Any], where: str) -> Any:
    """A plug-in of plain values, each of which has to fit the type of its field.

    Raises InputError, which begins with `where` and the name of the value.
    """
    node = writable(cls)
    for name, value in values.items():
        try:
            node = OmegaConf.merge(node, {name: value})
        except OmegaConfBaseException as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"{where}.{name}={value}: {reason}") from error
    return OmegaConf.to_object(node)

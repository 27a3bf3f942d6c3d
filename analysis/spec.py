"""What a table shows, as declared in a YAML file: read, checked, and refused by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from .runs import AnalysisError

DEFAULT = "default"  # the preset of the table without a spec
PRESETS = Path(__file__).resolve().parents[1] / "conf" / "analysis"
_CHOICES = {
    "benchmarks": ("groups", "columns"),
    "order": ("name", "value"),
    "spread": ("sd", "interval", "both"),
    "bold": ("tested", "never"),
}


@dataclass(frozen=True)
class Column:
    """A metric and its heading, if not its own; an `optional` one may be in none of the runs."""

    metric: str
    heading: str = ""
    optional: bool = False


@dataclass(frozen=True)
class Spec:
    """One table: see conf/analysis/paper.yaml for what each key means."""

    columns: tuple[Column, ...]
    source: str = "spec"
    title: str = ""
    rows: tuple[str, ...] = ("row",)
    benchmarks: str = "groups"
    group: tuple[str, ...] = ("data", "model")
    filter: tuple[tuple[str, tuple[str, ...]], ...] = ()
    over: str | None = None
    order: str = "name"
    labels: tuple[tuple[str, str], ...] = ()
    spread: str = "sd"
    bold: str = "tested"
    pair_seeds: bool = False
    footnotes: tuple[str, ...] = ()


def read_spec(path: Path | str, over: str | None = None) -> Spec:
    """The table that a file, or a preset by its bare name, declares; `over` wins over the file's.

    AnalysisError names the file, the key and its value.
    """
    file = _file(Path(path))
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        line = " ".join(str(error).split())
        raise AnalysisError(f"{file}: cannot be read ({line}); repair the YAML") from error
    if not isinstance(content, Mapping):
        raise AnalysisError(f"{file}: holds no keys; it needs at least columns: [pass@1]")
    return _spec(str(file), dict(content) | ({"over": over} if over else {}))


def _file(path: Path) -> Path:
    preset = PRESETS / f"{path.name}.yaml"
    if not path.is_file() and path.parent == Path(".") and preset.is_file():
        return preset
    if not path.is_file():
        have = ", ".join(sorted(file.stem for file in PRESETS.glob("*.yaml")))
        raise AnalysisError(f"{path}: no such file; give a YAML file, or a preset: {have}")
    return path


def _spec(source: str, content: dict[str, Any]) -> Spec:
    known = [field.name for field in fields(Spec) if field.name != "source"]
    for key in content:
        if key not in known:
            raise AnalysisError(f"{source}: unknown key {key!r}; choose from {', '.join(known)}")
    values: dict[str, Any] = {"source": source}
    for key, value in content.items():
        try:
            values[key] = _READERS[key](key, value)
        except ValueError as error:
            raise AnalysisError(f"{source}: {key}={value!r}: {error}") from error
    if not values.get("columns"):
        raise AnalysisError(f"{source}: columns: missing; give metrics, as in columns: [pass@1]")
    return Spec(**values)


def _text(_key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("give a text")
    return " ".join(value.split())  # one line: a note is one comment in LaTeX


def _optional_text(key: str, value: Any) -> str | None:
    return None if value is None else _text(key, value)


def _texts(_key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError("give a list of texts")
    return tuple(" ".join(one.split()) for one in value)


def _choice(key: str, value: Any) -> str:
    if value not in _CHOICES[key]:
        raise ValueError(f"choose from {', '.join(_CHOICES[key])}")
    return value


def _flag(_key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("give true or false")
    return value


def _columns(_key: str, value: Any) -> tuple[Column, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError("give a list of metrics, as in [pass@1, gain]")
    return tuple(_column(one) for one in value)


def _column(value: Any) -> Column:
    if isinstance(value, str):
        return Column(value)
    known = {"metric", "heading", "optional"}
    if isinstance(value, Mapping) and set(value) <= known and "metric" in value:
        optional = _flag("optional", value.get("optional", False))
        return Column(str(value["metric"]), str(value.get("heading", "")), optional)
    raise ValueError(f"{value!r} is no column; give a metric, or metric: with heading:, optional:")


def _filter(_key: str, value: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple(
        (str(name), tuple(plain(one) for one in (wanted if isinstance(wanted, list) else [wanted])))
        for name, wanted in _mapping(value).items()
    )


def _labels(_key: str, value: Any) -> tuple[tuple[str, str], ...]:
    return tuple((str(name), str(label)) for name, label in _mapping(value).items())


def _mapping(value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("give key: value pairs")
    return value


def plain(value: Any) -> str:
    """A config value as one text, so that 0.1 in YAML is 0.1 in a record."""
    import json

    return value if isinstance(value, str) else json.dumps(value)


_READERS = {
    "columns": _columns,
    "title": _text,
    "rows": _texts,
    "benchmarks": _choice,
    "group": _texts,
    "filter": _filter,
    "over": _optional_text,
    "order": _choice,
    "labels": _labels,
    "spread": _choice,
    "bold": _choice,
    "pair_seeds": _flag,
    "footnotes": _texts,
}

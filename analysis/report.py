"""One page about a study, for a browser: `python -m analysis.report RUNS... [--out report.html]`

The file holds everything it shows (figures, items, configs) and asks no network for anything.
`--screenshots DIR` also pictures it with a Chromium, at two widths, light and dark.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.collect import Study, add_inputs, code_of, collect
from analysis.figures import Drawing, Group, draw, greedy, groups_of, matrix, names_of, passed, svg
from analysis.layout import percent
from analysis.runs import AnalysisError, Run
from analysis.stats import (
    Interval,
    difference_p,
    hierarchical_difference,
    hierarchical_interval,
    holm,
)
from analysis.summary import Outcomes
from analysis.variants import config_values

if TYPE_CHECKING:
    import pandas as pd

_PAGE = Path(__file__).with_name("page")
_LEVEL = 0.05
# Half widths of a 95 % interval that a true effect must measure to be found with 80 % chance. Taken
# from the interval shown, so that the two agree where few seeds make it wide.
_REACH = (1.960 + 0.842) / 1.960
_ITEM_BYTES = 3_800_000  # of answers in the page; their texts are cut until they fit
_CUTS = (4000, 600, 300, 150, 80, 40, 0)  # characters kept of an answer
QUESTIONS = "questions.parquet"
_QUESTION_CUT = 1000
_READ = ("benchmark", "item", "stage", "decode", "sample", "answer_text", "prediction", "gold")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_SHOTS = (
    ("report-wide", 1280, 1500, False, ""),
    ("report-narrow", 390, 1300, False, ""),
    ("report-dark", 1280, 1000, True, ""),
    ("report-items", 1280, 900, False, "items"),
    ("report-narrow-dark", 390, 1100, True, "items"),
)

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """One cell of a sortable table: what is shown, a smaller second line, what it sorts by."""

    text: str
    note: str = ""
    value: float | None = None


@dataclass(frozen=True)
class Verdict:
    """A sentence about a comparison: kind is better, none (shown) or lost (to the correction)."""

    kind: str
    head: str
    detail: str


@dataclass(frozen=True)
class Contrast:
    """A difference with what a verdict about it needs; `p` is not yet adjusted."""

    first: str
    second: str
    where: str
    metric: str
    difference: Interval
    p: float
    seeds: tuple[int, int]


def page(study: Study, drawings: Sequence[Drawing], folders: Sequence[Path | str]) -> str:
    """The page of a study with figures that were drawn from it, as HTML.

    Paths are shown relative to what the given folders have in common.
    """
    import jinja2

    place = _placer(folders)
    groups = groups_of(study)
    script = (_PAGE / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    loader = jinja2.FileSystemLoader(_PAGE)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    answers, cut = _answers(study, groups)
    pairs = [contrast for group in groups for contrast in _pairs(study, group)]
    gains = [contrast for group in groups for contrast in _gains(study, group)]
    return environment.get_template("report.html.j2").render(
        style=(_PAGE / "report.css").read_text(encoding="utf-8"),
        script=script,
        digest=digest,
        title=_title(study),
        lead=_lead(study),
        verdicts=_verdicts(pairs, _versus),
        compared=len(pairs),
        gains=_verdicts(gains, _gained),
        tables=[_table(study, group) for group in groups],
        figures=[(d, svg(d)) for d in drawings if d.figure is not None],
        omitted=[drawing for drawing in drawings if drawing.figure is None],
        cut=cut,
        data=_embedded({**answers, **_configs(study, place)}),
        provenance=_provenance(study, place),
        refused=[(place(one.path), one.kind, place(one.reason)) for one in study.refused],
        footnotes=study.footnotes,
    )


# --- words ----------------------------------------------------------------------------------------


def _title(study: Study) -> str:
    return (
        ", ".join(sorted({run.data for run in study.runs})) + ": " + _count(len(study.runs), "run")
    )


def _lead(study: Study) -> list[tuple[str, str]]:
    """The facts at the head of the page."""
    rows = sorted(set(study.names.values()))
    seeds = sorted({run.seed for run in study.runs})
    return [
        ("methods", ", ".join(rows) if len(rows) <= 8 else f"{len(rows)} rows"),
        ("data", ", ".join(sorted({run.data for run in study.runs}))),
        ("model", ", ".join(sorted({run.model for run in study.runs}))),
        ("seeds", ", ".join(map(str, seeds))),
        ("code", "; ".join(sorted({code_of(run) for run in study.runs}))),
    ]


def _pairs(study: Study, group: Group) -> list[Contrast]:
    """All pairs of rows of a group, the one with the higher mean first."""
    metric, values = _headline(study, group)
    found = []
    for pair in combinations(values, 2):
        first, second = sorted(pair, key=lambda row: (-float(values[row].mean()), row))
        if _items(study, group, first) == _items(study, group, second):
            arms = values[first], values[second]
            found.append(_contrast(first, second, group, metric, *arms))
    return sorted(found, key=lambda each: -each.difference.mean)


def _gains(study: Study, group: Group) -> list[Contrast]:
    """Each row of a group against its own init, seed by seed."""
    metric, finals = _headline(study, group)
    pick = _PICKS[metric]
    found = []
    for row, final in finals.items():
        start = matrix(study, group.rows[row], group.benchmark, "init", pick)
        if start is not None and start.shape == final.shape:
            found.append(_contrast(row, "its own init", group, metric, final, start, paired=True))
    return sorted(found, key=lambda each: -each.difference.mean)


def _contrast(
    first: str,
    second: str,
    group: Group,
    metric: str,
    a: Values,
    b: Values,
    paired: bool = False,
) -> Contrast:
    return Contrast(
        first,
        second,
        group.benchmark,
        metric,
        hierarchical_difference(a, b, pair_seeds=paired),
        difference_p(a, b, pair_seeds=paired),
        (len(a), len(b)),
    )


def _verdicts(
    contrasts: Sequence[Contrast], wording: Callable[[str, Contrast], str]
) -> list[Verdict]:
    """The contrasts in words, corrected together (Holm): what is shown, then what is not."""
    adjusted = holm([each.p for each in contrasts])
    verdicts = []
    for each, p in zip(contrasts, adjusted, strict=True):
        kind = _kind(each, p)
        verdicts.append(Verdict(kind, wording(kind, each), _detail(kind, each, p, len(contrasts))))
    return sorted(verdicts, key=lambda verdict: verdict.kind != "better")


def _kind(contrast: Contrast, p: float) -> str:
    if contrast.difference.low <= 0 <= contrast.difference.high:
        return "none"
    return "better" if p < _LEVEL else "lost"


def _versus(kind: str, contrast: Contrast) -> str:
    points = _points(abs(contrast.difference.mean))
    where = f"on {contrast.where} ({contrast.metric})"
    if kind == "better":
        return f"{contrast.first} beats {contrast.second} {where} by {points}."
    return f"No difference shown between {contrast.first} and {contrast.second} {where}."


def _gained(kind: str, contrast: Contrast) -> str:
    where = f"on {contrast.where} ({contrast.metric})"
    if kind != "better":
        return f"No change shown between {contrast.first} and its own init {where}."
    verb = "gains" if contrast.difference.mean > 0 else "loses"
    size = _points(abs(contrast.difference.mean))
    return f"{contrast.first} {verb} {size} over its own init {where}."


def _detail(kind: str, contrast: Contrast, p: float, family: int) -> str:
    """The numbers behind a verdict, and what they do not say."""
    difference = contrast.difference
    if difference.low == difference.mean == difference.high == 0.0:
        counts = f"{_count(min(contrast.seeds), 'seed')}, {_count(difference.items, 'item')}"
        return f"Not one grade differs on average over seeds; {counts}."
    low, high = percent(difference.low, signed=True), percent(difference.high, signed=True)
    parts = [
        f"Difference {percent(difference.mean, signed=True)} points, 95 % interval {low} to {high}"
    ]
    if kind == "none":
        parts[0] += ", which spans 0"
    corrected = f"adjusted for {family} comparisons " if family > 1 else ""
    parts.append(f"{'p' if family == 1 else 'p ' + corrected}{_p_text(p)}")
    first, second = contrast.seeds
    seeds = _count(first, "seed") if first == second else f"{first} and {second} seeds"
    parts.append(f"{seeds}, {_count(difference.items, 'item')}")
    text = "; ".join(parts) + "."
    reach = _points(_REACH * (difference.high - difference.low) / 2)
    if kind == "lost":
        adjusted = " so adjusted" if family > 1 else ""
        text += f" The interval excludes 0, but p{adjusted} is not below {_LEVEL}."
    if kind != "better":
        text += f" Smallest effect that such a comparison finds with 80 % chance: about {reach}."
    if min(contrast.seeds) == 1:
        text += " One seed: this says nothing about other seeds."
    return text.replace(" %", "\u00a0%")


def _p_text(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"= {p:.4f}" if p < 0.01 else f"= {p:.2f}"


def _points(fraction: float) -> str:
    return f"{percent(fraction)} points"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


# --- tables ---------------------------------------------------------------------------------------


def _headline(study: Study, group: Group) -> tuple[str, dict[str, Values]]:
    """The metric that verdicts are about and its [seed, item] by row: greedy where there is any."""
    found: dict[str, Values] = {}
    for metric, pick in _PICKS.items():
        for row, runs in group.rows.items():
            values = matrix(study, runs, group.benchmark, "final", pick)
            if values is not None:
                found[row] = values
        if found:
            return metric, found
    return "pass@1", found


def _table(study: Study, group: Group) -> dict[str, Any]:
    """One group as headings and rows of cells, every figure with its 95 % interval."""
    samples = {
        study.outcomes(run, group.benchmark, "final").samples
        for runs in group.rows.values()
        for run in runs
    }
    picks: dict[str, Callable[[Outcomes], Any]] = dict(_PICKS)
    picks |= {f"pass@{2**power}": passed(2**power) for power in range(1, max(samples).bit_length())}
    if max(samples):
        picks[f"maj@{'n' if len(samples) > 1 else max(samples)}"] = _majority
    metric, _ = _headline(study, group)
    columns: dict[str, list[Cell]] = {}
    for heading, pick in picks.items():
        cells = [
            _figure(matrix(study, runs, group.benchmark, "final", pick))
            for runs in group.rows.values()
        ]
        if any(cell.value is not None for cell in cells):
            columns[heading] = cells
        if heading == metric:
            columns |= _gain_columns(study, group, metric)
    counts = [Cell(str(len(runs)), value=len(runs)) for runs in group.rows.values()]
    rows = [
        (name, [counts[line], *(cells[line] for cells in columns.values())])
        for line, name in enumerate(group.rows)
    ]
    return {"group": group, "headings": ["seeds", *columns], "rows": rows}


def _gain_columns(study: Study, group: Group, metric: str) -> dict[str, list[Cell]]:
    """The same metric at the own init and the gain over it, where a row has an init."""
    starts, gains = [], []
    for runs in group.rows.values():
        start = matrix(study, runs, group.benchmark, "init", _PICKS[metric])
        final = matrix(study, runs, group.benchmark, "final", _PICKS[metric])
        gained = None
        if start is not None and final is not None and start.shape == final.shape:
            gained = final - start
        starts.append(_figure(start))
        gains.append(_figure(gained, signed=True))
    if not any(cell.value is not None for cell in starts):
        return {}
    return {"own init": starts, "gain": gains}


def _figure(values: Values | None, signed: bool = False) -> Cell:
    if values is None:
        return Cell("n/a")
    interval = hierarchical_interval(values)
    low, high = percent(interval.low, signed), percent(interval.high, signed)
    return Cell(percent(interval.mean, signed), f"[{low}, {high}]", round(interval.mean, 6))


def _majority(outcome: Outcomes) -> NDArray[Any] | None:
    return outcome.majority


_PICKS: Mapping[str, Callable[[Outcomes], Any]] = {
    "greedy pass@1": greedy,
    "sampled pass@1": passed(1),
}


def _items(study: Study, group: Group, row: str) -> tuple[str, ...]:
    return study.outcomes(group.rows[row][0], group.benchmark, "final").items


def _provenance(study: Study, place: Callable[[Path | str], str]) -> list[list[Cell]]:
    """One row for each run: where it is, what it is, what made it, how long it took."""
    rows = []
    for run in _ordered(study):
        init = (run.result.get("init") or {}).get("id")
        seconds = _seconds(run)
        rows.append(
            [
                Cell(place(run.path)),
                Cell(study.names[run.path]),
                Cell(str(run.seed), value=run.seed),
                Cell(run.run_id),
                Cell(run.protocol_id),
                Cell(code_of(run)),
                Cell("n/a" if init is None else str(init)),
                Cell(_hardware(run.result.get("provenance") or {})),
                Cell("n/a" if seconds is None else _duration(seconds), value=seconds),
            ]
        )
    return rows


def _ordered(study: Study) -> list[Run]:
    return sorted(study.runs, key=lambda run: (study.names[run.path], run.seed, str(run.path)))


def _hardware(provenance: Mapping[str, Any]) -> str:
    cores = provenance.get("cores")
    return str(provenance.get("gpu") or ("n/a" if cores is None else _count(cores, "core")))


def _seconds(run: Run) -> float | None:
    """The time of all stages of a run in seconds, as far as they were taken."""
    timing = run.result.get("timing") or {}
    taken = [value for value in timing.values() if isinstance(value, int | float)]
    return round(float(sum(taken)), 1) if taken else None


def _duration(seconds: float) -> str:
    """Hours and minutes, minutes and seconds, or seconds; not to be broken over lines."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
    return text.removeprefix("0 min ").replace(" ", "\u00a0")


# --- data of the page -----------------------------------------------------------------------------


def _answers(study: Study, groups: Sequence[Group]) -> tuple[dict[str, Any], int | None]:
    """The answers to all items for the browser, and to how many characters they had to be cut.

    Equal answers and equal columns (an init that runs share) are stored once.
    """
    frames = {run.path: _item_rows(run) for run in study.runs}
    questions = _questions(study)
    for cut in _CUTS:
        data = _packed(study, groups, frames, questions, cut)
        if len(_embedded(data).encode()) <= _ITEM_BYTES:
            break
    longest = max(
        (int(frame["answer_text"].str.len().max()) for frame in frames.values()), default=0
    )
    return data, (cut if longest > cut else None)


def _item_rows(run: Run) -> pd.DataFrame:
    """One answer for each item and stage: greedy, or the first sample where nothing is greedy."""
    rows = run.items((*_READ, "correct"), decode="greedy")
    if rows.empty:
        rows = run.items((*_READ, "correct"))
        rows = rows.loc[rows["sample"] == 0]
    for column in ("answer_text", "prediction", "gold"):
        rows[column] = [value if isinstance(value, str) else None for value in rows[column]]
    return rows.assign(answer_text=rows["answer_text"].fillna("")).sort_values(by=["item"])


def _questions(study: Study) -> dict[tuple[str, str], str]:
    """The text of every item that a run of the study left, by benchmark and uid."""
    import pandas as pd

    texts: dict[tuple[str, str], str] = {}
    for run in study.runs:
        path = run.path / QUESTIONS
        if path.is_file():
            frame = pd.read_parquet(path, columns=["benchmark", "item", "question"])
            keys = zip(frame["benchmark"], frame["item"], strict=True)
            texts.update(zip(keys, frame["question"], strict=True))
    return texts


def _packed(
    study: Study,
    groups: Sequence[Group],
    frames: Mapping[Path, pd.DataFrame],
    questions: Mapping[tuple[str, str], str],
    cut: int,
) -> dict[str, Any]:
    texts: dict[tuple[str, str | None], int] = {}
    columns: dict[str, int] = {}
    packed = []
    for group in groups:
        uids = _items(study, group, next(iter(group.rows)))
        gold: list[str | None] = []
        rows = []
        for name, runs in group.rows.items():
            seeds = []
            for run in runs:
                frame = frames[run.path]
                own = frame.loc[frame["benchmark"] == group.benchmark]
                held = {
                    stage: _column(part, uids, cut, texts, columns)
                    for stage in ("init", "final")
                    if len(part := own.loc[own["stage"] == stage])
                }
                gold = gold or _aligned(own.loc[own["stage"] == "final"], uids, "gold")
                seeds.append({"seed": run.seed, **held})
            rows.append({"name": name, "runs": seeds})
        asked = [questions.get((group.benchmark, uid)) for uid in uids]
        packed.append(
            {
                "title": group.title,
                "items": list(uids),
                "questions": [text and text[:_QUESTION_CUT] for text in asked],
                "gold": gold,
                "rows": rows,
            }
        )
    answers = [[text, prediction] if text else [0, prediction] for text, prediction in texts]
    return {"groups": packed, "answers": answers, "columns": [json.loads(c) for c in columns]}


def _column(
    part: pd.DataFrame,
    uids: Sequence[str],
    cut: int,
    texts: dict[tuple[str, str | None], int],
    columns: dict[str, int],
) -> int:
    """The place of one run's answers at one stage in the list of columns; -1 stands for none."""
    where = {uid: line for line, uid in enumerate(part["item"])}
    said, read = part["answer_text"].tolist(), part["prediction"].tolist()
    grades = part["correct"].tolist()
    places, right = [], []
    for uid in uids:
        line = where.get(uid)
        if line is None:
            places.append(-1)
            right.append("0")
            continue
        text = said[line] if len(said[line]) <= cut else said[line][:cut] + "…"
        prediction = read[line] if isinstance(read[line], str) else None
        places.append(texts.setdefault((text, prediction), len(texts)))
        right.append("1" if grades[line] else "0")
    packed = json.dumps([places, "".join(right)])
    return columns.setdefault(packed, len(columns))


def _aligned(part: pd.DataFrame, uids: Sequence[str], column: str) -> list[str | None]:
    held = dict(zip(part["item"], part[column], strict=True))
    return [value if isinstance(value := held.get(uid), str) else None for uid in uids]


def _configs(study: Study, place: Callable[[Path | str], str]) -> dict[str, Any]:
    """The config values in which any two runs differ, by key, and how many keys all share."""
    flat = [config_values(run) for run in _ordered(study)]
    keys = sorted(set().union(*flat))
    differing = {}
    for key in keys:
        values = [config.get(key) for config in flat]
        if len(set(values)) > 1:
            differing[key] = values
    runs = [
        f"{study.names[run.path]}, seed {run.seed} ({place(run.path)})" for run in _ordered(study)
    ]
    return {"runs": runs, "configs": differing, "shared": len(keys) - len(differing)}


def _embedded(data: Mapping[str, Any]) -> str:
    """JSON that can end no script element, whatever a model wrote."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for character in "<\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _placer(folders: Sequence[Path | str]) -> Callable[[Path | str], str]:
    """A function that takes what lies above the given folders out of a path or a sentence."""
    local = [Path(folder) for folder in folders if "://" not in str(folder)]
    full = [folder.resolve() for folder in local]
    above = Path(os.path.commonpath(full)).parent if full else Path()
    # Longer paths first: one folder may lie in another.
    pairs = sorted(
        ((str(given), str(own.relative_to(above))) for given, own in zip(local, full, strict=True)),
        key=lambda pair: -len(pair[0]),
    )

    def place(text: Path | str) -> str:
        words = str(text)
        for given, short in pairs:
            words = re.sub(rf"(?<![\w./-]){re.escape(given)}(?![\w.-])", short, words)
        return words

    return place


# --- pictures -------------------------------------------------------------------------------------


def browser() -> str | None:
    """The path of a Chromium on this machine, if there is one."""
    return next((path for name in _BROWSERS if (path := shutil.which(name))), None)


def browse(page_file: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Open a page in a headless Chromium with a profile of its own, asking the network nothing.

    AnalysisError where there is no Chromium.
    """
    program = browser()
    if program is None:
        raise AnalysisError("--screenshots: no Chromium found; install one, or leave this out")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--virtual-time-budget=3000",
            f"--user-data-dir={profile}",
            *flags,
            page_file.resolve().as_uri(),
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def screenshots(page_file: Path, out: Path) -> list[Path]:
    """Picture a page at two widths, light and dark; the paths of the PNG files."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, width, height, dark, section in _SHOTS:
        file = (out / f"{name}.png").resolve()
        flags = [f"--screenshot={file}", f"--window-size={width},{height}"]
        # Blink's own enumeration: 0 is dark, 1 is light.
        flags.append(f"--blink-settings=preferredColorScheme={0 if dark else 1}")
        with tempfile.TemporaryDirectory() as folder:
            shown = page_file
            if section:  # a headless browser pictures the top of a page, so the rest is hidden
                hidden = f"<style>header, section:not(#{section}) {{ display: none; }}</style>"
                shown = Path(folder) / "page.html"
                text = page_file.read_text(encoding="utf-8")
                shown.write_text(text.replace("</head>", hidden + "</head>", 1), encoding="utf-8")
            browse(shown, *flags)
        _shrink(file)
        written.append(out / file.name)
    return written


def _shrink(file: Path) -> None:
    """Keep 255 colours of a picture: enough for text and lines, a third of the bytes."""
    from PIL import Image

    with Image.open(file) as image:
        small = image.convert("RGB").quantize(255, dither=Image.Dither.NONE)
    small.save(file, optimize=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; 0, or 2 after one line that says what to change."""
    options = _parser().parse_args(arguments)
    try:
        study = collect(options.folders, options.allow)
        drawings = draw(study, over=options.over)
        text = page(study, drawings, options.folders)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8", newline="\n")
        print(f"{options.out}: {len(study.runs)} runs, {options.out.stat().st_size / 1e6:.1f} MB")
        if options.screenshots:
            print("\n".join(map(str, screenshots(options.out, options.screenshots))))
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis.report", description=__doc__)
    add_inputs(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("report.html"), help="the page; default: report.html"
    )
    parser.add_argument(
        "--over", type=names_of, default=(), help="two config keys for the heat map"
    )
    parser.add_argument(
        "--screenshots", type=Path, metavar="DIR", help="also picture the page (needs a Chromium)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""One page about a study, for a browser: `python -m analysis.report RUNS... [--out report.html]`

The file holds everything it shows (figures, items, configs) and asks no network for anything.
`--screenshots DIR` also pictures it with a Chromium, at two widths, light and dark.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..collect import add_inputs, collect
from ..figures import draw, names_of, svg
from ..figures.shared import Drawing
from ..runs import AnalysisError, Run
from ..study import Study, code_of, groups_of
from .browser import screenshots
from .cells import Cell, table_of
from .data import answers_of, configs_of, embedded, in_order
from .verdicts import count, verdicts_of

_TEMPLATE = Path(__file__).with_name("template")


def page(study: Study, drawings: Sequence[Drawing], folders: Sequence[Path | str]) -> str:
    """The page of a study with figures that were drawn from it, as HTML.

    Paths are shown relative to what the given folders have in common.
    """
    import jinja2

    place = _placer(folders)
    groups = groups_of(study)
    script = (_TEMPLATE / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    loader = jinja2.FileSystemLoader(_TEMPLATE)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    answers, cut = answers_of(study, groups)
    verdicts, gains = verdicts_of(study, groups)
    return environment.get_template("report.html.j2").render(
        style=(_TEMPLATE / "report.css").read_text(encoding="utf-8"),
        script=script,
        digest=digest,
        title=_title(study),
        lead=_lead(study),
        verdicts=verdicts,
        gains=gains,
        tables=[table_of(study, group) for group in groups],
        figures=[(d, svg(d)) for d in drawings if d.figure is not None],
        omitted=[drawing for drawing in drawings if drawing.figure is None],
        cut=cut,
        data=embedded({**answers, **configs_of(study, place)}),
        provenance=provenance_of(study, place),
        refused=[(place(one.path), one.kind, place(one.reason)) for one in study.refused],
        footnotes=study.footnotes,
    )


def _title(study: Study) -> str:
    return (
        ", ".join(sorted({run.data for run in study.runs})) + ": " + count(len(study.runs), "run")
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


def provenance_of(study: Study, place: Callable[[Path | str], str]) -> list[list[Cell]]:
    """One row for each run: where it is, what it is, what made it, how long it took."""
    rows = []
    for run in in_order(study):
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


def _hardware(provenance: Mapping[str, Any]) -> str:
    cores = provenance.get("cores")
    return str(provenance.get("gpu") or ("n/a" if cores is None else count(cores, "core")))


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

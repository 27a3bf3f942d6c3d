"""One table, three spellings: Markdown, LaTeX (booktabs) and CSV with the same figures.

All figures are percent with one decimal. The best value of a column is not set in bold: which
method is better is for a test to say, not for a typeface.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
}
NOTHING = "n/a"


@dataclass(frozen=True)
class Figure:
    """A mean over seeds as a fraction, its sample deviation (None for one seed), and optionally the
    interval over items; `signed` figures are differences."""

    mean: float
    std: float | None
    interval: tuple[float, float] | None = None
    signed: bool = False

    def text(self) -> str:
        """`81.2 ± 0.4`, or `+3.1 ± 0.4 [+2.0, +4.1]` for a difference with its interval."""
        spread = "" if self.std is None else f" ± {percent(self.std)}"
        bounds = ""
        if self.interval is not None:
            low, high = (percent(bound, self.signed) for bound in self.interval)
            bounds = f" [{low}, {high}]"
        return f"{percent(self.mean, self.signed)}{spread}{bounds}"


@dataclass(frozen=True)
class Row:
    """One method in one group: its runs and its figures by column (absent where not measured)."""

    name: str
    run_ids: tuple[str, ...]
    figures: Mapping[str, Figure]


@dataclass(frozen=True)
class Group:
    """Rows that may be compared: one data set, model, benchmark and protocol."""

    data: str
    model: str
    benchmark: str
    protocol: str
    rows: tuple[Row, ...]

    def title(self) -> str:
        """What the rows have in common, for a heading."""
        return f"{self.benchmark} (data {self.data}, model {self.model}, protocol {self.protocol})"


@dataclass(frozen=True)
class Table:
    """Groups under common columns (key, heading) and the notes that belong below them."""

    columns: tuple[tuple[str, str], ...]
    groups: tuple[Group, ...]
    notes: tuple[str, ...]


def percent(fraction: float, signed: bool = False) -> str:
    """A fraction as percent with one decimal; never a negative zero."""
    text = f"{100 * fraction:+.1f}" if signed else f"{100 * fraction:.1f}"
    return re.sub(r"^[+-](?=0\.0$)", "", text)


def markdown(table: Table) -> str:
    """A heading and a pipe table for each group, then the notes as a list."""
    parts: list[str] = []
    headings = ["method", "seeds", *(heading for _, heading in table.columns)]
    for group in table.groups:
        rows = [headings, *(_cells(row, table.columns) for row in group.rows)]
        rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        lines = [_pipe(row, widths) for row in (rows[0], rule, *rows[1:])]
        parts.append(f"### {group.title()}\n\n" + "\n".join(lines) + "\n")
    parts.append("".join(f"- {note}\n" for note in table.notes))
    return "\n".join(parts)


def latex(table: Table) -> str:
    """A booktabs tabular, to be put into a table environment; the notes are comments above it."""
    span = len(table.columns) + 2
    lines = [f"% {note}" for note in table.notes]
    lines += [rf"\begin{{tabular}}{{l{'r' * (span - 1)}}}", r"\toprule"]
    headings = ["method", "seeds", *(heading for _, heading in table.columns)]
    lines.append(_latex_row(headings))
    for group in table.groups:
        lines += [r"\midrule", rf"\multicolumn{{{span}}}{{l}}{{{escape(group.title())}}} \\"]
        lines += [_latex_row(_cells(row, table.columns)) for row in group.rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def comma_separated(table: Table) -> str:
    """One line for each group and method, spread and bounds in columns of their own, with the run
    ids behind them; an empty field was not measured."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = ["data", "model", "benchmark", "protocol_id", "method", "seeds"]
    fields = [field for key, _ in table.columns for field in _field_names(key)]
    writer.writerow([*head, *fields, "run_ids"])
    for group in table.groups:
        for row in group.rows:
            figures = [
                value for key, _ in table.columns for value in _fields(key, row.figures.get(key))
            ]
            common = [group.data, group.model, group.benchmark, group.protocol]
            runs = " ".join(row.run_ids)
            writer.writerow([*common, row.name, len(row.run_ids), *figures, runs])
    return out.getvalue()


def escape(text: str) -> str:
    """Text with everything that LaTeX reads as a command spelled out."""
    return "".join(_LATEX.get(character, character) for character in text)


def _cells(row: Row, columns: Iterable[tuple[str, str]]) -> list[str]:
    figures = [row.figures[key].text() if key in row.figures else NOTHING for key, _ in columns]
    return [row.name, str(len(row.run_ids)), *figures]


def _pipe(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    return f"| {' | '.join(padded)} |"


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(map(escape, cells)) + r" \\"


def _field_names(key: str) -> list[str]:
    bounds = [f"{key}_low", f"{key}_high"] if key == "gain" else []
    return [key, f"{key}_std", *bounds]


def _fields(key: str, figure: Figure | None) -> list[str]:
    if figure is None:
        return [""] * len(_field_names(key))
    spread = "" if figure.std is None else percent(figure.std)
    bounds = [percent(bound, figure.signed) for bound in figure.interval or ()]
    return [percent(figure.mean, figure.signed), spread, *bounds]

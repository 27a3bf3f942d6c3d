"""One table, four spellings: Markdown, LaTeX (booktabs), HTML and CSV with the same figures.

Shares are percent with one decimal, lengths plain numbers with one. A value is set in bold only
where whoever made the table says that a test bears it out: no typeface decides which is better.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
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
_BOLD = r"\textbf{{{}}}"


@dataclass(frozen=True)
class Entry:
    """A mean over seeds as a fraction, its sample deviation (None for one seed), and optionally its
    interval; `signed` figures are differences, those that are no `share` plain numbers, and `best`
    ones stand in bold."""

    mean: float
    std: float | None
    interval: tuple[float, float] | None = None
    signed: bool = False
    share: bool = True
    best: bool = False
    seeds: int = 0
    items: int = 0

    def text(self) -> str:
        """`81.2 ± 0.4`, or `+3.1 ± 0.4 [+2.0, +4.1]` for a difference with its interval."""
        spread = "" if self.std is None else f" ± {self.number(self.std, signed=False)}"
        bounds = ""
        if self.interval is not None:
            low, high = (self.number(bound) for bound in self.interval)
            bounds = f" [{low}, {high}]"
        return f"{self.number(self.mean)}{spread}{bounds}"

    def number(self, value: float, signed: bool | None = None) -> str:
        """A value in the unit of this figure."""
        value = value if self.share else value / 100
        return percent(value, self.signed if signed is None else signed)


@dataclass(frozen=True)
class Row:
    """One method in one group: its runs and its figures by column (absent where not measured)."""

    name: str
    run_ids: tuple[str, ...]
    figures: Mapping[str, Entry]


@dataclass(frozen=True)
class Section:
    """Rows that may be compared, under what they have in common."""

    heading: str
    protocol: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """Groups under common columns (key, heading) and the notes that belong below them."""

    columns: tuple[tuple[str, str], ...]
    groups: tuple[Section, ...]
    notes: tuple[str, ...]
    row_heading: str = "method"
    title: str = ""


def percent(fraction: float, signed: bool = False) -> str:
    """A fraction as percent with one decimal; never a negative zero."""
    text = f"{100 * fraction:+.1f}" if signed else f"{100 * fraction:.1f}"
    return re.sub(r"^[+-](?=0\.0$)", "", text)


def markdown(table: Table) -> str:
    """A heading and a pipe table for each group, then the notes as a list."""
    parts = [f"## {table.title}\n"] if table.title else []
    for group in table.groups:
        rows = [_headings(table), *(_cells(row, table.columns, "**{}**") for row in group.rows)]
        rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        lines = [_pipe(row, widths) for row in (rows[0], rule, *rows[1:])]
        parts.append(f"### {group.heading}\n\n" + "\n".join(lines) + "\n")
    parts.append("".join(f"- {note}\n" for note in table.notes))
    return "\n".join(parts)


_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def latex(table: Table) -> str:
    """A booktabs tabular, to be put into a table environment; the notes are comments above it."""
    span = len(table.columns) + 2
    title = [table.title] if table.title else []
    lines = [f"% {' '.join(note.split())}" for note in (*title, *table.notes)]
    lines += [rf"\begin{{tabular}}{{l{'r' * (span - 1)}}}", r"\toprule"]
    lines.append(_latex_row(map(escape, _headings(table))))
    for group in table.groups:
        lines += [r"\midrule", rf"\multicolumn{{{span}}}{{l}}{{{escape(group.heading)}}} \\"]
        lines += [_latex_row(_cells(row, table.columns, _BOLD, escape)) for row in group.rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def html(table: Table) -> str:
    """A `<section>` with a `<table>` for each group and the notes as a list, without any style."""
    lines = ["<section>"]
    if table.title:
        lines.append(f"<h2>{_markup(table.title)}</h2>")
    head = "".join(f'<th scope="col">{_markup(cell)}</th>' for cell in _headings(table))
    for group in table.groups:
        lines += ["<table>", f"<caption>{_markup(group.heading)}</caption>"]
        lines += [f"<thead><tr>{head}</tr></thead>", "<tbody>"]
        for row in group.rows:
            first, *others = _cells(row, table.columns, "<strong>{}</strong>", _markup)
            cells = "".join(f"<td>{cell}</td>" for cell in others)
            lines.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
        lines += ["</tbody>", "</table>"]
    lines += ["<ul>", *(f"<li>{_markup(note)}</li>" for note in table.notes), "</ul>", "</section>"]
    return "\n".join(lines) + "\n"


def comma_separated(table: Table) -> str:
    """CSV with one line for each figure, its spread, bounds, seeds and items, and the run ids."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    spread = ["value", "std", "low", "high", "seeds", "items", "best"]
    writer.writerow(["group", "protocol_id", table.row_heading, "column", *spread, "run_ids"])
    for group in table.groups:
        for row in group.rows:
            for key, _ in table.columns:
                figure = row.figures.get(key)
                if figure is not None:
                    own = [group.heading, group.protocol, row.name, key, *_numbers(figure)]
                    cells = [*own, " ".join(row.run_ids)]
                    writer.writerow([plain_cell(cell) for cell in cells])
    return out.getvalue()


def escape(text: str) -> str:
    """Text in one line with everything that LaTeX reads as a command spelled out."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def plain_cell(text: object) -> object:
    """A cell of a CSV that no spreadsheet takes for a formula: a text that begins like one is led
    in by an apostrophe; numbers stay numbers."""
    if not isinstance(text, str) or text[:1] not in _FORMULA:
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def _headings(table: Table) -> list[str]:
    return [table.row_heading, "seeds", *(heading for _, heading in table.columns)]


def _cells(
    row: Row,
    columns: Iterable[tuple[str, str]],
    bold: str,
    spelled: Callable[[str], str] = str,
) -> list[str]:
    """The cells of a row, spelled for their format, the best ones inside `bold`."""
    cells = [spelled(row.name), str(len(row.run_ids))]
    for key, _ in columns:
        figure = row.figures.get(key)
        text = spelled(NOTHING if figure is None else figure.text())
        cells.append(bold.format(text) if figure is not None and figure.best else text)
    return cells


def _numbers(figure: Entry) -> list[str]:
    spread = "" if figure.std is None else figure.number(figure.std, signed=False)
    bounds = [figure.number(bound) for bound in figure.interval or ()] or ["", ""]
    best = "yes" if figure.best else ""
    counts = [str(figure.seeds), str(figure.items)]
    return [figure.number(figure.mean), spread, *bounds, *counts, best]


def _markup(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _pipe(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    return f"| {' | '.join(padded)} |"


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"

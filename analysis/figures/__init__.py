"""The figures of a study, as PDF and PNG: `python -m analysis.figures RUNS... --out DIR`

Each figure has a caption beside it (`captions.md`) that says what its lines and bands are. A figure
that the runs cannot carry is left out, and the captions say why.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path

from ..collect import add_inputs, collect
from ..runs import AnalysisError
from ..study import Study
from .ablation import ablation
from .cost import cost
from .latent_steps import latent_steps
from .latents import thoughts, trajectories
from .learning_curves import learning_curves
from .pass_at_k import pass_at_k
from .shared import INK, SINGLE, STYLE, Drawing, Painter, looks_of


def draw(
    study: Study, only: Sequence[str] | None = None, over: Sequence[str] = ()
) -> list[Drawing]:
    """The figures of a study in the order of `FIGURES`, all or those named in `only`.

    `over` names the two config keys of the heat map. AnalysisError for unreadable files and for an
    unknown name.
    """
    import matplotlib

    unknown = [name for name in only or () if name not in FIGURES]
    if unknown:
        raise AnalysisError(f"--only {unknown[0]}: choose from {', '.join(FIGURES)}")
    methods = {run.method for run in study.runs}
    looks = looks_of([*sorted(methods), *sorted(set(study.names.values()))])
    drawings: list[Drawing] = []
    with matplotlib.rc_context(fname=STYLE):
        for name in FIGURES if only is None else only:
            drawings += FIGURES[name](study, looks, tuple(over))
    return drawings


def save(drawings: Sequence[Drawing], out: Path) -> list[Path]:
    """Write each figure as PDF and PNG and all captions to `captions.md`; the paths written."""
    import matplotlib

    out.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context(fname=STYLE):
        for drawing in drawings:
            if drawing.figure is None:
                continue
            # No dates and no versions: the same runs give the same bytes.
            pdf, png = out / f"{drawing.name}.pdf", out / f"{drawing.name}.png"
            drawing.figure.savefig(pdf, metadata={"CreationDate": None, "Producer": None})
            drawing.figure.savefig(png, metadata={"Software": None})
            written += [pdf, png]
    captions = out / "captions.md"
    captions.write_text(_captions(drawings), encoding="utf-8", newline="\n")
    return [*written, captions]


def svg(drawing: Drawing) -> str:
    """A figure as an SVG element for a page: ink as `currentColor`, no ids of its own axes.

    Raises ValueError for a drawing without a figure.
    """
    import matplotlib

    if drawing.figure is None:
        raise ValueError(f"{drawing.name}: there is no figure: {drawing.caption}")
    out = StringIO()
    with matplotlib.rc_context(fname=STYLE):
        drawing.figure.savefig(
            out, format="svg", facecolor="none", metadata={"Date": None, "Creator": None}
        )
    text = out.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # The page sets the size: a class says which of the two widths the figure was made for.
    wide = "double" if drawing.figure.get_figwidth() > SINGLE else "single"
    text = re.sub(
        r'(<svg [^>]*?)width="[^"]*" height="[^"]*"', rf'\g<1>class="{wide}"', text, count=1
    )
    # Ids are for the whole page: those that nothing refers to go, the others get the figure's name.
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(
        r' id="([^"]+)"',
        lambda match: f' id="{drawing.name}-{match[1]}"' if match[1] in used else "",
        text,
    )
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{drawing.name}-", text).strip()


def _captions(drawings: Sequence[Drawing]) -> str:
    parts = [f"## {drawing.title}\n\n" + (f"`{drawing.name}` " if drawing.figure else "")
             + f"{drawing.caption}\n" for drawing in drawings]  # fmt: skip
    return "# Figures\n\n" + "\n".join(parts)


FIGURES: Mapping[str, Painter] = {
    "learning_curves": learning_curves,
    "pass_at_k": pass_at_k,
    "latent_steps": latent_steps,
    "cost": cost,
    "ablation": ablation,
    "trajectories": trajectories,
    "thoughts": thoughts,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the figures; 0, or 2 after one line that says what to change."""
    options = _parser().parse_args(arguments)
    try:
        study = collect(options.folders, options.allow)
        drawings = draw(study, options.only, options.over)
        written = save(drawings, options.out)
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for drawing in drawings:
        if drawing.figure is None:
            print(f"{drawing.name}: {drawing.caption}")
    print("\n".join(map(str, written)))
    return 0


def names_of(text: str) -> tuple[str, ...]:
    """The parts of a comma-separated option, without spaces around them."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis.figures", description=__doc__)
    add_inputs(parser)
    parser.add_argument("--out", type=Path, required=True, help="the folder the figures go to")
    parser.add_argument(
        "--only", type=names_of, help=f"some of {', '.join(FIGURES)} (comma-separated)"
    )
    parser.add_argument(
        "--over", type=names_of, default=(), help="two config keys for the heat map, as "
        "noise.rate,noise.scope",
    )  # fmt: skip
    return parser

"""`python run.py --check`: which parts of a method go together, and why the others do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from latentbench.config import plugins
from latentbench.config.compatibility import Verdict, matrix
from latentbench.noise import SCOPES

LEGAL = "ok"


def options(conf: Path, kind: str) -> list[tuple[str, Any]]:
    """The choices of a kind as `conf` has them, presets included; a noise once for each scope."""
    found: list[tuple[str, Any]] = []
    for path in sorted((conf / kind).glob("*.yaml")):
        part = plugins.configured(conf, kind, path.stem)  # what is left out changes no verdict
        scopes = SCOPES if kind == "noise" and part.scope else ()
        variants = [replace(part, scope=scope) for scope in scopes] or [part]
        found += [(path.stem, variant) for variant in variants]
    return found


def verdicts(conf: Path) -> list[Verdict]:
    """Every combination of carrier, noise, scope, latent loss and transform."""
    kinds = ("carrier", "noise", "latent_loss", "transform")
    return matrix({kind: options(conf, kind) for kind in kinds})


def render(found: Sequence[Verdict], console: Console) -> None:
    """One grid for each latent loss, noise by carrier; then the transforms; then the reasons."""
    reasons: dict[str, str] = {}

    def cell(verdict: Verdict) -> Text:
        if verdict.reason is None:
            return Text(LEGAL, "green")
        return Text(reasons.setdefault(_general(verdict), f"[{len(reasons) + 1}]"), "red")

    plain = [v for v in found if v.transform == "-"]
    carriers = list(dict.fromkeys(v.carrier for v in plain))
    for loss in dict.fromkeys(v.latent_loss for v in plain):
        table = Table(title=f"latent_loss={loss}", title_justify="left", box=None)
        table.add_column("noise (scope)")
        for carrier in carriers:
            table.add_column(carrier)
        for noise, scope in dict.fromkeys((v.noise, v.scope) for v in plain):
            row = {
                v.carrier: cell(v)
                for v in plain
                if (v.latent_loss, v.noise, v.scope) == (loss, noise, scope)
            }
            table.add_row(f"{noise} ({scope})", *[row[carrier] for carrier in carriers])
        console.print(table)
    base = {(v.carrier, v.noise, v.scope, v.latent_loss): v.reason for v in plain}
    own = [
        v
        for v in found
        if v.transform != "-" and base[v.carrier, v.noise, v.scope, v.latent_loss] is None
    ]
    table = Table(title="transform, by latent_loss", title_justify="left", box=None)
    table.add_column("transform")
    losses = list(dict.fromkeys(v.latent_loss for v in own))
    for loss in losses:
        table.add_column(loss)
    for transform in dict.fromkeys(v.transform for v in own):
        cells = {v.latent_loss: cell(v) for v in own if v.transform == transform}
        table.add_row(transform, *[cells[loss] for loss in losses])
    console.print(table)
    for reason, mark in reasons.items():
        console.print(f"{mark} {reason}", markup=False, highlight=False, soft_wrap=True)
    legal = sum(v.reason is None for v in found)
    console.print(f"{legal} of {len(found)} combinations are legal", highlight=False)


def _general(verdict: Verdict) -> str:
    """The reason without the names of the cell, so that equal reasons share a mark."""
    assert verdict.reason is not None
    head, _, tail = verdict.reason.partition(": ")
    keys = [word.partition("=")[0] for word in head.split() if "=" in word]
    return f"{' with '.join(keys)}: {tail}" if keys else verdict.reason


def show(conf: Path) -> None:
    """Print the matrix of all options."""
    render(verdicts(conf), Console())

"""Does the embedded default work whatever the machine? Its runs over seeds, threads and rounding.

    python -m benchmarks.robustness                          # SFT alone: every start model
    python -m benchmarks.robustness --whole                  # SFT, RL and the paired test

A cell is one run in a process of its own: an init seed, a number of CPU threads, and the starting
weights as they are or multiplied by 1 + 1e-6 z, z normal, which stands in for another machine's
rounding. Finished cells are kept under `--folder` and not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch

from latentbench import cli
from latentbench.analysis.stats import mcnemar
from latentbench.run import init_store

SIZE = 1e-6


@dataclass(frozen=True)
class Cell:
    """One run of the table: `draw` numbers the perturbation, 0 is none."""

    seed: int
    threads: int
    draw: int

    @property
    def name(self) -> str:
        return f"seed{self.seed}-threads{self.threads}-draw{self.draw}"


def main() -> None:
    """Run what is missing, print one Markdown table and the worst of each column."""
    options = arguments()
    if options.cell is not None:
        return carry_out(Cell(*options.cell), options.rest)
    axes = product(options.seeds, options.threads, options.draws)
    cells = [Cell(*values) for values in axes]
    for threads in sorted(set(options.threads)):
        alike = [cell for cell in cells if cell.threads == threads]
        with ThreadPoolExecutor(max(options.cores // threads, 1)) as pool:
            list(pool.map(partial(ensure, options=options), alike))
    report([(cell, row_of(options.folder / cell.name)) for cell in cells], options.whole)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--whole", action="store_true", help="RL and the paired test as well")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path, default=Path("outputs/robustness"))
    parser.add_argument("--cell", type=int, nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help="more overrides, key=value")
    return parser.parse_args()


def ensure(cell: Cell, options: argparse.Namespace) -> None:
    """Run a cell, unless it has been; what it printed is kept beside it."""
    directory = options.folder / cell.name
    if not ended(directory):
        directory.mkdir(parents=True, exist_ok=True)
        chosen = [f"init.seed={cell.seed}"] if options.whole else ["method=coconut"]
        chosen += [] if options.whole else [f"seed={cell.seed}"]
        overrides = [
            *chosen,
            f"trainer.threads={cell.threads}",
            f"init.root={directory}/inits",
            f"hydra.run.dir={directory}/run",
            *options.rest,
        ]
        numbers = map(str, (cell.seed, cell.threads, cell.draw))
        command = [sys.executable, "-m", "benchmarks.robustness", "--cell", *numbers, *overrides]
        environment = os.environ | {"OMP_NUM_THREADS": str(cell.threads)}
        with (directory / "log.txt").open("w") as log:
            subprocess.run(command, stdout=log, stderr=log, env=environment, check=False)
    print(f"{cell.name}: {row_of(directory)}", file=sys.stderr)


def ended(directory: Path) -> bool:
    """Whether a cell has come to its end, good or bad; one that was interrupted is carried on."""
    file = directory / "run/result.json"
    return file.is_file() and json.loads(file.read_text())["status"] in ("completed", "failed")


def carry_out(cell: Cell, overrides: list[str]) -> None:
    """One run in this process, from perturbed starting weights where the cell says so."""
    if cell.draw:
        made = init_store.create

        def perturbed(*parts: Any) -> Any:
            backbone = made(*parts)
            generator = torch.Generator().manual_seed(cell.draw)
            with torch.no_grad():
                for weight in backbone.model.parameters():
                    weight.mul_(1 + SIZE * torch.randn(weight.shape, generator=generator))
            return backbone

        init_store.create = perturbed
    sys.argv = ["run.py", *overrides]
    cli.main()


def row_of(directory: Path) -> dict[str, Any]:
    """What a cell reached: updates and seconds of SFT, accuracies in percent, p of the gain."""
    result = json.loads((directory / "run/result.json").read_text())
    if result["status"] != "completed":
        return {"status": result.get("error", result["status"])}
    items = pd.read_parquet(directory / "run/items.parquet")
    greedy = items[items["decode"] == "greedy"]
    right = {stage: part.set_index("item")["correct"] for stage, part in greedy.groupby("stage")}
    row: dict[str, Any] = {
        "status": "completed",
        "updates": result["init"]["updates"],
        "seconds": sum(result["timing"].values()),
        "init": 100 * right.get("init", right["final"]).mean(),
    }
    if "init" in right:
        before, after = right["init"], right["final"].loc[right["init"].index]
        row |= {"final": 100 * after.mean(), "p": mcnemar(before.to_numpy(), after.to_numpy()).p}
    return row


def report(rows: list[tuple[Cell, dict[str, Any]]], whole: bool) -> None:
    columns = ["updates", "seconds", "init", *(["final", "p"] if whole else [])]
    print("| seed | threads | perturbed | " + " | ".join(columns) + " |")
    print("| ---: " * (3 + len(columns)) + "|")
    for cell, row in rows:
        shown = [shape(name, row[name]) if name in row else row["status"] for name in columns]
        draw = "no" if cell.draw == 0 else f"draw {cell.draw}"
        print(f"| {cell.seed} | {cell.threads} | {draw} | " + " | ".join(shown) + " |")
    done = [row for _, row in rows if row["status"] == "completed"]
    print(f"\n{len(done)} of {len(rows)} completed")
    for name in columns:
        values = [row[name] for row in done]
        if values:
            low, middle, high = (shape(name, f(values)) for f in (min, median, max))
            print(f"{name}: {low} to {high}, median {middle}")


def shape(name: str, value: float) -> str:
    return (
        f"{value:.0f}"
        if name in ("updates", "seconds")
        else f"{value:.2g}"
        if name == "p"
        else (f"{value:.1f}")
    )


if __name__ == "__main__":
    main()

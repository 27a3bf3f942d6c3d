"""Start models as a level of their own: crossed with seeds, one each, or one for all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentbench.analysis.build import build
from latentbench.analysis.collect import collect
from latentbench.analysis.metrics import GREEDY
from latentbench.analysis.runs import AnalysisError, Run
from latentbench.analysis.spec import DEFAULT, read_spec
from latentbench.analysis.stats import difference_p, hierarchical_difference, hierarchical_interval
from latentbench.analysis.study import Study, replicates
from latentbench.analysis.table import latex, markdown, plain_cell

Write = Callable[..., Path]


def written(
    write_run: Write, root: Path, method: str, inits: int, seeds: int, lift: float = 0.1
) -> None:
    for init in range(inits):
        for seed in range(seeds):
            config = {"seed": seed, "init": {"seed": init}}
            number = init * 10 + seed
            fields: dict[str, Any] = {"config": config, "init": {"id": f"i{init}"}}
            fields |= {"run_id": f"{method}-{init}-{seed}"}
            folder = write_run(
                root / f"{method}-{init}-{seed}", method, number, lift=lift, **fields
            )
            record = folder / "result.json"
            text = record.read_text().replace(f'"seed": {number}', f'"seed": {seed}', 1)
            record.write_text(text)


def of(study: Study, method: str) -> list[Run]:
    return [run for run in study.runs if run.method == method]


def test_a_start_model_takes_the_place_of_a_seed(tmp_path: Path, write_run: Write) -> None:
    """Three start models with two seeds each: three values, each the mean over its two seeds."""
    written(write_run, tmp_path, "dropout_grpo", 3, 2)
    study = collect([tmp_path])
    runs = sorted(of(study, "dropout_grpo"), key=lambda run: run.replicate)
    assert [run.replicate for run in runs] == [(i, s) for i in range(3) for s in range(2)]
    assert replicates(runs) == [[0, 1], [2, 3], [4, 5]]
    measured = study.measure(runs, "chain", GREEDY)
    each = [study.measure([run], "chain", GREEDY) for run in runs]
    assert measured is not None and measured.items is not None
    rows = np.stack([one.items[0] for one in each])  # type: ignore[union-attr, index]
    expected = rows.reshape(3, 2, -1).mean(axis=1)
    assert np.array_equal(measured.items, expected)
    assert measured.seeds == pytest.approx(expected.mean(axis=1))


def test_one_start_model_a_seed_and_one_for_all_are_as_they_were(
    tmp_path: Path, write_run: Write
) -> None:
    written(write_run, tmp_path / "own", "a", 4, 1)
    written(write_run, tmp_path / "one", "b", 1, 4)
    for folder, method in (("own", "a"), ("one", "b")):
        assert replicates(of(collect([tmp_path / folder]), method)) == [[0], [1], [2], [3]]
    table = markdown(build(collect([tmp_path / "one"]), read_spec(DEFAULT)))
    assert "all seeds of b start from one model" in table
    table = markdown(build(collect([tmp_path / "own"]), read_spec(DEFAULT)))
    assert "a starts from 4 inits" in table and "start from one model" not in table
    both = collect([tmp_path], allow=["seed"])
    assert "rows start from different models" in markdown(build(both, read_spec(DEFAULT)))


def test_a_pair_of_seeds_that_is_missing_is_named(tmp_path: Path, write_run: Write) -> None:
    written(write_run, tmp_path, "a", 2, 2)
    written(write_run, tmp_path, "b", 2, 1)
    with pytest.raises(AnalysisError, match="refused: seed"):
        collect([tmp_path])


def test_one_run_a_side_is_never_tested_nor_bold(tmp_path: Path, write_run: Write) -> None:
    """Whatever the difference; and one run against many says as little."""
    written(write_run, tmp_path, "poor", 1, 1, lift=-0.5)
    written(write_run, tmp_path, "rich", 1, 1, lift=0.5)
    table = markdown(build(collect([tmp_path]), read_spec("methods")))
    assert "**" not in table and "Not tested, and never bold: poor, rich" in table
    written(write_run, tmp_path / "more", "many", 1, 3, lift=-0.5)
    table = markdown(build(collect([tmp_path], allow=["seed"]), read_spec("methods")))
    assert "**" not in table


@pytest.mark.parametrize("spread", [0.02, 0.03])
@pytest.mark.parametrize("inits", [3, 5])
def test_the_interval_over_start_models_covers_what_it_says(inits: int, spread: float) -> None:
    """Start models vary by 2 or 3 points, seeds by 1, items by their difficulty: of 300 studies
    nine in ten cover the truth, where an interval over seeds and items alone would not."""
    generator = np.random.default_rng(inits)
    difficulty = np.clip(generator.normal(0.7, 0.25, 500), 0.02, 0.98)
    covered = narrow = 0
    for _ in range(300):
        skill = generator.normal(0, spread, inits)[:, None] + generator.normal(0, 0.01, (inits, 4))
        chance = np.clip(difficulty + skill[..., None], 0, 1)
        graded = (generator.random((inits, 4, 500)) < chance).astype(float)
        truth = difficulty.mean()
        found = hierarchical_interval(graded.mean(axis=1), resamples=400)
        covered += found.low <= truth <= found.high
        one = hierarchical_interval(graded[:1].reshape(4, 500), resamples=400)
        narrow += one.low <= truth <= one.high
    assert covered >= 0.9 * 300 and narrow < covered


def test_under_the_null_few_runs_are_told_apart() -> None:
    """Two methods that are one, three start models each that vary by 3 points."""
    generator = np.random.default_rng(0)
    false = 0
    for _ in range(300):
        arms = []
        for _ in range(2):
            skill = 0.7 + generator.normal(0, 0.03, 3)
            arms.append((generator.random((3, 500)) < skill[:, None]).astype(float))
        false += difference_p(*arms) < 0.05
        found = hierarchical_difference(*arms, resamples=200)
        assert found.low <= found.mean <= found.high
    assert false / 300 < 0.09


def test_names_stay_in_their_cell() -> None:
    for text in ("=1+1", "+cmd", "@x", "-a", "\t=1"):
        assert str(plain_cell(text)).startswith("'")
    for cell in ("-0.5", "+3.2", "abc", 3, -0.5, ""):
        assert plain_cell(cell) == cell


def test_a_line_feed_stays_in_the_comment(tmp_path: Path, write_run: Write) -> None:
    written(write_run, tmp_path, "a", 1, 2)
    study = collect([tmp_path])
    study.warnings.append("one\n\\input{two}")
    for line in latex(build(study, read_spec(DEFAULT))).splitlines():
        assert not line.startswith("\\input")

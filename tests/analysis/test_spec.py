"""Tables declared in YAML: golden output of every preset, tests behind bold, faults by key."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from latentbench.analysis.build import build
from latentbench.analysis.collect import collect
from latentbench.analysis.metrics import (
    DERIVED,
    GREEDY,
    RECORDED,
    Metric,
    majority,
    sampled_pass,
    summary_metrics,
)
from latentbench.analysis.runs import AnalysisError, Run
from latentbench.analysis.spec import DEFAULT, PRESETS, Column, Spec, read_spec
from latentbench.analysis.stats import difference_p, hierarchical_interval, holm
from latentbench.analysis.table import html, latex, markdown
from latentbench.analysis.tables import main

GOLDEN = Path(__file__).parent / "golden"
NAMES = ("methods", "pass_at_k", "gain", "length", "paper")
ENDINGS = ("md", "tex", "csv", "html")


@pytest.fixture
def ablation(tmp_path: Path, write_run: Callable[..., Path]) -> Path:
    """Two methods by three rates by two seeds, and one method without the key."""
    root = tmp_path / "ablation"
    for method in ("dropout_grpo", "gumbel_grpo"):
        for rate, lift in ((0.05, 0.0), (0.1, 0.3), (0.2, 0.05)):
            for seed in range(2):
                name = f"{method}-{rate}-{seed}"
                config = {"seed": seed, "noise": {"rate": rate}, "choices": {"noise": "mask"}}
                write_run(root / name, method, seed, lift=lift, run_id=name, config=config)
    for seed in range(2):
        config = {"seed": seed, "noise": {}, "choices": {"noise": "none"}}
        write_run(root / f"none-{seed}", "temp_grpo", seed, run_id=f"none-{seed}", config=config)
    return root


def spec(**fields: object) -> Spec:
    return Spec(**{"columns": (Column("pass@1"),)} | fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_presets_equal_the_golden_files(study: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    assert main([str(study), "--spec", name, "--out", str(out)]) == 0
    if os.environ.get("WRITE_GOLDEN"):  # how the files were made
        for ending in ENDINGS:
            shutil.copy(out / f"{name}.{ending}", GOLDEN)
    for ending in ENDINGS:
        file = f"{name}.{ending}"
        assert (out / file).read_bytes() == (GOLDEN / file).read_bytes(), file


def test_ablation_equals_the_golden_files(ablation: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = str(PRESETS / "ablation.yaml")
    assert main([str(ablation), "--spec", path, "--over", "noise.rate", "--out", str(out)]) == 0
    if os.environ.get("WRITE_GOLDEN"):
        for ending in ENDINGS:
            shutil.copy(out / f"ablation.{ending}", GOLDEN)
    for ending in ENDINGS:
        file = f"ablation.{ending}"
        assert (out / file).read_bytes() == (GOLDEN / file).read_bytes(), file


def test_every_preset_is_read() -> None:
    for file in PRESETS.glob("*.yaml"):
        assert read_spec(file.stem) == read_spec(file)
    assert read_spec("ablation", over="rl.lr").over == "rl.lr"


def test_ablation_has_a_block_for_each_method_and_a_row_for_each_value(ablation: Path) -> None:
    table = build(collect([ablation]), spec(over="noise.rate"))
    assert table.row_heading == "noise.rate"
    assert [[row.name for row in group.rows] for group in table.groups] == [
        ["0.05", "0.1", "0.2"],
        ["0.05", "0.1", "0.2"],
        ["absent"],
    ]
    assert table.groups[0].heading.startswith("dropout_grpo: chain, n = 40 ")


def test_a_config_group_is_named_by_its_option(ablation: Path) -> None:
    table = build(collect([ablation]), spec(rows=("method", "noise", "noise.rate")))
    names = [row.name for row in table.groups[0].rows]
    assert "dropout_grpo (noise=mask, noise.rate=0.1)" in names
    assert "temp_grpo (noise=none, noise.rate=absent)" in names


def test_rows_that_pool_configs_are_refused(ablation: Path) -> None:
    with pytest.raises(AnalysisError, match=r"'dropout_grpo' pools runs .*noise.rate=0.05"):
        build(collect([ablation]), spec(rows=("method",)))


def test_bold_is_what_all_corrected_tests_say(tmp_path: Path, write_run) -> None:
    for method, lift in (("a", 0.0), ("b", 0.0), ("winner", 0.3)):
        for seed in range(3):
            write_run(tmp_path / f"{method}{seed}", method, seed, lift=lift, n_items=120)
    study = collect([tmp_path])
    table = build(study, spec())
    best = {row.name: row.figures["pass@1"].best for row in table.groups[0].rows}
    assert best == {"a": False, "b": False, "winner": True}
    assert "**" in markdown(table) and r"\textbf{" in latex(table)
    assert "<strong>" in html(table)
    values: dict[str, list[np.ndarray]] = {}
    for run in study.runs:
        greedy = study.outcomes(run, "chain").greedy
        assert greedy is not None
        values.setdefault(run.method, []).append(greedy)
    arms = [np.array(values[name]) for name in ("a", "b", "winner")]
    pairs = [(0, 1), (0, 2), (1, 2)]
    p = holm([difference_p(arms[i], arms[j]) for i, j in pairs])
    assert p[1] < 0.05 and p[2] < 0.05 < p[0]
    assert "over the 3 pairs of rows" in "".join(table.notes)
    plain = build(study, spec(bold="never"))
    assert "**" not in markdown(plain) and "Bold:" not in "".join(plain.notes)


def test_small_leads_carry_a_warning(study: Path) -> None:
    table = build(collect([study]), spec())
    warning = next(note for note in table.notes if note.startswith("Under-powered"))
    assert "chain, pass@1 (greedy): dropout_grpo over gumbel_grpo +10.0 (" in warning
    assert "**" not in markdown(table)


def test_a_clear_lead_carries_no_warning(tmp_path: Path, write_run) -> None:
    for method, lift in (("a", -0.2), ("b", 0.4)):
        for seed in range(3):
            write_run(tmp_path / f"{method}{seed}", method, seed, lift=lift, n_items=200)
    notes = build(collect([tmp_path]), spec()).notes
    assert not any(note.startswith("Under-powered") for note in notes)


def test_intervals_labels_order_and_footnotes(study: Path) -> None:
    declared = spec(
        spread="interval",
        order="value",
        labels=(("dropout_grpo", "Dropout-GRPO"),),
        footnotes=("Mine.",),
    )
    study_ = collect([study])
    table = build(study_, declared)
    first = table.groups[0].rows[0]
    assert first.name == "Dropout-GRPO" and table.notes[0] == "Mine."
    runs = [run for run in study_.runs if run.method == "dropout_grpo"]
    values = np.array([study_.outcomes(run, "chain").greedy for run in runs])
    found = hierarchical_interval(values)
    assert first.figures["pass@1"].interval == (found.low, found.high)
    assert first.figures["pass@1"].std is None


def test_a_filter_takes_part_of_a_study(study: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "columns: [pass@1]\nfilter: {benchmark: chain, method: [coconut_sft, gumbel_grpo], seed: 0}"
    )
    assert main([str(study), "--spec", str(file), "--out", str(tmp_path)]) == 0
    text = (tmp_path / "mine.md").read_text()
    assert "Made from 2 runs" in text and "dropout" not in text and "chain_hard" not in text
    assert "±" not in text.split("\n- ")[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("colums: [pass@1]", "unknown key 'colums'; choose from columns"),
        ("columns: []", "columns=[]: give a list of metrics"),
        ("title: x", "columns: missing"),
        ("columns: [{name: x}]", "is no column"),
        ("columns: [pass@1]\nspread: se", "spread='se': choose from sd, interval, both"),
        ("columns: [pass@1]\nbold: 1", "bold=1: choose from"),
        ("columns: [pass@1]\npair_seeds: maybe", "pair_seeds='maybe': give true or false"),
        ("columns: [pass@1]\nrows: method", "rows='method': give a list"),
        ("columns: [pass@1]\nfilter: [a]", "filter=['a']: give key: value pairs"),
        ("columns: [pass@9]", "'pass@9' is a metric of none of the runs; they have pass@1, "),
        ("columns: [pass@1]\nfilter: {noise.rte: 1}", "filter"),
        ("columns: [pass@1]\nfilter: {benchmark: gsm8k}", "benchmark 'gsm8k'"),
        ("columns: [pass@1]\nover: nothing.here", "no run has this config key"),
        ("[1, 2", "cannot be read"),
        ("- 1", "holds no keys"),
    ],
)
def test_faults_of_a_spec_are_one_line(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(content)
    assert main([str(study), "--spec", str(file)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error, error
    assert not (study / "spec.md").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--spec", "nowhere"], "nowhere: no such file"),
        (["--spec", "nowhere"], "ablation"),
        (["--over", "noise.rte"], "--over noise.rte: no run has this config key"),
        (["--spec", "methods", "--k", "2"], "--k: a spec lists its own columns"),
    ],
)
def test_bad_options_are_one_line(
    study: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main([str(study), *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error


def test_a_run_directory_is_not_written_into(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = study / "coconut_sft-s0"
    before = sorted(run.iterdir())
    assert main([str(run), "--spec", "methods"]) == 2
    error = capsys.readouterr().err
    assert str(run) in error and "--out" in error and sorted(run.iterdir()) == before


def test_items_that_contradict_a_sampled_metric_are_refused(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = study / "gumbel_grpo-s2" / "result.json"
    text = file.read_text().replace('"chain/pass@2": ', '"chain/pass@2": 0.0, "chain/was": ')
    file.write_text(text)
    assert main([str(study), "--spec", "pass_at_k"]) == 2
    error = capsys.readouterr().err
    assert (
        "chain/pass@2 is 0." in error
        and "0.000000 in result.json" in error
        and "gumbel_grpo-s2" in error
    )


def test_latex_compiles(study: Path, ablation: Path, tmp_path: Path) -> None:
    program = next((one for one in ("tectonic", "pdflatex") if shutil.which(one)), None)
    if program is None:
        pytest.skip("no LaTeX here")
    tables = [(GOLDEN / f"{name}.tex").read_text() for name in ("table", *NAMES, "ablation")]
    body = "\n\\bigskip\n".join(tables)
    (tmp_path / "all.tex").write_text(
        "\\documentclass[10pt]{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
        f"{body}\n\\end{{document}}\n"
    )
    options = [] if program == "tectonic" else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([program, *options, "all.tex"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0 and (tmp_path / "all.pdf").is_file(), done.stdout[-2000:]


def test_any_metric_is_a_column(study: Path) -> None:
    """What is declared is enough: the record, the column, its heading and its unit."""
    metrics = [*RECORDED[:-1], *DERIVED, GREEDY, sampled_pass(3), majority(8)]
    spec = Spec(tuple(Column(metric.name) for metric in metrics), spread="both")
    table = build(collect([study]), spec)
    assert [heading for _, heading in table.columns] == [metric.heading for metric in metrics]
    for section in table.groups:
        for row in section.rows:
            own = [m for m in metrics if m.stage == "final" or row.name != "coconut_sft"]
            assert set(row.figures) == {metric.name for metric in own}
            for metric in own:
                entry = row.figures[metric.name]
                assert entry.share == (metric.unit == "share") and entry.interval is not None


def test_runs_without_items_have_the_figures_that_were_logged(
    monkeypatch: pytest.MonkeyPatch, study: Path
) -> None:
    """As `wandb://` gives them: means and deviations, no interval, no test."""
    whole = build(collect([study]), read_spec(DEFAULT))
    monkeypatch.setattr(Run, "has_items", property(lambda run: False))
    logged = build(collect([study]), read_spec(DEFAULT))
    for section, other in zip(whole.groups, logged.groups, strict=True):
        for row, again in zip(section.rows, other.rows, strict=True):
            assert set(row.figures) == set(again.figures)
            for name, entry in row.figures.items():
                assert again.figures[name].mean == pytest.approx(entry.mean)
                assert again.figures[name].interval is None


def test_a_new_metric_is_its_declaration(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the record of a run and as a column, with nothing said anywhere else."""
    unsure = Metric(
        "unsure",
        "items with both outcomes",
        lambda o: None if o.sampled is None else o.sampled.any(axis=1) & ~o.sampled.all(axis=1),
    )
    monkeypatch.setattr("latentbench.analysis.metrics.RECORDED", (*RECORDED, unsure))
    folder = study / "gumbel_grpo-s2"
    items = pd.read_parquet(folder / "items.parquet")
    own = items[(items["benchmark"] == "chain") & (items["stage"] == "final")]
    sampled = own[own["decode"] == "sampled"].groupby("item")["correct"].mean()
    expected = float(((sampled > 0) & (sampled < 1)).mean())
    assert 0 < expected < 1
    assert summary_metrics(items, (1, 2))["chain/unsure"] == pytest.approx(expected)
    table = build(collect([study]), Spec((Column("unsure"),)))
    assert table.columns == (("unsure", "items with both outcomes"),)
    means = {row.name: row.figures["unsure"].mean for row in table.groups[0].rows}
    assert set(means) == {"coconut_sft", "dropout_grpo", "gumbel_grpo"}


def test_a_logged_gain_is_that_of_its_own_metric(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = collect([study])
    runs = [run for run in found.runs if run.method == "dropout_grpo"]
    metrics = [m.at(stage) for m in (GREEDY, sampled_pass(4)) for stage in ("init", "gain")]
    whole = [found.measure(runs, "chain", metric) for metric in metrics]
    monkeypatch.setattr(Run, "has_items", property(lambda run: False))
    for metric, cell in zip(metrics, whole, strict=True):
        logged = collect([study]).measure(runs, "chain", metric)
        assert cell is not None and logged is not None and logged.items is None
        assert logged.seeds == pytest.approx(cell.seeds)


def test_rows_with_and_without_items_share_a_table(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is logged alone has means beside the others, also as one seed of a row."""
    alone = {"dropout_grpo-s0", "gumbel_grpo-s0", "gumbel_grpo-s1", "gumbel_grpo-s2"}
    whole = build(collect([study]), read_spec(DEFAULT))
    monkeypatch.setattr(Run, "has_items", property(lambda run: run.path.name not in alone))
    mixed = build(collect([study]), read_spec(DEFAULT))
    for section, other in zip(whole.groups, mixed.groups, strict=True):
        for row, again in zip(section.rows, other.rows, strict=True):
            gain = again.figures.get("gain")
            if gain is not None:
                assert gain.mean == pytest.approx(row.figures["gain"].mean)
                assert gain.interval is None

"""The figures of a study: what they need, what they leave out, and that their bytes are stable."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from latentbench.analysis.collect import collect
from latentbench.analysis.figures import draw, main, svg
from latentbench.analysis.figures.cost import _frontier
from latentbench.analysis.figures.latents import _principal, _printable
from latentbench.analysis.figures.shared import looks_of
from latentbench.analysis.metrics import summary_metrics


def add_metrics(folder: Path, seed: int, updates: int = 60, lift: float = 0.3) -> None:
    """Learning curves that rise and wobble, with validation every 20 updates."""
    steps = np.arange(1, updates + 1)
    wobble = np.random.default_rng(seed).normal(0, 0.02, updates)
    reward = 0.45 + lift * (1 - np.exp(-steps / 25)) + wobble
    frame = pd.DataFrame(
        {
            "step": steps,
            "train/reward_mean": reward,
            "train/zero_variance_groups": np.clip(reward - 0.4, 0, 1),
            "latent/dispersion": 0.24 - 0.001 * steps + wobble / 4,
            "validation/pass@1": np.where(steps % 20 == 0, reward + 0.05, np.nan),
        }
    )
    frame.to_csv(folder / "metrics.csv", index=False)


def add_latents(folder: Path, seed: int, steps: int = 3, rollouts: int = 8) -> None:
    """Latents of two items at both stages; the tokens hold what must be escaped or replaced."""
    draws = np.random.default_rng(seed)
    items = pd.read_parquet(folder / "items.parquet")
    rows = []
    for item in items["item"].unique()[:2]:
        for stage in sorted(items["stage"].unique()):
            for rollout in range(rollouts):
                position = draws.normal(0, 1, 16)
                for step in range(1, steps + 1):
                    position = position + draws.normal(0.4 * (rollout % 2), 0.5, 16)
                    probs = np.sort(draws.dirichlet(np.full(5, 0.4)))[::-1]
                    tokens = ["7", " the", "$<b>$", "\n", "東京"]
                    own = [rollout, step, position.astype("float32"), rollout % 2 == 0]
                    rows.append(["chain", item, stage, *own, tokens, probs.astype("float32")])
    columns = ["benchmark", "item", "stage", "rollout", "latent_step", "vector", "correct"]
    frame = pd.DataFrame(rows, columns=[*columns, "top_tokens", "top_probs"])
    frame.to_parquet(folder / "latents.parquet", index=False)


@pytest.fixture
def rich_study(tmp_path: Path, write_run: Callable[..., Path]) -> Path:
    """Two methods, two noise rates, two seeds, with learning curves and latents."""
    root = tmp_path / "rich"
    for method, lift in (("dropout_grpo", 0.2), ("temp_grpo", 0.05)):
        for rate in (0.1, 0.2):
            for seed in range(2):
                noise = {"name": "shared_mask", "rate": rate}
                config = {"method": method, "seed": seed, "noise": noise, "latent": {"steps": 6}}
                folder = root / f"{method}-{rate}-{seed}"
                name = f"{method}-{rate}-{seed}"
                write_run(folder, method, seed, lift=lift + rate, config=config, run_id=name)
                add_metrics(folder, seed, lift=lift + rate)
                add_latents(folder, seed)
    return root


def test_all_figures_of_a_rich_study(
    rich_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    over = ["--over", "noise.rate,noise.name"]
    assert main([str(rich_study), "--out", str(out), *over]) == 0
    held = {path.name for path in out.iterdir()}
    for name in ("learning_curves", "pass_at_k", "ablation_1", "trajectories", "thoughts"):
        assert {f"{name}.pdf", f"{name}.png"} <= held, held
    captions = (out / "captions.md").read_text(encoding="utf-8")
    assert "moving means over 9 updates" in captions and "every answer has 6 latent" in captions
    pdf = (out / "learning_curves.pdf").read_bytes()
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf and b"CreationDate" not in pdf
    assert "cost: Left out: every row costs" in capsys.readouterr().out


def test_a_second_call_changes_no_byte(rich_study: Path, tmp_path: Path) -> None:
    for out in ("one", "two"):
        only = ["--only", "pass_at_k,thoughts", "--out", str(tmp_path / out)]
        assert main([str(rich_study), *only]) == 0
    files = sorted((tmp_path / "one").iterdir())
    assert len(files) == 5
    for file in files:
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name


def test_what_a_study_lacks_is_said(study: Path) -> None:
    drawings = {drawing.name: drawing for drawing in draw(collect([study], ("seed",)))}
    for name in ("learning_curves", "trajectories", "thoughts", "ablation", "latent_steps_chain"):
        assert drawings[name].figure is None and drawings[name].caption.startswith("Left out: ")
    assert drawings["pass_at_k_chain"].figure is not None
    assert drawings["pass_at_k_chain_hard"].figure is not None


def test_latent_steps_and_cost_need_runs_that_differ(
    tmp_path: Path, write_run: Callable[..., Path]
) -> None:
    for steps in (2, 4):
        config = {"method": "coconut", "seed": 0, "latent": {"steps": steps}}
        name, protocol = f"r{steps}", f"p{steps}"
        folder = tmp_path / "runs" / name
        write_run(folder, config=config, run_id=name, protocol_id=protocol, lift=steps / 20)
        items = pd.read_parquet(folder / "items.parquet")
        items = items.assign(latent_steps=steps)
        items.to_parquet(folder / "items.parquet", index=False)
        record = json.loads((folder / "result.json").read_text())
        record["metrics"] = summary_metrics(items, (1, 2, 4, 8))
        (folder / "result.json").write_text(json.dumps(record))
    drawings = draw(collect([tmp_path / "runs"], ("protocol",)), ("latent_steps", "cost"))
    assert [drawing.figure is not None for drawing in drawings] == [True, True]
    line = drawings[0].figure.axes[0].lines[0]  # type: ignore[union-attr]
    assert np.asarray(line.get_xdata()).tolist() == [
        2,
        4,
    ]  # one line for both: only the steps differ


def test_svg_for_a_page_has_no_ink_of_its_own_and_unique_ids(rich_study: Path) -> None:
    import re

    drawings = draw(collect([rich_study]), ("learning_curves", "pass_at_k"))
    texts = [svg(drawing) for drawing in drawings]
    assert all(text.startswith("<svg") and text.endswith("</svg>") for text in texts)
    assert "currentColor" in texts[0] and "#1c1e21" not in texts[0] and "<metadata" not in texts[0]
    ids = re.findall(r' id="([^"]+)"', "".join(texts))
    assert len(ids) == len(set(ids))
    for used in re.findall(r'(?:href="#|url\(#)([^")]+)', "".join(texts)):
        assert used in ids
    with pytest.raises(ValueError, match="no figure"):
        svg(draw(collect([rich_study]), ("ablation",))[0])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--only", "pie"], "--only pie: choose from learning_curves"),
        (["--over", "noise.rate"], "--over noise.rate: give two config keys"),
        (["--over", "noise.rate,noise.weight"], "--over noise.weight: no run has this"),
    ],
)
def test_mistakes_are_one_line(
    rich_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    options: list[str], named: str,
) -> None:  # fmt: skip
    assert main([str(rich_study), "--out", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {named}") and error.count("\n") == 1


@pytest.mark.parametrize("name", ["metrics.csv", "latents.parquet"])
def test_a_broken_file_is_named(
    rich_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    file = rich_study / "temp_grpo-0.1-1" / name
    file.write_bytes(b"")
    assert main([str(rich_study), "--out", str(tmp_path / "out")]) == 2
    assert f"error: {file}: cannot be read" in capsys.readouterr().err


def test_importing_the_command_draws_in_no_plotting_library() -> None:
    code = "import sys, analysis.figures, analysis.report\n"
    code += "print({'matplotlib', 'pandas', 'jinja2', 'torch', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_no_two_of_many_rows_look_alike() -> None:
    looks = looks_of([f"row {number}" for number in range(60)])
    assert len({str(look) for look in looks.values()}) == 60


def test_the_frontier_holds_what_nothing_cheaper_reaches() -> None:
    points = [np.array(point) for point in [(3, 50), (1, 40), (2, 60), (2, 55), (4, 60), (5, 61)]]
    assert _frontier(points) == [(1, 40), (2, 60), (5, 61)]


def test_principal_components_of_a_line_and_of_a_point() -> None:
    line = np.outer(np.arange(5.0), [3.0, 4.0, 0.0])
    points, shares = _principal(line)
    assert np.allclose(np.ptp(points[:, 0]), 20) and np.allclose(points[:, 1], 0)
    assert shares[0] == pytest.approx(1)
    assert _principal(np.ones((3, 4)))[1] == [0.0, 0.0]


def test_tokens_that_the_font_lacks_are_named_by_code_point() -> None:
    assert _printable(" the") == "␣the" and _printable("\n") == "⏎"
    assert _printable("東") == "\\u6771" and len(_printable("a" * 30)) == 7

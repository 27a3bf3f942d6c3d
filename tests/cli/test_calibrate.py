"""Equal-variance calibration: the bisection in closed form, the command on a smoke model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig

from latentbench.calibrate import calibrate, main, solve, split_arguments
from latentbench.config import sections
from latentbench.errors import InputError
from latentbench.model.policy import Policy

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("target", [0.02, 0.5, 3.0])
def test_bisection_inverts_a_rising_curve(target: float) -> None:
    found = solve(lambda s: s**2, target, 0.1, 10.0)
    assert found is not None and abs(found**2 / target - 1) <= 1e-3


def test_a_strength_that_cannot_reach_is_told() -> None:
    assert solve(lambda s: min(s, 0.3), 0.5, 0.1, 0.95) is None


def test_like_is_the_other_command_line() -> None:
    own, other = split_arguments(
        ["seed=1", "noise=per_step_mask", "noise.rate=0.3", "like=shared_mask", "like.rate=0.1"]
    )
    assert own == ["seed=1", "noise=per_step_mask", "noise.rate=0.3"]
    assert other == ["seed=1", "noise=shared_mask", "noise.rate=0.1"]
    with pytest.raises(InputError, match="like"):
        split_arguments(["noise=gaussian"])


def test_memory_changes_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two prompts at a time or all at once: the same strength; no forward has more rows."""
    rows: list[int] = []
    original = Policy.think

    def counting(self: Policy, state: Any, *rest: Any) -> Any:
        rows.append(len(state.hidden))
        return original(self, state, *rest)

    monkeypatch.setattr(Policy, "think", counting)
    sections.register()
    like = ["noise=gaussian", "like=shared_mask", "like.rate=0.1", f"init.root={tmp_path}"]
    answers = []
    for most in (8, 1024):
        rows.clear()
        answers.append(calibrate(["data=arithmetic", *SMALL, *like, f"rl.rollout_rows={most}"]))
        if most == 8:
            assert max(rows[-10:]) == 8
    assert answers[0] == answers[1] and float(answers[0].rpartition("=")[2]) > 0
    HydraConfig.instance().cfg = None


SMALL = ["debug=smoke", "limit.eval_items=2"]


def command(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    overrides = [*SMALL, *arguments, f"init.root={tmp_path}/inits"]
    return subprocess.run(
        [sys.executable, "-m", "latentbench.calibrate", *overrides],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_the_command_finds_an_equal_dispersion(tmp_path: Path) -> None:
    done = command(tmp_path, "noise=gaussian", "like=shared_mask", "like.rate=0.1")
    assert done.returncode == 0, done.stderr
    target, _, reached = (float(d) for d in re.findall(r"dispersion ([0-9.]+)", done.stdout))
    assert target > 0 and abs(reached / target - 1) < 0.01
    assert re.fullmatch(r"noise=gaussian noise\.scale=[0-9.e+-]+", done.stdout.splitlines()[-1])


RISING = ["like.schedule=linear", "like.rate_end=0.3", "like.rate_updates=4"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["noise=gaussian"], "like"),
        (["noise=none", "like=shared_mask"], "noise=none"),
        (["noise=gaussian", "like=none"], "dispersion is 0"),
        (["noise=gaussian", "like=nonsense"], "nonsense"),
        (
            ["noise=gaussian", "like=shared_mask", "like.rate=0", *RISING],
            "dispersion is 0",
        ),
        (["noise=gumbel", "like=shared_mask"], "carrier=mixture"),
        (
            ["carrier=mixture", "noise=gaussian", "like=one_sided_gumbel", "like.at_least=500"],
            "noise.at_least=500",
        ),
        (["noise=gaussian", "like=shared_mask", "carrier=mixture", "carrier.k=500"], "carrier.k"),
        (["noise=gaussian", "like=shared_mask", "positions=12"], "positions"),
    ],
)
def test_bad_input_gets_one_line(
    arguments: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = f"init.root={tmp_path}/inits"
    monkeypatch.setattr(sys, "argv", ["calibrate", *SMALL, *arguments, store])
    with pytest.raises(SystemExit) as stopped:
        main()
    HydraConfig.instance().cfg = None
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and said.startswith("error: ")
    assert named in said and len(said.splitlines()) == 1


@pytest.mark.slow
def test_the_command_ends_with_2_for_bad_input(tmp_path: Path) -> None:
    done = command(tmp_path, "noise=gaussian")
    assert done.returncode == 2 and done.stderr.startswith("error: ")
    assert "like" in done.stderr and len(done.stderr.splitlines()) == 1

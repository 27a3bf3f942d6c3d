"""On a GPU: the same draws, answers, scores and gradients as on the CPU, and runs that resume.

Skipped where there is none; `pytest -m gpu tests/reliability/test_gpu.py` runs these alone.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from checks import LAYOUT, gap, gradient_gap, gradients, make_prompts, rolled, twin
from driver import QUICK, inside
from plain import policy_with

from latentbench.carrier.mixture import Mixture
from latentbench.model.policy import Policy
from latentbench.noise.gaussian import Gaussian
from latentbench.noise.gumbel import Gumbel
from latentbench.noise.none import None_
from latentbench.noise.one_sided_gumbel import OneSidedGumbel
from latentbench.noise.per_step_mask import PerStepMask
from latentbench.noise.shared_mask import SharedMask
from latentbench.noise.svd_weight import SvdWeight
from latentbench.records import Replay, Rollouts, collate_prompts

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
PROMPTS = make_prompts(3)
ARMS = {
    "none": (None, None_()),
    "shared_mask": (None, SharedMask(rate=0.3)),
    "per_step_mask": (None, PerStepMask(rate=0.3)),
    "gaussian": (None, Gaussian(0.3)),
    "svd_weight": (None, SvdWeight(0.6)),
    "gumbel": (Mixture(k=30), Gumbel()),
    "one_sided_gumbel": (Mixture(k=10), OneSidedGumbel()),
}


def scored(policy: Policy, rollouts: Rollouts) -> Replay:
    device = policy.device
    batch = collate_prompts(rollouts.prompts, LAYOUT.markers.pad, device)
    text = rollouts.answers.text
    return policy.replay(batch, rollouts.noise.to(device), text, rollouts.group_size, 1.0)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("arm", ARMS)
def test_the_gpu_does_what_the_cpu_does(arm: str, family: str) -> None:
    """In float64: the same draws and texts; log-probabilities, thoughts and gradients to 1e-9, to
    1e-6 where positions turn by sines and cosines, which transformers computes in float32."""
    close = 1e-9 if family == "gpt2" else 1e-6
    here, there = (policy_with(twin(family, dtype=torch.float64), *ARMS[arm]) for _ in range(2))
    there.model.cuda()
    one, other = rolled(here, PROMPTS), rolled(there, PROMPTS)
    assert one.texts == other.texts and torch.equal(one.rewards, other.rewards.cpu())
    for name, drawn in one.noise.tensors.items():
        assert torch.equal(drawn, other.noise.tensors[name].cpu()), name
    assert gap(one.answers.log_probs, other.answers.log_probs.cpu()) < close
    assert gap(one.thoughts.vectors, other.thoughts.vectors.cpu()) < close
    replays = scored(here, one), scored(there, other)
    assert gap(replays[1].log_probs.detach(), other.answers.log_probs) < 1e-9
    slopes = [
        [slope.cpu() for slope in gradients(policy.model, replay.log_probs.sum())]
        for policy, replay in zip((here, there), replays, strict=True)
    ]
    assert gradient_gap(*slopes) < close


@pytest.mark.parametrize("arm", ARMS)
def test_a_replay_in_float32_scores_what_was_rolled_out(arm: str) -> None:
    policy = policy_with(twin("gpt2").cuda(), *ARMS[arm])
    rollouts = rolled(policy, PROMPTS)
    replay = scored(policy, rollouts)
    assert gap(replay.log_probs.detach(), rollouts.answers.log_probs) < 1e-4


GPU = ("trainer=gpu", "limit.train_items=20", "rl.updates=6", "trainer.checkpoint_every=1")


def test_a_run_on_the_gpu_resumes(tmp_path: Path, cut) -> None:  # type: ignore[no-untyped-def]
    """Cut twice, it ends with the results of a run that was not cut; the record names the GPU."""

    def run(name: str) -> int:
        where = f"init.root={tmp_path}/inits", f"hydra.run.dir={tmp_path / name}"
        return inside(*QUICK, *where, *GPU).code

    assert run("whole") == 0
    for update in (2, 5):
        cut(update)
        assert run("cut") == 143
    cut(None)
    assert run("cut") == 0
    whole, again = (
        json.loads((tmp_path / n / "result.json").read_text()) for n in ("whole", "cut")
    )
    assert whole["metrics"] == again["metrics"]
    assert whole["provenance"]["gpu"] == torch.cuda.get_device_name(0)
    for name in ("items.parquet", "model/model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


def test_bf16_trains_within_its_replay_gap(tmp_path: Path) -> None:
    where = f"init.root={tmp_path}/inits", f"hydra.run.dir={tmp_path}/run"
    outcome = inside(*QUICK, *where, *GPU, "trainer.precision=bf16-mixed")
    assert outcome.code == 0, outcome

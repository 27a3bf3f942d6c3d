"""A key of the command line that a run never reads is refused; what it reads is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from driver import composed, inside

from latentbench.errors import InputError

# (command line, the override that is named, a piece of the reason)
REFUSED = [
    ("method=coconut init.seed=3", "init.seed=3", "seed=..."),
    ("method=coconut noise=per_step_mask", "noise=per_step_mask", "without noise"),
    ("method=coconut noise=shared_mask noise.rate=0.1", "noise=shared_mask", "without noise"),
    ("method=cot advantage=mean_std", "advantage=mean_std", "SFT alone"),
    ("method=no_cot transform=[invalid_mask]", "transform=[invalid_mask]", "SFT alone"),
    ("method=soft_coconut policy_loss=dapo", "policy_loss=dapo", "SFT alone"),
    ("method=coconut latent_loss=none", "latent_loss=none", "SFT alone"),
    ("method=coconut trainable=no_embeddings", "trainable=no_embeddings", "SFT alone"),
    ("method=coconut answer=greedy", "answer=greedy", "SFT alone"),
    ("method=coconut rl.updates=7", "rl.updates=7", "SFT alone"),
    ("method=coconut limit.rl_updates=7", "limit.rl_updates=7", "SFT alone"),
    ("method=sft_continued noise=gaussian", "noise=gaussian", "without noise"),
    ("method=sft_continued advantage=mean_std", "advantage=mean_std", "without rewards"),
    ("method=sft_continued rl.lr=1e-3", "rl.lr=1e-3", "without rewards"),
    ("method=sft_continued rl.seconds=5 rl.updates=7", "rl.updates=7", "rl.seconds=5"),
    ("method=temp_grpo rl.mask_rate=0.2", "rl.mask_rate=0.2", "no rate"),
    ("rl.validate_every=0 rl.validation_items=5", "rl.validation_items=5", "rl.validate_every=0"),
    ("init.path=x init.seed=1", "init.seed=1", "init.path=x"),
    ("init.path=x sft.lr=1e-3", "sft.lr=1e-3", "init.path=x"),
    ("init.path=x sft_loss=lexical", "sft_loss=lexical", "init.path=x"),
    ("init.path=x limit.sft_updates_per_stage=1", "limit.sft_updates_per_stage=1", "init.path=x"),
    ("init.revision=main", "init.revision=main", "init.path"),
    ("model.revision=main", "model.revision=main", "from scratch"),
    ("model.path=x positions=9", "positions=9", "weights come from x"),
    ("model.path=x model.architecture.n_layer=9", "model.architecture.n_layer=9", "come from x"),
    ("sft.gate=null sft.target=null sft.at_cap=go_on", "sft.at_cap=go_on", "sft.gate=null"),
    ("protocol.explore=latent protocol.temperature=2", "protocol.temperature=2", "most probable"),
    ("method=no_cot latent.max_stage=2", "latent.max_stage=2", "no latent slots"),
    ("algorithm=sft", "algorithm=sft", "method=dropout_grpo: that method is algorithm=grpo"),
    ("method=coconut algorithm=grpo", "algorithm=grpo", "method=coconut"),
    ("data=arithmetic data.name=gsm8k", "data.name=gsm8k", "data=arithmetic"),
]


@pytest.mark.parametrize(("line", "named", "reason"), REFUSED, ids=[line for line, *_ in REFUSED])
def test_what_nothing_reads_is_refused_by_name(line: str, named: str, reason: str) -> None:
    with pytest.raises(InputError) as refusal:
        composed(*line.split())
    message = str(refusal.value)
    assert message.startswith(named) and reason in message and "\n" not in message


@pytest.mark.parametrize(
    "line",
    [
        "",
        "init.seed=3 seed=1 sft.lr=1e-3 rl.lr=1e-3 noise.rate=0.2 rl.mask_rate=0.3",
        "method=dropout_grpo noise=none advantage=mean_std transform=[invalid_mask]",
        "method=coconut seed=3 sft.lr=1e-3 sft.at_cap=go_on latent.max_stage=2",
        "method=coconut algorithm=sft noise=none",  # as the method itself has it
        "method=coconut noise=shared_mask noise.rate=0.2 protocol.explore=both",
        "method=sft_continued init.seed=1 rl.updates=9 rl.trainable=no_embeddings",
        "method=sft_continued rl.seconds=9 noise=shared_mask protocol.explore=latent",
        "method=sft_continued init.path=x sft.lr=1e-3",
        "init.path=x init.root=y init.revision=main rl.lr=1e-3 curriculum=coconut",
        "model.path=x model.revision=main",
        "sft.gate=null sft.target=null",
        "method=coconut debug=smoke",  # files stay free
        "method=sft_continued debug=smoke",
        "method=no_cot data=gsm8k",
        "experiment=word_problems method=no_cot seed=1",
        "experiment=noise_ablation noise=per_step_mask",
        "limit.rl_updates=2 limit.sft_updates_per_stage=2",
    ],
)
def test_what_is_read_is_accepted(line: str) -> None:
    composed(*line.split())


def test_the_command_line_says_it_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = inside("method=coconut", "init.seed=3", "hydra.run.dir=run")
    assert outcome.code == 2 and outcome.err.startswith("error: init.seed=3: nothing reads it")
    assert len(outcome.err.strip().splitlines()) == 1 and not list(tmp_path.iterdir())

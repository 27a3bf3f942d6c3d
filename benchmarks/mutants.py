"""One-line mistakes, and whether the tests notice them: `python -m benchmarks.mutants [name ...]`.

Each is put into a copy of the tree, where the named tests are run; a mistake that they let pass is
printed as `survived`. A line that is no longer in its file is an error: mend this table with it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CORE = ("tests/core/test_small_truths.py", "tests/core", "tests/contract/test_pairs.py")


@dataclass(frozen=True)
class Mutant:
    """A line of a file, what it becomes, and the tests that ought to fail."""

    file: str
    line: str
    becomes: str
    tests: tuple[str, ...] = CORE


MUTANTS: dict[str, Mutant] = {
    "replay at temperature 1": Mutant(
        "latentbench/training/rl.py",
        "Scorer(policy, objective.latent_loss, answer.temperature, layout.markers.pad)",
        "Scorer(policy, objective.latent_loss, 1.0, layout.markers.pad)",
    ),
    "stored choices at the text's temperature": Mutant(
        "latentbench/model/policy.py",
        "self.log_law(thoughts.sources).gather",
        "self.log_law(thoughts.sources, temperature).gather",
    ),
    "replay gap times 0": Mutant(
        "latentbench/training/update.py",
        "return (difference * scored_positions(part, latent_loss)).abs().max()",
        "return (0 * difference * scored_positions(part, latent_loss)).abs().max()",
    ),
    "replay gap without its mask": Mutant(
        "latentbench/training/update.py",
        "return (difference * scored_positions(part, latent_loss)).abs().max()",
        "return difference.abs().min()",
    ),
    "one weight noise for all layers": Mutant(
        "latentbench/noise/_weight.py",
        "np.stack([g.standard_normal(shape, dtype=np.float32) for g in generators])",
        "np.stack([k.generator().standard_normal(shape, dtype=np.float32) for k in keys])",
    ),
    "lexical loss per micro-batch": Mutant(
        "latentbench/sft_loss/lexical.py",
        "for row in batch for target in row.targets if target",
        "for row in rows for target in row.targets if target",
    ),
    "Llama's attention dropout stays": Mutant(
        "latentbench/model/backbone.py",
        "            module.attention_dropout = rate",
        "            pass",
    ),
    "one dropout seed for all updates": Mutant(
        "latentbench/training/sft.py",
        "Key(self.seed, Purpose.DROPOUT, self.update)",
        "Key(self.seed, Purpose.DROPOUT, 0)",
    ),
    "validation under noise": Mutant(
        "latentbench/training/greedy.py", "policy = policy.under(None_())", "pass"
    ),
    "best weights not restored": Mutant(
        "latentbench/training/rl.py", 'self.model.load_state_dict(self.best["weights"])', "pass"
    ),
    "entropy over all places": Mutant(
        "latentbench/training/rl.py",
        "float(rollouts.answers.entropy.sum()) / max(tokens, 1)",
        "float(rollouts.answers.entropy.mean())",
    ),
    "schedule's rate of update 0 at test": Mutant(
        "latentbench/noise/_mask.py",
        "key.step if training else self.rate_updates or 0",
        "key.step",
    ),
    "forced thoughts disturbed again": Mutant(
        "latentbench/model/policy.py",
        "                thought = forced[:, step - 1]",
        "                thought = forced[:, step - 1]\n"
        '                if "thought" in effects:\n'
        '                    thought = effects["thought"](state.hidden, thought)',
    ),
    "permutation p without + 1": Mutant(
        "analysis/stats.py",
        "return (extreme + 1) / (resamples + 1)",
        "return extreme / resamples",
        ("tests/analysis",),
    ),
    "test answers on the training stream": Mutant(
        "latentbench/evaluation/benchmark.py", "Purpose.TEST_ANSWER", "Purpose.ANSWER"
    ),
    "test noise on the training stream": Mutant(
        "latentbench/evaluation/benchmark.py", "Purpose.TEST_NOISE", "Purpose.NOISE"
    ),
    "a penalty of the wrong sign": Mutant(
        "latentbench/training/update.py",
        "difference = (other - present)",
        "difference = (present - other)",
    ),
    "advantages not centred by group": Mutant(
        "latentbench/advantage/mean.py",
        "rewards.mean(dim=1, keepdim=True)",
        "rewards.mean(dim=0, keepdim=True)",
    ),
    "old log-probabilities of the sampler for all": Mutant(
        "latentbench/training/update.py",
        "replayed = scorer.policy.noise.replayed",
        "replayed = False",
    ),
    "an end token that ends nothing": Mutant(
        "latentbench/model/policy.py",
        "torch.tensor([self.eos, *self.ends]",
        "torch.tensor([self.eos]",
    ),
    "embeddings of the head's inputs trained": Mutant(
        "latentbench/model/policy.py",
        "return vectors.detach() if self.fixed_inputs else vectors",
        "return vectors",
    ),
    "the bias of value projections trained": Mutant(
        "latentbench/model/backbone.py",
        "            weight.requires_grad_(True)",
        "            [p.requires_grad_(True) for p in place.module.parameters()]",
    ),
    "bold from one run a side": Mutant(
        "analysis/build.py",
        "min(len(a), len(b)) < LEAST_SEEDS",
        "min(len(a), len(b)) < 1",
        ("tests/analysis",),
    ),
    "start models as seeds": Mutant(
        "analysis/study.py",
        "crossed = 1 < len(by_init) < len(runs)",
        "crossed = False",
        ("tests/analysis",),
    ),
    "a checkpoint of anybody": Mutant(
        "latentbench/runtime/checkpoints.py",
        "if owner.get(name) != value:",
        "if False:",
        ("tests/reliability/test_claim.py",),
    ),
    "weights believed": Mutant(
        "latentbench/model/weights.py",
        "if saved is not None and saved != content_digest(directory, where):",
        "if False:",
        ("tests/core/test_whole_weights.py",),
    ),
    "tensors believed": Mutant(
        "latentbench/model/weights.py",
        '    check_names(found["missing_keys"], found["unexpected_keys"], where)',
        "    pass",
        ("tests/core/test_whole_weights.py",),
    ),
    "rollouts not looked at": Mutant(
        "latentbench/training/rollout.py",
        '        check_finite(answers, chunk, f"rl update {step}: rollouts")',
        "        pass",
        ("tests/core/test_not_finite.py",),
    ),
    "a whole gold's neighbours": Mutant(
        "latentbench/reward/tolerance.py",
        "allowed = min(allowed, _BELOW_HALF)",
        "pass",
        ("tests/reward",),
    ),
}


def killed(mutant: Mutant, tree: Path) -> bool:
    """Whether the tests fail with the mistake in. Raises ValueError where its line is gone."""
    file = tree / mutant.file
    sound = file.read_text()
    if mutant.line not in sound:
        raise ValueError(f"{mutant.file}: no line {mutant.line!r}")
    file.write_text(sound.replace(mutant.line, mutant.becomes, 1))
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutant.tests]
    try:
        return subprocess.run(command, cwd=tree, capture_output=True).returncode == 1
    finally:
        file.write_text(sound)


def main() -> int:
    """Print a line for each; 1 where one survived."""
    names = sys.argv[1:] or list(MUTANTS)
    survived = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        skipped = shutil.ignore_patterns(".git", "__pycache__", ".ci", "multirun", "outputs")
        shutil.copytree(ROOT, tree, ignore=skipped)
        for name in names:
            dead = killed(MUTANTS[name], tree)
            survived += not dead
            print(f"{'killed  ' if dead else 'survived'}  {name}", flush=True)
    print(f"{len(names) - survived} of {len(names)} killed")
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main())

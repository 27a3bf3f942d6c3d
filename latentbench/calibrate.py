"""Equal-variance calibration: the strength at which one noise moves the last latent state as far as
another does.

    python -m latentbench.calibrate noise=per_step_mask like=shared_mask like.rate=0.1

Everything but `like` is a command line of run.py. The start model is built or reused as in a run;
the dispersion (`latent/dispersion`: the deviation between rollouts of a prompt of the hidden state
after the last latent slot, relative to its root mean square) is taken on validation prompts.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from latentbench import cli
from latentbench.config import sections
from latentbench.errors import InputError

PROMPTS = 128
TOLERANCE = 1e-3
ROUNDS = 40


def solve(
    dispersion: Callable[[float], float], target: float, start: float, most: float
) -> float | None:
    """The strength whose dispersion is `target`, by bisection; None where `most` stays below it."""
    low, high = 0.0, start
    while dispersion(high) < target:
        if high >= most:
            return None
        low, high = high, min(2 * high, most)
    middle = high
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        found = dispersion(middle)
        if abs(found - target) <= TOLERANCE * target:
            break
        low, high = (middle, high) if found < target else (low, middle)
    return middle


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The command line of the noise to be calibrated, and that of the one it shall be like.

    Raises InputError without `like=<noise>`.
    """
    like = [a for a in arguments if a.startswith(("like=", "like."))]
    own = [a for a in arguments if a not in like]
    if not any(a.startswith("like=") for a in like):
        raise InputError(
            "like: say which noise to match, for example noise=per_step_mask like=shared_mask"
        )
    other = [a for a in own if not a.startswith(("noise=", "noise."))]
    return own, other + ["noise" + a.removeprefix("like") for a in like]


def strength_of(noise: Any) -> str:
    """The name of a noise's strength. Raises InputError for one that has none."""
    name = noise.strength
    if name is None:
        raise InputError(f"noise={type(noise).__name__.strip('_').lower()}: has no strength to set")
    return name


def calibrate(arguments: Sequence[str]) -> str:
    """The answer in words, its last line an override for run.py."""
    own, other = split_arguments(arguments)
    config, choices = _composed(own)
    target_config, target_choices = _composed(other)
    name = strength_of(config.noise)
    nothing = InputError(
        f"like={target_choices['noise']}: its dispersion is 0 and there is nothing to match; give "
        "it a strength, and rl.group_size at least 2"
    )
    if target_config.noise.diverges == "answer":
        raise nothing
    measure = _measure(config, choices, target_config.noise)
    target = measure(target_config.noise)
    if not target > 0:
        raise nothing

    def dispersion(strength: float) -> float:
        return measure(dataclasses.replace(config.noise, **{name: strength}))

    start = getattr(config.noise, name) or 0.1
    found = solve(dispersion, target, start, 0.95 if name == "rate" else 1e3)
    if found is None:
        raise InputError(
            f"noise={choices['noise']}: no {name} moves the last state as far as "
            f"like={target_choices['noise']} does (dispersion {target:.4f})"
        )
    other_name = strength_of(target_config.noise)
    lines = [
        f"like {target_choices['noise']} {other_name}={getattr(target_config.noise, other_name):g}:"
        f" dispersion {target:.4f}",
        f"{choices['noise']} {name}={start:g}: dispersion {dispersion(start):.4f}",
        f"{choices['noise']} {name}={found:.4g}: dispersion {dispersion(found):.4f}",
        f"noise={choices['noise']} noise.{name}={found:.4g}",
    ]
    return "\n".join(lines)


def _composed(overrides: Sequence[str]) -> tuple[sections.Config, dict[str, str]]:
    from hydra import compose, initialize_config_dir
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict

    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        composed = compose("config", list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(composed)
    choices = cli.choices_of(HydraConfig.get())
    with open_dict(composed):
        del composed["hydra"]
    return sections.typed(composed, choices), choices


def _measure(
    config: sections.Config, choices: dict[str, str], target: Any
) -> Callable[[Any], float]:
    """The dispersion under a noise, on the run's own start model, `rl.rollout_rows` at a time.

    Raises InputError for what a run would refuse, of either noise.
    """
    import torch

    from latentbench.config.compatibility import check_vocabulary
    from latentbench.keys import Key, Purpose, rollout_keys
    from latentbench.model.policy import fresh_draws
    from latentbench.records import collate_prompts, dispersion
    from latentbench.run.init_store import ensure, policy_of
    from latentbench.run.training import prepared
    from latentbench.runtime.device import device_of
    from latentbench.runtime.quiet import quieten_libraries
    from latentbench.training.rollout import chunks

    quieten_libraries()
    ready = prepared(config, choices)
    config, start = ready.config, ready.start
    check_vocabulary({"noise": target}, start.outlined.writable)
    init = ensure(config, choices, start.data, start.outlined)
    init.backbone.model.to(device_of(config.trainer.accelerator))
    policy = policy_of(config, init.backbone, config.noise)
    prompts = start.layout.prompts(list(start.data.validation)[:PROMPTS])
    size = config.rl.group_size

    @torch.no_grad()
    def measure(noise: Any) -> float:
        noisy, states = policy.under(noise), []
        with fresh_draws(noise, Key(config.seed, Purpose.FRESH), policy.device):
            for chunk in chunks(prompts, max(config.rl.rollout_rows // size, 1)):
                batch = collate_prompts(chunk, start.layout.markers.pad, policy.device)
                keys = rollout_keys(config.seed, Purpose.NOISE, 0, batch.uids, size)
                record = noise.draw(keys, noisy.sites(), noisy.latents).to(noisy.device)
                states.append(noisy.latent_phase(batch, record, size)[0].hidden)
        return dispersion(torch.cat(states), size)

    return measure


def main() -> None:
    """`python -m latentbench.calibrate ...`: exit code 2 for bad input."""
    sections.register()
    try:
        print(calibrate(cli.with_home(sys.argv[1:])))
    except InputError as error:
        cli.stop(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        cli.stop(cli.composition_error(error))


if __name__ == "__main__":
    main()

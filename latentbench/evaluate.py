"""The evaluation's command line: `python -m latentbench.evaluate checkpoint=<where> eval=[...]`.

Composed from conf/evaluate.yaml with the groups of run.py. Composition imports neither lightning
nor transformers.
"""

from __future__ import annotations

from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from latentbench import cli
from latentbench.config import sections
from latentbench.config.evaluation import EvaluateConfig
from latentbench.config.reads import check_read_by_evaluation
from latentbench.errors import InputError
from latentbench.runtime.deferred import settle


def main() -> None:
    """`python -m latentbench.evaluate ...`: exit code 0 only when all items are answered."""
    ConfigStore.instance().store(name="base_evaluate", node=EvaluateConfig)
    cli.start("evaluate", job)


def job(composed: DictConfig) -> float | None:
    """One evaluation. Returns the first benchmark's pass@1 for sweepers."""
    return cli.attempt(composed, _carry_out)


def typed(composed: DictConfig) -> EvaluateConfig:
    """The composed configuration as typed objects, checked. Raises InputError."""
    if "checkpoint" not in composed or not composed.get("checkpoint", None):
        raise InputError(
            "checkpoint has no value; set checkpoint=<run directory, Hugging Face directory or hub "
            "id>"
        )
    config = sections.as_objects(composed)
    assert isinstance(config, EvaluateConfig)
    sections.check_protocol(config)
    sections.check_devices(config.trainer)
    least = {
        "latents": (config.latents, 0),
        "names.seed": (config.names.seed, 0),
        "answer.budget": (config.answer.budget, 1),
        "answer.temperature": (config.answer.temperature, 0),
    }
    for key, (value, smallest) in least.items():
        if value is not None and not value >= smallest:
            raise InputError(f"{key}={value}: must be at least {smallest}")
    sections.refuse_infinite(composed)
    return config


def _carry_out(composed: DictConfig, hydra_config: Any, choices: dict[str, str]) -> float | None:
    config = typed(composed)
    check_read_by_evaluation(config, choices, hydra_config.overrides.task)
    settle("torch")
    from latentbench.run.evaluation import asked, check_inputs, evaluation_identity, run

    identity = evaluation_identity(config)
    return cli.in_directory(
        identity,
        asked(config),
        composed,
        hydra_config,
        again=lambda directory: check_inputs(config, choices, directory),
        story=lambda directory: run(config, choices, directory, identity),
    )


if __name__ == "__main__":
    from latentbench.evaluate import main as main_of_the_module

    main_of_the_module()  # so that Hydra's schema is the class of the module, not of __main__

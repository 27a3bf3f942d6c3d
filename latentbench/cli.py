"""The command line: compose the configuration, say what is wrong in one line, run the experiment.

Composition imports neither lightning nor transformers; those wait until a run starts.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from latentbench import schema
from latentbench.errors import InputError

CONF = str(Path(__file__).resolve().parent.parent / "conf")
FLAGS_WITH_VALUE = {
    *("--cfg", "-c", "--package", "-p", "--info", "-i"),
    *("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
    "--experimental-rerun",
}
BAD_INPUT = 2
PREEMPTED = 143


def main() -> None:
    """`python run.py ...`: exit code 0 only when the run is completed."""
    _defer("torch")
    sys.argv[1:] = flags_first(sys.argv[1:])
    traceback_wanted = "HYDRA_FULL_ERROR" in os.environ
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and this function says it shorter
    schema.register()
    try:
        _hydra_main()()
    except (HydraException, OmegaConfBaseException) as error:
        if traceback_wanted:
            raise
        stop(composition_error(error))


def flags_first(arguments: list[str]) -> list[str]:
    """The arguments with flags before overrides: argparse refuses overrides on both sides of `-m`."""
    flags: list[str] = []
    overrides: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        flags.append(argument)
        if argument in FLAGS_WITH_VALUE:
            flags.extend(value for value in [next(rest, None)] if value is not None)
    return flags + overrides


def _defer(name: str) -> None:
    """Import a module when it is first used: `--help`, `--cfg` and completion never use torch."""
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.loader is not None, f"{name} is not installed"
    loader = importlib.util.LazyLoader(spec.loader)
    spec.loader = loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)


def stop(message: str) -> NoReturn:
    """Say it in one line and end with the exit code of bad input."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(BAD_INPUT)


def _hydra_main() -> Callable[[], Any]:
    return hydra.main(version_base="1.3", config_path=CONF, config_name="config")(job)


def job(composed: DictConfig) -> float | None:
    """One run: checked, claimed, carried out. Returns the first benchmark's pass@1 for sweepers."""
    _log_to_console()
    hydra_config = HydraConfig.get()
    choices = {
        str(group): str(choice)
        for group, choice in hydra_config.runtime.choices.items()
        if "/" not in str(group) and "@" not in str(group)
    }
    try:
        return _carry_out(schema.typed(composed), composed, hydra_config, choices)
    except InputError as error:
        _remove_if_empty(Path(hydra_config.runtime.output_dir))
        stop(str(error))


def _carry_out(
    config: schema.Config, composed: DictConfig, hydra_config: Any, choices: dict[str, str]
) -> float | None:
    from latentbench.experiment import run, run_identity
    from latentbench.runtime.checkpoints import Preempted
    from latentbench.runtime.run_directory import LOG, RunDirectory, logging_to

    identity = run_identity(config, choices)
    directory = RunDirectory(Path(hydra_config.runtime.output_dir))
    try:
        with directory.claim(identity):
            if directory.result.get("status") == "completed":
                _show_again(directory)
                return directory.result.get("objective")
            directory.write_hydra(
                composed, _plain_hydra(hydra_config), list(hydra_config.overrides.task)
            )
            with logging_to(directory.path / LOG):
                return run(config, choices, directory, identity).get("objective")
    except Preempted as error:
        print(f"preempted: {error}", file=sys.stderr)
        raise SystemExit(PREEMPTED) from None
    finally:
        _remove_if_empty(directory.path)


def _show_again(directory: Any) -> None:
    from analysis.run_table import render

    print(f"already completed: {directory.path}")
    render(directory.path, None)


def composition_error(error: Exception) -> str:
    """What Hydra or OmegaConf found wrong, in one line: key, value, legal choices."""
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None:
        for line in str(current).splitlines():
            text = line.strip()
            if text.startswith(("Config search path", "provider=")):
                continue
            if text.startswith(("To append to your config", "object_type=", "reference_type=")):
                continue
            if text and text not in parts:
                parts.append(text)
        current = current.__cause__
    return _joined(parts)


def _joined(parts: list[str]) -> str:
    line = ""
    for part in parts:
        if not line:
            line = part
        elif line.endswith(":"):
            line += " " + part
        elif "Available options" in line:
            line += ", " + part if not line.endswith("': ") else part
        else:
            line += "; " + part
    return line


def _plain_hydra(hydra_config: Any) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.create({"hydra": OmegaConf.to_container(hydra_config, resolve=False)})


def _remove_if_empty(path: Path) -> None:
    """Hydra makes the directory before anything is checked; bad input leaves none behind."""
    if path.is_dir():
        (path / ".lock").unlink(missing_ok=True)
        if not any(path.iterdir()):
            path.rmdir()


def _log_to_console() -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for chatty in ("httpx", "urllib3", "filelock", "fsspec", "transformers", "datasets"):
        logging.getLogger(chatty).setLevel(logging.WARNING)

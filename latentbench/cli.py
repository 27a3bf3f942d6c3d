"""The command line: compose the configuration, say what is wrong in one line, run the experiment.

Composition imports neither lightning nor transformers; those wait until a run starts.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.plugins.config_source import ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from latentbench.config import sections
from latentbench.config.plugins import CONF, plugin_names
from latentbench.config.reads import check_read
from latentbench.errors import InputError, RunFailed
from latentbench.runtime.deferred import defer, settle

FLAGS_WITH_VALUE = {
    *("--cfg", "-c", "--package", "-p", "--info", "-i"),
    *("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
    "--experimental-rerun",
}
# These print something and end; nothing is run.
SHOWING = {
    "--help",
    "-h",
    "--hydra-help",
    "--cfg",
    "-c",
    "--info",
    "-i",
    "--shell-completion",
    "-sc",
}
BAD_INPUT = 2
FAILED = 1
CHECK = "--check"
WIDTH = 108
GROUPS = Hydra.format_config_groups
OPTIONS = ConfigLoaderImpl.get_group_options
LOAD = ConfigLoaderImpl.load_configuration
TABLES = "analysis"  # of conf/, but no group of the configuration
# What a W&B agent hands back of a resumed run: the logged config under its key, and W&B's notes.
HANDED_BACK = re.compile(r"(--|\+{0,2})(latentbench|_?wandb(_\w+)?)=")


def main() -> None:
    """`python run.py ...`: exit code 0 only when the run is completed."""
    start("config", job)


def start(config_name: str, task: Callable[[DictConfig], Any]) -> None:
    """Compose `conf/<config_name>.yaml` with the arguments of this process and do the task."""
    defer("torch")  # `--help`, `--cfg` and completion never use it
    if sys.argv[1:] == [CHECK]:
        from latentbench.config.matrix import show

        return show(CONF)
    sys.argv[1:] = with_home(flags_first(without_handed_back(sys.argv[1:])))
    if hasattr(signal, "SIGPIPE") and any(a.split("=")[0] in SHOWING for a in sys.argv[1:]):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `--help | head` ends in silence
    Footprint.run_started = False
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and this function says it shorter
    try:
        sections.register()
        _hide_tables()
        _wrap_groups()
        _name_choices()
        _list_what_is_on([a for a in sys.argv[1:] if a.startswith("hydra.searchpath=")])
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(task)()
    except InputError as error:
        stop(str(error))
    except JobFailed as error:
        raise SystemExit(error.args[0]) from None
    except (HydraException, OmegaConfBaseException) as error:
        # A job of a sweep has the variable from its parent, which set it above.
        if before is not None and "LATENTBENCH_SLOT" not in os.environ:
            raise
        stop(composition_error(error))
    except ValueError as error:
        if Footprint.run_started:
            raise
        stop(f"{error}; given: {' '.join(sys.argv[1:])}")  # Hydra on noise=0.3, without its key
    finally:
        _set_or_remove("HYDRA_FULL_ERROR", before)


def _hide_tables() -> None:
    """Keep the table specs of the analysis out of --help and completion: no run chooses them."""
    Plugins.instance()  # registers the class that lists conf/
    source = SourcesRegistry.instance().resolve("file")
    original = source.list
    if getattr(original, "hides_tables", False):
        return

    def visible(
        self: ConfigSource, config_path: str, results_filter: ObjectType | None
    ) -> list[str]:
        names = original(self, config_path, results_filter)
        return names if config_path else [name for name in names if name != TABLES]

    visible.hides_tables = True  # type: ignore[attr-defined]
    source.list = visible  # type: ignore[method-assign]


def _name_choices() -> None:
    """Let the composed configuration say which option each group has: two noises of one kind have
    the same values, and --cfg, .hydra/ and W&B show values alone."""

    def named(self: ConfigLoaderImpl, *arguments: Any, **named: Any) -> DictConfig:
        config = LOAD(self, *arguments, **named)
        if "choices" in config and not config.choices:
            with open_dict(config):
                config.choices = choices_of(config.hydra)
        return config

    ConfigLoaderImpl.load_configuration = named  # type: ignore[method-assign]


def _list_what_is_on(search_path: list[str]) -> None:
    """Let --help list what a search path of the command line adds; Hydra forgets it there."""

    def options(
        self: ConfigLoaderImpl,
        group_name: str,
        results_filter: ObjectType | None = ObjectType.CONFIG,
        config_name: str | None = None,
        overrides: list[str] | None = None,
    ) -> list[str]:
        return OPTIONS(self, group_name, results_filter, config_name, overrides or search_path)

    ConfigLoaderImpl.get_group_options = options  # type: ignore[method-assign]


def _wrap_groups() -> None:
    """Let --help break the lines of groups that have many options."""

    def wrapped(self: Hydra, *rest: Any, **more: Any) -> str:
        lines = GROUPS(self, *rest, **more).splitlines()
        return "\n".join(
            textwrap.fill(line, WIDTH, subsequent_indent="    ", break_on_hyphens=False)
            for line in lines
        )

    Hydra.format_config_groups = wrapped  # type: ignore[method-assign]


def _set_or_remove(variable: str, value: str | None) -> None:
    os.environ.pop(variable, None)
    if value is not None:
        os.environ[variable] = value


def without_handed_back(arguments: list[str]) -> list[str]:
    """The arguments without what a W&B agent adds when it resumes a run (wandb#9143).

    It passes the run's logged config as arguments: `latentbench={...}`, a dictionary that is no
    override. The swept keys stand beside it and say all that has to be said.
    """
    kept = [argument for argument in arguments if not HANDED_BACK.match(argument)]
    for argument in arguments:
        if argument not in kept:
            print(f"left out, W&B's own: {argument.partition('=')[0]}=...", file=sys.stderr)
    return kept


def flags_first(arguments: list[str]) -> list[str]:
    """The arguments, flags first: argparse refuses overrides on both sides of `-m`."""
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


def with_home(arguments: list[str]) -> list[str]:
    """The arguments with `~/` after `=` or `,` written out.

    The shell leaves it as it is there, and Hydra's grammar has no such character.
    """
    home = str(Path.home())
    return [re.sub(r"(?<=[=,])~(?=/)", lambda _: home, argument) for argument in arguments]


def stop(message: str) -> NoReturn:
    """Say it in one line and end with the exit code of bad input."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(BAD_INPUT)


class Footprint(Callback):
    """Notes which folders Hydra is about to make: bad input leaves none of them behind.

    Hydra makes the run directory before this program is asked anything.
    """

    missing: ClassVar[list[Path]] = []  # of the class: Hydra makes the instance and keeps it
    run_started: ClassVar[bool] = False

    def on_run_start(self, config: DictConfig, **_kwargs: Any) -> None:
        """Called once the configuration is composed, before the run directory is made."""
        Footprint.run_started = True
        path = Path(str(config.hydra.run.dir)).absolute()
        Footprint.missing = [p for p in (path, *path.parents) if not p.exists()]
        found = next(p for p in (path, *path.parents) if p.exists())
        if not found.is_dir():
            stop(f"hydra.run.dir={path}: {found} is a file; choose a directory")
        if not os.access(found, os.W_OK | os.X_OK):
            stop(f"hydra.run.dir={path}: {found} is not writable; choose another directory")

    def on_multirun_start(self, config: DictConfig, **_kwargs: Any) -> None:
        """Called once a sweep's own configuration is composed."""
        Footprint.run_started = True

    @staticmethod
    def remove() -> None:
        """Remove the folders that were made, as far as nothing stands in them."""
        for path in Footprint.missing:
            if not path.is_dir() or any(path.iterdir()):
                return
            path.rmdir()


def job(composed: DictConfig) -> float | None:
    """One run: checked, claimed, carried out. Returns the first benchmark's pass@1 for sweepers."""
    return attempt(composed, _carry_out)


def attempt(
    composed: DictConfig,
    carry_out: Callable[[DictConfig, Any, dict[str, str]], float | None],
) -> float | None:
    """Do one job; bad input is said in one line and leaves nothing behind."""
    _log_to_console()
    hydra_config = HydraConfig.get()
    try:
        return carry_out(composed, hydra_config, choices_of(hydra_config))
    except InputError as error:
        Footprint.remove()
        end(f"error: {error}", BAD_INPUT, hydra_config)
    except RunFailed as error:
        end(f"failed: {error}", FAILED, hydra_config)


class JobFailed(Exception):
    """One job of a sweep in this process has ended badly, and said so. The others go on."""


def end(message: str, code: int, hydra_config: Any) -> NoReturn:
    """Say in one line why a job ends. A sweep in this process carries on with its other jobs."""
    print(message, file=sys.stderr)
    if hydra_config.mode == RunMode.MULTIRUN:
        raise JobFailed(code)
    raise SystemExit(code)


def choices_of(hydra_config: Any) -> dict[str, str]:
    """Which option each group of the configuration has."""
    choices = {
        str(group): str(choice)
        for group, choice in hydra_config.runtime.choices.items()
        if "/" not in str(group) and "@" not in str(group)
    }
    for group, choice in choices.items():
        if choice.startswith("base_"):
            raise InputError(f"{group}={choice}: that is a schema; choose one that --help lists")
    return choices


def _carry_out(composed: DictConfig, hydra_config: Any, choices: dict[str, str]) -> float | None:
    config = sections.typed(composed, choices)
    check_read(config, choices, hydra_config.overrides.task, CONF)
    settle("torch")
    from latentbench.run.training import asked, check_inputs, run, run_identity

    identity = run_identity(config, choices)
    return in_directory(
        identity,
        asked(config, choices),
        composed,
        hydra_config,
        again=lambda directory: check_inputs(config, choices, directory),
        story=lambda directory: run(config, choices, directory, identity),
    )


def in_directory(
    identity: str,
    asked: Mapping[str, Any],
    composed: DictConfig,
    hydra_config: Any,
    again: Callable[[Any], None],
    story: Callable[[Any], dict[str, Any]],
) -> float | None:
    """Claim the run directory and carry out `story` in it, or, after `again`, show what is there.

    Returns the result's objective.
    """
    from latentbench.runtime.quiet import quieten_libraries
    from latentbench.runtime.run_directory import LOG, RunDirectory, logging_to
    from latentbench.runtime.signals import Preempted, handling, stop_now

    quieten_libraries()
    directory = RunDirectory(Path(hydra_config.runtime.output_dir))
    try:
        with handling(stop_now), directory.claim(identity, asked):
            if directory.result.get("status") == "completed":
                again(directory)
                _show_again(directory)
                return directory.result.get("objective")
            directory.write_hydra(
                composed, _plain_hydra(hydra_config), list(hydra_config.overrides.task)
            )
            with logging_to(directory.path / LOG):
                result = story(directory)
            print(f"run directory: {_short(directory.path)}")
            return result.get("objective")
    except Preempted as error:
        way_on = "the same command carries on (name the directory with hydra.run.dir=...)"
        print(f"preempted: {error}; {way_on}: {_short(directory.path)}", file=sys.stderr)
        raise SystemExit(128 + error.signum) from None


def _short(path: Path) -> Path:
    """The path as a person in this directory would write it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _show_again(directory: Any) -> None:
    from latentbench.analysis.run_table import render  # pyright: ignore

    render(directory.path, None)
    print(f"already completed, nothing was done: {_short(directory.path)}")


def composition_error(error: Exception) -> str:
    """What Hydra or OmegaConf found wrong, in one line: key, value, legal choices."""
    override = getattr(error, "override", None)  # what the parser could not read
    parts: list[str] = [f"{override}:"] if override else []
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
    return _joined(parts) + _options_of(parts) + _benchmark_of(parts) + _protocol_key_of(parts)


def _options_of(parts: list[str]) -> str:
    """The legal options where Hydra leaves them out, as it does for lists such as eval=[...]."""
    found = re.search(r"Could not load '(\w+)/", " ".join(parts))
    if found is None:
        return ""
    generated = ConfigStore.instance().list(found[1]) if found[1] == "eval" else []
    options = {Path(name).stem for name in (*generated, *(CONF / found[1]).glob("*.yaml"))}
    return f"; available options in '{found[1]}': {', '.join(sorted(options))}"


def _benchmark_of(parts: list[str]) -> str:
    """The way out for a data set that has no training problems, and so is no option of `data`."""
    found = re.search(r"Could not find 'data/(\w+)'", " ".join(parts))
    if found is None or found[1] not in plugin_names("data"):
        return ""
    return f"; {found[1]} has no training problems: train on another data set, eval=[{found[1]}]"


def _protocol_key_of(parts: list[str]) -> str:
    """The way out where a key of the protocol was looked for in a benchmark."""
    found = re.search(r"\beval\.(\w+)", " ".join(parts))
    if found is None or not sections.is_protocol_key(found[1]):
        return ""
    return f"; set protocol.{found[1]}=..., the same for all of eval"


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


def _log_to_console() -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)

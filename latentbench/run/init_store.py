"""The init stage: the SFT model from which RL starts, built once and shared.

It is addressed by the hash of all that shapes it. The first process that needs it builds it under a
file lock while the others wait; an interrupted build is carried on from its checkpoint.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

import latentbench
from latentbench.config import ports
from latentbench.config.plugins import plugin_name, plugin_packages
from latentbench.config.sections import Config, slots_of
from latentbench.errors import InputError, NotFinite
from latentbench.keys import Key, Purpose
from latentbench.model.backbone import (
    Backbone,
    Outline,
    create,
    load,
    recorded_origin,
    save,
    set_dropout,
    trained_latents,
)
from latentbench.model.layout import Layout
from latentbench.model.policy import Policy
from latentbench.model.tokenizer import tokenizer_digest
from latentbench.model.weights import weights_digest
from latentbench.noise.none import None_
from latentbench.records import Splits
from latentbench.runtime.files import sweep_partial_files, write_json
from latentbench.runtime.metrics_csv import last_value
from latentbench.runtime.provenance import digest, provenance
from latentbench.runtime.run_directory import METRICS, hashable, plain
from latentbench.training.data import Stages, TrainingData
from latentbench.training.fitting import fit
from latentbench.training.gate import Gate
from latentbench.training.sft import SftModule

log = logging.getLogger(__name__)

RECORD = "init.json"


@dataclass(frozen=True)
class Init:
    """A start model, its identity, and where it came from (`built`, `reused` or a path)."""

    backbone: Backbone
    id: str
    origin: str
    directory: Path | None
    record: Mapping[str, Any]


def init_seed(config: Config) -> int:
    """SFT as a method of its own follows the run's seed; as an init it has its own, shared one."""
    return config.seed if config.algorithm == "sft" else config.init.seed


def hashable_values(config: Config) -> dict[str, Any]:
    """The configuration as plain values, as far as it says what is computed; micro-batches are
    memory alone, unless the SFT loss depends on them or the model's own dropout does."""
    values = hashable(plain(config))
    if config.sft_loss.by_micro_batch or config.sft.dropout > 0:
        values["sft"]["micro_batch"] = min(config.sft.micro_batch, config.sft.batch_size)
    return values


def address(
    config: Config, choices: Mapping[str, str], data: Splits, tokenizer: Any
) -> dict[str, Any]:
    """All that shapes the init, as plain values; its hash is the init's name on disk.

    Data, weights and tokenizer count by their content, not by the names they go by.
    """
    values = hashable_values(config)
    path = config.model.path
    source = path or config.model.hub_id
    packages = plugin_packages(config, ["curriculum", "carrier", "sft_loss"])
    return {
        "version": latentbench.__version__,
        **{f"package {name}": number for name, number in packages.items()},
        "seed": init_seed(config),
        "data": config.data.name,
        "data_digest": data.provenance["digest"],
        "train_items": len(data.train),
        "curriculum": [choices["curriculum"], values["curriculum"]],
        "carrier": [choices["carrier"], values["carrier"]],
        "sft_loss": [choices["sft_loss"], values["sft_loss"]],
        "latent": values["latent"],
        "sft": values["sft"],
        "architecture": values["model"]["architecture"],
        "weights": weights_digest(source, config.model.revision) if source else None,
        # decides whether the rows of the markers are set anew
        "trained_latents": trained_latents(path, "model.path") if path else None,
        "tokenizer": tokenizer_digest(tokenizer),
        "precision": config.trainer.precision,
    }


def identify(config: Config, choices: Mapping[str, str], data: Splits, tokenizer: Any) -> str:
    """The id of a run's init, without building it."""
    if config.init.path is not None:
        return weights_digest(config.init.path, config.init.revision)
    return digest(address(config, choices, data, tokenizer))


def ensure(config: Config, choices: Mapping[str, str], data: Splits, outlined: Outline) -> Init:
    """The init of a run: `init.path` where given, else from the store, else built now.

    Raises InputError for an `init.path` that thinks through another number of latents, and for an
    init with another tokenizer than the layout was made with.
    """
    expected = tokenizer_digest(outlined.tokenizer)
    if config.init.path is not None:
        init = _from_path(config, config.init.path)
    else:
        init = _from_store(config, choices, data, outlined)
    if tokenizer_digest(init.backbone.tokenizer) != expected:
        where = f"init.path={config.init.path}"
        if init.directory is not None:
            where = f"init.root={config.init.root}: {init.directory.name}"
        raise InputError(
            f"{where} has another tokenizer than the texts of this run are written with; take an "
            "init that was trained with it, or delete that one and it is built again"
        )
    return init


def _from_path(config: Config, path: str) -> Init:
    check_latents(config)
    markers = config.curriculum.markers
    backbone = load(path, config.init.revision, config.model, markers, config.carrier)
    identity = weights_digest(path, config.init.revision)
    log.info("init: %s (init.path, weights %s)", path, identity)
    return Init(backbone, identity, "path", None, {})


def check_latents(config: Config) -> None:
    """Refuse an `init.path` that was trained with another number of latents than configured."""
    if config.init.path is None:
        return
    trained, wanted = trained_latents(config.init.path), latents_at_test(config)
    if trained is not None and trained != wanted:
        way_out = "set latent.per_step and latent.max_stage as it was trained"
        if trained == 0 or wanted == 0:
            way_out = "choose the curriculum it was trained with, or another init.path"
        raise InputError(
            f"init.path={config.init.path}: was trained with {trained} latent slots, this run "
            f"thinks through {wanted}; {way_out}"
        )


def _from_store(
    config: Config, choices: Mapping[str, str], data: Splits, outlined: Outline
) -> Init:
    shape = address(config, choices, data, outlined.tokenizer)
    recipe = choices["curriculum"]
    if choices["carrier"] != "hidden":
        recipe += f"-{choices['carrier']}"
    name = f"{recipe}-{config.data.name}-{config.model.name}-s{shape['seed']}"
    directory = Path(config.init.root).expanduser() / f"{name}-{digest(shape)}"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _locked(directory):
        reused = (directory / RECORD).is_file()
        if not reused:
            _build(config, choices, data, shape, directory)
        else:
            log.info("init: reusing %s", directory)
    backbone, record = _read(config, directory, digest(shape))
    origin = "reused" if reused else "built"
    return Init(backbone, digest(shape), origin, directory, record)


def _read(config: Config, directory: Path, identity: str) -> tuple[Backbone, Mapping[str, Any]]:
    """A finished init of the store; InputError where its files have come to harm, or are those of
    another init."""
    try:
        record = json.loads((directory / RECORD).read_text())
        model = recorded_origin(str(directory))
        if record["id"] != identity or model.get("init") != identity:
            raise ValueError(f"it holds the init {model.get('init')}")
        if "weights" not in model:
            raise ValueError("it does not say which weights were saved there")
        markers = config.curriculum.markers
        backbone = load(str(directory), None, config.model, markers, config.carrier)
    except (OSError, ValueError, KeyError, TypeError, InputError, NotFinite) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"init.root={config.init.root}: {directory.name} is damaged ({reason}); delete that "
            "directory and it is built again, or choose another init.root"
        ) from error
    return backbone, record


def layout_of(config: Config, model: Backbone | Outline) -> Layout:
    """The token layout of the configured data set and curriculum."""
    return Layout(model.tokenizer, model.markers, config.data.template, config.curriculum.markers)


def latents_at_test(config: Config) -> int:
    """How many latent slots the trained model thinks through, whatever the problem."""
    if not config.curriculum.markers:
        return 0
    return config.latent.per_step * config.latent.max_stage


def policy_of(config: Config, backbone: Backbone, noise: Any) -> Policy:
    """The backbone as a latent policy under a noise source."""
    return Policy(
        model=backbone.model,
        carrier=config.carrier,
        noise=noise,
        latents=latents_at_test(config),
        eos=backbone.markers.eos,
        forbidden=backbone.forbidden,
        latent=backbone.markers.latent,
        ends=backbone.ends,
    )


def origin(config: Config) -> dict[str, str]:
    """The plug-ins with which SFT made a run's start model: its own, or as `init.path` records."""
    if config.init.path is not None:
        return ports.origin(recorded_origin(config.init.path))
    return {kind: ports.description(getattr(config, kind)) for kind in ports.NATIVE}


def metadata_of(config: Config) -> dict[str, Any]:
    """What a model directory says of its latent phase and of the SFT that it came from."""
    return {
        "latents": latents_at_test(config),
        "carrier": plugin_name(config.carrier),
        "carrier_settings": asdict(config.carrier),
        "sft": origin(config),
    }


def _build(
    config: Config,
    choices: Mapping[str, str],
    data: Splits,
    shape: dict[str, Any],
    directory: Path,
) -> None:
    log.info("init: building %s", directory)
    for folder in (directory, directory / "model"):
        sweep_partial_files(folder)
    started = time.perf_counter()
    seed = init_seed(config)
    backbone = create(config.model, Key(seed, Purpose.WEIGHTS), config.carrier)
    layout = layout_of(config, backbone)
    feed = TrainingData(data.train, config.sft.batch_size, 0, seed)
    stages = Stages(stage_lengths(config), config.sft.unit, feed.updates_per_epoch)
    feed.updates = stages.total
    policy = policy_of(config, backbone, None_())
    module = SftModule(
        policy,
        layout,
        config.curriculum,
        slots_of(config),
        stages,
        config.sft_loss,
        config.sft,
        seed,
        gate=gate_of(config, data, layout),
    )
    fit(
        module,
        feed,
        config.trainer,
        directory,
        f"SFT {config.data.name}",
        loggers=[],
        owner={"init": digest(shape)},
    )
    set_dropout(backbone.model, 0.0)
    card = f"# Init stage\n\nBuilt by latentbench {latentbench.__version__}: see {RECORD}.\n"
    save(backbone, directory / "model", metadata_of(config) | {"init": digest(shape)}, card)
    write_json(
        directory / RECORD,
        {
            "id": digest(shape),
            "address": shape,
            "seconds": round(time.perf_counter() - started, 1),
            "updates": module.update,
            "stages": module.looks,
            "final_loss": last_value(directory / METRICS, "train/loss"),
            "provenance": provenance(
                plugin_packages(config, ["data", "curriculum", "carrier", "sft_loss"])
            ),
        },
    )


def gate_of(config: Config, data: Splits, layout: Layout) -> Gate | None:
    """What ends the stages, where it is not their length alone."""
    sft = config.sft
    if sft.gate is None:
        return None
    return Gate(
        items=data.validation[: sft.look_items],
        layout=layout,
        curriculum=config.curriculum,
        slots=slots_of(config),
        reward=config.reward,
        budget=config.answer.budget,
        gate=sft.gate,
        target=sft.gate if sft.target is None else sft.target,
        every=sft.look_every,
        target_every=sft.target_every or sft.look_every,
    )


def stage_lengths(config: Config) -> tuple[int, ...]:
    """How long each SFT stage is trained; layouts with one stage train it for as long as the whole
    curriculum takes."""
    if config.curriculum.last_stage(slots_of(config)) == 0:
        return (sum(config.sft.stages),)
    return tuple(config.sft.stages)


class _locked:
    """A lock beside the init's directory; says so when it has to wait."""

    def __init__(self, directory: Path) -> None:
        self.lock = FileLock(str(directory) + ".lock")
        self.directory = directory

    def __enter__(self) -> None:
        try:
            self.lock.acquire(timeout=0.05)
            return
        except Timeout:
            log.info("init: waiting for another process that builds %s", self.directory)
        self.lock.acquire()

    def __exit__(self, *_error: Any) -> None:
        self.lock.release()


def copy_training_record(init: Init, destination: Path) -> None:
    """Where SFT is the method, its curves and checkpoint are the run's own."""
    if init.directory is None:
        return
    for name in (METRICS, "checkpoints"):
        source, target = init.directory / name, destination / name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.is_file():
            shutil.copyfile(source, target)

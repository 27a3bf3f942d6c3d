"""Wrong input: one line with the key, the value and the way out; exit code 2; no trace left."""

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from driver import QUICK, composed, inside, tree
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from latentbench.cli import composition_error
from latentbench.errors import InputError

# Of each way in which the command line refuses, one: from start to end, as a user meets it.
END_TO_END = {
    *("unknown option", "word for a number", "not an override", "value for a group"),  # Hydra
    *("a schema", "added key"),  # composed well, and yet no configuration
    *("negative lr", "no benchmark"),  # a rule for values
    *("heads that do not divide", "too few positions"),  # seen from the model and the data
    *("inits below a file", "no W&B account"),  # this machine
    "overlap of train and test",  # the data
}

# (overrides, pieces that the line must have)
COMPOSED_WRONG: dict[str, tuple[str, tuple[str, ...]]] = {
    "unknown option": ("method=nonsense", ("method/nonsense", "dropout_grpo")),
    "unknown option in a list": ("transform=[nonsense]", ("transform/nonsense", "invalid_mask")),
    "unknown noise": ("noise=gauss", ("noise/gauss", "shared_mask")),
    "a schema": ("noise=base_shared_mask", ("noise=base_shared_mask",)),
    "unknown key": ("rl.learning_rate=1", ("learning_rate", "rl")),
    "unknown top key": ("epochs=3", ("epochs",)),
    "key of another noise": ("noise=none noise.rate=0.1", ("rate",)),
    "word for a number": ("rl.lr=abc", ("rl.lr", "abc")),
    "null for a number": ("rl.updates=null", ("rl.updates",)),
    "fraction for a count": ("seed=1.5", ("seed", "1.5")),
    "text for a list": ("sft.stages=many", ("sft.stages", "many")),
    "word for a flag": ("latent.pad_to_max=perhaps", ("latent.pad_to_max", "perhaps")),
    "not an override": ("seed", ("seed",)),
    "bad syntax": ("seed=[1", ("seed",)),
    "value for a group": ("noise=0.3", ("noise=0.3",)),
    "an intervention of a benchmark": (
        "eval.intervention=zero",
        ("eval.intervention", "set protocol.intervention=..."),
    ),
    "latent steps of a benchmark": ("eval.latent_steps=2", ("set protocol.latent_steps=...",)),
}
REFUSED: dict[str, tuple[str, tuple[str, ...]]] = {
    "added top key": ("+foo=1", ("foo", "nothing reads")),
    "added key": ("+rl.foo=1", ("rl.foo", "nothing reads")),
    "added key in a plug-in": ("+noise.foo=1", ("noise.foo", "nothing reads")),
    "added section": ("+rl.deep.er=1", ("rl.deep", "nothing reads")),
    "_target_ at the top": ("+_target_=os.system", ("_target_",)),
    "_target_ in a section": ("+rl._target_=os.system", ("rl._target_",)),
    "_target_ in a plug-in": ("+noise._target_=os.system", ("noise._target_",)),
    "_target_ in a dictionary": (
        "+model.architecture._target_=os.system",
        ("model.architecture._target_",),
    ),
    "the word None for a path": ("init.path=None", ("init.path=None", "null")),
    "the word None for a root": ("data=gsm8k data.root=None", ("data.root=None", "null")),
    "group of one": ("rl.group_size=1", ("rl.group_size=1", "at least 2")),
    "k above n": ("protocol.ks=[1,32]", ("protocol.ks=[1, 32]", "pass@32", "protocol.samples")),
    "k of zero": ("protocol.ks=[0]", ("protocol.ks=[0]",)),
    "mask rate of one": ("noise.rate=1.0", ("noise.rate=1.0", "[0, 1)")),
    "negative mask rate": ("noise.rate=-0.1", ("noise.rate=-0.1", "[0, 1)")),
    "mask rate that is no number": ("noise.rate=nan", ("noise.rate=nan", "[0, 1)")),
    "noise on a carrier without scores": ("noise=gumbel", ("noise=gumbel", "carrier=mixture")),
    "a Gumbel temperature of zero": ("method=lepo noise.tau=0", ("noise.tau=0", "above 0")),
    "a mixture temperature of zero": (
        "method=lepo carrier.temperature=0",
        ("carrier.temperature=0", "above 0"),
    ),
    "a filter wider than the mixture": (
        "method=lepo carrier.k=10",
        ("noise.top_k=30", "carrier.k=10", "wide_mixture"),
    ),
    "a latent loss on hidden states": ("latent_loss=soft_ce", ("carrier=hidden", "mixture")),
    "a surrogate without its noise": (
        "method=latent_grpo noise=none",
        ("latent_loss=gumbel_surrogate", "noise=none", "one_sided_gumbel"),
    ),
    "first slots that are not scored": ("transform=[first_token]", ("latent_loss=none",)),
    "thoughts without latent slots": ("method=cot_grpo noise=gaussian", ("noise=gaussian",)),
    "a schedule without an end": ("noise.schedule=linear", ("noise.rate_updates", "rl.updates")),
    "decay of frozen weights": (
        "trainable=value_projections rl.weight_decay=0.1",
        ("rl.weight_decay=0.1", "value_projections"),
    ),
    "seconds for RL": ("rl.seconds=5", ("rl.seconds=5", "sft_continued")),
    "an unknown second opinion": ("protocol.second_opinion=me", ("second_opinion=me", "choice")),
    "unknown mask scope": ("noise.scope=everywhere", ("noise.scope=everywhere", "latent")),
    "unknown mask site": ("noise.sites=[heads]", ("noise.sites", "attention")),
    "negative lr": ("rl.lr=-1e-4", ("rl.lr=-0.0001", "1e-4")),
    "lr that is no number": ("rl.lr=nan", ("rl.lr=nan", "above 0")),
    "a penalty that is infinite": ("rl.kl=inf", ("rl.kl=inf", "finite")),
    "decay that is infinite": ("rl.weight_decay=inf", ("rl.weight_decay=inf", "finite")),
    "SFT decay that is infinite": ("sft.weight_decay=inf", ("sft.weight_decay=inf", "finite")),
    "an infinite temperature": ("protocol.temperature=inf", ("protocol.temperature", "finite")),
    "an infinite answer temperature": ("answer.temperature=inf", ("answer.temperature", "finite")),
    "a clip that is infinite": ("rl.grad_clip=inf", ("rl.grad_clip=inf", "finite")),
    "an infinite spread of weights": (
        "model.architecture.initializer_range=inf",
        ("model.architecture.initializer_range=inf", "finite"),
    ),
    "weights from no spread": (
        "model.architecture.initializer_range=nan",
        ("model.architecture.initializer_range=nan", "finite"),
    ),
    "infinite noise": ("noise=gaussian noise.scale=inf", ("noise.scale=inf",)),
    "more positions than memory": ("positions=1000000000", ("positions=1000000000", "at most")),
    "a wide model": (
        "model.architecture.n_embd=4000000",
        ("model.architecture", "GiB", "n_embd=4000000"),
    ),
    "a long table of positions": (
        "model.architecture.n_positions=10000000000",
        ("model.architecture", "GiB", "n_positions"),
    ),
    "chains without end": ("data.lengths=[1000]", ("data.lengths=[1000]", "at most")),
    "too large groups": ("rl.group_size=1000000000", ("rl.group_size", "at most")),
    "too many prompts": ("rl.prompts=1000000000", ("rl.prompts", "at most")),
    "too many samples": ("protocol.samples=1000000000", ("protocol.samples", "at most")),
    "a model that is a folder": ("model.name=a/b", ("model.name='a/b'",)),
    "a model above": ("model.name=..", ("model.name='..'",)),
    "slots that are never tested": ("latent.pad_to_max=false", ("latent.pad_to_max",)),
    "infinite lr": ("sft.lr=inf", ("sft.lr=inf", "above 0")),
    "zero SFT lr": ("sft.lr=0", ("sft.lr=0", "above 0")),
    "negative seed": ("seed=-1", ("seed=-1", "at least 0")),
    "negative init seed": ("init.seed=-1", ("init.seed=-1", "at least 0")),
    "negative protocol seed": ("protocol.seed=-1", ("protocol.seed=-1", "at least 0")),
    "no updates": ("rl.updates=0", ("rl.updates=0", "at least 1")),
    "no training items": ("limit.train_items=0", ("limit.train_items=0", "at least 1")),
    "no test items": ("limit.eval_items=0", ("limit.eval_items=0", "at least 1")),
    "no items in a benchmark": ("eval.arithmetic.limit=0", ("eval.arithmetic.limit=0", "at least")),
    "one beta": ("sft.betas=[0.9]", ("sft.betas=[0.9]", "two")),
    "beta of one": ("sft.betas=[0.9,1.0]", ("sft.betas=[0.9, 1.0]", "[0, 1)")),
    "negative clip": ("rl.grad_clip=-1", ("rl.grad_clip=-1", "null")),
    "negative decay": ("rl.weight_decay=-1", ("rl.weight_decay=-1", "at least 0")),
    "mix of one": ("sft.mix=1.0", ("sft.mix=1.0", "[0, 1)")),
    "unknown unit": ("sft.unit=steps", ("sft.unit=steps", "epochs")),
    "unknown split": ("protocol.split=dev", ("protocol.split=dev", "validation")),
    "unknown progress": ("trainer.progress=fancy", ("trainer.progress=fancy", "plain")),
    "unknown precision": ("trainer.precision=8", ("trainer.precision=8", "bf16-mixed")),
    "unknown accelerator": ("trainer.accelerator=abacus", ("trainer.accelerator=abacus", "cpu")),
    "unknown profiler": ("trainer.profiler=deep", ("trainer.profiler=deep", "simple")),
    "selection on test": ("rl.select=test", ("rl.select=test", "validation")),
    "unknown selection": ("rl.select=best", ("rl.select=best", "last")),
    "selection without validation": ("rl.select=validation", ("rl.validate_every",)),
    "two devices": ("trainer.devices=2", ("trainer.devices=2", "-m seed=0,1,2")),
    "an added intervention": (
        "+eval.intervention=zero",
        ("eval.intervention", "protocol.intervention"),
    ),
    "unknown intervention": (
        "protocol.intervention=halve",
        ("protocol.intervention=halve", "shuffle"),
    ),
    "negative latent steps": ("protocol.latent_steps=-1", ("protocol.latent_steps=-1", "least 0")),
    "intervention on nothing": (
        "protocol.intervention=zero protocol.latent_steps=0",
        ("protocol.intervention=zero", "protocol.latent_steps=0"),
    ),
    "steps of none": (
        "protocol.intervention=skip protocol.latent_steps=2",
        ("protocol.intervention=skip", "protocol.latent_steps=2"),
    ),
    "latent steps without latents": (
        "method=cot protocol.latent_steps=2",
        ("protocol.latent_steps=2", "method=cot", "no latent slots"),
    ),
    "shuffling one item": (
        "protocol.intervention=shuffle limit.eval_items=1",
        ("protocol.intervention=shuffle", "eval=arithmetic"),
    ),
    "steps beyond the positions": (
        "protocol.latent_steps=300",
        ("eval=arithmetic", "300 latents", "positions"),
    ),
    "the own benchmark elsewhere": (
        "eval.arithmetic.root=elsewhere",
        ("eval.arithmetic.root=elsewhere", "data.root"),
    ),
    "no benchmark": ("eval=[]", ("eval=[]", "eval=[sums]")),
    "too few stages": ("sft.stages=[4]", ("sft.stages=[4]", "latent.max_stage=1", "2")),
    "no stages": ("sft.stages=[]", ("sft.stages=[]",)),
    "negative stage": ("sft.stages=[4,-1]", ("sft.stages=[4, -1]",)),
    "spare groups unused": ("rl.over_provision=2", ("rl.over_provision=2", "rl.keep=mixed")),
    "greedy samples": ("protocol.temperature=0", ("protocol.temperature=0", "explore")),
    "data that cannot be": ("data.n_train=5000", ("data.n_train=5000", "data.lengths")),
    "unknown operator": ("data.operators=*", ("data.operators", "'+-'")),
    "negative data seed": ("data.seed=-1", ("data.seed=-1",)),
    "unknown model type": ("model.architecture.model_type=gpt9", ("model_type=gpt9",)),
    "unknown architecture key": ("+model.architecture.layers=3", ("model.architecture.layers",)),
    "word for a width": ("model.architecture.n_embd=wide", ("model.architecture", "n_embd=wide")),
    "heads that do not divide": ("model.architecture.n_head=3", ("model.architecture", "n_head=3")),
    "no layers": ("model.architecture.n_layer=0", ("model.architecture.n_layer=0",)),
    "too few positions": ("model.architecture.n_positions=8", ("positions", "has 8")),
    "tokenizer that is not there": (
        "model.tokenizer=/nowhere/tokenizer",
        ("model.tokenizer=/nowhere/tokenizer",),
    ),
    "model that is not there": ("model.path=/nowhere/model", ("/nowhere/model",)),
    "init that is not there": ("init.path=/nowhere/run", ("init.path=/nowhere/run",)),
    "inits below a file": ("init.root=occupied/inits", ("init.root=occupied/inits",)),
    "no W&B account": ("logger=wandb", ("logger=wandb", "logger.wandb.mode=offline")),
    "unknown W&B mode": (
        "logger=wandb logger.wandb.mode=later",
        ("logger.wandb.mode=later", "offline"),
    ),
    "a device without float64": (
        "trainer.accelerator=mps",
        ("trainer.accelerator=mps", "float64", "trainer=cpu"),
    ),
    "unknown family": (
        "model.architecture.model_type=gpt_neo",
        ("model_type=gpt_neo", "gpt2, llama, qwen2, mistral"),
    ),
    "no such device": ("trainer=gpu", ("trainer.accelerator=gpu", "trainer=cpu")),
}


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, without accounts, devices or a hub."""
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_API_KEY", "WANDB_MODE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def end_to_end(nowhere: Path, *overrides: str) -> str:
    """Run with overrides that must be refused; returns the line, after checking its manners."""
    before = tree(nowhere)
    outcome = inside(*overrides)
    assert outcome.code == 2, outcome
    lines = outcome.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), outcome.err
    assert "Traceback" not in outcome.out + outcome.err
    assert "SFT" not in outcome.out and "RL" not in outcome.out
    assert tree(nowhere) == before
    return lines[0].removeprefix("error: ")


def short_way(nowhere: Path, *overrides: str) -> str:
    """The same line, without a process's beginning and a run directory."""
    from latentbench.run.training import prepared, run_identity

    before = tree(nowhere)
    try:
        found = composed(*overrides)
        run_identity(found.config, found.choices)
        prepared(found.config, found.choices)
    except InputError as error:
        line = str(error)
    except (HydraException, OmegaConfBaseException) as error:
        line = composition_error(error)
    else:
        pytest.fail("accepted")
    assert "\n" not in line
    assert tree(nowhere) == before
    return line


Refused = Callable[..., None]


@pytest.fixture
def refused(nowhere: Path) -> Refused:
    """`refused(*overrides, pieces=..., whole=...)`: refused in one line that has the pieces; the
    `whole` command line says it, or the short way."""

    def run(*overrides: str, pieces: tuple[str, ...], whole: bool = False) -> None:
        line = (end_to_end if whole else short_way)(nowhere, *overrides)
        assert all(piece in line for piece in pieces), line

    return run


@pytest.mark.parametrize("name", COMPOSED_WRONG)
def test_composition_refuses(name: str, refused: Refused) -> None:
    overrides, pieces = COMPOSED_WRONG[name]
    refused(*overrides.split(), pieces=pieces, whole=name in END_TO_END)


@pytest.mark.parametrize("name", REFUSED)
def test_values_are_refused(name: str, refused: Refused, nowhere: Path) -> None:
    if name == "no such device":
        import torch

        if torch.cuda.is_available():
            pytest.skip("this machine has such a device")
    (nowhere / "occupied").write_text("a file")
    overrides, pieces = REFUSED[name]
    quick = () if "data=gsm8k" in overrides else QUICK
    refused(*quick, *overrides.split(), pieces=pieces, whole=name in END_TO_END)


@pytest.mark.parametrize("name", ["word for a number", "negative lr", "too few positions"])
def test_the_short_way_says_what_the_command_line_says(name: str, nowhere: Path) -> None:
    overrides = (COMPOSED_WRONG | REFUSED)[name][0].split()
    assert short_way(nowhere, *QUICK, *overrides) == end_to_end(nowhere, *QUICK, *overrides)


# -- the output directory -------------------------------------------------------------------------


def test_directory_of_another_run(refused: Refused, nowhere: Path) -> None:
    taken = nowhere / "taken"
    taken.mkdir()
    (taken / "result.json").write_text(json.dumps({"run_id": "x", "method": "cot", "seed": 7}))
    pieces = ("hydra.run.dir=", "taken", "cot", "seed 7", "another")
    refused(*QUICK, "hydra.run.dir=taken", pieces=pieces, whole=True)


def test_directory_with_foreign_files(refused: Refused, nowhere: Path) -> None:
    (nowhere / "mine").mkdir()
    (nowhere / "mine" / "thesis.tex").write_text("my only copy")
    refused(*QUICK, "hydra.run.dir=mine", pieces=("hydra.run.dir=", "mine", "empty"), whole=True)


@pytest.mark.parametrize("path", ["file", "file/run"])
def test_directory_is_a_file(path: str, refused: Refused, nowhere: Path) -> None:
    (nowhere / "file").write_text("no directory")
    refused(
        *QUICK, f"hydra.run.dir={path}", pieces=("hydra.run.dir=", "file", "is a file"), whole=True
    )


def test_directory_with_an_unreadable_record(refused: Refused, nowhere: Path) -> None:
    (nowhere / "torn").mkdir()
    (nowhere / "torn" / "result.json").write_text('{"run_id": ')
    refused(
        *QUICK, "hydra.run.dir=torn", pieces=("hydra.run.dir=", "torn", "result.json"), whole=True
    )


def test_an_empty_directory_of_the_user_stays(refused: Refused, nowhere: Path) -> None:
    (nowhere / "prepared" / "here").mkdir(parents=True)
    refused(*QUICK, "rl.lr=-1", "hydra.run.dir=prepared/here", pieces=("rl.lr",), whole=True)


# -- data files -----------------------------------------------------------------------------------

TRAIN = ["Ann has 3 apples and buys 4. How many?||<<3+4=7>> #### 7", "2 and 2?||<<2+2=4>> #### 4"]
VALID = ["5 and 1?||<<5+1=6>> #### 6"]
TEST = [json.dumps({"question": "9 less 2?", "answer": "It is <<9-2=7>>7.\n#### 7"})]
GSM8K = ("data=gsm8k", "model=tiny", "data.root=data", "debug=smoke")


def write_data(root: Path, train: list[str], valid: list[str], test: list[str]) -> None:
    """The three files that data=gsm8k reads."""
    (root / "gsm8k_aug").mkdir(parents=True)
    (root / "gsm8k").mkdir()
    (root / "gsm8k_aug" / "train.txt").write_text("".join(row + "\n" for row in train))
    (root / "gsm8k_aug" / "valid.txt").write_text("".join(row + "\n" for row in valid))
    (root / "gsm8k" / "test.jsonl").write_text("".join(row + "\n" for row in test))


def accepted(root: Path) -> str:
    """The held-out files taken for what they are: none of them is the published one."""
    files = (root / "gsm8k_aug" / "valid.txt", root / "gsm8k" / "test.jsonl")
    return f"data.sha256=[{','.join(hashlib.sha256(f.read_bytes()).hexdigest() for f in files)}]"


ROWS_WRONG: dict[str, tuple[dict[str, list[str]], tuple[str, ...]]] = {
    "no answer": ({"train": [TRAIN[0], "1 and 1?||<<1+1=2>>"]}, ("train.txt:2", "####")),
    "empty answer": ({"train": ["1 and 1?||<<1+1=2>> #### "]}, ("train.txt:1", "answer is empty")),
    "no bars": ({"valid": ["1 and 1? #### 2"]}, ("valid.txt:1", "||")),
    "wrong field": (
        {"test": ['{"problem": "1+1", "answer": "#### 2"}']},
        ("test.jsonl:1", "'question'"),
    ),
    "not JSON": ({"test": [TEST[0], "{"]}, ("test.jsonl:2", "JSON")),
    "answer that is no number": (
        {"test": [json.dumps({"question": "who?", "answer": "#### Bob"})]},
        ("test question 'who?'", "test.jsonl:1", "Bob"),
    ),
    "training answer that is no number": (
        {"train": [*TRAIN, "who?||<<1+1=2>> #### Bob"]},
        ("training question 'who?'", "train.txt:3", "Bob"),
    ),
    "validation answer that is no number": (
        {"valid": ["who?||<<1+1=2>> #### Bob"]},
        ("validation question 'who?'", "valid.txt:1", "Bob"),
    ),
    "benchmark question beyond the positions": (
        {"test": [json.dumps({"question": "so " * 700 + "many?", "answer": "#### 2"})]},
        ("eval=gsm8k", "'so so so", "positions"),
    ),
    "validation question beyond the positions": (
        {"valid": [f"{'very ' * 500}long?||<<1+1=2>> #### 2"]},
        ("validation question 'very very", "positions"),
    ),
    "empty file": ({"train": []}, ("train.txt",)),
    "overlap of train and test": (
        {"train": [*TRAIN, "9 less 2?||<<9-2=7>> #### 7"]},
        ("train", "test", "9 less 2?", "data.drop_overlap=true"),
    ),
    "question beyond the positions": (
        {"train": [f"{'very ' * 500}long?||<<1+1=2>> #### 2"]},
        ("training question", "positions"),
    ),
}


@pytest.mark.parametrize("name", ROWS_WRONG)
def test_wrong_rows(name: str, refused: Refused, nowhere: Path) -> None:
    changes, pieces = ROWS_WRONG[name]
    write_data(nowhere / "data", **({"train": TRAIN, "valid": VALID, "test": TEST} | changes))
    whole = name in END_TO_END
    refused(*GSM8K, accepted(nowhere / "data"), pieces=pieces, whole=whole)


@pytest.mark.parametrize("harm", ["missing", "cut short", "no gzip", "no such directory"])
def test_wrong_files(harm: str, refused: Refused, nowhere: Path) -> None:
    write_data(nowhere / "data", TRAIN, VALID, TEST)
    plain = nowhere / "data" / "gsm8k_aug" / "valid.txt"
    packed = gzip.compress(plain.read_bytes())
    pieces: tuple[str, ...] = ("valid.txt",)
    plain.unlink()
    if harm == "cut short":
        plain.with_name("valid.txt.gz").write_bytes(packed[:-9])
    elif harm == "no gzip":
        plain.with_name("valid.txt.gz").write_bytes(b"question||#### 1\n")
    elif harm == "no such directory":
        (nowhere / "data").rename(nowhere / "elsewhere")
        pieces = ("data.root=data", "no such directory")
    refused(*GSM8K, pieces=pieces)


# -- the hub out of reach -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "pieces"),
    [
        (("data=gsm8k", "model=tiny"), ("hub", "data.root=<directory>")),
        ((*QUICK, "model=gpt2_mini"), ("model.tokenizer=", "hub", "<directory>")),
        ((*QUICK, "model=gpt2"), ("gpt2", "<directory>")),
        ((*QUICK, "init.path=someone/model"), ("init.path=someone/model", "directory")),
    ],
    ids=["data", "tokenizer", "model", "init"],
)
def test_hub_out_of_reach(
    overrides: tuple[str, ...],
    pieces: tuple[str, ...],
    refused: Refused,
    nowhere: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(nowhere / "cache"))
    refused(*overrides, "debug=smoke", "limit.samples=2", pieces=pieces)


def test_more_token_types_than_the_model_can_write(refused: Refused) -> None:
    """Known once the tokenizer is read, and before anything is trained."""
    refused("method=lepo", "carrier.k=500", pieces=("carrier.k=500", "98 token types"))
    pieces = ("noise.at_least=99", "98 token types")
    refused("method=latent_grpo", "noise.at_least=99", pieces=pieces)

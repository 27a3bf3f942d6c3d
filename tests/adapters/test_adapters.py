"""Converted checkpoints answer as the published code does, on random weights of its layout.

The naive side works on the published tensors themselves, in float64, one question at a time and
without a cache; LoRA stays beside the weights there, as in training. The published loops could also
write padding and the markers, which random weights do and trained ones do not: here none may.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from latentbench.carrier.hidden import Hidden
from latentbench.carrier.projector import Projector
from latentbench.config.sections import ModelConfig
from latentbench.convert import main
from latentbench.model.backbone import Backbone, load
from latentbench.model.layout import Layout
from latentbench.model.policy import Decoding, Policy
from latentbench.model.tokenizer import character_tokenizer
from latentbench.noise.none import None_
from latentbench.records import Item, NoiseRecord, Template, collate_prompts

BASE = len(character_tokenizer())  # rows of the base model
WIDTH, INNER, LAYERS, HEADS, RANK, ALPHA = 32, 24, 2, 4, 3, 8.0
QUESTIONS = ("Ann has 3 apples.", "2+2?", "How many are seven and eight and nine?")
TOKENS = 12

Forward = Callable[[torch.Tensor], torch.Tensor]


# -- the published side ----------------------------------------------------------------------------


def random_gpt2(rows: int, seed: int) -> Any:
    """A GPT-2 in float64 whose every parameter is drawn."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=rows, n_positions=96, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS)
    model: Any = GPT2LMHeadModel(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.2 * noise if parameter.ndim > 1 else parameter + 0.2 * noise)
    return model


def published_ids(question: str) -> list[int]:
    return character_tokenizer()(question, add_special_tokens=False)["input_ids"]


def hidden_states(model: Any, vectors: torch.Tensor) -> torch.Tensor:
    """After the final norm [position, feature], the whole row forwarded."""
    output = model(inputs_embeds=vectors[None], output_hidden_states=True, use_cache=False)
    return output.hidden_states[-1][0]


def naive(
    model: Any, prompt: Sequence[int], cue: int, latents: int, carrier: Forward
) -> tuple[torch.Tensor, list[int]]:
    """The hidden states that thoughts come from and the one at the cue [step, feature], and the
    greedy tokens out of the base model's rows."""
    table = model.transformer.wte.weight
    vectors = table[list(prompt)]
    sources = []
    for _ in range(latents):
        sources.append(hidden_states(model, vectors)[-1])
        vectors = torch.cat([vectors, carrier(sources[-1])[None]])
    tokens: list[int] = []
    feed = cue
    while len(tokens) < TOKENS:
        vectors = torch.cat([vectors, table[feed][None]])
        hidden = hidden_states(model, vectors)[-1]
        if not tokens:
            sources.append(hidden)
        feed = int((table @ hidden)[:BASE].argmax())
        tokens.append(feed)
        if feed == character_tokenizer().eos_token_id:
            break
    return torch.stack(sources), tokens


# -- our side --------------------------------------------------------------------------------------


def carrier_of(metadata: dict[str, Any]) -> Any:
    """The project's own carrier that a model directory names."""
    kind = {"hidden": Hidden, "projector": Projector}[metadata.get("carrier", "hidden")]
    return kind(**metadata.get("carrier_settings", {}))


def converted(out: Path) -> tuple[Backbone, Layout, dict[str, Any]]:
    """The written model directory, as an evaluation opens it, in float64."""
    metadata = json.loads((out / "latentbench.json").read_text())
    carrier = carrier_of(metadata)
    backbone = load(str(out), None, ModelConfig(), True, carrier, "checkpoint")
    backbone.model.double()
    template = Template(**metadata["template"])
    return backbone, Layout(backbone.tokenizer, backbone.markers, template, True), metadata


def answered(
    backbone: Backbone, layout: Layout, latents: int, carrier: Any
) -> list[tuple[torch.Tensor, list[int]]]:
    """The same quantities from Policy, all questions in one left-padded batch."""
    policy = Policy(
        backbone.model, carrier, None_(), latents, backbone.markers.eos, backbone.forbidden
    )
    prompts = [layout.prompt(Item(question, (), "0")) for question in QUESTIONS]
    batch, nothing = collate_prompts(prompts, backbone.markers.pad), NoiseRecord()
    state, thoughts = policy.latent_phase(batch, nothing, 1)
    answers = policy.decode(state, batch.cue, nothing, Decoding(0.0, TOKENS))
    table = backbone.model.get_input_embeddings()
    state, _ = policy._append(state, table(batch.cue[:, None]), None, {})
    stacked = torch.cat([thoughts.sources, state.hidden[:, None]], dim=1)
    texts = [
        ids[: int(mask.sum())].tolist()
        for ids, mask in zip(answers.text.ids, answers.text.mask, strict=True)
    ]
    return list(zip(stacked, texts, strict=True))


def compare(
    ours: list[tuple[torch.Tensor, list[int]]], theirs: list[tuple[torch.Tensor, list[int]]]
) -> None:
    for (hidden, tokens), (expected, wanted) in zip(ours, theirs, strict=True):
        # merged LoRA is rounded to float32 once more
        assert (hidden - expected).abs().max() < 1e-6 * expected.abs().max()
        assert tokens == wanted
    assert len({tuple(tokens) for _, tokens in ours}) > 1, "questions must tell weights apart"


def convert_ok(*arguments: str) -> None:
    assert main([*arguments, "tokenizer=character", f"blocks={LAYERS}"]) == 0


# -- Coconut ---------------------------------------------------------------------------------------


def coconut_state(model: Any, wrapper: str = "", aside: bool = False) -> dict[str, torch.Tensor]:
    """As `torch.save(parallel_model.state_dict())` of the official code names it."""
    state = {f"base_causallm.{n}": t.clone() for n, t in model.state_dict().items()}
    state["embedding.weight"] = model.transformer.wte.weight.detach().clone()
    for layer in range(LAYERS):  # constants of older transformers
        state[f"base_causallm.transformer.h.{layer}.attn.bias"] = torch.ones(1, 1, 96, 96)
    if aside:
        state |= {
            f"expainable_llm.{n}": t + 1 for n, t in random_gpt2(BASE, 9).state_dict().items()
        }
    return {wrapper + name: tensor for name, tensor in state.items()}


def coconut_naive(model: Any, latents: int, newline: bool = True) -> list[Any]:
    """`question newline <start>`, so many thoughts, `<end>`."""
    start, end = BASE, BASE + 1
    model = model.double()
    with torch.no_grad():
        return [
            naive(
                model,
                [*published_ids(q + "\n" * newline), start],
                end,
                latents,
                lambda hidden: hidden,
            )
            for q in QUESTIONS
        ]


@pytest.mark.parametrize("wrapper", ["", "module.", "_fsdp_wrapped_module."])
def test_official_coconut(wrapper: str, tmp_path: Path) -> None:
    model = random_gpt2(BASE + 3, seed=0)
    torch.save(coconut_state(model, wrapper), tmp_path / "checkpoint_33")
    arguments = ("from=coconut_pt", f"source={tmp_path / 'checkpoint_33'}", f"out={tmp_path / 'o'}")
    convert_ok(*arguments, f"heads={HEADS}")
    backbone, layout, metadata = converted(tmp_path / "o")
    assert (metadata["latents"], metadata["marker"], metadata["carrier"]) == (6, "#", "hidden")
    assert (backbone.markers.start, backbone.markers.end) == (BASE, BASE + 1)
    with torch.no_grad():
        compare(answered(backbone, layout, 6, Hidden()), coconut_naive(model, 6))


def test_policy_answers_as_the_official_code(tmp_path: Path) -> None:
    """The same through Policy's own latent phase and carrier."""
    model = random_gpt2(BASE + 3, seed=0)
    torch.save(coconut_state(model), tmp_path / "checkpoint_33")
    convert_ok(
        "from=coconut_pt",
        f"source={tmp_path / 'checkpoint_33'}",
        f"out={tmp_path / 'o'}",
        f"heads={HEADS}",
        "latents=4",
    )
    backbone, layout, metadata = converted(tmp_path / "o")
    forbidden, eos = backbone.forbidden, backbone.markers.eos
    policy = Policy(backbone.model, Hidden(), None_(), metadata["latents"], eos, forbidden)
    prompts = [layout.prompt(Item(question, (), "0")) for question in QUESTIONS]
    batch = collate_prompts(prompts, backbone.markers.pad)
    with torch.no_grad():
        state, _ = policy.latent_phase(batch, NoiseRecord(), 1)
        answers = policy.decode(state, batch.cue, NoiseRecord(), Decoding(0.0, TOKENS))
    for row, (_, tokens) in enumerate(coconut_naive(model, 4)):
        assert answers.text.ids[row, : len(tokens)].tolist() == tokens


def test_sim_cot_on_coconut(tmp_path: Path) -> None:
    """The auxiliary model beside it is left out; ten latents."""
    model = random_gpt2(BASE + 3, seed=1)
    torch.save(coconut_state(model, aside=True), tmp_path / "checkpoint_28")
    convert_ok("from=sim_cot", f"source={tmp_path}", f"out={tmp_path / 'o'}", f"heads={HEADS}")
    backbone, layout, metadata = converted(tmp_path / "o")
    assert metadata["latents"] == 10 and metadata["method"] == "sim_cot_coconut"
    with torch.no_grad():
        compare(answered(backbone, layout, 10, Hidden()), coconut_naive(model, 10))


def test_coconut_of_latent_tts(tmp_path: Path) -> None:
    model = random_gpt2(BASE + 3, seed=2)
    save_file(
        {n: t.clone() for n, t in model.state_dict().items() if n != "lm_head.weight"},
        tmp_path / "model.safetensors",
    )
    convert_ok("from=latent_tts", f"source={tmp_path}", f"out={tmp_path / 'o'}", f"heads={HEADS}")
    backbone, layout, metadata = converted(tmp_path / "o")
    assert metadata["latents"] == 6 and metadata["carrier"] == "hidden"
    with torch.no_grad():
        compare(answered(backbone, layout, 6, Hidden()), coconut_naive(model, 6))


# -- CODI ------------------------------------------------------------------------------------------


class Lora(nn.Module):
    """A linear map of GPT-2 with LoRA beside it, as peft computes it."""

    def __init__(self, base: Any, down: torch.Tensor, up: torch.Tensor) -> None:
        super().__init__()
        self.base, self.down, self.up = base, down, up

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + (ALPHA / RANK) * (x @ self.down.T) @ self.up.T


def published_projector(seed: int) -> nn.Sequential:
    layers = nn.Sequential(
        nn.Dropout(0.0), nn.Linear(WIDTH, INNER), nn.GELU(), nn.Linear(INNER, WIDTH)
    )
    layers.add_module("ln", nn.LayerNorm(WIDTH))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return layers.eval()


def codi_state(model: Any, layers: nn.Sequential, seed: int) -> tuple[dict[str, Any], Any]:
    """The state dictionary as the trainer saved it, and the model with LoRA beside its maps."""
    generator = torch.Generator().manual_seed(seed)
    prefix = "codi.base_model.model."
    state = {prefix + n: t.clone() for n, t in model.state_dict().items()}
    for index, block in enumerate(model.transformer.h):
        for parent, name in (
            (block.attn, "c_attn"),
            (block.attn, "c_proj"),
            (block.mlp, "c_fc"),
            (block.mlp, "c_proj"),
        ):
            base = getattr(parent, name)
            inputs, outputs = base.weight.shape
            down = 0.2 * torch.randn(RANK, inputs, generator=generator)
            up = 0.2 * torch.randn(outputs, RANK, generator=generator)
            part = "attn" if parent is block.attn else "mlp"
            where = f"{prefix}transformer.h.{index}.{part}.{name}."
            for kind in ("weight", "bias"):
                state[f"{where}base_layer.{kind}"] = state.pop(where + kind)
            state |= {f"{where}lora_A.default.weight": down, f"{where}lora_B.default.weight": up}
            setattr(parent, name, Lora(base, down.double(), up.double()))
    state |= {f"prj.{n}": t.clone() for n, t in layers.state_dict().items()}
    return state, model.double()


def codi_naive(model: Any, layers: nn.Sequential) -> list[Any]:
    """`question <bot>`, six projected thoughts, `<eot>`."""
    bot, eot = BASE + 1, BASE + 2
    layers = layers.double()
    with torch.no_grad():
        return [naive(model, [*published_ids(q), bot], eot, 6, layers) for q in QUESTIONS]


@pytest.mark.parametrize("adapter", ["codi", "sim_cot"])
def test_codi(adapter: str, tmp_path: Path) -> None:
    """LoRA merged equals LoRA beside the weights; SIM-CoT's decoder is left out."""
    layers = published_projector(4)
    state, model = codi_state(random_gpt2(BASE + 3, seed=3), layers, 5)
    if adapter == "sim_cot":
        state |= {f"decoder.{n}": t + 1 for n, t in random_gpt2(BASE, 9).state_dict().items()}
        state |= {"pj_in.weight": torch.ones(2, 2), "pj_out.weight": torch.ones(2, 2)}
        kept = {n: t.clone() for n, t in state.items() if not n.endswith("lm_head.weight")}
        save_file(kept, tmp_path / "model-00001-of-00001.safetensors")
    else:
        torch.save(state, tmp_path / "pytorch_model.bin")
    convert_ok(
        f"from={adapter}",
        f"source={tmp_path}",
        f"out={tmp_path / 'o'}",
        f"heads={HEADS}",
        f"alpha={ALPHA}",
    )
    backbone, layout, metadata = converted(tmp_path / "o")
    assert metadata["carrier"] == "projector" and metadata["carrier_settings"] == {"width": INNER}
    assert metadata["latents"] == 6 and metadata["marker"] == "The answer is:"
    markers = backbone.markers
    assert (markers.pad, markers.start, markers.end) == (BASE, BASE + 1, BASE + 2)
    theirs = codi_naive(model, layers)
    with torch.no_grad():
        carrier = carrier_of(metadata)
        compare(answered(backbone, layout, 6, carrier), theirs)


def test_codi_of_latent_tts(tmp_path: Path) -> None:
    """LoRA merged by its publisher, the projector's layers by number, Coconut's order of tokens."""
    layers, model = published_projector(4), random_gpt2(BASE + 3, seed=6)
    numbers = {"1": "1", "3": "3", "ln": "4"}
    state = {n: t.clone() for n, t in model.state_dict().items() if n != "lm_head.weight"}
    for name, tensor in layers.state_dict().items():
        place, _, kind = name.partition(".")
        state[f"projector.{numbers[place]}.{kind}"] = tensor.clone()
    save_file(state, tmp_path / "model.safetensors")
    convert_ok("from=latent_tts", f"source={tmp_path}", f"out={tmp_path / 'o'}", f"heads={HEADS}")
    backbone, layout, metadata = converted(tmp_path / "o")
    assert metadata["carrier"] == "projector" and metadata["template"]["question_end"] == ""
    model, layers = model.double(), layers.double()
    with torch.no_grad():
        theirs = [naive(model, [*published_ids(q), BASE], BASE + 1, 6, layers) for q in QUESTIONS]
        carrier = carrier_of(metadata)
        compare(answered(backbone, layout, 6, carrier), theirs)


# -- wrong input -----------------------------------------------------------------------------------


def wrong(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


def test_wrong_requests_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = f"out={tmp_path / 'o'}"
    model = random_gpt2(BASE + 3, seed=0)
    good = tmp_path / "good.bin"
    torch.save(coconut_state(model), good)
    plain = tmp_path / "plain.bin"
    torch.save(model.state_dict(), plain)
    llama = tmp_path / "llama.bin"
    torch.save({"base_causallm.model.layers.0.mlp.up_proj.weight": torch.ones(2, 2)}, llama)
    torn = tmp_path / "torn.bin"
    torn.write_bytes(good.read_bytes()[:1000])
    untied = tmp_path / "untied.bin"
    torch.save(
        coconut_state(model) | {"base_causallm.lm_head.weight": torch.ones(BASE + 3, WIDTH)}, untied
    )
    short = tmp_path / "short.bin"
    state = coconut_state(model)
    del state["base_causallm.transformer.h.1.mlp.c_fc.bias"]
    torch.save(state, short)
    told = ("heads=4", "tokenizer=character", "blocks=2")
    topless = tmp_path / "topless.bin"
    torch.save({n: t for n, t in coconut_state(model).items() if ".h.1." not in n}, topless)
    half = tmp_path / "half.bin"
    lora, _ = codi_state(random_gpt2(BASE + 3, seed=3), published_projector(4), 5)
    torch.save({n: t for n, t in lora.items() if "c_fc.lora_B" not in n}, half)
    placeless = tmp_path / "placeless.bin"
    torch.save({n: t for n, t in coconut_state(model).items() if ".wpe." not in n}, placeless)
    uneven = tmp_path / "uneven.bin"
    bias = "base_causallm.transformer.h.1.mlp.c_fc.bias"
    torch.save(coconut_state(model) | {bias: torch.ones(3)}, uneven)
    pieces = {
        (): None,
        ("from=codi", f"source={half}", out): "lora_A.default.weight but no",
        ("from=coconut_pt", f"source={placeless}", out): "it lacks transformer.wpe.weight",
        ("from=coconut_pt", f"source={uneven}", out, *told): "one width",
        ("from=coconut_pt", f"source={good}", f"out={good}/o", *told): (
            "cannot be written (File exists)"
        ),
        ("from=coconut_pt", out): "source has no value",
        ("from=coco", f"source={good}", out): "from=coco: choose one of coconut_pt, codi",
        ("source", out): "source: not one of",
        ("from=codi", f"source={good}", out): "no tensor begins with codi.",
        ("from=coconut_pt", f"source={plain}", out): "no tensor begins with base_causallm.",
        ("from=coconut_pt", f"source={llama}", out): "no GPT-2 weights",
        ("from=coconut_pt", f"source={torn}", out): "cannot be read as tensors",
        ("from=coconut_pt", f"source={untied}", out): "lm_head.weight differs",
        ("from=coconut_pt", f"source={short}", out, *told): "lacks",
        (
            "from=coconut_pt",
            f"source={topless}",
            out,
            *told,
        ): "2 blocks it lacks transformer.h.1",
        ("from=coconut_pt", f"source={good}", out): "set blocks=<number> (2 are in the file)",
        ("from=coconut_pt", f"source={good}", out, "blocks=1"): "has beyond them transformer.h.1",
        ("from=coconut_pt", "source=/nowhere/x", out): "source=/nowhere/x: no such file",
        ("from=coconut_pt", f"source={tmp_path / 'o' / 'p'}", out): "no such file",
        (
            "from=coconut_pt",
            f"source={good}",
            out,
            "heads=5",
            "blocks=2",
        ): "heads=5: does not",
        ("from=coconut_pt", f"source={good}", out, "heads=x"): "heads=x: must be a number",
        ("from=coconut_pt", f"source={good}", out, "latents=-1"): "latents=-1",
        ("from=coconut_pt", f"source={good}", f"out={tmp_path}"): "exists already",
    }
    for arguments, piece in pieces.items():
        if piece is not None:
            assert piece in wrong(capsys, *arguments)
            assert not (tmp_path / "o").exists()
    assert not list(tmp_path.glob(".o.*"))


def test_alpha_of_zero_leaves_lora_out(tmp_path: Path) -> None:
    """It is a number like any other, not an alpha that was not given."""
    state, _ = codi_state(random_gpt2(BASE + 3, seed=3), published_projector(4), 5)
    torch.save(state, tmp_path / "c.bin")
    source = (f"source={tmp_path / 'c.bin'}", f"out={tmp_path / 'o'}", f"heads={HEADS}")
    convert_ok("from=codi", *source, "alpha=0")
    found = load_file(tmp_path / "o" / "model.safetensors")["transformer.h.0.mlp.c_fc.weight"]
    base = state["codi.base_model.model.transformer.h.0.mlp.c_fc.base_layer.weight"]
    assert torch.equal(found, base.float())


def test_a_tokenizer_with_other_rows_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(coconut_state(random_gpt2(BASE + 4, seed=0)), tmp_path / "c.bin")
    line = wrong(
        capsys,
        "from=coconut_pt",
        f"source={tmp_path / 'c.bin'}",
        f"out={tmp_path / 'o'}",
        "tokenizer=character",
        "heads=4",
        "blocks=2",
    )
    assert f"{BASE + 3} tokens" in line and f"{BASE + 4} rows" in line


def test_nothing_stored_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pickle with code in it is refused unread."""
    import pickle

    class Bomb:
        def __reduce__(self) -> Any:
            return (Path(tmp_path / "boom").touch, ())

    (tmp_path / "bad.bin").write_bytes(pickle.dumps({"x": Bomb()}))
    wrong(capsys, "from=codi", f"source={tmp_path / 'bad.bin'}", f"out={tmp_path / 'o'}")
    assert not (tmp_path / "boom").exists()

"""What each method is made of, what each control leaves as it is, and the published defaults."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from driver import CONF, Composed, composed

KINDS = (
    *("algorithm", "curriculum", "sft_loss", "carrier", "noise", "answer"),
    *("advantage", "policy_loss", "latent_loss", "trainable"),
)
RL = "sampled mean clipped none all"
METHODS = {
    "coconut": f"sft coconut text hidden none {RL}",
    "codi": f"sft at_once distill projector none {RL}",
    "cot": f"sft cot text hidden none {RL}",
    "no_cot": f"sft no_cot text hidden none {RL}",
    "pause": f"sft coconut text pause none {RL}",
    "soft_coconut": f"sft coconut lexical mixture none {RL}",
    "sft_continued": f"sft_continued coconut text hidden none {RL}",
    "codi_grpo": f"grpo at_once distill projector shared_mask {RL}",
    "cot_grpo": f"grpo cot text hidden none {RL}",
    "deterministic_grpo": "grpo coconut text hidden none greedy mean clipped none all",
    "dropout_grpo": f"grpo coconut text hidden shared_mask {RL}",
    "gaussian_grpo": f"grpo coconut text hidden gaussian {RL}",
    "gaussian_v_grpo": f"grpo coconut text hidden gaussian_weight {RL}",
    "native_dropout_grpo": f"grpo coconut text hidden native_dropout {RL}",
    "no_cot_grpo": f"grpo no_cot text hidden none {RL}",
    "pause_grpo": f"grpo coconut text pause none {RL}",
    "per_step_dropout_grpo": f"grpo coconut text hidden per_step_mask {RL}",
    "svp_grpo": f"grpo coconut text hidden svd_weight {RL}",
    "temp_grpo": f"grpo coconut text hidden none {RL}",
    "unreplayed_dropout_grpo": f"grpo coconut text hidden unreplayed_mask {RL}",
    "unreplayed_per_step_grpo": f"grpo coconut text hidden unreplayed_per_step_mask {RL}",
    "lepo": "grpo coconut lexical wide_mixture gumbel sampled mean_std grpo soft_ce all",
    "wide_soft_temp_grpo": "grpo coconut lexical wide_mixture none sampled mean_std grpo none all",
    "latent_grpo": "grpo coconut lexical mixture one_sided_gumbel sampled mean_std dual_clip "
    "gumbel_surrogate no_embeddings",
    "soft_temp_grpo": "grpo coconut lexical mixture none sampled mean_std dual_clip none "
    "no_embeddings",
}
TRANSFORMS = {"latent_grpo": ["invalid_mask", "first_token"], "soft_temp_grpo": ["invalid_mask"]}

# control -> (method, the one factor in which they differ). Noise on scores comes with what scores
# it: the slots' loss, and the choice among their first tokens.
SCORED = ("noise", "latent_loss", "transform")
CONTROLS: dict[str, tuple[str, tuple[str, ...]]] = {
    "temp_grpo": ("dropout_grpo", ("noise",)),
    "per_step_dropout_grpo": ("dropout_grpo", ("noise",)),
    "native_dropout_grpo": ("dropout_grpo", ("noise",)),
    "unreplayed_dropout_grpo": ("dropout_grpo", ("noise",)),
    "unreplayed_per_step_grpo": ("per_step_dropout_grpo", ("noise",)),
    "deterministic_grpo": ("temp_grpo", ("answer",)),
    "gaussian_v_grpo": ("svp_grpo", ("noise",)),
    "gaussian_grpo": ("temp_grpo", ("noise",)),
    "svp_grpo": ("temp_grpo", ("noise",)),
    "soft_temp_grpo": ("latent_grpo", SCORED),
    "wide_soft_temp_grpo": ("lepo", SCORED),
    "pause_grpo": ("temp_grpo", ("carrier",)),
    "cot_grpo": ("temp_grpo", ("curriculum",)),
    "no_cot_grpo": ("temp_grpo", ("curriculum",)),
    "pause": ("coconut", ("carrier",)),
    "cot": ("coconut", ("curriculum",)),
    "no_cot": ("coconut", ("curriculum",)),
    "sft_continued": ("coconut", ("algorithm",)),
}


@cache
def of(method: str) -> Composed:
    return composed(f"method={method}")


def test_every_method_is_pinned() -> None:
    assert set(METHODS) == {file.stem for file in (CONF / "method").glob("*.yaml")}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_made_of_its_parts(method: str) -> None:
    choices = of(method).choices
    assert " ".join(choices[kind] for kind in KINDS) == METHODS[method]
    assert list(of(method).config.transform) == TRANSFORMS.get(method, [])


@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_differs_in_its_factor_alone(control: str) -> None:
    """Held to the composed values, so that a value that came with a choice counts as well."""
    method, factor = CONTROLS[control]
    one, other = of(control), of(method)
    differing = {
        key
        for key, value in vars(one.config).items()
        if value != getattr(other.config, key) and key not in ("method", "rl", "choices")
    }
    assert differing <= {*factor} and differing, differing
    ours, theirs = vars(one.config.rl), vars(other.config.rl)
    assert ours == theirs, {key for key in ours if ours[key] != theirs[key]}
    chosen = {kind for kind in KINDS if one.choices[kind] != other.choices[kind]}
    assert chosen <= {*factor}


def test_masks_of_the_unreplayed_arms_are_those_of_their_methods() -> None:
    for control in ("unreplayed_dropout_grpo", "unreplayed_per_step_grpo"):
        mine, its = (of(m).config.noise for m in (control, CONTROLS[control][0]))
        assert type(mine) is type(its) and vars(mine) | {"replayed": True} == vars(its)
        assert not mine.replayed


def test_published_values_are_the_defaults() -> None:
    """../shared/reference/methods.md: what the official scripts run with."""
    lepo, latent, codi = (of(method).config for method in ("lepo", "latent_grpo", "codi"))
    assert (lepo.noise.tau, lepo.noise.top_p, lepo.carrier.k) == (0.5, 0.95, 30)
    assert (lepo.policy_loss.aggregate, lepo.latent_loss.fixed_inputs) == ("sequence_mean", True)
    assert (latent.latent_loss.ste, latent.noise.delta, latent.carrier.k) == ("official", 0.0, 10)
    assert latent.transform["invalid_mask"].variant == "zeroed"
    assert latent.transform["first_token"].rule == "official"
    assert (codi.sft_loss.weight, codi.sft_loss.teacher_weight) == (1.0, 1.0)
    assert (codi.sft_loss.last_step, codi.sft_loss.embeddings) == (False, True)
    assert of("soft_coconut").config.sft_loss.weight == 1.0
    assert (of("svp_grpo").config.noise.scale, of("gaussian_v_grpo").config.noise.scale) == (
        0.6,
        0.06,
    )
    gsm8k = composed("data=gsm8k").config.rl
    assert (gsm8k.inner_updates, gsm8k.keep, gsm8k.over_provision) == (2, "mixed", 2)
    assert (gsm8k.prompts, gsm8k.group_size, gsm8k.mask_rate, gsm8k.kl) == (32, 16, 0.2, 0.0)


def test_the_page_names_every_method() -> None:
    page = (Path(CONF).parent / "docs/methods.md").read_text()
    assert all(f"`{method}`" in page for method in METHODS)

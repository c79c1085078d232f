"""The fields of an `adapter_config.json` that loading hands to peft, method by method: the only list of them.

Trained tensors need a few fields of a configuration to be put in their places. The rest tells how training began or
where it ran, and some of that peft would follow: to a file that it opens as a pickle, to a tokenizer on the network,
to a module that it imports. What does not stand here never reaches peft, whoever wrote the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["DESCRIPTIVE", "FIELDS", "METHODS", "is_off", "peft_type_of", "what_loading_uses"]

METHODS = {
    "bottleneck": "BOTTLENECK",
    "ia3": "IA3",
    "lora": "LORA",
    "p-tuning": "P_TUNING",
    "prefix": "PREFIX_TUNING",
    "prompt": "PROMPT_TUNING",
}
"""Methods with a name of their own that save adapters of peft, and what peft calls these; others are peft:NAME."""

DESCRIPTIVE = frozenset(
    {"base_model_name_or_path", "inference_mode", "peft_type", "peft_version", "revision", "task_type"}
)
"""Fields that say what an adapter is and what it was made with. Loading decides them itself, and follows none."""

_WHERE = "target_modules exclude_modules layers_to_transform layers_pattern "
_LAYERS = "target_modules layers_to_transform layers_pattern "
_PROMPT = "num_virtual_tokens token_dim num_transformer_submodules num_attention_heads num_layers "
_KINDS = {
    "ADAMSS": _LAYERS
    + (
        "r num_subspaces subspace_rank init_weights use_asa asa_target_subspaces init_warmup final_warmup "
        "mask_interval asa_importance_beta asa_uncertainty_beta asa_schedule_exponent use_dynamic_rank "
        "svd_threshold random_seed"
    ),
    "BEFT": "target_modules init_weights",
    "BOFT": _WHERE
    + ("boft_block_size boft_block_num boft_n_butterfly_factor boft_dropout fan_in_fan_out init_weights"),
    "BOTTLENECK": "target_modules exclude_modules placement reduction_factor size activation",
    "C3A": _LAYERS + "block_size block_size_pattern init_weights",
    "CARTRIDGE": _PROMPT + "num_frozen_tokens",
    "DEFT": _WHERE + "r decomposition_method init_scale alpha para fan_in_fan_out deft_dropout init_weights",
    "DELORA": _WHERE + "r delora_lambda module_dropout init_weights rank_pattern lambda_pattern",
    "FOURIERFT": _WHERE + "n_frequency scaling random_loc_seed fan_in_fan_out n_frequency_pattern init_weights",
    "FROD": _LAYERS
    + (
        "projection_prng_key save_projection frod_dropout fan_in_fan_out init_weights sparse_rate "
        "regularization_alpha progressbar runtime_offload_base_weight"
    ),
    "GLORA": "target_modules r config_A_B config_C config_D_E init_weights",
    "GRALORA": _LAYERS + "r hybrid_r alpha gralora_dropout gralora_k fan_in_fan_out init_weights",
    "HIRA": _WHERE + "r hira_dropout fan_in_fan_out init_weights rank_pattern",
    "HRA": _WHERE + "r apply_GS init_weights",
    "IA3": "target_modules exclude_modules feedforward_modules fan_in_fan_out init_ia3_weights",
    "LILY": _WHERE + "r stride_A num_B scaling init_weights",
    "LN_TUNING": "target_modules exclude_modules",
    "LOHA": _WHERE
    + ("rank_pattern alpha_pattern r alpha rank_dropout module_dropout use_effective_conv2d init_weights"),
    "LOKR": _WHERE
    + (
        "rank_pattern alpha_pattern r alpha rank_dropout module_dropout use_effective_conv2d init_weights "
        "decompose_both decompose_factor rank_dropout_scale"
    ),
    "LORA": _WHERE
    + (
        "r lora_alpha lora_dropout fan_in_fan_out use_rslora init_lora_weights rank_pattern alpha_pattern "
        "use_dora lora_bias target_parameters trainable_token_indices modules_to_save"
    ),
    "MISS": _WHERE + "r miss_dropout mini_r init_weights",
    "OFT": _WHERE
    + (
        "r oft_block_size module_dropout fan_in_fan_out init_weights coft eps block_share use_cayley_neumann "
        "num_cayley_neumann_terms"
    ),
    "OSF": "target_modules effective_rank rank_pattern init_weights target_svd_config",
    "PEANUT": _WHERE + "r depth act_fn scaling init_weights",
    "PREFIX_TUNING": _PROMPT + "init_weights encoder_hidden_size prefix_projection",
    "PROMPT_TUNING": _PROMPT,
    "PSOFT": _WHERE
    + (
        "r psoft_alpha psoft_dropout fan_in_fan_out ab_svd_init psoft_svd psoft_svd_lowrank_niter random_seed "
        "psoft_orth psoft_mag_b psoft_mag_a use_cayley_neumann num_cayley_neumann_terms cayley_neumann_eps "
        "init_weights"
    ),
    "PVERA": _LAYERS
    + (
        "r projection_prng_key save_projection pvera_dropout d_initial fan_in_fan_out init_weights "
        "sample_at_inference generator_seed"
    ),
    "P_TUNING": _PROMPT + "encoder_reparameterization_type encoder_hidden_size encoder_num_layers encoder_dropout",
    "RANDLORA": _LAYERS
    + (
        "r projection_prng_key save_projection sparse very_sparse randlora_dropout fan_in_fan_out randlora_alpha "
        "init_weights"
    ),
    "ROAD": "target_modules variant group_size init_weights",
    "SHIRA": "target_modules r mask_type random_seed fan_in_fan_out init_weights",
    "SUPERTUNING": (
        "target_modules sparsity select_top r lora_alpha lora_dropout init_weights save_precomputed_indices"
    ),
    "TINYLORA": _LAYERS
    + ("r u weight_tying projection_seed save_projection init_v_bound tinylora_dropout fan_in_fan_out init_weights"),
    "TRAINABLE_TOKENS": "target_modules token_indices init_weights",
    "UNILORA": _LAYERS
    + ("r proj_seed theta_d_length unilora_dropout fan_in_fan_out init_theta_d_bound init_weights save_indices"),
    "VBLORA": _WHERE
    + (
        "r num_vectors vector_length topk save_only_topk_weights vblora_dropout fan_in_fan_out "
        "init_vector_bank_bound init_logits_std"
    ),
    "VERA": _LAYERS + "r projection_prng_key save_projection vera_dropout d_initial fan_in_fan_out init_weights",
    "WAVEFT": _WHERE
    + (
        "n_frequency scaling wavelet_family use_idwt random_loc_seed fan_in_fan_out n_frequency_pattern "
        "proportional_parameters init_weights"
    ),
}
FIELDS: Mapping[str, frozenset[str]] = {kind: frozenset(names.split()) for kind, names in _KINDS.items()}
"""What peft calls a kind of adapter, to the fields that loading one hands to peft."""

# what peft writes into every file of these kinds, and what says nothing
_IDLE = {
    "megatron_core": "megatron.core",
    "qalora_group_size": 16,
    "prompt_tuning_init": "RANDOM",
    "bias": "none",
    "runtime_config": {"ephemeral_gpu_offload": False},
}
_OFF: tuple[Any, ...] = (None, False, "", [], {})


def peft_type_of(method: str) -> str | None:
    """Return what peft calls the adapters of a method; null where the method saves none of peft's."""
    if method.startswith("peft:"):
        return method.removeprefix("peft:").upper()
    return METHODS.get(method)


def what_loading_uses(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an `adapter_config.json` that loading hands to peft.

    Raises:
        ValueError: No adapter of its kind can be loaded.
    """
    kind = config.get("peft_type")
    if not isinstance(kind, str) or kind not in FIELDS:
        raise ValueError(f"adapters of peft type {str(kind)[:40]!r} can't be loaded")
    return {name: value for name, value in config.items() if name in FIELDS[kind]}


def is_off(name: str, value: object) -> bool:
    """Tell whether a field says nothing: it is null, false, empty, or what peft writes where nothing was asked."""
    # 0 is equal to false, and says something
    if any(type(value) is type(off) and value == off for off in _OFF):
        return True
    return name in _IDLE and value == _IDLE[name]

"""Mutants of llm_course/models: norm, MLP, RoPE."""

from __future__ import annotations

from tests.mutants import mutants_of

LAYERS = mutants_of(
    "models.layers",
    (
        "eps outside the root",
        "torch.rsqrt(mean_square + self.eps)",
        "1 / (mean_square.sqrt() + self.eps)",
        "traps/test_rmsnorm.py::test_norm_eps_is_under_the_root",
    ),
    (
        "mean in low precision",
        "wide = x.to(torch.promote_types(x.dtype, torch.float32))",
        "wide = x",
        "traps/test_rmsnorm.py::test_norm_takes_the_mean_in_float32",
    ),
    (
        "mean over all positions",
        "mean(dim=-1, keepdim=True)",
        "mean()",
        "traps/test_rmsnorm.py::test_norm_takes_the_mean_over_channels",
    ),
    (
        "weight before the cast",
        "self.weight * normed.to(x.dtype)",
        "(self.weight * normed).to(x.dtype)",
        "traps/test_rmsnorm.py::test_norm_rounds_before_it_weighs",
    ),
    (
        "SiLU on the wrong branch",
        "F.silu(self.gate_proj(x)) * self.up_proj(x)",
        "self.gate_proj(x) * F.silu(self.up_proj(x))",
        "test_tiny_model.py::test_rmsnorm_and_mlp_match_pytorch",
    ),
)

ROPE = mutants_of(
    "models.rope",
    (
        "half-split pairs",
        (
            "rotated = torch.stack((even * cos - odd * sin, even * sin + odd * cos),"
            " dim=-1)"
        ),
        (
            "even, odd = x.chunk(2, dim=-1)\n"
            "    halves = (even * cos - odd * sin, even * sin + odd * cos)\n"
            "    rotated = torch.cat(halves, dim=-1)[..., None]"
        ),
        "traps/test_rope.py::test_rope_pairs_are_adjacent",
        "traps/test_rope.py::test_a_mismatched_pairing_moves_the_logits",
    ),
    (
        "the other direction",
        "even * cos - odd * sin",
        "even * cos + odd * sin",
        "test_models.py::test_rope_equals_the_matrix_loop",
    ),
    (
        "θ is always 10000",
        "1.0 / rope_theta**exponent",
        "1.0 / 10000.0**exponent",
        "test_models.py::test_rope_equals_the_matrix_loop",
    ),
    (
        "frequencies are a buffer, cast with the model",
        "self.inv_freq = scale_frequencies(inv_freq, rope_scaling)",
        'self.register_buffer("inv_freq", scale_frequencies(inv_freq, rope_scaling))',
        "traps/test_rope.py::test_rope_is_float32_after_a_cast_and_after_growth",
    ),
    (
        "cos and sin are buffers, cast with the model",
        "self._cos, self._sin = angles.cos().to(device), angles.sin().to(device)",
        (
            'self.register_buffer("_cos", angles.cos()), self.register_buffer("_sin",'
            " angles.sin())"
        ),
        "traps/test_rope.py::test_rope_is_float32_after_a_cast_and_after_growth",
    ),
    (
        "the table grows one position too late",
        "if high >= length:",
        "if high > length:",
        "traps/test_rope.py::test_rope_table_grows_and_stays",
    ),
    (
        "positions past the table wrap",
        "length = len(self._cos)\n",
        (
            "length = len(self._cos)\n        position_ids, high = position_ids %"
            " length, 0\n"
        ),
        "traps/test_rope.py::test_rope_table_grows_and_stays",
    ),
    (
        "negative positions wrap",
        "if low < 0:",
        "if False:",
        "test_models.py::test_rope_refuses_negative_positions_and_odd_heads",
    ),
    (
        "linear scaling ignored",
        'return inv_freq / rope_scaling["factor"]',
        "return inv_freq",
        "traps/test_rope.py::test_linear_and_llama3_scaling_move_the_logits",
        "test_rope_scaling.py::test_frequencies_equal_transformers",
    ),
    (
        "llama3 scaling slows the quick channels",
        "keep * inv_freq + (1.0 - keep) * inv_freq",
        "(1.0 - keep) * inv_freq + keep * inv_freq",
        "test_rope_scaling.py::test_frequencies_equal_transformers",
    ),
    (
        "an unknown kind of scaling passes",
        'if kind != "llama3":',
        'if kind != "llama3" and not rope_scaling:',
        "test_rope_scaling.py::test_an_unknown_kind_is_named",
    ),
)

PARTS = (*LAYERS, *ROPE)

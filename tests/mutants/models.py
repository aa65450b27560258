"""Mutants of llm_course/models: norm, MLP, RoPE, attention, the whole network."""

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
        "rotated = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)",
        "even, odd = x.chunk(2, dim=-1)\n"
        "    halves = (even * cos - odd * sin, even * sin + odd * cos)\n"
        "    rotated = torch.cat(halves, dim=-1)[..., None]",
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
        'self.register_buffer("_cos", angles.cos()), self.register_buffer("_sin", angles.sin())',
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
        "length = len(self._cos)\n        position_ids, high = position_ids % length, 0\n",
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

ATTENTION = mutants_of(
    "models.attention",
    (
        "grouped heads in the wrong order",
        "k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)",
        "k.repeat(1, q.shape[1] // k.shape[1], 1, 1)",
        "traps/test_attention_masks.py::test_query_heads_share_kv_heads_in_blocks",
    ),
    (
        "the triangle aligned to the top left",
        "diagonal=num_keys - num_queries",
        "diagonal=0",
        "traps/test_attention_masks.py::test_cached_equals_uncached",
    ),
    (
        "is_causal with more keys than queries",
        "if mask is None and q.shape[2] != k.shape[2]:",
        "if False:",
        "traps/test_attention_masks.py::test_cached_equals_uncached",
        "traps/test_attention_masks.py::test_a_layer_alone_continues_at_the_cache_length",
    ),
    (
        "scores not scaled",
        "q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])",
        "q @ k.transpose(-2, -1)",
        "test_models.py::test_fused_attention_equals_the_captured_weights",
    ),
    (
        "a masked row is uniform",
        "return weights.to(q.dtype) * mask",
        "return weights.to(q.dtype)",
        "traps/test_attention_masks.py::test_a_fully_masked_row_is_finite",
    ),
    (
        "masked scores are -inf",
        "torch.finfo(scores.dtype).min",
        'float("-inf")',
        "traps/test_attention_masks.py::test_a_fully_masked_row_is_finite",
    ),
    (
        "a masked score is only lowered",
        "scores.masked_fill(~mask, torch.finfo(scores.dtype).min)",
        "scores - 1e4 * (~mask)",
        "traps/test_attention_masks.py::test_a_large_score_on_a_masked_key_does_not_leak",
    ),
    (
        "masks of any dtype",
        "if attention_mask is not None and attention_mask.dtype != torch.bool:",
        "if False:",
        "traps/test_attention_masks.py::test_the_layer_takes_boolean_masks_only",
    ),
    (
        "a layer counts positions from 0",
        "past = kv_cache.length if kv_cache is not None else 0",
        "past = 0",
        "traps/test_attention_masks.py::test_a_layer_alone_continues_at_the_cache_length",
    ),
    (
        "keys cached before RoPE",
        "k, v = kv_cache.update(self.layer_idx, k, v)",
        "k, v = kv_cache.update(self.layer_idx, self._split_heads(self.k_proj(hidden_states)), v)",
        "traps/test_attention_masks.py::test_cached_equals_uncached",
    ),
)

TRANSFORMER = mutants_of(
    "models.transformer",
    (
        "left padding with arange positions",
        "position_ids = mask_positions",
        "position_ids = None",
        "traps/test_attention_masks.py::test_positions_count_real_tokens",
    ),
    (
        "positions off by one",
        "real.long().cumsum(dim=-1) - 1",
        "real.long().cumsum(dim=-1)",
        "traps/test_attention_masks.py::test_positions_count_real_tokens",
    ),
    (
        "positions of pads below 0",
        ".clamp(min=0)",
        "",
        "traps/test_attention_masks.py::test_padded_rows_equal_the_rows_alone",
    ),
    (
        "padding is attended to",
        "causal & real[:, None, None, :]",
        "causal | real[:, None, None, :]",
        "traps/test_attention_masks.py::test_padded_rows_equal_the_rows_alone",
        "traps/test_attention_masks.py::test_padding_and_causality_are_combined_as_booleans",
    ),
    (
        "a padding mask replaces the causal one",
        "return causal & real[:, None, None, :]",
        "return real[:, None, None, :]",
        "traps/test_attention_masks.py::test_padding_and_causality_are_combined_as_booleans",
    ),
    (
        "two minima added",
        "return causal & real[:, None, None, :]",
        "return (~causal * torch.finfo(torch.float16).min).half() + (~real[:, None, None, :] * "
        "torch.finfo(torch.float16).min).half()",
        "traps/test_attention_masks.py::test_padding_and_causality_are_combined_as_booleans",
    ),
    (
        "positions restart with a cache",
        "position_ids = torch.arange(past, past + input_ids.shape[1])[None]",
        "position_ids = torch.arange(input_ids.shape[1])[None]",
        "traps/test_attention_masks.py::test_cached_equals_uncached",
    ),
    (
        "the cache advances once a layer",
        "hidden_states = layer(hidden_states, mask, position_ids, kv_cache)",
        "hidden_states = layer(hidden_states, mask, position_ids, kv_cache)\n"
        "            if kv_cache is not None: kv_cache.advance(input_ids.shape[1])",
        "traps/test_attention_masks.py::test_cached_equals_uncached",
    ),
    (
        "the cache never advances",
        "kv_cache.advance(input_ids.shape[1])",
        "pass",
        "traps/test_attention_masks.py::test_cached_equals_uncached",
    ),
    (
        "the residual stream is dropped",
        "return hidden_states + self.mlp(normed)",
        "return normed + self.mlp(normed)",
        "test_models.py::test_the_model_is_its_parts_in_order",
    ),
    (
        "a tied head is a copy",
        "self.lm_head.weight = self.embed_tokens.weight",
        "self.lm_head.weight = nn.Parameter(self.embed_tokens.weight.clone())",
        "test_models.py::test_tied_head_is_the_embedding",
    ),
)

MODELS = (*LAYERS, *ROPE, *ATTENTION, *TRANSFORMER)

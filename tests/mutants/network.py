"""Mutants of llm_course/models: attention, masks, the whole network; and of its
config."""

from __future__ import annotations

from tests.mutants import mutants_of

ATTENTION = mutants_of(
    "models.attention",
    (
        "grouped heads in the wrong order",
        "k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)",
        "k.repeat(1, q.shape[1] // k.shape[1], 1, 1)",
        "traps/test_attention_masks.py::test_query_heads_share_kv_heads_in_blocks",
    ),
    (
        "grouped heads in the wrong order, in the fused kernel",
        "q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True",
        (
            "q, *(x.repeat(1, q.shape[1] // x.shape[1], 1, 1) for x in (k, v)),"
            " attn_mask=mask, is_causal=mask is None"
        ),
        "test_tiny_model.py::test_gqa_equals_a_loop_over_heads",
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
        "boolean_mask((*q.shape[:3], past + q.shape[2]),"
        " attention_mask=attention_mask)",
        "pass",
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
        (
            "k, v = kv_cache.update(self.layer_idx,"
            " self._split_heads(self.k_proj(hidden_states)), v)"
        ),
        "traps/test_attention_masks.py::test_cached_equals_uncached",
    ),
    (
        "queries are not normed",
        "q = self.q_norm(self._split_heads(self.q_proj(hidden_states)))",
        "q = self._split_heads(self.q_proj(hidden_states))",
        "test_models.py::test_biases_and_norms_of_heads",
    ),
    (
        "keys are not normed",
        "k = self.k_norm(self._split_heads(self.k_proj(hidden_states)))",
        "k = self._split_heads(self.k_proj(hidden_states))",
        "test_models.py::test_biases_and_norms_of_heads",
    ),
    (
        "queries are normed after RoPE",
        "q, k = self.rotary(q, k, position_ids)",
        (
            "q, k = self.rotary(self._split_heads(self.q_proj(hidden_states)), k,"
            " position_ids)\n        q = self.q_norm(q)"
        ),
        "test_models.py::test_biases_and_norms_of_heads",
    ),
    (
        "the norms of heads have an eps of their own",
        "self.q_norm = norm(config.head_dim, config.rms_norm_eps)",
        "self.q_norm = norm(config.head_dim)",
        "test_models.py::test_biases_and_norms_of_heads",
    ),
    (
        "no biases",
        "bias = config.qkv_bias",
        "bias = False",
        "test_models.py::test_biases_and_norms_of_heads",
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
        (
            "return (~causal * torch.finfo(torch.float16).min).half() + (~real[:, None,"
            " None, :] * torch.finfo(torch.float16).min).half()"
        ),
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
        (
            "hidden_states = layer(hidden_states, mask, position_ids, kv_cache)\n"
            "            if kv_cache is not None: kv_cache.advance(input_ids.shape[1])"
        ),
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

CONFIG = mutants_of(
    "config",
    (
        "an unknown kind of scaling passes",
        "if not isinstance(kind, str) or kind not in ROPE_SCALING:",
        "if not isinstance(kind, str):",
        "traps/test_rope.py::test_an_unknown_kind_of_scaling_is_an_error",
    ),
    (
        "a scaling of kind default is kept",
        'own = None if given["rope_type"] == "default" else dict(given)',
        "own = dict(given)",
        "test_config.py::test_the_same_model_is_the_same_config",
    ),
)

NETWORK = (*ATTENTION, *TRANSFORMER, *CONFIG)

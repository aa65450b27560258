"""What implementations of this kind got wrong, and the tests that keep it from
happening here.

One file a section. `TRAPS` names every row and the tests that fail when its trap is
sprung; some stand elsewhere, beside other tests of the same thing. tests/mutants.py
springs those that are in the code.
"""

from __future__ import annotations

HERE = "tests/traps"
FOLDER, GGUF = "tests/test_checkpoints_folder.py", "tests/test_checkpoints_gguf.py"
TOKENS, NBVAL = "tests/test_tokenizer.py", "tests/test_nbval_hook.py"

TRAPS: dict[str, dict[str, list[str]]] = {
    "RoPE": {
        "adjacent-pair RoPE on half-split rows, or the reverse": [
            f"{HERE}/test_rope.py::test_rope_pairs_are_adjacent",
            f"{HERE}/test_rope.py::test_a_mismatched_pairing_moves_the_logits",
            "tests/test_reference.py::test_a_wrong_row_order_would_be_noticed",
        ],
        "q/k rows permuted with the wrong head count, or v and o, or not the biases": [
            f"{HERE}/test_rope.py::test_k_rows_permuted_by_another_number_of_heads_move_the_logits",
            "tests/test_checkpoints.py::test_permutation_on_a_case_small_enough_to_read",
            "tests/test_checkpoints.py::test_tensors_keep_their_names_and_only_q_and_k_are_permuted",
            "tests/test_checkpoints.py::test_folder_gives_the_logits_of_transformers",
        ],
        "frequencies cast with the model": [
            f"{HERE}/test_rope.py::test_rope_is_float32_after_a_cast_and_after_growth",
        ],
        "a position past the table": [
            f"{HERE}/test_rope.py::test_rope_table_grows_and_stays"
        ],
        "one word for both layouts": [
            f"{HERE}/test_rope.py::test_the_two_layouts_are_called_adjacent_and_half_split",
        ],
        "rope_scaling ignored": [
            f"{HERE}/test_rope.py::test_an_unknown_kind_of_scaling_is_an_error",
            f"{HERE}/test_rope.py::test_linear_and_llama3_scaling_move_the_logits",
            "tests/test_rope_scaling.py::test_frequencies_equal_transformers",
            f"{FOLDER}::test_rope_scaling_is_applied",
        ],
    },
    "Attention and masks": {
        "grouped heads expanded in the wrong order": [
            f"{HERE}/test_attention_masks.py::test_query_heads_share_kv_heads_in_blocks",
            "tests/test_tiny_model.py::test_gqa_equals_a_loop_over_heads",
        ],
        "is_causal aligned to the top left": [
            f"{HERE}/test_attention_masks.py::test_cached_equals_uncached",
            f"{HERE}/test_attention_masks.py::test_a_layer_alone_continues_at_the_cache_length",
        ],
        "left padding with arange positions": [
            f"{HERE}/test_attention_masks.py::test_positions_count_real_tokens",
            f"{HERE}/test_attention_masks.py::test_padded_rows_equal_the_rows_alone",
        ],
        "a fully masked row is NaN": [
            f"{HERE}/test_attention_masks.py::test_a_fully_masked_row_is_finite",
        ],
        "two minima added overflow": [
            f"{HERE}/test_attention_masks.py::test_padding_and_causality_are_combined_as_booleans",
            f"{HERE}/test_attention_masks.py::test_a_large_score_on_a_masked_key_does_not_leak",
            f"{HERE}/test_attention_masks.py::test_the_layer_takes_boolean_masks_only",
        ],
    },
    "Cache": {
        "position offset off by one, not reset, advanced once per layer": [
            f"{HERE}/test_cache.py::test_every_split_gives_the_uncached_logits",
            f"{HERE}/test_cache.py::test_positions_go_on_where_the_cache_ends",
            f"{HERE}/test_cache.py::test_a_reset_cache_is_as_good_as_new",
            f"{HERE}/test_cache.py::test_a_conversation_forgets_what_the_next_prompt_does_not_begin_with",
            f"{HERE}/test_cache.py::test_memory_of_a_freed_cache_brings_nothing_of_it_along",
        ],
        "expanded heads stored, or keys before RoPE": [
            f"{HERE}/test_cache.py::test_what_is_stored_has_the_kv_heads_only",
        ],
        "overflow wraps silently": [
            f"{HERE}/test_cache.py::test_a_cache_grows_and_keeps_what_it_holds",
            f"{HERE}/test_cache.py::test_past_the_limit_there_is_an_error_and_no_wrap",
        ],
        "one forward too many": [
            f"{HERE}/test_cache.py::test_no_forward_after_the_last_token",
        ],
    },
    "Sampling": {
        "top-p removes every token": [
            f"{HERE}/test_sampling.py::test_top_p_always_leaves_a_token"
        ],
        "the guard keeps row 0 instead of token 0": [
            f"{HERE}/test_sampling.py::test_a_batch_is_filtered_row_by_row",
        ],
        "the crossing token": [f"{HERE}/test_sampling.py::test_top_p_boundaries"],
        "top-p of 1 drops the tail": [
            f"{HERE}/test_sampling.py::test_top_p_of_one_drops_nothing",
            f"{HERE}/test_sampling.py::test_top_p_counts_a_long_tail_exactly",
        ],
        "top-k of 0, None or past the vocabulary": [
            f"{HERE}/test_sampling.py::test_top_k_edges"
        ],
        "temperature of 0, or tiny": [
            f"{HERE}/test_sampling.py::test_temperature_zero_and_tiny"
        ],
        "filters change their input": [
            f"{HERE}/test_sampling.py::test_filters_leave_their_input"
        ],
        "rows share a draw, or move the global seed": [
            f"{HERE}/test_sampling.py::test_rows_draw_independently_and_the_global_seed_is_untouched",
        ],
        "the order of the filters": [
            f"{HERE}/test_sampling.py::test_the_filters_apply_in_the_documented_order",
            f"{HERE}/test_sampling.py::test_the_penalty_comes_before_the_temperature",
            "tests/parity/test_processors.py::test_the_chain",
        ],
    },
    "Generation and tokenizers": {
        "a row goes on after EOS, or stops at the prompt's": [
            f"{HERE}/test_generation_tokenizers.py::test_several_eos_and_pads_after_each_row_ends",
            f"{HERE}/test_generation_tokenizers.py"
            "::test_pad_defaults_to_the_first_eos_and_a_row_after_eos_changes_no_other",
            f"{HERE}/test_generation_tokenizers.py::test_an_eos_in_the_prompt_stops_nothing",
            f"{HERE}/test_generation_tokenizers.py::test_pads_are_not_inferred_from_ids",
        ],
        "a tied head, absent or stored twice": [
            "tests/test_models.py::test_tied_head_is_the_embedding",
            f"{FOLDER}::test_tied_head_absent_or_duplicated",
            f"{FOLDER}::test_absent_head_is_tied_unless_the_config_forbids_it",
            f"{FOLDER}::test_every_wrong_tensor_is_listed",
            f"{GGUF}::test_gguf_with_its_own_head",
        ],
        "two BOS in a chat": [
            f"{HERE}/test_generation_tokenizers.py::test_a_tokenizer_that_would_add_bos_is_told_not_to",
            f"{TOKENS}::test_chat_ids_hold_no_second_bos",
        ],
        "a stream that breaks characters": [
            f"{TOKENS}::test_streamed_text_equals_the_whole",
            f"{TOKENS}::test_streaming_never_shows_half_a_character",
            f"{TOKENS}::test_streaming_any_ids_equals_the_whole",
        ],
        "θ taken as 10000": [
            f"{HERE}/test_generation_tokenizers.py::test_smollm2_theta_is_read_from_its_file",
            f"{GGUF}::test_gguf_config_comes_from_the_metadata",
            f"{FOLDER}::test_both_spellings_of_theta",
            f"{FOLDER}::test_configs_that_cannot_be_right",
        ],
        "float32 parity asserted in bfloat16": [
            f"{HERE}/test_generation_tokenizers.py::test_tokens_are_compared_in_float32_only",
            "tests/parity/test_report.py::test_tolerances_are_the_specified_ones",
        ],
    },
    "RMSNorm": {
        "eps, the axis of the mean, its precision, the order of weight and cast": [
            f"{HERE}/test_rmsnorm.py::test_norm_eps_is_under_the_root",
            f"{HERE}/test_rmsnorm.py::test_norm_takes_the_mean_over_channels",
            f"{HERE}/test_rmsnorm.py::test_norm_takes_the_mean_in_float32",
            f"{HERE}/test_rmsnorm.py::test_norm_rounds_before_it_weighs",
        ],
    },
    "Notebooks": {
        "a wrong plot passes": [
            f"{NBVAL}::test_a_corrupted_notebook_fails",
            f"{HERE}/test_notebooks.py::test_every_figure_is_drawn_beside_an_assert",
            f"{HERE}/test_notebooks.py::test_the_map_lights_the_parts_it_is_told",
        ],
        "digits that another CPU does not print": [
            "tests/test_notebooks.py::test_notebook_keeps_the_rules",
            "tests/test_notebooks.py::test_significant_digits",
            "tests/test_notebooks.py::test_a_rule_catches",
        ],
        "the package drifts from the notebooks": [
            "tests/test_export.py::test_the_packages_modules_match_the_notebooks",
            "tests/test_export.py::test_one_edited_line_of_each_notebook_is_drift",
            "tests/test_export.py::test_an_edited_module_is_drift_and_is_written_anew",
        ],
        "a widget is blank without a kernel": [
            "tests/test_notebooks.py::test_notebook_keeps_the_rules",
            "tests/test_notebooks.py::test_a_rule_catches",
        ],
    },
}

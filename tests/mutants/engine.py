"""Mutants of llm_course/engine: the filters, the draw, the loop."""

from __future__ import annotations

from tests.mutants import mutants_of

TOP_K = "    logits = top_k_filtering(logits, top_k)\n"
TOP_P = "    logits = top_p_filtering(logits, top_p)\n"

FILTERS = mutants_of(
    "engine.sampling",
    (
        "top-k of 0 is not off",
        "if not top_k or top_k >= logits.shape[-1]:",
        "if top_k is None or top_k >= logits.shape[-1]:",
        "traps/test_sampling.py::test_top_k_edges",
    ),
    (
        "top-k past the vocabulary",
        "if not top_k or top_k >= logits.shape[-1]:",
        "if not top_k:",
        "traps/test_sampling.py::test_top_k_edges",
    ),
    (
        "top-k writes into its input",
        "logits.masked_fill(logits < smallest_kept, NEVER)",
        "logits.masked_fill_(logits < smallest_kept, NEVER)",
        "traps/test_sampling.py::test_filters_leave_their_input",
    ),
    (
        "the crossing token is dropped",
        "mass_before = probs.cumsum(dim=-1) - probs",
        "mass_before = probs.cumsum(dim=-1)",
        "traps/test_sampling.py::test_top_p_boundaries",
        "parity/test_processors.py::test_top_p",
    ),
    (
        "one token too many at the boundary",
        "drop = mass_before >= top_p - 1e-7",
        "drop = mass_before > top_p + 1e-7",
        "traps/test_sampling.py::test_top_p_boundaries",
    ),
    (
        "top-p summed in the logits' own dtype",
        "torch.softmax(in_float64(logits), dim=-1)",
        "torch.softmax(logits, dim=-1)",
        "traps/test_sampling.py::test_top_p_counts_a_long_tail_exactly",
    ),
    (
        "top-p of 1 is not off",
        "if top_p >= 1.0:",
        "if False:",
        "traps/test_sampling.py::test_top_p_of_one_drops_nothing",
    ),
    (
        "the guard keeps row 0",
        "drop[..., 0] = False",
        "drop[0] = False",
        "traps/test_sampling.py::test_top_p_always_leaves_a_token",
        "traps/test_sampling.py::test_a_batch_is_filtered_row_by_row",
    ),
    (
        "no guard",
        "drop[..., 0] = False",
        "pass",
        "traps/test_sampling.py::test_top_p_always_leaves_a_token",
    ),
    (
        "top-p forgets to sort back",
        "drop.scatter(-1, order, drop)",
        "drop",
        "traps/test_sampling.py::test_top_p_boundaries",
    ),
    (
        "min-p is absolute",
        "min_p * probs.amax(dim=-1, keepdim=True)",
        "min_p",
        "test_generation.py::test_min_p",
        "parity/test_processors.py::test_min_p",
    ),
    (
        "the penalty raises negative logits",
        "torch.where(logits > 0, logits / penalty, logits * penalty)",
        "logits / penalty",
        "test_generation.py::test_repetition_penalty_lowers_both_signs_and_skips_padding",
        "traps/test_sampling.py::test_the_penalty_comes_before_the_temperature",
    ),
    (
        "the penalty counts padding",
        (
            "torch.ones_like(input_ids) if attention_mask is None else"
            " attention_mask.long()"
        ),
        "torch.ones_like(input_ids)",
        "test_generation.py::test_repetition_penalty_lowers_both_signs_and_skips_padding",
        "parity/test_processors.py::test_repetition_penalty_with_padding",
    ),
    (
        "the penalty grows with each repetition",
        "torch.where(logits > 0, logits / penalty, logits * penalty)",
        (
            "torch.where(logits > 0, logits / penalty**counts.sum(), logits *"
            " penalty**counts.sum())"
        ),
        "parity/test_processors.py::test_repetition_penalty",
    ),
    (
        "top-p before top-k",
        f"{TOP_K}{TOP_P}",
        f"{TOP_P}{TOP_K}",
        "traps/test_sampling.py::test_the_filters_apply_in_the_documented_order",
    ),
    (
        "min-p before top-p",
        f"{TOP_P}    return min_p_filtering(logits, min_p).to(device)",
        f"    logits = min_p_filtering(logits, min_p)\n{TOP_P}    return logits",
        "traps/test_sampling.py::test_the_filters_apply_in_the_documented_order",
    ),
    (
        "temperature after the filters",
        (
            f"(shifted / temperature).float()\n{TOP_K}{TOP_P}"
            "    return min_p_filtering(logits, min_p).to(device)"
        ),
        (
            f"shifted.float()\n{TOP_K}{TOP_P}"
            "    kept = min_p_filtering(logits, min_p)\n"
            "    return (kept.double() / temperature).float()"
        ),
        "traps/test_sampling.py::test_the_filters_apply_in_the_documented_order",
    ),
    (
        "a tiny temperature overflows",
        "shifted = logits - logits.amax(dim=-1, keepdim=True)",
        "shifted = logits.float()",
        "traps/test_sampling.py::test_temperature_zero_and_tiny",
    ),
    (
        "temperature 0 divides",
        "if not config.do_sample or config.temperature == 0:",
        "if not config.do_sample:",
        "traps/test_sampling.py::test_temperature_zero_and_tiny",
    ),
    (
        "all rows share one draw",
        "torch.multinomial(torch.softmax(kept, dim=-1), 1, generator=generator)",
        (
            "torch.multinomial(kept[:1].softmax(-1), 1,"
            " generator=generator).expand(len(kept), 1)"
        ),
        "traps/test_sampling.py::test_rows_draw_independently_and_the_global_seed_is_untouched",
    ),
    (
        "draws from the global generator",
        "torch.multinomial(torch.softmax(kept, dim=-1), 1, generator=generator)",
        "torch.multinomial(torch.softmax(kept, dim=-1), 1)",
        "traps/test_sampling.py::test_rows_draw_independently_and_the_global_seed_is_untouched",
    ),
    (
        "float64 on a device that has none",
        "(logits.cpu() if has_none else logits).double()",
        "logits.double()",
        "test_apple.py::test_tokens_are_those_of_the_cpu",
        "test_apple.py::test_filters_and_draws_keep_the_device",
    ),
    (
        "the draw stays on the CPU",
        "min_p_filtering(logits, min_p).to(device)",
        "min_p_filtering(logits, min_p)",
        "test_apple.py::test_tokens_are_those_of_the_cpu",
    ),
    (
        "logits that are not finite are drawn from",
        "    check_finite(best.values)\n",
        "",
        "test_engine_limits.py::test_logits_that_are_not_finite_are_one_clear_error",
    ),
)

LOOP = mutants_of(
    "engine.generation",
    (
        "seeds the global generator",
        "return generator.manual_seed(seed)",
        "return torch.manual_seed(seed)",
        "traps/test_sampling.py::test_rows_draw_independently_and_the_global_seed_is_untouched",
    ),
    (
        "a finished row goes on",
        "token.masked_fill(finished, pad)",
        "token",
        "traps/test_generation_tokenizers.py::test_several_eos_and_pads_after_each_row_ends",
    ),
    (
        "an EOS in the prompt ends a row",
        "finished = torch.zeros(len(ids), 1, dtype=torch.bool, device=device)",
        "finished = torch.isin(ids, eos).any(dim=-1, keepdim=True)",
        "traps/test_generation_tokenizers.py::test_an_eos_in_the_prompt_stops_nothing",
    ),
    (
        "only the first EOS counts",
        "finished | torch.isin(token, eos)",
        "finished | torch.isin(token, eos[:1])",
        "traps/test_generation_tokenizers.py::test_several_eos_and_pads_after_each_row_ends",
    ),
    (
        "one row's end stops all",
        "if finished.all():",
        "if finished.any():",
        "traps/test_generation_tokenizers.py::test_several_eos_and_pads_after_each_row_ends",
    ),
    (
        "padding inferred from ids",
        "attention_mask = torch.ones_like(input_ids)",
        "attention_mask = (input_ids != 0).long()",
        "traps/test_generation_tokenizers.py::test_pads_are_not_inferred_from_ids",
    ),
    (
        "padding forgotten in the loop",
        "logits = model(piece, seen,",
        "logits = model(piece, None,",
        "test_generation.py::test_left_padded_batch_equals_one_by_one",
    ),
    (
        "a cache is fed everything again",
        "in_pieces(model, ids[..., past:], mask, kv_cache)",
        "in_pieces(model, ids, mask, kv_cache)",
        "test_generation.py::test_a_cache_is_fed_only_what_it_has_not_seen",
    ),
    (
        "a long prompt in one piece",
        "PIECE = 512",
        "PIECE = 1 << 30",
        "test_engine_limits.py::test_memory_of_a_padded_prefill_grows_with_the_prompt",
    ),
    (
        "ids beyond the tokenizer are drawn",
        "logits[:, :vocab_size]",
        "logits",
        "test_engine_limits.py::test_ids_beyond_the_tokenizer_are_never_chosen",
    ),
    (
        "True is an id",
        "-1 if isinstance(one, bool) else index(one)",
        "index(one)",
        "test_engine_limits.py::test_a_truth_value_is_no_id",
    ),
    (
        "no warning of too many tokens",
        "if prompt + new_tokens > config.max_position_embeddings:",
        "if False:",
        "test_engine_limits.py::test_more_tokens_than_the_model_was_trained_for_are_a_warning",
    ),
    (
        "memory for all new tokens at once",
        "min(config.max_new_tokens, model.config.max_position_embeddings)",
        "config.max_new_tokens",
        "test_engine_limits.py::test_a_limit_without_bounds_reserves_no_memory_for_it",
    ),
)

ENGINE = (*FILTERS, *LOOP)

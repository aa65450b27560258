"""Mutants of llm_course/engine: the caches, prefill and decode, the fused model."""

from __future__ import annotations

from tests.mutants import mutants_of

TRAPS = "traps/test_cache.py::"
KNOWN = "test_cache_contents.py::"
SPLITS = f"{TRAPS}test_every_split_gives_the_uncached_logits"

STORAGE = mutants_of(
    "engine.kv_cache",
    (
        "advanced once per layer",
        "return keys, values",
        "self.length += k.shape[2]; return keys, values",
        SPLITS,
    ),
    (
        "written one place too early",
        "held.narrow(3, self.length, n), held",
        "held.narrow(3, max(self.length - 1, 0), n), held",
        SPLITS,
    ),
    (
        "a reset that keeps the pointer",
        "self.truncate(0)",
        "self.truncate(self.length)",
        f"{TRAPS}test_a_reset_cache_is_as_good_as_new",
    ),
    (
        "expanded heads stored",
        "shape = (2, batch_size, config.num_kv_heads, capacity",
        "shape = (2, batch_size, config.num_heads, capacity",
        f"{TRAPS}test_what_is_stored_has_the_kv_heads_only",
        "test_kv_cache.py::test_bytes_are_those_of_the_formula",
    ),
    (
        "bytes counted for the query heads",
        "* config.num_kv_heads\n        * num_tokens",
        "* config.num_heads\n        * num_tokens",
        f"{TRAPS}test_what_is_stored_has_the_kv_heads_only",
        "test_kv_cache.py::test_bytes_are_those_of_the_formula",
    ),
    (
        "growth loses what was held",
        "new[:, :, :, : self.length] = old[:, :, :, : self.length]",
        "new.zero_()",
        f"{TRAPS}test_a_cache_grows_and_keeps_what_it_holds",
        SPLITS,
    ),
    (
        "growth by one token at a time",
        "capacity = max(needed, 2 * old.shape[3])",
        "capacity = needed",
        "test_kv_cache.py::test_growth_is_geometric",
    ),
    (
        "no limit",
        "if self.max_length is not None and needed > self.max_length:",
        "if False:",
        f"{TRAPS}test_past_the_limit_there_is_an_error_and_no_wrap",
        "test_kv_cache.py::test_a_managed_cache_does_not_grow",
    ),
    (
        "overflow wraps",
        "storage = self._grow(layer_idx, end)",
        "self.length, end = 0, n",
        f"{TRAPS}test_past_the_limit_there_is_an_error_and_no_wrap",
        f"{TRAPS}test_a_cache_grows_and_keeps_what_it_holds",
    ),
    (
        "the budget is not held",
        "if in_use + need > self.budget:",
        "if need > self.budget:",
        "test_kv_cache.py::test_a_refusal_states_need_and_budget_and_changes_nothing",
    ),
    (
        "kept memory is not given up",
        "self._kept.pop(0)",
        "break",
        "test_kv_cache.py::test_kept_memory_gives_way_to_a_request_that_does_not_fit_it",
        "test_kv_cache.py::test_the_budget_holds_whatever_is_asked_for",
    ),
    (
        "freed memory is never used again",
        "self._kept.append(buffers)",
        "pass",
        "test_kv_cache.py::test_freed_memory_is_used_again_and_the_old_owner_is_shut_out",
    ),
    (
        "the old owner of freed memory can write",
        "cache.layers = []",
        "pass",
        f"{TRAPS}test_memory_of_a_freed_cache_brings_nothing_of_it_along",
        "test_kv_cache.py::test_freed_memory_is_used_again_and_the_old_owner_is_shut_out",
    ),
    (
        "memory handed out twice",
        "if kept is not buffers",
        "if True",
        "test_kv_cache.py::test_the_budget_holds_whatever_is_asked_for",
    ),
)

CONTENTS = mutants_of(
    "engine.kv_cache",
    (
        "ids of a pass that broke off count as held",
        (
            "finally:  # a pass that broke off has left the length where it was\n"
            "                self.contents.ids = self.contents.ids[:, : self.length]"
        ),
        "finally:\n                pass",
        f"{KNOWN}test_a_pass_that_breaks_off_frees_the_cache",
    ),
    (
        "another text goes unnoticed",
        "if not known.equal(ids[:, : known.shape[1]].cpu()):",
        "if False:",
        f"{KNOWN}test_a_cache_of_another_text_is_refused",
        f"{KNOWN}test_two_loops_over_one_cache_do_not_mix",
    ),
    (
        "padding is taken for text",
        "ids = ids.masked_fill(~mask[:, start:].to(ids.device).bool(), -1)",
        "pass",
        f"{KNOWN}test_a_cache_of_another_text_is_refused",
    ),
    (
        "another model goes unnoticed",
        "if owner is not None and owner is not model and type(owner) is type(model):",
        "if False:",
        f"{KNOWN}test_a_cache_of_another_model_of_the_same_shape_is_refused",
    ),
    (
        "a prepared copy is another model",
        "owner is not model and type(owner) is type(model):",
        "owner is not model:",
        f"{KNOWN}test_a_prepared_copy_may_go_on_where_the_model_stopped",
    ),
    (
        "another batch goes unnoticed",
        "if len(ids) != len(self.ids):",
        "if False:",
        f"{KNOWN}test_another_batch_is_refused",
    ),
    (
        "two threads in one cache",
        "self._free.pop()",
        "pass",
        f"{KNOWN}test_a_second_thread_in_the_middle_of_a_pass_is_refused",
    ),
    (
        "a cache that is never free again",
        "self._free.append(True)",
        "pass",
        f"{KNOWN}test_a_pass_that_breaks_off_frees_the_cache",
    ),
)

FUSED = mutants_of(
    "engine.fused",
    (
        "keys stored before RoPE",
        "self.rotary(self.q_norm(q), self.k_norm(k), position_ids)\n",
        "self.rotary(q, q, position_ids)[0], k\n",
        f"{TRAPS}test_positions_go_on_where_the_cache_ends",
        SPLITS,
    ),
    (
        "k and v change places",
        "fused(attention.q_proj, attention.k_proj, attention.v_proj)",
        "fused(attention.q_proj, attention.v_proj, attention.k_proj)",
        SPLITS,
    ),
    (
        "gate and up change places",
        "fused(mlp.gate_proj, mlp.up_proj)",
        "fused(mlp.up_proj, mlp.gate_proj)",
        SPLITS,
    ),
    (
        "padding forgotten",
        "self.attend(q, k, v, mask)",
        "self.attend(q, k, v, None)",
        SPLITS,
    ),
    (
        "the last layer looks with the mask of the first query",
        "mask[:, :, -1:]",
        "mask[:, :, :1]",
        "test_inference.py::test_the_last_layer_works_on_the_last_position_where_no_other_is_wanted",
    ),
    (
        "the last layer works on every position",
        "last = last_only and layer is self.layers[-1]",
        "last = False",
        "test_inference.py::test_the_last_layer_works_on_the_last_position_where_no_other_is_wanted",
    ),
    (
        "in place on the stream",
        "stream = stream + self.o_proj(out)",
        "stream += self.o_proj(out)",
        "test_inference.py::test_hidden_states_that_are_given_to_the_layers_stay_as_they_are",
    ),
)

POSITIONS = mutants_of(
    "models.transformer",
    (
        "position offset off by one",
        "torch.arange(past, past + input_ids.shape[1])",
        "torch.arange(past, past + input_ids.shape[1]) - bool(past)",
        SPLITS,
        f"{TRAPS}test_positions_go_on_where_the_cache_ends",
    ),
)

TURNS = mutants_of(
    "engine.conversation",
    (
        "not reset between prompts",
        "shared_prefix(held, ids)",
        "len(held)",
        f"{TRAPS}test_a_conversation_forgets_what_the_next_prompt_does_not_begin_with",
        "test_inference.py::test_any_sequence_of_turns_equals_starting_afresh",
    ),
    (
        "a repeated prompt has nothing left to feed",
        "max(len(ids) - 1, 0)",
        "len(ids)",
        "test_inference.py::test_any_sequence_of_turns_equals_starting_afresh",
    ),
    (
        "ids that were never fed count as held",
        "self._held[: self.cache.length]",
        "self._held",
        "test_inference.py::test_the_next_turn_feeds_only_what_is_new",
    ),
    (
        "an older stream goes on",
        "if self._held is not ids:",
        "if False:",
        f"{KNOWN}test_two_streams_of_one_conversation_do_not_mix",
    ),
)

LOOP = mutants_of(
    "engine.generation",
    (
        "a chunk's mask without the cached tokens",
        "seen = mask[..., : past + end]",
        "seen = mask[..., :end]",
        SPLITS,
    ),
    (
        "logits of every position in prefill",
        "seen, kv_cache=kv_cache, last_only=True",
        "seen, kv_cache=kv_cache",
        "test_inference.py::test_only_the_last_position_passes_through_the_head",
    ),
    (
        "one forward too many",
        "        yield token\n",
        "        yield token\n        next_token_logits(model, ids, mask, kv_cache)\n",
        f"{TRAPS}test_no_forward_after_the_last_token",
        "test_inference.py::test_n_tokens_cost_one_prefill_and_n_minus_1_steps",
    ),
    (
        "use_cache is not asked",
        "if kv_cache is None and config.use_cache:",
        "if kv_cache is None:",
        "test_generation.py::test_a_cache_is_fed_only_what_it_has_not_seen",
    ),
)

CACHE = (*STORAGE, *CONTENTS, *FUSED, *POSITIONS, *TURNS, *LOOP)

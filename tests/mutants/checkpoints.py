"""Mutants of llm_course/checkpoints: row orders, tied heads, θ, EOS ids, text."""

from __future__ import annotations

from tests.mutants import mutants_of

LAYOUT = mutants_of(
    "checkpoints.layout",
    (
        "rows stay half-split",
        "return halves.transpose(1, 2).reshape(weight.shape)",
        "return weight",
        "test_checkpoints.py::test_permutation_on_a_case_small_enough_to_read",
        "test_checkpoints.py::test_folder_gives_the_logits_of_transformers",
    ),
    (
        "the reverse permutation",
        "halves = weight.view(num_heads, 2, -1, *weight.shape[1:])",
        "halves = weight.view(num_heads, -1, 2, *weight.shape[1:])",
        "test_checkpoints.py::test_folder_gives_the_logits_of_transformers",
    ),
    (
        "biases are not permuted",
        "return halves.transpose(1, 2).reshape(weight.shape)",
        (
            "return halves.transpose(1, 2).reshape(weight.shape) if weight.ndim > 1"
            " else weight"
        ),
        "test_checkpoints.py::test_permutation_on_a_case_small_enough_to_read",
    ),
    (
        "k permuted by the number of query heads",
        '"k_proj": config.num_kv_heads',
        '"k_proj": config.num_heads',
        "test_checkpoints.py::test_tensors_keep_their_names_and_only_q_and_k_are_permuted",
        "test_checkpoints.py::test_folder_gives_the_logits_of_transformers",
    ),
    (
        "v permuted",
        '"q_norm": 1,',
        '"q_norm": 1, "v_proj": config.num_kv_heads,',
        "test_checkpoints.py::test_tensors_keep_their_names_and_only_q_and_k_are_permuted",
        "test_checkpoints.py::test_folder_gives_the_logits_of_transformers",
    ),
    (
        "o permuted",
        '"q_norm": 1,',
        '"q_norm": 1, "o_proj": config.num_heads,',
        "test_checkpoints.py::test_tensors_keep_their_names_and_only_q_and_k_are_permuted",
        "test_checkpoints.py::test_folder_gives_the_logits_of_transformers",
    ),
    (
        "biases stay half-split",
        '.removesuffix(".bias")',
        "",
        "test_families.py::test_a_qwen_file_keeps_its_order_of_rows",
        "test_families.py::test_each_family_equals_transformers",
    ),
    (
        "the norms of q and k stay half-split",
        '"q_norm": 1,',
        "",
        "test_families.py::test_each_family_equals_transformers",
    ),
    (
        "saved rows stay adjacent",
        "return pairs.transpose(1, 2).reshape(weight.shape)",
        "return weight",
        "test_save_pretrained.py::test_transformers_gives_the_same_logits",
    ),
)

FOLDERS = mutants_of(
    "checkpoints.huggingface",
    (
        "an absent head is not tied",
        "tied=LM_HEAD not in stored",
        "tied=False",
        "test_checkpoints_folder.py::test_absent_head_is_tied_unless_the_config_forbids_it",
    ),
    (
        "a duplicate head is unexpected",
        "duplicate = stored.pop(LM_HEAD)",
        "duplicate = stored[LM_HEAD]",
        "test_checkpoints_folder.py::test_tied_head_absent_or_duplicated",
    ),
    (
        "another head is taken for a duplicate",
        "if EMBEDDING in stored and not _equal(duplicate, stored[EMBEDDING]):",
        "if False:",
        "test_checkpoints_folder.py::test_tied_head_absent_or_duplicated",
    ),
    (
        "wrong tensors are not looked for",
        "problems += tensor_problems(",
        "_ = (",
        "test_checkpoints_folder.py::test_every_wrong_tensor_is_listed",
    ),
    (
        "scaling is dropped",
        "rope_scaling=scaling,",
        "rope_scaling=None,",
        "test_checkpoints_folder.py::test_rope_scaling_is_applied",
    ),
)

THETA = mutants_of(
    "checkpoints.rope_scaling",
    (
        "a missing θ is 10000",
        'problems.append("lacks rope_theta (or rope_parameters.rope_theta)")',
        "thetas = [10000.0]",
        "test_checkpoints_folder.py::test_configs_that_cannot_be_right",
    ),
    (
        "θ inside rope_parameters is not seen",
        '*(g.get("rope_theta") for _, g in found)',
        "",
        "test_checkpoints_folder.py::test_both_spellings_of_theta",
    ),
    (
        "an unknown kind of scaling passes",
        "if not isinstance(kind, str) or kind not in ROPE_SCALING:",
        (
            "if kind not in ROPE_SCALING:\n            continue\n        if not"
            " isinstance(kind, str):"
        ),
        "test_checkpoints_folder.py::test_configs_that_cannot_be_right",
    ),
)

GGUF_CONFIG = mutants_of(
    "checkpoints.gguf_config",
    (
        "θ is always 10000",
        "        **values,\n",
        "        **values | {'rope_theta': 10000.0},\n",
        "test_checkpoints_gguf.py::test_gguf_config_comes_from_the_metadata",
    ),
    (
        "the head is always tied",
        "tie_word_embeddings=LM_HEAD not in shapes",
        "tie_word_embeddings=True",
        "test_checkpoints_gguf.py::test_gguf_with_its_own_head",
    ),
    (
        "the factors of RoPE are ignored",
        "return scaling_of_factors(factors, theta, context), []",
        "return None, []",
        "test_rope_factors.py::test_a_gguf_file_says_the_context_of_the_scaling",
    ),
    (
        "unknown keys are ignored",
        "if key not in _READ | _IGNORED and has_effect(key, value)",
        "if False",
        "test_checkpoints_gguf.py::test_gguf_keys_that_ask_for_more_are_refused_by_name",
    ),
)

GGUF = mutants_of(
    "checkpoints.gguf_file",
    (
        "q and k swapped",
        '"attn_q": "self_attn.q_proj"',
        '"attn_q": "self_attn.k_proj"',
        "test_checkpoints_gguf.py::test_gguf_config_comes_from_the_metadata",
    ),
    (
        "a Qwen file's rows stay half-split",
        "return None if self.adjacent else",
        "return None if True else",
        "test_families.py::test_a_qwen_file_keeps_its_order_of_rows",
    ),
)

GGUF_KINDS = mutants_of(
    "checkpoints.gguf_kinds",
    (
        "the halves of a byte swapped",
        "torch.cat([packed & 15, packed >> 4], dim=1)",
        "torch.cat([packed >> 4, packed & 15], dim=1)",
        "test_checkpoints_gguf.py::test_dequantization_is_bit_exact",
    ),
    (
        "4-bit weights not centred",
        ".to(torch.int8) - 8)",
        ".to(torch.int8) - 7)",
        "test_checkpoints_gguf.py::test_dequantization_is_bit_exact",
    ),
)

FACTORS = mutants_of(
    "checkpoints.rope_factors",
    (
        "the line starts at the last frequency that keeps its speed",
        "points = [*ones[-1:], *inside, *zeros[:1]]",
        "points = [*ones[-1:], *zeros[:1]]",
        "test_rope_factors.py::test_factors_of_any_llama3_scaling_slow_alike",
    ),
    (
        "factors that do not fit pass",
        "if np.abs(again - keep).max() < NOISE / span:",
        "if True:",
        "test_rope_factors.py::test_other_factors_are_refused",
    ),
)

FAMILIES = mutants_of(
    "checkpoints.families",
    (
        "a window of one key less passes",
        "window >= config.max_position_embeddings",
        "window >= config.max_position_embeddings - 1",
        "test_families.py::test_a_window_shorter_than_the_context_is_refused_by_name",
    ),
    (
        "a Mistral model without the key has no window",
        'adjacent=True, defaults={"sliding_window": 4096}',
        "adjacent=True",
        "test_families.py::test_a_window_shorter_than_the_context_is_refused_by_name",
    ),
)

LOADING = mutants_of(
    "checkpoints.loading",
    (
        "a loaded tied head is a second parameter",
        "model.lm_head.weight = model.embed_tokens.weight",
        "pass",
        "test_checkpoints_folder.py::test_tied_head_absent_or_duplicated",
    ),
)

TOKENIZER = mutants_of(
    "text.tokenizer",
    (
        "a chat gets a second BOS",
        "return self.encode(text)",
        "return [self.bos_token_id, *self.encode(text)]",
        "test_tokenizer.py::test_chat_ids_hold_no_second_bos",
        "traps/test_generation_tokenizers.py::test_a_tokenizer_that_would_add_bos_is_told_not_to",
    ),
)

PLAIN_NAMES = mutants_of(
    "text.plain_names",
    (
        "the tokenizer's own BOS is added",
        "backend.encode(text, add_special_tokens=False)",
        "backend.encode(text, add_special_tokens=True)",
        "traps/test_generation_tokenizers.py::test_a_tokenizer_that_would_add_bos_is_told_not_to",
    ),
    (
        "what a user types can be a special token",
        "if not found and not begun:",
        "if True:",
        "test_checkpoints_chat.py::test_special_tokens_of_a_user_are_plain_text",
    ),
)

STREAMING = mutants_of(
    "text.streaming",
    (
        "half a character is shown",
        "decode(self._bytes_of(token_id))",
        "decode(self._bytes_of(token_id), True)",
        "test_tokenizer.py::test_streaming_never_shows_half_a_character",
        "test_tokenizer.py::test_streamed_text_equals_the_whole",
        "test_tokenizer.py::test_streaming_any_ids_equals_the_whole",
    ),
)

TOKENIZER_FILES = mutants_of(
    "text.tokenizer_files",
    (
        "only one EOS id is read",
        "for i in (found if isinstance(found, list) else [found])",
        "for i in (found[:1] if isinstance(found, list) else [found])",
        "test_tokenizer.py::test_a_folder_tokenizer",
    ),
    (
        "the endings of a chat are not EOS",
        '[ids["eos"], ids["eot"], *_endings(backend)]',
        '[ids["eos"], ids["eot"]]',
        "test_tokenizer.py::test_ids_that_frame_a_text",
    ),
)

COPY = mutants_of(
    "checkpoints.convert",
    (
        "the copy is compared by its sizes alone",
        "all(_crc32(folder / name) == sums[name] for name in sums)",
        "True",
        "test_conversion.py::test_a_changed_bit_in_the_copy_is_noticed",
    ),
    (
        "a receipt of nothing vouches for all",
        '{WEIGHTS, "config.json"} <= sizes.keys() == sums.keys()',
        "sizes.keys() == sums.keys()",
        "test_conversion.py::test_a_receipt_that_vouches_for_nothing_is_not_believed",
    ),
    (
        "leftovers stay once the copy is whole",
        "        remove_leftovers()\n        return folder",
        "        return folder",
        "test_conversion.py::test_leftovers_go_away_also_when_nothing_is_left_to_do",
    ),
)

FILES = mutants_of(
    "checkpoints.cache",
    (
        "a folder in use is the system's own error",
        "    except OSError as error:\n        raise CheckpointError(\n"
        '            f"{target} cannot be replaced',
        "    except ZeroDivisionError as error:\n        raise CheckpointError(\n"
        '            f"{target} cannot be replaced',
        "test_save_pretrained.py::test_a_folder_whose_weights_are_in_use_is_named_with_the_way_out",
    ),
    (
        "a full disk is the library's own error",
        "except (OSError, SafetensorError) as error:",
        "except ZeroDivisionError as error:",
        "test_conversion.py::test_a_disk_that_fills_up_during_conversion_is_one_error",
    ),
)

CHECKPOINTS = (
    *LAYOUT,
    *FOLDERS,
    *THETA,
    *GGUF_CONFIG,
    *GGUF,
    *GGUF_KINDS,
    *FACTORS,
    *FAMILIES,
    *LOADING,
    *TOKENIZER,
    *PLAIN_NAMES,
    *STREAMING,
    *TOKENIZER_FILES,
    *COPY,
    *FILES,
)

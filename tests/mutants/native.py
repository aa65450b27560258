"""Mutants of llm_course/engine: packed weights, the compiled kernels, the model of
them.

Each mutant of a kernel compiles what its tests call, so most of them name tests that
call a few kernels; only those of STEP compile the whole forward pass.
"""

from __future__ import annotations

from tests.mutants import mutants_of

QUANTIZE, KERNELS = "test_quantize.py::", "test_kernels.py::"
PRODUCTS = f"{KERNELS}test_products_are_those_of_the_dequantized_matrix"
WHOLE = f"{KERNELS}test_whole_numbers_are_multiplied_exactly"
ROUNDED = f"{KERNELS}test_rounded_inputs_are_within_half_a_step"
FINITE = f"{KERNELS}test_what_is_not_finite_stays_so_when_inputs_are_rounded"
EACH = f"{KERNELS}test_each_weight_is_multiplied_by_its_input"
SINGLES = f"{KERNELS}test_attention_of_single_queries"
BLOCKS = f"{KERNELS}test_attention_of_a_block_of_queries"
OWN_SLOT = f"{KERNELS}test_a_query_sees_the_key_of_its_own_slot_and_none_after_it"
ROWS = f"{QUANTIZE}test_rows_are_rows_of_the_dequantized_matrix"
LOSSLESS = f"{QUANTIZE}test_packing_q4_1_loses_nothing"
LOGITS = "test_native.py::test_logits_are_those_of_a_model_with_the_same_weights"
SPLITS = "traps/test_cache.py::test_every_split_gives_the_uncached_logits"

PACKING = mutants_of(
    "engine.quantize",
    (
        "the first of eight numbers in the highest bits",
        "<< np.uint32(4 * u)",
        "<< np.uint32(28 - 4 * u)",
        f"{QUANTIZE}test_a_word_of_q4_1_holds_eight_inputs_the_first_in_its_lowest_bits",
        LOSSLESS,
    ),
    (
        "step and minimum change places",
        "for x in (d, m)]",
        "for x in (m, d)]",
        f"{QUANTIZE}test_q4_1_means_what_the_gguf_library_means",
        LOSSLESS,
    ),
    (
        "a row's minimum is its step",
        "m = self.scales[tile, :, LANES + lane]",
        "m = self.scales[tile, :, lane]",
        ROWS,
        LOSSLESS,
    ),
    (
        "a tile is filled up with ones",
        "full = np.zeros((tiles * LANES,",
        "full = np.ones((tiles * LANES,",
        f"{QUANTIZE}test_what_fills_up_a_tile_is_zero",
    ),
    (
        "a tile too many",
        "tiles = -(-len(rows) // LANES)",
        "tiles = len(rows) // LANES + 1",
        f"{QUANTIZE}test_bits_of_a_weight",
    ),
    (
        "bfloat16 cut off",
        "((bits + half) >> 16)",
        "(bits >> 16)",
        f"{QUANTIZE}test_bfloat16_is_rounded_as_torch_does",
        ROWS,
    ),
    (
        "numbers cut off",
        "np.rint(groups / step)",
        "np.trunc(groups / step)",
        f"{QUANTIZE}test_q8_0_is_off_by_half_a_step_at_most",
        f"{QUANTIZE}test_rounding_loses_no_more_than_that_of_the_gguf_library",
    ),
)

ONE_ROW = mutants_of(
    "engine.kernels",
    (
        "the scale of another group",
        "scale = d[g * LANES : (g + 1) * LANES]",
        "scale = d[:LANES]",
        PRODUCTS,
    ),
    (
        "every tile is the first",
        "start = matrix[1] + 4 * numbers * tile",
        "start = matrix[1]",
        WHOLE,
        EACH,
    ),
    (
        "a tile of words begins where another does",
        "matrix[1] + numbers // 2 * tile",
        "matrix[1] + numbers // 2 * (tile // 2)",
        WHOLE,
        EACH,
    ),
    (
        "inputs divided by powers of another base",
        "f32(16.0**-u)",
        "f32(8.0**-u)",
        WHOLE,
        EACH,
    ),
    (
        "the highest number has a sign",
        "i32(i32(word >> i32(28)) & i32(15))",
        "i32(word >> i32(28))",
        WHOLE,
        EACH,
    ),
    (
        "no minimum",
        " + total * half(m[j])",
        "",
        WHOLE,
        PRODUCTS,
    ),
    (
        "exp of a remainder that is too large",
        "f32(1.4426950408889634) + f32(0.5)",
        "f32(1.4426950408889634)",
        f"{KERNELS}test_exp_is_exp",
    ),
)

SEVERAL_ROWS = mutants_of(
    "engine.rows",
    (
        "every tile is the first",
        "matrix[1] + below * (tile * n + i)",
        "matrix[1] + below * i",
        WHOLE,
        EACH,
    ),
    (
        "integers of the first tile",
        "first, size = tile * groups,",
        "first, size = 0,",
        WHOLE,
        EACH,
    ),
    (
        "the scales of a tile's first group",
        "scales = matrix[2] + size * (first + g)",
        "scales = matrix[2] + size * first",
        PRODUCTS,
    ),
    (
        "the steps of a row's first group",
        "steps_down * row + 4 * g",
        "steps_down * row",
        PRODUCTS,
    ),
    (
        "no minimum for several rows",
        "add_floats(kind, minima, size, sums, *room.sums.strides, groups, rows, acc)",
        "pass",
        WHOLE,
        PRODUCTS,
    ),
    (
        "every block of rows is the first",
        "x[row:]",
        "x",
        WHOLE,
    ),
    (
        "inputs of the first block are rounded once for all",
        "room.block[0] != row",
        "room.block[0] < 0",
        WHOLE,
    ),
    (
        "the highest number of a pair has a sign",
        "i32(two & i32(240)) << i32(12)",
        "i32(two >> i32(4)) << i32(16)",
        WHOLE,
        EACH,
    ),
    (
        "a rounded input past the largest number",
        "min(number, i32(32767))",
        "number",
        ROUNDED,
    ),
    (
        "infinity becomes a number",
        "i32(0x7FC00000)",
        "step",
        FINITE,
    ),
)

STRIPS = mutants_of(
    "engine.strips",
    (
        "rows share their inputs",
        "here = onward(builder, here, down)\n                for total",
        "pass\n                for total",
        WHOLE,
    ),
    (
        "a pair's second product is its first",
        "range(1, 2 * WIDTH, 2)",
        "range(0, 2 * WIDTH, 2)",
        WHOLE,
        EACH,
    ),
    (
        "rows share their steps",
        "steps = onward(builder, steps, steps_down)",
        "pass",
        PRODUCTS,
    ),
)

ATTENTION = mutants_of(
    "engine.native_attention",
    (
        "every page is a row's first",
        "pages[row, slot // size]",
        "pages[row, 0]",
        SINGLES,
        BLOCKS,
    ),
    (
        "keys past the end of a page",
        "count = min(size - slot % size, end - slot)\n        at = place(pages",
        "count = end - slot\n        at = place(pages",
        SINGLES,
    ),
    (
        "a query sees the next key",
        "weigh(scores, n, start - own, cache[3]",
        "weigh(scores, n, start - own - 1, cache[3]",
        BLOCKS,
        OWN_SLOT,
    ),
    (
        "a query does not see its own key",
        "if m >= unseen else f32(0)",
        "if m > unseen else f32(0)",
        BLOCKS,
        OWN_SLOT,
    ),
    (
        "chunks joined without fading",
        "out[d] += parts[c, d] * fade",
        "out[d] += parts[c, d]",
        SINGLES,
    ),
    (
        "a block's earlier values do not fade",
        "line[m] *= fade[m]",
        "line[m] *= f32(1)",
        BLOCKS,
    ),
    (
        "the weights of a chunk are not summed",
        "total += parts[c, D + 1] * fade",
        "total += fade",
        SINGLES,
    ),
)

STEP = mutants_of(
    "engine.step",
    (
        "the first rows kept instead of the last",
        "p.x[r] = p.x[p.keep[r, 0]]",
        "p.x[r] = p.x[r]",
        LOGITS,
    ),
    (
        "keys stored before RoPE",
        "            rotate(head, cos, sin)\n",
        "            if i < group:\n                rotate(head, cos, sin)\n",
        "traps/test_cache.py::test_positions_go_on_where_the_cache_ends",
        SPLITS,
    ),
    (
        "a bias of v is left out",
        "        for d in range(len(bias)):\n",
        "        for d in range(len(bias) * (i <= group)):\n",
        LOGITS,
    ),
    (
        "keys normed as queries are",
        "layer.head_norms[i // group]",
        "layer.head_norms[0]",
        LOGITS,
    ),
    (
        "a token alone does not store its key",
        "            if fused:\n                rotate_and_store(p, token, g, layer)\n",
        "",
        SPLITS,
    ),
    (
        "single queries see padding",
        "start = min(first + chunk * CHUNK, last + 1)",
        "start = min(chunk * CHUNK, last + 1)",
        SPLITS,
    ),
)

MODEL = mutants_of(
    "engine.native",
    (
        "an untied head is not asked for",
        'self.matrices.get("lm_head", self.table)',
        "self.table",
        LOGITS,
    ),
    (
        "a head in 4 bits",
        'kind = layer_kind if name.startswith("layers.") else head_kind',
        "kind = layer_kind",
        "test_native_requests.py::"
        "test_the_embedding_and_the_head_keep_8_bits_where_layers_have_4",
    ),
    (
        "a copy has the addresses of its original",
        "def __reduce__(self)",
        "def _reduce(self)",
        "test_native_requests.py::test_a_copy_has_weights_of_its_own",
    ),
    (
        "tokens are not counted",
        "kv_cache.advance(S)",
        "pass",
        SPLITS,
    ),
    (
        "positions that were given are not looked at",
        "tokens[..., 2] = position_ids.numpy()",
        "tokens[..., 2] = tokens[..., 1]",
        "test_native.py::test_positions_can_be_given",
    ),
    (
        "any cache is read",
        "if not isinstance(cache, KVCache) or",
        "if False and",
        "test_native_requests.py::test_caches_that_the_kernels_cannot_read_are_refused",
    ),
    (
        "memory that a cache gave back is held",
        "tuple(map(ref, cache.layers))",
        "tuple((lambda x=x: x) for x in cache.layers)",
        "test_native_requests.py::test_memory_that_a_cache_gave_back_is_not_held",
    ),
    (
        "layers that were replaced go unnoticed",
        "known() is layer for known",
        "True for known",
        "test_native_requests.py::test_a_layer_that_was_replaced_is_found",
    ),
    (
        "any number of threads",
        "at_least(1, threads=threads)",
        "pass",
        "test_native_requests.py::test_bad_arguments_are_refused",
    ),
)

NATIVE = (*PACKING, *ONE_ROW, *SEVERAL_ROWS, *STRIPS, *ATTENTION, *STEP, *MODEL)

"""Mutants of llm_course/engine: pages, the scheduler, the engine of many requests."""

from __future__ import annotations

from tests.mutants import mutants_of

PAGES, PLANS, BATCH = "test_paged_cache.py::", "test_scheduler.py::", "test_batch.py::"
OWNED = f"{PAGES}test_each_page_is_owned_as_often_as_it_stands_in_a_table"
COPIES = f"{PAGES}test_who_writes_into_a_shared_page_takes_a_copy"
TAKEN = f"{PAGES}test_a_page_that_is_taken_is_not_found"
SCATTERED = f"{PAGES}test_pages_give_what_a_cache_in_one_piece_gives"
ORDER = (
    f"{PAGES}test_unknown_pages_are_taken_first_then_those_that_were_used_longest_ago"
)
IN_THE_END = f"{PLANS}test_every_row_gets_its_tokens_in_the_end"
YOUNGEST = f"{PLANS}test_the_youngest_row_gives_up_its_pages"
ALONE = f"{BATCH}test_greedy_tokens_are_those_of_generate_alone"
SETTINGS = f"{BATCH}test_settings_and_seeds_are_those_of_the_row"
SIBLINGS = f"{BATCH}test_several_continuations_share_the_pages_of_the_prompt"
STOPS = f"{BATCH}test_text_ends_before_the_first_stop_string"

PAGED_CACHE = mutants_of(
    "engine.paged_cache",
    (
        "a name without its parent",
        "sha256(parent + ",
        "sha256(",
        f"{PAGES}test_the_name_of_a_block_tells_what_stands_before_it",
    ),
    (
        "a page that is taken is still found",
        "del self.page_of[self.hash_of.pop(page)]",
        "self.hash_of.pop(page)",
        TAKEN,
        ORDER,
    ),
    (
        "a page is free while somebody owns it",
        "if self.owners[page] == 0:",
        "if self.owners[page] <= 1:",
        OWNED,
        COPIES,
    ),
    (
        "a free page that is found stays free",
        "self.free.pop(page, None)",
        "self.free.get(page)",
        OWNED,
    ),
    (
        "pages with known content are taken first",
        "last=page in self.hash_of",
        "last=page not in self.hash_of",
        ORDER,
    ),
    (
        "the beginning of a text is given up first",
        "self.pages.pop()",
        "self.pages.pop(0)",
        ORDER,
    ),
    (
        "a shared page is written in",
        "self.pool.owners[self.pages[at]] > 1",
        "self.pool.owners[self.pages[at]] > 2",
        COPIES,
        SIBLINGS,
    ),
    (
        "an empty copy",
        "self.pool.copy(old, self.pages[at])",
        "self.pool.copy(old, old)",
        COPIES,
    ),
    (
        "the last token is found too",
        "range(0, len(ids) - size, size)",
        "range(0, len(ids) - size + 1, size)",
        f"{PAGES}test_the_last_token_is_never_found",
    ),
    (
        "each token at the next slot of its page",
        "at = self.layers[layer_idx], slots % self.page_size",
        "at = self.layers[layer_idx], (slots + 1) % self.page_size",
        SCATTERED,
    ),
    (
        "a branch shares pages without owning them",
        "            self.pool.share(page)\n        return other",
        "            pass\n        return other",
        OWNED,
        COPIES,
    ),
)

SCHEDULER = mutants_of(
    "engine.scheduler",
    (
        "the oldest row gives up its pages",
        "row = self.running.pop()",
        "row = self.running.pop(0)",
        YOUNGEST,
    ),
    (
        "a row that gave up its pages is forgotten",
        "        self.add(row)\n        self.preemptions += 1",
        "        self.preemptions += 1",
        YOUNGEST,
        IN_THE_END,
    ),
    (
        "a budget that prompts do not keep",
        "            left -= n\n        return plan",
        "        return plan",
        IN_THE_END,
    ),
    (
        "a prompt is admitted when its first tokens fit",
        "row.table.shortage(row.missing) > 0:",
        "row.table.shortage(1) > 0:",
        f"{PLANS}test_a_row_waits_until_it_fits_as_a_whole_and_nobody_overtakes_it",
    ),
    (
        "a request counts as one row",
        "rows + self.waiting[0].width >",
        "rows + 1 >",
        f"{PLANS}test_rows_that_a_request_will_become_are_counted",
    ),
)

BATCHES = mutants_of(
    "engine.batch",
    (
        "settings of the first row for all",
        "config, before = handle.request.config, len(choice.text)",
        "config, before = self.scheduler.running[0].handle.request.config,"
        " len(choice.text)",
        SETTINGS,
    ),
    (
        "continuations with one seed",
        "seed = (seed + i) % 2**64",
        "pass",
        SIBLINGS,
    ),
    (
        "positions that begin anew in each chunk",
        "tokens += [(r, slot, slot) for",
        "tokens += [(r, slot, slot - start) for",
        ALONE,
    ),
    (
        "every row looks into the first row's pages",
        "pages[r, : len(row.table.pages)] =",
        "pages[0, : len(row.table.pages)] =",
        SETTINGS,
    ),
    (
        "penalised log-probabilities",
        "choice.logprobs.append(logprob_of(raw, token, logprobs))",
        "choice.logprobs.append(logprob_of(logits[0], token, logprobs))",
        f"{BATCH}test_log_probabilities_are_those_of_the_model_before_the_filters",
    ),
    (
        "each row chooses the best token of the first",
        "scores[i : i + 1], best.indices[i]",
        "scores[i : i + 1], best.indices[0]",
        SETTINGS,
    ),
    (
        "logits that are not finite are chosen from",
        "if not finite and not row.handle.finished:",
        "if False:",
        f"{BATCH}test_logits_that_are_not_finite_end_their_own_request_alone",
    ),
    (
        "ids are chosen that the tokenizer does not know",
        "return scores[:, : self.tokenizer.vocab_size if self.tokenizer else None]",
        "return scores",
        f"{BATCH}test_ids_beyond_the_tokenizers_are_chosen_by_nobody",
    ),
    (
        "an aborted request keeps its pages",
        "            if row.order[0] == handle.id:\n"
        "                self.scheduler.remove(row)",
        "            pass",
        f"{BATCH}test_an_aborted_request_gives_its_pages_back_at_once",
    ),
)

REQUESTS = mutants_of(
    "engine.request",
    (
        "text up to the last stop string",
        "text[: min(places)]",
        "text[: max(places)]",
        STOPS,
    ),
    (
        "nothing is held back",
        "return text[: len(text) - tail]",
        "return text",
        STOPS,
    ),
)

BATCHING = (*PAGED_CACHE, *SCHEDULER, *BATCHES, *REQUESTS)

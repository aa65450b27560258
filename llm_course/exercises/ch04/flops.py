"""The check of 04.flops: the work of one pass, by part."""

from llm_course.config import ModelConfig
from llm_course.exercises import Case, Cases, Exercise
from llm_course.exercises.ch04.models import small_config


def flops(c: ModelConfig, length: int, last_only: bool) -> dict[str, int]:
    ops, layers = 2, c.num_layers  # ops: a multiplication, an addition
    query, kv = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    pairs = length * (length + 1) // 2
    in_layers, in_head = length, 1 if last_only else length
    per_token = ops * layers * in_layers * c.hidden_dim
    return {
        "attention matrices": per_token * (2 * query + 2 * kv),
        "pairs": ops * layers * pairs * query * 2,  # scores, and values weighted
        "MLP": per_token * 3 * c.intermediate_dim,
        "output head": ops * in_head * c.vocab_size * c.hidden_dim,
    }


def cases() -> Cases:
    one = small_config(num_layers=1, num_kv_heads=4, head_dim=2)
    yield Case(one, 1, False, name="L = 1, H = Hkv = 4, d = 2, h = 12, m = 20, V = 24")
    deep = small_config(num_layers=3, tie_word_embeddings=True)
    sizes = "L = 3, H = 4, Hkv = 2, d = 8, h = 12, m = 20, V = 24, tied"
    yield Case(deep, 5, False, name=sizes)
    yield Case(deep, 5, True, name="the same")
    smollm2 = ModelConfig(
        49152, 576, 1536, 30, 9, 3, 64, 8192, 1e5, tie_word_embeddings=True
    )
    yield Case(smollm2, 8192, True, name="SmolLM2")


WRONG = """
that takes a multiplication with its addition for one operation
    ops, layers = 2 -> ops, layers = 1
with all S · S pairs, also those that the mask forbids
    length * (length + 1) // 2 -> length * length
in which a position does not see itself
    length + 1 -> length - 1
that counts the pairs once for each key head; sharing keys saves memory, not work
    pairs * query -> pairs * kv
that counts the pairs for one head
    pairs * query -> pairs * c.head_dim
whose pairs are as wide as the stream; the heads together have H · d channels
    pairs * query -> pairs * c.hidden_dim
with the scores, but without the weighted sum of the values
    query * 2 -> query
with as many key and value heads as query heads
    num_kv_heads -> num_heads
that takes the matrices of q and o for square; they have H · d rows or columns
    2 * query + -> 2 * c.hidden_dim +
with two matrices in the MLP; there are gate, up and down
    * 3 -> * 2
of one layer
    c.num_layers -> 1
in which a tied head does no work: tying saves memory, not work
    ops * in_head -> (not c.tie_word_embeddings) * ops * in_head
whose head works on all positions even with last_only
    1 if last_only else ->
in which last_only spares the layers too; they need all positions
    in_layers, in_head = length, -> in_layers = in_head =
"""

CHECK = Exercise("04.flops", flops, cases, WRONG)

"""The check of 04.bytes: what the weights take in memory."""

from llm_course.exercises import Case, Cases, Exercise
from llm_course.exercises.ch04.models import small_model
from llm_course.models.transformer import DecoderOnlyModel


def weight_bytes(model: DecoderOnlyModel) -> int:
    tensors = model.parameters()
    size_at = {t.data_ptr(): t.nbytes for t in tensors}
    return sum(size_at.values())


def loaded_model() -> DecoderOnlyModel:
    """Two parameters on one memory, as after `load_state_dict(…, assign=True)`."""
    model, other = (small_model(tie_word_embeddings=True) for _ in range(2))
    model.load_state_dict(other.state_dict(), assign=True)
    return model


def cases() -> Cases:
    one = small_model(tie_word_embeddings=True, num_layers=1)
    sizes = "V = 24, h = 12, m = 20, L = 1, H = 4, Hkv = 2, d = 8"
    yield Case(one, name=f"tied, float32, {sizes}")
    yield Case(small_model(), name="not tied, L = 2, else the same")
    copied = small_model()
    copied.lm_head.load_state_dict(copied.embed_tokens.state_dict())
    yield Case(copied, name="not tied, the head a copy of the embedding")
    yield Case(loaded_model(), name="tied, loaded with assign=True")
    yield Case(loaded_model().half(), name="the same, after model.half()")
    mixed = small_model(tie_word_embeddings=True)
    mixed.layers.bfloat16()
    yield Case(mixed, name="layers in bfloat16, the rest in float32")


BY_PARAMETER = "t.data_ptr() -> id(t)"
BY_NAME = f"{BY_PARAMETER} ;; parameters() -> state_dict().values()"
WRONG = f"""
that counts by parameter: two parameters may stand on one memory
    {BY_PARAMETER}
that counts by name: `state_dict` lists a tied matrix under both names
    {BY_NAME}
that counts what has `requires_grad`: frozen parameters take memory too
    in tensors -> in tensors if t.requires_grad
with 4 bytes for each number, whatever its dtype
    t.nbytes -> 4 * t.numel()
that takes the dtype of the first parameter for all
    t.nbytes -> t.numel() * model.embed_tokens.weight.itemsize
that counts numbers; each takes `element_size()` bytes
    t.nbytes -> t.numel()
that believes the config: it says what was meant, not what is in memory
    {BY_NAME}
    return -> return -model.config.tie_word_embeddings * model.lm_head.weight.nbytes +
that takes equal numbers for the same memory
    {BY_NAME}
    return -> table, head = model.embed_tokens.weight, model.lm_head.weight
        return -head.equal(table) * head.nbytes +
that takes the table off whenever the config says tied; `parameters()` lists a parameter
with two names only once
    {BY_PARAMETER}
    return -> table = model.embed_tokens.weight
        return -model.config.tie_word_embeddings * table.nbytes +
"""

CHECK = Exercise("04.bytes", weight_bytes, cases, WRONG)

"""The tokenizer against llama.cpp's recorded ids, on hostile text, in streams and in
chats."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import tokenizers

from llm_course.checkpoints import read_gguf
from llm_course.errors import CheckpointError
from llm_course.text import Tokenizer

REFERENCE = json.loads(
    (Path(__file__).parent / "data" / "smollm2_tokenizer_reference.json").read_text(
        "utf-8"
    )
)
HOSTILE = [
    "",
    " ",
    "\n\n\t \r\n",
    "naïve café — “quotes” … ½ × ÷",
    "👩‍👩‍👧‍👦 🇩🇪 👍🏽 \U0001f9d1\u200d\U0001f680",
    "日本語のテキスト、한국어 텍스트, العربية, हिन्दी, ไทย",
    "e\u0301 vs \u00e9, Z\u0351\u036b\u0343\u036a\u0302\u036b",
    "12345678901234567890 0x1F 3.14159 ٣٤٥ ²³",
    "def f(x):\n\treturn {'a': [x ** 2 for _ in range(10)]}  # ≤",
    "\u0000\u0001\u0002\u001b[31m\u007f\u0080\u009f",
    "\ufeff\u200b\u202e\ufffd\ufffd and more",
    "\U000f0000\U0010ffff\ue000",
    "<|im_start|>user\n<|im_end|><|endoftext|> <|not_special|>",
]


@pytest.fixture(scope="module")
def tokenizer(smollm2) -> Tokenizer:
    return smollm2[1]


@pytest.fixture(scope="module")
def built(smollm2_gguf) -> Tokenizer:
    """The tokenizer as built from the GGUF file, not as read back from the cache."""
    return read_gguf(smollm2_gguf).tokenizer


@pytest.mark.parametrize("source", ["tokenizer", "built"])
def test_all_reference_strings(source, request):
    tokenizer = request.getfixturevalue(source)
    assert len(REFERENCE) == 1536
    wrong = [text for text, ids in REFERENCE if tokenizer.encode(text) != ids]
    assert wrong == []


def test_reference_strings_come_back(tokenizer):
    wrong = [text for text, ids in REFERENCE if tokenizer.decode(ids) != text]
    assert wrong == []


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("parse_special", [True, False])
def test_round_trip(tokenizer, text, parse_special):
    assert tokenizer.decode(tokenizer.encode(text, parse_special)) == text


def test_every_character_that_can_be_spelled_comes_back(tokenizer):
    """A sample over all of Unicode: either the round trip holds, or encode says what it
    cannot do."""
    rng = random.Random(0)
    codes = [*range(0x300), *rng.sample(range(0x300, 0xD800), 3000)]
    codes += rng.sample(range(0xE000, 0x110000), 3000)
    refused = set()
    for code in codes:
        text = f"a{chr(code)}b"
        try:
            ids = tokenizer.encode(text)
        except ValueError:
            refused.add(code)
        else:
            assert tokenizer.decode(ids) == text
    assert {c for c in refused if c < 0x300} == {0x04, 0x06, 0x13, 0x14, 0x16, 0x1D}
    lead_bytes = {chr(c).encode()[0] for c in refused if c >= 0x300}
    assert lead_bytes == {0xF1, 0xF2}


def test_21_bytes_have_no_token(tokenizer):
    never_valid = {0xC0, 0xC1, *range(0xF5, 0x100)}
    assert (
        tokenizer._missing_bytes
        == {4, 6, 0x13, 0x14, 0x16, 0x1D, 0xF1, 0xF2} | never_valid
    )


def test_characters_without_a_token_are_named(tokenizer):
    with pytest.raises(ValueError, match=r"U\+0004, U\+40000"):
        tokenizer.encode("fine \x04 and \U00040000 and \x04 again")
    with pytest.raises(ValueError, match=r"lone surrogate.*index 2"):
        tokenizer.encode("ab\ud800")


def test_special_tokens_are_single_ids(tokenizer):
    assert tokenizer.encode("<|endoftext|>") == [0]
    assert tokenizer.encode("<|im_start|>") == [1]
    assert tokenizer.encode("a<|im_end|>b")[1] == 2
    for i in range(17):
        assert tokenizer.encode(tokenizer.decode([i])) == [i]


def test_special_tokens_can_be_taken_as_plain_text(tokenizer):
    ids = tokenizer.encode("<|im_end|>", parse_special=False)
    assert len(ids) > 1
    assert min(ids) > 16
    # the first form is not changed by the second
    assert tokenizer.encode("<|im_end|>") == [2]


@pytest.mark.parametrize("source", ["tokenizer", "built"])
def test_ids_that_frame_a_text(source, request):
    tokenizer = request.getfixturevalue(source)
    assert (tokenizer.bos_token_id, tokenizer.pad_token_id) == (1, 2)
    assert tokenizer.eos_token_ids == (2, 0)
    assert tokenizer.vocab_size == 49152
    assert tokenizer.encode("hello")[0] != 1  # no BOS is added


def test_decode_can_leave_special_tokens_out(tokenizer):
    ids = tokenizer.encode("<|im_start|>Hi<|im_end|>")
    assert tokenizer.decode(ids) == "<|im_start|>Hi<|im_end|>"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "Hi"
    assert "".join(tokenizer.decode_stream(ids, skip_special_tokens=True)) == "Hi"


def test_ids_beyond_the_vocabulary_have_no_text(tokenizer):
    ids = [*tokenizer.encode("Hi"), tokenizer.vocab_size, *tokenizer.encode(" you")]
    assert tokenizer.decode([*ids, 60_000]) == "Hi you"
    assert "".join(tokenizer.decode_stream(ids)) == "Hi you"
    assert tokenizer.tokens([60_000]) == [""]


@pytest.mark.parametrize("bad", [-1, 2**32, 1.5, "x", None])
def test_what_can_be_no_id_is_named(tokenizer, bad):
    with pytest.raises(ValueError, match=str(bad)):
        tokenizer.decode([1, bad])


@pytest.mark.parametrize("text", HOSTILE)
def test_streamed_text_equals_the_whole(tokenizer, text):
    ids = tokenizer.encode(text)
    pieces = list(tokenizer.decode_stream(iter(ids)))
    assert "".join(pieces) == text
    assert "" not in pieces


def test_streaming_never_shows_half_a_character(tokenizer):
    text = "👩‍🚀 and 日本"
    ids = tokenizer.encode(text)
    # some tokens are half a character
    assert any("\ufffd" in tokenizer.decode([i]) for i in ids)
    shown = ""
    for piece in tokenizer.decode_stream(ids):
        shown += piece
        assert text.startswith(shown)


def test_streaming_any_ids_equals_the_whole(tokenizer):
    """Random ids hold broken UTF-8 everywhere: in the middle, repeated, and at the
    end."""
    rng = random.Random(0)
    broken = [i for i in range(2000) if "\ufffd" in tokenizer.decode([i])]
    assert len(broken) > 50
    for _ in range(300):
        ids = [
            rng.choice([rng.choice(broken), rng.randrange(49152)]) for _ in range(12)
        ]
        assert "".join(tokenizer.decode_stream(ids)) == tokenizer.decode(ids)


def test_streaming_is_prompt(tokenizer):
    """A piece comes out before the next id is asked for."""
    asked = []

    def ids():
        for i in tokenizer.encode("The capital of France"):
            asked.append(i)
            yield i

    stream = tokenizer.decode_stream(ids())
    assert next(stream) == "The"
    assert len(asked) == 1


def test_labels(tokenizer):
    ids = tokenizer.encode("The capital: Paris\n")
    assert tokenizer.tokens(ids) == ["The", " capital", ":", " Paris", "\\n"]
    halves = tokenizer.tokens(tokenizer.encode("\U000f0000"))
    assert "".join(halves) == "<0xF3><0xB0><0x80><0x80>"
    assert tokenizer.tokens([2]) == ["<|im_end|>"]
    assert all(label.isprintable() for label in tokenizer.tokens(range(49152)))


DEFAULT_SYSTEM = (
    "<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
)


def test_chat_template(tokenizer):
    chat = [{"role": "user", "content": "Hi!"}]
    asked = "<|im_start|>user\nHi!<|im_end|>\n"
    assert (
        tokenizer.apply_chat_template(chat, add_generation_prompt=False)
        == DEFAULT_SYSTEM + asked
    )
    opened = tokenizer.apply_chat_template(chat)
    assert opened == DEFAULT_SYSTEM + asked + "<|im_start|>assistant\n"
    own = [{"role": "system", "content": "Be brief."}, *chat]
    text = (
        "<|im_start|>system\nBe brief.<|im_end|>\n" + asked + "<|im_start|>assistant\n"
    )
    assert tokenizer.apply_chat_template(own) == text


def test_chat_ids_hold_no_second_bos(tokenizer):
    chat = [{"role": "user", "content": "Hi!"}]
    ids = tokenizer.encode_chat(chat)
    assert ids[:2] == [1, 9690]  # <|im_start|>, system
    assert ids.count(1) == 3
    assert tokenizer.decode(ids) == tokenizer.apply_chat_template(chat)


@pytest.mark.parametrize(
    "chat", [["Hi!"], [{"role": "user"}], [{"role": "user", "content": 3}]]
)
def test_what_is_no_message_is_refused(tokenizer, chat):
    with pytest.raises(ValueError, match="not a message"):
        tokenizer.apply_chat_template(chat)


def metadata(**changes):
    values = {
        "model": "gpt2",
        "pre": "smollm",
        "tokens": ["<|endoftext|>", "a", "b", "ab"],
        "token_type": [3, 1, 1, 1],
        "merges": ["a b"],
        "eos_token_id": 0,
    } | changes
    return {
        f"tokenizer.ggml.{key}": value
        for key, value in values.items()
        if value is not None
    }


def test_a_tokenizer_from_metadata():
    tokenizer = Tokenizer.from_gguf_metadata(metadata())
    assert tokenizer.encode("abba<|endoftext|>") == [3, 2, 1, 0]
    assert tokenizer.eos_token_ids == (0,)
    assert tokenizer.bos_token_id is None
    with pytest.raises(ValueError, match=r"U\+0063"):
        tokenizer.encode("abc")


def test_what_a_file_without_a_known_tokenizer_gives():
    assert Tokenizer.from_gguf_metadata({}) is None
    with pytest.warns(UserWarning, match="'llama'"):
        assert Tokenizer.from_gguf_metadata(metadata(model="llama")) is None
    with pytest.warns(UserWarning, match="'other'"):
        assert Tokenizer.from_gguf_metadata(metadata(pre="other")) is None


@pytest.mark.parametrize(
    "changes",
    [{"merges": ["a z"]}, {"merges": ["a b c"]}, {"tokens": ["a", "a", "b", "ab"]}],
)
def test_damaged_tables_are_refused(changes):
    with pytest.raises(CheckpointError, match="damaged"):
        Tokenizer.from_gguf_metadata(metadata(**changes))


def test_a_folder_tokenizer(tokenizer, tmp_path):
    assert Tokenizer.from_folder(tmp_path) is None
    tokenizer.save(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(
            {"eos_token": {"content": "<|im_end|>"}, "bos_token": "<|im_start|>"}
        ),
        encoding="utf-8",
    )
    (tmp_path / "chat_template.jinja").write_text(
        "{{ messages[0].content }}", encoding="utf-8"
    )
    read = Tokenizer.from_folder(tmp_path)
    # <|endoftext|>, 0, is a special token that ends a text, whatever the files say
    assert read.eos_token_ids == (2, 0)
    assert (read.bos_token_id, read.pad_token_id) == (1, None)
    assert read.apply_chat_template([{"role": "user", "content": "x"}]) == "x"
    assert read.encode("12 Paris<|im_end|>") == tokenizer.encode("12 Paris<|im_end|>")
    (tmp_path / "generation_config.json").write_text(
        '{"eos_token_id": [7, 0]}', encoding="utf-8"
    )
    (tmp_path / "config.json").write_text('{"eos_token_id": 9}', encoding="utf-8")
    assert Tokenizer.from_folder(tmp_path).eos_token_ids == (7, 0, 9, 2)
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        Tokenizer.from_folder(tmp_path)


# --- rules, streams and tokens of other kinds ---


def test_user_defined_tokens_are_whole_and_not_special():
    values = metadata(
        tokens=["<|endoftext|>", "a", "b", "ab", "<tool>", "ba ba"],
        token_type=[3, 1, 1, 1, 4, 4],
    )
    tokenizer = Tokenizer.from_gguf_metadata(values)
    assert tokenizer.encode("ab<tool>abba ba") == [3, 4, 3, 5]
    # no name that a user may not type: it is text, as `parse_special` says
    assert tokenizer.encode("<tool>", parse_special=False) == [4]
    assert tokenizer.decode([4, 5, 0], skip_special_tokens=True) == "<tool>ba ba"
    assert "".join(tokenizer.decode_stream([4, 5, 3])) == "<tool>ba baab"


def test_the_template_of_a_gguf_file_may_have_names():
    values = metadata(bos_token_id=1, unknown_token_id=2) | {
        "tokenizer.chat_template": "{{ bos_token }}{{ unk_token }}{{ eos_token }}",
        "tokenizer.chat_template.tool_use": "{{ tools | length }}",
        "tokenizer.chat_template.rag": "rag",
    }
    tokenizer = Tokenizer.from_gguf_metadata(values)
    chat = [{"role": "user", "content": "x"}]
    assert tokenizer.apply_chat_template(chat) == "ab<|endoftext|>"
    assert tokenizer.apply_chat_template(chat, tools=[{}, {}]) == "2"
    assert tokenizer.apply_chat_template(chat, chat_template="rag") == "rag"


def replaced(*rules: tuple[object, str], part: str = "normalizer") -> str:
    """A tokenizer.json whose `part` replaces texts, one rule after the other."""
    kinds = {str: "String", tuple: "Regex"}
    steps = [
        {
            "type": "Replace",
            "pattern": {kinds[type(old)]: old if isinstance(old, str) else old[0]},
            "content": new,
        }
        for old, new in rules
    ]
    backend = {"version": "1.0", "added_tokens": [], "post_processor": None}
    backend |= {"truncation": None, "padding": None, "pre_tokenizer": None}
    backend |= {"normalizer": None, "decoder": None}
    backend[part] = {"type": "Sequence", f"{part}s": steps}
    backend["model"] = {
        "type": "BPE",
        **dict.fromkeys(("dropout", "unk_token", "continuing_subword_prefix")),
        **{"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False},
        **{"vocab": {"a": 0, "b": 1}, "merges": []},
    }
    return json.dumps(backend)


@pytest.mark.parametrize("part", ["normalizer", "decoder"])
@pytest.mark.parametrize(
    "rules",
    [
        [("a", "a" * 100)] * 5,
        [("a", "b" * 5000)],
        [((".",), "ab" * 20)] * 2,
        [("", "ab" * 600)],
        [("a", "bb"), ("b", "aa")] * 6,
        [(("(?=a)",), "a")] * 12,
        [((r"\ba*",), "a")] * 12,
        [(("a*",), "a")] * 12,
    ],
    ids=[
        *("a chain", "one rule", "an expression", "nothing", "small steps"),
        *("looking ahead", "the edge of a word", "none or more"),
    ],
)
def test_rules_that_grow_a_text_without_end_are_refused(part, rules, tmp_path):
    (tmp_path / "tokenizer.json").write_text(
        replaced(*rules, part=part), encoding="utf-8"
    )
    with pytest.raises(CheckpointError, match="times as long"):
        Tokenizer.from_folder(tmp_path)


def test_ordinary_rules_are_not_refused(tmp_path):
    rules = [(" ", "▁"), (("``",), '"'), ("...", "…"), ("\t", "    ")]
    rules += [((r"\s+",), " "), (("[.]{2,}",), "."), ((r"\(x\)",), "x")] * 9
    (tmp_path / "tokenizer.json").write_text(replaced(*rules), encoding="utf-8")
    assert Tokenizer.from_folder(tmp_path).encode("ab") == [0, 1]


def test_byte_level_rules_one_after_the_other_are_refused(tmp_path):
    rules = json.loads(replaced())
    levels = [{"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}]
    rules["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": levels * 12}
    (tmp_path / "tokenizer.json").write_text(json.dumps(rules), encoding="utf-8")
    with pytest.raises(CheckpointError, match="pre_tokenizer can make a text"):
        Tokenizer.from_folder(tmp_path)


def fallback_tokenizer() -> Tokenizer:
    """As SentencePiece's: words with ▁ in front, single bytes for what is missing."""
    words = ["<s>", "▁", "▁a", "b", "日", *(f"<0x{n:02X}>" for n in range(256))]
    backend = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            {word: i for i, word in enumerate(words)}, [], byte_fallback=True
        )
    )
    backend.decoder = tokenizers.decoders.Sequence(
        [
            tokenizers.decoders.Replace("▁", " "),
            tokenizers.decoders.ByteFallback(),
            tokenizers.decoders.Fuse(),
            tokenizers.decoders.Strip(" ", 1, 0),
        ]
    )
    backend.add_special_tokens(["<s>"])
    return Tokenizer(backend)


def test_streams_of_bytes_and_words_equal_the_whole():
    """A run of bytes is decoded as one: whether it is text is known at its end."""
    tokenizer, rng = fallback_tokenizer(), random.Random(0)
    good = [5 + byte for byte in "é🌍".encode()]
    for _ in range(300):
        ids = []
        for _ in range(8):
            ids += rng.choice([good, [rng.randrange(5)], [rng.randrange(261)], [1, 1]])
        for skip in (False, True):
            assert "".join(tokenizer.decode_stream(ids, skip)) == tokenizer.decode(
                ids, skip
            )
    pieces = list(tokenizer.decode_stream([2, *good, 3, 4]))
    assert pieces == ["a", "é🌍b", "日"]


class Counted:
    """A backend that counts the ids it is asked to decode."""

    def __init__(self, backend) -> None:
        self.backend, self.count = backend, 0

    def decode(self, ids, **options):
        self.count += len(ids)
        return self.backend.decode(ids, **options)

    def __getattr__(self, name):
        return getattr(self.backend, name)


@pytest.mark.parametrize("kind", ["byte level", "bytes and words"])
def test_streaming_takes_linear_work(kind, tokenizer):
    many = fallback_tokenizer() if kind == "bytes and words" else tokenizer
    ids = [i for n in range(1000) for i in (2, 3, 5 + 0xC3, 5 + n % 256)]
    counted = Tokenizer(Counted(many._backend))
    text = "".join(counted.decode_stream(ids))
    assert counted._backend.count <= 4 * len(ids)
    assert text == many.decode(ids)


def test_vocabularies_with_gaps_are_as_large_as_their_last_id():
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "b": 7}, []))
    tokenizer = Tokenizer(backend)
    assert tokenizer.vocab_size == 8
    assert tokenizer.decode([7]) == "b"
    assert tokenizer.decode([3]) == ""

"""Chat templates render what `transformers` renders from the same folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from llm_course.text import Tokenizer
from tests.chat_templates import CHATML, PLAIN, STYLES

NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
SYSTEM = {"role": "system", "content": "  Be brief. "}
TURNS = [
    {"role": "user", "content": "Grüße, 世界 <b>&amp;</b>\n"},
    {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nHello {{ 1 + 1 }}"},
    {"role": "user", "content": "Weather?"},
]
CALL = {"type": "function", "function": {"name": "look", "arguments": {"at": "Ö"}}}
CALLED = [
    *TURNS,
    {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]},
    {"role": "tool", "name": "look", "content": "sunny"},
    {"role": "tool", "name": "look", "content": "dry"},
]
CHATS = {
    "turns": TURNS,
    "one turn": TURNS[:1],
    "with a system message": [SYSTEM, *TURNS],
    "with calls of tools": CALLED,
    "in parts": [{"role": "user", "content": [{"type": "text", "text": " Hi "}]}],
}
TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Looks – <there>.",
        "parameters": {
            "type": "object",
            "properties": {"at": {"type": "string"}, "from": {"type": "integer"}},
            "required": ["at"],
        },
    },
}
OPTIONS = {
    "plain": {},
    "with an opening": {"add_generation_prompt": True},
    "with tools": {"tools": [TOOL, TOOL], "add_generation_prompt": True},
    "with documents": {"documents": [{"title": "One", "text": "a\nb"}]},
    "with other names": {"enable_thinking": False, "date_string": "1 May 2030"},
}


def folder_with(path: Path, config: dict, **files: str) -> Path:
    """A tokenizer's folder; `files` are further ones, "__" standing for "/"."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE({c: i for i, c in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([*NAMES.values(), "<|im_start|>", "<|im_end|>"])
    path.mkdir(parents=True, exist_ok=True)
    backend.save(str(path / "tokenizer.json"))
    own = {"tokenizer_class": "PreTrainedTokenizerFast", **NAMES} | config
    (path / "tokenizer_config.json").write_text(json.dumps(own), "utf-8")
    for name, text in files.items():
        file = path / name.replace("__", "/").replace("_jinja", ".jinja")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
    return path


def both(folder: Path):
    from transformers import AutoTokenizer

    return Tokenizer.from_folder(folder), AutoTokenizer.from_pretrained(folder)


def rendered(tokenizer, chat, **options) -> str:
    """The text, or the word "refused" for whatever goes wrong."""
    options = {"add_generation_prompt": False, **options}
    if not isinstance(tokenizer, Tokenizer):
        options["tokenize"] = False
    try:
        return tokenizer.apply_chat_template(chat, **options)
    except Exception:
        return "refused"


@pytest.mark.parametrize("style", STYLES)
def test_a_style_renders_as_in_transformers(style, tmp_path):
    ours, theirs = both(folder_with(tmp_path, {"chat_template": STYLES[style]}))
    texts = set()
    for name, chat in CHATS.items():
        for kind, options in OPTIONS.items():
            text = rendered(ours, chat, **options)
            assert text == rendered(theirs, chat, **options), (name, kind)
            texts.add(text)
    assert len(texts - {"refused"}) > 2


LISTED = [
    {"name": "default", "template": "default:" + PLAIN},
    {"name": "tool_use", "template": "tools:" + PLAIN},
    {"name": "rag", "template": "rag:" + PLAIN},
]
NEWER = "newer:" + CHATML
PLACES = {
    "a list": ({"chat_template": LISTED}, {}),
    "a list without a default": ({"chat_template": LISTED[1:]}, {}),
    "a file": ({}, {"chat_template_jinja": NEWER}),
    "a file beside an old one": (
        {"chat_template": CHATML},
        {"chat_template_jinja": NEWER},
    ),
    "files with names": (
        {"chat_template": CHATML},
        {
            "chat_template_jinja": NEWER,
            "additional_chat_templates__tool_use_jinja": "more:" + PLAIN,
        },
    ),
    "only files with names": (
        {"chat_template": CHATML},
        {"additional_chat_templates__rag_jinja": "more:" + PLAIN},
    ),
    "none": ({}, {}),
}


@pytest.mark.parametrize("place", PLACES)
def test_the_template_is_the_one_that_transformers_takes(place, tmp_path):
    config, files = PLACES[place]
    ours, theirs = both(folder_with(tmp_path, config, **files))
    for options in ({}, {"tools": [TOOL]}, {"chat_template": "rag"}, {"tools": []}):
        text = rendered(ours, TURNS, **options)
        assert text == rendered(theirs, TURNS, **options), options


TOKENS = {
    "dicts": {
        "bos_token": {"__type": "AddedToken", "content": "<s>", "lstrip": False},
        "pad_token": "<unk>",
    },
    "nulls": {"bos_token": None, "sep_token": "<|im_end|>", "cls_token": "</s>"},
}


@pytest.mark.parametrize("given", TOKENS)
def test_special_tokens_are_those_of_the_files(given, tmp_path):
    """And not those of the ids in generation_config.json."""
    template = STYLES["special tokens and filters"]
    config = {"chat_template": template, **TOKENS[given]}
    folder = folder_with(tmp_path, config)
    (folder / "generation_config.json").write_text(
        '{"bos_token_id": 1}', encoding="utf-8"
    )
    ours, theirs = both(folder)
    assert rendered(ours, TURNS) == rendered(theirs, TURNS) != "refused"


def test_saved_templates_load_in_both(tmp_path):
    from llm_course.checkpoints.layout import Checkpoint
    from llm_course.checkpoints.saving import write_folder
    from llm_course.config import ModelConfig
    from llm_course.models import DecoderOnlyModel

    first = Tokenizer.from_folder(
        folder_with(tmp_path / "a", {"chat_template": LISTED, "pad_token": "<unk>"})
    )
    config = ModelConfig(first.vocab_size, 8, 16, 1, 2)
    weights = DecoderOnlyModel(config).state_dict()
    write_folder(Checkpoint(config, weights, first), tmp_path / "b")
    ours, theirs = both(tmp_path / "b")
    assert (ours.chat_template, ours.special_tokens) == (
        first.chat_template,
        first.special_tokens,
    )
    for options in ({}, {"tools": [TOOL]}):
        text = rendered(first, TURNS, **options)
        assert text == rendered(ours, TURNS, **options)
        assert text == rendered(theirs, TURNS, **options) != "refused"

"""Files made to do harm, written byte by byte: GGUF and safetensors headers that no
tool would write."""

from __future__ import annotations

import json
import struct

U32, STRING, ARRAY, F32 = 4, 8, 9, 0
TOKENIZER = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": ["<|endoftext|>", "<|im_end|>", "a", "b", "ab"],
    "tokenizer.ggml.token_type": [3, 3, 1, 1, 1],
    "tokenizer.ggml.merges": ["a b"],
    "tokenizer.ggml.eos_token_id": 1,
    "tokenizer.chat_template": "{{ messages[0].content }}{{ eos_token }}",
}


def text(value: str | bytes) -> bytes:
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def entry(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def array(item: int, length: int, items: bytes = b"") -> bytes:
    return struct.pack("<IQ", item, length) + items


def tensor(name: str, *shape: int, kind: int = F32, offset: int = 0) -> bytes:
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + dimensions + struct.pack("<IQ", kind, offset)


def gguf_file(
    *parts: bytes, tensors: int = 0, entries: int = 0, version: int = 3, data: int = 64
) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, tensors, entries) + b"".join(parts)
    return head + bytes(-len(head) % 32) + bytes(data)


NUMBER = struct.pack("<I", 7)
NESTED = array(ARRAY, 1) * 5000 + array(U32, 0)
HOSTILE_GGUF = {
    "many tensors": (
        gguf_file(tensors=2**63),
        "tensors and 0 metadata entries are announced",
    ),
    "many entries": (gguf_file(entries=2**64 - 1), "metadata entries are announced"),
    "more than there is": (gguf_file(entries=1000), "the key '' appears twice"),
    "another version": (gguf_file(version=1), "its version is 1"),
    "other byte order": (gguf_file(version=3 << 24), "its version is 50331648"),
    "long key": (
        gguf_file(struct.pack("<Q", 2**62), entries=1),
        "bytes are announced at byte 32",
    ),
    "negative length": (gguf_file(struct.pack("<q", -1), entries=1), "beyond the end"),
    "long array": (
        gguf_file(entry("a", ARRAY, array(0, 2**62)), entries=1),
        "beyond the end",
    ),
    "array of strings": (
        gguf_file(entry("a", ARRAY, array(STRING, 2**60)), entries=1),
        "beyond",
    ),
    "array of empty strings": (
        gguf_file(
            entry("a", ARRAY, array(STRING, 4_000_001)), entries=1, data=33_000_000
        ),
        "holds more than 4000000 strings",
    ),
    "nested arrays": (
        gguf_file(entry("a", ARRAY, NESTED), entries=1),
        "arrays of kind 9",
    ),
    "unknown kind": (
        gguf_file(entry("a", 77, b""), entries=1),
        "no metadata of kind 77",
    ),
    "not UTF-8": (gguf_file(entry("a", STRING, text(b"\xff")), entries=1), "utf-8"),
    "same key": (
        gguf_file(*[entry("a", U32, NUMBER)] * 2, entries=2),
        "'a' appears twice",
    ),
    "same tensor": (gguf_file(*[tensor("a", 1)] * 2, tensors=2), "name appears twice"),
    "many dimensions": (
        gguf_file(text("a") + struct.pack("<I", 2**31), tensors=1),
        "has 2147483648 dimensions",
    ),
    "huge shape": (gguf_file(tensor("a", 2**32, 2**32), tensors=1), "beyond the end"),
    "shape that wraps": (gguf_file(tensor("a", 2**63, 4), tensors=1), "beyond the end"),
    "negative offset": (
        gguf_file(tensor("a", 1, offset=2**64 - 32), tensors=1),
        "beyond the end",
    ),
    "crooked offset": (gguf_file(tensor("a", 1, offset=1), tensors=1), "misplaced"),
    "overlap": (
        gguf_file(tensor("a", 16), tensor("b", 1, offset=32), tensors=2),
        "two tensors overlap",
    ),
    "unknown tensor kind": (gguf_file(tensor("a", 1, kind=999), tensors=1), "999"),
    "broken blocks": (
        gguf_file(tensor("a", 31, kind=2), tensors=1),
        "divide into blocks of 32",
    ),
    "no alignment": (
        gguf_file(
            entry("general.alignment", U32, bytes(4)),
            tensor("a", 1),
            tensors=1,
            entries=1,
        ),
        "general.alignment is 0",
    ),
    "wide alignment": (
        gguf_file(
            entry("general.alignment", U32, struct.pack("<I", 2**31)),
            tensor("a", 1),
            tensors=1,
            entries=1,
        ),
        "beyond the end",
    ),
}


def header(content: bytes | str, data: int = 64, length: int | None = None) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return (
        struct.pack("<Q", len(content) if length is None else length)
        + content
        + bytes(data)
    )


def described(*shape: int, begin: int = 0, end: int = 64, dtype: str = "F32") -> str:
    return json.dumps({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]})


HOSTILE_SAFETENSORS = {
    "huge header": header("{}", length=2**63),
    "negative header": header("{}", length=2**64 - 1),
    "long header": header("{" + " " * 11_000_000 + "}"),
    "longer than the file": header("{}", length=9_000_000),
    "no header": b"",
    "half a length": b"\x02\x00",
    "not JSON": header("{x}"),
    "not UTF-8": header(b'{"\xff": 1}'),
    "no object": header("[]"),
    "deep": header('{"a":' + "[" * 100_000 + "]" * 100_000 + "}"),
    "negative offset": header(f'{{"a": {described(16, begin=-64, end=0)}}}'),
    "backwards": header(f'{{"a": {described(16, begin=64, end=0)}}}'),
    "beyond the end": header(f'{{"a": {described(32, end=128)}}}'),
    "absurd shape": header(f'{{"a": {described(2**62, 2**62)}}}'),
    "shape that wraps": header(f'{{"a": {described(2**60, 16, 64)}}}'),
    "shape of another size": header(f'{{"a": {described(15)}}}'),
    "overlap": header(f'{{"a": {described(16)}, "b": {described(16)}}}'),
    "same name": header(
        f'{{"a": {described(8, end=32)}, "a": {described(8, begin=32)}}}'
    ),
    "a hole": header(f'{{"a": {described(8, begin=32)}}}'),
    "unknown dtype": header(f'{{"a": {described(16, dtype="X32")}}}'),
}

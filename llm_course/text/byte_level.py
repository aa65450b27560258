"""How byte-level vocabularies spell bytes."""


def _characters() -> dict[str, int]:
    """Return the characters by which byte-level vocabularies write the 256 bytes.

    Printable Latin-1 characters stand for themselves; the other bytes, in order, are
    written as U+0100, U+0101, … (Radford et al. 2019, the GPT-2 code).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {
        chr(256 + i): b for i, b in enumerate(others)
    }


BYTE_OF = _characters()

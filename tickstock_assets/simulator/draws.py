"""Random choices that are the same for the same question, whatever was asked before and by whom."""

import hashlib


def draw(seed: int, *question: object) -> float:
    """Return a number from 0 to 1, 1 excluded, that belongs to a seed and a question."""
    text = "|".join(map(str, (seed, *question)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64


def choice(among: int, seed: int, *question: object) -> int:
    """Return a number from 0 to `among` - 1 that belongs to a seed and a question."""
    return int(draw(seed, *question) * among)

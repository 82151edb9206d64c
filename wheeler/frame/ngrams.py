"""A text's n-grams as a pattern over the cells of a frame: what fills the cells that the words leave free.

Each run of one, two or three tokens stands for a pattern of -1 and +1 over all cells, made by hashing; a text's field
is the sum over those that occur in it. Texts with common n-grams have fields that agree in more cells than chance.

Feature hashing: Weinberger et al. 2009, arXiv:0902.2206. Random indexing: Kanerva et al. 2000. The hash: the last step
of MurmurHash3 (Appleby, public domain). All is whole numbers, the same on every machine.
"""

import numpy as np

LONGEST = 3                                                                   # tokens of an n-gram


def _hash(x: np.ndarray) -> np.ndarray:
    """uint32 -> uint32, one to one."""
    x = x ^ x >> np.uint32(16)
    x = x * np.uint32(0x85EBCA6B)
    x = x ^ x >> np.uint32(13)
    x = x * np.uint32(0xC2B2AE35)
    return x ^ x >> np.uint32(16)


def ngram_field(ids: list[int], height: int, width: int) -> np.ndarray:
    """(H, W) int32 of a text's token ids, the end token left out: for each cell the sum of -1 and +1 of its n-grams,
    every one counted once. H * W must be a multiple of 32."""
    tokens = np.array(ids, np.uint32)
    runs, keys = np.zeros(len(tokens) + 1, np.uint32), []
    for n in range(1, min(LONGEST, len(tokens)) + 1):
        runs = _hash(runs[: len(tokens) - n + 1] * np.uint32(31) + tokens[n - 1 :] + np.uint32(1))
        keys.append(np.unique(runs))
    field = np.zeros(height * width, np.int32)
    if keys:
        # 32 cells a hash, the first cell the highest bit; a set bit is -1.
        places = _hash(np.arange(1, height * width // 32 + 1, dtype=np.uint32))
        found = np.concatenate(keys)
        bits = np.unpackbits(_hash(found[:, None] ^ places).astype(">u4").view(np.uint8), axis=1)
        field = np.int32(len(found)) - 2 * bits.sum(0, dtype=np.int32)
    return field.reshape(height, width)

"""Signs of frames as bits, a cell a bit, and the distances between them."""

import numpy as np
from numba import prange

from wheeler.dynamics.compiled import jit, parallel


@jit
def ones(x):
    """How many bits of x, uint64, are set."""
    one, two, four = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333), np.uint64(0x0F0F0F0F0F0F0F0F)
    x = x - ((x >> np.uint64(1)) & one)  # LLVM knows these lines as popcount
    x = (x & two) + ((x >> np.uint64(2)) & two)
    x = (x + (x >> np.uint64(4))) & four
    return (x * np.uint64(0x0101010101010101)) >> np.uint64(56)


@parallel
def distances(signs, queries, out):
    """out (Q, n) int32: Hamming distances of queries (Q, words) to signs (n, words), both uint64."""
    for k in prange(signs.shape[0]):
        for q in range(queries.shape[0]):
            count = np.uint64(0)
            for w in range(signs.shape[1]):
                count += ones(signs[k, w] ^ queries[q, w])
            out[q, k] = np.int32(count)


@parallel
def counts_within(signs, queries, masks, which, negative, different):
    """The same within masks (M, words) uint64, that of query q and row k being masks[which[q, k]]: negative (Q, n)
    int32, the bits set in signs (n, words), and different (Q, n) int32, those that are not as in queries (Q, words)."""
    for k in prange(signs.shape[0]):
        for q in range(queries.shape[0]):
            set_here, unlike = np.uint64(0), np.uint64(0)
            for w in range(signs.shape[1]):
                mask = masks[which[q, k], w]
                set_here += ones(signs[k, w] & mask)
                unlike += ones((signs[k, w] ^ queries[q, w]) & mask)
            negative[q, k], different[q, k] = np.int32(set_here), np.int32(unlike)


def correlation(different, mine, theirs, cells):
    """Pearson's correlation of +-1 patterns that differ in `different` of `cells` cells and have means mine and theirs;
    0 where one is constant. Arrays that broadcast, float64."""
    spread = np.sqrt((1 - mine**2) * (1 - theirs**2))
    return (1 - 2 * different / cells - mine * theirs) / np.where(spread > 0, spread, np.inf)


def pack(frames):
    """Signs of frames (B, H, W) as bits: (B, words) uint64, bit set where the cell is below 0, unused bits 0."""
    bits = np.packbits(frames.reshape(len(frames), -1) < 0, axis=1)
    return (np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8))) if bits.shape[1] % 8 else bits).view(np.uint64)


def unpack(signs, height, width):
    """The +-1 frames (B, H, W) float32 of packed signs (B, words)."""
    bits = np.unpackbits(np.ascontiguousarray(signs).view(np.uint8), axis=1, count=height * width)
    return (1 - 2 * bits.astype(np.float32)).reshape(-1, height, width)

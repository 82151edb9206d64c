"""The idea on one page: a text becomes a picture that repairs itself. Needs numpy, and nothing of the project.

Text -> whole number -> frame -> noise -> Wheeler dynamics -> frame -> number -> text, in the five steps below.
    python minimal.py "the dog sat."                  your own text, in the characters of SENTENCES, or none: an example
"""

import sys
from collections import Counter
from itertools import accumulate

import numpy as np

# 1. A toy language model: how often does one character follow another? The project asks a transformer instead.
SENTENCES = """once upon a time, there was a little girl who had a red ball.
the cat and the dog ran to the big tree.
the quick brown fox jumps over the lazy dog.""".splitlines()
END = "\n"                                            # stands before and after a text: both ends are learned, too
ALPHABET = [*sorted(set("".join(SENTENCES))), END]        # END last: see number_to_text
PAIRS = Counter(pair for sentence in SENTENCES for pair in zip(END + sentence, sentence + END))


def shares(previous):
    """What each character gets of [0, total) when it follows `previous`: character k gets from edge k to edge k + 1.
    Whole numbers, as fractions may be rounded differently elsewhere. The 1 is for pairs that the sentences lack."""
    return [0, *accumulate(1 + 8 * PAIRS[previous, symbol] for symbol in ALPHABET)]


# 2. Arithmetic coding. Start with the interval of all numbers. Each character cuts it down to that character's share.
# A likely character leaves much, so it costs few bits. Any number of the last interval stands for the whole text.
def narrow(low, size, edges, k):
    start, end = size * edges[k] // edges[-1], size * edges[k + 1] // edges[-1]
    return low + start, end - start


def text_to_number(text):
    if unknown := set(text) - set(ALPHABET[:-1]):
        raise ValueError(f"the toy model does not know {min(unknown)!r}, only {''.join(ALPHABET[:-1])!r}")
    low, size = 0, CAPACITY                           # so many numbers a frame can hold: see 3
    for previous, symbol in zip(END + text, text + END):
        low, size = narrow(low, size, shares(previous), ALPHABET.index(symbol))
    if size == 0:                                     # on the way there was nothing left to cut
        raise ValueError(f"the text does not fit: it needs more than the {CAPACITY.bit_length() - 1} bits of a frame")
    return low + size // 2, CAPACITY.bit_length() - size.bit_length()            # the second: bits that the text takes


def number_to_text(number):
    """The same cuts: the share with the number in it was kept. All texts end, as END gets what is too small to cut."""
    low, size, text = 0, CAPACITY, END
    while len(text) == 1 or text[-1] != END:
        parts = [narrow(low, size, shares(text[-1]), k) for k in range(len(ALPHABET))]
        k = next(k for k, (start, length) in enumerate(parts) if start <= number < start + length)
        (low, size), text = parts[k], text + ALPHABET[k]
    return text[1:-1]


# 3. A frame that noise cannot break: no two -1 cells touch (up, down, left, right), every +1 cell touches a -1 cell.
# As long as no sign flips, a -1 cell is then lower than its neighbours and a +1 cell never is. So the rule in 5 moves
# both back. The frame is made of 8 x 8 tiles. Row 0 and column 0 are the same in all of them, a fence. So what a tile
# meets on its right and below is a copy of its own fence: if it is right wrapped round on itself, it is right anywhere.
FENCE = 1 << 1 | 1 << 4 | 1 << 7                      # a row is 8 bits, a set bit a -1; every +1 here touches a -1 here
beside = lambda row: (row << 1 | row >> 7 | row >> 1 | row << 7) & 255           # the cells left and right of a row's
tiles = [(0, FENCE)]                                  # row 0, and above it nothing
for i in range(1, 9):                                 # row by row, as 2^49 tiles are too many to try; row 8: next fence
    rows = [row for row in range(256) if row & 1 == FENCE >> i & 1 and not row & beside(row)] if i < 8 else [FENCE]
    tiles = [(*tile, row) for tile in tiles for row in rows                      # the row above is complete now:
             if not row & tile[-1] and row | tile[-1] | beside(tile[-1]) | tile[-2] == 255]      # all -1, or beside one
TILES = (np.array(tiles)[:, 1:9, None] >> np.arange(8) & 1).astype(bool)         # (12847, 8, 8), True is -1
DIGITS = {tile.tobytes(): digit for digit, tile in enumerate(TILES)}
CAPACITY = len(TILES) ** 64                           # a digit for each of 64 tiles; the project's own code holds more


def number_to_frame(number):
    digits = [number // len(TILES) ** k % len(TILES) for k in range(64)]
    return np.where(TILES[digits].reshape(8, 8, 8, 8).swapaxes(1, 2).reshape(64, 64), -1.0, 1.0)


def frame_to_number(frame):                           # only signs count
    found = (frame < 0).reshape(8, 8, 8, 8).swapaxes(1, 2).reshape(64, 64)
    return sum(DIGITS[tile.tobytes()] * len(TILES) ** k for k, tile in enumerate(found))


# 4. Noise of less than 1: it moves cells, but flips no sign.
disturb = lambda frame, rng: np.clip(frame + 0.9 * rng.uniform(-1, 1, frame.shape), -1, 1)


# 5. The Wheeler dynamics, on a torus: the lowest cells fall, the highest rise, the others climb, until all is still.
def settle(v, ticks=0, move=1):
    while np.abs(move).mean() >= 1e-4 and ticks < 1000:
        near = [np.roll(v, shift, axis) for shift in (1, -1) for axis in (0, 1)]
        lo, hi = np.min(near, 0), np.max(near, 0)
        move = np.where(v <= lo, (-1 - v) * 0.35, np.where(v >= hi, (1 - v) * 0.35, (hi - v) * 0.20))
        v, ticks = v + move, ticks + 1
    return v, ticks


def main(words):
    text = " ".join(words) if words else "the little dog and the cat ran to the red tree."
    try:
        number, bits = text_to_number(text)
    except ValueError as error:
        print(f"minimal.py: {error}", file=sys.stderr)
        return 2
    frame, rng = number_to_frame(number), np.random.default_rng(0)
    print(f"text     {text!r}: {len(text)} characters, {bits} of the {CAPACITY.bit_length() - 1} bits of a frame")
    print(f"number   {str(number)[:60]}... ({len(str(number))} digits)")
    print("frame    -1 cells, two rows a line: ' is in the upper row, . in the lower one")
    for upper, lower in zip(frame[::2], frame[1::2]):
        print("         " + "".join("'" if a < 0 else "." if b < 0 else " " for a, b in zip(upper, lower)))
    noisy, other = disturb(frame, rng), rng.choice([-1.0, 1.0], frame.shape)
    (settled, ticks), (end, _) = settle(noisy), settle(disturb(other, rng))
    print(f"noise    up to 0.9 a cell: {(noisy != frame).sum()} of {frame.size} cells moved")
    print(f"settled  after {ticks} ticks: {(np.sign(settled) == frame).sum()} of {frame.size} cells are as they were")
    print(f"         of cells that were -1 or +1 at random, {(np.sign(end) == other).mean():.0%} are")
    again = number_to_text(frame_to_number(settled))
    print(f"text     {again!r}: {'equal' if again == text else 'NOT EQUAL'}")
    return 0 if again == text else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

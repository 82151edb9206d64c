"""Made-up texts in letters of many scripts, digits, symbols and bits of code: what no story holds.

A language model that has only seen stories charges more for such a text than for random tokens, so its words do not fit
into a frame. A few rows of them in training mend that.
"""

import numpy as np

# First and last code point of what a word is made of.
ALPHABETS = tuple("".join(map(chr, range(first, last + 1))) for first, last in (
    (0x61, 0x7A), (0x61, 0x7A), (0x61, 0x7A),                                 # Latin letters, the most of all texts
    (0x41, 0x5A), (0x30, 0x39), (0x30, 0x39), (0x21, 0x2F), (0x20, 0x7E),     # capitals, digits, punctuation, ASCII
    (0xE0, 0xFF), (0x100, 0x17F), (0x3B1, 0x3C9), (0x410, 0x44F), (0x5D0, 0x5EA), (0x627, 0x64A), (0x905, 0x939),
    (0xE01, 0xE2E), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x9FFF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3),
    (0x2190, 0x21FF), (0x2600, 0x27BF), (0x1F300, 0x1F64F), (0x1F680, 0x1F6C5), (0x1F900, 0x1F9FF)))
TEXTS = 500                                                                   # made once a run


def unusual_words(rng: np.random.Generator) -> list[str]:
    """1 to 8 words, all made in one way: letters of an alphabet, some of them with Latin letters among them, as a name,
    or as code."""
    letters = ALPHABETS[rng.integers(len(ALPHABETS))]
    few = list(rng.choice(list(letters), min(len(letters), 40), replace=False))      # a text repeats its letters
    if rng.random() < 0.25:
        few += list(ALPHABETS[0])
    words = ["".join(rng.choice(few, rng.integers(1, 9))) for _ in range(rng.integers(1, 9))]
    way = rng.random()
    if way < 0.25:
        return [word.capitalize() for word in words]
    return [f"{words[0]}_{rng.integers(100)} = {word}({word})" for word in words] if way < 0.35 else words


def unusual_tokens(tokenizer, seed: int = 0) -> np.ndarray:
    """int64 ids of TEXTS made-up texts, one after the other, without special tokens. The same for a seed everywhere."""
    rng = np.random.default_rng([seed, TEXTS])
    texts = [" ".join(word for _ in range(rng.integers(1, 9)) for word in unusual_words(rng)) for _ in range(TEXTS)]
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return np.concatenate([np.array(row, np.int64) for row in rows])

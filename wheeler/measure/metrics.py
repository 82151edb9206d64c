"""What is measured and how: texts read back from a latent, scores with intervals, the `Subject` of a measurement.

All of wheeler/measure takes its figures from here and from wheeler/training/scores.py, so that a name means one
protocol everywhere. Bits are what the decoder without a latent, as a language model, charges for a text.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import torch

from models import WheelerTextAutoencoder
from wheeler.cli import progress
from wheeler.dynamics.differentiable import settle
from wheeler.frame.cells import check_sides
from wheeler.model.checkpoint import find_checkpoint, read_checkpoint
from wheeler.model.decoding import text_bits
from wheeler.model.tokenizer import tokenizer_to_dict
from wheeler.training.data import Row, TokenDataset, Tokens, build_dataset, tokenize
from wheeler.training.run_folder import git_commit
from wheeler.training.scores import PATHS, came_back, check_device, score
from wheeler.training.texts import DEFAULT_DATASET, fingerprint, load_texts
from wheeler_store import WheelerMemory

LENGTHS = (8, 16, 32, 64, 128, 256)                                           # tokens: the buckets, and the beginnings
MOST_TRAINING_TEXTS = 100_000                                                 # lookups and overlap go no further


# ---- metrics --------------------------------------------------------------------------------------------------------


def text_scores(references: Sequence[str], predictions: Sequence[str]) -> dict:
    """Levenshtein distance in characters over the longer length, 0 (equal) to 1, mean over the texts; corpus BLEU,
    0 to 100, with the signature that says how it was computed."""
    from rapidfuzz.distance import Levenshtein
    from sacrebleu.metrics import BLEU

    bleu = BLEU(force=True)                                                   # force: no hint about tokenised input
    pairs = zip(references, predictions, strict=True)
    return {"edit_distance": float(np.mean([Levenshtein.normalized_distance(r, p) for r, p in pairs])),
            "bleu": bleu.corpus_score(list(predictions), [list(references)]).score,
            "bleu_signature": str(bleu.get_signature())}


def measure(references: Sequence[Row], predictions: Sequence[list[int]], tokenizer,
            bits: np.ndarray | None = None) -> dict:
    """score and text_scores of texts read as token ids, and, where the texts' bits are given, `text_bits`, their mean,
    and `bits_retained`, the same with those of texts that did not come back exactly counted as 0."""
    say = lambda ids: tokenizer.decode(ids, skip_special_tokens=True)
    result = score(references, predictions, say) | text_scores(
        [r.text for r in references], [say(p) for p in predictions])
    if bits is not None:
        exact = np.array(came_back(references, predictions, say))
        result |= {"text_bits": float(bits.mean()), "bits_retained": float((bits * exact).mean())}
    return result


def collapse(frames, ticks: int | None = None):
    """Frames (B, H, W), tensor or array, after `ticks` ticks of the Wheeler dynamics; None: their attractors."""
    if ticks == 0:
        return frames
    final = settle(torch.as_tensor(frames), ticks=ticks)[0]
    return final if isinstance(frames, torch.Tensor) else final.numpy()


# ---- reading texts back ---------------------------------------------------------------------------------------------


class TokenRows(Tokens):
    """Lists of token ids in the shape of a TokenDataset, Rows where they are compared. special_ids: bos, eos, pad."""

    def __init__(self, rows: Sequence[Sequence[int]], special_ids: Sequence[int]):
        self.texts = [getattr(row, "text", None) for row in rows]
        self.rows, self.special_ids = [np.asarray(row, dtype=np.int64) for row in rows], special_ids
        self.lengths = np.array([len(row) for row in self.rows])
        self.buckets = sorted(set(self.lengths.tolist()))
        self.vocab_size = 1 + max((int(row.max()) for row in self.rows), default=0)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.rows[i]


def evenly(count: int, n: int) -> np.ndarray:
    """n indices from all over range(count); all of them if n is -1 or more than there are."""
    return np.linspace(0, count - 1, count if n < 0 else min(n, count)).astype(int)


def beginnings(data: TokenDataset, length: int, n: int) -> list[Row]:
    """The first length - 1 tokens and the end token of n texts that have so many, from all over the data; without those
    that would be cut inside a character."""
    long_enough = np.flatnonzero(data.lengths >= length)
    texts = [data.texts[i] for i in long_enough[evenly(len(long_enough), n)]]
    return [row for row in rows_of(texts, data.source[1], length) if len(row) == length]


def rows_of(texts: Sequence[str], tokenizer, max_seq_len: int) -> list[Row]:
    """Texts in tokens, each cut to max_seq_len and closed by the end token; blank texts are left out."""
    return [Row(ids.tolist(), part) for ids, _, part in tokenize(texts, tokenizer, max_seq_len, "cut")]


def reconstruct_frames(code, texts: Sequence[list[int]], batch_size: int = 64) -> tuple[list[list[int]], list[bool]]:
    """(predictions, fits) of texts written into frames and read from these. Frames with a failing checksum give what
    was read without its end token, which is not the text, whatever it is."""
    written = code.write(texts)
    frames, fits = np.stack([one.frame for one in written]), [one.fits for one in written]
    order, predictions = np.argsort([len(text) for text in texts], kind="stable"), [[]] * len(texts)
    for start in progress(range(0, len(order), batch_size), "reading the frames"):
        rows = order[start : start + batch_size]
        for i, reading in zip(rows, code.read(frames[rows]), strict=True):
            ids = reading.ids
            predictions[i] = ids if reading.exact or ids[-1:] != [code.config.eos_token_id] else ids[:-1]
    return predictions, fits


@torch.no_grad()
def language_model_bits(model: WheelerTextAutoencoder, data: TokenDataset, indices: Sequence[int],
                        batch_size: int = 64) -> np.ndarray:
    """(len(indices),) float64: bits that the decoder without a latent charges for each text, end token included."""
    device, bits = model.device, np.zeros(len(indices))
    order = np.argsort(data.lengths[indices], kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        ids, mask = (x.to(device) for x in data.batch([indices[i] for i in rows]))
        logits, _ = model(ids, mask, blank_rows=len(ids))
        bits[rows] = text_bits(logits, ids, mask).cpu().numpy()
    return bits


def probe_texts(kind: str, n: int, stories: Sequence[str], seed: int = 0) -> list[str]:
    """n texts unlike any story: "random" draws 5 to 30 words of the stories in random order, "unusual" 3 to 12 pieces
    that are made-up names, numbers, accented words, emoji, other scripts and code."""
    rng = np.random.default_rng([seed, ("random", "unusual").index(kind)])
    if kind == "random":
        words = sorted({word for story in stories for word in (story or "").split()})
        if not words:
            raise ValueError("the data set has no words to draw random texts from")
        return [" ".join(rng.choice(words, rng.integers(5, 31))) for _ in range(n)]

    def name() -> str:
        return "".join(rng.choice(list("bcdfghjklmnprstvwz")) + rng.choice(list("aeiouy"))
                       for _ in range(rng.integers(2, 5))).title()

    def accented() -> str:
        return "".join(rng.choice(list("abcdefghiklmnoprstuvàáâãäåçèéêëìíîïñòóôõöùúûüýÿžščřłßøæ"))
                       for _ in range(rng.integers(3, 9)))

    makers = (name, accented, lambda: str(rng.integers(10 ** rng.integers(1, 7))),
              lambda: str(rng.choice(list("😀🐉🌧🦊🍎🚀👑🐢❤🎈🧸🦄"))),
              lambda: f"x_{rng.integers(99)} = f({name().lower()})",
              lambda: "".join(rng.choice(list("абвгдежзиклмнопрстуф"), rng.integers(3, 7))),
              lambda: "".join(rng.choice(list("日月山川田人口車門火水木金土"), rng.integers(1, 4))))
    return [" ".join(makers[rng.integers(len(makers))]() for _ in range(rng.integers(3, 13))) for _ in range(n)]


# ---- what is measured -----------------------------------------------------------------------------------------------


class Subject:
    """A checkpoint and the texts that it is measured on.

    model; flags: those of its training ({} if the file has none); stories: the validation texts as strings; data: the
    same as a TokenDataset; training: the training split of the data set in the same tokens. Raises ValueError and
    FileNotFoundError that say what is wrong.
    """

    def __init__(self, checkpoint: str = "checkpoints/best.pt", dataset: str = DEFAULT_DATASET,
                 text_column: str = "text", long_texts: str = "cut", cache_dir: str = "data/cache",
                 device: str | None = None):
        self.dataset, self.text_column = dataset, text_column
        self.long_texts, self.cache_dir, self.device = long_texts, cache_dir, check_device(device)
        found = find_checkpoint(checkpoint)                                   # may be the folder of a packed model
        self.model = WheelerTextAutoencoder.load_from_checkpoint(checkpoint, self.device)
        if self.model.tokenizer is None:
            raise ValueError(f"--checkpoint {checkpoint}: it has no tokenizer")
        self.checkpoint = str(found)
        self.training_state = {} if found.is_dir() else read_checkpoint(found).get("training") or {}
        self.flags = self.training_state.get("flags", {})
        self.stories = load_texts(dataset, "validation", text_column)
        self.data = self._dataset(self.stories)

    def _dataset(self, texts: Sequence[str]) -> TokenDataset:
        return build_dataset(texts, self.model.tokenizer, self.model.config.max_seq_len, self.cache_dir,
                             self.long_texts)

    def tokens(self, texts: Sequence[str]) -> list[Row]:
        return rows_of(texts, self.model.tokenizer, self.model.config.max_seq_len)

    @cached_property
    def training_stories(self) -> list[str]:
        """The training texts of the data set, the first 100,000 at most."""
        return first_texts(self.dataset, self.text_column)

    @cached_property
    def training(self) -> TokenDataset:
        return self._dataset(self.training_stories)

    @property
    def paths(self) -> tuple[str, ...]:
        """What texts can be read from: there is no frame of every grid_size."""
        try:
            check_sides(self.model.config.grid_size, self.model.config.grid_size)
        except ValueError:
            return PATHS
        return (*PATHS, "frame")

    @cached_property
    def code(self):
        return self.model.frame_code()

    def rows(self, texts: Sequence[list[int]]) -> TokenRows:
        c = self.model.config
        return TokenRows(texts, (c.bos_token_id, c.eos_token_id, c.pad_token_id))

    def beginnings(self, length: int, n: int) -> list[Row]:
        """Unseen texts cut to `length` tokens, or to max_seq_len where that is less; see `beginnings`."""
        length = min(length, self.model.config.max_seq_len)
        texts = beginnings(self.data, length, n)
        if not texts:
            raise ValueError(f"--length {length}: the longest unseen text has {self.data.lengths.max()} tokens")
        return texts

    def say(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Token ids as texts."""
        return [self.model.tokenizer.decode(row, skip_special_tokens=True) for row in rows]

    def came_back(self, references: Sequence[Row], predictions: Sequence[Sequence[int]]) -> list[bool]:
        return came_back(references, predictions, lambda ids: self.say([ids])[0])

    def score(self, references: Sequence[Row], predictions: Sequence[Sequence[int]]) -> dict:
        return score(references, predictions, lambda ids: self.say([ids])[0])

    def identity(self) -> dict:
        """What a figure belongs to. Results compare only where `data` and `tokenizer` are equal."""
        digest = lambda raw: hashlib.sha256(raw).hexdigest()[:16]
        return {"checkpoint": self.checkpoint, "weights": self.model.fingerprint(),
                "step": self.training_state.get("step"), "dataset": self.dataset,
                "texts_fingerprint": fingerprint(self.stories)[:16], "data": self.data.content[:16],
                "tokenizer": digest(json.dumps(tokenizer_to_dict(self.model.tokenizer)).encode()),
                "long_texts": self.long_texts, "max_seq_len": self.model.config.max_seq_len, "commit": git_commit()}


def first_texts(dataset: str, text_column: str) -> list[str]:
    """The training texts of a data set, the first MOST_TRAINING_TEXTS at most; prints a note when there are more."""
    texts = load_texts(dataset, "train", text_column)
    if len(texts) > MOST_TRAINING_TEXTS:
        print(f"note        lookups and overlap take the first {MOST_TRAINING_TEXTS:,} of the {len(texts):,} training "
              f"texts of {dataset}")
    return list(texts[:MOST_TRAINING_TEXTS])


def overlap(texts: Sequence[str], training: Iterable[str], shingle: int = 5) -> dict:
    """How many of the texts stand in the training texts: `exact`, letter by letter, blanks and case aside; `near`, at
    least half of a text's runs of `shingle` words occur in one training text. Runs are hashed into 2^20 buckets."""
    from sklearn.feature_extraction.text import HashingVectorizer

    plain = lambda text: " ".join((text or "").lower().split())
    texts, training = [plain(t) for t in texts], [plain(t) for t in training]
    vectorizer = HashingVectorizer(ngram_range=(shingle, shingle), binary=True, norm=None, alternate_sign=False,
                                   token_pattern=r"\S+", lowercase=False, dtype=np.float32)
    mine = vectorizer.transform(texts)
    total, best = np.diff(mine.indptr), np.zeros(len(texts))
    for start in progress(range(0, len(training), 5000), "looking for duplicates", unit="5k texts"):
        common = (mine @ vectorizer.transform(training[start : start + 5000]).T).max(axis=1).toarray().ravel()
        best = np.maximum(best, common)
    known = set(training)
    exact = np.array([text in known for text in texts])
    return {"n": len(texts), "training_texts": len(training), "exact": int(exact.sum()),
            "near": int(((best >= 0.5 * total) & (total > 0) & ~exact).sum())}


# ---- baselines ------------------------------------------------------------------------------------------------------


def hash_frames(texts: Sequence[str], height: int, width: int) -> np.ndarray:
    """(n, H, W) float32: frames as the public Wheeler Memory makes them, uniform in [-1, 1] from a generator (PCG64)
    whose seed is the first 8 bytes of the text's sha256. They say nothing of what a text says."""
    seeds = [int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")
             for text in texts]
    return np.stack([np.random.Generator(np.random.PCG64(seed)).uniform(-1, 1, (height, width)).astype(np.float32)
                     for seed in seeds])


def hash_memory(texts: Sequence[str], height: int, width: int):
    """A WheelerMemory of the attractors of the texts' hash frames, each under its text."""
    memory = WheelerMemory(width, height)
    for start in progress(range(0, len(texts), 1000), "hash frames", len(texts) >= 2000):
        part = list(texts[start : start + 1000])
        memory.remember(hash_frames(part, height, width), part)
    return memory


def nearest_by_words(texts: Sequence[str], memories: Sequence[str]) -> list[int]:
    """For each text the index of the memory with the largest cosine of TF-IDF word vectors (fitted on the memories)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(token_pattern=r"\S+", dtype=np.float32)
    known = vectorizer.fit_transform(memories)
    return np.asarray((vectorizer.transform(texts) @ known.T).argmax(axis=1)).ravel().tolist()

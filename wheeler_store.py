"""A memory of texts on the Wheeler dynamics: frames are kept by their attractors and recalled by correlation.

    from wheeler_store import WheelerMemory
    memory = WheelerMemory(model=model)               # texts in, texts out: of a WheelerTextAutoencoder
    memory.remember("Once upon a time there was a cat.")         # or a list of texts; its frame, settled
    memory.recall("a cat", k=3)                       # [Recall(text, similarity, ..., alike), ...], best first
    memory.recall("a cat", by="meaning")              # by the meaning tiles alone, not by the whole frame

    memory = WheelerMemory(64, 64)                    # width, height: frames in, without a model
    memory.remember(frame, "once upon a time")        # frame (64, 64) in [-1, 1], settled, kept under its text
    memory.recall(noisy_frame, k=3)                   # [Recall(text, similarity, ...), ...], best first
    memory.reconstruct(noisy_frame, k=3)              # blend of the best, settled: a Trajectory
    memory.save("store"); memory = WheelerMemory.load("store")
    memory.import_public(folder); memory.export_public(folder)   # layout of the public Wheeler Memory project

An attractor is a +-1 pattern up to the tolerance of the search, so its signs are all of it: one bit a cell, 512 bytes a
64x64 frame, 0.5 GB a million (int8 would be 4 GB). The dot product of two +-1 patterns of N cells is N - 2 popcount(a
xor b), so the matrix product of recall is exclusive-or and popcount over one contiguous array, memory-mapped after
load(); with m the mean of a pattern, Pearson correlation is (dot / N - ma mb) / sqrt((1 - ma^2)(1 - mb^2)), and 0 for
a constant pattern. Frames that end OSCILLATING or CHAOTIC are kept by their signs too.

On disk: manifest.json (format, size, one entry a memory, the name of the sign file) and signs-<id>.npy (uint64, (n,
words)). A save takes the folder's lock, brings in what other processes saved, writes a new sign file, then replaces the
manifest, then deletes old sign files, each step flushed to the disk: a crash at any moment leaves the old store or the
new one, and of two writers none loses what the other saved. wheeler/memory/saved.py has the format and its checks.
"""

import json
import secrets
import time
from collections import namedtuple

import numpy as np

from wheeler.cli import brief
from wheeler.memory import exchange
from wheeler.memory.bits import correlation, distances, pack, unpack
from wheeler.memory.disk import folder_named, locked, written_to
from wheeler.memory.nearness import nearness
from wheeler.memory.saved import MANIFEST, Saved, differences, key_of, read_store, write_store
from wheeler.memory.texts import Frames, are_texts, floor, frames_of_texts, tiles_of_frames
from wheeler_cpu import WheelerMemoryCPU, as_frames

# exact: the frame gives the text back character for character; False where it was written with other weights than the
# model's, None where it was remembered as a frame. alike: similarity
# is above what the best of so many unrelated memories reaches; if no memory is alike, there is nothing like the cue.
Recall = namedtuple("Recall", "text similarity key state ticks metadata exact alike")
MEASURES = ("frame", "meaning")
STORES = 4  # of so many stores a memory knows what it changed since it loaded or saved them


class WheelerMemory:
    """Texts and their attractors. width, height, tie_break as WheelerMemoryCPU; model: a WheelerTextAutoencoder, which
    then gives the sides and turns texts into frames. len(memory), `text in memory`, `for text in memory`."""

    def __init__(self, width=None, height=None, tie_break="min", model=None):
        if model is not None and not hasattr(model, "frame_code"):
            raise ValueError(f"model is {type(model).__name__}; it must be a WheelerTextAutoencoder")
        self.model, side = model, 64 if model is None else model.config.grid_size
        width, height = width or side, height or side
        if model is not None and (width, height) != (side, side):
            raise ValueError(f"width = {width}, height = {height}: the model's frames are {side} x {side}")
        self.dynamics = WheelerMemoryCPU(width, height, tie_break=tie_break)
        self.id = secrets.token_hex(8)  # of the store, in its manifest and in what it exports
        # dicts: key, text, state, ticks, timestamp, metadata, negative (cells below 0), and where they are known chunk,
        # tiles (of meaning), exact, weights
        self.entries = []
        self._row = {}  # key -> row
        # Of every pattern its mean, float64 (n,), and its meaning tiles, int64 (n,); made when needed after a change.
        self._means = self._tiles = None
        self._signs = np.zeros((0, -(-width * height // 64)), np.uint64)  # grows by doubling
        self._since = {}  # sign file of a store loaded or saved -> {key changed since: its timestamp then, or None}

    def __len__(self):
        return len(self.entries)

    def __contains__(self, text):
        return self.key(text) in self._row

    def __iter__(self):
        return iter([entry["text"] for entry in self.entries])

    @staticmethod
    def key(text):
        """The sha256 of the text in hex, as in the public store."""
        if not isinstance(text, str):
            raise ValueError(f"text is {type(text).__name__}; it must be a string")
        return key_of(text)

    def _append(self, signs, entries):
        """Add rows; a text that is known replaces its memory."""
        self._means = self._tiles = None
        room = len(self.entries) + len(entries)
        if room > len(self._signs) or not self._signs.flags.writeable:  # a mapped store is copied
            grown = np.zeros((max(room, 2 * len(self.entries)), self._signs.shape[1]), np.uint64)
            grown[: len(self.entries)] = self._signs[: len(self.entries)]
            self._signs = grown
        for sign, entry in zip(signs, entries):
            self._note(entry["key"])
            row = self._row.setdefault(entry["key"], len(self.entries))
            self._signs[row] = sign
            self.entries[row : row + 1] = [entry]

    def _note(self, key):
        """Before the memory of a key changes."""
        for changes in self._since.values():
            changes.setdefault(key, self.entries[self._row[key]]["timestamp"] if key in self._row else None)

    def remember(self, frame, text=None, metadata=None):
        """Settle frame (H, W) and keep it under text; returns the key. A known text is replaced. With a model a text
        stands for its frame: remember("a story"). One longer than the model's max_seq_len is cut with a UserWarning: it
        is kept under all of its characters, but its frame holds its beginning, so `Recall.exact` is False, and texts
        with one beginning have one frame.

        A batch: frame (B, H, W) with a list of B texts, or a list of texts (and of B metadata, or None); returns the
        list of keys. metadata must go into JSON. ValueError for bad frames (see run_dynamics), texts that are not
        strings, unequal lengths, and texts alone without a model.
        """
        if are_texts(frame) and text is None:
            batch, texts = not isinstance(frame, str), [frame] if isinstance(frame, str) else list(frame)
            self.key(texts[0])
            frames, tiles, exact, weights = frames_of_texts(self.model, texts)
            metadata = (metadata or [None] * len(texts)) if batch else [metadata]
        else:
            frames, batch = as_frames(frame, self.dynamics.height, self.dynamics.width)
            texts, metadata = (text, metadata or [None] * len(frames)) if batch else ([text], [metadata])
            tiles, exact, weights = tiles_of_frames(self._code(), frames), None, None
        if isinstance(texts, str) or not len(frames) == len(texts) == len(metadata):
            raise ValueError(f"a batch of {len(frames)} frames needs a list of as many texts (and metadata)")
        keys = [self.key(t) for t in texts]
        try:
            json.dumps(metadata, allow_nan=False)  # now rather than at save
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"metadata {brief(metadata)} does not go into JSON: {error}") from None
        trajectory = self.dynamics.run_dynamics(frames)
        signs = pack(trajectory.final_frame)
        now, negative = time.time(), np.bitwise_count(signs).sum(1)
        entries = [
            {"key": key, "text": t, "state": str(state), "ticks": int(ticks), "timestamp": now, "metadata": m or {},
             "negative": int(n)}
            for key, t, state, ticks, m, n in zip(keys, texts, trajectory.state, trajectory.ticks, metadata, negative)
        ]  # fmt: skip
        for name, known in (("tiles", tiles), ("exact", exact)):
            for entry, value in zip(entries, () if known is None else known.tolist()):
                entry[name] = value
        if weights is not None:
            for entry in entries:
                entry["weights"] = weights
        self._append(signs, entries)
        return keys if batch else keys[0]

    def _code(self):
        """The model's FrameCode, or None without a model. Each call looks at all weights, which takes milliseconds."""
        return None if self.model is None else self.model.frame_code()

    def _frames(self, cue):
        """The Frames of a cue, of which those of given frames lack all but frames, and whether the cue is a batch."""
        if are_texts(cue):
            batch = not isinstance(cue, str)
            return frames_of_texts(self.model, list(cue) if batch else [cue]), batch
        frames, batch = as_frames(cue, self.dynamics.height, self.dynamics.width)
        if not np.isfinite(frames).all():
            raise ValueError("the cue has NaN or infinite values")
        return Frames(frames, None, None, None), batch

    def similarities(self, cue, settle=True, by="frame"):
        """Pearson correlation of the attractor of a cue with every memory, float64 (n,), or (B, n) for a batch.

        cue: a frame (H, W) or frames (B, H, W), or, with a model, a text or a list of texts. by: "frame", all cells;
        "meaning", those of the meaning tiles that both have (-1 where there are none), which needs the model of both.
        settle=False takes the signs of the frame itself, for cues that are attractors already.
        """
        found, batch, _ = self._compare(cue, settle, by)
        return found if batch else found[0]

    def _compare(self, cue, settle, by):
        """Similarities (B, n), whether the cue is a batch, and the name of the model's weights, None without one."""
        if by not in MEASURES:
            raise ValueError(f"by is {by!r}; it must be one of {', '.join(MEASURES)}")
        if by == "meaning" and self.model is None:
            raise ValueError('by="meaning" needs a model: WheelerMemory(model=model)')
        (frames, tiles, _, weights), batch = self._frames(cue)
        if weights is None and self.model is not None:
            code = self._code()
            weights, tiles = code.weights_name, tiles_of_frames(code, frames) if by == "meaning" else None
        if settle:
            frames = self.dynamics.run_dynamics(frames).final_frame
        signs = pack(frames)
        return self._by_meaning(signs, tiles) if by == "meaning" else self._by_frame(signs), batch, weights

    def _by_meaning(self, queries, of_queries):
        height, width = self.dynamics.height, self.dynamics.width
        unknown = [row for row, entry in enumerate(self.entries) if "tiles" not in entry] if self._tiles is None else []
        if unknown:                                                                            # kept without a model
            frames = unpack(self._signs[unknown], height, width)
            for row, count in zip(unknown, tiles_of_frames(self._code(), frames)):
                self.entries[row]["tiles"] = int(count)
        if self._tiles is None:
            self._tiles = np.array([entry["tiles"] for entry in self.entries], np.int64)
        return nearness(queries, of_queries, self._signs[: len(self)], self._tiles, height, width)

    def _by_frame(self, queries):
        distance = np.empty((len(queries), len(self)), np.int32)
        distances(self._signs[: len(self)], queries, distance)
        cells = self.dynamics.height * self.dynamics.width
        mine = 1 - 2 * np.bitwise_count(queries).sum(1, dtype=np.int64)[:, None] / cells
        if self._means is None:
            self._means = 1 - 2 * np.array([e["negative"] for e in self.entries], np.float64) / cells
        return correlation(distance, mine, self._means[None], cells)

    def _best(self, similarity, k):
        k = min(k, len(self))
        rows = np.argpartition(-similarity, k - 1)[:k] if k else np.zeros(0, int)
        return rows[np.lexsort((rows, -similarity[rows]))]

    def recall(self, cue, k=5, settle=True, by="frame"):
        """The k memories whose attractors correlate best with that of the cue: list of Recall, best first.

        cue, settle, by: see `similarities`. For a batch a list of B lists. Fewer than k if fewer are known. ValueError
        for k < 1 or a bad cue.
        """
        if not isinstance(k, (int, np.integer)) or k < 1:
            raise ValueError(f"k is {k!r}; it must be an integer of at least 1")
        similarity, batch, mine = self._compare(cue, settle, by)
        found = []
        # A frame of other weights is a picture that this model cannot read.
        exact = lambda e: False if mine and e.get("weights", mine) != mine else e.get("exact")
        for line in similarity:
            least = floor(line, by)
            picked = [(self.entries[row], float(line[row])) for row in self._best(line, k)]
            found.append([Recall(e["text"], s, e["key"], e["state"], e["ticks"], e["metadata"], exact(e), s > least)
                          for e, s in picked])  # fmt: skip
        return found if batch else found[0]

    def attractor(self, text):
        """The +-1 attractor (H, W) float32 kept under text; KeyError if there is none. Fixed under tie_break "max"."""
        row = self._row[self.key(text)]
        return unpack(self._signs[row : row + 1], self.dynamics.height, self.dynamics.width)[0]

    def forget(self, text):
        """Drop the memory of text; KeyError if there is none."""
        if text not in self:
            raise KeyError(f"no memory of {brief(text)}")
        self._drop(self.key(text))

    def _drop(self, key):
        row, last = self._row[key], len(self.entries) - 1
        self._note(key)
        del self._row[key]
        entry = self.entries.pop()
        self._means = self._tiles = None
        if row != last:  # the last row moves into the gap
            if not self._signs.flags.writeable:
                self._signs = np.array(self._signs)
            self._signs[row], self.entries[row], self._row[entry["key"]] = self._signs[last], entry, row

    def reconstruct(self, cue, k=3, settle=True, alpha=0.0):
        """Blend the attractors of the k best memories, weighted by correlation (negative ones count 0), and settle.
        cue: a frame (H, W), or a text with a model. alpha: share of the cue's own frame in the blend, 0 .. 1.

        Settled with tie_break "max", so that a +1 cell among +1 cells, which is flat once rounded to its sign, stays:
        with k=1 the result is the memory itself. Returns a Trajectory. ValueError if nothing correlates.
        """
        (frames, *_), batch = self._frames(cue)
        if batch:
            raise ValueError(f"reconstruct takes one frame (H, W) or one text; this is a batch of {len(frames)}")
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 <= alpha <= 1:
            raise ValueError(f"alpha is {alpha!r}; it must be in 0 .. 1")
        found = self.recall(frames[0], k, settle)
        weights = np.array([max(f.similarity, 0.0) for f in found])
        if not weights.sum() > 0:
            raise ValueError(f"no memory correlates with the cue ({len(self)} known); there is nothing to blend")
        blend = np.tensordot(weights / weights.sum(), np.stack([self.attractor(f.text) for f in found]), 1)
        blend = (1 - alpha) * blend + alpha * frames[0]
        dynamics = WheelerMemoryCPU(self.dynamics.width, self.dynamics.height, tie_break="max")
        return dynamics.run_dynamics(np.clip(blend, -1, 1).astype(np.float32))

    def save(self, folder):
        """Write the store in a folder, which is made if it is missing. A crash leaves the old store or the new one.

        What others saved there since this memory's last load or save of it comes in first: this memory then holds what
        the store holds. Texts of both sides stay, of a text that both remembered the newer one; what this memory forgot
        since then is gone, and so is what others forgot and this memory did not change. ValueError where the folder
        holds a damaged store or one of another size or tie_break; TimeoutError where another process keeps it locked;
        OSError that names the folder where the disk refuses it.
        """
        folder = folder_named(folder)
        with written_to(folder), locked(folder):
            past = []
            if (folder / MANIFEST).exists():
                there = read_store(folder)
                past = [*there.earlier, there.signs_name]
                self._take_over(folder, there, past)
            own = self.dynamics
            name = write_store(folder, Saved(own.width, own.height, own.tie_break, self.id, None, past, self.entries,
                                             self._signs[: len(self)]))  # fmt: skip
        for old in past:
            self._since.pop(old, None)
        self._since[name] = {}
        for old in list(self._since)[:-STORES]:
            del self._since[old]

    def _take_over(self, folder, there, past):
        """Bring in what others saved."""
        mine, theirs = ((s.width, s.height, s.tie_break) for s in (self.dynamics, there))
        if mine != theirs:
            raise ValueError(f"{folder} holds a store of (width, height, tie_break) {theirs}; this memory is {mine}")
        self.id = there.id
        if there.signs_name in self._since:  # nobody saved since this memory did
            return
        common = [name for name in past if name in self._since]
        changes = self._since[common[-1]] if common else None
        drop, take = differences(self.entries, self._row, there.entries, changes)
        for key in drop:
            self._drop(key)
        if take:
            self._append(there.signs[take], [there.entries[k] for k in take])

    @classmethod
    def load(cls, folder, model=None):
        """Open a saved store, with a model for texts; the signs are memory-mapped. ValueError if it is none, damaged,
        or of other sides than the model's."""
        there = read_store(folder)
        memory = cls(there.width, there.height, there.tie_break, model)
        memory.id, memory.entries, memory._signs = there.id, there.entries, there.signs
        memory._row = {entry["key"]: row for row, entry in enumerate(memory.entries)}
        memory._since[there.signs_name] = {}
        return memory

    def export_public(self, folder, chunk=None):
        """Write every memory into the layout of the public Wheeler Memory; see wheeler/memory/exchange.py."""
        return exchange.export_public(self, folder, chunk)

    def import_public(self, folder, chunk=None):
        """Take over the memories of a store in the public layout; see wheeler/memory/exchange.py."""
        return exchange.import_public(self, folder, chunk)

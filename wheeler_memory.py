"""A memory of texts on the Wheeler dynamics: frames are kept by their attractors and recalled by correlation.

    from wheeler_memory import WheelerMemory
    memory = WheelerMemory(64, 64)                    # width, height
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
words)). A save writes a new sign file, then replaces the manifest, then deletes old sign files, each step flushed to
the disk: a crash at any moment leaves the old store or the new one.
"""

import hashlib
import json
import os
import secrets
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
from numba import njit, prange

from wheeler_cpu import WheelerMemoryCPU, as_frames

Recall = namedtuple("Recall", "text similarity key state ticks metadata")
FORMAT = 1


@njit(error_model="numpy", cache=True, parallel=True)
def distances(signs, queries, out):
    """out (Q, n) int32: Hamming distances of queries (Q, words) to signs (n, words), both uint64."""
    one, two, four = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333), np.uint64(0x0F0F0F0F0F0F0F0F)
    for k in prange(signs.shape[0]):
        for q in range(queries.shape[0]):
            count = np.uint64(0)
            for w in range(signs.shape[1]):
                x = signs[k, w] ^ queries[q, w]  # LLVM knows the next lines as popcount
                x = x - ((x >> np.uint64(1)) & one)
                x = (x & two) + ((x >> np.uint64(2)) & two)
                x = (x + (x >> np.uint64(4))) & four
                count += (x * np.uint64(0x0101010101010101)) >> np.uint64(56)
            out[q, k] = np.int32(count)


def pack(frames):
    """Signs of frames (B, H, W) as bits: (B, words) uint64, bit set where the cell is below 0, unused bits 0."""
    bits = np.packbits(frames.reshape(len(frames), -1) < 0, axis=1)
    return np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8))).view(np.uint64)


def unpack(signs, height, width):
    """The +-1 frames (B, H, W) float32 of packed signs (B, words)."""
    bits = np.unpackbits(np.ascontiguousarray(signs).view(np.uint8), axis=1, count=height * width)
    return (1 - 2 * bits.astype(np.float32)).reshape(-1, height, width)


class WheelerMemory:
    """Texts and their attractors. width, height, tie_break as WheelerMemoryCPU. len(memory), `text in memory`."""

    def __init__(self, width=64, height=64, tie_break="min"):
        self.dynamics = WheelerMemoryCPU(width, height, tie_break=tie_break)
        self.entries = []  # dicts: key, text, state, ticks, timestamp, metadata, negative (cells below 0)
        self._row = {}  # key -> row
        self._means = None  # mean of every pattern, float64 (n,); made when first needed after a change
        self._signs = np.zeros((0, -(-width * height // 64)), np.uint64)  # grows by doubling

    def __len__(self):
        return len(self.entries)

    def __contains__(self, text):
        return self.key(text) in self._row

    @staticmethod
    def key(text):
        """The sha256 of the text in hex, as in the public store."""
        if not isinstance(text, str):
            raise ValueError(f"text is {type(text).__name__}; it must be a string")
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def _append(self, signs, entries):
        """Add rows; a text that is known replaces its memory."""
        self._means = None
        room = len(self.entries) + len(entries)
        if room > len(self._signs) or not self._signs.flags.writeable:  # a mapped store is copied
            grown = np.zeros((max(room, 2 * len(self.entries)), self._signs.shape[1]), np.uint64)
            grown[: len(self.entries)] = self._signs[: len(self.entries)]
            self._signs = grown
        for sign, entry in zip(signs, entries):
            row = self._row.setdefault(entry["key"], len(self.entries))
            self._signs[row] = sign
            self.entries[row : row + 1] = [entry]

    def remember(self, frame, text, metadata=None):
        """Settle frame (H, W) and keep it under text; returns the key. A known text is replaced.

        A batch: frame (B, H, W) with a list of B texts (and of B metadata, or None); returns the list of keys. metadata
        must go into JSON. ValueError for bad frames (see run_dynamics), texts that are not strings, unequal lengths.
        """
        frames, batch = as_frames(frame, self.dynamics.height, self.dynamics.width)
        texts, metadata = (text, metadata or [None] * len(frames)) if batch else ([text], [metadata])
        if isinstance(texts, str) or not len(frames) == len(texts) == len(metadata):
            raise ValueError(f"a batch of {len(frames)} frames needs a list of as many texts (and metadata)")
        keys = [self.key(t) for t in texts]
        json.dumps(metadata)  # TypeError now rather than at save
        trajectory = self.dynamics.run_dynamics(frames)
        signs = pack(trajectory.final_frame)
        negative = np.bitwise_count(signs).sum(1)
        now = time.time()
        entries = [
            {"key": key, "text": t, "state": str(state), "ticks": int(ticks), "timestamp": now, "metadata": m or {},
             "negative": int(n)}
            for key, t, state, ticks, m, n in zip(keys, texts, trajectory.state, trajectory.ticks, metadata, negative)
        ]  # fmt: skip
        self._append(signs, entries)
        return keys if batch else keys[0]

    def similarities(self, frame, settle=True):
        """Pearson correlation of the attractor of frame (H, W) or frames (B, H, W) with every memory: (n,) or (B, n).

        settle=False takes the signs of the frame itself, for cues that are attractors already. float64.
        """
        frames, batch = as_frames(frame, self.dynamics.height, self.dynamics.width)
        if settle:
            frames = self.dynamics.run_dynamics(frames).final_frame
        queries = pack(frames)
        distance = np.empty((len(queries), len(self)), np.int32)
        distances(self._signs[: len(self)], queries, distance)
        cells = self.dynamics.height * self.dynamics.width
        mine = 1 - 2 * np.bitwise_count(queries).sum(1, dtype=np.int64)[:, None] / cells
        if self._means is None:
            self._means = 1 - 2 * np.array([e["negative"] for e in self.entries], np.float64) / cells
        theirs = self._means[None]
        spread = np.sqrt((1 - mine**2) * (1 - theirs**2))
        correlation = (1 - 2 * distance / cells - mine * theirs) / np.where(spread > 0, spread, np.inf)
        return correlation if batch else correlation[0]

    def _best(self, similarity, k):
        k = min(k, len(self))
        rows = np.argpartition(-similarity, k - 1)[:k] if k else np.zeros(0, int)
        return rows[np.lexsort((rows, -similarity[rows]))]

    def recall(self, frame, k=5, settle=True):
        """The k memories whose attractors correlate best with that of the cue: list of Recall, best first.

        For a batch (B, H, W) a list of B lists. Fewer than k if fewer are known. ValueError for k < 1 or a bad frame.
        """
        if not isinstance(k, (int, np.integer)) or k < 1:
            raise ValueError(f"k is {k!r}; it must be an integer of at least 1")
        similarity = self.similarities(frame, settle)
        found = []
        for line in np.atleast_2d(similarity):
            picked = [(self.entries[row], float(line[row])) for row in self._best(line, k)]
            found.append([Recall(e["text"], s, e["key"], e["state"], e["ticks"], e["metadata"]) for e, s in picked])
        return found if similarity.ndim == 2 else found[0]

    def attractor(self, text):
        """The +-1 attractor (H, W) float32 kept under text; KeyError if there is none. Fixed under tie_break "max"."""
        row = self._row[self.key(text)]
        return unpack(self._signs[row : row + 1], self.dynamics.height, self.dynamics.width)[0]

    def forget(self, text):
        """Drop the memory of text; KeyError if there is none."""
        row, last = self._row.pop(self.key(text)), len(self.entries) - 1
        entry = self.entries.pop()
        self._means = None
        if row != last:  # the last row moves into the gap
            if not self._signs.flags.writeable:
                self._signs = np.array(self._signs)
            self._signs[row], self.entries[row], self._row[entry["key"]] = self._signs[last], entry, row

    def reconstruct(self, frame, k=3, settle=True):
        """Blend the attractors of the k best memories, weighted by correlation (negative ones count 0), and settle.

        Settled with tie_break "max", so that a +1 cell among +1 cells, which is flat once rounded to its sign, stays:
        with k=1 the result is the memory itself. Returns a Trajectory. ValueError if nothing correlates.
        """
        cue, batch = as_frames(frame, self.dynamics.height, self.dynamics.width)
        if batch:
            raise ValueError(f"reconstruct takes one frame (H, W); this is {cue.shape}")
        found = self.recall(cue[0], k, settle)
        weights = np.array([max(f.similarity, 0.0) for f in found])
        if not weights.sum() > 0:
            raise ValueError(f"no memory correlates with the cue ({len(self)} known); there is nothing to blend")
        blend = np.tensordot(weights / weights.sum(), np.stack([self.attractor(f.text) for f in found]), 1)
        dynamics = WheelerMemoryCPU(self.dynamics.width, self.dynamics.height, tie_break="max")
        return dynamics.run_dynamics(np.clip(blend, -1, 1).astype(np.float32))

    def save(self, folder):
        """Write the store; atomic (see the top of this file). The folder is made if it is missing."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"signs-{secrets.token_hex(8)}.npy"
        _write(folder / name, lambda file: np.save(file, self._signs[: len(self)]))
        manifest = {
            "format": FORMAT, "width": self.dynamics.width, "height": self.dynamics.height,
            "tie_break": self.dynamics.tie_break, "signs": name, "entries": self.entries,
        }  # fmt: skip
        _write(folder / "manifest.json", lambda file: file.write(json.dumps(manifest).encode()))
        for old in folder.glob("signs-*.npy*"):
            if old.name != name:
                old.unlink(missing_ok=True)

    @classmethod
    def load(cls, folder):
        """Open a saved store; the signs are memory-mapped. ValueError if it is none, or damaged."""
        folder = Path(folder)
        try:
            manifest = json.loads((folder / "manifest.json").read_bytes())
            if manifest["format"] != FORMAT:
                raise ValueError(f"store format is {manifest['format']}; this version reads {FORMAT}")
            memory = cls(manifest["width"], manifest["height"], manifest["tie_break"])
            memory.entries = manifest["entries"]
            file = folder / Path(manifest["signs"]).name
            # an empty array cannot be mapped
            memory._signs = np.load(file, mmap_mode="r" if memory.entries else None, allow_pickle=False)
            memory._row = {entry["key"]: row for row, entry in enumerate(memory.entries)}
            if memory._signs.dtype != np.uint64:
                raise TypeError(f"signs of dtype {memory._signs.dtype}, wanted uint64")
        except (OSError, EOFError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{folder} holds no readable memory store: {error!r}") from error
        if memory._signs.shape != (len(memory.entries), -(-manifest["width"] * manifest["height"] // 64)):
            raise ValueError(f"{folder}: {len(memory.entries)} entries but signs of shape {memory._signs.shape}")
        return memory

    def export_public(self, folder, chunk="default"):
        """Write every memory into the layout of the public Wheeler Memory project, into chunks/<chunk> of folder.

        The attractors are +-1 float32, the history of a brick is the attractor alone; index.json is merged
        with one that is there and replaced last.
        """
        folder = Path(folder)
        base = folder / "chunks" / chunk
        for kind in ("attractors", "bricks"):
            (base / kind).mkdir(parents=True, exist_ok=True)
        index_file = folder / "index.json"
        index = json.loads(index_file.read_bytes()) if index_file.exists() else {}
        for e in self.entries:
            frame = self.attractor(e["text"])
            _write(base / "attractors" / f"{e['key']}.npy", lambda file: np.save(file, frame))
            brick = dict(history=frame[None], attractor=frame, convergence_ticks=e["ticks"], state=e["state"])
            meta = json.dumps(e["metadata"])
            _write(base / "bricks" / f"{e['key']}.npz", lambda file: np.savez(file, **brick, metadata_json=meta))
            index[e["key"]] = {
                "text": e["text"], "state": e["state"], "convergence_ticks": e["ticks"], "timestamp": e["timestamp"],
                "metadata": e["metadata"], "chunk": chunk,
            }  # fmt: skip
        _write(index_file, lambda file: file.write(json.dumps(index).encode()))

    def import_public(self, folder):
        """Take over every memory of a store in the public layout, as its attractors stand; returns how many.

        Nothing changes if one cannot be read. ValueError names the file and the trouble.
        """
        folder = Path(folder)
        entries, frames = [], []
        file = folder / "index.json"
        try:
            for key, item in json.loads(file.read_bytes()).items():
                file = folder / "chunks" / Path(item["chunk"]).name / "attractors" / f"{Path(key).name}.npy"
                frame = as_frames(np.load(file, allow_pickle=False), self.dynamics.height, self.dynamics.width)[0]
                if not (np.abs(frame) <= 1).all():
                    raise ValueError("values outside [-1, 1] or NaN")
                frames.append(frame[0])
                entries.append({
                    "key": self.key(item["text"]), "text": item["text"], "state": str(item.get("state", "CONVERGED")),
                    "ticks": int(item.get("convergence_ticks", 0)), "timestamp": item.get("timestamp", time.time()),
                    "metadata": item.get("metadata") or {},
                })  # fmt: skip
        except (OSError, EOFError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{file}: {error}") from error
        if entries:
            signs = pack(np.stack(frames))
            for entry, n in zip(entries, np.bitwise_count(signs).sum(1)):
                entry["negative"] = int(n)
            self._append(signs, entries)
        return len(entries)


def _write(path, fill):
    """Write a file so that it appears whole or not at all, also after a power cut."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        if hasattr(os, "O_DIRECTORY"):  # the rename itself must reach the disk
            handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

"""The store layout of the public Wheeler Memory project (fantomx42/wheeler-memory), read and written.

    chunks/<chunk>/index.json              key -> text, state, convergence_ticks, timestamp (ISO 8601), metadata, chunk
    chunks/<chunk>/attractors/<key>.npy    the attractor, (64, 64) float32; int8 (-1, 0, 1 or scaled by 127) is read too
    chunks/<chunk>/bricks/<key>.npz        history (t, 64, 64), attractor, convergence_ticks, state, metadata_json

A key is the sha256 of the text in hex. A text that begins with [POLAR] is the companion of a memory, its negated
attractor, and no memory of its own. The layout was taken from that project's behaviour; its code was not used.
"""

import io
import json
import os
from collections import namedtuple
from datetime import datetime, timezone

import numpy as np

from wheeler.cli import brief, progress, reason
from wheeler.memory.bits import pack, unpack
from wheeler.memory.disk import (
    folder_named,
    locked,
    remove,
    remove_leftover,
    write_many,
    write_whole,
    written_to,
)
from wheeler.memory.saved import seconds

CHUNK = "general"  # where that project puts what fits no other chunk
POLAR, COMPANIONS = "[POLAR]", ("polar", "avoidance")
BAR_FROM = 1000  # memories; fewer need no progress bar

Imported = namedtuple("Imported", "count skipped")


def import_public(memory, folder, chunk=None):
    """Take over the memories of a store in the public layout, as the signs of their attractors stand.

    chunk: the name of one, or None for all. A known text is replaced; of a text in two chunks the newer counts. The
    chunk's name is kept in the entry. Returns Imported(count, skipped): how many came in, and a list of (file, reason)
    of what did not: companions, files that are unreadable or of another size, entries without text or with a wrong
    field. ValueError where the folder has no index.json of a chunk at all, or not the one that was asked for.
    """
    root = folder_named(folder) / "chunks"
    if chunk is not None:
        names = [_part("chunk", chunk)]
    else:  # isdir is False, and glob raises, where the disk refuses the name
        names = sorted(p.parent.name for p in root.glob("*/index.json")) if os.path.isdir(root) else []
    if not names or not os.path.exists(root / names[0] / "index.json"):
        raise ValueError(f"there is no {root / (chunk or '*') / 'index.json'}, which a store in the public layout has")
    found, skipped, indexes = {}, [], {}
    for name in names:
        try:
            indexes[name] = read_index(root / name)
        except ValueError as error:
            skipped.append((f"chunks/{name}/index.json", str(error)))
    items = [(name, key, item) for name, index in indexes.items() for key, item in index.items()]
    for name, key, item in progress(items, "import", len(items) >= BAR_FROM):
        try:
            entry, signs = _read_memory(memory, root / name, key, item)
            other = found.get(entry["key"])
            if other and other[0]["timestamp"] >= entry["timestamp"]:
                raise ValueError(f"chunk {other[0]['chunk']} has a newer memory of the same text")
            if other:
                skipped.append((f"chunks/{other[0]['chunk']}/attractors/{key}.npy",
                                f"chunk {name} has a newer memory of the same text"))
            found[entry["key"]] = entry, signs
        except (OSError, EOFError, LookupError, TypeError, AttributeError, OverflowError, ValueError) as error:
            why = f"no {error}" if isinstance(error, KeyError) else reason(error)
            skipped.append((f"chunks/{name}/attractors/{key}.npy", why))
    if found:
        memory._append(np.stack([signs for _, signs in found.values()]), [entry for entry, _ in found.values()])
    return Imported(len(found), skipped)


def _read_memory(memory, base, key, item):
    """(entry, signs (words,) uint64) of an item of the index of the chunk folder base."""
    text, metadata = item["text"], item.get("metadata") or {}
    own_key = memory.key(text)
    if text.startswith(POLAR) or (type(metadata) is dict and metadata.get("memory_type") in COMPANIONS):
        raise ValueError("a companion of another memory")
    size = (memory.dynamics.height, memory.dynamics.width)
    signs = pack(_read_attractor(base / "attractors" / f"{_part('key', key)}.npy", size)[None])[0]
    ticks = int(item.get("convergence_ticks", 0))
    if not 0 <= ticks < 2**63:
        raise ValueError(f"convergence_ticks is {ticks}; it must be from 0 to 2^63 - 1")
    entry = {"key": own_key, "text": text, "state": str(item.get("state", "CONVERGED")), "ticks": ticks,
             "timestamp": seconds(item["timestamp"]), "metadata": metadata,
             "negative": int(np.bitwise_count(signs).sum()), "chunk": base.name}
    return entry, signs


def _read_attractor(path, size):
    """The attractor (H, W) of a .npy file. Its header is checked first, so that a wrong one is not read at all: a
    memory map would spare that too, and takes three times as long."""
    with open(path, "rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, by_columns, dtype = read(file)
        except Exception as error:  # a damaged header has half a dozen types of errors
            shown = f"{type(error).__name__}: {brief(str(error))}"
            raise ValueError(f"{path} is not a readable .npy file ({shown})") from None
        if shape != size:
            raise ValueError(f"the attractor is {shape}; this memory takes (height, width) {size}")
        if dtype.kind not in "fi":
            raise ValueError(f"the attractor's dtype is {dtype}; it must be a float or a signed integer")
        content = file.read(dtype.itemsize * size[0] * size[1])
    frame = np.frombuffer(content, dtype).reshape(size, order="F" if by_columns else "C")
    most = 1 if dtype.kind == "f" else 127
    with np.errstate(invalid="ignore"):  # numpy warns of some NaN
        inside = (np.abs(frame.astype(np.float64)) <= most).all()
    if not inside:
        raise ValueError(f"the attractor has values outside [-{most}, {most}] or NaN")
    return frame


def export_public(memory, folder, chunk=None):
    """Write every memory into the public layout; returns how many stand there as this store wrote them.

    chunk: the name of the one that takes all; None: each goes to the chunk that it was imported from, others to
    "general". What is there stays, under a lock that other exports respect; a memory there that this store did not
    write and that is as new as ours is left as it is. A text that this store wrote into another chunk before is removed
    there. What this store wrote before and has not changed is not written again. The attractors stand under that
    project's rule (see standing); the history of a brick is the attractor alone. ValueError for a chunk that is no
    folder's name and for an unreadable index.json; nothing is written then. TimeoutError where another process keeps
    the folder locked; OSError that names the folder where the disk refuses it.
    """
    folder = folder_named(folder)
    root, places = folder / "chunks", {}  # chunk -> {key: entry}
    for entry in memory.entries:
        name = _part("chunk", entry.get("chunk", CHUNK) if chunk is None else chunk)
        places.setdefault(name, {})[memory.key(entry["text"])] = entry
    with written_to(folder), locked(folder):
        indexes = {name: read_index(root / name) for name in places}
        place_of, todo = {}, {}
        for name, entries in places.items():
            states = {key: _state(memory, e, root / name, indexes[name].get(key)) for key, e in entries.items()}
            place_of.update((key, name) for key, state in states.items() if state != "theirs")
            todo[name] = {key: e for key, e in entries.items() if states[key] == "new"}
        folders = [root / name / kind for name in places for kind in ("attractors", "bricks")]
        for place in folders:
            place.mkdir(parents=True, exist_ok=True)
            remove_leftover(place, "*.np[yz]")
        count = sum(map(len, todo.values()))
        with progress(None, "export", count >= BAR_FROM, total=count) as bar:
            write_many(_files(memory, root, todo, bar), folders)
        for name, entries in todo.items():
            for key, e in entries.items():
                metadata = e["metadata"] if type(e["metadata"]) is dict else {"metadata": e["metadata"]}
                indexes[name][key] = {
                    "text": e["text"], "state": e["state"], "convergence_ticks": e["ticks"],
                    "timestamp": datetime.fromtimestamp(e["timestamp"], timezone.utc).isoformat(),
                    "metadata": metadata, "chunk": name, "origin": memory.id,
                }  # fmt: skip
            if entries:
                _write_index(root / name, indexes[name])
        _remove_moved(memory, root, place_of)
    return len(place_of)


def _state(memory, entry, base, item):
    """What the item of an index of the same key (or None) means for an entry: it is "new" to it and must be written,
    it "stands" there as this store wrote it, or the item is "theirs" and stays."""
    try:
        age = entry["timestamp"] - seconds(item["timestamp"])  # of the item, in ISO text rounded to microseconds
        own = item.get("origin") == memory.id
    except (LookupError, TypeError, ValueError):
        return "new"
    if own:
        unchanged = abs(age) <= 1e-6 and (base / "attractors" / f"{memory.key(entry['text'])}.npy").exists()
        return "stands" if unchanged else "new"
    return "new" if age > 1e-6 else "theirs"


def _files(memory, root, todo, bar, batch=256):
    """(path, bytes) of all attractors and bricks; the bar counts memories."""
    items = [(root / name, key, e) for name, entries in todo.items() for key, e in entries.items()]
    for start in range(0, len(items), batch):
        part = items[start : start + batch]
        rows = [memory._row[key] for _, key, _ in part]
        frames = standing(unpack(memory._signs[rows], memory.dynamics.height, memory.dynamics.width))
        for (base, key, e), frame in zip(part, frames):
            attractor, brick = io.BytesIO(), io.BytesIO()
            np.save(attractor, frame)
            np.savez(brick, history=frame[None], attractor=frame, convergence_ticks=np.array(e["ticks"]),
                     state=np.array(e["state"]), metadata_json=np.array(json.dumps(e["metadata"])))
            yield base / "attractors" / f"{key}.npy", attractor.getbuffer()
            yield base / "bricks" / f"{key}.npz", brick.getbuffer()
            bar.update()


def _remove_moved(memory, root, place_of):
    """Remove from other chunks what this memory once wrote there and has now written to the chunk place_of[key]."""
    for file in root.glob("*/index.json"):
        base = file.parent
        try:
            index = read_index(base)
        except ValueError:
            continue  # not what this memory wrote, or no more
        own = [key for key, item in index.items() if type(item) is dict and item.get("origin") == memory.id]
        moved = {key for key in own if place_of.get(key, base.name) != base.name}
        if moved:
            _write_index(base, {key: item for key, item in index.items() if key not in moved})
        for key in moved:
            remove(base / "attractors" / f"{key}.npy")
            remove(base / "bricks" / f"{key}.npz")


def read_index(base):
    """The index of the chunk folder base, {} if it has none. ValueError if it cannot be read."""
    file = base / "index.json"
    try:
        index = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} cannot be read: {reason(error)}") from error
    if type(index) is not dict:
        raise ValueError(f"{file} holds {type(index).__name__}, not a dict")
    return index


def _write_index(base, index):
    write_whole(base / "index.json", lambda file: file.write(json.dumps(index).encode()))


def _part(what, name):
    """The name if it can be that of a file or folder in a chunk; else ValueError."""
    if type(name) is not str or name in ("", ".", "..") or any(c in name for c in '/\\\0:'):
        raise ValueError(f"{what} is {name!r}; it must be the plain name of a folder or file")
    return name


def standing(frames):
    """+-1 patterns (B, H, W) float32 as fixed points of the public project's rule, where a flat cell is a minimum.

    A +1 cell whose neighbours are all +1 is flat and would fall. So +1 cells rise towards the middle of their region:
    with d the distance from the nearest -1 cell (steps up, down, left and right) and D the largest d of the frame, a
    +1 cell is 1 - (D - d) 2^-24. Each has a lower neighbour then, none is above 1, and 2^-24 is the spacing of float32
    below 1. -1 cells stay -1. A frame without them cannot stand and stays as it is.
    """
    near = frames < 0
    distance = np.zeros(frames.shape, np.int32)
    while True:
        grown = near.copy()
        for axis in (1, 2):
            for shift in (1, -1):
                grown |= np.roll(near, shift, axis)
        if np.array_equal(grown, near):
            break
        distance += ~near
        near = grown
    high = 1 - (distance.max(axis=(1, 2), keepdims=True) - distance) * 2.0**-24
    return np.where(frames < 0, -1, high).astype(np.float32)

"""The files of a memory's store: manifest.json and the sign file that it names. Reading checks all of it.

manifest.json: format, width, height, tie_break, id (of the store), signs (name of the sign file), crc32 (of the signs'
bytes), earlier (the sign files of the saves before, newest last: they tell whether a store comes from another), entries
(one a memory). signs-<16 hex digits>.npy: uint64 (n, words), see bits.pack. Format 1 had no id, crc32 and earlier.
"""

import hashlib
import json
import re
import secrets
import zlib
from collections import namedtuple
from datetime import datetime, timezone
from operator import itemgetter
from pathlib import Path

import numpy as np

from wheeler.cli import brief, load_array, reason
from wheeler.memory.disk import folder_named, remove, remove_leftover, write_whole
from wheeler_cpu import WheelerMemoryCPU

FORMAT, EARLIER = 2, 1000
MANIFEST = "manifest.json"
FIELDS = {"key": {str}, "text": {str}, "state": {str}, "ticks": {int}, "timestamp": {float, int, str},
          "metadata": {dict, list, str, int, float, bool}, "negative": {int}}
YEAR_1, YEAR_10000 = -62_135_596_800, 253_402_300_800  # what ISO 8601 can say, as seconds since 1970

Saved = namedtuple("Saved", "width height tie_break id signs_name earlier entries signs")


def seconds(stamp):
    """Seconds since 1970 (float) of a number of them, or of ISO 8601 text; text without a zone is UTC.

    ValueError for anything else and for times outside the years 1 to 9999.
    """
    try:
        if isinstance(stamp, str):
            when = datetime.fromisoformat(re.sub("[Zz]$", "+00:00", stamp))  # Python 3.10 does not know the Z
            stamp = (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp()
        if type(stamp) in (int, float) and YEAR_1 <= stamp < YEAR_10000:
            return float(stamp)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"timestamp is {stamp!r}; it must be ISO 8601 text or seconds since 1970, years 1 to 9999")


def counted(signs, rows=4096):
    """(list of the bits that are set in every row, CRC-32 of all bytes) of signs (n, words) uint64, in one pass."""
    counts, crc = [], 0
    for start in range(0, len(signs), rows):
        part = np.ascontiguousarray(signs[start : start + rows])
        counts += np.bitwise_count(part).sum(1, dtype=np.int64).tolist()
        crc = zlib.crc32(part, crc)
    return counts, crc


def key_of(text):
    """The sha256 of a text in hex, as in the public store."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def check_entries(entries):
    """ValueError that names the first entry with a missing or a wrong field. Timestamps become floats."""
    if not isinstance(entries, list):
        raise ValueError(f"entries is {type(entries).__name__}; it must be a list")
    for name, allowed in FIELDS.items():  # column by column, which takes a tenth of the time
        try:
            good = set(map(type, map(itemgetter(name), entries))) <= allowed
        except (KeyError, TypeError, IndexError):
            good = False
        if not good:
            bad = next(k for k, e in enumerate(entries) if type(e) is not dict or type(e.get(name)) not in allowed)
            kinds = " or ".join(sorted(kind.__name__ for kind in allowed))
            raise ValueError(f"entry {bad} has no {name} ({kinds}): {str(entries[bad])[:100]}")
    for k, entry in enumerate(entries):
        if entry["key"] != key_of(entry["text"]):
            raise ValueError(f"entry {k} has the key {brief(entry['key'])}, its text {brief(entry['text'])} another")
        if type(entry["timestamp"]) is not float or not YEAR_1 <= entry["timestamp"] < YEAR_10000:
            entry["timestamp"] = seconds(entry["timestamp"])
    ticks = [entry["ticks"] for entry in entries]
    if entries and not 0 <= min(ticks) <= max(ticks) < 2**63:
        raise ValueError(f"ticks from {min(ticks)} to {max(ticks)}; they must be from 0 to 2^63 - 1")
    for name in ("chunk", "weights"):
        for value in (entry[name] for entry in entries if type(entry.get(name, "")) is not str):
            raise ValueError(f"{name} is {brief(value)}; it must be a string")
    for name, low, high in (("tiles", 0, 2**31), ("exact", 0, 1)):  # how many tell the meaning; are the words there
        for value in {entry.get(name, 0) for entry in entries if type(entry.get(name, 0)) in (int, bool)}:
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}; it must be from {low} to {high}")
        if not {type(entry.get(name, 0)) for entry in entries} <= {int, bool}:
            raise ValueError(f"an entry has a {name} that is no number")
    if len(set(map(itemgetter("key"), entries))) < len(entries):
        raise ValueError("two entries have the same key")


def read_store(folder):
    """The store in a folder: Saved, with signs (n, words) uint64 memory-mapped, each entry checked against its signs.

    Needs no lock: a save that replaces the store meanwhile leaves the old one readable or is followed to the new one.
    ValueError, one for all that can be wrong, names the folder and the trouble.
    """
    folder = folder_named(folder)
    try:
        return _read(folder)
    except (OSError, EOFError, LookupError, TypeError, AttributeError, RecursionError, OverflowError, ValueError) as e:
        why = reason(e) if isinstance(e, (OSError, ValueError)) else repr(e)
        where = f" ({Path(e.filename).name})" if isinstance(e, OSError) and e.filename else ""
        raise ValueError(f"{folder} holds no readable memory store: {why}{where}") from e


def _read(folder):
    missing = None
    while True:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if type(manifest) is not dict or manifest.get("format") not in (1, FORMAT):
            found = manifest.get("format") if type(manifest) is dict else type(manifest).__name__
            raise ValueError(f"store format is {found!r}; this version reads 1 to {FORMAT}")
        entries, name = manifest["entries"], Path(manifest["signs"]).name
        try:  # an empty array cannot be mapped
            signs = load_array(folder / name, mmap_mode="r" if entries else None)
            break
        except FileNotFoundError:
            if name == missing:
                raise
            missing = name  # another process saved since the manifest was read; its manifest names a new file
    dynamics = WheelerMemoryCPU(manifest["width"], manifest["height"], tie_break=manifest["tie_break"])
    check_entries(entries)
    if signs.dtype != np.uint64:
        raise ValueError(f"signs of dtype {signs.dtype}, wanted uint64")
    if signs.shape != (len(entries), -(-dynamics.width * dynamics.height // 64)):
        raise ValueError(f"{len(entries)} entries but signs of shape {signs.shape}")
    counts, crc = counted(signs)
    negative = [entry["negative"] for entry in entries]
    if counts != negative:
        bad = next(k for k, (a, b) in enumerate(zip(counts, negative)) if a != b)
        raise ValueError(f"entry {bad} has {negative[bad]} cells below 0, its signs in {name} have {counts[bad]}")
    if manifest["format"] > 1 and manifest["crc32"] != crc:
        raise ValueError(f"{name} has CRC-32 {crc}, the manifest says {manifest['crc32']}")
    return Saved(dynamics.width, dynamics.height, dynamics.tie_break, str(manifest.get("id") or secrets.token_hex(8)),
                 name, [str(old) for old in manifest.get("earlier", [])], entries, signs)


def write_store(folder, saved):
    """Replace the store in a locked folder by a Saved, under a new sign file, whose name is returned.

    A crash at any moment leaves the old store or the new one: the new signs are on the disk before the manifest names
    them, and the old ones go after the manifest that no longer names them is there.
    """
    name = f"signs-{secrets.token_hex(8)}.npy"
    write_whole(folder / name, lambda file: np.save(file, saved.signs))
    manifest = {"format": FORMAT, "width": saved.width, "height": saved.height, "tie_break": saved.tie_break,
                "id": saved.id, "signs": name, "crc32": counted(saved.signs)[1], "earlier": saved.earlier[-EARLIER:],
                "entries": saved.entries}
    write_whole(folder / MANIFEST, lambda file: file.write(json.dumps(manifest).encode()))
    for old in folder.glob("signs-*.npy"):
        if old.name != name:
            remove(old)
    for pattern in ("signs-*.npy", MANIFEST):
        remove_leftover(folder, pattern)
    return name


def differences(entries, row, there, changes):
    """What a memory takes over from a store that another process wrote: (keys to drop, rows of the store to take).

    entries, row: of the memory, row[key] its place; there: the store's entries. changes: what the memory changed since
    it and the store were the same, key -> timestamp that the entry had then (None: there was none), or None where they
    never were. Without a common past both are united. With one, what either side changed counts, also what it forgot;
    of what both changed the newer timestamp wins, and what this memory forgot stays forgotten.
    """
    changed = {} if changes is None else changes
    known = {entry["key"] for entry in there}
    drop = [key for key in row if key not in known and key not in changed] if changes is not None else []
    take = []
    for k, entry in enumerate(there):
        key = entry["key"]
        mine = entries[row[key]] if key in row else None
        if mine is None:
            better = key not in changed  # else forgotten here
        elif changes is None or key in changed:
            better = entry["timestamp"] > mine["timestamp"] and changed.get(key) != entry["timestamp"]
        else:
            better = entry != mine
        if better:
            take.append(k)
    return drop, take

"""The static page of the folder page/, made ready for any host: its files, and the weights that it needs.

The weights travel in three files that a browser loads when it needs them. Each is a gzip stream of: the length of a
JSON object (4 bytes, little-endian), that object, the tensors one after the other. A tensor is cut into planes, all
first bytes, then all second ones and so on, which gzip packs better. docs/page.md says what stands where.
"""

import base64
import json
import shutil
import zlib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from wheeler.frame.cache import primer_ids
from wheeler.frame.cells import words_bits
from wheeler.frame.code import FRAME_FORMAT, FrameCode

PAGE = Path(__file__).resolve().parents[1] / "page"
EXAMPLES, EXAMPLES_OPEN, EXAMPLES_END = "examples.js", "const EXAMPLES = ", ";\n"
SIDE, MOST_DIMENSIONS = 64, 512                                               # what page/ is made for: see reader.js
MATRICES = {"self_attention.query_key_value": "query_key_value", "self_attention.out": "out", "mlp.up": "up",
            "mlp.down": "down"}                                               # by the names of integer_decoder.Layer
SMALL = ("weight", "prior", "centre", "basis", "gate.weight", "gate.bias", "sharpness", "length", "inject.weight",
         "table.weight")                                                      # of the meaning


def planes(values: np.ndarray, count: int) -> bytes:
    """The lowest `count` bytes of uint32 values, plane after plane, the lowest first."""
    return b"".join((values >> np.uint32(8 * k)).astype(np.uint8).tobytes() for k in range(count))


def is_half(weight: np.ndarray) -> bool:
    """Whether float32 numbers are float16 numbers of the usual kind, of which the last 13 bits are 0."""
    with np.errstate(over="ignore"):
        return bool((weight.astype(np.float16).astype(np.float32) == weight).all())


class Part:
    """A file of tensors in the making. entries: what its JSON object says of each."""

    def __init__(self):
        self.entries, self.chunks, self.at = {}, [], 0

    def _add(self, name: str, kind: str, shape: tuple[int, ...], data: bytes) -> None:
        self.entries[name] = {"kind": kind, "shape": list(shape), "at": self.at}
        self.chunks.append(data)
        self.at += len(data)

    def floats(self, name: str, weight: np.ndarray) -> None:
        """A float32 array, as float16 where that is the same."""
        weight = np.ascontiguousarray(weight, np.float32)
        if is_half(weight):
            bits = weight.astype(np.float16).view(np.uint16).astype(np.uint32)
            self._add(name, "half", weight.shape, planes(bits, 2))
        else:
            self._add(name, "float", weight.shape, planes(weight.view(np.uint32), 4))

    def levels(self, name: str, matrix) -> None:
        """The levels of an integer_decoder.Matrix, and their scales."""
        self._add(name, "levels", matrix.levels.shape, matrix.levels.tobytes())
        self.floats(f"{name}.scales", matrix.scales)

    def rest(self, name: str, weight: np.ndarray, matrix) -> None:
        """What levels times scales lack of a float32 array: the difference of both as bits, its sign the lowest."""
        product = matrix.levels * matrix.scales[:, None]                      # (N, K) float32
        shift, count = (13, 3) if is_half(weight) else (0, 4)
        given, wanted = (np.ascontiguousarray(x).view(np.int32).ravel() >> shift for x in (product, weight))
        lacking = wanted - given
        # In the order of the levels' sizes, where differences of one size stand together: 1.2 MB less.
        order = np.argsort(np.abs(matrix.levels).ravel(), kind="stable")
        folded = (lacking << 1 ^ lacking >> 31)[order].view(np.uint32)
        self._add(name, f"rest {shift}", weight.shape, planes(folded, count))

    def packed(self, about: dict) -> bytes:
        """The file: the entries and what else is to be said, then the tensors."""
        head = json.dumps({**about, "tensors": self.entries}, ensure_ascii=False).encode()
        head += b" " * (-len(head) % 4)
        # As a gzip stream (31). Numbers repeat little: this strategy, which seldom looks back, saves 1%.
        gzip = zlib.compressobj(9, zlib.DEFLATED, 31, 9, zlib.Z_FILTERED)
        return gzip.compress(len(head).to_bytes(4, "little") + head + b"".join(self.chunks)) + gzip.flush()


def vocabulary(tokenizer) -> dict:
    """Tokens in the order of their ids, merges and special ids of a byte-level BPE; ValueError for anything else."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    model, before = state["model"], state["pre_tokenizer"] or {}
    if model["type"] != "BPE" or before.get("type") != "ByteLevel" or before.get("add_prefix_space") or \
            state["normalizer"] or not before.get("use_regex", True):
        raise ValueError("the page reads byte-level BPE alone, and this model has another tokenizer")
    tokens = [""] * (max(tokenizer.get_vocab().values()) + 1)
    for token, number in tokenizer.get_vocab().items():
        tokens[number] = token
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    return {"tokens": tokens, "merges": merges, "special": sorted(tokenizer.all_special_ids)}


def weights_files(model, code: FrameCode) -> dict[str, bytes]:
    """reader.bin: what reading takes; gist.bin: what gists take besides, the decoder's own floats; writer.bin: what
    writing takes besides, the encoder."""
    c, state = model.config, {name: weight.float().cpu().numpy() for name, weight in model.state_dict().items()}
    reader, gist, writer = Part(), Part(), Part()
    reader.floats("embedding", state["decoder.embedding.weight"][: c.vocab_size])
    reader.floats("norm_out", state["decoder.norm_out.weight"])
    for name in SMALL:
        reader.floats(name, state[f"meaning.{name}"])
    for k, layer in enumerate(code.decoder.layers):
        for name, own in MATRICES.items():
            reader.levels(f"{k}.{own}", getattr(layer, own))
            gist.rest(f"{k}.{own}", state[f"decoder.layers.{k}.{name}.weight"], getattr(layer, own))
        for name in ("norm_self", "norm_mlp"):
            reader.floats(f"{k}.{name}", state[f"decoder.layers.{k}.{name}.weight"])
    reader.levels("head", code.decoder.head)
    gist.rest("head", state["decoder.language_head.weight"][: c.vocab_size], code.decoder.head)
    writer.floats("embedding", state["encoder.embedding.weight"][: c.vocab_size])
    writer.floats("norm_text", state["encoder.norm_text.weight"])
    writer.floats("context", state["meaning.context.weight"])
    for k in range(c.encoder_layers):
        for name, own in (*MATRICES.items(), ("norm_self", "norm_self"), ("norm_mlp", "norm_mlp")):
            writer.floats(f"{k}.{own}", state[f"encoder.layers.{k}.{name}.weight"])
    room = [words_bits(code.height, code.width, rows) for rows in range(code.height // 8 + 1)]
    sizes = {name: getattr(c, name) for name in ("vocab_size", "d_model", "num_heads", "max_seq_len", "encoder_layers",
                                                 "decoder_layers", "bos_token_id", "eos_token_id", "pad_token_id")}
    about = {"weights": code.weights_name, "format": FRAME_FORMAT, "side": code.height, "room": room, **sizes,
             "primer": primer_ids(model.tokenizer)}
    return {"reader.bin": reader.packed(about | vocabulary(model.tokenizer)),
            "gist.bin": gist.packed({"weights": code.weights_name}),
            "writer.bin": writer.packed({"weights": code.weights_name})}


def examples(code: FrameCode, stories: list[dict]) -> str:
    """examples.js: the frames of stories, dicts with "title" and "text", as these weights write them."""
    written = code.write_texts([story["text"] for story in stories])
    signs = [np.packbits(one.frame.ravel() < 0).tobytes() for one in written]
    rows = [{"title": story["title"], "text": story["text"],
             "frame": base64.urlsafe_b64encode(bits).decode().rstrip("=")} for story, bits in zip(stories, signs)]
    return EXAMPLES_OPEN + json.dumps({"weights": code.weights_name, "stories": rows}, ensure_ascii=False,
                                      indent=1) + EXAMPLES_END


def stories_of(file: Path) -> list[dict]:
    """The stories of an examples.js."""
    text = file.read_text(encoding="utf-8")
    return json.loads(text.removeprefix(EXAMPLES_OPEN).removesuffix(EXAMPLES_END))["stories"]


def build_page(model, folder: str | Path) -> list[Path]:
    """Write the page and a model's weights into a folder: a new or empty one, or one with an earlier page; the files.
    ValueError where it has other files, or the page cannot read such a model; OSError where the disk refuses."""
    config, folder = model.config, Path(folder)
    if model.tokenizer is None:
        raise ValueError("the page needs a tokenizer, and this model has none")
    if config.grid_size != SIDE or config.d_model > MOST_DIMENSIONS:
        raise ValueError(f"the page is made for grid_size = {SIDE} and d_model up to {MOST_DIMENSIONS}; this model has "
                         f"grid_size = {config.grid_size}, d_model = {config.d_model}")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "reader.bin").is_file():
        raise ValueError(f"{folder} has files that are no page: name a new or an empty folder")
    code = FrameCode(model)
    files = weights_files(model, code)
    files[EXAMPLES] = examples(code, stories_of(PAGE / EXAMPLES)).encode()
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(PAGE.iterdir()):
        if file.is_file() and file.name not in files:
            shutil.copyfile(file, folder / file.name)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return sorted(folder / name for name in {*files, *(file.name for file in PAGE.iterdir() if file.is_file())})


class _Quiet(SimpleHTTPRequestHandler):
    """Files of a folder; says nothing of each request."""

    def log_message(self, *_):
        pass


def server(folder: str | Path, host: str, port: int) -> ThreadingHTTPServer:
    """A plain file server of a folder, not yet started; port 0 takes a free one."""
    return ThreadingHTTPServer((host, port), partial(_Quiet, directory=str(folder)))

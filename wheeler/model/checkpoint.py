"""Checkpoint files: where they are, what stands in for one, and how one is read without trusting it.

A checkpoint is a dict of plain types and tensors, written by torch.save: {"format_version": 3, "config": the fields of
WheelerConfig, "model": state dict, "tokenizer": strings or None}; train.py adds "training".
"""

import os
import pickle
import sys
import zipfile
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wheeler.cli import brief
from wheeler.model.config import WheelerConfig, round_up
from wheeler.model.tokenizer import first_line

CHECKPOINT_FORMAT = 3
DEFAULT = Path("checkpoints/best.pt")                                         # that commands load unless told otherwise
SHIPPED = "wheeler-21m"                                                       # folder of the model in checkpoints/
HOME = Path(__file__).resolve().parents[2] / DEFAULT.parent                   # of the project, wherever one is


class OldFormat(ValueError):
    """A checkpoint or packed model of an earlier format: 1 has an analog frame, 2 no language head of its own."""

    def __init__(self, name: str, version: int):
        super().__init__(f"{name} was written by an earlier version of this project (format {version}, this one reads "
                         f"{CHECKPOINT_FORMAT}) and cannot be read: train again")


def find_checkpoint(path: str | os.PathLike) -> Path:
    """What `load_from_checkpoint(path)` loads: the path, or, where that is a best.pt that training has not written yet,
    the model that comes with the project, a folder beside it.

    Commands may be called from any folder: where it has no checkpoints/best.pt, the project's own stands in, or the
    model that comes with the project. That one is also found by its name, wheeler-21m or checkpoints/wheeler-21m."""
    path = Path(path)
    if path.exists():
        return path
    places = [path.parent / SHIPPED] if path.name == "best.pt" else []
    if path == DEFAULT:
        places += [HOME / "best.pt", HOME / SHIPPED]
    if path in (Path(SHIPPED), DEFAULT.parent / SHIPPED):
        places.append(HOME / SHIPPED)
    return next((place for place in places if place.is_file() or (place / "config.json").is_file()), path)


def announce(path: str | os.PathLike, found: Path) -> None:
    """Say on stderr what stands in for a checkpoint; nothing where it is the one that was asked for."""
    if found.name != Path(path).name:
        print(f"no {path} yet: using {found}, the model that comes with the project", file=sys.stderr)
    elif found != Path(path) and found.name != SHIPPED:
        print(f"no {path} here: using {found}", file=sys.stderr)


def save_weights(state: dict[str, Tensor], folder: Path, shard_size: str) -> None:
    """Safetensors files of a state dict, of shard_size at most, an index where they are several."""
    save_torch_state_dict(state, folder, max_shard_size=shard_size)
    # They come closed to all other users; who may read them is for the umask to say, as with any other file.
    umask = os.umask(0)
    os.umask(umask)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o666 & ~umask)


def read_checkpoint(path: str | os.PathLike) -> dict:
    """The dict of a checkpoint file, tensors on the CPU, read without running code in it; see load_from_checkpoint."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no checkpoint at {path}: train one first, for example with `python train.py`")
    try:
        with zipfile.ZipFile(path) as archive:                                # what torch.save writes is not compressed
            if sum(entry.file_size for entry in archive.infolist()) > os.path.getsize(path):
                raise ValueError("it claims to unpack to more than it is")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:                                                # torch raises half a dozen types here
        reason = first_line(error)
        if isinstance(error, (pickle.UnpicklingError, zipfile.BadZipFile)):   # torch's text advises an unsafe load
            reason = "it is no file of torch.save, or holds more than tensors and plain values"
        raise ValueError(f"{path} is not a readable checkpoint: {reason}") from None
    check_format(checkpoint, str(path))                                       # before anything else is made of it
    return checkpoint


def check_format(checkpoint, name: str) -> None:
    """OldFormat where a checkpoint's dict says that it has an earlier format."""
    version = checkpoint.get("format_version") if isinstance(checkpoint, dict) else None
    if type(version) is int and 1 <= version < CHECKPOINT_FORMAT:
        raise OldFormat(name, version)


def plain_contents(checkpoint: dict, name: str) -> tuple[dict, dict, dict | None]:
    """Config, weights and tokenizer of a checkpoint's dict; ValueError where it is none, or not what it seems."""
    if not isinstance(checkpoint, dict) or not {"format_version", "config", "model"} <= checkpoint.keys():
        raise ValueError(f"{name} is not a Wheeler checkpoint: it has no format_version, config and model")
    check_format(checkpoint, name)
    version, config, weights = (checkpoint[key] for key in ("format_version", "config", "model"))
    if type(version) is not int or version != CHECKPOINT_FORMAT:
        raise ValueError(f"{name} has format version {brief(version)}, wanted {CHECKPOINT_FORMAT}")
    if not isinstance(config, dict) or not isinstance(weights, dict):
        raise ValueError(f"{name} is not a Wheeler checkpoint: its config or model is no dict")
    for key, weight in weights.items():
        # A view can claim a size that its storage does not have.
        if not (isinstance(weight, Tensor) and weight.is_floating_point() and weight.is_contiguous() and
                weight.layout is torch.strided and isinstance(key, str)):
            raise ValueError(f"{name}: {brief(key)} of its model is not a plain tensor of floats")
    return config, weights, checkpoint.get("tokenizer")


def stored_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all weights in a folder's safetensors files; ValueError where one cannot be read."""
    shapes = {}
    for weights in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(weights, "pt") as file:
                shapes |= {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}
        except SafetensorError as error:
            raise ValueError(f"{weights} is not a readable safetensors file: {error}") from None
    return shapes


def check_sizes(config: WheelerConfig, shapes: dict[str, tuple[int, ...]], name: str) -> None:
    """ValueError where a stored config claims other sizes than the tensors beside it have: found out before a model of
    these sizes takes memory."""
    c, d = config, config.d_model
    for part, wanted in (("encoder.layers", c.encoder_layers), ("decoder.grid_layers", c.grid_layers),
                         ("decoder.layers", c.decoder_layers)):
        found = len({key.split(".")[2] for key in shapes if key.startswith(f"{part}.")})
        if found != wanted:
            raise ValueError(f"{name} does not fit its own config: {wanted} {part}, but weights of {found}")
    for key, wanted in (("encoder.embedding.weight", (round_up(c.vocab_size), d)), ("encoder.text_code",
                        (c.max_seq_len, d)), ("encoder.patch_code", (c.num_patches, d)),
                        ("patches.unfold.weight", (c.patch_size**2 * d, d))):
        if shapes.get(key) != wanted:
            raise ValueError(f"{name} does not fit its own config: {key} has shape {shapes.get(key)}, wanted {wanted}")

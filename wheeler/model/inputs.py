"""What goes into the model, checked: texts, token ids, grids and frames. ValueError names the value and the limit."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from wheeler.cli import brief
from wheeler.model.config import WheelerConfig
from wheeler.model.tokenizer import altered, beginning, example


def encode_text(text: str, tokenizer, config: WheelerConfig) -> tuple[list[int], str]:
    """Token ids of a text, closed by the end token, and the characters that are in them: all, or, of a text that is too
    long, those of its first max_seq_len - 1 tokens, without half a character at the end."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"the text is not valid Unicode: {error}") from None
    limit, size = config.max_seq_len - 1, 100 * config.max_seq_len
    # A part is enough of a text of megabytes, if it goes far beyond the limit. How many characters a token has is not
    # known: one of a hundred dashes is possible.
    while True:
        encoding = tokenizer(text[:size], add_special_tokens=False, split_special_tokens=True).encodings[0]
        if size >= len(text) or len(encoding) > 2 * limit:
            break
        size *= 16
    if len(encoding) <= limit:
        return [*encoding.ids, config.eos_token_id], text
    ids, kept = beginning(text, encoding, limit)
    return [*ids, config.eos_token_id], kept


def text_ids(texts: str | list[str], tokenizer, config: WheelerConfig, strict: bool = False,
             frames: Callable[[str], int] | None = None) -> list[list[int]]:
    """Texts -> lists of token ids, each closed by the end token; warnings say that some were too long and cut, and that
    the tokenizer does not give some back; strict: ValueError where one was cut. frames: how many a text takes."""
    if not isinstance(texts, (str, list, tuple)) or len(texts) + isinstance(texts, str) == 0:
        raise ValueError(f"wanted a str or a list of at least one str, not {brief(texts)}")
    texts = [texts] if isinstance(texts, str) else texts
    if tokenizer is None:
        raise ValueError("this model has no tokenizer: pass token ids, or give the model a tokenizer")
    rows, cut, lost = [], [], []
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"wanted a str or a list of str, not a list with {type(text).__name__}")
        ids, kept = encode_text(text, tokenizer, config)
        cut += [text] if kept != text else []
        rows.append(ids)
        lost += altered(tokenizer, [kept], [ids])
    if cut:
        message = (f"{len(cut)} of {len(texts)} texts are longer than max_seq_len = {config.max_seq_len} tokens (end "
                   "token counted)")
        whole = f"; encode_frames writes one of them into about {frames(cut[0])} frames" if frames else ""
        if strict:
            raise ValueError(message + whole)
        warnings.warn(f"{message} and were cut{whole}", stacklevel=4)         # the line of who called encode
    if lost:
        warnings.warn(f"the tokenizer does not give {len(lost)} of {len(texts)} texts back: {example(*lost[0])}",
                      stacklevel=4)
    return rows


def padded(rows: list[list[int]], pad_token_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Lists of token ids -> input_ids (B, T) int64 and mask (B, T) bool, on the device."""
    length = max(map(len, rows))
    ids = torch.full((len(rows), length), pad_token_id)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), True
    return ids.to(device), mask.to(device)


def check_ids(ids: Tensor, mask: Tensor | None, c: WheelerConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids (B, T) and mask (B, T) or None, no padding -> int64 and bool, or ValueError."""
    if ids.dim() != 2 or 0 in ids.shape or ids.shape[1] > c.max_seq_len:
        raise ValueError(f"input_ids has shape {tuple(ids.shape)}, wanted (B, T) with 1 <= T <= {c.max_seq_len}")
    if ids.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"input_ids has dtype {ids.dtype}, wanted int64")
    if ids.device != device:
        raise ValueError(f"input_ids is on {ids.device}, the model on {device}")
    if ids.min() < 0 or ids.max() >= c.vocab_size:
        raise ValueError(f"input_ids spans {ids.min()} .. {ids.max()}, the vocabulary is 0 .. {c.vocab_size - 1}")
    if mask is None:
        return ids.long(), torch.ones_like(ids, dtype=torch.bool)
    if mask.shape != ids.shape:
        raise ValueError(f"attention_mask has shape {tuple(mask.shape)}, input_ids {tuple(ids.shape)}")
    mask = mask.to(device).bool()
    if not mask[:, 0].all() or (mask[:, 1:] & ~mask[:, :-1]).any():
        raise ValueError("attention_mask must be ones, then zeros (padding on the right), at least one 1 a row")
    return ids.long(), mask


def check_frames(frames, height: int, width: int) -> Tensor:
    """Frames (B, H, W) or (H, W), a tensor, an array or lists of numbers -> (B, H, W) float32 on the CPU. ValueError
    for anything else, and for a frame (height, width) whose cells are all negative, zero or positive; the reader checks
    the rest."""
    try:
        out = torch.as_tensor(frames).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"frames must be numbers (B, {height}, {width}) or ({height}, {width}), not "
                         f"{type(frames).__name__} {brief(frames)}") from None
    out = (out[None] if out.dim() == 2 else out).float()
    # A blank picture would be read as a gist of nothing; it is a mistake, so it is said.
    for i, frame in enumerate(out if out.dim() == 3 and out.shape[1:] == (height, width) else ()):
        if torch.isfinite(frame).all() and (frame.sign() == frame.flatten()[0].sign()).all():
            raise ValueError(f"frame {i} says nothing: all its cells are equal or have one sign")
    return out


def check_latent(weight: Tensor, x: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
    """A batched, finite tensor of the dtype and on the device of the model's `weight`, or ValueError. One item without
    batch is taken."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise ValueError(f"{name} must be a floating-point tensor, not {getattr(x, 'dtype', type(x).__name__)}")
    x = x[None] if x.dim() == len(shape) else x
    if x.dim() != len(shape) + 1 or x.shape[1:] != shape or not len(x):
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{name} has shape {tuple(x.shape)}, wanted (B, {wanted}) with B >= 1")
    if x.device != weight.device:
        raise ValueError(f"{name} is on {x.device}, the model on {weight.device}")
    if not torch.isfinite(x).all():
        raise ValueError(f"{name} has NaN or infinite values")
    return x.to(weight.dtype)


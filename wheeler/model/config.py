"""Sizes of the model, and what they may be."""

from dataclasses import dataclass, fields

from wheeler.cli import brief
from wheeler.dynamics.tiles import TILE
from wheeler.model.tokenizer import MOST_VOCABULARY

LARGEST_SIZE = MOST_VOCABULARY  # of any number in a config: beyond it a file is damaged or wants to do harm


def round_up(n: int, multiple: int = 64) -> int:
    """The next multiple: GEMM sides that are not multiples of 64 are slow, and page-fault in hipBLASLt of ROCm 7.2."""
    return -(-n // multiple) * multiple


@dataclass
class WheelerConfig:
    """Sizes of the model; saved as a plain dict in every checkpoint.

    grid_size: side of the square grid, cells. patch_size: side of a patch, cells; None picks the largest that still
    gives at least max_seq_len patches, so that every token can have a patch of its own. max_seq_len: tokens a text can
    have, its end token counted. num_heads: None gives heads of 64 dimensions. dropout: probability in [0, 1).
    """

    vocab_size: int = 8192
    grid_size: int = 64
    d_model: int = 256
    patch_size: int | None = None
    max_seq_len: int = 256
    encoder_layers: int = 2
    grid_layers: int = 0
    decoder_layers: int = 7
    num_heads: int | None = None
    dropout: float = 0.0
    aligned_start: bool = True
    bos_token_id: int = 0
    eos_token_id: int = 1
    pad_token_id: int = 2

    def __post_init__(self):
        for field in fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            if field.default is None:                                         # patch_size, num_heads
                if value is None:
                    continue
                kind = int
            if type(value) is not kind and not (kind is float and type(value) is int):
                raise ValueError(f"{field.name} = {brief(value)} must be {kind.__name__}, not {type(value).__name__}")
            if kind is int and abs(value) > LARGEST_SIZE:
                raise ValueError(f"{field.name} = {value} must be at most {LARGEST_SIZE}")
        for name in ("vocab_size", "grid_size", "d_model", "max_seq_len", "decoder_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least 1")
        for name in ("encoder_layers", "grid_layers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} = {getattr(self, name)} must not be negative")
        if self.patch_size is None:
            fits = [p for p in range(1, self.grid_size + 1)
                    if self.grid_size % p == 0 and (self.grid_size // p) ** 2 >= self.max_seq_len]
            self.patch_size = max(fits, default=1)
        if self.patch_size < 1 or self.grid_size % self.patch_size:
            raise ValueError(f"patch_size = {self.patch_size} must divide grid_size = {self.grid_size}")
        if self.num_heads is None:
            self.num_heads = max(1, self.d_model // 64)
        if self.num_heads < 1 or self.d_model % self.num_heads or (self.d_model // self.num_heads) % 2:
            raise ValueError(f"num_heads = {self.num_heads} must divide d_model = {self.d_model} into even parts")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout = {self.dropout} must be in [0, 1)")
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            if not 0 <= getattr(self, name) < self.vocab_size:
                raise ValueError(f"{name} = {getattr(self, name)} must be in [0, vocab_size = {self.vocab_size})")
        if len({self.bos_token_id, self.eos_token_id, self.pad_token_id}) < 3:
            raise ValueError("bos_token_id, eos_token_id and pad_token_id must differ")

    @property
    def num_patches(self) -> int:
        return (self.grid_size // self.patch_size) ** 2

    @property
    def meaning_dim(self) -> int:
        """Dimensions of a text's meaning: about as many as the tiles of a 64 x 64 frame can tell apart."""
        return 2 * self.d_model

    @property
    def meaning_tiles(self) -> int:
        """Tiles that a frame of grid_size has for meaning: all but the header; 0 where it is too small for any."""
        return max(0, (self.grid_size // TILE) ** 2 - 1)

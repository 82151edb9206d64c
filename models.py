"""Wheeler text autoencoder: text -> (grid_size, grid_size, d_model) grid -> text, and the frame, a picture of it.

    input_ids (B, T) --Encoder--> grid (B, H, W, D) --Decoder--> logits (B, T, V), text
                                                                   |       ^
                                                                write     read      by wheeler_code.FrameCode
                                                                   v       |
                                                    frame (B, H, W) of -1 and +1    <- where the Wheeler dynamics run

    input_ids (B, T) --Meaning--> up to M tiles of the frame --Decoder without a grid--> logits (B, T, V), words, gist

Encoder: token embedding, text self-attention, then one query a grid patch (p x p cells) cross-attends to the text; a
linear map unfolds every patch latent into its p x p x D cells. Decoder: the inverse linear map folds the cells back to
latents, which mix among themselves; an autoregressive transformer with cross-attention to them gives the text. Working
on patches, not cells, is what makes a 64 x 64 grid affordable: attention is over (H/p)(W/p) latents, not H*W cells.

Sources: cross-attention latents, Perceiver IO (arXiv:2107.14795); patch (un)embedding, ViT (arXiv:2010.11929); pre-norm
decoder, GPT-2; rotary positions, RoFormer (arXiv:2104.09864). The aligned start is this project's own: see
`init_weights` (aligned_start.py).

Letters: B batch, T text tokens, L max_seq_len, V vocabulary, H = W grid_size in cells, p patch_size in cells,
N = (H/p)*(W/p) latents, D d_model, nh heads, hd = D // nh.
"""

import hashlib
import math
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from huggingface_hub import PyTorchModelHubMixin, load_torch_model, save_torch_state_dict, snapshot_download
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

from aligned_start import init_weights
from checkpoint import CHECKPOINT_FORMAT, OldFormat, find_checkpoint, plain_contents, read_checkpoint
from meaning import Meaning
from tiles import TILE
from tokenizer import (
    MOST_VOCABULARY,
    first_line,
    tokenizer_from_dict,
    tokenizer_from_json,
    tokenizer_to_dict,
    vocabulary_size,
)

if TYPE_CHECKING:
    from wheeler_code import Reading

SHARD_SIZE = "15MB"                                                          # of weights: code hosts like small files
GIST_TRUST = 1.5        # of a gist in its tiles: it tells more of the text than at 1, and is still fluent (measured)
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
    encoder_layers: int = 4
    grid_layers: int = 2
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
                raise ValueError(f"{field.name} = {value!r:.80} must be {kind.__name__}, not {type(value).__name__}")
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


# ---- parts ----------------------------------------------------------------------------------------------------------


def run_layer(part: nn.Module, function: Callable, *inputs) -> Tensor:
    """function(*inputs). In training with `part.grad_checkpointing` its inner results are not kept for the backward
    pass but computed again there: less memory, a third more time, the same numbers."""
    if part.grad_checkpointing and part.training and torch.is_grad_enabled():
        return recomputed(function, *inputs, use_reentrant=False)
    return function(*inputs)


def rotary_table(length: int, head_dim: int) -> Tensor:
    """(2, length, hd) float32: cosines and signed sines of position * frequency, frequencies 10000^(-2j/hd), for pairs
    of dimensions j and j + hd/2."""
    frequency = 10000.0 ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angle = torch.outer(torch.arange(length, dtype=torch.float64), frequency)
    return torch.stack([torch.cat([angle.cos(), angle.cos()], 1), torch.cat([-angle.sin(), angle.sin()], 1)]).float()


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Apply rotary positions. x: (..., T, hd); rope: (2, T, hd); returns (..., T, hd) in x's dtype."""
    cos, sin = rope.to(x.dtype)                                               # (T, hd) each
    a, b = x.chunk(2, dim=-1)                                                 # (..., T, hd/2) each
    return torch.addcmul(x * cos, torch.cat([b, a], dim=-1), sin)


def linear(n_in: int, n_out: int) -> nn.Linear:
    return nn.Linear(n_in, n_out, bias=False)


@contextmanager
def column_major(*modules: nn.Module):
    """Inside, the matrices of linear layers and of the modules themselves lie transposed in memory where they have more
    rows than columns (CPU only; values and results stay the same). Products with few rows, as in decoding, are 1.4 to
    2.7 times faster so, and slower by half for the wide ones."""
    weights = [m.weight for module in modules for m in module.modules() if m is module or isinstance(m, nn.Linear)
               if hasattr(m, "weight") and m.weight.device.type == "cpu" and m.weight.shape[0] > m.weight.shape[1]]
    originals = [weight.data for weight in weights]
    try:
        for weight in weights:
            weight.data = weight.data.t().contiguous().t()
        yield
    finally:
        for weight, original in zip(weights, originals, strict=True):
            weight.data = original


class MLP(nn.Module):
    def __init__(self, n_in: int, n_hidden: int, n_out: int, dropout: float = 0.0):
        super().__init__()
        self.up, self.down, self.drop = linear(n_in, n_hidden), linear(n_hidden, n_out), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.down(F.gelu(self.up(x))))


class SelfAttention(nn.Module):
    """Multi-head self-attention with rotary positions. Masks are boolean, True means attend."""

    def __init__(self, c: WheelerConfig):
        super().__init__()
        self.num_heads = c.num_heads
        self.query_key_value, self.out = linear(c.d_model, 3 * c.d_model), linear(c.d_model, c.d_model)
        self.drop = nn.Dropout(c.dropout)

    def heads(self, x: Tensor, rope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys, turned by rope (2, T, hd), and values of x (B, T, D): (B, nh, T, hd) each."""
        b, t, d = x.shape
        # view and not rearrange: decoding does this a thousand times a text
        three = self.query_key_value(x).view(b, t, 3, self.num_heads, d // self.num_heads).permute(2, 0, 3, 1, 4)
        q, k = rotate(three[:2], rope)
        return q, k, three[2]

    def forward(self, x: Tensor, rope: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        q, k, v = self.heads(x, rope[:, : x.shape[1]])
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        return self.drop(self.out(y.transpose(1, 2).reshape(x.shape)))

    def step(self, x: Tensor, rope: Tensor, cache: Tensor, t: int) -> Tensor:
        """One token at position t. x: (B, 1, D); cache: (2, B, nh, L, hd) keys and values, filled up to t."""
        q, cache[0, :, :, t : t + 1], cache[1, :, :, t : t + 1] = self.heads(x, rope[:, t : t + 1])
        # No is_causal: with one query it would mean "see key 0 only".
        y = F.scaled_dot_product_attention(q, cache[0, :, :, : t + 1], cache[1, :, :, : t + 1])
        return self.out(y.transpose(1, 2).reshape(x.shape))


# What cross-attention reads: keys and values, (B, nh, S, hd) each, and the position part of its queries, (T, D).
Context = tuple[Tensor, Tensor, Tensor] | None


class CrossAttention(nn.Module):
    """Cross-attention whose scores add a content part and a position part, each with projections of its own.

    The position part (`query_code`, `key_code`, on codes without a batch dimension) is what the aligned start sets: it
    costs nothing per sample. No mask: the context always has its full length, blank where there is no text.
    """

    def __init__(self, c: WheelerConfig):
        super().__init__()
        self.num_heads = c.num_heads
        self.query, self.query_code = linear(c.d_model, c.d_model), linear(c.d_model, c.d_model)
        self.key, self.key_code = linear(c.d_model, c.d_model), linear(c.d_model, c.d_model)
        self.value, self.out = linear(c.d_model, c.d_model), linear(c.d_model, c.d_model)
        self.drop = nn.Dropout(c.dropout)

    def split(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, nh, T, hd)"""
        return x.view(*x.shape[:2], self.num_heads, x.shape[2] // self.num_heads).transpose(1, 2)

    def context(self, context: Tensor, context_code: Tensor, query_code: Tensor) -> Context:
        """What queries at positions query_code (T, D) read of context (B, S, D) at positions context_code (S, D)."""
        keys = self.split(self.key(context) + self.key_code(context_code))    # (B, nh, S, hd)
        return keys, self.split(self.value(context)), self.query_code(query_code)

    def forward(self, x: Tensor, context: Context, t: int = 0) -> Tensor:
        """x: (B, T, D), whose first row stands at position t; returns (B, T, D)."""
        keys, values, positions = context
        q = self.split(self.query(x) + positions[t : t + x.shape[1]])         # (B, nh, T, hd)
        y = F.scaled_dot_product_attention(q, keys, values)
        return self.drop(self.out(y.transpose(1, 2).reshape(x.shape)))


class Layer(nn.Module):
    """Pre-norm transformer layer: self-attention, then cross-attention if `cross`, then MLP."""

    def __init__(self, c: WheelerConfig, cross: bool = False):
        super().__init__()
        self.norm_self, self.self_attention = nn.LayerNorm(c.d_model, bias=False), SelfAttention(c)
        if cross:
            self.norm_cross, self.cross = nn.LayerNorm(c.d_model, bias=False), CrossAttention(c)
        self.norm_mlp = nn.LayerNorm(c.d_model, bias=False)
        self.mlp = MLP(c.d_model, 4 * c.d_model, c.d_model, c.dropout)

    def forward(self, x: Tensor, rope: Tensor, mask: Tensor | None = None) -> Tensor:
        """Bidirectional. x: (B, T, D); mask: (B, 1, 1, T) bool, True means attend."""
        x = x + self.self_attention(self.norm_self(x), rope, mask=mask)
        return x + self.mlp(self.norm_mlp(x))

    def decode(self, x: Tensor, rope: Tensor, context: Context, cache: Tensor | None = None, t: int = 0) -> Tensor:
        """Causal, with cross-attention to the context. x: (B, T, D), or, with a cache (2, B, nh, L, hd), the one token
        at position t. Without a context (None) nothing is read: a language model."""
        x = x + (self.self_attention(self.norm_self(x), rope, causal=True) if cache is None else
                 self.self_attention.step(self.norm_self(x), rope, cache, t))
        if context is not None:
            x = x + self.cross(self.norm_cross(x), context, t)
        return x + self.mlp(self.norm_mlp(x))


# ---- the two halves -------------------------------------------------------------------------------------------------


class Encoder(nn.Module):
    """Text -> patch latents. forward: input_ids (B, T) int64, mask (B, T) bool -> (B, N, D) of unit rms."""

    grad_checkpointing = False                                                # see run_layer

    def __init__(self, c: WheelerConfig):
        super().__init__()
        self.max_seq_len = c.max_seq_len
        self.embedding = nn.Embedding(round_up(c.vocab_size), c.d_model)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.encoder_layers))
        self.norm_text = nn.LayerNorm(c.d_model, bias=False)
        self.blank = nn.Parameter(torch.empty(c.d_model))                     # stands where there is no text
        self.text_code = nn.Parameter(torch.empty(c.max_seq_len, c.d_model))
        self.patch_code = nn.Parameter(torch.empty(c.num_patches, c.d_model))
        self.patch_query = nn.Parameter(torch.empty(c.num_patches, c.d_model))
        self.norm_query, self.cross = nn.LayerNorm(c.d_model, bias=False), CrossAttention(c)
        self.norm_mlp = nn.LayerNorm(c.d_model, bias=False)
        self.mlp = MLP(c.d_model, 4 * c.d_model, c.d_model, c.dropout)
        self.norm_out = nn.LayerNorm(c.d_model, bias=False)
        self.register_buffer("rope", rotary_table(c.max_seq_len, c.d_model // c.num_heads), persistent=False)

    def states(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """(B, T) -> what the self-attention layers make of each token, (B, T, D)."""
        x = self.embedding(input_ids)                                         # (B, T, D)
        for layer in self.layers:
            x = run_layer(self, layer, x, self.rope, mask[:, None, None, :])  # (B, T, D)
        return self.norm_text(x)

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        # Every padded or missing position holds the same vector, so padding and batch mates change nothing, and the
        # cross-attention below needs no mask (an arbitrary mask loses the fast attention kernels).
        x = self.states(input_ids, mask)                                      # (B, T, D)
        x = torch.where(mask[..., None], x, self.blank.to(x.dtype))
        blank = self.blank.to(x.dtype).expand(len(x), self.max_seq_len - x.shape[1], -1)
        text = torch.cat([x, blank], dim=1)                                   # (B, L, D)
        latents = self.patch_query.expand(len(x), -1, -1)                     # (B, N, D)
        context = self.cross.context(text, self.text_code, self.patch_code)
        latents = latents + self.cross(self.norm_query(latents), context)
        latents = latents + self.mlp(self.norm_mlp(latents))
        return self.norm_out(latents)                                         # (B, N, D)


class Patches(nn.Module):
    """Linear maps between patch latents (B, N, D) and the grid's cells (B, H, W, D)."""

    def __init__(self, c: WheelerConfig):
        super().__init__()
        self.side, self.p = c.grid_size // c.patch_size, c.patch_size
        self.unfold, self.fold = linear(c.d_model, self.p**2 * c.d_model), linear(self.p**2 * c.d_model, c.d_model)

    def to_grid(self, latents: Tensor) -> Tensor:
        return rearrange(self.unfold(latents), "b (h w) (p q d) -> b (h p) (w q) d", h=self.side, p=self.p, q=self.p)

    def from_grid(self, grid: Tensor) -> Tensor:
        return self.fold(rearrange(grid, "b (h p) (w q) d -> b (h w) (p q d)", p=self.p, q=self.p))


class Decoder(nn.Module):
    """Text from patch latents. forward: inputs (B, T) int64 shifted right, context of latents -> hidden (B, T, D)."""

    grad_checkpointing = False                                                # see run_layer

    def __init__(self, c: WheelerConfig):
        super().__init__()
        # A table of its own: with the encoder's, the previous token would compete with the one that is read.
        self.embedding = nn.Embedding(round_up(c.vocab_size), c.d_model)
        self.norm_latents = nn.LayerNorm(c.d_model, bias=False)
        self.grid_layers = nn.ModuleList(Layer(c) for _ in range(c.grid_layers))
        self.norm_memory = nn.LayerNorm(c.d_model, bias=False)
        self.target_code = nn.Parameter(torch.empty(c.max_seq_len, c.d_model))
        self.patch_code = nn.Parameter(torch.empty(c.num_patches, c.d_model))
        self.layers = nn.ModuleList(Layer(c, cross=True) for _ in range(c.decoder_layers))
        self.norm_out = nn.LayerNorm(c.d_model, bias=False)
        length = max(c.max_seq_len, c.num_patches)
        self.register_buffer("rope", rotary_table(length, c.d_model // c.num_heads), persistent=False)

    def context(self, latents: Tensor) -> list[Context]:
        """What every layer's cross-attention reads of latents (B, N, D)."""
        x = self.norm_latents(latents)
        for layer in self.grid_layers:
            x = run_layer(self, layer, x, self.rope)                          # (B, N, D)
        x = self.norm_memory(x)
        return [layer.cross.context(x, self.patch_code, self.target_code) for layer in self.layers]

    def forward(self, inputs: Tensor, context: list[Context] | None, told: Tensor | None = None) -> Tensor:
        """context: what `context(latents)` gives; None: blank latents, the decoder as a language model. told (B, T, D):
        what `Meaning.injection` says."""
        x = self.embedding(inputs)                                            # (B, T, D)
        x = x if told is None else x + told
        for layer, read in zip(self.layers, context or [None] * len(self.layers), strict=True):
            x = run_layer(self, layer.decode, x, self.rope, read)
        return self.norm_out(x)                                               # (B, T, D)

    def new_caches(self, rows: int, length: int) -> list[Tensor]:
        """Room for the keys and values of `length` positions, (2, rows, nh, length, hd) a layer."""
        nh, hd = self.layers[0].self_attention.num_heads, self.rope.shape[-1]
        return [self.target_code.new_empty(2, rows, nh, length, hd) for _ in self.layers]

    def step(self, inputs: Tensor, context: list[Context] | None, caches: list[Tensor], t: int,
             told: Tensor | None = None) -> Tensor:
        """forward for position t alone. inputs: (B, 1); told: (B, 1, D); returns (B, 1, D)."""
        x = self.embedding(inputs)
        x = x if told is None else x + told
        for layer, read, cache in zip(self.layers, context or [None] * len(self.layers), caches, strict=True):
            x = layer.decode(x, self.rope, read, cache, t)
        return self.norm_out(x)


def text_bits(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """(B,) float64: what logits (B, T, V) charge for texts ids (B, T), in bits, padding (mask False) left out."""
    nats = F.cross_entropy(logits.float().transpose(1, 2), ids, reduction="none") * mask
    return nats.double().sum(1) / math.log(2)


class Teller:
    """Decoding without a grid, token by token, told by meaning tiles: what `WheelerTextAutoencoder.told` does at once.

    estimate (B, Dm), tiles (B,): see `told`; length: tokens at most; trust: how much the tiles' evidence counts, 1 as
    in `told`.
    """

    def __init__(self, model: "WheelerTextAutoencoder", estimate: Tensor, tiles: Tensor, length: int,
                 trust: float = 1.0):
        self.model, self.told, self.trust = model, model.meaning.told(estimate, tiles), trust
        self.caches = model.decoder.new_caches(len(estimate), length)
        self.said = torch.zeros_like(estimate)[:, None]                       # (B, 1, Dm): sum of what was said
        self.known = torch.full((len(estimate), 1, length), model.config.pad_token_id, device=estimate.device)

    def step(self, tokens: Tensor, t: int) -> Tensor:
        """tokens (B, 1): what stands at t - 1, bos at t = 0. Returns the logits of position t, (B, V)."""
        meaning = self.model.meaning
        if t:
            count = (self.known[:, 0, : t - 1] == tokens).sum(1, keepdim=True)
            weight = meaning.weight[tokens].exp() / (1 + count) * (tokens != self.model.config.eos_token_id)
            self.said = self.said + meaning.table(tokens) * weight[..., None]
            self.known[:, 0, t - 1] = tokens[:, 0]
        hidden = self.model.decoder.step(tokens, None, self.caches, t, meaning.injection(self.told, self.said))
        logits = self.model.head(hidden)
        told = meaning.evidence(logits, hidden, self.told, self.said, self.known)
        return (told if self.trust == 1 else logits + self.trust * (told - logits))[:, 0]

    def keep(self, rows: list[int]) -> None:
        """Go on with these rows alone."""
        self.told, self.said, self.known = self.told.keep(rows), self.said[rows], self.known[rows]
        self.caches = [cache[:, rows] for cache in self.caches]


class WheelerTextAutoencoder(nn.Module, PyTorchModelHubMixin, library_name="wheeler-ai", tags=["text-autoencoder"]):
    """Text autoencoder with a (grid_size, grid_size, d_model) grid as its latent, and a frame, a picture of its text.

    >>> model = WheelerTextAutoencoder.load_from_checkpoint("checkpoints/best.pt")
    >>> grid = model.encode("Hello world")                  # (1, 64, 64, 256) float32
    >>> frame = model.get_grid_as_image(grid)               # (1, 64, 64) float32 of -1 and +1
    >>> model.decode(grid)                                  # "Hello world"
    >>> model.decode(model.set_grid_from_image(frame))      # "Hello world", read from the frame alone

    `tokenizer` is a `PreTrainedTokenizerFast` (or None: then texts go in and out as token ids); it travels inside every
    checkpoint. A new model has random weights in the documented start of `init_weights`.
    """

    def __init__(self, config: WheelerConfig, tokenizer=None):
        super().__init__()
        if not isinstance(config, WheelerConfig):
            raise ValueError(f"config must be a WheelerConfig, not {type(config).__name__}")
        self.config, self.tokenizer = config, tokenizer
        size = 0 if tokenizer is None else vocabulary_size(tokenizer)
        if size > config.vocab_size:
            raise ValueError(f"the tokenizer has {size} entries, more than vocab_size = {config.vocab_size}")
        self.encoder, self.patches = Encoder(config), Patches(config)
        self.decoder = Decoder(config)
        self.meaning = Meaning(config.vocab_size, config.d_model, config.meaning_dim, config.meaning_tiles)
        init_weights(self)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, meaning_tiles: Tensor | None = None,
                blank_rows: int = 0) -> tuple[Tensor, Tensor]:
        """Teacher forcing: bos is prepended inside, logits at t predict token t of input_ids.

        input_ids: (B, T) int64, T <= max_seq_len, every text closed by its end token. attention_mask: (B, T), 1 for
        text, 0 for padding on the right; None: no padding. The first texts of the batch are decoded from their grid,
        then len(meaning_tiles) from so many of their meaning tiles, (R,) int64, the last blank_rows from nothing (the
        decoder as a language model). Returns logits (B, T, V) and grid (B - R - blank_rows, H, W, D). Padded positions
        have logits too: leave them out of the loss.
        """
        c, told = self.config, 0 if meaning_tiles is None else len(meaning_tiles)
        if input_ids.shape[1] > c.max_seq_len:
            raise ValueError(f"input_ids has {input_ids.shape[1]} tokens, max_seq_len is {c.max_seq_len}")
        mask = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        read = len(input_ids) - told - blank_rows                             # rows whose latents are read
        if read < 0 or blank_rows < 0:
            raise ValueError(f"{told} meaning_tiles and blank_rows = {blank_rows} do not fit a batch of "
                             f"{len(input_ids)}")
        grid = self.patches.to_grid(self.encoder(input_ids[:read], mask[:read]))               # (read, H, W, D)
        logits = []
        if read:
            latents = self.patches.from_grid(grid)                            # (read, N, D)
            inputs = F.pad(input_ids[:read, :-1], (1, 0), value=c.bos_token_id)
            logits.append(self.head(self.decoder(inputs, self.decoder.context(latents))))
        if told:
            ids, text = input_ids[read : read + told], mask[read : read + told]
            codes = self.meaning.shown(self.meanings(ids, text), c.meaning_tiles)
            present = torch.arange(c.meaning_tiles, device=ids.device) < meaning_tiles[:, None]
            estimate = self.meaning.estimate(codes * present[..., None], meaning_tiles)
            logits.append(self.told(ids, text, estimate, meaning_tiles))
        if blank_rows:
            logits.append(self.told(input_ids[-blank_rows:], mask[-blank_rows:], None, None))
        return torch.cat(logits), grid

    def says(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, T) bool: tokens that count for a text's meaning, all but its end."""
        return mask & (ids != self.config.eos_token_id)

    def meanings(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids (B, T), mask (B, T) bool -> meanings (B, Dm) of rms 1."""
        # The encoder's layers serve the grid; training them through the tiles as well costs a third more time.
        with torch.no_grad():
            states = self.encoder.states(ids, mask)
        return self.meaning(ids, self.says(ids, mask), states)

    def told(self, ids: Tensor, mask: Tensor, estimate: Tensor | None, tiles: Tensor | None) -> Tensor:
        """Logits (B, T, V) of a decoder that sees no grid, but, if given, an estimate (B, Dm) of the text's meaning
        that comes from (B,) tiles; see `Meaning.estimate`."""
        c, meaning = self.config, self.meaning
        inputs = F.pad(ids[:, :-1], (1, 0), value=c.bos_token_id)
        if estimate is None:
            return self.head(self.decoder(inputs, None))
        told = meaning.told(estimate, tiles)
        said = meaning.before(meaning.terms(ids, self.says(ids, mask)))       # (B, T, Dm)
        hidden = self.decoder(inputs, None, meaning.injection(told, said))
        # What stands before t is known there; the padding's logit, which nobody asks for, takes the places after it.
        known = ids[:, None].expand(-1, ids.shape[1], -1)                     # (B, T, T)
        known = known.tril(-1) + torch.full_like(known, c.pad_token_id).triu()
        return meaning.evidence(self.head(hidden), hidden, told, said, known)

    def head(self, hidden: Tensor) -> Tensor:
        """(B, T, D) -> logits (B, T, V); the head is the encoder's embedding table."""
        return F.linear(hidden, self.encoder.embedding.weight)[..., : self.config.vocab_size]

    # ---- text in and out ----

    def _tokenize(self, texts: str | list[str]) -> tuple[Tensor, Tensor]:
        """Texts -> input_ids (B, T) and mask (B, T), each text closed by its end token, cut aloud where too long."""
        if not isinstance(texts, (str, list, tuple)) or len(texts) + isinstance(texts, str) == 0:
            raise ValueError(f"wanted a str or a list of at least one str, not {texts!r:.80}")
        texts = [texts] if isinstance(texts, str) else texts
        if self.tokenizer is None:
            raise ValueError("this model has no tokenizer: pass token ids, or give the model a tokenizer")
        limit, rows, cut = self.config.max_seq_len - 1, [], 0
        for text in texts:
            if not isinstance(text, str):
                raise ValueError(f"wanted a str or a list of str, not a list with {type(text).__name__}")
            try:
                text.encode("utf-8")
            except UnicodeEncodeError as error:
                raise ValueError(f"the text is not valid Unicode: {error}") from None
            ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            cut += len(ids) > limit
            rows.append(ids[:limit] + [self.config.eos_token_id])
        if cut:
            warnings.warn(f"{cut} of {len(texts)} texts are longer than max_seq_len = {limit + 1} tokens (end token "
                          "counted) and were cut", stacklevel=3)
        return self._padded(rows)

    def _padded(self, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Lists of token ids -> input_ids (B, T) int64 and mask (B, T) bool, on the model's device."""
        device = self.encoder.embedding.weight.device
        length = max(map(len, rows))
        ids = torch.full((len(rows), length), self.config.pad_token_id)
        mask = torch.zeros(len(rows), length, dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), True
        return ids.to(device), mask.to(device)

    def _check_ids(self, ids: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        c, device = self.config, self.encoder.embedding.weight.device
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

    @torch.no_grad()
    def encode(self, text: str | list[str] | Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Text, list of texts, or token ids (B, T) (each row closed by the end token, as `tokenizer(text)` gives them)
        with their mask (1 text, 0 padding) -> grid (B, H, W, D), on the model's device and in its dtype.

        A text longer than max_seq_len - 1 tokens is cut with a warning. Raises ValueError for an empty list, non-text,
        invalid Unicode, and ids of the wrong shape, dtype, device or range.
        """
        if isinstance(text, Tensor):
            ids, mask = self._check_ids(text, attention_mask)
        else:
            ids, mask = self._tokenize(text)
        return self.patches.to_grid(self.encoder(ids, mask))

    def _check_latent(self, x: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
        """A batched, finite tensor of the model's dtype and device, or ValueError. One item without batch is taken."""
        weight = self.encoder.embedding.weight
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

    def _check_grid(self, grid: Tensor) -> Tensor:
        c = self.config
        return self._check_latent(grid, "grid", (c.grid_size, c.grid_size, c.d_model))

    def get_grid_as_image(self, grid: Tensor) -> Tensor:
        """Grid (B, H, W, D) or (H, W, D) -> frame (B, H, W) float32 of -1 and +1, on the grid's device: the one frame,
        that of the text that the grid holds, as `encode_frame` writes it, with the same warning."""
        grid, c = self._check_grid(grid), self.config
        rows = [[*ids[: c.max_seq_len - 1], c.eos_token_id] for ids in self.decode(grid, return_ids=True)]
        return self._write_frames(rows).to(grid.device)

    def set_grid_from_image(self, frame: Tensor) -> Tensor:
        """Frame (B, H, W) or (H, W) with values in [-1, 1] -> grid (B, H, W, D) of the text that the frame says, or of
        its gist, with the warning of `decode_frame`. Only signs are read."""
        c = self.config
        frame = self._check_latent(frame, "frame", (c.grid_size, c.grid_size))
        if frame.abs().max() > 1:
            raise ValueError(f"frame spans {frame.min():.4g} .. {frame.max():.4g}, wanted values in [-1, 1]")
        rows = [[*[token for token in reading.ids if token != c.eos_token_id][: c.max_seq_len - 1], c.eos_token_id]
                for reading in self._readings(frame)]
        return self.encode(*self._padded(rows))

    @torch.no_grad()
    def decode(self, grid: Tensor, start_token_id: int | None = None, end_token_id: int | None = None,
               max_length: int | None = None, temperature: float = 0.0, top_k: int = 0, top_p: float = 1.0,
               generator: torch.Generator | None = None, use_cache: bool = True,
               return_ids: bool = False) -> str | list[str] | list[list[int]]:
        """Grid (B, H, W, D) or (H, W, D) -> text, free-running: a str for one grid, a list of B str for several.

        start_token_id, end_token_id: default bos and eos of the config. max_length: tokens at most, 1 .. max_seq_len
        (the default). temperature 0 is greedy; above it samples among the top_k likeliest (0: all) and the smallest set
        with probability top_p. Every row stops at its own end token. return_ids gives lists of token ids without it.
        use_cache=False recomputes the whole prefix at every token: the same result, for tests and benchmarks.
        """
        c = self.config
        grid = self._check_grid(grid)
        start = c.bos_token_id if start_token_id is None else start_token_id
        end = c.eos_token_id if end_token_id is None else end_token_id
        for name, value in (("start_token_id", start), ("end_token_id", end)):
            if not 0 <= value < c.vocab_size:
                raise ValueError(f"{name} = {value} must be in [0, vocab_size = {c.vocab_size})")
        max_length = c.max_seq_len if max_length is None else max_length
        if not 1 <= max_length <= c.max_seq_len:
            raise ValueError(f"max_length = {max_length} must be in 1 .. max_seq_len = {c.max_seq_len}")
        if not temperature >= 0 or top_k < 0 or not 0 < top_p <= 1:
            raise ValueError(f"temperature = {temperature} and top_k = {top_k} must not be negative, "
                             f"top_p = {top_p} must be in (0, 1]")
        if self.tokenizer is None and not return_ids:
            raise ValueError("this model has no tokenizer: use return_ids=True, or give the model a tokenizer")
        latents = self.patches.from_grid(grid)                                # (B, N, D)
        tokens = torch.full((len(grid), max_length + 1), end, device=grid.device)
        tokens[:, 0] = start
        done = torch.zeros(len(grid), dtype=torch.bool, device=grid.device)
        if use_cache:
            # In rows, not as views of (B, N, D): one query reads them twice as fast, at every token.
            context = [(k.contiguous(), v.contiguous(), code) for k, v, code in self.decoder.context(latents)]
            caches = self.decoder.new_caches(len(grid), max_length)
        with column_major(self.decoder, self.encoder.embedding):
            for t in range(max_length):
                if use_cache:
                    hidden = self.decoder.step(tokens[:, t : t + 1], context, caches, t)
                else:
                    hidden = self.decoder(tokens[:, : t + 1], self.decoder.context(latents))[:, -1:]
                token = self._choose(self.head(hidden)[:, 0], temperature, top_k, top_p, generator)
                tokens[:, t + 1] = torch.where(done, end, token)
                done |= token == end
                if done.all():
                    break
        ids = [row[: row.index(end)] if end in row else row for row in tokens[:, 1:].tolist()]
        if return_ids:
            return ids
        texts = [self.tokenizer.decode(row, skip_special_tokens=True) for row in ids]
        return texts[0] if len(texts) == 1 else texts

    @staticmethod
    def _choose(logits: Tensor, temperature: float, top_k: int, top_p: float, generator) -> Tensor:
        """(B, V) logits -> (B,) token ids."""
        if temperature == 0:
            return logits.argmax(-1)
        ordered, index = logits.double().sort(-1, descending=True)            # (B, V)
        probability = ((ordered - ordered[:, :1]) / temperature).softmax(-1)  # the largest is 0: no overflow
        keep = probability.cumsum(-1) - probability < top_p                   # the first token is always kept
        if top_k:
            keep[:, top_k:] = False
        choice = torch.multinomial(probability * keep, 1, generator=generator)
        return index.gather(-1, choice)[:, 0]

    # ---- text that survives the dynamics; wheeler_code.py and wheeler_cpu.py are imported when asked for ----

    def encode_frame(self, text: str | list[str], redundant: bool = False, strict: bool = False) -> Tensor:
        """Text or list of texts -> frames (B, H, W) float32 of -1 and +1, on the CPU: fixed points of the Wheeler
        dynamics that come back whole from any disturbance that keeps the signs (see wheeler_code.py). A frame shows the
        text's meaning, as much as fits, and its words. Texts that are near have near frames.

        redundant: a code that also withstands flipped signs and erased areas; it holds about a third, and hardly any
        meaning. A text whose words do not fit gets a frame of its meaning alone, with a UserWarning that says how many
        bits it costs and how many there are; strict: ValueError instead.
        """
        ids, mask = self._tokenize(text)
        rows = [row[keep].tolist() for row, keep in zip(ids, mask, strict=True)]
        return self._write_frames(rows, redundant, strict)

    def _write_frames(self, rows: list[list[int]], redundant: bool = False, strict: bool = False) -> Tensor:
        """Token ids, each text closed by the end token -> frames (B, H, W)."""
        from wheeler_code import FrameCode, cost_of, frame_bits

        code = FrameCode(self)
        written = code.write(rows, redundant)
        for i, one in enumerate(written):
            if not one.fits:
                cost, = code.charges([rows[i]], [one.tiles[:0]])
                message = (f"text {i} costs {cost_of(cost):.0f} bits under this model, a frame of {code.height} x "
                           f"{code.width} holds about {frame_bits(code.height, code.width, redundant=redundant):.0f}")
                if strict:
                    raise ValueError(message)
                warnings.warn(f"{message}: the frame holds its gist, not its words", stacklevel=3)
        return torch.from_numpy(np.stack([one.frame for one in written]))

    def read_frame(self, frames: Tensor) -> list["Reading"]:
        """Frames (B, H, W) or (H, W) -> a list of readings, each with `text`, `exact` (True only where the checksum
        agrees: then the text is what was written, word for word; else it is a gist), `meaning_tiles`, `bits` of the
        words and `foreign` (other weights wrote the frame; nothing can be read). Only signs are read, 0 is unknown.

        Raises ValueError for frames of another size, with NaN, or of a single sign.
        """
        from wheeler_code import FrameCode

        frames = torch.as_tensor(frames).detach().cpu()
        frames = (frames[None] if frames.dim() == 2 else frames).float()
        code = FrameCode(self)
        if frames.dim() == 3 and frames.shape[1:] == (code.height, code.width):
            for i, frame in enumerate(frames):
                if torch.isfinite(frame).all() and (frame.sign() == frame.flatten()[0].sign()).all():
                    raise ValueError(f"frame {i} says nothing: all its cells have one sign")
        return code.read(frames.numpy())

    def decode_frame(self, frame: Tensor) -> str | list[str]:
        """Frames (B, H, W) or (H, W) of `encode_frame` -> text, a str for one frame. Where the words are damaged or
        were not in it, the gist, with a UserWarning. ValueError for a frame of other weights, and as `read_frame`."""
        if self.tokenizer is None:
            raise ValueError("this model has no tokenizer: use read_frame for token ids")
        texts = [reading.text for reading in self._readings(frame)]
        return texts[0] if len(texts) == 1 else texts

    def _readings(self, frame: Tensor) -> list["Reading"]:
        """`read_frame`; warns of gists, ValueError where other weights wrote a frame."""
        readings = self.read_frame(frame)
        foreign = [str(i) for i, reading in enumerate(readings) if reading.foreign]
        if foreign:
            raise ValueError(f"frame {', '.join(foreign)}: its header names other weights than these; only the model "
                             "that wrote a frame can read it")
        gists = [str(i) for i, reading in enumerate(readings) if not reading.exact]
        if gists:
            warnings.warn(f"frame {', '.join(gists)}: no words to be trusted (damaged, or too many for the frame): the "
                          "text is a gist", stacklevel=3)
        return readings

    @torch.no_grad()
    def bits(self, texts: str | list[str]) -> list[float]:
        """What the language model, with nothing else to go by, charges for each text, in bits, end token included."""
        ids, mask = self._tokenize(texts)
        out = []
        for start in range(0, len(ids), 16):
            part, keep = ids[start : start + 16], mask[start : start + 16]
            out += text_bits(self.told(part, keep, None, None), part, keep).tolist()
        return out

    @torch.no_grad()
    def retell(self, estimate: Tensor, tiles: Tensor, max_length: int | None = None) -> list[list[int]]:
        """Estimates (B, Dm) of meanings that come from (B,) tiles -> token ids of texts that say so, greedy, closed by
        the end token where it was reached: gists."""
        c, out = self.config, [[] for _ in estimate]
        length = max_length or c.max_seq_len
        teller, going = Teller(self, estimate, tiles, length, GIST_TRUST), list(range(len(estimate)))
        tokens = torch.full((len(estimate), 1), c.bos_token_id, device=estimate.device)
        with column_major(self.decoder, self.encoder.embedding):
            for t in range(length):
                tokens = teller.step(tokens, t).argmax(-1, keepdim=True)
                for row, token in zip(going, tokens[:, 0].tolist(), strict=True):
                    out[row].append(token)
                left = [i for i, row in enumerate(going) if out[row][-1] != c.eos_token_id]
                if not left:
                    break
                if len(left) < len(going):
                    teller.keep(left)
                    going, tokens = [going[i] for i in left], tokens[left]
        return out

    @torch.no_grad()
    def interpolate(self, a: str, b: str, steps: int = 5) -> list[str]:
        """Texts from a to b, through their meaning: first a, last b, between them steps - 2 gists of mixed meanings, at
        equal distances. steps must be at least 2."""
        if steps < 2:
            raise ValueError(f"steps = {steps} must be at least 2")
        ids, mask = self._tokenize([a, b])
        first, last = self.meanings(ids, mask)
        shares = torch.linspace(0, 1, steps, device=first.device)[1:-1, None]
        middle = self.retell_meanings(torch.lerp(first, last, shares)) if steps > 2 else []
        return [a, *(self.tokenizer.decode(row, skip_special_tokens=True) for row in middle), b]

    def retell_meanings(self, meanings: Tensor) -> list[list[int]]:
        """Meanings (B, Dm) of any length -> `retell` of the tiles that a frame without words shows of them."""
        count, meaning = self.config.meaning_tiles, self.meaning
        codes = meaning.codes()[meaning.choose(meanings, count)]
        tiles = torch.full((len(meanings),), float(count), device=meanings.device)
        return self.retell(meaning.estimate(codes, tiles), tiles)

    def survive(self, text: str, ticks: int | None = None, noise: float = 0.5, seed: int = 0, redundant: bool = False):
        """Write a text into a frame, disturb it, let the dynamics run, read it: returns (text read back, Trajectory).

        noise: amplitude of uniform noise added to every cell, then clipped to [-1, 1]; below 1 it keeps the signs.
        ticks: how long the automaton runs; None: to its attractor.
        """
        from wheeler_cpu import WheelerMemoryCPU, add_noise

        if noise < 0 or (ticks is not None and ticks < 1):
            raise ValueError(f"noise = {noise} must not be negative, ticks = {ticks} must be at least 1 or None")
        frame = self.encode_frame(text, redundant)[0]
        disturbed = add_noise(frame.numpy(), noise, np.random.default_rng(seed))
        dynamics = WheelerMemoryCPU(frame.shape[1], frame.shape[0])
        trajectory = dynamics.run_dynamics(disturbed, **({} if ticks is None else {"max_ticks": ticks}))
        return self.decode_frame(torch.as_tensor(trajectory.final_frame)), trajectory

    # ---- checkpoints ----

    def to_checkpoint(self) -> dict:
        """What a checkpoint needs to be self-contained, plain types only; train.py adds the state of training."""
        return {"format_version": CHECKPOINT_FORMAT, "config": asdict(self.config), "model": self.state_dict(),
                "tokenizer": None if self.tokenizer is None else tokenizer_to_dict(self.tokenizer)}

    @classmethod
    def from_checkpoint(cls, checkpoint: dict, name: str = "checkpoint") -> "WheelerTextAutoencoder":
        """The model of a dict as `to_checkpoint` writes it, in eval mode, or ValueError that says what is wrong."""
        stored, weights, tokenizer = plain_contents(checkpoint, name)
        unknown = stored.keys() - {field.name for field in fields(WheelerConfig)}
        if unknown:
            raise ValueError(f"{name} has unknown config entries: {', '.join(sorted(map(str, unknown)))}")
        try:
            config = WheelerConfig(**stored)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        check_sizes(config, {key: tuple(weight.shape) for key, weight in weights.items()}, name)
        model = cls(config, None if tokenizer is None else tokenizer_from_dict(tokenizer))
        try:
            model.load_state_dict(weights, strict=True)
        except RuntimeError as error:
            raise ValueError(f"{name} does not fit its own config: {str(error).splitlines()[-1].strip()}") from None
        return model.eval()

    @classmethod
    def load_from_checkpoint(cls, path: str | os.PathLike, map_location="cpu") -> "WheelerTextAutoencoder":
        """Load a checkpoint of train.py (weights only: loading never runs code), or a folder of `save_pretrained`, onto
        any device, in eval mode and float32. See `find_checkpoint` for what stands in for a best.pt that is not there.

        Raises FileNotFoundError where there is no such file, ValueError where it is not a checkpoint of this project.
        """
        found = find_checkpoint(path)
        if found != Path(path):
            print(f"no {path} yet: using {found}, the model that comes with the project", file=sys.stderr)
        if not found.is_dir():
            return cls.from_checkpoint(read_checkpoint(found), str(path)).to(map_location)
        if not (found / "config.json").is_file():
            raise FileNotFoundError(f"no checkpoint at {path}: the folder has no config.json")
        try:
            return cls.from_pretrained(found).to(map_location)
        except OldFormat:
            raise
        except Exception as error:                                            # as many types as libraries take part
            reason = first_line(error)
            raise ValueError(f"{path} is not a readable model: {reason}") from None

    def fingerprint(self) -> str:
        """16 hex digits that name the weights. What `encode_frame` writes can only be read with the same ones."""
        digest = hashlib.sha256()
        for name, weight in sorted(self.state_dict().items()):
            digest.update(name.encode() + weight.detach().float().cpu().numpy().astype("<f4").tobytes())
        return digest.hexdigest()[:16]

    def _save_pretrained(self, save_directory) -> None:
        save_torch_state_dict(self.state_dict(), save_directory, max_shard_size=SHARD_SIZE)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(save_directory)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, strict: bool = True, map_location="cpu", revision=None, cache_dir=None,
                         force_download=False, local_files_only=False, token=None, **model_kwargs):
        # The mixin's own method knows no shards, and its strict=False would leave random weights for missing names.
        folder = Path(model_id if os.path.isdir(model_id) else snapshot_download(
            model_id, revision=revision, cache_dir=cache_dir, force_download=force_download, token=token,
            local_files_only=local_files_only, allow_patterns=["*.safetensors", "*.json"]))
        if not isinstance(model_kwargs.get("config"), WheelerConfig):
            raise ValueError(f"{model_id} has no config.json of a Wheeler model")
        shapes = {}
        for weights in sorted(folder.glob("*.safetensors")):
            try:
                with safe_open(weights, "pt") as file:
                    shapes |= {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}
            except SafetensorError as error:
                raise ValueError(f"{weights} is not a readable safetensors file: {error}") from None
        if any(key.startswith("frame.") for key in shapes):                   # the hub's mixin drops unknown entries
            raise OldFormat(model_id)
        check_sizes(model_kwargs["config"], shapes, model_id)
        model = cls(**model_kwargs)
        load_torch_model(model, folder, strict=strict)                        # half precision becomes float32 here
        tokenizer = folder / "tokenizer.json"
        if model.tokenizer is None and tokenizer.is_file():                   # a model may be saved without one
            model.tokenizer = tokenizer_from_json(tokenizer.read_text(encoding="utf-8"), model.config)
        return model.to(map_location).eval()


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

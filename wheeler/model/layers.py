"""Layers of the encoder and the decoder: attention with rotary positions, MLP, and how they are run.

Letters: B batch, T text tokens, L max_seq_len, V vocabulary, H = W grid_size in cells, p patch_size in cells,
N = (H/p)*(W/p) latents, D d_model, nh heads, hd = D // nh.
"""

from collections.abc import Callable
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

from wheeler.model.config import WheelerConfig


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
        """Tokens from position t on. x: (B, T, D); cache: (2, B, nh, L, hd) keys and values, filled up to t."""
        end = t + x.shape[1]
        q, cache[0, :, :, t:end], cache[1, :, :, t:end] = self.heads(x, rope[:, t:end])
        # One query sees all keys. Several see those up to their own; is_causal would count both from 0.
        mask = None if x.shape[1] == 1 or t == 0 else q.new_ones(x.shape[1], end, dtype=torch.bool).tril(t)
        y = F.scaled_dot_product_attention(q, cache[0, :, :, :end], cache[1, :, :, :end], attn_mask=mask,
                                           is_causal=t == 0 and x.shape[1] > 1)
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
        """x: (B, T, D), or (1, T, D) where it is the same for all B, whose first row stands at position t; returns
        (B, T, D)."""
        keys, values, positions = context
        q = self.split(self.query(x) + positions[t : t + x.shape[1]])         # (B or 1, nh, T, hd)
        y = F.scaled_dot_product_attention(q.expand(len(keys), -1, -1, -1), keys, values)
        return self.drop(self.out(y.transpose(1, 2).flatten(2)))


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
        """Causal, with cross-attention to the context. x: (B, T, D), or, with a cache (2, B, nh, L, hd), the tokens
        from position t on. Without a context (None) nothing is read: a language model."""
        x = x + (self.self_attention(self.norm_self(x), rope, causal=True) if cache is None else
                 self.self_attention.step(self.norm_self(x), rope, cache, t))
        if context is not None:
            x = x + self.cross(self.norm_cross(x), context, t)
        return x + self.mlp(self.norm_mlp(x))

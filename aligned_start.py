"""Where training starts: a network that already copies. `init_weights`, and the binary code of token ids it needs."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def token_code(vocab_size: int, bits: int) -> tuple[Tensor, int]:
    """(vocab_size, bits) float32 of -1 and +1: a binary linear code of the token ids, all rows different.

    bits must be at least log2(vocab_size). Of a few random generator matrices the one with the largest least distance
    is taken: 2 of 16 bits for 8,192 ids, about 20 of 64. Also returns that distance.
    """
    k = max(1, (vocab_size - 1).bit_length())
    ids = (torch.arange(2**k)[:, None] >> torch.arange(k)) & 1                # (2^k, k)
    best, best_distance = None, -1
    for seed in range(32):
        random = torch.Generator().manual_seed(seed)
        extra = torch.randint(0, 2, (k, bits - k), generator=random)
        words = torch.cat([ids, ids.float() @ extra.float() % 2], 1)          # systematic: no two rows alike
        distance = int(words[1:].sum(1).min())                                # linear: least weight = least distance
        if distance > best_distance:
            best, best_distance = words[:, torch.randperm(bits, generator=random)], distance
    return 2.0 * best[:vocab_size] - 1.0, best_distance


@torch.no_grad()
def init_weights(model: nn.Module) -> None:
    """Set the start of training of a WheelerTextAutoencoder. `config.aligned_start=False` gives the usual random start,
    for ablations.

    Usual: normal(0, 0.02) everywhere, residual outputs divided by sqrt(2 * layers), as GPT-2.

    Aligned: the network starts as an identity that runs from token t through patch t back to token t, so that
    training starts from copying, with attention already sharp, and not from a plateau:
    - position: text positions, patches and target positions share one random code, and in every cross-attention
      query_code = key_code = 2 Q with Q orthogonal. In a head of hd = 64 the score of equal positions is then about
      4 * 64 / sqrt(64) = 32, of different ones 0 +- 4: position t attends to patch t almost surely.
    - content: query and key start at zero, value = Q' orthogonal and out = Q'^T in the encoder's and in the
      decoder's first cross-attention, so that what is attended to arrives unchanged; out = 0 in the other ones.
    - grid: unfold has orthonormal columns (times p: cells of unit rms), fold is its transpose.
    - every other residual branch (self-attention, MLP) ends in a zero matrix.
    - vocabulary: the head is the encoder's embedding table; rows of rms 0.125 give a token 0.125 D in logits
      against 0.125 sqrt(D) of noise for the others.
    - frame: half of an embedding's variance is a binary code of the token id (`token_code`) in m = min(p*p, D/2)
      directions, the other half is random. The frame shows the code, a cell a bit, saturated to +-0.96; the lift
      puts it back, and the head takes the token with most agreeing bits. Where p*p cells are too few for a bit each
      (p*p < log2 V), the frame starts at random. With frame_code "tiles" token k shows tile k.
    """
    c = model.config
    depth = 2 * (c.encoder_layers + c.grid_layers + c.decoder_layers + 1)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            residual_out = name.endswith((".out", "mlp.down"))
            nn.init.normal_(module.weight, std=0.02 / math.sqrt(depth) if residual_out else 0.02)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
    enc, dec = model.encoder, model.decoder
    for code in (enc.text_code, enc.patch_code, dec.target_code, dec.patch_code, enc.patch_query, enc.blank):
        nn.init.normal_(code, std=0.02)
    if c.frame_code == "tiles":
        nn.init.normal_(model.frame.embedding.weight)                      # unit rms, as latents have
    else:
        for mlp in (model.frame.project, model.frame.lift):                 # no residual path around these two
            for weight in (mlp.up.weight, mlp.down.weight):
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
        nn.init.normal_(model.frame.lift.up.weight, std=1 / c.patch_size)  # padded inputs do not count
    if not c.aligned_start:
        return
    nn.init.normal_(dec.embedding.weight, std=0.125)
    nn.init.normal_(enc.blank, std=1.0)
    nn.init.normal_(enc.embedding.weight, std=0.125)
    _align_frame(model)
    code = torch.randn(max(c.max_seq_len, c.num_patches), c.d_model)
    for parameter in (enc.text_code, enc.patch_code, dec.target_code, dec.patch_code):
        parameter.copy_(code[: len(parameter)])
    nn.init.zeros_(enc.patch_query)
    for cross in (enc.cross, *(layer.cross for layer in dec.layers)):
        nn.init.orthogonal_(cross.query_code.weight, gain=2.0)
        cross.key_code.weight.copy_(cross.query_code.weight)
        nn.init.zeros_(cross.query.weight)
        nn.init.zeros_(cross.key.weight)
        nn.init.orthogonal_(cross.value.weight)
        nn.init.zeros_(cross.out.weight)
    for cross in (enc.cross, dec.layers[0].cross):
        cross.out.weight.copy_(cross.value.weight.T)
    for layer in (*enc.layers, *dec.grid_layers, *dec.layers):
        nn.init.zeros_(layer.self_attention.out.weight)
        nn.init.zeros_(layer.mlp.down.weight)
    nn.init.zeros_(enc.mlp.down.weight)
    nn.init.orthogonal_(model.patches.unfold.weight, gain=c.patch_size)
    model.patches.fold.weight.copy_(model.patches.unfold.weight.T / c.patch_size**2)


def _align_frame(model: nn.Module) -> None:
    """The frame's part of the aligned start; changes nothing where a patch has too few cells for a binary code."""
    c, frame, cells, m = model.config, model.frame, model.config.patch_size**2, model.config.code_bits
    if c.frame_code == "tiles":
        table, known = model.encoder.embedding.weight, min(c.vocab_size, len(frame.words) - 1)
        frame.embedding.weight[:known] = table[:known] / 0.125
        frame.embedding.weight[known] = model.encoder.blank
        return
    if 2**c.code_bits < c.vocab_size:
        return
    # Orthonormal directions without a mean, which layer norm would take away: basis[:m] for the code.
    random = torch.randn(c.d_model, c.d_model - 1)
    basis = torch.linalg.qr(torch.cat([torch.ones(c.d_model, 1), random], 1))[0].T[1:]            # (D - 1, D)
    amplitude = math.sqrt(c.d_model / 2 / m)                              # of a bit, in latents of unit rms
    (bits, distance), table = token_code(c.vocab_size, m), model.encoder.embedding.weight
    rest = math.sqrt(c.d_model / 2 / (c.d_model - 1 - m))
    noise = torch.randn(len(table), c.d_model - 1 - m)
    table.copy_(0.125 * rest * noise @ basis[m:])
    table[: c.vocab_size] += 0.125 * amplitude * bits @ basis[:m]
    model.encoder.blank.copy_(amplitude * basis[:m].sum(0) + rest * noise[0] @ basis[m:])    # no text: all cells +1
    # Lifted latents give 0.125 D / (sqrt(2) m) logits a bit: the nearest other token shall be 12 logits behind.
    nn.init.constant_(model.decoder.norm_out.weight, max(1.0, 12 / (2 * distance * 0.125 * c.d_model / 2**0.5 / m)))
    # Cell j shows bit j mod m. A linear map through an MLP: gelu(x) - gelu(-x) = x, so up = [A, -A] and
    # down = [B, -B] give B A.
    show = F.pad(torch.eye(m).repeat(-(-cells // m), 1)[:cells], (0, 0, 0, frame.width - cells))       # (width, m)
    for mlp, up, down in ((frame.project, 2.0 / amplitude * basis[:m], show), (frame.lift, show.T, basis[:m].T)):
        nn.init.zeros_(mlp.down.weight)
        for sign, start in ((1, 0), (-1, m)):
            mlp.up.weight[start : start + m] = sign * up
            mlp.down.weight[:, start : start + m] = sign * down

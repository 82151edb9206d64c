"""What else one could take: two text autoencoders built from public parts, for the comparisons of bench.py.

    cells   the straightforward reading of "text -> grid -> text": torch.nn.Transformer layers, one learned query a grid
            cell, attention over all grid_size^2 cells, a decoder that cross-attends to all of them
    bart    BartForConditionalGeneration of Hugging Face, random weights, taught to give its input back: no grid at all,
    t5      and T5ForConditionalGeneration likewise

`build(name, config)` makes them, and this project's model ("ours", and "random", the same without the aligned start),
at the size of a WheelerConfig: same vocabulary, lengths and, within 5%, number of parameters. All share the interface
that scores.reconstruct uses, so that the same code measures them. `race` trains one for a number of seconds.
"""

import json
import math
import time
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import WheelerTextAutoencoder
from wheeler.figures import new_figure, save_figure
from wheeler.model.config import WheelerConfig
from wheeler.training.bigrams import start_language
from wheeler.training.data import EpochBatches, TokenDataset
from wheeler.training.scores import reconstruct, score
from wheeler.training.step import get_lr, make_optimizer

NAMES = ("ours", "random", "cells", "bart", "t5")
LABELS = {"ours": "this project", "random": "this project, random start", "cells": "torch.nn.Transformer over cells",
          "bart": "Hugging Face BART", "t5": "Hugging Face T5"}
COLORS = {"ours": "C0", "random": "C9", "cells": "C1", "bart": "C2", "t5": "C3"}
LEVELS = (0.9, 0.99)                                                     # of exact match


class Peer(nn.Module):
    """The interface; a peer fills in `embedding`, `latents`, `predict` and `generate`."""

    def __init__(self, config: WheelerConfig):
        super().__init__()
        self.config = config

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None,
                blank_rows: int = 0) -> tuple[Tensor, Tensor]:
        """Teacher forcing: logits (B, T, V), those at t predict token t of input_ids (B, T); and the latents. The last
        `blank_rows` rows read a single zero vector."""
        mask = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        inputs, read = F.pad(input_ids[:, :-1], (1, 0), value=self.config.bos_token_id), len(input_ids) - blank_rows
        logits, latents = [], None
        if read:
            latents = self.latents(input_ids[:read], mask[:read])
            logits.append(self.predict(inputs[:read], *latents))
        if blank_rows:
            nothing = self.embedding.weight.new_zeros(blank_rows, 1, self.width)
            logits.append(self.predict(inputs[read:], nothing, mask[read:, :1]))
        return torch.cat(logits), latents

    @torch.no_grad()
    def encode(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the decoder reads: vectors (B, S, width) and which of them count (B, S) bool."""
        mask = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        return self.latents(input_ids, mask)

    @torch.no_grad()
    def decode(self, latents: tuple[Tensor, Tensor], return_ids: bool = True,
               tokens: int | None = None) -> list[list[int]]:
        """Free-running and greedy: the token ids of every text, without the end token. tokens: write so many, whether
        they end or not, for benchmarks."""
        end, rows = self.config.eos_token_id, self.generate(*latents, tokens).tolist()
        return [row[: row.index(end)] if end in row else row for row in rows]


def mlp_width(make, parameters: int) -> int:
    """The width of the MLPs, a multiple of 8, that gives the model make(width) nearest to so many parameters."""
    with torch.device("meta"):                                                # the count is linear in the width
        small, large = (sum(p.numel() for p in make(hidden).parameters()) for hidden in (8, 16))
    return max(8, round((parameters - small) / (large - small)) * 8 + 8)


class CellAutoencoder(Peer):
    """Latents: all grid_size^2 cells, (B, N, D). hidden: width of the MLPs."""

    def __init__(self, config: WheelerConfig, hidden: int):
        super().__init__(config)
        c = config
        self.width = c.d_model
        options = {"d_model": c.d_model, "nhead": c.num_heads, "dim_feedforward": hidden, "dropout": c.dropout,
                   "activation": "gelu", "batch_first": True, "norm_first": True}
        norm = lambda: nn.LayerNorm(c.d_model)
        self.embedding, self.target = (nn.Embedding(c.vocab_size, c.d_model) for _ in range(2))
        self.text_position, self.target_position = (nn.Embedding(c.max_seq_len, c.d_model) for _ in range(2))
        self.query = nn.Embedding(c.grid_size**2, c.d_model)
        self.text = nn.TransformerEncoder(nn.TransformerEncoderLayer(**options), c.encoder_layers, norm(), False)
        # A decoder layer is self-attention over the cells, cross-attention to the text, MLP.
        self.grid = nn.TransformerDecoder(nn.TransformerDecoderLayer(**options), max(1, c.grid_layers), norm())
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**options), c.decoder_layers, norm())
        self.head = nn.Linear(c.d_model, c.vocab_size, bias=False)
        for stack in (self.text, self.grid, self.decoder):                    # as torch.nn.Transformer starts its own
            for parameter in stack.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)

    def latents(self, input_ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embedding(input_ids) + self.text_position.weight[: input_ids.shape[1]]        # (B, T, D)
        x = self.text(x, src_key_padding_mask=~mask)                          # torch's masks: True means ignore
        cells = self.query.weight.expand(len(x), -1, -1)                      # (B, N, D)
        cells = self.grid(cells, x, memory_key_padding_mask=~mask)
        return cells, mask.new_ones(1, 1).expand(cells.shape[:2])

    def predict(self, inputs: Tensor, cells: Tensor, mask: Tensor) -> Tensor:
        x = self.target(inputs) + self.target_position.weight[: inputs.shape[1]]
        causal = torch.full((x.shape[1],) * 2, -math.inf, device=x.device, dtype=x.dtype).triu(1)
        return self.head(self.decoder(x, cells, tgt_mask=causal, tgt_is_causal=True))

    def generate(self, cells: Tensor, mask: Tensor, length: int | None) -> Tensor:
        """Without a cache: torch.nn.TransformerDecoder has none."""
        c = self.config
        tokens = torch.full((len(cells), 1), c.bos_token_id, device=cells.device)
        for _ in range(length or c.max_seq_len):
            tokens = torch.cat([tokens, self.predict(tokens, cells, mask)[:, -1:].argmax(-1)], 1)
            if length is None and (tokens == c.eos_token_id).any(1).all():
                break
        return tokens[:, 1:]


class HuggingFaceAutoencoder(Peer):
    """Latents: one vector a token, (B, T, width). Width 1.5 d_model and four layers a half are a usual shape at this
    size; the MLPs are as wide as `parameters` of them allow."""

    counting_device = "cpu"                                                   # its masks are looked at: no meta tensors

    def __init__(self, config: WheelerConfig, kind: str, parameters: int):
        super().__init__(config)
        import transformers

        c = config
        self.width = max(2, c.d_model * 3 // 2)
        heads = max(1, self.width // 64) if self.width % 64 == 0 else 2
        ids = {"bos_token_id": c.bos_token_id, "eos_token_id": c.eos_token_id, "pad_token_id": c.pad_token_id,
               "decoder_start_token_id": c.bos_token_id, "vocab_size": c.vocab_size, "d_model": self.width}

        def make(hidden: int):
            if kind == "bart":
                return transformers.BartForConditionalGeneration(transformers.BartConfig(
                    **ids, encoder_layers=4, decoder_layers=4, encoder_attention_heads=heads,
                    decoder_attention_heads=heads, encoder_ffn_dim=hidden, decoder_ffn_dim=hidden, dropout=c.dropout,
                    max_position_embeddings=c.max_seq_len + 1, forced_eos_token_id=None))
            return transformers.T5ForConditionalGeneration(transformers.T5Config(
                **ids, num_layers=4, num_decoder_layers=4, num_heads=heads, d_kv=self.width // heads, d_ff=hidden,
                dropout_rate=c.dropout))

        self.model = make(mlp_width(make, parameters))

    @property
    def embedding(self):
        return self.model.get_input_embeddings()

    def latents(self, input_ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.get_encoder()(input_ids=input_ids, attention_mask=mask.long()).last_hidden_state, mask

    def predict(self, inputs: Tensor, hidden: Tensor, mask: Tensor) -> Tensor:
        return self.model(encoder_outputs=(hidden,), attention_mask=mask.long(), decoder_input_ids=inputs,
                          use_cache=False).logits

    def generate(self, hidden: Tensor, mask: Tensor, length: int | None) -> Tensor:
        from transformers.modeling_outputs import BaseModelOutput

        out = self.model.generate(encoder_outputs=BaseModelOutput(last_hidden_state=hidden), attention_mask=mask.long(),
                                  min_new_tokens=length, max_new_tokens=length or self.config.max_seq_len,
                                  do_sample=False, num_beams=1)
        return out[:, 1:]                                                     # without the start token


def build(name: str, config: WheelerConfig):
    """The model of that name (NAMES) at the size of `config`, weights drawn from torch's generator."""
    if name not in NAMES:
        raise ValueError(f"there is no competitor {name!r}; there are {', '.join(NAMES)}")
    if name in ("ours", "random"):
        return WheelerTextAutoencoder(replace(config, aligned_start=name == "ours"))
    with torch.device("meta"):
        parameters = sum(p.numel() for p in WheelerTextAutoencoder(replace(config, aligned_start=False)).parameters())
    if name == "cells":
        return CellAutoencoder(config, mlp_width(lambda hidden: CellAutoencoder(config, hidden), parameters))
    return HuggingFaceAutoencoder(config, name, parameters)


# ---- time to quality ------------------------------------------------------------------------------------------------


@torch.no_grad()
def teacher_forced_texts(model, data: TokenDataset, indices: list[int], blank: bool, batch_size: int = 32) -> dict:
    """One pass with the true tokens before every token: bits a token, share of tokens that are the likeliest, and the
    share of texts of which all tokens are. By induction over the tokens these are the very texts that come back
    free-running and greedy, up to rounding: where there is none, decoding can be spared. blank: as a language model."""
    device, bits, right, whole, count = model.device, 0.0, 0, 0, 0
    for start in range(0, len(indices), batch_size):
        ids, mask = (x.to(device) for x in data.batch(indices[start : start + batch_size]))
        logits, _ = model(ids, mask, blank_rows=len(ids) if blank else 0)
        bits += F.cross_entropy(logits[mask].float(), ids[mask], reduction="sum").item() / math.log(2)
        hits = (logits.argmax(-1) == ids) & mask
        right, whole, count = right + int(hits.sum()), whole + int((hits == mask).all(1).sum()), count + int(mask.sum())
    return {"bits_per_token": bits / count, "teacher_forced_token_accuracy": right / count,
            "teacher_forced_whole_texts": whole / len(indices)}


def now(device: str) -> float:
    """Seconds. On a CPU with one thread those of the processor, so that other work on the machine does not count."""
    return time.process_time() if device.startswith("cpu") and torch.get_num_threads() == 1 else time.perf_counter()


def race(name: str, config: WheelerConfig, data: TokenDataset, unseen: TokenDataset, indices: list[int], lr: float,
         seconds: float, eval_every: float, batch_size: int = 32, warmup_steps: int = 50, task: str = "copy",
         blank_share: float = 0.0, seed: int = 0, device: str = "cpu", autocast=nullcontext, progress=print,
         keep=lambda run: None) -> dict:
    """Train competitor `name` for `seconds` of its own clock and read the unseen texts back every `eval_every` of them.

    The clock counts the making of the weights and the training steps, not the evaluations. task "copy": the texts come
    back from their latents; "language": without latents (bits a token as a language model). Rate: linear warm-up, then
    a cosine to a tenth over the seconds, as train.py has it over the steps. blank_share as in train.py.

    Returns {"name", "task", "lr", "seed", "limit", "parameters", "n", "steps", "curve": [{"seconds", "step",
    "exact_match", ...}]}; `keep` is given the same after every reading, so that a run that is stopped is not lost.
    Exact match is free-running greedy; where teacher forcing says that no text can come back, that 0 is taken without
    decoding.
    """
    recipe = SimpleNamespace(lr=lr, warmup_steps=0, weight_decay=0.01)        # of get_lr: its steps are seconds here
    make_optimizer(build(name, config), recipe)                               # imports, which the clock leaves out
    torch.manual_seed(seed)
    clock = now(device)
    model = build(name, config).to(device).train()
    if name == "ours":
        start_language(model, data)
    optimizer, spent = make_optimizer(model, recipe), now(device) - clock
    blank_rows = batch_size if task == "language" else int(blank_share * batch_size)

    def read() -> None:
        model.eval()
        row = {"seconds": spent, "step": step} | teacher_forced_texts(model, unseen, indices, task == "language")
        if task == "copy":
            row["exact_match"] = 0.0
            if row["teacher_forced_whole_texts"]:
                row["exact_match"] = score(*reconstruct(model, unseen, indices, "grid"), unseen.say)["exact_match"]
        model.train()
        exact = f", {row['exact_match']:.1%} exact" if task == "copy" else ""
        progress(f"{task}: {name}, lr {lr:g}: step {step}, {spent:.0f} of {seconds:.0f} s, teacher-forced "
                 f"{row['bits_per_token']:.3f} bits a token, {row['teacher_forced_token_accuracy']:.1%} right{exact}")
        run["curve"].append(row)
        run["steps"] = step
        keep(run)

    def batches():
        epoch = 0
        while True:
            stream = EpochBatches(data, batch_size, seed, epoch, 0.0, blank_rows)
            if not len(stream):
                raise ValueError(f"--batch_size {batch_size} is more than the {len(data)} training texts")
            for i in range(len(stream)):
                yield stream[i]
            epoch += 1

    run = {"name": name, "task": task, "lr": lr, "seed": seed, "limit": seconds,
           "parameters": sum(p.numel() for p in model.parameters()), "n": len(indices), "curve": []}
    step, stream = 0, batches()
    read()
    while spent < seconds:
        ids, mask = (x.to(device) for x in next(stream))
        clock = now(device)
        for group in optimizer.param_groups:
            group["lr"] = group["factor"] * min(1, (step + 1) / max(1, warmup_steps)) * get_lr(spent, recipe, seconds)
        with autocast():
            logits, _ = model(ids, mask, blank_rows=blank_rows)
            target = ids.masked_fill(~mask, -100)
            loss = F.cross_entropy(logits.float().flatten(0, 1), target.flatten(), ignore_index=-100)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if not device.startswith("cpu"):
            torch.cuda.synchronize(device)
        spent, step = spent + now(device) - clock, step + 1
        if not math.isfinite(loss.item()):
            raise ValueError(f"{name}: the loss is {loss.item()} at step {step}; take a rate below {lr:g}")
        if spent >= seconds or spent >= eval_every * len(run["curve"]):
            read()
    return run


def first_reading(curve: list[dict], key: str, level: float) -> dict | None:
    """The first reading at which `key` has reached `level` (bits a token: fallen to it), None where none has."""
    reached = (row for row in curve if key in row and
               (row[key] <= level if key == "bits_per_token" else row[key] >= level))
    return next(reached, None)


def stored_runs(path):
    """What an earlier `quality` left at `path`, None where there is nothing."""
    if not path.exists():
        return None
    try:
        stored = json.loads(path.read_text())
        assert {"settings", "runs"} <= stored.keys()
    except (ValueError, AttributeError, AssertionError):
        raise ValueError(f"--results {path} is not a file of this section") from None
    return stored


def best_runs(runs, task):
    """{name: its run with the best end}: most texts exact, then fewest bits a token. Runs of one name differ in rate,
    seed or limit."""
    best = {}
    for run in runs.values():
        end = lambda r: (-r["curve"][-1].get("exact_match", 0), r["curve"][-1]["bits_per_token"])
        if run["task"] == task and (run["name"] not in best or end(run) < end(best[run["name"]])):
            best[run["name"]] = run
    return best


def language_rows(runs):
    """What language-model runs reach, seed by seed, each competitor at the rate of its best run and at its longest
    limit: [(name, lr, its runs, times)]. A time is (seconds until the run first has the fewest bits it gets to, seconds
    until ours with the same seed has them, None where it never has)."""
    of = [run for run in runs.values() if run["task"] == "language"]
    longest = {run["name"]: max(r["limit"] for r in of if r["name"] == run["name"]) for run in of}
    of = [run for run in of if run["limit"] == longest[run["name"]]]
    best, rows = best_runs(dict(enumerate(of)), "language"), []
    ours = {r["seed"]: r for r in of if r["name"] == "ours" and r["lr"] == best["ours"]["lr"]}
    for name, top in best.items():
        same = sorted((r for r in of if (r["name"], r["lr"]) == (name, top["lr"])), key=lambda r: r["seed"])
        times = []
        for run in same:
            bits = min(row["bits_per_token"] for row in run["curve"])
            found = run["seed"] in ours and first_reading(ours[run["seed"]]["curve"], "bits_per_token", bits)
            times.append((first_reading(run["curve"], "bits_per_token", bits)["seconds"],
                          found["seconds"] if found else None))
        rows.append((name, top["lr"], same, times))
    return rows


def spread(values, form=".2f"):
    """"mean (lowest - highest)" of some numbers, the mean alone where there is one."""
    mean = f"{sum(values) / len(values):{form}}"
    return mean if len(values) == 1 else f"{mean} ({min(values):{form}} - {max(values):{form}})"


def quality_tables(runs):
    """({label: {...}} with seconds (None: not reached) and ratios, [table or remark to print]) of what `quality`
    gathered; a table is a list of rows, the first of them the header."""
    summary, shown, best = {}, [], best_runs(runs, "copy")
    at = lambda run, level: run and first_reading(run["curve"], "exact_match", level)
    ours = [at(best.get("ours"), level) for level in LEVELS]
    lines = [("copying, unseen texts", "rate", "steps", "exact at first", "at last",
              *(f"{level:.0%} exact after, s" for level in LEVELS),
              *(f"time to {level:.0%}, ours = 1" for level in LEVELS), "bits a token",
              "time to these bits, random start = 1")]
    for run in (r for r in runs.values() if r["task"] == "copy"):
        reached, spent = [at(run, level) for level in LEVELS], run["curve"][-1]["seconds"]
        top = max(row["exact_match"] for row in run["curve"])
        ratio = [mine and (row["seconds"] if row else spent) / mine["seconds"] for row, mine in zip(reached, ours)]
        seconds = [row and row["seconds"] for row in reached]
        bits = min(row["bits_per_token"] for row in run["curve"])
        same = [r and first_reading(r["curve"], "bits_per_token", bits) for r in (run, best.get("random"))]
        by_bits = same[0]["seconds"] / same[1]["seconds"] if all(same) and same[1]["seconds"] else None
        summary[f"{run['name']}, lr {run['lr']:g}"] = {
            "seconds_to_90": seconds[0], "seconds_to_99": seconds[1], "limit": spent, "best_exact_match": top,
            "ratio_90": ratio[0], "ratio_99": ratio[1], "lower_bound": [row is None for row in reached],
            "bits_per_token": bits, "time_to_these_bits_random_1": by_bits}
        lines.append((
            LABELS[run["name"]], f"{run['lr']:g}", run["steps"], f"{run['curve'][0]['exact_match']:.1%}",
            f"{run['curve'][-1]['exact_match']:.1%}",
            *(f"{row['seconds']:.2f} (step {row['step']})" if row else f"not within {spent:.0f} (best {top:.1%})"
              for row in reached),
            *("" if r is None else f"{'' if row else '>= '}{r:.3g}" for r, row in zip(ratio, reached)),
            f"{bits:.2f}", "" if by_bits is None else f"{by_bits:.2g}"))
    if len(lines) > 1:
        shown.append(lines)
    if ours[0] and ours[0]["step"] == 0:
        shown.append("ours starts as a copy: it has nothing to learn here, and its seconds are those of making the "
                     "weights\n")
    lines = [("as a language model, unseen texts", "best rate", "seeds", "steps", "s", "bits a token at last",
              "of the tokens right", "seconds of ours to the same bits", "time, ours = 1")]
    for name, lr, same, times in language_rows(runs):
        bits = [min(row["bits_per_token"] for row in run["curve"]) for run in same]
        right = [run["curve"][-1]["teacher_forced_token_accuracy"] for run in same]
        mine, ratios = [own for _, own in times if own], [needed / own for needed, own in times if own]
        whole = len(ratios) == len(times)                                     # else a mean would be of the good ones
        summary[f"language, {name}"] = {"lr": lr, "bits": bits, "token_accuracy": right,
                                        "seconds": [needed for needed, _ in times],
                                        "seconds_ours": [own for _, own in times], "ratios": ratios if whole else None}
        lines.append((LABELS[name], f"{lr:g}", len(same), spread([run["steps"] for run in same], ".0f"),
                      spread([needed for needed, _ in times], ".0f"), spread(bits),
                      spread([100 * share for share in right], ".1f") + "%",
                      spread(mine, ".1f") if whole else "not reached", spread(ratios, ".1f") if whole else ""))
    if len(lines) > 1:
        shown.append(lines)
    return summary, shown


def quality_figure(runs, output_dir):
    """Draw what `quality` gathered to time_to_quality.png: exact match and bits a token of copying, bits as a language
    model."""
    panels = [panel for panel in (
        ("copy", "exact_match", "unseen texts, free-running greedy exact match"),
        ("copy", "bits_per_token", "the same, bits a token, teacher-forced"),
        ("language", "bits_per_token", "language model, bits a token"))
        if any(run["task"] == panel[0] for run in runs.values())]
    figure = new_figure(4.6 * len(panels), 4.6)
    axes = figure.subplots(1, len(panels), squeeze=False)
    for axis, (task, key, title) in zip(axes[0], panels):
        best = best_runs(runs, task)
        for run in (r for r in runs.values() if r["task"] == task):
            first = best[run["name"]] is run
            axis.plot([row["seconds"] for row in run["curve"]], [row[key] for row in run["curve"]], marker=".", ms=5,
                      color=COLORS[run["name"]], ls="-" if first else ":", lw=1.6 if first else 1,
                      label=f"{LABELS[run['name']]}, rate {run['lr']:g}")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("seconds of training, weights made at 0", fontsize=9)
        axis.set_xlim(left=0)
        axis.grid(alpha=0.3)
        if key == "exact_match":
            for level in LEVELS:
                axis.axhline(level, color="gray", lw=0.7, ls="--")
            axis.set_ylim(-0.03, 1.05)
        else:
            axis.set_ylim(bottom=-0.3)
    labels = {label: handle for axis in axes[0] for handle, label in zip(*axis.get_legend_handles_labels())}
    figure.legend(labels.values(), labels.keys(), loc="outside lower center", ncols=len(panels), fontsize=8)
    save_figure(figure, output_dir, "time_to_quality")


# ---- cost growth ----------------------------------------------------------------------------------------------------


def growth_figure(result, output_dir):
    """Draw what bench.growth returns to cost_growth.png."""
    varied = list(dict.fromkeys(key.split(", ")[1] for key in result))
    figure = new_figure(11, 5.6)
    axes = figure.subplots(2, len(varied), squeeze=False)
    units = {"max_seq_len": "text length, tokens", "grid_size": "side of the grid, cells",
             "batch_size": "batch size, texts"}
    for key, points in result.items():
        name, axis = key.split(", ")
        column, at = axes[:, varied.index(axis)], [p["at"] for p in points]
        column[0].plot(at, [p["s_step"] for p in points], "o-", color=COLORS[name], ms=4, label=LABELS[name])
        column[1].plot(at, [p["gib_peak"] for p in points], "o-", color=COLORS[name], ms=4)
        column[1].set_xlabel(units[axis], fontsize=9)
        ticks = sorted({p["at"] for k, v in result.items() if k.endswith(axis) for p in v})
        for one in column:
            one.set_xscale("log", base=2)
            one.set_yscale("log")
            one.set_xticks(ticks, ticks)
            one.grid(alpha=0.3)
    axes[0, 0].set_ylabel("seconds of a training step, one thread", fontsize=9)
    axes[1, 0].set_ylabel("peak memory of the process, GiB", fontsize=9)
    axes[0, 0].legend(fontsize=8)
    save_figure(figure, output_dir, "cost_growth")

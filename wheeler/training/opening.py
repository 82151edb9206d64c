"""What a run begins with: its texts, its model, and a batch size that fits."""

import argparse
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from models import WheelerTextAutoencoder
from wheeler.model.config import WheelerConfig
from wheeler.model.start import start_meaning
from wheeler.model.tokenizer import round_trip, vocabulary_size
from wheeler.training.bigrams import start_language
from wheeler.training.cost import largest_batch
from wheeler.training.data import (
    ROUND_TRIP_TEXTS,
    TOKENIZER_TEXTS,
    EpochBatches,
    TokenBlocks,
    TokenDataset,
    Tokens,
    build_dataset,
    get_tokenizer,
)
from wheeler.training.flags import MODEL_FLAGS
from wheeler.training.ranks import Ranks
from wheeler.training.run_folder import UsageError
from wheeler.training.step import rows_without_grid
from wheeler.training.teacher import teach_meaning
from wheeler.training.texts import DataError, TextStream, load_texts
from wheeler.training.unusual import unusual_tokens


class Data(NamedTuple):
    """tokens: the training texts, of a stream those of its first block; texts: the same as strings, None of a stream;
    unseen: the validation texts; fixed: which of them an evaluation reads; content: a hash that says what the texts
    are; blocks: of a stream, else None; unusual: ids of made-up texts, None where
    the flags ask for none."""

    tokens: Tokens
    texts: Sequence[str] | None
    unseen: TokenDataset
    fixed: list[int]
    content: str
    tokenizer: object
    blocks: TokenBlocks | None
    unusual: np.ndarray | None

    def batches(self, args: argparse.Namespace, ranks: Ranks, epoch: int) -> EpochBatches:
        """The batches of an epoch, or of the block at hand."""
        tokens, number = (self.tokens, epoch) if self.blocks is None else (self.blocks.tokens, self.blocks.number)
        return EpochBatches(tokens, args.batch_size, args.seed, number, args.random_text_share,
                            sum(rows_without_grid(args)), ranks.rank, ranks.count, args.unusual_text_share,
                            self.unusual)


def open_data(args: argparse.Namespace, model: WheelerTextAutoencoder | None, state: dict | None,
              ranks: Ranks) -> Data:
    """The texts that the flags name, in the tokens of the model, or of a new tokenizer where there is none yet. state:
    of the run that goes on, whose texts they must be."""
    stream, texts = None, None
    with ranks.one_first():                                                   # the others find its cache entries
        if args.streaming:
            stream = TextStream(args.dataset, args.text_column, args.max_train_samples)
            held = stream.held_out
        else:
            texts = load_texts(args.dataset, "train", args.text_column)
            held = load_texts(args.dataset, "validation", args.text_column)
        first = texts if stream is None else stream.block(
            stream.start, ROUND_TRIP_TEXTS if model is not None or args.tokenizer else TOKENIZER_TEXTS)[0]
        tokenizer = model.tokenizer if model is not None else get_tokenizer(
            args.tokenizer, first, args.vocab_size, args.cache_dir)
        unseen = build_dataset(held, tokenizer, args.max_seq_len, args.cache_dir, args.long_texts)
        if stream is None:
            tokens = build_dataset(texts, tokenizer, args.max_seq_len, args.cache_dir, args.long_texts,
                                   args.max_train_samples)
    content = stream.content(args.long_texts, unseen.content) if stream else tokens.content
    note = round_trip(tokenizer, first[:ROUND_TRIP_TEXTS])
    if note:
        ranks.say(f"warning     {f'--tokenizer {args.tokenizer}: ' if args.tokenizer else ''}{note}")
    if state is not None and state["data_content"] != content:
        raise UsageError(f"--dataset {args.dataset} is not what the checkpoint was trained on: its texts, "
                         "--text_column, --long_texts, --streaming or --max_train_samples differ")
    blocks = open_stream(args, stream, tokenizer, state) if stream else None
    fixed = np.linspace(0, len(unseen) - 1, min(args.eval_samples, len(unseen))).astype(int).tolist()
    return Data(blocks.tokens if blocks else tokens, texts, unseen, fixed, content, tokenizer, blocks,
                unusual_tokens(tokenizer) if args.unusual_text_share else None)


def open_stream(args: argparse.Namespace, stream: TextStream, tokenizer, state: dict | None) -> TokenBlocks:
    place = {"number": 0, "position": None}
    if state is not None:
        try:
            place = stream.check_place(state.get("stream"))
        except DataError as error:
            raise UsageError(f"--resume {args.resume}: {error}") from None
    blocks = TokenBlocks(stream, tokenizer, args.max_seq_len, args.long_texts, place["number"], place["position"])
    if not len(blocks.tokens):
        raise UsageError(f"--dataset {args.dataset}: the stream has no text where this run begins")
    return blocks


def new_model(args: argparse.Namespace, data: Data) -> WheelerTextAutoencoder:
    """A model of the sizes that the flags name, at the documented start."""
    tokenizer = data.tokenizer
    model = WheelerTextAutoencoder(WheelerConfig(
        vocab_size=vocabulary_size(tokenizer), bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        **{name: getattr(args, name) for name in MODEL_FLAGS}), tokenizer)
    start_meaning(model, data.tokens)
    start_language(model, data.tokens)
    if args.teacher:
        teach_meaning(model, data.tokens, data.texts, args.teacher)
    return model


def fit_batch_size(args: argparse.Namespace, model: WheelerTextAutoencoder, data: Data, device: torch.device,
                   ranks: Ranks) -> None:
    """Replace --batch_size auto by a number, and one that the data or the processes do not allow by one they do."""
    if args.batch_size == "auto":
        most = largest_batch(model, args, device, data.tokens.buckets[-1], ranks.here)
        args.batch_size = ranks.lowest(most) * ranks.count
        ranks.say(f"memory      --batch_size auto: {args.batch_size} texts fit")
    if args.batch_size > len(data.tokens):
        ranks.say(f"--batch_size {args.batch_size} is more than the {len(data.tokens)} training texts: this run takes "
                  f"{len(data.tokens)}")
        args.batch_size = len(data.tokens)
    if args.batch_size < ranks.count:
        raise UsageError(f"--batch_size {args.batch_size} must be at least 1 for each of the {ranks.count} processes")

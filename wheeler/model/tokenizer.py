"""The tokenizer of the project: byte-level BPE as a `PreTrainedTokenizerFast`, which travels inside every checkpoint.

transformers and tokenizers are imported inside the functions: they take a second, which `import models` need not cost.
"""

import re
from collections.abc import Iterable, Sequence
from contextlib import contextmanager

BOS_TOKEN, EOS_TOKEN, PAD_TOKEN = "<|bos|>", "<|eos|>", "<|pad|>"
# What tokenizers lose: joined emoji, blanks, accents (one character or two), scripts, code, spelled special tokens.
HARD_TEXTS = (
    "Tom saw a \U0001f409 dragon.", "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308",
    "10\u00a0km, two  blanks,   three", " a blank at both ends ", "\u00c7a va, na\u00efve cafe\u0301?",
    "\u65e5\u672c\u8a9e\u3068\u4e2d\u6587\u3002", "\u041f\u0440\u0438\u0432\u0435\u0442, \u0645\u0631\u062d",
    "def f(x):\n\treturn x[0] != 'a'  # {b}\n", "one\n\ntwo\r\nthree\tfour",
    "\u201cDon\u2019t,\u201d she said \u2026 \ufb01ne \u00bd \u2460", "I don 't know , he said .",
    "[UNK] <s> </s> <unk> [SEP]")
LONG_RUN = re.compile(r"(\S{1000}|\s{1000})")
LEAST_VOCABULARY, MOST_VOCABULARY = 259, 2**20                                # 256 bytes and 3 special tokens; a bound


def first_line(error: Exception, most: int = 200) -> str:
    """What an error says, on one line: its first, or its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:most]


@contextmanager
def readable():
    """Inside, whatever the library says of a damaged tokenizer is a ValueError."""
    try:
        yield
    except ValueError:
        raise
    except BaseException as error:
        # It raises bare Exceptions, and panics, which are none, whose class cannot be imported.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"the tokenizer cannot be read: {first_line(error)}") from None


@readable()
def build_tokenizer(json_text: str, bos: str, eos: str, pad: str):
    """PreTrainedTokenizerFast of a tokenizer.json text. Texts that spell a special token stay text, no text is altered
    on its way back, and `tokenizer(text)` closes every text with eos, as the model wants it."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer.from_str(json_text)
    backend.post_processor = processors.TemplateProcessing(
        single=f"$A {eos}", pair=f"$A $B {eos}", special_tokens=[(eos, backend.token_to_id(eos))])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=bos, eos_token=eos, pad_token=pad,
                                        clean_up_tokenization_spaces=False, split_special_tokens=True,
                                        padding_side="right")
    tokenizer.batch_decode(tokenizer(list(HARD_TEXTS))["input_ids"])          # what fails fails now, not in a run
    return tokenizer


def train_tokenizer(texts, vocab_size: int = 8192):
    """Byte-level BPE trained on an iterable of str, ids bos 0, eos 1, pad 2. Any Unicode text round-trips through it.

    Small corpora may give fewer than vocab_size entries. vocab_size must be at least 259 (256 bytes and 3 specials).
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if not LEAST_VOCABULARY <= vocab_size <= MOST_VOCABULARY:
        raise ValueError(f"vocab_size = {vocab_size} must be at least {LEAST_VOCABULARY}: 256 bytes and 3 special "
                         f"tokens; at most {MOST_VOCABULARY}")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    # The time that training takes grows with the square of a run without blanks (or of blanks): a million characters of
    # one would take hours. Texts without such runs are as they are.
    parts = (part for text in texts for part in LONG_RUN.split(text))
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=[BOS_TOKEN, EOS_TOKEN, PAD_TOKEN],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    backend.train_from_iterator(parts, trainer)
    return build_tokenizer(backend.to_str(), BOS_TOKEN, EOS_TOKEN, PAD_TOKEN)


@readable()
def load_tokenizer(name_or_path: str):
    """Any fast tokenizer of the hub or a folder, given distinct bos, eos and pad tokens where it lacks them."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path)
    except Exception as error:
        raise ValueError(f"--tokenizer {name_or_path}: cannot be loaded, neither as a folder nor from the hub "
                         f"({first_line(error, 160)})") from None
    if not tokenizer.is_fast:
        raise ValueError(f"--tokenizer {name_or_path}: only fast tokenizers can travel inside a checkpoint")
    backend, used = tokenizer.backend_tokenizer, []
    for token, fallback in ((tokenizer.eos_token, EOS_TOKEN), (tokenizer.bos_token, BOS_TOKEN),
                            (tokenizer.pad_token, PAD_TOKEN)):
        used.append(fallback if token is None or token in used else token)
    backend.add_special_tokens(used)
    backend.no_truncation()
    backend.no_padding()
    eos, bos, pad = used
    return build_tokenizer(backend.to_str(), bos, eos, pad)


def whole_characters(encoding, end: int) -> int:
    """The largest number of tokens, `end` at most, of an encoded text (tokenizers.Encoding) that is not inside one of
    its characters: a byte-level token may be a part of one."""
    if end >= len(encoding):
        return len(encoding)
    offsets = encoding.offsets
    while end and offsets[end][0] < offsets[end - 1][1]:
        end -= 1
    return end


def beginning(text: str, encoding, limit: int) -> tuple[list[int], str]:
    """The first tokens of an encoded text, `limit` at most, without half a character at the end, and their
    characters."""
    end = whole_characters(encoding, limit)
    return encoding.ids[:end], text[: encoding.offsets[end - 1][1] if end else 0]


def altered(tokenizer, texts: Sequence[str], rows: Sequence[Sequence[int]]) -> list[tuple[str, str]]:
    """(text, what comes back) of the texts that their token ids do not give back, character by character."""
    back = tokenizer.batch_decode(rows, skip_special_tokens=True)
    return [pair for pair in zip(texts, back, strict=True) if pair[0] != pair[1]]


def example(text: str, back: str, room: int = 20) -> str:
    """How a text comes back, on one line, around the first difference; what cannot be seen is escaped."""
    at = next((i for i, (a, b) in enumerate(zip(text, back)) if a != b), min(len(text), len(back)))
    part = lambda x: "..." * (at > room) + x[max(0, at - room) : at + room] + "..." * (len(x) > at + room)
    return f"{part(text)!r} comes back as {part(back)!r}"


def round_trip(tokenizer, texts: Iterable[str]) -> str:
    """One line with an example where a tokenizer does not give some of the texts, or of HARD_TEXTS, back; else ""."""
    texts, found = [text[:2000] for text in texts if text], []                # books would take minutes
    for some in (texts, HARD_TEXTS):
        rows = tokenizer(list(some), add_special_tokens=False, split_special_tokens=True)["input_ids"] if some else []
        found.append(altered(tokenizer, some, rows))
    if not any(found):
        return ""
    return (f"the tokenizer does not give {len(found[0])} of {len(texts)} texts of the data set and {len(found[1])} of "
            f"{len(HARD_TEXTS)} hard texts back: {example(*(found[0] or found[1])[0])}; such texts are never exact")


def vocabulary_size(tokenizer) -> int:
    """The least vocab_size that holds every id: more than len(tokenizer) where ids have gaps."""
    return max(tokenizer.get_vocab().values()) + 1


def tokenizer_to_dict(tokenizer) -> dict[str, str]:
    """Plain strings, so that a checkpoint loads with weights_only=True."""
    return {"json": tokenizer.backend_tokenizer.to_str(), "bos": tokenizer.bos_token, "eos": tokenizer.eos_token,
            "pad": tokenizer.pad_token}


@readable()
def tokenizer_from_dict(state: dict[str, str]):
    """The tokenizer of tokenizer_to_dict, or ValueError where that is damaged."""
    return build_tokenizer(state["json"], state["bos"], state["eos"], state["pad"])


@readable()
def tokenizer_from_json(json_text: str, config):
    """The tokenizer of a tokenizer.json text, with the special tokens at the ids that a WheelerConfig names."""
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(json_text)
    return build_tokenizer(json_text, *(backend.id_to_token(i) for i in (
        config.bos_token_id, config.eos_token_id, config.pad_token_id)))

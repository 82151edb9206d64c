"""The tokenizer of the project: byte-level BPE as a `PreTrainedTokenizerFast`, which travels inside every checkpoint.

transformers and tokenizers are imported inside the functions: they take a second, which `import models` need not cost.
"""

BOS_TOKEN, EOS_TOKEN, PAD_TOKEN = "<|bos|>", "<|eos|>", "<|pad|>"
LEAST_VOCABULARY, MOST_VOCABULARY = 259, 2**20                                # 256 bytes and 3 special tokens; a bound


def first_line(error: Exception, most: int = 200) -> str:
    """What an error says, on one line: its first, or its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:most]


def build_tokenizer(json_text: str, bos: str, eos: str, pad: str):
    """PreTrainedTokenizerFast of a tokenizer.json text. Texts that spell a special token stay text, no text is altered
    on its way back, and `tokenizer(text)` closes every text with eos, as the model wants it."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer.from_str(json_text)
    backend.post_processor = processors.TemplateProcessing(
        single=f"$A {eos}", pair=f"$A $B {eos}", special_tokens=[(eos, backend.token_to_id(eos))])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=bos, eos_token=eos, pad_token=pad,
                                   clean_up_tokenization_spaces=False, split_special_tokens=True, padding_side="right")


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
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=[BOS_TOKEN, EOS_TOKEN, PAD_TOKEN],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    backend.train_from_iterator(texts, trainer)
    return build_tokenizer(backend.to_str(), BOS_TOKEN, EOS_TOKEN, PAD_TOKEN)


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


def vocabulary_size(tokenizer) -> int:
    """The least vocab_size that holds every id: more than len(tokenizer) where ids have gaps."""
    return max(tokenizer.get_vocab().values()) + 1


def tokenizer_to_dict(tokenizer) -> dict[str, str]:
    """Plain strings, so that a checkpoint loads with weights_only=True."""
    return {"json": tokenizer.backend_tokenizer.to_str(), "bos": tokenizer.bos_token, "eos": tokenizer.eos_token,
            "pad": tokenizer.pad_token}


def tokenizer_from_dict(state: dict[str, str]):
    """The tokenizer of tokenizer_to_dict, or ValueError where that is damaged."""
    try:
        return build_tokenizer(state["json"], state["bos"], state["eos"], state["pad"])
    except Exception as error:                                                # tokenizers raises bare Exceptions
        raise ValueError(f"the stored tokenizer cannot be read: {error}") from None


def tokenizer_from_json(json_text: str, config):
    """The tokenizer of a tokenizer.json text, with the special tokens at the ids that a WheelerConfig names."""
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(json_text)
    return build_tokenizer(json_text, *(backend.id_to_token(i) for i in (
        config.bos_token_id, config.eos_token_id, config.pad_token_id)))

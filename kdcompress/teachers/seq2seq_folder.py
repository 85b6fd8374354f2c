"""The files of a Hugging Face translator: model, tokenizer, and how it searches."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from kdcompress.errors import TeacherError
from kdcompress.teachers.foreign import fingerprint, one_line
from kdcompress.teachers.hf_folder import CONFIG, find_weights, load_model, read_json
from kdcompress.teachers.quiet import quiet_and_offline
from kdcompress_runtime.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENDINGS = ("ForConditionalGeneration", "MarianMTModel")
"""Of the names of classes that may be translators."""
GENERATION = "generation_config.json"
PIECES = (".spm", ".model")
"""Endings of the files of sentencepiece."""
MOST_TOKENS = 512
"""Longest source and translation where the model does not say."""
UNREADABLE = "\ufffd"
"""What half a character is read as."""


def load_translator(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer; local files and safetensors only.

    Raises:
        MissingDependencyError: transformers, or sentencepiece where the tokenizer needs it, is not installed.
        TeacherError: no text-to-text model, or one that cannot be loaded.
    """
    if find_spec("transformers") is None:
        raise MissingDependencyError(
            f"{folder}: Hugging Face models need transformers; install it with `pip install 'kdcompress[export]'`"
        )
    find_weights(folder, "AutoModelForSeq2SeqLM")
    with quiet_and_offline():
        _check_reads_text(folder)
        return load_model(folder, ENDINGS, "translation"), _load_tokenizer(folder)


def _check_reads_text(folder: Path) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES as FROM_TEXT

    named = read_json(folder / CONFIG).get("architectures") or []
    if not set(named) & set(FROM_TEXT.values()):
        raise TeacherError(f"{folder} holds {named}, which does not turn text into text; see docs/teachers.md")


def _load_tokenizer(folder: Path) -> Any:  # noqa: ANN401 (transformers)
    from transformers import AutoTokenizer

    loader: Any = AutoTokenizer
    try:
        tokenizer = loader.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # from many libraries
        pieces = sorted(file.name for file in folder.iterdir() if file.suffix in PIECES)
        if pieces and find_spec("sentencepiece") is None:
            raise MissingDependencyError(
                f"{folder}: {pieces[0]} needs sentencepiece; install it with `pip install sentencepiece`"
            ) from error
        raise TeacherError(f"{folder}: transformers cannot load its tokenizer ({one_line(error)})") from error
    if tokenizer.pad_token_id is None:
        raise TeacherError(f"{folder}: its tokenizer has no padding token; set pad_token and save it again")
    return tokenizer


def decided_by(folder: Path) -> str:
    """SHA-256 over the files that decide its answers, wherever they lie."""
    weights = find_weights(folder)
    others = (file for file in folder.iterdir() if file.suffix in {".json", ".txt", *PIECES} and file not in weights)
    return fingerprint([*weights, *others], {})


def longest_of(model: Any, tokenizer: Any) -> int:  # noqa: ANN401 (transformers)
    """Tokens of a source, or of a translation, that fit."""
    config = model.config
    positions = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or MOST_TOKENS
    return int(min(positions, tokenizer.model_max_length))


def characters_of(tokenizer: Any) -> Iterator[str]:  # noqa: ANN401 (transformers)
    """What each token is read as: texts hold no other characters."""
    alone = [[number] for number in range(len(tokenizer))]
    for text in tokenizer.batch_decode(alone, skip_special_tokens=True, clean_up_tokenization_spaces=False):
        if UNREADABLE not in text:
            yield text


def search_settings(model: Any, size: int, beams: int, longest: int) -> Any:  # noqa: ANN401 (transformers)
    """Settings of ``generate`` for a beam search; what they do not say (length penalty, language) is the folder's.

    No end is forced on a text that gets too long: that it has none shows that it was cut off.
    """
    settings = copy.deepcopy(model.generation_config)
    settings.update(
        num_beams=beams,
        num_return_sequences=size,
        max_length=longest + 1,
        max_new_tokens=None,
        forced_eos_token_id=None,
        do_sample=False,
        temperature=1.0,
        top_k=50,
        top_p=1.0,
        num_beam_groups=1,
        diversity_penalty=0.0,
        return_dict_in_generate=False,
    )
    if beams == 1:
        settings.update(early_stopping=False, length_penalty=1.0)
    return settings

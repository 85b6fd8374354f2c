"""Language models of Hugging Face from a local folder: ``*ForCausalLM`` (GPT-2 and its kin), ``*ForMaskedLM`` (BERT).

Units that are asked for are kept where each is one token of the model; else the model's own tokens are the units,
those that the texts use. What it gives to other tokens is dropped, the rest made to sum to one.
"""

from __future__ import annotations

import hashlib
import io
import json
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

import torch

from kdcompress.errors import TeacherError, TextModelError, VocabularyError
from kdcompress.files import file_sha256
from kdcompress.teachers.foreign import one_line
from kdcompress.teachers.hf_folder import CONFIG, find_weights, read_json
from kdcompress.teachers.quiet import quiet_and_offline
from kdcompress.text_models.hf_units import HuggingFaceInventory, token_of, tokenized
from kdcompress.text_models.network_model import BatchedTextModel
from kdcompress.text_models.scoring import Predicted
from kdcompress.units.content import named
from kdcompress_runtime.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from kdcompress.units.inventory import Inventory

CAUSAL, MASKED = ("ForCausalLM", "LMHeadModel"), ("ForMaskedLM",)
"""Endings of architectures."""
MOST_LOGITS = 1 << 25
"""Scores held at once: 128 MiB."""
REHEARSED = 16
"""Texts that the dropped share is measured on."""


class HuggingFaceTextModel(BatchedTextModel):
    """See ``open_hugging_face``."""

    kind = "hugging_face"

    def __init__(
        self, network: HuggingFaceNetwork, inventory: Inventory, token_ids: Sequence[int], *, fingerprint: str
    ) -> None:
        self.source, self.name = network.source, network.source.resolve().name
        self.network, self.inventory, self.fingerprint = network, inventory, fingerprint
        self.reads_both_ways, self.state_dim = network.reads_both_ways, network.width
        self._token_ids = torch.tensor(token_ids)
        self.dropped = 0.0
        """Share of the mass that the model gave to tokens that are no units, mean over the rehearsed texts."""

    @property
    def report(self) -> str:
        """What a user should know, one sentence."""
        return (
            f"{self.name}: {len(self.inventory.symbols)} units of {self.network_tokens} tokens; {self.dropped:.1%} of "
            "the mass was on others and is dropped"
        )

    @property
    def network_tokens(self) -> int:
        """Tokens of the model itself."""
        network: Any = self.network
        return int(network.tokens)

    def tokens(self, text: Sequence[int]) -> Tensor:
        """See ``BatchedTextModel.tokens``."""
        return self._token_ids[torch.tensor(text, dtype=torch.int64)]

    def to(self, device: torch.device) -> None:
        """See ``TextModel.to``."""
        network: Any = self.network
        network.model.to(device)

    def rehearse(self, texts: Iterable[Sequence[int]]) -> None:
        """Measure ``dropped`` on some texts of unit ids."""
        network: Any = self.network
        rehearsed = [text for text in texts if text][:REHEARSED]
        network.dropped = []
        self.score(rehearsed)
        if network.dropped:
            self.dropped = float(torch.cat(network.dropped).mean())
        network.dropped = None


class HuggingFaceNetwork:
    """A model as ``Readable``. Only the places that are asked for go through the last, widest layer.

    Args:
        folder: of the model.
        model: the model.
        reads_both_ways: whether it is a masked one.
        tokenizer: transformers' tokenizer.
    """

    def __init__(self, folder: Path, model: Any, tokenizer: Any, *, reads_both_ways: bool) -> None:  # noqa: ANN401
        config = model.config
        self.source, self.model, self.reads_both_ways = folder, model, reads_both_ways
        self.width, self.tokens = int(config.hidden_size), int(config.vocab_size)
        self.before, self.after = _marks(tokenizer, config, reads_both_ways=reads_both_ways)
        if reads_both_ways and tokenizer.mask_token_id is None:
            raise TextModelError(f"{folder}: its tokenizer has no mask token, so nothing can be hidden")
        self.mask = int(tokenizer.mask_token_id or 0)
        self.padding = int(tokenizer.pad_token_id or 0)
        most = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
        self._most = int(min(most, tokenizer.model_max_length))
        self.batch_tokens = max(256, min(4096, MOST_LOGITS // max(1, self.tokens)))
        self.chosen: Tensor = torch.arange(self.tokens)
        """Tokens that are units, ``(V,)``."""
        self.dropped: list[Tensor] | None = None
        """Where it is a list, shares of mass on other tokens are added to it."""

    @property
    def device(self) -> torch.device:
        """See ``Readable.device``."""
        return next(self.model.parameters()).device  # type: ignore[no-any-return]

    def states(self, ids: Tensor, lens: Tensor) -> Tensor:
        """See ``Readable.states``."""
        found: Tensor = self._run(self.model.base_model, ids, lens)[0]
        return found.float()

    def predict(self, ids: Tensor, lens: Tensor, rows: Tensor, columns: Tensor) -> Predicted:
        """See ``Readable.predict``."""
        with _only(self.model.base_model, rows, columns) as seen:
            logits = self._run(self.model, ids, lens).logits
        log_probs = logits.reshape(-1, logits.shape[-1]).float().log_softmax(dim=1)
        if len(log_probs) != len(rows):
            raise TextModelError(f"{self.source}: {type(self.model).__name__} answers {tuple(logits.shape)}")
        picked = log_probs[:, self.chosen.to(log_probs.device)]
        if self.dropped is not None:
            self.dropped.append(1.0 - picked.double().exp().sum(dim=1).cpu())
        return Predicted(seen[0], picked.log_softmax(dim=1))

    def _run(self, module: Any, ids: Tensor, lens: Tensor) -> Any:  # noqa: ANN401 (transformers)
        if ids.shape[1] > self._most:
            raise TextModelError(
                f"{self.source}: a text of {ids.shape[1]} tokens is longer than the {self._most} it reads; split it"
            )
        valid = (torch.arange(ids.shape[1], device=ids.device)[None] < lens[:, None]).long()
        try:
            return module(input_ids=ids, attention_mask=valid, return_dict=True)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise TextModelError(f"{self.source}: the model fails on {tuple(ids.shape)} ({one_line(error)})") from error


@contextmanager
def _only(base: Any, rows: Tensor, columns: Tensor) -> Iterator[list[Tensor]]:  # noqa: ANN401 (transformers)
    """Let only some places of what ``base`` says go on; yields a list that their states are put into."""
    seen: list[Tensor] = []

    def pick(module: Any, arguments: Any, output: Any) -> Any:  # noqa: ANN401, ARG001
        picked = output.last_hidden_state[rows, columns]
        seen.append(picked.float())
        output["last_hidden_state"] = picked[None]
        return output

    handle = base.register_forward_hook(pick)
    try:
        yield seen
    finally:
        handle.remove()


def open_hugging_face(
    folder: Path, inventory: Inventory | None = None, texts: Iterable[str] = ()
) -> HuggingFaceTextModel:
    """Open a folder that ``save_pretrained`` wrote; no network, no pickles, none of the folder's code.

    Args:
        folder: configuration, safetensors and tokenizer.
        inventory: units that are asked for; they are kept if each is one token of the model.
        texts: what it will be asked about; its own units are the tokens that these use, all of them if there are none.

    Raises:
        TextModelError: no language model, damaged, or with another vocabulary than ``inventory`` and ``texts`` have.
        MissingDependencyError: transformers is not installed.
    """
    try:
        weights = find_weights(folder)
        name = _architecture(folder)
    except TeacherError as error:
        raise TextModelError(str(error).replace("ForCTC", "ForMaskedLM")) from error
    with _transformers(folder):
        model, tokenizer = _load(folder, name), _tokenizer(folder)
    network = HuggingFaceNetwork(folder, model, tokenizer, reads_both_ways=name.endswith(MASKED))
    texts = list(dict.fromkeys(" ".join(text.split()) for text in texts))
    units, token_ids = _units(folder, tokenizer, network.tokens, inventory, texts)
    network.chosen = torch.tensor(token_ids)
    content = {
        "weights": sorted((file.name, file_sha256(file)) for file in weights),
        "config": read_json(folder / CONFIG),
        "units": units.to_json(),
    }
    fingerprint = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    found = HuggingFaceTextModel(network, units, token_ids, fingerprint=fingerprint)
    if texts:
        found.rehearse(units.spell(text).ids for text in texts[:REHEARSED])
    return found


def _units(
    folder: Path,
    tokenizer: Any,  # noqa: ANN401 (transformers)
    tokens: int,
    inventory: Inventory | None,
    texts: Sequence[str],
) -> tuple[Inventory, list[int]]:
    """Units, and the token of each."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    missing: list[str] = []
    if inventory is not None:
        mapped = [token_of(symbol, vocabulary) for symbol in inventory.symbols]
        whole = [token for token in mapped if token is not None and token < tokens]
        if len(set(whole)) == len(mapped):
            return inventory, whole
        missing = [symbol for symbol, token in zip(inventory.symbols, mapped, strict=True) if token is None]
        if not texts:
            raise TextModelError(
                f"{folder}: a language model with another vocabulary: {len(missing)} of the {len(mapped)} units that "
                f"are asked for are no tokens of it ({named(missing)}); ask for its own tokens, or train one of these "
                "units"
            )
    backend = tokenizer.backend_tokenizer
    special = set(tokenizer.all_special_ids)
    used = sorted(_used(folder, backend, special, texts)) if texts else sorted({*vocabulary.values()} - special)
    if not used or used[-1] >= tokens:
        raise TextModelError(f"{folder}: tokenizer and model do not belong together; save them again")
    by_id = {token: symbol for symbol, token in vocabulary.items()}
    units = HuggingFaceInventory(backend.to_str(), [by_id[token] for token in used])
    return units, used


def _used(folder: Path, backend: Any, special: set[int], texts: Sequence[str]) -> set[int]:  # noqa: ANN401
    """Tokens of texts.

    Raises:
        TextModelError: texts that the tokenizer cannot write.
    """
    found: set[int] = set()
    unknown: list[str] = []
    for text in texts:
        tokens, words = tokenized(backend, text)
        found.update(tokens)
        split = text.split()
        unknown += [split[word] for token, word in zip(tokens, words, strict=True) if token in special]
    if unknown:
        raise TextModelError(
            f"{folder}: a language model with another vocabulary: it cannot write {named(unknown)} of the texts; take "
            "one of this language and spelling"
        )
    return found


def _architecture(folder: Path) -> str:
    """Name of the model's class."""
    config = read_json(folder / CONFIG)
    architectures = config.get("architectures") or []
    found = [name for name in architectures if isinstance(name, str) and name.endswith((*CAUSAL, *MASKED))]
    if not found:
        raise TextModelError(
            f"{folder} holds {architectures or 'no named architecture'}, no language model (*ForCausalLM, *ForMaskedLM)"
        )
    if "auto_map" in config:
        raise TextModelError(f"{folder} brings its own code (auto_map in {CONFIG}), which is never run here")
    return str(found[0])


@contextmanager
def _transformers(folder: Path) -> Iterator[None]:
    """Have transformers, quiet and offline."""
    try:
        with redirect_stdout(io.StringIO()):
            import transformers  # noqa: F401 (only whether it is there)
    except ImportError as error:
        raise MissingDependencyError(
            f"{folder}: Hugging Face models need transformers; install it with `pip install 'kdcompress[export]'`"
        ) from error
    with quiet_and_offline():
        yield


def _load(folder: Path, name: str) -> Any:  # noqa: ANN401 (transformers)
    """Load the model in float32."""
    import transformers

    kind = getattr(transformers, name, None)
    if kind is None:
        raise TextModelError(f"{folder}: transformers {transformers.__version__} knows no {name}")
    try:
        model, report = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # safetensors' has no base of its own
        raise TextModelError(f"{folder}: transformers cannot load it as {name} ({one_line(error)})") from error
    wrong = sorted([*report["missing_keys"], *(str(key[0]) for key in report["mismatched_keys"])])
    if wrong:
        raise TextModelError(f"{folder}: {len(wrong)} weights of {name} are missing or have another shape ({wrong[0]})")
    for key, tensor in model.named_parameters():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise TextModelError(f"{folder}: holds NaN or infinity in {key}; copy it again")
    return model.eval().requires_grad_(requires_grad=False)


def _tokenizer(folder: Path) -> Any:  # noqa: ANN401 (transformers)
    """Load its tokenizer."""
    from transformers import AutoTokenizer

    try:
        loader: Any = AutoTokenizer
        tokenizer = loader.from_pretrained(folder, local_files_only=True, trust_remote_code=False, use_fast=True)
        HuggingFaceInventory(tokenizer.backend_tokenizer.to_str(), ())
    except (Exception, VocabularyError) as error:  # whatever a tokenizer's files are wrong in
        raise TextModelError(
            f"{folder}: its tokenizer cannot be loaded ({one_line(error)}); save a fast one, tokenizer.json, beside it"
        ) from error
    return tokenizer


def _marks(tokenizer: Any, config: Any, *, reads_both_ways: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:  # noqa: ANN401
    """Tokens around a text: ``[CLS] text [SEP]``; of a causal model the one that begins, or else ends, texts."""
    if reads_both_ways:
        first = _first(tokenizer.cls_token_id, tokenizer.bos_token_id)
        return first, _first(tokenizer.sep_token_id, tokenizer.eos_token_id)
    return _first(tokenizer.bos_token_id, config.bos_token_id, tokenizer.eos_token_id, config.eos_token_id), ()


def _first(*candidates: int | None) -> tuple[int, ...]:
    return tuple(token for token in candidates if token is not None)[:1]

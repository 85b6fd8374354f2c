"""A language of a few words, sentence pairs by hand, tiny recipes over them, and a tiny Marian that knows them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from kdcompress.recipe_file import load_recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from kdcompress.recipe import Recipe

WHO = {"I": "Jag", "You": "Du", "Tom": "Tom", "We": "Vi"}
DOES = {"see": "ser", "eat": "äter", "want": "vill ha"}
WHAT = {"a house": "ett hus", "fish": "fisk", "the red car": "den röda bilen", "nothing": "ingenting"}
PAIRS = [
    (f"{who} {does} {what}.", f"{WHO[who]} {DOES[does]} {WHAT[what]}.") for who in WHO for does in DOES for what in WHAT
]
TRAIN, DEV = [pair for place, pair in enumerate(PAIRS) if place % 6], PAIRS[::6]
ENCODER = {"block": "attention", "width": 16, "depth": 1, "token_depth": 1, "heads": 2, "dropout": 0.0}
MODELS: dict[str, dict[str, Any]] = {
    "student": {"kind": "full_context", "subsampling_factor": 1, "encoder": ENCODER},
    "conventional": {"kind": "conventional", "subsampling_factor": 1, "encoder": ENCODER},
    "oracle": {"kind": "oracle", "subsampling_factor": 1, "heads": 2, "fusion_depth": 1, "encoder": ENCODER},
}


def write_pairs(path: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    rows = [{"id": f"s{place}", "source": source, "target": target} for place, (source, target) in enumerate(pairs)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Manifests ``train`` (40 pairs) and ``dev`` (8)."""
    folder = tmp_path_factory.mktemp("pairs")
    return {name: write_pairs(folder / f"{name}.jsonl", found) for name, found in (("train", TRAIN), ("dev", DEV))}


@pytest.fixture(scope="session")
def recipe_of(pairs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Recipe]:
    """``recipe_of("student", "train.steps=3")``: a recipe over the pairs; further arguments are overrides."""
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    tree = {
        "schema": 1,
        "name": "pairs",
        "task": "translation",
        "data": {"train": str(pairs["train"]), "dev": str(pairs["dev"]), "units": "subwords", "subwords": 60},
        "frontend": {"kind": "tokens", "subwords": 50, "upsampling": 3},
        "augment": {"spec": None},
        "train": {"steps": 2, "batch_size": 8, "log_every": 1},
    }

    def make(kind: str = "student", *overrides: str) -> Recipe:
        path.write_text(json.dumps({**tree, "model": MODELS[kind]}), encoding="utf-8")
        return load_recipe(str(path), list(overrides))

    return make


def marian_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    texts = [text for pair in PAIRS for text in pair]
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=90, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=48
    )


@pytest.fixture(scope="session")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder: a Marian of two small layers that has learned all of the pairs."""
    transformers = pytest.importorskip("transformers")
    torch.set_num_threads(1)
    torch.manual_seed(1)
    tokenizer, width = marian_tokenizer(), 32
    sides = {f"{side}_layers": 1 for side in ("encoder", "decoder")}
    heads = {f"{side}_attention_heads": 2 for side in ("encoder", "decoder")}
    wide = {f"{side}_ffn_dim": 2 * width for side in ("encoder", "decoder")}
    ids = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "forced_eos_token_id": 1}
    config = transformers.MarianConfig(
        vocab_size=len(tokenizer),
        d_model=width,
        max_position_embeddings=48,
        dropout=0.0,
        **sides,
        **heads,
        **wide,
        **ids,
    )
    model = transformers.MarianMTModel(config)
    source, target = (tokenizer([pair[side] for pair in PAIRS], return_tensors="pt", padding=True) for side in (0, 1))
    labels = target["input_ids"].masked_fill(target["attention_mask"] == 0, -100)
    shifted = torch.nn.functional.pad(target["input_ids"], (1, -1))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(250):
        logits = model(
            input_ids=source["input_ids"], attention_mask=source["attention_mask"], decoder_input_ids=shifted
        ).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("marian") / "tiny"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

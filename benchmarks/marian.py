"""Train a small autoregressive translator of Marian's architecture (Hugging Face) on sentence pairs, from nothing.

The teacher for sequence-level distillation in ``bench_translation.py``: no model can be downloaded where the benchmarks
run, so one is made. What it writes is an ordinary Hugging Face folder, which `kdcompress label` opens like any other::

    python benchmarks/marian.py [--train TRAIN.jsonl --dev DEV.jsonl -o runs/translation/marian]
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import sacrebleu
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast

from kdcompress_runtime.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

SPECIALS = ["<pad>", "</s>", "<unk>"]
PAD = 0


def main() -> None:
    """Train, measure on dev now and then, keep the best by chrF."""
    options = _parser().parse_args()
    torch.manual_seed(options.seed)
    pairs = read_pairs(options.train)
    tokenizer = make_tokenizer([text for pair in pairs for text in pair], options.symbols)
    model = MarianMTModel(config_of(len(tokenizer), options))
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(pairs):,} pairs", flush=True)
    encoded = [(tokenizer(source)["input_ids"], tokenizer(target)["input_ids"]) for source, target in pairs]
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step, options.warmup, options.steps))
    best, began, total = -1.0, time.monotonic(), 0.0
    dev = read_pairs(options.dev)
    for step, batch in zip(
        range(1, options.steps + 1), batches(encoded, options.batch_size, options.seed), strict=False
    ):
        model.train()
        logits = model(
            input_ids=batch["source"], attention_mask=batch["mask"], decoder_input_ids=batch["shifted"]
        ).logits
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), batch["target"].flatten(), ignore_index=-100, label_smoothing=0.1
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        total += float(loss.detach())
        if step % options.eval_every == 0 or step == options.steps:
            texts = translate(model, tokenizer, [source for source, _ in dev])
            chrf = sacrebleu.corpus_chrf(texts, [[target for _, target in dev]]).score
            row = {
                "step": step,
                "loss": total / options.eval_every,
                "dev_chrf": chrf,
                "seconds": time.monotonic() - began,
            }
            print(json.dumps(row), flush=True)
            total = 0.0
            if chrf > best:
                best = chrf
                model.save_pretrained(options.output)
                tokenizer.save_pretrained(options.output)


def read_pairs(manifest: Path) -> list[tuple[str, str]]:
    """Source and target of every line."""
    return [(entry.input, entry.text) for entry in read_manifest(manifest)]


def make_tokenizer(texts: list[str], symbols: int) -> PreTrainedTokenizerFast:
    """Learn one byte-pair encoding for both languages; ``</s>`` ends every text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))  # noqa: S106 (a token of text)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=symbols, special_tokens=SPECIALS, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIALS[0],
        eos_token=SPECIALS[1],
        unk_token=SPECIALS[2],
        model_max_length=256,
    )


def config_of(symbols: int, options: argparse.Namespace) -> MarianConfig:
    """Architecture: as Marian's Transformer, small."""
    width = options.width
    return MarianConfig(
        vocab_size=symbols,
        d_model=width,
        encoder_layers=options.layers,
        decoder_layers=options.layers,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        max_position_embeddings=256,
        dropout=options.dropout,
        attention_dropout=options.dropout,
        activation_function="relu",
        scale_embedding=True,
        share_encoder_decoder_embeddings=True,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        eos_token_id=1,
        forced_eos_token_id=1,
        decoder_start_token_id=PAD,
        bos_token_id=1,
    )


def rate_at(step: int, warmup: int, steps: int) -> float:
    """Linear warm-up, cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def batches(encoded: list[tuple[list[int], list[int]]], size: int, seed: int) -> Iterator[dict[str, Any]]:
    """Endless batches of pairs of about one length."""
    rng = np.random.default_rng(seed)
    while True:
        noisy = np.array([len(source) + len(target) for source, target in encoded]) + rng.uniform(0, 3, len(encoded))
        order = np.argsort(noisy, kind="stable")
        starts = np.arange(0, len(order), size)
        for start in rng.permutation(starts):
            yield collate([encoded[place] for place in order[start : start + size]])


def collate(rows: list[tuple[list[int], list[int]]]) -> dict[str, Any]:
    """Pad; the decoder's input begins with padding and lacks the last token."""
    source = torch.nn.utils.rnn.pad_sequence([torch.tensor(row[0]) for row in rows], batch_first=True)
    target = torch.nn.utils.rnn.pad_sequence([torch.tensor(row[1]) for row in rows], batch_first=True)
    mask = torch.tensor([[1] * len(row[0]) + [0] * (source.shape[1] - len(row[0])) for row in rows])
    shifted = torch.nn.functional.pad(target, (1, -1))
    lens = torch.tensor([len(row[1]) for row in rows])
    wanted = target.masked_fill(torch.arange(target.shape[1])[None] >= lens[:, None], -100)
    return {"source": source, "mask": mask, "target": wanted, "shifted": shifted}


def open_marian(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer of a folder."""
    return MarianMTModel.from_pretrained(folder).eval(), PreTrainedTokenizerFast.from_pretrained(folder)


@torch.no_grad()
def translate(model: Any, tokenizer: Any, texts: list[str], beams: int = 1) -> list[str]:  # noqa: ANN401 (transformers)
    """Translate texts, 64 at a time, longest together."""
    model.eval()
    order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
    found = [""] * len(texts)
    for start in range(0, len(order), 64):
        places = order[start : start + 64]
        batch = tokenizer([texts[place] for place in places], return_tensors="pt", padding=True)
        ids = model.generate(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], num_beams=beams, max_new_tokens=64
        )
        for place, text in zip(places, tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True):
            found[place] = text
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    pairs = Path("../shared/data/tatoeba_en_sv")
    parser.add_argument("--train", type=Path, default=pairs / "train.jsonl")
    parser.add_argument("--dev", type=Path, default=pairs / "dev.jsonl")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/translation/marian"))
    for name, default in (("steps", 6000), ("batch-size", 64), ("eval-every", 500), ("warmup", 400), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("symbols", 4000), ("width", 256), ("layers", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--dropout", type=float, default=0.3)
    return parser


if __name__ == "__main__":
    main()

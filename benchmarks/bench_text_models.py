#!/usr/bin/env python3
"""How well language models of several units and kinds fit a text that they have not seen, and what they cost.

Usage: python benchmarks/bench_text_models.py TEXT... --dev DEV [--lexicon FILE] [--senones FILE] [--save DIR]

TEXT and DEV are texts, one sentence a line, or manifests. Figures are of DEV: perplexity a unit and a word, and bits a
character, which compare units (not those of phones and senones, which do not tell words of equal sound apart). The
end of a sentence is not predicted. Of masked models all are pseudo: each unit is given all others. Seconds are those
of the processor, on one thread. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from kdcompress.files import write_text
from kdcompress.text_models.fit import fit_text_model
from kdcompress.text_models.recipe import TextRecipe

KINDS = ("ngram", "causal_lstm", "causal_transformer", "masked_transformer")


def main() -> int:
    """Train, measure, print."""
    options = _options()
    torch.set_num_threads(1)
    rows = [
        _row(options, units, text, kind) for units, text in _units(options).items() for kind in options.kinds.split(",")
    ]
    table = markdown(rows)
    print(table)
    if options.save:
        write_text(options.save / "rows.json", json.dumps(rows, indent=1) + "\n")
        write_text(options.save / "README.md", f"{_head(options)}\n\n{table}\n")
    print(json.dumps({"rows": rows}))
    return 0


def _units(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Section ``text`` of each unit that can be made."""
    found: dict[str, dict[str, Any]] = {"characters": {}, "subwords": {"subwords": 256}}
    if options.lexicon:
        found["phones"] = {"lexicon": str(options.lexicon), "g2p": "lexicon"}
    if options.senones:
        found["senones"] = {"senones": str(options.senones)}
    return found


def _row(options: argparse.Namespace, units: str, text: dict[str, Any], kind: str) -> dict[str, Any]:
    recipe = TextRecipe.model_validate(
        {
            "schema": 1,
            "name": f"{units}-{kind}",
            "seed": options.seed,
            "text": {"train": list(map(str, options.texts)), "dev": str(options.dev), "units": units, **text},
            "model": {"kind": kind},
            "train": {"steps": options.steps, "eval_every": max(1, options.steps // 4)},
        }
    )
    began, spent = time.process_time(), options.work / f"{recipe.name}.cpu-seconds"
    summary = fit_text_model(recipe, options.work / recipe.name)
    if not spent.is_file():  # a finished run is not trained again
        write_text(spent, f"{time.process_time() - began:.1f}\n")
    row = {
        "units": units,
        "num_units": summary["num_units"],
        "kind": kind,
        "parameters": summary["parameters"],
        "cpu_seconds": float(spent.read_text(encoding="utf-8")),
        "best_step": summary.get("best_step"),
        **{key: summary["dev"][key] for key in ("perplexity", "word_perplexity", "bits_per_character")},
    }
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def markdown(rows: list[dict[str, Any]]) -> str:
    """Rows as a table."""
    lines = [
        "| units | number | kind | perplexity a unit | a word | bits a character | parameters | CPU seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['units']} | {row['num_units']} | {row['kind']} | {row['perplexity']:.2f} | "
        f"{row['word_perplexity']:.0f} | {row['bits_per_character']:.3f} | {row['parameters']:,} | "
        f"{row['cpu_seconds']:.0f} |"
        for row in rows
    ]
    return "\n".join(lines)


def _head(options: argparse.Namespace) -> str:
    return (
        "# Language models of several units\n\n"
        f"`benchmarks/bench_text_models.py` with {', '.join(path.name for path in options.texts)} to train on, "
        f"{options.dev.parent.name}/{options.dev.name} held out, {options.steps} steps of the defaults, seed "
        f"{options.seed}. The end of a sentence is not predicted; figures of masked models are pseudo (each unit is "
        "given all others), those of phones and senones are of less than the text. CPU seconds hold reading, "
        "training and measuring."
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--lexicon", type=Path)
    parser.add_argument("--senones", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default=",".join(KINDS), help="kinds with commas between")
    parser.add_argument("--work", type=Path, default=Path("runs/text-models"))
    parser.add_argument("--save", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

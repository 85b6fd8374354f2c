"""A student whose tokens are words (or phones) is trained, exported, measured and run like any other."""

from __future__ import annotations

from kdcompress.distill import fit
from kdcompress.recipe import Recipe
from kdcompress_evaluation import EvalOptions, evaluate
from kdcompress_export import ExportOptions, SearchOptions, export_run
from kdcompress_runtime import Recognizer, read_audio
from kdcompress_runtime.decoders import DecoderOptions


def test_words_go_all_the_way_to_the_report(make_manifest, tmp_path):
    data = {name: str(make_manifest(tmp_path, name, count, 1)) for name, count in (("train", 8), ("dev", 3))}
    tree = {
        "schema": 1,
        "name": "words",
        "data": {**data, "units": "words"},
        "frontend": {"sample_rate": 8000, "num_mel_bins": 16},
        "model": {"kind": "separable_conv", "width": 16, "depth": 2, "kernel": 5, "lookahead_frames": 2},
        "train": {"steps": 2, "batch_size": 8},
    }
    fit(Recipe.model_validate(tree), tmp_path / "run")
    metadata = export_run(
        tmp_path / "run", tmp_path / "bundle", ExportOptions(quantization=SearchOptions(quantize="none"))
    )
    assert metadata.measured["error_rates"]["words"] == 9

    eager = DecoderOptions(blank_penalty=20.0)  # the audio is noise, and the student has learned nothing
    recognizer = Recognizer.from_dir(tmp_path / "bundle", decoder=eager)
    assert recognizer.vocabulary.symbols == ("<blk>", "▁one", "▁two", "▁zero")
    result = recognizer.recognize(*read_audio(tmp_path / "audio" / "train-0.flac"))
    assert result.tokens
    assert result.text == " ".join(token.removeprefix("▁") for token in result.tokens)

    summary = evaluate([tmp_path / "bundle"], {"dev": tmp_path / "dev.jsonl"}, tmp_path / "report", EvalOptions())
    assert summary.failure_count == 0
    assert "WER" in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")

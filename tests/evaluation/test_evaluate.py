from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import soundfile

from kdcompress_evaluation import Decoding, EvalOptions, evaluate
from kdcompress_evaluation.derive import summarise
from kdcompress_evaluation.errors import PairingError, RowsError
from kdcompress_evaluation.scoring import plain
from kdcompress_evaluation.summary import Summary
from kdcompress_runtime import BundleError, DecoderOptions, ManifestError, OptionsError

QUICK = EvalOptions(resamples=1000, speed_utterances=0)
TIMED = EvalOptions(resamples=1000, speed_utterances=2, speed_rounds=1, paced_seconds=0)


def rows(output: Path, stem: str) -> list[dict[str, Any]]:
    lines = (output / "rows" / f"{stem}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_numbers_are_those_of_jiwer_on_the_rows(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    summary = evaluate([bundle], {"test": manifest}, tmp_path / "out", QUICK)
    found = rows(tmp_path / "out", "good-float32.test")
    assert [row["id"] for row in found] == [f"u{i}" for i in range(8)]
    assert found[1]["hypothesis"] == "a b d"
    assert found[0]["duration"] == pytest.approx(10 * 0.04)
    assert found[0]["seconds"] > 0
    assert found[0]["log_prob"] < 0
    references = [plain(row["reference"]) for row in found]
    hypotheses = [plain(row["hypothesis"]) for row in found]
    pooled = summary.variants[0].pooled
    assert pooled.metrics["wer"].value == pytest.approx(jiwer.wer(references, hypotheses))
    assert pooled.metrics["cer"].value == pytest.approx(jiwer.cer(references, hypotheses))
    assert (pooled.words.substitutions, pooled.words.deletions, pooled.words.insertions) == (1, 1, 2)
    assert pooled.empty == 1
    assert pooled.differences == {}


def test_pooled_rate_sums_manifests_and_speakers_are_resampled(
    bundle: Path, make_manifest: Any, tmp_path: Path
) -> None:
    speakers = [f"s{i}" for i in range(10)]
    one = make_manifest(tmp_path / "one", "one", [("a b", "a b")] * 10, speaker=speakers)
    two = make_manifest(tmp_path / "two", "two", [("a b", "a c")] * 10, speaker=speakers)
    summary = evaluate([bundle], {"one": one, "two": two}, tmp_path / "out", QUICK)
    variant = summary.variants[0]
    assert [variant.manifests[name].metrics["wer"].value for name in ("one", "two")] == [0.0, 0.5]
    assert variant.pooled.metrics["wer"].value == 0.25
    assert summary.resampled_by == "speaker"
    assert rows(tmp_path / "out", "good-float32.one")[3]["speaker"] == "s3"


def test_planted_difference_is_found_and_identical_bundles_do_not_differ(
    make_bundle: Any, make_manifest: Any, tmp_path: Path
) -> None:
    manifest = make_manifest(tmp_path / "data", "m", [("bad cab", "bad cab"), ("dad ace", "dad ace")] * 10)
    good = make_bundle(tmp_path / "x" / "good", "twin")
    same = make_bundle(tmp_path / "y" / "same", "twin")
    bad = make_bundle(tmp_path / "z" / "evil", "evil", {"float32": {"b": "c"}})
    summary = evaluate([good, same, bad], {"m": manifest}, tmp_path / "out", QUICK)
    assert [v.info.name for v in summary.variants] == ["twin@good-float32", "twin@same-float32", "evil-float32"]
    assert summary.run.baseline == "twin@good-float32"
    equal, worse = (v.pooled.differences["wer"].estimate for v in summary.variants[1:])
    assert (equal.value, equal.low, equal.high) == (0, 0, 0)
    assert worse.low is not None
    assert worse.value == 0.5
    assert worse.low > 0.2
    assert [v.fronts["size"] for v in summary.variants][2] is False


def test_precisions_and_baseline(make_bundle: Any, manifest: Path, tmp_path: Path) -> None:
    both = make_bundle(tmp_path / "both", "both", {"int8": {"e": "d"}, "float32": {}})
    everything = evaluate(
        [both], {"m": manifest}, tmp_path / "out", EvalOptions(precisions="all", resamples=1000, speed_utterances=0)
    )
    assert [v.info.precision for v in everything.variants] == ["int8", "float32"]
    assert everything.run.baseline == "both-float32"
    default = evaluate([both], {"m": manifest}, tmp_path / "out2", QUICK)
    assert [v.info.precision for v in default.variants] == ["int8"]
    with pytest.raises(BundleError, match=r"both: the bundle holds no float16 model"):
        evaluate([both], {"m": manifest}, tmp_path / "o", EvalOptions(precisions="float16"))
    with pytest.raises(OptionsError, match="no variant or bundle is called 'none'"):
        evaluate([both], {"m": manifest}, tmp_path / "o", EvalOptions(baseline="none"))
    assert not (tmp_path / "o").exists()


def test_a_zipped_bundle_is_the_same_bundle(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    folder = evaluate([bundle], {"m": manifest}, tmp_path / "out", QUICK)
    zipped = Path(shutil.make_archive(str(tmp_path / "zipped" / "good"), "zip", bundle))
    found = evaluate([zipped], {"m": manifest}, tmp_path / "out2", TIMED)
    assert found.variants[0].pooled == folder.variants[0].pooled
    assert found.variants[0].footprint.memory is not None


def test_a_killed_run_goes_on_and_ends_the_same(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    whole = evaluate([bundle], {"test": manifest}, tmp_path / "whole", QUICK)

    def stop(stage: str, done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    output = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        evaluate([bundle], {"test": manifest}, output, QUICK, stop)
    assert not (output / "report.html").exists()
    path = output / "rows" / "good-float32.test.jsonl"
    content = path.read_text(encoding="utf-8")
    assert content.count("\n") == 5
    path.write_text(content[:-20], encoding="utf-8")  # as a kill in the middle of a write leaves it
    before = [row["seconds"] for row in map(json.loads, content.splitlines()[:4])]

    resumed = evaluate([bundle], {"test": manifest}, output, QUICK)
    after = rows(output, "good-float32.test")
    assert [row["id"] for row in after] == [f"u{i}" for i in range(8)]
    assert [row["seconds"] for row in after[:4]] == before
    assert resumed.variants[0].pooled == whole.variants[0].pooled
    assert (output / "report.html").exists()


def test_a_second_run_recognises_nothing_again(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    first = evaluate([bundle], {"test": manifest}, tmp_path / "out", QUICK)
    path = tmp_path / "out" / "rows" / "good-float32.test.jsonl"
    content = path.read_bytes()
    second = evaluate([bundle], {"test": manifest}, tmp_path / "out", QUICK)
    assert path.read_bytes() == content
    assert second.variants == first.variants


def test_a_changed_bundle_sets_the_old_rows_aside(make_bundle: Any, manifest: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    before = evaluate([make_bundle(tmp_path / "v1", "m")], {"test": manifest}, output, QUICK)
    after = evaluate([make_bundle(tmp_path / "v2", "m", {"float32": {"a": "e"}})], {"test": manifest}, output, QUICK)
    assert after.variants[0].pooled.metrics["wer"].value > before.variants[0].pooled.metrics["wer"].value  # type: ignore[operator]
    assert len(rows(output, "m-float32.test")) == 8
    assert (output / "rows" / "m-float32.test.jsonl.old").exists()


def test_changed_texts_or_decoder_are_recognised_anew(bundle: Path, make_manifest: Any, tmp_path: Path) -> None:
    output = tmp_path / "out"
    one = make_manifest(tmp_path / "a", "m", [("a", "a"), ("b", "b")])
    evaluate([bundle], {"m": one}, output, QUICK)
    two = make_manifest(tmp_path / "b", "m", [("a", "a"), ("c", "b")])
    assert evaluate([bundle], {"m": two}, output, QUICK).variants[0].pooled.metrics["wer"].value == 0.5
    identity = output / "rows" / "good-float32.m.identity.json"
    before = json.loads(identity.read_text(encoding="utf-8"))
    decoding = Decoding(DecoderOptions(kind="beam", beam_width=4))
    beam = EvalOptions(resamples=1000, speed_utterances=0, decoding=decoding)
    evaluate([bundle], {"m": two}, output, beam)
    assert json.loads(identity.read_text(encoding="utf-8")) != before


def test_failed_utterances_count_as_deletions(bundle: Path, make_manifest: Any, tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "data", "m", [("a b", "a b"), ("c d", "c d"), ("e", "e")])
    (tmp_path / "data" / "m-0.wav").unlink()
    soundfile.write(tmp_path / "data" / "m-2.wav", np.zeros(0, dtype=np.float32), 8000)
    summary = evaluate([bundle], {"m": manifest}, tmp_path / "out", TIMED)
    pooled = summary.variants[0].pooled
    assert (pooled.utterances, pooled.failures, pooled.words.deletions, pooled.words.hits) == (3, 2, 3, 2)
    assert pooled.metrics["wer"].value == pytest.approx(3 / 5)
    assert [failure.id for failure in summary.failures] == ["u0", "u2"]
    assert "not found" in summary.failures[0].error
    assert "2 utterances could not be recognised" in " ".join(summary.notes)
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "2 utterances failed" in html
    assert "audio file not found" in html


def test_nothing_recognised_still_gives_a_report(bundle: Path, make_manifest: Any, tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "data", "m", [("a b", "a b")])
    (tmp_path / "data" / "m-0.wav").unlink()
    summary = evaluate([bundle], {"m": manifest}, tmp_path / "out", EvalOptions(resamples=1000))
    assert summary.variants[0].pooled.metrics["wer"].value == 1.0
    assert summary.variants[0].speed is None
    assert (tmp_path / "out" / "report.md").exists()


def test_only_empty_references_give_no_rate(bundle: Path, make_manifest: Any, tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "data", "m", [("", "a b"), ("", "")])
    summary = evaluate([bundle], {"m": manifest}, tmp_path / "out", QUICK)
    assert summary.variants[0].pooled.metrics["wer"].value is None
    assert summary.variants[0].pooled.words.insertions == 2
    assert "No word error rate" in summary.headline


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"audio_filepath": "x.wav", "text": "a"}\n{"audio_filepath": \n', "line 2: not valid JSON"),
        ('{"audio_filepath": "x.wav", "text": "a"}\n' * 2, "'x.wav' appears twice"),
        ("", "empty"),
    ],
)
def test_a_broken_manifest_is_refused_before_anything_is_written(
    bundle: Path, tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ManifestError, match=message):
        evaluate([bundle], {"m": path}, tmp_path / "out", QUICK)
    assert not (tmp_path / "out").exists()


def test_bad_requests_are_refused(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="no bundle"):
        evaluate([], {"m": manifest}, tmp_path / "out")
    with pytest.raises(OptionsError, match="given twice"):
        evaluate([bundle, bundle], {"m": manifest}, tmp_path / "out")
    with pytest.raises(OptionsError, match="no manifest"):
        evaluate([bundle], {}, tmp_path / "out")
    with pytest.raises(OptionsError, match="names files"):
        evaluate([bundle], {"../m": manifest}, tmp_path / "out")
    with pytest.raises(OptionsError, match="names files"):
        evaluate([bundle], {"m.v2": manifest}, tmp_path / "out")
    with pytest.raises(OptionsError, match="resamples must be at least 1000"):
        EvalOptions(resamples=10)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(RowsError, match="cannot write the report"):
        evaluate([bundle], {"m": manifest}, tmp_path / "file", QUICK)


def test_summary_is_derived_from_rows_alone(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    first = evaluate([bundle], {"test": manifest}, output, TIMED)
    assert summarise(output) == first
    assert Summary.read(output / "report.json") == first
    path = output / "rows" / "good-float32.test.jsonl"
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    with pytest.raises(RowsError, match="1 rows of 8 are missing, the first of utterance 8"):
        summarise(output)
    (output / "rows" / "run.json").unlink()
    with pytest.raises(RowsError, match=r"run\.json is missing"):
        summarise(output)


def test_variants_with_different_utterances_are_refused(make_bundle: Any, manifest: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    bundles = [make_bundle(tmp_path / name, name) for name in ("one", "two")]
    evaluate(bundles, {"m": manifest}, output, QUICK)
    path = output / "rows" / "two-float32.m.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace('"id": "u3"', '"id": "other"'), encoding="utf-8")
    with pytest.raises(PairingError, match=r"two-float32.* 1 have another id or reference"):
        summarise(output)


def test_progress_reaches_the_end_of_every_stage(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    last: dict[str, tuple[int, int]] = {}

    def note(stage: str, done: int, total: int) -> None:
        last[stage] = (done, total)

    evaluate([bundle], {"m": manifest}, tmp_path / "out", TIMED, note)
    assert last["recognise good-float32"] == (8, 8)
    assert set(last) >= {"overlaps", "report", "speed", "memory"}
    assert all(done == total for done, total in last.values()), last

"""The commands of decoding as a user meets them: ``lm``, ``tune-decoder``, and the options of transcribe and eval."""

from __future__ import annotations

import json

import pytest
import soundfile

from kdcompress.cli import main
from kdcompress_runtime import Bundle, Recognizer

RATE = 8000
LINES = ["ab", "ba c", "ca", "bab", "c ab", "cac", "abc", "b a", "acb", "cab ca", "bcb ab", "cab ba"]


@pytest.fixture(scope="module")
def bundle(run, folder):
    from kdcompress_export import ExportOptions, SearchOptions, export_run

    export_run(run, folder / "plain", ExportOptions(quantization=SearchOptions(quantize="none")))
    return folder / "plain"


@pytest.fixture
def recording(tmp_path, speaker):
    soundfile.write(tmp_path / "said.wav", speaker("cab ba", 77), RATE)
    return tmp_path / "said.wav"


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(LINES * 3) + "\n", encoding="utf-8")
    return tmp_path / "text.txt"


def sentence(capsys) -> str:
    """The one error on stderr."""
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    return errors[0]


def test_a_language_model_is_estimated_packed_and_judged(capsys, text, tmp_path):
    arpa, packed = tmp_path / "lm.arpa", tmp_path / "lm.kdlm"
    assert main(["lm", "estimate", str(text), "-o", str(arpa), "--order", "2", "--fallback"]) == 0
    assert arpa.read_text(encoding="utf-8").lstrip().startswith("\\data\\")
    assert main(["lm", "import", str(arpa), "-o", str(packed)]) == 0
    capsys.readouterr()
    assert main(["lm", "evaluate", str(arpa), str(text)]) == 0
    judged = capsys.readouterr().out
    assert judged.startswith("perplexity ")
    assert "unknown 0.00 %" in judged
    assert main(["lm", "evaluate", str(packed), str(text)]) == 0
    assert capsys.readouterr().out == judged


def test_the_texts_of_a_manifest_will_do(capsys, folder, tmp_path):
    manifest, text = folder / "dev.jsonl", tmp_path / "same.txt"
    lines = [json.loads(line)["text"] for line in manifest.read_text(encoding="utf-8").splitlines()]
    text.write_text("\n".join(lines), encoding="utf-8")
    for source, name in ((manifest, "one.arpa"), (text, "two.arpa")):
        assert main(["lm", "estimate", str(source), "-o", str(tmp_path / name), "--order", "2", "--fallback"]) == 0
    assert (tmp_path / "one.arpa").read_text() == (tmp_path / "two.arpa").read_text()


def test_a_model_of_tokens_takes_the_bundle_s(capsys, text, bundle, tmp_path):
    packed = tmp_path / "tokens.kdlm"
    command = ["lm", "estimate", str(text), "-o", str(packed), "--unit", "token", "--order", "3"]
    assert main(command) == 1
    assert "tokens" in sentence(capsys)
    assert main([*command, "--bundle", str(bundle)]) == 0
    assert main([*command, "--bundle", str(bundle / "tokens.txt")]) == 0


@pytest.fixture
def places(bundle, recording, text, folder):
    """What stands for names in capitals."""
    return {"BUNDLE": bundle, "SAID": recording, "TEXT": text, "DEV": folder / "dev.jsonl"}


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (["lm", "estimate", "none.txt", "-o", "x.arpa"], "none.txt"),
        (["lm", "estimate", "TEXT", "-o", "x.gguf"], "x.gguf"),
        (["lm", "estimate", "TEXT", "-o", "x.arpa", "--order", "9"], "order"),
        (["lm", "import", "TEXT", "-o", "x.kdlm"], "text.txt"),
        (["lm", "evaluate", "none.arpa", "TEXT"], "none.arpa"),
        (["transcribe", "BUNDLE", "SAID", "--lm", "none.arpa"], "none.arpa"),
        (["transcribe", "BUNDLE", "SAID", "--decoder", "greedy", "--lm", "none.arpa"], "none.arpa"),
        (["transcribe", "BUNDLE", "SAID", "--decoder", "greedy", "--hotword", "cab"], "beam"),
        (["transcribe", "BUNDLE", "SAID", "--hotword", "cab=loud"], "loud"),
        (["transcribe", "BUNDLE", "SAID", "--hotword", "zebra"], "zebra"),
        (["transcribe", "BUNDLE", "SAID", "--hotwords", "none.txt"], "none.txt"),
        (["transcribe", "BUNDLE", "SAID", "--lexicon", "none.txt"], "none.txt"),
        (["transcribe", "BUNDLE", "SAID", "--alpha", "-1"], "alpha"),
        (["transcribe", "BUNDLE", "SAID", "--nbest", "2", "--stream"], "--nbest"),
        (["tune-decoder", "BUNDLE", "--manifest", "none.jsonl"], "none.jsonl"),
        (["tune-decoder", "nowhere", "--manifest", "none.jsonl"], "nowhere"),
        (["tune-decoder", "BUNDLE", "--manifest", "DEV", "--decoder", "viterbi"], "viterbi"),
    ],
)
def test_mistakes_are_one_sentence(capsys, command, word, places):
    assert main([str(places.get(part, part)) for part in command]) == 1
    assert word in sentence(capsys)


def test_words_hypotheses_and_utterances(capsys, bundle, recording):
    assert main(["transcribe", str(bundle), str(recording), "--words"]) == 0
    first, *words = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in words]
    assert " ".join(row[-1] for row in rows) == first
    times = [(float(row[0]), float(row[1])) for row in rows]
    assert all(begin < end for begin, end in times)
    assert all(0 <= float(row[2]) <= 1 for row in rows)
    assert main(["transcribe", str(bundle), str(recording), "--beam-width", "8", "--nbest", "3", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len({row["text"] for row in found}) == 3
    assert [row["score"] for row in found] == sorted((row["score"] for row in found), reverse=True)
    assert main(["transcribe", str(bundle), str(recording), "--endpoint"]) == 0
    assert capsys.readouterr().out.replace(" ", "").replace("\n", "") == first.replace(" ", "")


def test_hotwords_lexicon_and_language_model_change_the_text(capsys, bundle, recording, text, tmp_path):
    def heard(*options: str) -> str:
        assert main(["transcribe", str(bundle), str(recording), *options]) == 0
        return capsys.readouterr().out.strip()

    def bonus(*options: str) -> float:
        row = json.loads(heard(*options, "--json"))
        return row["score"] - row["log_prob"]

    assert heard("--decoder", "beam").startswith("cab ba")
    assert bonus("--hotword", "cab=2") == pytest.approx(6, abs=4)  # a weight counts for each letter
    assert bonus("--hotword", "ccc=2", "--hotword", "abab") == 0
    (tmp_path / "hotwords.txt").write_text("cab=2\n\nccc\n", encoding="utf-8")
    assert bonus("--hotwords", str(tmp_path / "hotwords.txt")) == bonus("--hotword", "cab=2")
    (tmp_path / "words.txt").write_text("bcb\nca\nba\n", encoding="utf-8")
    assert set(heard("--lexicon", str(tmp_path / "words.txt")).split()) <= {"bcb", "ca", "ba"}
    assert main(["lm", "estimate", str(text), "-o", str(tmp_path / "lm.arpa"), "--order", "2", "--fallback"]) == 0
    capsys.readouterr()
    known = set(" ".join(LINES).split())
    assert set(heard("--lm", str(tmp_path / "lm.arpa"), "--alpha", "5", "--beta", "0").split()) <= known


def test_a_tuned_bundle_decodes_as_tuned(capsys, places, tmp_path):
    bundle, recording, text, dev = places.values()
    tuned, report = tmp_path / "tuned", tmp_path / "tuned.json"
    assert main(["lm", "estimate", str(text), "-o", str(tmp_path / "lm.kdlm"), "--order", "2", "--fallback"]) == 0
    command = ["tune-decoder", str(bundle), "--manifest", str(dev), "-o", str(tuned), "--trials", "4"]
    assert main([*command, "--lm", str(tmp_path / "lm.kdlm"), "--decoder", "beam", "--report", str(report)]) == 0
    assert "chosen" in capsys.readouterr().out
    settings = Bundle.open(tuned).metadata.decoder_settings
    assert settings.kind == "beam"
    assert json.loads(report.read_text(encoding="utf-8"))["decoder"]["lm"] == settings.lm == "lm.kdlm"
    assert main(["verify", str(tuned)]) == 0
    capsys.readouterr()
    assert main(["transcribe", str(tuned), str(recording), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    samples, rate = soundfile.read(recording, dtype="float32")
    own = Recognizer.from_dir(tuned).recognize(samples, rate)
    assert (row["text"], row["score"]) == (own.text, own.score)
    assert own.score != own.log_prob  # the language model took part
    assert main(["transcribe", str(tuned), str(recording), "--decoder", "greedy"]) == 0
    output = tmp_path / "report"
    command = ["eval", str(bundle), str(tuned), "--manifest", f"dev={dev}", "-o", str(output)]
    assert main(command) == 0
    written = (output / "report.md").read_text(encoding="utf-8")
    assert "each bundle's own" in written
    assert "was tuned on dev" in written
    assert main([*command, "--lm", str(tmp_path / "lm.kdlm"), "--beam-width", "4"]) == 0
    assert "lm.kdlm" in (output / "report.md").read_text(encoding="utf-8")

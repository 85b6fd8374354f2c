"""What is wrong with a corpus is said in one sentence, or left out, counted and listed; nothing is left half done."""

from __future__ import annotations

import json

import pytest

from kdcompress.cli import main
from kdcompress.data.corpora.adapters import CORPORA
from kdcompress.data.corpora.kaldi import decoded_file
from kdcompress.errors import DataNotFoundError
from kdcompress_runtime.errors import ManifestError, OptionsError
from tests.core.corpora import trees


def unusable(made) -> list[dict]:
    path = next(iter(made.manifests.values())).parent / "unusable.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("kind", CORPORA)
def test_a_missing_folder(prepare, tmp_path, kind):
    with pytest.raises(DataNotFoundError, match="nowhere: there is no such"):
        prepare(kind, tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", CORPORA)
def test_an_empty_folder(prepare, tmp_path, kind):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="empty"):
        prepare(kind, tmp_path / "empty")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def break_librispeech(source):
    (transcript,) = source.glob("train*/*/*/*.trans.txt")
    transcript.write_text(transcript.read_text().splitlines()[0] + "\n")
    return "no transcript", "no line of a .trans.txt"


def break_an4(source):
    path = source / "etc" / "an4_train.transcription"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    return "no transcript", r"ends with \(an251-fash-b\)"


def break_speechocean762(source):
    next(source.glob("WAVE/*/*.WAV")).unlink()
    return "missing file", "no such file"


def break_common_voice(source):
    (source / "clips" / "common_voice_en_train0.mp3").write_text("Dear Sir or Madam,")
    return "unreadable audio", "cannot be read as audio"


def break_kaldi(source):
    path = source / "text"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    return "no transcript", "`text` has no line for it"


def break_nemo(source):
    with (source / "train_manifest.json").open("a") as file:
        file.write('{"audio_filepath": "short.wav", "text"\n')
    return "broken line", "line 4: not valid JSON"


def break_lhotse(source):
    path = source / "cuts.jsonl"
    (source / "cuts_train.jsonl.gz").rename(source / "whole.jsonl.gz")
    two = trees.cut("two", source / "long.flac")
    two["supervisions"] *= 2
    trees.manifest(path, trees.cut("one", source / "long.flac", duration=2.0), two)
    return "refused cut", "2 supervisions instead of one; run `lhotse cut trim-to-supervisions`"


def break_folder(source):
    next(source.glob("*/*.txt")).unlink()
    return "no transcript", "take audio alone with --without-texts"


@pytest.mark.parametrize("kind", CORPORA)
def test_an_unusable_item_is_an_error_that_names_it_or_left_out(tree, prepare, tmp_path, kind):
    name = kind.replace("-", "_")
    source = tree(name)
    sort, words = globals()[f"break_{name}"](source)
    with pytest.raises(ManifestError, match=words):
        prepare(kind, source)
    assert not (tmp_path / "out").exists()
    assert not [path for path in tmp_path.glob(".*") if not (path / "audio").is_dir()]
    made = prepare(kind, source, on_unusable="skip")
    assert made.report["unusable"]["kinds"] == {sort: 1}
    assert [row["kind"] for row in unusable(made)] == [sort]
    assert any("left out 1 item(s)" in warning for warning in made.report["warnings"])


def test_a_wrong_path_does_not_list_a_million_items(tmp_path, prepare):
    lines = [{"audio_filepath": f"{number}.wav", "text": "a", "speaker": "s"} for number in range(50)]
    trees.manifest(tmp_path / "m" / "train.jsonl", *lines)
    with pytest.raises(ManifestError, match=r"20 or more item.*0\.wav.*2\.wav; \.\.\.\. Mend") as found:
        prepare("nemo", tmp_path / "m")
    assert len(str(found.value)) < 900
    with pytest.raises(ManifestError, match="no item is left; all 50 cannot be used"):
        prepare("nemo", tmp_path / "m", on_unusable="skip")


def test_a_repeated_id_is_named_or_the_first_one_stays(tmp_path, prepare, rows):
    sounds = [str(trees.sound(tmp_path / "m" / f"{name}.wav")) for name in "abc"]
    lines = [{"audio_filepath": path, "text": path[-5], "speaker": "s", "id": "same"} for path in sounds]
    trees.manifest(tmp_path / "m" / "train.jsonl", *lines, {**lines[0], "id": "other"})
    with pytest.raises(ManifestError, match=r"2 item\(s\).*b\.wav, item same: the id is that of .*a\.wav, too"):
        prepare("nemo", tmp_path / "m")
    made = prepare("nemo", tmp_path / "m", on_unusable="skip")
    assert [(row["id"], row["text"]) for row in rows(made, "train")] == [("same", "a"), ("other", "a")]
    assert made.report["splits"]["train"]["items"] == 2
    assert made.report["unusable"]["kinds"] == {"repeated id": 2}


def test_a_speaker_in_training_and_test_is_named(tmp_path, prepare):
    for split, speaker in (("train", "anna"), ("test", "anna"), ("train-more", "anna")):
        path = str(trees.sound(tmp_path / "m" / f"{split}.wav"))
        trees.manifest(tmp_path / "m" / f"{split}.jsonl", {"audio_filepath": path, "text": "a", "speaker": speaker})
    with pytest.raises(ManifestError, match=r"1 speaker.*'anna' \(train and train-more and test\).*--shared-speakers"):
        prepare("nemo", tmp_path / "m")
    assert not (tmp_path / "out").exists()
    made = prepare("nemo", tmp_path / "m", shared_speakers="warn")
    assert made.report["speakers_in_several_splits"]["leaking"] == 1
    assert any("anna" in warning for warning in made.report["warnings"])
    both = prepare("nemo", tmp_path / "m", tmp_path / "train", splits=("train", "train-more"))
    assert both.report["speakers_in_several_splits"]["count"] == 1  # in two sets for training: no leak


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("sox -t raw x.raw -t wav - |", "commands of a data file are never run"),
        ("cat {wav}; touch {mark} |", "commands of a data file are never run"),
        ("flac -c -d -s $(touch {mark}) {wav} |", "commands of a data file are never run"),
        ("raw.ark:1234", "inside of an archive"),
        ("", "names no file"),
    ],
)
def test_commands_in_wav_scp_are_refused_and_not_run(tmp_path, prepare, entry, words):
    source = trees.kaldi(tmp_path / "data", speakers=1)
    wav, mark = source / "audio" / "s0-u0.wav", tmp_path / "mark"
    trees.write(source / "wav.scp", f"s0-u0 {entry.format(wav=wav, mark=mark)}", f"s0-u1 {wav.with_name('s0-u1.wav')}")
    with pytest.raises(ManifestError, match=words):
        prepare("kaldi", source)
    assert not mark.exists()
    assert prepare("kaldi", source, on_unusable="skip").report["unusable"]["count"] == 1


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("cat a.wav |", ("a.wav", None)),
        ("flac -c -d -s /x/a.flac |", ("/x/a.flac", None)),
        ("/opt/kaldi/tools/sph2pipe -f wav -p -c 2 'a b.sph' |", ("a b.sph", 1)),
        ("flac -c -d --skip=5 a.flac |", None),
        ("cat a b |", None),
        ("cat |", None),
        ("|", None),
        ("cat 'a |", None),
        ("cat a > b |", None),
        ("wget http://x |", None),
    ],
)
def test_commands_that_only_decode_a_file_stand_for_it(command, found):
    assert decoded_file(command) == found


def test_a_tarred_manifest_names_the_remedy(tmp_path, prepare):
    trees.sound(tmp_path / "unpacked" / "a.wav")
    line = {"audio_filepath": "a.wav", "duration": 0.5, "text": "a", "shard_id": 0, "speaker": "s"}
    trees.manifest(tmp_path / "m" / "train.jsonl", line)
    with pytest.raises(ManifestError, match=r"tar files.*--audio-root"):
        prepare("nemo", tmp_path / "m")
    assert prepare("nemo", tmp_path / "m", audio_root=tmp_path / "unpacked").report["splits"]["train"]["items"] == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"type": "MixedCut"}, "a MixedCut; only MonoCut"),
        ({"recording": None}, "only features"),
        ({"supervisions": []}, "0 supervisions"),
        ({"channel": 4}, "no source of the recording has channel 4"),
        ({"start": "x"}, "not a cut as lhotse writes it"),
        ({"start": 9.0}, "ends at 9.50 s"),
    ],
)
def test_cuts_that_are_refused(tmp_path, prepare, fields, words):
    path = trees.sound(tmp_path / "a.wav")
    trees.manifest(tmp_path / "cuts.jsonl", {**trees.cut("one", path), **fields})
    with pytest.raises(ManifestError, match=words):
        prepare("lhotse", tmp_path / "cuts.jsonl")


def test_recordings_that_lhotse_changes_or_fetches_are_refused(tmp_path, prepare):
    path = trees.sound(tmp_path / "a.wav")
    one, other = trees.cut("one", path), trees.cut("other", path)
    one["recording"]["sources"][0] |= {"type": "command", "source": "touch x"}
    other["recording"]["transforms"] = [{"name": "Speed"}]
    trees.manifest(tmp_path / "cuts.jsonl", one, other)
    with pytest.raises(ManifestError, match=r"of type command, only files.*transforms"):
        prepare("lhotse", tmp_path / "cuts.jsonl")
    trees.manifest(tmp_path / "cuts.jsonl.gz", one)
    with pytest.raises(ManifestError, match="cannot be unpacked"):
        prepare("lhotse", tmp_path / "cuts.jsonl.gz")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"text": "upper"}, "text must be one of"),
        ({"check": "all"}, "check must be"),
        ({"sample_rate": 100}, "between 4000 and 48000"),
        ({"dev_share": 1.5}, "between 0 and 1"),
        ({"dev_share": 0.6, "test_share": 0.5}, "leave nothing for training"),
        ({"on_unusable": "hide"}, "on_unusable must be"),
        ({"jobs": 0}, "jobs must be 1 or more"),
        ({"splits": ("train",)}, "names no splits of its own"),
    ],
)
def test_options_that_make_no_sense(tree, prepare, tmp_path, settings, words):
    with pytest.raises(OptionsError, match=words):
        prepare("kaldi", tree("kaldi"), **settings)
    assert not (tmp_path / "out").exists()


def test_options_that_do_not_go_with_the_corpus(tree, prepare, tmp_path, capsys):
    librispeech, nemo = tree("librispeech"), tree("nemo")
    with pytest.raises(OptionsError, match="no split 'train-other'"):
        prepare("librispeech", librispeech, splits=("dev-clean", "train-other"))
    with pytest.raises(OptionsError, match="taken from `train`, but the corpus has dev-clean, train-clean-100"):
        prepare("librispeech", librispeech, dev_share=0.1)
    with pytest.raises(OptionsError, match="has its own dev"):
        prepare("nemo", nemo, dev_share=0.1)
    command = ["prepare", "librispeech", str(librispeech), "-o", str(tmp_path / "out")]
    assert main([*command, "--speaker-folders"]) == 1
    assert "--speaker-folders is for `prepare folder`" in capsys.readouterr().err
    assert main([*command, "--audio-root", "x"]) == 1
    assert "--audio-root is for" in capsys.readouterr().err


def test_texts_by_the_rule(tree, prepare, rows, tmp_path):
    source = tree("common_voice")
    texts = {}
    for rule in ("keep", "lower", "normalised"):
        texts[rule] = rows(prepare("common-voice", source, tmp_path / rule, text=rule), "dev")[0]["text"]
    assert texts == {"keep": '"Hello," she said.', "lower": '"hello," she said.', "normalised": "hello she said"}
    with pytest.raises(ManifestError, match=r"4 item.*'0' in 'A CAT SAT ON 00' is not a letter"):
        prepare("librispeech", tree("librispeech"), text="normalised")


def test_two_languages_are_asked_about(tmp_path, prepare):
    for language in ("en", "de"):
        trees.common_voice(tmp_path / "cv" / language)
    with pytest.raises(ManifestError, match=r"several languages \(de, en\)"):
        prepare("common-voice", tmp_path / "cv")
    with pytest.raises(OptionsError, match="validated holds all of train"):
        prepare("common-voice", tmp_path / "cv" / "en", splits=("train", "validated"))

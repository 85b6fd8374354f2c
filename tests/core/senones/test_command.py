"""``kdcompress senones``: from manifest and alignment to units, and to manifests in them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from kdcompress.aligning import Aligned, Segment, write_alignments
from kdcompress.aligning.aligned import INPUT_UNITS, Header
from kdcompress.commands.senones import app
from kdcompress.errors import VocabularyError
from kdcompress.units.opening import read_inventory
from kdcompress_runtime.errors import ManifestError
from kdcompress_runtime.manifest import read_manifest

LEXICON = {"tea": "T IY1", "team": "T IY1 M", "mean": "M IY1 N", "see": "S IY1", "bees": "B IY1 Z", "so": "S OW1"}
PHONES = sorted({phone.rstrip("1") for said in LEXICON.values() for phone in said.split()})
FRAMES = 12
"""Of each phone."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Sixty items of three words as features; IY sounds like its neighbours."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    means = rng.normal(size=(len(PHONES) + 1, 4)) * 2
    (folder / "lexicon.txt").write_text("".join(f"{word.upper()} {said}\n" for word, said in LEXICON.items()))
    rows, aligned = [], []
    for place in range(60):
        words = [str(word) for word in rng.choice(sorted(LEXICON), 3)]
        said = [(phone.rstrip("1"), word) for word, name in enumerate(words) for phone in LEXICON[name].split()]
        ids = [PHONES.index(phone) for phone, _ in said]
        left, right = [len(PHONES), *ids[:-1]], [*ids[1:], len(PHONES)]
        centres = means[ids] + 0.6 * means[left] + 0.6 * means[right]
        np.save(folder / f"{place}.npy", rng.normal(centres.repeat(FRAMES, axis=0), 1.0).astype(np.float32))
        segments = [Segment(phone, k * FRAMES, (k + 1) * FRAMES, word) for k, (phone, word) in enumerate(said)]
        length = FRAMES * len(said)
        aligned.append(Aligned(f"i{place}", place, "phones", tuple(words), tuple(segments), length, -1.0))
        rows.append({"feature_filepath": f"{place}.npy", "text": " ".join(words), "id": f"i{place}"})
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_alignments(folder / "ali.jsonl", aligned, Header("phones", INPUT_UNITS))
    return folder


@pytest.fixture
def run(corpus):
    def call(*arguments: object, lexicon: str = "lexicon.txt"):
        options = ["--feature-dim", "4", "--lexicon", str(corpus / lexicon)]
        return CliRunner().invoke(app, [*map(str, arguments), *options])

    return call


def test_senones_are_built_and_texts_written_in_them(run, corpus, tmp_path):
    output, written = tmp_path / "senones.json", tmp_path / "deep" / "train.jsonl"
    found = run(
        corpus / "train.jsonl", corpus / "ali.jsonl", "-o", output, "--count", 12, "--min-frames", 50,
        "--held-out", corpus / "train.jsonl", "--manifest-out", written, "--json",
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    expected = {"leaves": 12, "asked_for": 12, "phones": 8, "states": 1, "purity": 1.0, "items": 60, "of": 12}
    assert expected.items() <= told.items()
    assert told["unheard"] == []
    assert told["unseen"] == {str(corpus / "train.jsonl"): 0.0}
    assert told["gain"] > 0
    inventory = read_inventory(output)
    assert len(inventory.symbols) == 12
    for before, entry in zip(read_manifest(corpus / "train.jsonl"), read_manifest(written), strict=True):
        assert entry.extra["words"] == before.text
        assert entry.text.split() == [inventory.symbols[unit] for unit in inventory.spell(before.text).ids]
        assert entry.id == before.id
        assert np.load(entry.input).shape[1] == 4


def test_without_an_alignment_other_splits_are_written_with_the_same_senones(run, corpus, tmp_path):
    output = tmp_path / "senones.json"
    assert run(corpus / "train.jsonl", corpus / "ali.jsonl", "-o", output, "--count", 12).exit_code == 0
    content = output.read_bytes()
    found = run(corpus / "train.jsonl", "-o", output, "--manifest-out", tmp_path / "dev.jsonl")
    assert found.exit_code == 0
    assert "60 items in senones" in found.stdout
    assert output.read_bytes() == content
    (tmp_path / "phones.json").write_text(json.dumps(read_inventory(output).phones.to_json()))
    other = run(corpus / "train.jsonl", "-o", tmp_path / "phones.json", "--manifest-out", tmp_path / "x.jsonl")
    assert isinstance(other.exception, VocabularyError)
    assert "holds phones, not senones" in str(other.exception)


def test_it_is_said_what_is_possible(run, corpus, tmp_path):
    base = (corpus / "train.jsonl", corpus / "ali.jsonl", "-o", tmp_path / "senones.json")
    few = run(*base, "--count", 3).stdout
    assert "3 senones of 8 phones" in few
    assert "fewer than phones, so that phones share them; 8 or more" in few
    shared = run(*base, "--count", 10, "--states", 3, "--min-frames", 10).stdout
    assert "states share them; 24 or more" in shared
    many = run(*base, "--count", 5000).stdout
    assert "fewer than the 5000 asked for" in many
    assert "purity 100.0 %" in many
    assert "first questions" in many


def test_what_cannot_be_used_is_one_clear_sentence(run, corpus, tmp_path):
    output = ("-o", tmp_path / "senones.json")
    lines = (corpus / "train.jsonl").read_text().splitlines(keepends=True)
    shifted = corpus / "shifted.jsonl"
    shifted.write_text("".join(lines[1:]))
    other = run(shifted, corpus / "ali.jsonl", *output)
    assert isinstance(other.exception, ManifestError)
    assert "is of another manifest" in str(other.exception)
    (corpus / "small.txt").write_text("TEA T IY1\nSEE S IY1\nGOOSE G UW1 S\n")
    unknown = run(corpus / "train.jsonl", corpus / "ali.jsonl", *output, lexicon="small.txt")
    assert isinstance(unknown.exception, VocabularyError)
    assert "none of the 5 phones of the inventory" in str(unknown.exception)
    assert not (tmp_path / "senones.json").exists()
    assert run(corpus / "train.jsonl", corpus / "ali.jsonl", *output, "--units", "x.json").exit_code == 2
    assert run(corpus / "train.jsonl", *output, "--manifest-out", corpus / "train.jsonl").exit_code == 2

"""KenLM as the judge of our own scores, and its binaries."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdcompress_runtime.errors import LanguageModelFormatError, LanguageModelNotFoundError, PicklingRefusedError
from kdcompress_runtime.lm import open_lm, score_text
from kdcompress_runtime.lm.arpa import read_arpa

kenlm = pytest.importorskip("kenlm")

GOLDEN = Path(__file__).parents[1] / "golden" / "lm"
LN10 = math.log(10)
WORDS = ["a", "b", "c", "d"]
NUMBER = st.integers(-4000, -1).map(lambda n: n / 1000)


def judge_of(path: Path) -> kenlm.Model:
    config = kenlm.Config()
    config.show_progress = False
    config.arpa_complain = kenlm.ARPALoadComplain.NONE
    return kenlm.Model(str(path), config)


@st.composite
def arpas(draw) -> str:
    """Models of order 2 (KenLM reads no unigrams alone) to 4; every n-gram has its last words, as KenLM demands."""
    order = draw(st.integers(2, 4))
    with_unknown = draw(st.booleans())
    words = ["<s>", "</s>", *(["<unk>"] if with_unknown else []), *WORDS]
    levels: list[list[tuple[str, ...]]] = [[(word,) for word in words]]
    for _ in range(1, order):
        below = set(levels[-1])
        fits = [(*g, w) for g in below for w in words[1:] if g[-1] != "</s>" and w != "<unk>"]
        fits = sorted(g for g in fits if "<unk>" not in g and g[1:] in below and "<s>" not in g[1:])
        levels.append(draw(st.lists(st.sampled_from(fits), unique=True, max_size=12)) if fits else [])
    lines = ["\\data\\", *(f"ngram {n}={len(level)}" for n, level in enumerate(levels, start=1))]
    for n, level in enumerate(levels, start=1):
        lines += ["", f"\\{n}-grams:"]
        for gram in level:
            backoff = f"\t{draw(NUMBER)}" if n < order and gram[-1] != "</s>" and draw(st.booleans()) else ""
            lines.append(f"{draw(NUMBER)}\t{' '.join(gram)}{backoff}")
    return "\n".join([*lines, "", "\\end\\", ""])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arpas(), st.lists(st.lists(st.sampled_from([*WORDS, "zebra"]), max_size=6), min_size=1, max_size=5))
def test_any_model_scores_any_sentence_as_kenlm_does(tmp_path, content, sentences):
    path = tmp_path / "any.arpa"
    path.write_text(content)
    ours = read_arpa(path)
    judge = judge_of(path)
    assert ours.order == judge.order
    for words in sentences:
        for bos, eos in [(True, True), (False, False)]:
            expected = judge.score(" ".join(words), bos=bos, eos=eos) * LN10
            assert ours.score_sentence(words, bos=bos, eos=eos) == pytest.approx(expected, rel=2e-6, abs=1e-6)


@pytest.mark.parametrize("name", ["words-3", "words-4-pruned", "words-2-sri", "characters-4"])
def test_every_ngram_of_real_models(tmp_path, name):
    ours = open_lm(GOLDEN / f"{name}.arpa.gz")
    judge = judge_of(GOLDEN / f"{name}.arpa.gz")
    lines = (GOLDEN / "text.txt").read_text().splitlines()
    if name.startswith("characters"):
        lines = [" ".join("▁".join(line.split())) for line in lines]
    for line in [*lines, "a zebra , the cat", ""]:
        words = line.split()
        parts = [part for part, _, _ in judge.full_scores(line)]
        context: tuple[int, ...] = (ours.bos,)
        for word, expected in zip([*words, "</s>"], parts, strict=True):
            index = ours.ids.get(word, 0)
            assert ours.score(context, index) == pytest.approx(expected * LN10, rel=2e-6, abs=1e-6)
            context = (*context, index)


@pytest.mark.parametrize("kind", ["trie", "probing"])
def test_binaries_of_kenlm(kind):
    ours = open_lm(GOLDEN / "words-2-sri.arpa.gz")
    theirs = open_lm(GOLDEN / f"words-2-sri.{kind}.bin")
    assert theirs.order == 2
    assert theirs.unit == "word"
    assert set(theirs.words) == set(ours.words)
    assert theirs.words[0] == "<unk>"
    assert (theirs.words[theirs.bos], theirs.words[theirs.eos]) == ("<s>", "</s>")
    sentences = [line.split() for line in (GOLDEN / "text.txt").read_text().splitlines()] + [["zebra", "cat"]]
    assert score_text(theirs, sentences).log_prob == pytest.approx(score_text(ours, sentences).log_prob, rel=1e-6)
    assert score_text(theirs, sentences).unknown == 1
    by_word = dict(zip(ours.words, ours.unigrams(), strict=True))
    for word, value in zip(theirs.words, theirs.unigrams(), strict=True):
        if word != "<s>":  # nothing predicts it; KenLM answers what it likes
            assert value == pytest.approx(by_word[word], rel=1e-6)


def test_contexts_longer_than_needed_and_with_a_start_inside():
    theirs, ours = open_lm(GOLDEN / "words-2-sri.probing.bin"), open_lm(GOLDEN / "words-2-sri.arpa.gz")
    for words in (["the", "cat"], ["the", "<s>"], ["<s>"], ["zebra"], []):
        scores = [
            lm.score(tuple(lm.words.index(w) if w in lm.words else 0 for w in words), lm.words.index("sees"))
            for lm in (theirs, ours)
        ]
        assert scores[0] == pytest.approx(scores[1], rel=1e-6)


def test_remembered_contexts_are_bounded():
    lm = open_lm(GOLDEN / "words-2-sri.trie.bin")
    for _ in range(3):
        for word in range(len(lm.words)):
            lm.score((word, word), 5)
    info = lm._state.cache_info()
    assert info.currsize <= info.maxsize
    assert info.hits >= 2 * len(lm.words)


def test_damaged_binaries(tmp_path):
    content = (GOLDEN / "words-2-sri.trie.bin").read_bytes()
    path = tmp_path / "m.bin"
    for damaged, message in [
        (content[:-30], "words at its end are damaged"),
        (content[:60], "not a binary of KenLM"),
        (content.replace(b"<unk>\0", b"<unk>x"), "words at its end are damaged"),
        (content[:100] + b"\0" + content[101:], "without its words"),
        (content[:49] + b"4" + content[50:], "KenLM cannot read it"),
        (content[:-3] + b"\xff\xff\0", "not UTF-8"),
    ]:
        path.write_bytes(damaged)
        with pytest.raises(LanguageModelFormatError, match=message):
            open_lm(path)
    from kdcompress_runtime.lm.kenlm import KenlmModel

    with pytest.raises(LanguageModelNotFoundError, match=r"absent\.bin"):
        KenlmModel(tmp_path / "absent.bin")


def test_pickling_is_refused_with_a_sentence():
    with pytest.raises(PicklingRefusedError, match="open its file again"):
        pickle.dumps(open_lm(GOLDEN / "words-2-sri.trie.bin"))

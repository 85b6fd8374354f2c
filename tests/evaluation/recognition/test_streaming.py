"""Delays, revisions and endpoints, on streams whose partial texts are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kdcompress_evaluation.pauses import room_noise, speech_bounds
from kdcompress_evaluation.streaming import measure_stream, random_pieces, split_text
from kdcompress_evaluation.systems.base import Item, Recognised, Word

if TYPE_CHECKING:
    from pathlib import Path

RATE = 1000


class Scripted:
    """Says after each second of audio what the script says; ends the utterance at a given second."""

    input_kind = "audio"
    sample_rate = form = RATE
    chunk_seconds = 1.0

    def __init__(
        self, partials: list[str], final: str, words: tuple[Word, ...] = (), ends: float | None = None
    ) -> None:
        self.partials, self.final, self.words, self.ends = partials, final, words, ends
        self.fed: list[int] = []

    def open_stream(self, **_: Any) -> Scripted:
        self.fed = []
        return self

    def accept(self, samples: Any) -> None:
        self.fed.append(len(samples))

    def partial(self) -> str:
        return self.partials[min(sum(self.fed) // RATE, len(self.partials)) - 1]

    def finish(self) -> Recognised:
        return Recognised(self.final, None, self.words)

    def endpoint(self) -> float | None:
        at = sum(self.fed) / RATE
        return at if self.ends is not None and at >= self.ends else None


def item(seconds: float, extra: dict[str, Any] | None = None) -> Item:
    samples = 0.001 * np.random.default_rng(0).standard_normal(round(seconds * RATE)).astype(np.float32)
    samples[RATE : round((seconds - 1) * RATE)] += np.sin(np.arange(round((seconds - 2) * RATE))).astype(np.float32)
    return Item("m", 3, "u", "audio", "", None, extra or {}, {RATE: (samples, RATE)})


def test_delays_count_from_the_end_of_a_word_to_where_it_stands_for_good() -> None:
    words = (Word("go", 0.5, 0.9), Word("to", 1.5, 2.0), Word("bed", 3.0, 3.5))
    system = Scripted(["", "go", "no to", "go to be", "go to bed"], "go to bed", words)
    found = measure_stream(system, item(5))
    assert found.delays == (pytest.approx(3.1), pytest.approx(1.0), pytest.approx(1.5))
    assert found.first_partial == pytest.approx(1.5)
    assert found.word_times == "recogniser"
    assert found.revised == 2  # go to no, and back; "be" only grew
    assert (found.words, found.text) == (3, "go to bed")
    assert found.endpoint == ""
    assert found.endpoint_wait is None
    assert found.final_seconds >= 0


def test_a_word_that_comes_with_the_final_text_stands_since_the_end_of_the_audio() -> None:
    system = Scripted(["", "", ""], "hello", (Word("hello", 1.0, 1.2),))
    found = measure_stream(system, item(2.5))
    assert found.delays == (pytest.approx(1.3),)
    assert found.first_partial == pytest.approx(1.5)


def test_words_taken_back_at_the_end_are_revised() -> None:
    found = measure_stream(Scripted(["a", "a b", "a b c"], ""), item(3))
    assert (found.revised, found.words, found.delays, found.first_partial, found.word_times) == (3, 0, (), None, "")


def test_the_manifest_knows_better_when_words_were() -> None:
    stated = [{"word": "go", "start": 0.1, "end": 0.4}, {"word": "on", "start": 0.5, "end": 1.0}]
    own = (Word("go", 0.3, 0.6), Word("own", 0.8, 1.2))
    found = measure_stream(Scripted(["go", "go own"], "go own", own), item(2.5, {"words": stated}))
    assert found.word_times == "manifest"
    assert found.delays == (pytest.approx(0.6), pytest.approx(1.0))
    other = measure_stream(Scripted(["go"], "go", own[:1]), item(2.5, {"words": stated}))
    assert other.word_times == "recogniser"  # another number of words: nobody knows which is which
    for broken in ("text", [1], [{"word": "go"}], None):
        found = measure_stream(Scripted(["go"], "go", own[:1]), item(2.5, {"words": broken}))
        assert found.word_times == "recogniser"


@pytest.mark.parametrize(
    ("ends", "wanted", "wait"),
    [(5.0, "in time", 1.0), (2.0, "early", None), (None, "missed", None), (3.95, "in time", -0.04)],
)
def test_endpoints(ends: float | None, wanted: str, wait: float | None) -> None:
    found = measure_stream(Scripted(["a"], "a", ends=ends), item(5), endpoint=True)  # speech ends at 4 s
    assert found.endpoint == wanted
    assert found.endpoint_wait == (None if wait is None else pytest.approx(wait, abs=0.03))


def test_random_pieces_are_all_of_it_the_same_every_time_and_of_every_size() -> None:
    samples = np.arange(40 * RATE, dtype=np.float32)
    pieces = list(random_pieces(samples, RATE, 5))
    assert np.array_equal(np.concatenate(pieces), samples)
    sizes = [len(piece) for piece in pieces]
    assert sizes == [len(piece) for piece in random_pieces(samples, RATE, 5)]
    assert sizes != [len(piece) for piece in random_pieces(samples, RATE, 6)]
    assert min(sizes) < 10
    assert max(sizes) > RATE / 2
    system = Scripted([""], "done")
    assert split_text(system, item(5)) == "done"
    assert sum(system.fed) == 5 * RATE


def test_speech_and_room() -> None:
    rng = np.random.default_rng(1)
    floor = 0.01 * rng.standard_normal(3 * 8000).astype(np.float32)
    spoken = floor.copy()
    spoken[8000:16000] += 0.5 * np.sin(np.arange(8000) / 3).astype(np.float32)
    assert speech_bounds(spoken, 8000) == (pytest.approx(1.0, abs=0.02), pytest.approx(2.0, abs=0.02))
    assert speech_bounds(np.zeros(8000, np.float32), 8000) == (0.0, 1.0)
    assert speech_bounds(np.zeros(10, np.float32), 8000) == (0.0, 10 / 8000)
    noise = room_noise(spoken, 1.5, 8000, 0)
    assert noise.shape == (12000,)
    assert 0.005 < float(noise.std()) < 0.02
    faint = room_noise(np.zeros(100, np.float32), 0.5, 8000, 0)
    assert 0 < float(faint.std()) < 0.001


def test_a_bundle_in_a_stream_waits_for_its_silence(
    make_bundle: Any, make_manifest: Any, tmp_path: Path, evaluation: Any
) -> None:
    manifest = make_manifest(tmp_path / "data", "m", [("ab cd", "ab cd")])
    run = evaluation([make_bundle(tmp_path / "b", "b")], manifest)
    run.recognise()
    (row,) = run.rows()
    assert row.stream is not None
    assert row.stream.text == row.hypothesis == row.split_text == "ab cd"
    assert row.stream.word_times == "recogniser"
    assert all(0 <= delay <= 0.2 for delay in row.stream.delays)  # a frame of look-ahead, chunks of four

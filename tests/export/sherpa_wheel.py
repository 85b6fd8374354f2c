"""Runs the models of a folder in the sherpa-onnx wheel; a process of its own, for missing metadata would end it.

``python sherpa_wheel.py FOLDER PRECISION AUDIO.npz`` prints ``{way: [[text, tokens, timestamps], ...]}`` as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import sherpa_onnx

PIECE_SECONDS = 0.13


def offline(recognizer, batch, rate):
    streams = [recognizer.create_stream() for _ in batch]
    for stream, samples in zip(streams, batch, strict=True):
        stream.accept_waveform(rate, samples)
    recognizer.decode_streams(streams)
    found = [stream.result for stream in streams]
    return [[one.text, list(one.tokens), list(one.timestamps)] for one in found]


def streaming(recognizer, batch, rate, tail):
    """All streams side by side; the later ones begin later, so that batches hold streams of every age."""
    size = round(PIECE_SECONDS * rate)
    streams = [recognizer.create_stream() for _ in batch]
    padded = [np.concatenate([samples, np.zeros(round(tail * rate), np.float32)]) for samples in batch]
    for now in range(len(batch) + max(len(one) for one in padded) // size + 1):
        for index, (stream, samples) in enumerate(zip(streams, padded, strict=True)):
            start = (now - index) * size
            if 0 <= start < len(samples):
                stream.accept_waveform(rate, samples[start : start + size])
                if start + size >= len(samples):
                    stream.input_finished()
        while ready := [stream for stream in streams if recognizer.is_ready(stream)]:
            recognizer.decode_streams(ready)
    return [
        [recognizer.get_result(one), list(recognizer.tokens(one)), list(recognizer.timestamps(one))] for one in streams
    ]


def main(folder: Path, precision: str, audio: Path) -> None:
    document = json.loads((folder / "sherpa-onnx.json").read_text(encoding="utf-8"))
    names, rate = document["models"][precision], document["sample_rate"]
    common = {"tokens": str(folder / "tokens.txt"), "sample_rate": rate, "feature_dim": document["feature_dim"]}
    with np.load(audio) as stored:
        batch = [stored[name] for name in sorted(stored.files)]
    whole = sherpa_onnx.OfflineRecognizer.from_zipformer_ctc(model=str(folder / names["offline"]), **common)
    live = sherpa_onnx.OnlineRecognizer.from_zipformer2_ctc(
        model=str(folder / names["streaming"]), num_threads=1, **common
    )
    tail = document["streaming"]["tail_padding_seconds"]
    answers = {
        "offline": [offline(whole, [one], rate)[0] for one in batch],
        "offline batch": offline(whole, batch, rate),
        "streaming": [streaming(live, [one], rate, tail)[0] for one in batch],
        "streaming batch": streaming(live, batch, rate, tail),
    }
    print(json.dumps(answers))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))

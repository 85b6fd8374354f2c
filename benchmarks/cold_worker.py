"""One cold start, for ``bench_cold.py``: import, load, first token, each timed, in a process that does nothing else.

``python cold_worker.py SPAWNED '{"variant": "ours", ...}'`` prints one JSON object. SPAWNED: the parent's monotonic
clock, in seconds, when it started this process.
"""

import time

BEGAN = time.clock_gettime(time.CLOCK_MONOTONIC) if hasattr(time, "clock_gettime") else time.monotonic()

import json  # noqa: E402 - the clock comes first
import sys  # noqa: E402


def lap() -> float:
    """Seconds since the last call, or since the parent started this process."""
    global LAST
    now = time.clock_gettime(time.CLOCK_MONOTONIC) if hasattr(time, "clock_gettime") else time.monotonic()
    spent, LAST = now - LAST, now
    return spent


LAST = float(sys.argv[1])
SETTINGS = json.loads(sys.argv[2])
TIMES = {"interpreter": lap()}


def ours() -> None:
    """kdcompress_runtime: numpy and onnxruntime first, then what it adds."""
    import numpy as np
    import onnxruntime  # noqa: F401

    TIMES["import_numpy_and_engine"] = lap()
    import kdcompress_runtime as runtime

    TIMES["import"] = lap()
    if "path" not in SETTINGS:
        return
    audio = np.load(SETTINGS["audio"])
    lap()
    options = runtime.DecoderOptions(**SETTINGS["decoder"])
    more = {"lm": SETTINGS["lm"]} if SETTINGS["lm"] else {}
    recognizer = runtime.Recognizer.from_dir(SETTINGS["path"], precision=SETTINGS["precision"], decoder=options, **more)
    TIMES["load"] = lap()
    stream = recognizer.create_stream()
    for chunk in chunks(audio):
        stream.accept_waveform(chunk, SETTINGS["rate"])
        if stream.partial_result().text:
            break
    else:
        raise SystemExit("the recording gives no text")
    TIMES["first_token"] = lap()


def sherpa() -> None:
    """sherpa-onnx; its engine comes with it."""
    import numpy as np

    TIMES["import_numpy_and_engine"] = lap()
    import sherpa_onnx

    TIMES["import"] = lap()
    if "path" not in SETTINGS:
        return
    audio = np.load(SETTINGS["audio"])
    lap()
    recognizer = sherpa_onnx.OnlineRecognizer.from_zipformer2_ctc(
        model=SETTINGS["path"],
        tokens=SETTINGS["tokens"],
        sample_rate=SETTINGS["rate"],
        feature_dim=SETTINGS["feature_dim"],
        num_threads=1,
    )
    TIMES["load"] = lap()
    stream = recognizer.create_stream()
    for chunk in chunks(audio):
        stream.accept_waveform(SETTINGS["rate"], chunk)
        while recognizer.is_ready(stream):
            recognizer.decode_stream(stream)
        if recognizer.get_result(stream):
            break
    else:
        raise SystemExit("the recording gives no text")
    TIMES["first_token"] = lap()


def bare() -> None:
    """Only numpy and onnxruntime: what the import is compared with."""
    import numpy as np  # noqa: F401
    import onnxruntime  # noqa: F401

    TIMES["import_numpy_and_engine"] = lap()


def chunks(audio):  # noqa: ANN001, ANN201 - numpy is imported under the clock
    """Whole chunks."""
    size = SETTINGS["size"]
    for start in range(0, len(audio) - size + 1, size):
        yield audio[start : start + size]


{"ours": ours, "sherpa": sherpa, "bare": bare}[SETTINGS["variant"]]()
print(json.dumps({**TIMES, "began": BEGAN}))

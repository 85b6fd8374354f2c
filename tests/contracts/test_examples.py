"""The examples run as their pages say: the WebSocket server with several clients and bad ones, the microphone."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
import soundfile
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from kdcompress_runtime import EndpointRules, Recognizer

EXAMPLES = Path(__file__).parents[2] / "examples"
RATE = 8000
HELLO = json.dumps({"sample_rate": RATE})


@contextmanager
def serving(bundle, *options):
    """The address of a running server; afterwards it must go away cleanly."""
    command = [sys.executable, EXAMPLES / "websocket" / "server.py", bundle, "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield re.search(r"http://(\S+)/", line).group(1)
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=20)
        assert process.returncode == 0
        assert "Traceback" not in errors


def letters(seed: int) -> np.ndarray:
    """Audio of the toy bundle: frames of four samples at the level of a token."""
    levels = np.random.default_rng(seed).integers(0, 4, 60)
    return np.repeat(levels / 4 * 0.99, 4).astype(np.float32)


async def talk(address, samples, *, hello=HELLO, piece=50, last="end"):
    """Messages that come back."""
    found = []
    async with connect(f"ws://{address}") as socket:
        await socket.send(hello)
        pcm = np.round(samples * 32767).astype("<i2")
        for start in range(0, len(pcm), piece):
            await socket.send(pcm[start : start + piece].tobytes())
        await socket.send(last)
        found += [json.loads(message) async for message in socket]
    return found, socket.close_code


def test_clients_of_one_server_get_what_they_would_alone(toy_bundle):
    recognizer = Recognizer.from_dir(toy_bundle, endpoint=EndpointRules())

    async def together(address):
        return await asyncio.gather(*(talk(address, letters(seed), piece=20 + 7 * seed) for seed in range(5)))

    with serving(toy_bundle) as address:
        for seed, (rows, code) in enumerate(asyncio.run(together(address))):
            pcm = np.round(letters(seed) * 32767).astype(np.int16)
            expected = [event.result for event in recognizer.stream([pcm], RATE) if event.is_final]
            finals = [row for row in rows if row["type"] == "final"]
            assert code == 1000
            assert [row["text"] for row in finals] == [result.text for result in expected]
            assert [word["text"] for word in finals[-1]["words"]] == finals[-1]["text"].split()
            assert any(row["type"] == "partial" for row in rows)
            assert all(row["text"].startswith(row["stable"]) for row in rows if row["type"] == "partial")
        page = urlopen(f"http://{address}/").read().decode()
        assert "<title>kdcompress" in page


def test_flush_answers_at_once_and_the_stream_goes_on(toy_bundle):
    async def scene(address):
        pcm = np.round(letters(1) * 32767).astype("<i2").tobytes()
        async with connect(f"ws://{address}") as socket:
            await socket.send(HELLO)
            finals = []
            for last in ("flush", "end"):
                await socket.send(pcm)
                await socket.send(last)
                while not finals or finals[-1] is None or len(finals) < (1 if last == "flush" else 2):
                    row = json.loads(await socket.recv())
                    finals += [row] if row["type"] == "final" else []
            return finals

    with serving(toy_bundle) as address:
        first, second = asyncio.run(scene(address))
    assert first["text"] == second["text"] != ""
    assert second["words"][0]["begin"] > first["words"][-1]["end"] - 1e-9


@pytest.mark.parametrize(
    ("hello", "last", "word"),
    [
        ("good morning", "end", "Expecting value"),
        ("[]", "end", "begin with a JSON object"),
        (json.dumps({"sample_rate": "fast"}), "end", "sample_rate"),
        (json.dumps({"sample_rate": RATE, "hotwords": {"ab": 1.0}}), "end", "beam"),
        (HELLO, "stop", "unknown message 'stop'"),
        (HELLO, b"odd", "odd number of bytes"),
    ],
)
def test_a_mistake_ends_the_connection_that_made_it(toy_bundle, hello, last, word):
    async def scene(address):
        try:
            rows, code = await talk(address, letters(2), hello=hello, last=last)
        except ConnectionClosed as closed:  # the server hung up while we were still sending
            return [], closed.rcvd.code if closed.rcvd else None
        return rows, code

    with serving(toy_bundle) as address:
        rows, code = asyncio.run(scene(address))
        assert code == 1003
        if rows:
            assert rows[-1]["type"] == "error"
            assert word in rows[-1]["message"]
        rows, code = asyncio.run(talk(address, letters(2)))
        assert (rows[-1]["type"], code) == ("final", 1000)


def test_one_client_too_many_is_asked_to_come_later(toy_bundle):
    async def scene(address):
        async with connect(f"ws://{address}") as first:
            await first.send(HELLO)
            async with connect(f"ws://{address}") as second:
                await second.wait_closed()
            await first.send("end")
            async for _ in first:
                pass
            return second.close_code, first.close_code

    with serving(toy_bundle, "--clients", "1") as address:
        assert asyncio.run(scene(address)) == (1013, 1000)


def test_the_client_of_the_page_and_the_microphone(toy_bundle, tmp_path):
    soundfile.write(tmp_path / "said.wav", letters(3), RATE)
    samples, rate = soundfile.read(tmp_path / "said.wav", dtype="int16")
    text = Recognizer.from_dir(toy_bundle).recognize(samples, rate).text
    with serving(toy_bundle, "--beam-width", "8") as address:
        command = [sys.executable, EXAMPLES / "websocket" / "client.py", tmp_path / "said.wav", "--fast"]
        command += ["--url", f"ws://{address}", "--hotword", "ab=0.5"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout.splitlines()[-1])["type"] == "final"
    command = [sys.executable, EXAMPLES / "microphone.py", toy_bundle, "--file", tmp_path / "said.wav"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split("\r")[-1].removesuffix("\033[K") == text
    done = subprocess.run([*command[:2], tmp_path / "none"], capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    done = subprocess.run(
        [sys.executable, EXAMPLES / "websocket" / "server.py", tmp_path / "none"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: bundle not found")

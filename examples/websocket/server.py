#!/usr/bin/env python3
"""A speech recognition server: many clients on one recogniser, over WebSockets.

Usage: python server.py BUNDLE [--port 8765] [--host 127.0.0.1] [--clients 32]

Open http://127.0.0.1:8765/ in a browser to speak into the microphone, or run client.py. README.md describes the
messages. Needs ``pip install 'kdcompress[audio]' -r requirements.txt``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response

from kdcompress_runtime import DecoderOptions, EndpointRules, KdcompressError, OptionsError, Recognizer

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request

    from kdcompress_runtime import Result, Stream

PAGE = Path(__file__).with_name("index.html")
MAX_MESSAGE = 1 << 20
"""Bytes of a message: half a minute of audio at 16 kHz. A client that sends more is disconnected."""
WAITING_MESSAGES = 4
"""Messages read ahead for each client; then TCP makes a client wait that sends faster than it is recognised."""
HELLO_SECONDS, CLOSE_SECONDS = 10.0, 1.0
BUSY, UNSUPPORTED, GOING_AWAY = 1013, 1003, 1001
log = logging.getLogger("kdcompress.server")


class Batcher:
    """Steps the streams of all clients together: whoever waits when the model is free goes into the next call."""

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer
        self._waiting: dict[Stream, asyncio.Future[None]] = {}
        self._work = asyncio.Event()

    async def decode(self, stream: Stream) -> None:
        """Decode what waits in a stream."""
        done = self._waiting[stream] = asyncio.get_running_loop().create_future()
        self._work.set()
        await done

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            batch, self._waiting = self._waiting, {}
            failure: KdcompressError | None = None
            try:
                await asyncio.to_thread(self._recognizer.decode_streams, list(batch))
            except KdcompressError as error:  # who is told: everybody in the batch; their audio is safe
                failure = error
            for done in batch.values():
                if not done.done():
                    done.set_exception(failure) if failure else done.set_result(None)


class Session:
    """One client: its stream, and what it was told last."""

    def __init__(self, connection: ServerConnection, batcher: Batcher, stream: Stream, sample_rate: int) -> None:
        self._connection, self._batcher = connection, batcher
        self._stream, self._rate = stream, sample_rate
        self._told = ""

    async def run(self) -> None:
        """Take messages until the client says ``end`` or leaves."""
        async for message in self._connection:
            if isinstance(message, bytes):
                self._stream.accept_waveform(_samples(message), self._rate, decode=False)
                await self._decode()
            elif message == "flush":
                await self._flush()
                self._stream.reset()
            elif message == "end":
                await self._flush()
                return
            else:
                raise OptionsError(f"unknown message {message[:40]!r}; send audio as bytes, 'flush' or 'end'")

    async def _decode(self) -> None:
        await self._batcher.decode(self._stream)
        while self._stream.is_endpoint():
            await self._final(self._stream.result())
            self._stream.reset(decode=False)
            await self._batcher.decode(self._stream)
        partial = self._stream.partial_result()
        if partial.text != self._told:
            self._told = partial.text
            await self._send({"type": "partial", "text": partial.text, "stable": partial.stable_text})

    async def _flush(self) -> None:
        self._stream.input_finished(decode=False)
        await self._batcher.decode(self._stream)
        while self._stream.is_endpoint():  # utterances that ended in what had waited
            await self._final(self._stream.result())
            self._stream.reset(decode=False)
            await self._batcher.decode(self._stream)
        await self._final(self._stream.result())

    async def _final(self, result: Result) -> None:
        self._told = ""
        words = [vars(word) for word in result.words]
        await self._send({"type": "final", "text": result.text, "words": words})

    async def _send(self, row: dict[str, Any]) -> None:
        await self._connection.send(json.dumps(row, ensure_ascii=False))


class Server:
    """Who may come in, and what becomes of them."""

    def __init__(self, recognizer: Recognizer, clients: int) -> None:
        self.batcher = Batcher(recognizer)
        self._recognizer, self._free = recognizer, clients

    async def serve_client(self, connection: ServerConnection) -> None:
        """Greet, recognise, say goodbye; whatever a client does wrong ends its own connection with a sentence."""
        if not self._free:
            await connection.close(BUSY, "all places are taken; try again later")
            return
        self._free -= 1
        try:
            await (await self._open(connection)).run()
        except ConnectionClosed:
            log.info("a client left")
        except (KdcompressError, ValueError, asyncio.TimeoutError) as error:
            sentence = str(error) or "the first message did not come in time"
            await connection.send(json.dumps({"type": "error", "message": sentence}))
            await connection.close(UNSUPPORTED, "see the error message")
        finally:
            self._free += 1

    async def _open(self, connection: ServerConnection) -> Session:
        """Read the first message: a JSON object with ``sample_rate``, and ``hotwords`` if there are any."""
        first = await asyncio.wait_for(connection.recv(), HELLO_SECONDS)
        hello = json.loads(first) if isinstance(first, str) else None
        if not isinstance(hello, dict) or not isinstance(hello.get("hotwords", {}), dict):
            raise OptionsError('begin with a JSON object such as {"sample_rate": 16000, "hotwords": {"name": 1.0}}')
        rate, hotwords = hello.get("sample_rate"), hello.get("hotwords", {})
        stream = self._recognizer.create_stream(hotwords=hotwords)
        stream.accept_waveform(np.zeros(0, np.int16), rate)  # refuses what is no rate now, not with the first audio
        return Session(connection, self.batcher, stream, rate)


def _samples(message: bytes) -> np.ndarray[Any, np.dtype[np.int16]]:
    if len(message) % 2:
        raise OptionsError("audio is 16-bit little-endian; this message has an odd number of bytes")
    return np.frombuffer(message, "<i2").astype(np.int16, copy=False)


def page(_connection: ServerConnection, request: Request) -> Response | None:
    """Answer a browser that asks for the page; leave WebSockets to the library."""
    if "Upgrade" in request.headers:
        return None
    if request.path != "/":
        return Response(HTTPStatus.NOT_FOUND, "Not Found", type(request.headers)())
    headers = type(request.headers)({"Content-Type": "text/html; charset=utf-8"})
    return Response(HTTPStatus.OK, "OK", headers, PAGE.read_bytes())


async def run(recognizer: Recognizer, host: str, port: int, clients: int) -> None:
    """Serve until SIGINT or SIGTERM; clients are told that the server goes away."""
    server = Server(recognizer, clients)
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    limits = {"max_size": MAX_MESSAGE, "max_queue": WAITING_MESSAGES, "close_timeout": CLOSE_SECONDS}
    batches = asyncio.create_task(server.batcher.run())
    async with serve(server.serve_client, host, port, process_request=page, **limits) as listening:
        address = listening.sockets[0].getsockname()
        print(f"listening on http://{address[0]}:{address[1]}/", flush=True)
        await stop.wait()
        listening.close(code=GOING_AWAY, reason="the server goes away")
        await listening.wait_closed()
    batches.cancel()


def main() -> int:
    """Read the command line, open the bundle once, serve."""
    parser = argparse.ArgumentParser(description="Speech recognition over WebSockets.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8765, help="0: any that is free")
    parser.add_argument("--clients", type=int, default=32, help="more are asked to come later")
    parser.add_argument("--beam-width", type=int, default=0, help="0: as the bundle was tuned; hotwords need a beam")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    decoder = DecoderOptions(kind="beam", beam_width=arguments.beam_width) if arguments.beam_width else None
    try:
        recognizer = Recognizer.from_dir(arguments.bundle, decoder=decoder, endpoint=EndpointRules())
        asyncio.run(run(recognizer, arguments.host, arguments.port, arguments.clients))
    except (KdcompressError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

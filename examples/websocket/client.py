#!/usr/bin/env python3
"""Send an audio file to server.py as a microphone would, and print what comes back.

Usage: python client.py FILE [--url ws://127.0.0.1:8765] [--hotword NAME=1.0] [--fast]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import soundfile
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

PIECE_SECONDS = 0.1


async def send(connection: ClientConnection, file: Path, hotwords: dict[str, float], *, fast: bool) -> None:
    """Send a file in pieces, as fast as time goes or as the server takes them."""
    samples, rate = soundfile.read(file, dtype="int16", always_2d=True)
    await connection.send(json.dumps({"sample_rate": rate, "hotwords": hotwords}))
    piece = round(PIECE_SECONDS * rate)
    for start in range(0, len(samples), piece):
        await connection.send(samples[start : start + piece, 0].astype("<i2").tobytes())
        await asyncio.sleep(0 if fast else PIECE_SECONDS)
    await connection.send("end")


async def talk(url: str, file: Path, hotwords: dict[str, float], *, fast: bool) -> int:
    """Send and listen at the same time; returns the exit code."""
    failed = False
    async with connect(url) as connection:
        sending = asyncio.create_task(send(connection, file, hotwords, fast=fast))
        async for message in connection:
            row = json.loads(message)
            print(json.dumps(row, ensure_ascii=False), flush=True)
            failed |= row["type"] == "error"
        sending.cancel()
        return int(failed or connection.close_code not in (1000, None))


def main() -> int:
    """Read the command line and talk."""
    parser = argparse.ArgumentParser(description="Send an audio file to server.py.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--url", default="ws://127.0.0.1:8765")
    parser.add_argument("--hotword", action="append", default=[], metavar="PHRASE=WEIGHT")
    parser.add_argument("--fast", action="store_true", help="do not wait as a microphone would")
    arguments = parser.parse_args()
    hotwords = {phrase: float(weight) for phrase, _, weight in (one.rpartition("=") for one in arguments.hotword)}
    try:
        return asyncio.run(talk(arguments.url, arguments.file, hotwords, fast=arguments.fast))
    except (OSError, WebSocketException, soundfile.SoundFileError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())

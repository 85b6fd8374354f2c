"""A headless Chromium, spoken to over its own protocol: enough to open a page, point, press and ask."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_WAIT = 30.0


class Browser:
    """One page; used as a context. ``errors`` holds what its scripts threw."""

    def __init__(self, profile: Path) -> None:
        from websockets.sync.client import connect

        options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0")
        self._log = profile / "chromium.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [str(CHROMIUM), *options, f"--user-data-dir={profile}", "about:blank"], stderr=log
            )
        self.errors: list[str] = []
        self._socket = connect(self._address(), max_size=None)
        self._count = 0
        self.call("Page.enable")
        self.call("Runtime.enable")

    def _address(self) -> str:
        end = time.monotonic() + _WAIT
        while time.monotonic() < end:
            found = re.search(r"listening on ws://([\d.]+:\d+)/", self._log.read_text())
            if found:
                pages = json.load(urllib.request.urlopen(f"http://{found[1]}/json"))
                return str(next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page"))
            time.sleep(0.05)
        self._process.kill()
        raise TimeoutError(f"chromium does not answer: {self._log.read_text()[-300:]}")

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(timeout=_WAIT)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv(timeout=_WAIT))
            if answer.get("method") == "Runtime.exceptionThrown":
                self.errors.append(str(answer["params"]))
            if answer.get("id") == self._count:
                return dict(answer["result"])

    def open(self, path: Path, width: int, *, dark: bool = False) -> None:
        """Open a file in a window of this width."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=path.as_uri())
        end = time.monotonic() + _WAIT
        # The script of the page is at its end: once it has run, headings are buttons.
        while time.monotonic() < end and not self.ask("document.querySelectorAll('thead button').length > 0"):
            time.sleep(0.05)

    def ask(self, expression: str) -> Any:
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in found:
            raise ValueError(found["exceptionDetails"])
        return found["result"].get("value")

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, **text)

    def move(self, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

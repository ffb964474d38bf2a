"""A ComfyUI that runs somewhere, over HTTP."""

from __future__ import annotations

import io
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image

from .graph import Schemas

POLL = 0.2
"""Seconds."""


class Host:
    """ComfyUI at a URL such as http://127.0.0.1:8188."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def schemas(self) -> Schemas:
        return self._json("/object_info")

    def run(self, prompt: Mapping[str, Any]) -> list[Image.Image]:
        """Run a workflow in its API form to the end; every PNG it saves, in order.

        ValueError says what the host refused or failed at.
        """
        try:
            number = self._json("/prompt", {"prompt": prompt})["prompt_id"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"{self.url} refused the workflow: {error.read().decode()}") from None
        while not (entry := self._json(f"/history/{number}").get(number)):
            time.sleep(POLL)
        if entry["status"]["status_str"] != "success":
            raise ValueError(f"{self.url} failed at the workflow: {entry['status']['messages']}")
        return list(self._saved(entry["outputs"]))

    def _saved(self, outputs: Mapping[str, Any]) -> Iterator[Image.Image]:
        for output in outputs.values():
            for file in output.get("images", ()):
                if file["type"] == "output" and file["filename"].endswith(".png"):
                    yield Image.open(io.BytesIO(self._get(f"/view?{urllib.parse.urlencode(file)}"))).convert("RGB")

    def _json(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return json.loads(self._get(path, body))

    def _get(self, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        # The user names the ComfyUI, so its URL is trusted.
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return answer.read()

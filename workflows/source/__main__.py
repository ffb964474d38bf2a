"""Write the workflows: `python -m workflows.source --url URL`, where a ComfyUI runs with the pack in it.

It knows the nodes; with --thumbnails, it also draws every workflow with FLUX-nano.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from PIL import Image

from .api import to_api
from .catalogue import CATALOGUE
from .frontend import to_ui
from .graph import Schemas
from .host import Host
from .thumbnail import thumbnail

FOLDER = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workflows.source", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*CATALOGUE, []], help="workflows to write (default: all)")
    parser.add_argument("--url", default="http://127.0.0.1:8188", help="where ComfyUI answers (default %(default)s)")
    parser.add_argument("--thumbnails", action="store_true", help="draw the thumbnails too")
    options = parser.parse_args()
    host = Host(options.url)
    schemas = host.schemas()
    for name in options.names or CATALOGUE:
        ui = to_ui(CATALOGUE[name].build(schemas, name))
        write(FOLDER / f"{name}.json", ui)
        write(FOLDER / "api" / f"{name}.json", to_api(ui))
        if options.thumbnails:
            draw(name, host, schemas).save(FOLDER / f"{name}.jpg", quality=85, optimize=True)


def draw(name: str, host: Host, schemas: Schemas) -> Image.Image:
    """The workflow's thumbnail: what FLUX-nano makes of it on the host."""
    entry = CATALOGUE[name]
    frames = host.run(to_api(to_ui(entry.build(schemas, name, entry.nano))))
    line = "FLUX-nano" if entry.kit.is_nano else "for FLUX.1-dev; drawn here by FLUX-nano"
    return thumbnail(frames, entry.shows, line, entry.held)


def write(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

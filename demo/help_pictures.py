"""The pictures of the nodes' help pages, from synthetic sequences: `python -m demo.help_pictures`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from makeanything import serpentine
from makeanything.contact_sheet import contact_sheet
from makeanything.pictures import to_bytes
from makeanything.sequence import save_webp, timeline
from makeanything.serpentine import Layout

from .domains import draw, finished, read_scene

FOLDER = Path(__file__).parents[1] / "web/docs/images"
GRID = 288
"""Edge of a grid in pixels."""
GAP = 48
CAPTIONS = ("the first row", "", "a window", "", "the walls", "", "the roof", "", "the finished house")
PAPER, DARK, MARK = (255, 255, 255), (70, 70, 78), (214, 48, 60)


def write(folder: Path = FOLDER) -> None:
    """Write every picture: the still ones without loss, and one animation."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in stills():
        image.save(folder / f"{name}.webp", lossless=True, method=6)
    played = timeline(_frames("Line drawing", "a big teal cat", 9, 128), fps=3.0, hold_last=1.0, crossfade=0.5)
    save_webp(played.frames, folder / "timeline.webp", played.fps, quality=60)


def stills() -> Iterator[tuple[str, Image.Image]]:
    """(name, picture) of every picture that does not move."""
    nine, four = Layout.of(9), Layout.of(4)
    house = _frames("Bricks", "a big red house", 9, GRID // 3)
    clay = _frames("Clay", "a big yellow star", 4, GRID // 2)
    yield "layouts", _page(_path(_grid(house, nine), nine), _path(_grid(clay, four), four), (GRID + GAP, 0))
    strip = _image(serpentine.compose(house[None], Layout(1, 9))[0])
    strip = strip.resize((strip.width * 3 // 4, strip.height * 3 // 4))
    yield "frames", _page(_grid(house, nine), strip, (0, GRID + GAP))
    duck = "a big green duck"
    colouring = _frames("Colouring", duck, 9, GRID // 3)
    picture = Image.fromarray(finished(read_scene("Colouring", duck), GRID * 2 // 3))
    yield "recraft", _page(picture, _outlined(_grid(colouring, nine), nine, nine.tail), (picture.width + GAP, 0))
    yield "sheet", _image(contact_sheet(house, captions=CAPTIONS))


def _frames(process: str, caption: str, count: int, size: int) -> Tensor:
    """Frames (count, size, size, 3) of a synthetic sequence, values 0..1."""
    return torch.from_numpy(draw(read_scene(process, caption), count, size)).float() / 255


def _image(picture: Tensor) -> Image.Image:
    return Image.fromarray(to_bytes(picture))


def _grid(frames: Tensor, layout: Layout) -> Image.Image:
    return _image(serpentine.compose(frames[None], layout)[0])


def _path(grid: Image.Image, layout: Layout) -> Image.Image:
    """The grid with the way its frames take, and their numbers."""
    pen = ImageDraw.Draw(grid)
    boxes = [layout.box(frame, grid.height, grid.width) for frame in range(layout.frames)]
    centres = [((box.left + box.right) / 2, (box.top + box.bottom) / 2) for box in boxes]
    pen.line(centres, fill=MARK, width=4)
    font = ImageFont.load_default(20)
    for number, (x, y) in enumerate(centres, 1):
        pen.ellipse((x - 16, y - 16, x + 16, y + 16), fill=PAPER, outline=MARK, width=3)
        pen.text((x, y), str(number), fill=DARK, font=font, anchor="mm")
    return grid


def _outlined(grid: Image.Image, layout: Layout, frame: int) -> Image.Image:
    box = layout.box(frame, grid.height, grid.width)
    ImageDraw.Draw(grid).rectangle((box.left, box.top, box.right - 1, box.bottom - 1), outline=MARK, width=4)
    return grid


def _page(first: Image.Image, second: Image.Image, at: tuple[int, int]) -> Image.Image:
    """Two pictures, the second one at (x, y); what lies around them is transparent."""
    page = Image.new("RGBA", (max(first.width, at[0] + second.width), max(first.height, at[1] + second.height)))
    page.paste(first, (0, 0))
    page.paste(second, at)
    return page


if __name__ == "__main__":
    write()

"""The pictures of the nodes' help pages, drawn by FLUX-nano: `python -m demo.help_pictures`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from makeanything import serpentine
from makeanything.animations import save_webp
from makeanything.asymmetric_lora import Choice
from makeanything.command_line import Parser, ended
from makeanything.contact_sheet import contact_sheet
from makeanything.domains import find
from makeanything.pictures import to_bytes
from makeanything.saving import atomic, make_folder
from makeanything.sequence import timeline
from makeanything.serpentine import Layout

from .nano import Nano, heads
from .scenes import style
from .scenes.domains import finished, read_scene

FOLDER = Path(__file__).parents[1] / "web/docs/images"
EDGE = 288
"""Of a grid in pixels, half as large again as it is drawn."""
GAP = 24
SEED = 1
HOUSE, OAK = "a big red house", "a big orange oak"
CAPTIONS = ("the first row", "", "the walls", "", "", "", "", "up to the roof", "the finished house")
PAPER, DARK, MARK = (255, 255, 255), (70, 70, 78), (214, 48, 60)


def write(folder: Path = FOLDER) -> None:
    """Write every picture: the still ones, and one animation."""
    make_folder(folder)
    drawer = Drawer()
    for name, image in stills(drawer):
        with atomic(folder / f"{name}.webp") as temporary:
            image.save(temporary, "WEBP", quality=85, method=6)
    cat = serpentine.split_trimmed(drawer.grid("Line drawing", "a big teal cat"), Layout.of(9))[0]
    played = timeline(_doubled(cat), fps=3.0, hold_last=1.0, crossfade=0.5)
    save_webp(played.frames, folder / "timeline.webp", played.fps, quality=50)


class Drawer:
    """FLUX-nano, with a process for a domain and the same seed for everything."""

    def __init__(self) -> None:
        self.nano = Nano()

    def grid(
        self,
        process: str,
        caption: str,
        frames: int = 9,
        choice: Choice | None = None,
        picture: Tensor | None = None,
        styled: bool = False,
    ) -> Tensor:
        """A grid (1, 192, 192, 3); with `choice`, another head than the process's; ending on `picture` (h, w, 3)."""
        known = heads(frames).domains
        domain = known[find(known, process)]
        prompt = domain.write_prompt(caption) + (f", {style.PHRASE}" if styled else "")
        held = None if picture is None else {domain.layout.tail: picture}
        return self.nano.draw(domain, choice or process, prompt, SEED, held, float(styled))


def stills(drawer: Drawer) -> Iterator[tuple[str, Image.Image]]:
    """(name, picture) of every picture that does not move."""
    nine, four = Layout.of(9), Layout.of(4)
    house, mosaic = drawer.grid("Bricks", HOUSE), drawer.grid("Mosaic", HOUSE)
    mixed = drawer.grid("Bricks", HOUSE, choice={"Bricks": 0.5, "Mosaic": 0.5})
    star = drawer.grid("Clay", "a big yellow star", frames=4)
    yield "layouts", _row(_path(_image(house), nine), _path(_image(star), four))
    frames = serpentine.split_trimmed(house, nine)
    strip = _image(serpentine.compose(frames, Layout(1, 9)), 2 * EDGE + GAP)
    yield "frames", _page((_image(house), (0, 0)), (strip, (0, EDGE + GAP)))
    yield "sheet", Image.fromarray(to_bytes(contact_sheet(_doubled(frames[0]), captions=CAPTIONS)))
    yield "domains", _row(*map(_image, (house, mosaic, drawer.grid("Line drawing", HOUSE))))
    yield "mix", _row(*map(_image, (house, mixed, mosaic)))
    yield "style", _row(*(_image(drawer.grid("Tree", OAK, styled=styled)) for styled in (False, True)))
    yield "subjects", _row(*map(_image, (house, drawer.grid("Bricks", "a big blue boat"))))
    duck = "a big green duck"
    pixels = finished(read_scene("Colouring", duck, SEED), EDGE // 3)
    ended = drawer.grid("Colouring", duck, picture=torch.from_numpy(pixels).float() / 255)
    yield "recraft", _row(Image.fromarray(pixels).resize((EDGE, EDGE)), _outlined(_image(ended), nine, nine.tail))


def _image(grid: Tensor, width: int = EDGE) -> Image.Image:
    """A grid (1, h, w, 3) at the width at which it is shown."""
    image = Image.fromarray(to_bytes(grid)[0])
    return image.resize((width, image.height * width // image.width), Image.Resampling.LANCZOS)


def _doubled(frames: Tensor) -> Tensor:
    """Frames (F, h, w, 3) at twice their size."""
    return frames.repeat_interleave(2, 1).repeat_interleave(2, 2)


def _path(grid: Image.Image, layout: Layout) -> Image.Image:
    """The grid with the way its frames take, and their numbers."""
    pen = ImageDraw.Draw(grid)
    boxes = layout.boxes(grid.height, grid.width)
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


def _row(*pictures: Image.Image) -> Image.Image:
    """Pictures of one size beside one another."""
    return _page(*((picture, (place * (EDGE + GAP), 0)) for place, picture in enumerate(pictures)))


def _page(*placed: tuple[Image.Image, tuple[int, int]]) -> Image.Image:
    """Pictures, each at its (x, y); what lies around them is transparent."""
    width = max(x + picture.width for picture, (x, _) in placed)
    page = Image.new("RGBA", (width, max(y + picture.height for picture, (_, y) in placed)))
    for picture, corner in placed:
        page.paste(picture, corner)
    return page


def main() -> int:
    """Draw; the exit code."""
    parser = Parser(prog="python -m demo.help_pictures", description=__doc__)
    parser.parse_args()
    return ended(parser.prog, write)


if __name__ == "__main__":
    sys.exit(main())

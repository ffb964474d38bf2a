"""Drawings of an icon set as subjects: every path of an SVG is a part, and parts come one after another.

The set is Microsoft's Fluent Emoji (flat), MIT, as Iconify packs it: the npm package @iconify-json/fluent-emoji-flat,
version 1.2.6.  It is not part of this repository: unpack it and name its folder.  Any package in Iconify's form does
(icons.json: {"icons": {NAME: {"body": SVG elements}}, "width": 32, "height": 32}) whose icons have the names below.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from PIL import Image

from makeanything.foreign import parse_json

from .parts import MASTER, Drawing

FILE = "icons.json"

PROBE = 96
"""Edge in pixels at which an icon is looked at to see how large it is."""

ALIKE = 40.0
"""Degrees of hue within which a part goes with the largest one and takes the colour that is asked for."""
GREY = 0.18
"""Saturation below which a part has no hue."""

NAMES = (
    # Animals
    "cat-face dog-face rabbit-face bear panda fox koala tiger-face lion frog pig-face cow-face mouse-face monkey-face "
    "hamster owl penguin duck chicken elephant giraffe hedgehog turtle snail octopus crab lobster fish spouting-whale "
    "dolphin shark butterfly honeybee lady-beetle snake crocodile dragon-face unicorn zebra flamingo parrot swan "
    "peacock sauropod camel horse-face jellyfish bat deer squid kangaroo "
    # Plants
    "tulip rose sunflower cactus mushroom four-leaf-clover maple-leaf hibiscus seedling lotus "
    # Food
    "red-apple pear lemon banana strawberry cherries grapes pineapple watermelon peach avocado carrot tomato eggplant "
    "ear-of-corn broccoli hot-pepper jack-o-lantern bread croissant cheese-wedge hamburger pizza french-fries taco "
    "doughnut cupcake birthday-cake cookie ice-cream lollipop candy honey-pot teapot hot-beverage wine-glass pancakes "
    # On the way
    "automobile bus fire-engine ambulance delivery-truck tractor locomotive bicycle motor-scooter sailboat ship canoe "
    "airplane helicopter rocket flying-saucer roller-skate "
    # Places
    "house castle church tent factory hut mosque japanese-castle tokyo-tower volcano snow-capped-mountain fountain "
    "sun crescent-moon star cloud rainbow fire "
    # Things
    "umbrella crown top-hat ring gem-stone bell balloon kite teddy-bear robot ghost alien snowman guitar violin "
    "long-drum trumpet camera telephone television laptop light-bulb candle alarm-clock hourglass-done closed-book "
    "pencil paintbrush scissors hammer locked backpack chair bed bucket broom wrapped-gift trophy soccer-ball "
    "skateboard womans-boot dress t-shirt gloves telescope microscope magnet shield axe red-heart anchor key"
).split()
"""Icons in use: everyday things that are told apart at 64 px."""

SHORT = {
    "spouting-whale": "whale",
    "honeybee": "bee",
    "lady-beetle": "ladybird",
    "dragon-face": "dragon",
    "sauropod": "dinosaur",
    "four-leaf-clover": "clover",
    "maple-leaf": "leaf",
    "hibiscus": "flower",
    "red-apple": "apple",
    "ear-of-corn": "corn",
    "hot-pepper": "pepper",
    "jack-o-lantern": "pumpkin",
    "cheese-wedge": "cheese",
    "hamburger": "burger",
    "french-fries": "fries",
    "birthday-cake": "cake",
    "ice-cream": "ice cream",
    "honey-pot": "honey",
    "hot-beverage": "cup",
    "wine-glass": "glass",
    "automobile": "car",
    "fire-engine": "engine",
    "delivery-truck": "truck",
    "locomotive": "train",
    "motor-scooter": "scooter",
    "sailboat": "boat",
    "flying-saucer": "saucer",
    "roller-skate": "skate",
    "japanese-castle": "pagoda",
    "tokyo-tower": "tower",
    "snow-capped-mountain": "mountain",
    "crescent-moon": "moon",
    "top-hat": "hat",
    "gem-stone": "diamond",
    "teddy-bear": "teddy",
    "long-drum": "drum",
    "light-bulb": "lamp",
    "alarm-clock": "clock",
    "hourglass-done": "hourglass",
    "closed-book": "book",
    "paintbrush": "brush",
    "locked": "lock",
    "wrapped-gift": "gift",
    "soccer-ball": "ball",
    "womans-boot": "boot",
    "t-shirt": "shirt",
    "red-heart": "heart",
}
"""Icon -> the word that prompts use, where it is not the icon's name without "-face"."""

UNSEEN = frozenset("hamster squid eggplant scooter pagoda trumpet gloves peacock canoe pancakes".split())
"""Subjects that no training shows: what ReCraft and the autoencoder make of pictures they have never seen."""


def load(folder: Path) -> dict[str, Drawing]:
    """Word -> drawing, of the icons in use that the package has.

    ValueError says what is wrong with the folder.
    """
    path = folder / FILE
    if not path.is_file():
        raise ValueError(
            f"there is no {FILE} in {folder}; unpack the npm package @iconify-json/fluent-emoji-flat there"
        )
    try:
        package = parse_json(path.read_bytes(), depth=4, most=200_000)
        size = int(package.get("width", 16)), int(package.get("height", 16))
        found = {icon: str(package["icons"][icon]["body"]) for icon in NAMES if icon in package["icons"]}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(f"{path} is not the list of an icon set; is the package whole?") from None
    if not found:
        raise ValueError(f"{path} has none of the icons that FLUX-nano knows, such as {', '.join(NAMES[:3])}")
    return {word(icon): Icon(body, size) for icon, body in found.items()}


def word(icon: str) -> str:
    """What prompts call an icon."""
    return SHORT.get(icon, icon.removesuffix("-face"))


class Icon(Drawing):
    """A drawing whose parts are rendered when they are first needed."""

    def __init__(self, body: str, size: tuple[int, int]) -> None:
        self._body, self._size = body, size

    @property
    def colours(self) -> np.ndarray:
        return _rendered(self._body, self._size)[1]

    @property
    def masks(self) -> np.ndarray:
        return _rendered(self._body, self._size)[0]

    @property
    def tints(self) -> np.ndarray:
        """Which parts take the colour that is asked for: those of about the hue of the largest."""
        shown = np.bincount(self.master.ravel(), minlength=len(self.colours) + 1)[1:]
        hue, saturation, value = _hsv(self.colours)
        main = int(shown.argmax())
        if saturation[main] < GREY:
            return (saturation < GREY) & (abs(value - value[main]) < 0.45)
        return (saturation >= GREY) & (abs((hue - hue[main] + 180) % 360 - 180) <= ALIKE)


@cache
def _rendered(body: str, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Masks (parts, MASTER, MASTER) and colours (parts, 3) of an icon, standing on the lower edge of the square."""
    drawn = _render(body, size, PROBE)[..., 3] > 127
    # Rendered so large that what is drawn, without its margin, fills the square.
    edge = round(MASTER * PROBE / (max(np.ptp(np.flatnonzero(drawn.any(axis))) for axis in (0, 1)) + 1))
    layers = np.stack([_render(element, size, edge) for element in _elements(body)])
    solid = layers[..., 3] > 127
    rows, cols = (np.flatnonzero(solid.any((0, 1 + axis))) for axis in (1, 0))
    height, width = (min(np.ptp(side) + 1, MASTER) for side in (rows, cols))
    masks = np.zeros((len(layers), MASTER, MASTER), bool)
    left = (MASTER - width) // 2
    shown = solid[:, rows[0] : rows[0] + height, cols[0] : cols[0] + width]
    masks[:, MASTER - height :, left : left + width] = shown
    kept = masks.any((1, 2))
    colours = [np.median(layer[mask][:, :3], axis=0) for layer, mask in zip(layers[kept], solid[kept], strict=True)]
    return masks[kept], np.stack(colours)


def _elements(body: str) -> Iterator[str]:
    """The drawn elements of an icon, in their order, each with what its groups say of it."""

    def walk(element: ET.Element, inherited: Mapping[str, str]) -> Iterator[str]:
        attributes = {**inherited, **element.attrib}
        if element.tag == "g":
            for child in element:
                yield from walk(child, attributes)
        else:
            yield ET.tostring(ET.Element(element.tag, attributes), encoding="unicode")

    for child in ET.fromstring(f"<g>{body}</g>"):  # noqa: S314 - a package that its user unpacked
        yield from walk(child, {})


def _render(element: str, size: tuple[int, int], edge: int) -> np.ndarray:
    """RGBA (edge, edge, 4) of one element."""
    import resvg_py

    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}">{element}</svg>'
    png = resvg_py.svg_to_bytes(svg_string=svg, width=edge, height=edge, skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGBA"))


def _hsv(colours: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hue in degrees, saturation and value 0..1 of RGB 0..255 (n, 3)."""
    high, low = colours.max(1), colours.min(1)
    span = np.maximum(high - low, 1e-6)
    r, g, b = colours.T
    hue = np.select([high == r, high == g], [(g - b) / span % 6, (b - r) / span + 2], (r - g) / span + 4)
    return hue * 60, (high - low) / np.maximum(high, 1e-6), high / 255

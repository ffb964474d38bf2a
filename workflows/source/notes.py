"""The note in a graph: what to press, what to change, and which files go where."""

from __future__ import annotations

from collections.abc import Sequence

from .graph import Model
from .kits import FP8_CHECKPOINT, FP8_T5

NANO = """**Runs at once**, on any computer: FLUX-nano, a miniature FLUX, comes with this pack. It draws small and
simple pictures; FLUX.1-dev draws the same way, large.

It knows *a small* or *a big* red, orange, yellow, green, teal, blue, purple or pink **house, star, heart, fish, boat,
cup, mushroom, cat, flower, car, rocket, duck, apple, butterfly, whale, crown**; *Tree* makes **oak, pine, palm, willow,
birch, cherry, poplar, bonsai**, *Lettering* a **letter A** and others. With *flux_nano_heads_4f*, set *cell* in **Empty
Grid** to 96."""

FILES = """**Files.** ComfyUI offers to download those that are missing when the workflow opens. After copying files,
press **R**.

| file | folder in ComfyUI/models |
|--|--|
{rows}"""

MEMORY = """**Less memory (fp8).** Set *weight_dtype* to *fp8_e4m3fn* where FLUX is loaded: the same file in half the
memory. For the text, choose {t5} (*text_encoders*) in **DualCLIPLoader**. With the all-in-one {checkpoint}
(*checkpoints*), take **Load Checkpoint** and **Apply Domain Head** in place of the loaders here."""


def write_note(text: str, models: Sequence[Model]) -> str:
    """The workflow's own text, and what its models need; without any to download, it is one of FLUX-nano."""
    if not models:
        return f"{text}\n\n{NANO}\n"
    rows = "\n".join(f"| {_link(model)} | {model['directory']} |" for model in models)
    memory = MEMORY.format(t5=_link(FP8_T5), checkpoint=_link(FP8_CHECKPOINT))
    return f"{text}\n\n{FILES.format(rows=rows)}\n\n{memory}\n"


def _link(model: Model) -> str:
    return f"[{model['name']}]({model['url']})"


TEXT = """## From words to a making-of

1. Press **Run**.
2. The grid is the whole sequence in one picture; its frames lie as a snake: {snake}. **Split Frames** puts them in
   order, **Animate Sequence** plays them, **Save Sequence** saves them to *output/MakeAnything*.

**Change the green nodes**: the *domain* (how it is made), the *subject* (what is made), the *seed* (another try)."""

_IMAGE = """## From a picture to its making-of (ReCraft)

{steps}

**ReCraft** holds the picture as the last frame while the frames before it are drawn. *What the LoRA reached* must say
that all layers were applied; otherwise the ReCraft file is not one for this model."""

IMAGE_DRAWN = _IMAGE.format(
    steps="""1. Press **Run**. First a picture is drawn, as any model does it (3). ReCraft finds the steps that led
   to it (4).
2. **Your own picture**: double-click on the canvas, add **Load Image**, and wire it to *image* of **ReCraft**.
   FLUX-nano knows simple shapes on a plain ground only.

**Change the green nodes**: what is in the picture (the same words in 2 and 3), the *domain*, the *seeds*."""
)
IMAGE_LOADED = _IMAGE.format(
    steps="""1. Choose your picture in **Load Image** (3), and write in **Process Prompt** (2) what it shows.
2. Press **Run**.

**Change the green nodes**. Domain and ReCraft file belong together: {pairs}."""
)

STYLE = """## A making-of in another style

1. Press **Run**. {what}
2. Switch the LoRA off, by the box before its name in **LoRA Stack**, and press **Run** again: the same domain without
   the style.

**Change the green nodes**. Any LoRA for the same model can go into the stack; write its trigger words behind the
subject.

The node that is *off* writes the head as an ordinary LoRA file, for any LoRA loader: select it and press **Ctrl+M**."""

MIX = """## Between two domains

1. Press **Run**: half {first}, half {second}.
2. Change the *weights*: how much of each domain there is. Rows of weight 0 are left out.

**Change the green nodes**. The domains of a mix must have the same number of frames. The prompt reads as that of the
domain with the largest weight, the first of equals."""

LONGER = """## Longer than a grid: 17 frames

1. Press **Run**. Two grids are drawn: first the later half ({late}), then the earlier half ({early}), whose last frame
   **ReCraft** holds at the first frame of the later one.
2. The frame that both have is shown once: 8 + 9 = 17 frames.

**Change the green nodes**: the domains of both halves, the *subject* of both, the *seeds*. Choose a later domain that
begins with what the earlier one makes."""

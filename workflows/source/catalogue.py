"""The workflows by name: a recipe, its kit, and the note that stands in the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from . import notes, recipes
from .graph import Schemas, Workflow
from .kits import DEV_4F, DEV_9F, NANO_4F, NANO_9F, RECRAFT_SKETCH, Kit

Recipe = Callable[[Workflow, Kit], None]


@dataclass(frozen=True)
class Entry:
    """A workflow that ships.

    `nano` is the kit with which FLUX-nano draws it, for its thumbnail too; `note` is the workflow's own text.
    Its thumbnail says `shows`, and marks the frame that is `held`, counted from 0.
    """

    recipe: Recipe
    kit: Kit
    nano: Kit
    note: str
    shows: str
    held: int | None = None

    def build(self, schemas: Schemas, name: str, kit: Kit | None = None) -> Workflow:
        """The workflow, with another kit if one is given; ValueError when the host lacks what it needs."""
        workflow = Workflow(schemas, name)
        self.recipe(workflow, kit or self.kit)
        models = {model["name"]: model for node in workflow.nodes for model in node.models}
        workflow.note = notes.write_note(self.note, list(models.values()))
        return workflow


_NANO_STYLE = replace(NANO_9F, domain="Bricks", subject="a big red house, parchment style")
_NANO_IMAGE = replace(NANO_9F, domain="Colouring", subject="a big pink heart")
_NANO_IMAGE_4F = replace(NANO_4F, domain="Colouring", subject="a big pink heart")
_NANO_MIX = replace(NANO_9F, domain="Bricks", second="Mosaic", subject="a big purple heart", seed=2)
_NANO_LONGER = replace(NANO_9F, domain="Colouring", second="Line drawing", subject="a big orange cat")
_DEV_STYLE = replace(DEV_9F, subject="1 girl with a red scarf, anime style")
_DEV_LONGER = replace(DEV_9F, recraft=RECRAFT_SKETCH["name"])

_TEXT_9F = notes.TEXT.format(snake="1 2 3 / 6 5 4 / 7 8 9")
_TEXT_4F = notes.TEXT.format(snake="1 2 / 4 3")
_IMAGE_9F = notes.IMAGE_LOADED.format(
    pairs="*Portrait* and *recraft_9f_portrait*, *LEGO* and *recraft_9f_lego*, *Sketch* and *recraft_9f_sketch*"
)
_IMAGE_4F = notes.IMAGE_LOADED.format(pairs="*Wood sculpture* and *recraft_4f_wood_sculpture*")
_PARCHMENT = notes.STYLE.format(what="The style LoRA has learned pictures on parchment, and no sequence at all.")
_UNSEEN = notes.STYLE.format(
    what="The head knows how a portrait is painted, the LoRA what an anime looks like: together they draw what neither "
    "was trained on."
)
_MIX = notes.MIX.format(first="a painted portrait", second="a sketch")
_COLOURED = notes.LONGER.format(early="a line drawing", late="colouring it in")
_PAINTED = notes.LONGER.format(early="a sketch", late="a portrait painted from it")

_WORDS_9F, _WORDS_4F, _PICTURE_9F, _PICTURE_4F = (
    f"{source} to {frames} frames" for source in ("Words", "A picture") for frames in (9, 4)
)
_STYLED, _MIXED, _LONG = "A domain with a style LoRA", "Half one domain, half another", "Two grids, 17 frames"

CATALOGUE: Mapping[str, Entry] = {
    "demo_text_to_process": Entry(recipes.text_to_process, NANO_9F, NANO_9F, _TEXT_9F, _WORDS_9F),
    "demo_image_to_process": Entry(
        recipes.image_to_process, _NANO_IMAGE, _NANO_IMAGE, notes.IMAGE_DRAWN, _PICTURE_9F, held=8
    ),
    "demo_style_stack": Entry(recipes.with_style, _NANO_STYLE, _NANO_STYLE, _PARCHMENT, _STYLED),
    "demo_longer_sequence": Entry(recipes.longer_sequence, _NANO_LONGER, _NANO_LONGER, _COLOURED, _LONG, held=8),
    "text_to_process_9f": Entry(recipes.text_to_process, DEV_9F, NANO_9F, _TEXT_9F, _WORDS_9F),
    "text_to_process_4f": Entry(recipes.text_to_process, DEV_4F, NANO_4F, _TEXT_4F, _WORDS_4F),
    "image_to_process_9f": Entry(recipes.image_to_process, DEV_9F, _NANO_IMAGE, _IMAGE_9F, _PICTURE_9F, held=8),
    "image_to_process_4f": Entry(recipes.image_to_process, DEV_4F, _NANO_IMAGE_4F, _IMAGE_4F, _PICTURE_4F, held=3),
    "unseen_domain_with_style_lora": Entry(recipes.with_style, _DEV_STYLE, _NANO_STYLE, _UNSEEN, _STYLED),
    "mix_two_domains": Entry(recipes.mix_two_domains, DEV_9F, _NANO_MIX, _MIX, _MIXED),
    "longer_sequence": Entry(recipes.longer_sequence, _DEV_LONGER, _NANO_LONGER, _PAINTED, _LONG, held=8),
}

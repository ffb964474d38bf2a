"""Several ordinary LoRAs in one node, with an account of what each file did."""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType
from typing import Any

import comfy.sd
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..makeanything.foreign import NAMED, brief, kind, need
from ..makeanything.lora_info import trigger_words
from .inputs import CATEGORY, LoraStackSocket, apply_input
from .model.catalog import lora_files, stamp
from .model.lora_files import apply_lora
from .model.stacked_lora import StackedLora
from .model.ways import AUTO

ROWS = 5
NONE = "none"

Stack = list[tuple[str, float, float]]


class LoraStack(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        files = [NONE, *lora_files()]
        return io.Schema(
            node_id="MakeAnythingLoraStack",
            display_name="LoRA Stack",
            category=CATEGORY,
            description="Applies several LoRAs in order and says how much of each file fitted.",
            search_aliases=["makeanything", "lora loader", "multi lora", "trigger words"],
            inputs=[
                io.Model.Input("model", optional=True, tooltip="The LoRAs are added to this model; heads on it stay."),
                io.Clip.Input("clip", optional=True, tooltip="The LoRAs' text encoder layers are added to this CLIP."),
                LoraStackSocket.Input(
                    "lora_stack", optional=True, tooltip="LoRAs from another stack; they are applied first."
                ),
                *(widget for row in range(1, ROWS + 1) for widget in _row(row, files)),
                apply_input("LoRA"),
            ],
            outputs=[
                io.Model.Output(tooltip="The model with the LoRAs, when a model is wired in."),
                io.Clip.Output(tooltip="The CLIP with the LoRAs, when a CLIP is wired in."),
                LoraStackSocket.Output(display_name="LORA_STACK", tooltip="All LoRAs of this stack and of lora_stack."),
                io.String.Output(display_name="trigger_words", tooltip="From the files' headers, joined with commas."),
                io.String.Output(display_name="report", tooltip="How many layers of each file were applied."),
            ],
        )

    @classmethod
    def validate_inputs(cls, lora_1: str, lora_2: str, lora_3: str, lora_4: str, lora_5: str) -> bool:
        """Names the files, so that a missing one stops the graph only when its row is on, and execute says why."""
        return True

    @classmethod
    def fingerprint_inputs(cls, **rows: Any) -> list[str]:
        """The node runs again when a file whose row is on is replaced.  The host leaves out inputs that are wired."""
        return [stamp(rows.get(f"lora_{row}", NONE)) for row in range(1, ROWS + 1) if rows.get(f"on_{row}", True)]

    @classmethod
    def execute(
        cls,
        model: ModelPatcher | None = None,
        clip: comfy.sd.CLIP | None = None,
        lora_stack: Stack | None = None,
        apply: str = AUTO,
        **rows: Any,
    ) -> io.NodeOutput:
        if model is not None:
            need(model, ModelPatcher, "model")
        if clip is not None:
            need(clip, comfy.sd.CLIP, "clip")
        own = [_read_row(rows, row) for row in range(1, ROWS + 1) if rows[f"on_{row}"] and rows[f"lora_{row}"] != NONE]
        stack = [*_read_stack(lora_stack), *own]
        words = [word for lora in stack for word in _trigger_words(lora)]
        model_out, clip_out, report = _apply_all(stack, model, clip, apply)
        return io.NodeOutput(
            model_out,
            clip_out,
            [(lora.name, lora.model, lora.clip) for lora in stack],
            ", ".join(dict.fromkeys(words)),
            report,
        )


def _apply_all(
    stack: Sequence[StackedLora], model: ModelPatcher | None, clip: comfy.sd.CLIP | None, way: str
) -> tuple[Any, ...]:
    """(model, clip, report).  An output whose input is not wired blocks the nodes after it, and they say why."""
    lines = []
    if model is None and clip is None:
        lines = [f"{brief(lora.name, NAMED)}: in the stack; wire a MODEL or a CLIP to apply it" for lora in stack]
    else:
        for lora in stack:
            model, clip, line = apply_lora(model, clip, lora, way)
            lines.append(line)
    return _or_block(model, "MODEL"), _or_block(clip, "CLIP"), "\n".join(lines) or "no LoRA is on"


def _or_block(value: Any, kind: str) -> Any:
    if value is not None:
        return value
    return ExecutionBlocker(f"The LoRA Stack gives out a {kind} only when a {kind} is wired into it.")


def _row(row: int, files: list[str]) -> list[io.Input]:
    strength = {"default": 1.0, "min": -100.0, "max": 100.0, "step": 0.01}
    return [
        io.Boolean.Input(
            f"on_{row}",
            display_name=f"on {row}",
            default=True,
            tooltip="Off leaves the LoRA out and keeps its settings.",
        ),
        io.Combo.Input(
            f"lora_{row}",
            display_name=f"LoRA {row}",
            options=files,
            tooltip="An ordinary LoRA in the loras folder (.safetensors).",
        ),
        io.Float.Input(
            f"model_{row}",
            display_name=f"model strength {row}",
            **strength,
            tooltip="Strength on the model: 1 as trained, 0 not at all.",
        ),
        io.Float.Input(
            f"clip_{row}",
            display_name=f"clip strength {row}",
            **strength,
            tooltip="Strength on the CLIP: 1 as trained, 0 not at all.",
        ),
    ]


def _read_row(rows: dict[str, Any], row: int) -> StackedLora:
    return StackedLora.of((rows[f"lora_{row}"], rows[f"model_{row}"], rows[f"clip_{row}"]))


def _read_stack(entries: Any) -> list[StackedLora]:
    """The rows of a LORA_STACK, whatever pack made it."""
    if not isinstance(entries, (list, tuple, NoneType)):
        raise ValueError(f"lora_stack must be a list, got {kind(entries)}")
    return [StackedLora.of(entry) for entry in entries or ()]


def _trigger_words(lora: StackedLora) -> list[str]:
    with lora.open() as file:
        return trigger_words(file.metadata)


NODES: list[type[io.ComfyNode]] = [LoraStack]

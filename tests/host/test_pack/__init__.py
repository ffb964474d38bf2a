"""Nodes that only the tests use: they supply tiny inputs and save what arrives."""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from pathlib import Path
from typing import Any, ClassVar

import comfy.controlnet
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.sd
import comfy.utils
import folder_paths
import torch
from comfy_api.latest import ComfyExtension, io
from safetensors.torch import save_file

WIDTH, CONTEXT, VECTOR, TOKENS = 128, 32, 16, 5


class TestProbe(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema("TestProbe", inputs=[io.AnyType.Input("value"), io.String.Input("name")], is_output_node=True)

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        # A new object: the host's cache compares by identity first, and math.nan is itself.
        return float("nan")

    @classmethod
    def execute(cls, value: Any, name: str) -> io.NodeOutput:
        value = value["samples"] if isinstance(value, dict) and "samples" in value else value
        file = f"{name}.safetensors" if isinstance(value, torch.Tensor) else f"{name}.json"
        path = Path(folder_paths.get_output_directory(), file)
        if isinstance(value, torch.Tensor):
            save_file({"value": value.contiguous().cpu()}, path)
        else:
            path.write_text(json.dumps(value, default=repr))
        return io.NodeOutput(ui={"probes": [file]})


class TestConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema("TestConditioning", inputs=[io.Int.Input("seed")], outputs=[io.Conditioning.Output()])

    @classmethod
    def execute(cls, seed: int) -> io.NodeOutput:
        generator = torch.Generator().manual_seed(seed)
        txt = torch.randn(1, TOKENS, CONTEXT, generator=generator)
        return io.NodeOutput([[txt, {"pooled_output": torch.randn(1, VECTOR, generator=generator)}]])


class TestImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        sizes: list[io.Input] = [io.Int.Input(name, default=1) for name in ("seed", "height", "width", "batch")]
        channels = io.Int.Input("channels", default=3, optional=True)
        return io.Schema("TestImage", inputs=[*sizes, channels], outputs=[io.Image.Output()])

    @classmethod
    def execute(cls, seed: int, height: int, width: int, batch: int, channels: int = 3) -> io.NodeOutput:
        generator = torch.Generator().manual_seed(seed)
        return io.NodeOutput(torch.rand(batch, height, width, channels, generator=generator))


class TestClip(io.ComfyNode):
    """A CLIP with one attention layer of CLIP-L's names: enough for LoRA patches, not for text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema("TestClip", inputs=[io.Int.Input("seed")], outputs=[io.Clip.Output()])

    @classmethod
    def execute(cls, seed: int) -> io.NodeOutput:
        module = torch.nn.Module()
        inner = module
        for name in ("clip_l", "transformer", "text_model", "encoder", "layers", "0", "self_attn"):
            inner.add_module(name, torch.nn.Module())
            inner = inner.get_submodule(name)
        inner.q_proj = torch.nn.Linear(8, 8)
        inner.q_proj.weight.data = torch.randn(8, 8, generator=torch.Generator().manual_seed(seed))
        clip = comfy.sd.CLIP(no_init=True)
        clip.cond_stage_model, clip.tokenizer = module, None
        device = torch.device("cpu")
        clip.patcher = comfy.model_patcher.CoreModelPatcher(module, load_device=device, offload_device=device)
        clip.layer_idx, clip.use_clip_schedule, clip.apply_hooks_to_conds = None, False, None
        clip.tokenizer_options = {}
        return io.NodeOutput(clip)


class TestWeight(io.ComfyNode):
    """A weight of a MODEL or CLIP as it is used, with the patches merged."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            "TestWeight", inputs=[io.AnyType.Input("model"), io.String.Input("key")], outputs=[io.AnyType.Output()]
        )

    @classmethod
    def execute(cls, model: Any, key: str) -> io.NodeOutput:
        patcher = getattr(model, "patcher", model)
        comfy.model_management.load_models_gpu([patcher])
        return io.NodeOutput(comfy.utils.get_attr(patcher.model, key).detach().clone())


class TestOtherModel(io.ComfyNode):
    """A MODEL of another type, without a network: a class of comfy.model_base and one of comfy.latent_formats."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        names = [io.String.Input("kind"), io.String.Input("latents")]
        return io.Schema("TestOtherModel", inputs=names, outputs=[io.Model.Output()])

    @classmethod
    def execute(cls, kind: str, latents: str) -> io.NodeOutput:
        base = getattr(comfy.model_base, kind)
        model = base.__new__(base)
        torch.nn.Module.__init__(model)
        model.latent_format = getattr(comfy.latent_formats, latents)()
        device = torch.device("cpu")
        return io.NodeOutput(comfy.model_patcher.CoreModelPatcher(model, load_device=device, offload_device=device))


class Control(comfy.controlnet.ControlBase):
    """A ControlNet without a network: adds the same to every image token, and keeps the latents it was given."""

    seen: ClassVar[list[torch.Tensor]] = []

    def get_control(self, x_noisy: torch.Tensor, *_: Any) -> dict[str, list[torch.Tensor]]:
        self.seen.append(x_noisy.detach().clone())
        batch, _, height, width = x_noisy.shape
        # A ramp over the channels: FLUX's layer norms would take a constant out again.
        ramp = torch.linspace(-1, 1, WIDTH, dtype=x_noisy.dtype)
        return {"input": [ramp.expand(batch, height * width // 4, WIDTH)], "output": []}

    def copy(self) -> Control:
        copied = Control()
        self.copy_to(copied)
        return copied


class TestControl(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema("TestControl", inputs=[io.Conditioning.Input("positive")], outputs=[io.Conditioning.Output()])

    @classmethod
    def execute(cls, positive: Any) -> io.NodeOutput:
        Control.seen.clear()
        return io.NodeOutput([[txt, {**rest, "control": Control()}] for txt, rest in positive])


class TestControlSeen(io.ComfyNode):
    """All latents that the ControlNet was given, step by step, once `after` is sampled: (steps, 16, H, W)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema("TestControlSeen", inputs=[io.Latent.Input("after")], outputs=[io.AnyType.Output()])

    @classmethod
    def execute(cls, after: Any) -> io.NodeOutput:
        return io.NodeOutput(torch.cat(Control.seen))


class TestStale(io.ComfyNode):
    """A MODEL with a wrapper that never asks the model and answers nothing but zeros, as a runaway step cache would."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema("TestStale", inputs=[io.Model.Input("model")], outputs=[io.Model.Output()])

    @classmethod
    def execute(cls, model: Any) -> io.NodeOutput:
        model = model.clone()
        wrappers = comfy.patcher_extension.WrappersMP
        model.add_wrapper_with_key(wrappers.PREDICT_NOISE, "test", lambda executor, x, *_, **__: torch.zeros_like(x))
        return io.NodeOutput(model)


class TestCounts(io.ComfyNode):
    """What is alive in the server: modules, forward hooks on them, and Python objects."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema("TestCounts", outputs=[io.AnyType.Output()])

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        return float("nan")

    @classmethod
    def execute(cls) -> io.NodeOutput:
        gc.collect()
        if sys.platform == "linux":
            # What the allocator keeps for later is no leak.
            ctypes.CDLL(None).malloc_trim(0)
        modules = [module for module in gc.get_objects() if isinstance(module, torch.nn.Module)]
        hooks = sum(len(module._forward_hooks) for module in modules)
        return io.NodeOutput({"modules": len(modules), "hooks": hooks, "objects": len(gc.get_objects())})


class TestPack(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            TestProbe,
            TestConditioning,
            TestImage,
            TestClip,
            TestWeight,
            TestOtherModel,
            TestControl,
            TestControlSeen,
            TestStale,
            TestCounts,
        ]


async def comfy_entrypoint() -> TestPack:
    return TestPack()

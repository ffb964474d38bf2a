"""Branches on a MODEL: hooks on its layers, whose weights are a second model that the host loads with it.

The host calls `_inject` when it loads the model, and `_eject` when it unloads the model or loads a clone.  Nothing here
replaces a layer, reads a weight of the model or makes the host patch its weights again.
"""

from __future__ import annotations

import copy
from weakref import WeakKeyDictionary

import comfy.model_patcher
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP, PatcherInjection
from torch import nn
from torch.utils.hooks import RemovableHandle

from ...makeanything.branch import Branches

KEY = "makeanything_branch"

Hooked = tuple[nn.Module, type[nn.Module], RemovableHandle]
"""A layer, the class that it had before it was hooked, and its hook."""

_hooks: WeakKeyDictionary[nn.Module, tuple[int, list[Hooked]]] = WeakKeyDictionary()
"""Model -> (id of the patcher that hooked it, its hooked layers).  Clones of a patcher share one model; the hooks are
those of the clone that the host loaded last."""

_twins: dict[type[nn.Module], type[nn.Module]] = {}
"""Class of a layer -> the class of a layer with a hook."""


def add_branches(model: ModelPatcher, branches: Branches) -> None:
    """Add branches to those that this patcher has; the patchers that it was cloned from keep theirs."""
    for before in model.get_additional_models_with_key(KEY):
        branches = Branches([*before.model.items(), *branches.items()])
    model.set_additional_models(KEY, [_patcher(branches, model.load_device, model.offload_device)])
    model.set_injections(KEY, [PatcherInjection(_inject, _eject)])
    # A clone of an injected patcher says that it is injected too, and would move the hooks to itself.
    model.remove_callbacks_with_key(CallbacksMP.ON_CLONE, KEY)
    model.add_callback_with_key(CallbacksMP.ON_CLONE, KEY, _forget_injection)


def _forget_injection(_: ModelPatcher, clone: ModelPatcher) -> None:
    clone.is_injected = False


def dtype_of(model: ModelPatcher) -> torch.dtype:
    """What the model computes in; quantized weights are stored in another type."""
    dtype = model.model.manual_cast_dtype or model.model.get_dtype()
    return dtype if dtype in (torch.float32, torch.float16) else torch.bfloat16


def _patcher(branches: Branches, load_device: torch.device, offload_device: torch.device) -> ModelPatcher:
    # Looked up when called: a host that manages memory dynamically replaces the class when it starts.
    patcher = comfy.model_patcher.CoreModelPatcher(branches, load_device=load_device, offload_device=offload_device)
    # The host calls this to copy the model to other GPUs.
    patcher.cached_patcher_init = (_copy, (branches, load_device, offload_device))
    return patcher


def _copy(branches: Branches, load_device: torch.device, offload_device: torch.device) -> ModelPatcher:
    return _patcher(copy.deepcopy(branches).to(offload_device), load_device, offload_device)


def _inject(patcher: ModelPatcher) -> None:
    _remove_hooks(patcher.model)
    hooks: list[Hooked] = []
    _hooks[patcher.model] = (id(patcher), hooks)
    for branches in patcher.get_additional_models_with_key(KEY):
        for name, branch in branches.model.items():
            layer: nn.Module = comfy.utils.get_attr(patcher.model, name)
            hooks.append((layer, type(layer), layer.register_forward_hook(branch.hook)))
            layer.__class__ = _hooked(type(layer))


def _eject(patcher: ModelPatcher) -> None:
    owner, _ = _hooks.get(patcher.model, (None, []))
    if owner == id(patcher):
        _remove_hooks(patcher.model)


def _remove_hooks(model: nn.Module) -> None:
    _, hooks = _hooks.pop(model, (None, []))
    # A layer with two branches is there twice, first with the class it had before both.
    for layer, plain, hook in reversed(hooks):
        hook.remove()
        if type(layer) is _hooked(plain):
            layer.__class__ = plain


def _hooked(plain: type[nn.Module]) -> type[nn.Module]:
    """A subclass that does the same, always the same subclass for a class.

    torch.compile does not notice that a layer has hooks now, and would run what it compiled without them.  It does
    notice another class.
    """
    if plain not in _twins:
        _twins[plain] = type(plain.__name__, (plain,), {"__module__": plain.__module__})
    return _twins[plain]

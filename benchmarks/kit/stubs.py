"""Empty stand-ins for packages that ComfyUI and sd-scripts import, and that nothing that is measured calls."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

NAMES = frozenset("alembic av blake3 diffusers pydantic pydantic_settings simpleeval sqlalchemy torchsde".split())
"""The database of assets and its hashes, video files, diffusers' VAE, checks of inputs, formulas, the SDE samplers."""


class _Kind(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing


class Nothing(metaclass=_Kind):
    """Whatever is asked of a stand-in: a class to inherit from, to name in a type, or to decorate with."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __init_subclass__(cls, **_: Any) -> None:
        pass

    def __class_getitem__(cls, _: Any) -> type[Nothing]:
        return cls

    def __call__(self, *inputs: Any, **_: Any) -> Any:
        return inputs[0] if inputs else self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing()


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing


class _Finder:
    """Finds what no one before it on the import path found, of the packages in NAMES."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:
        if name.partition(".")[0] not in NAMES:
            return None
        return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def install() -> None:
    """From now on a package of NAMES that is not installed can be imported."""
    sys.meta_path.append(_Finder())


def used() -> list[str]:
    """Which of them were."""
    return sorted({name.partition(".")[0] for name, module in sys.modules.items() if isinstance(module, _Module)})

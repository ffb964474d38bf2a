"""MakeAnything for ComfyUI: draw a whole making-of sequence as one grid, or find the steps that led to a picture."""

if __package__:  # Test runners import this file without a package; ComfyUI always gives it one.
    from .nodes import comfy_entrypoint

    WEB_DIRECTORY = "./web"

    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]

"""The workflows as a description, from which `python -m workflows.source` writes both forms that ComfyUI reads."""

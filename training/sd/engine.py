"""kohya-ss sd-scripts, the trainers' engine: found on the disk, put on the import path, run with our defaults."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..values import path_of, read_toml

ROOT = Path(__file__).resolve().parents[2]
TESTED = "48d368fa557731ad0488c07304dfeba8c07910eb"
CLONE = f"git clone https://github.com/kohya-ss/sd-scripts ~/sd-scripts && git -C ~/sd-scripts checkout {TESTED}"

NEEDED = {
    "train_network.py": ("def assert_extra_args", "def all_reduce_network", "def on_step_start", "is_train: bool"),
    "flux_train_network.py": ("class FluxNetworkTrainer", "def get_noise_pred_and_target", "def sample_images"),
    "networks/lora_flux.py": ("def create_network",),
    "library/train_util.py": ("def read_config_from_file", "custom_attributes"),
    "library/strategy_flux.py": ("class FluxLatentsCachingStrategy",),
    "library/flux_train_utils.py": ("def sample_image_inference",),
}
"""What the trainers override or call, by file."""

MODELS = ("pretrained_model_name_or_path", "ae", "clip_l", "t5xxl")
OF_THE_LOOP = {"text_encoder"}
"""Settings that only the built-in loop has, which reads the same files."""


def find(explicit: str | None = None) -> Path:
    """The folder of sd-scripts: `explicit`, else SD_SCRIPTS_PATH, else beside the project, else ~/sd-scripts.

    FileNotFoundError when there is none, ValueError when it lacks what we need; both give the command that brings it.
    """
    named = explicit or os.environ.get("SD_SCRIPTS_PATH")
    places = [path_of(named)] if named else [ROOT.parent / "sd-scripts", path_of("~/sd-scripts")]
    folder = next((place for place in places if (place / "flux_train_network.py").is_file()), None)
    if folder is None:
        looked = " or ".join(map(str, places))
        raise FileNotFoundError(
            f"sd-scripts is not at {looked}; name its folder with --sd_scripts, or get it:\n  {CLONE}"
        )
    for name, texts in NEEDED.items():
        source = (folder / name).read_text(encoding="utf-8") if (folder / name).is_file() else ""
        for text in texts:
            if text not in source:
                raise ValueError(
                    f"the sd-scripts at {folder} is too old, or too new: {name} lacks {text!r}; tested is:\n  {CLONE}"
                )
    return folder.resolve()


def enable(explicit: str | None = None) -> Path:
    """Find sd-scripts and make it importable; its folder.

    It comes last on the import path, because its top-level packages (library, networks, tools, tests) have names that
    others have too.
    """
    folder = find(explicit)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return folder


def run(
    make_trainer: Callable[[], Any],
    add_options: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
    argv: Sequence[str] | None = None,
) -> None:
    """Train as `python flux_train_network.py ARGV` would, with another trainer, its options and our defaults.

    `make_trainer` is called once sd-scripts can be imported.  A wrong command line ends with one line
    on stderr, and so does a result that can't be saved.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--sd_scripts")
    try:
        folder = enable(first.parse_known_args(arguments)[0].sd_scripts)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
    try:
        import flux_train_network
    except ImportError as error:
        sys.exit(
            f"sd-scripts can't start: {error}\nUse the Python that sd-scripts was installed with, or install what it "
            f"needs for this one:  {sys.executable} -m pip install -r {folder / 'requirements.txt'}"
        )
    from makeanything.saving import NotSavedError

    parser = flux_train_network.setup_parser()
    _add_defaults(parser)
    add_options(parser)
    args = _read(parser, arguments)
    _forget_strategies()
    try:
        make_trainer().train(args)
    except NotSavedError as error:
        sys.exit(str(error))


def _add_defaults(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sd_scripts", metavar="FOLDER", help="where sd-scripts lies")
    parser.add_argument(
        "--no_apply_t5_attn_mask",
        dest="apply_t5_attn_mask",
        action="store_false",
        help="let the model see T5's padding; on by default as in the paper's runs, in training, caches and samples",
    )
    parser.set_defaults(
        apply_t5_attn_mask=True,
        # FLUX.1-dev predicts the flow itself, and its training sets the distilled guidance to 1.
        model_prediction_type="raw",
        guidance_scale=1.0,
        timestep_sampling="shift",
        discrete_flow_shift=3.1582,
        network_train_unet_only=True,
        # A resumed run must draw what the run before it drew.
        seed=0,
    )


def _read(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments over those of --config_file; exits for what sd-scripts would pass over or trip on late."""
    from library import train_util

    before = sys.argv
    # sd-scripts reads sys.argv once more, over the file's settings.
    sys.argv = [before[0], *arguments]
    try:
        args = parser.parse_args(arguments)
        train_util.verify_command_line_training_args(args)
        if args.config_file and not args.output_config:
            _check_config(parser, args.config_file)
        args = train_util.read_config_from_file(args, parser)
    finally:
        sys.argv = before
    _check_files(parser, args)
    if args.optimizer_type.lower() == "came":
        try:
            from ..came import Came
        except ImportError as error:
            parser.error(str(error))
        args.optimizer_type = f"{Came.__module__}.{Came.__qualname__}"
    return args


def _check_config(parser: argparse.ArgumentParser, name: str) -> None:
    """Refuse a settings file with a key that no option has: sd-scripts would pass over it."""
    path = Path(name if name.endswith(".toml") else f"{name}.toml")
    if not path.is_file():
        parser.error(f"there is no settings file {path}")
    try:
        settings = read_toml(path)
    except ValueError as error:
        parser.error(str(error))
    keys = [key for name, value in settings.items() for key in (value if isinstance(value, dict) else [name])]
    known = vars(parser.parse_args([])).keys() - {"config_file", "sd_scripts"} | OF_THE_LOOP
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            parser.error(f"{path}: there is no setting {key}" + (f"; did you mean {near[0]}?" if near else ""))


def _check_files(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    for name in (*MODELS, "dataset_config", "sample_prompts"):
        path = getattr(args, name)
        if path is None and name in MODELS:
            parser.error(f"--{name} is missing, a file of FLUX.1-dev")
        if path is not None and not Path(path).exists():
            parser.error(f"--{name}: there is no {path}")
    if str(args.dataset_config).endswith(".toml"):
        try:
            # sd-scripts reads it after minutes, and says less.
            read_toml(Path(args.dataset_config))
        except (OSError, ValueError) as error:
            parser.error(str(error))
    if not args.output_dir or not args.output_name:
        parser.error("--output_dir and --output_name say where the result goes; one is missing")


def _forget_strategies() -> None:
    """Let train() run more than once in a process: sd-scripts refuses to set these a second time."""
    from library import strategy_base

    for name in (
        "TokenizeStrategy",
        "TextEncodingStrategy",
        "LatentsCachingStrategy",
        "TextEncoderOutputsCachingStrategy",
    ):
        getattr(strategy_base, name)._strategy = None

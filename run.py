"""Everything a developer runs, in an environment that this script makes:  python run.py demo | test  [arguments]

    demo    runs `python -m demo` with the arguments
    test    lints, checks types and scripts, and runs pytest with the arguments

The environment is .venv, with the versions of requirements-dev.txt; it is brought up to date when that file changes.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - older versions get this sentence, not a SyntaxError further down
    sys.stderr.write("run.py needs Python 3.10 or newer, this is {}.{}\n".format(*sys.version_info[:2]))
    sys.exit(2)

import hashlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "requirements.sha256"
REQUIREMENTS = ROOT / "requirements-dev.txt"

BIOME = "@biomejs/biome@2.6.8"
"""Formatter and linter of the scripts in web/; biome.json has its settings."""

INTERRUPTED = 130
IN_HOSTS = ("tests/test_hosts.py", "tests/browser")


def main(arguments: list[str]) -> int:
    """Run a command; returns the exit code of the first child that failed, 2 for a wrong command."""
    command, *rest = arguments or [""]
    if command in ("-h", "--help"):
        print(__doc__.strip())
        return 0
    if command not in ("demo", "test"):
        wrong = f"there is no command {command!r}" if command else "a command is missing"
        print(f"run.py: {wrong}; use: python run.py demo|test [arguments]", file=sys.stderr)
        return 2
    return prepare() or (demo(rest) if command == "demo" else test(rest))


def prepare() -> int:
    """Make .venv hold what requirements-dev.txt asks for."""
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text() == wanted:
        return 0
    STAMP.unlink(missing_ok=True)
    failed = make_venv() or run(PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "-r", REQUIREMENTS)
    if not failed:
        STAMP.write_text(wanted)
    return failed


def make_venv() -> int:
    """Make .venv, unless it has a Python with pip already."""
    if PYTHON.exists() and subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True).returncode == 0:
        return 0
    return run(sys.executable, "-m", "venv", "--clear", VENV)


def demo(arguments: list[str]) -> int:
    return run(PYTHON, "-m", "demo", *arguments)


def test(arguments: list[str]) -> int:
    return (
        run(PYTHON, "-m", "ruff", "check")
        or run(PYTHON, "-m", "ruff", "format", "--check")
        or types()
        or scripts()
        or (run(PYTHON, "-m", "pytest", *arguments) if arguments else tests())
    )


def tests() -> int:
    """All of them: those of hosts, each of which takes the whole machine, after the others, which share it."""
    workers = ("-n", "auto", "--maxprocesses", "4", "--dist", "worksteal")
    others = (f"--ignore={path}" for path in IN_HOSTS)
    return run(PYTHON, "-m", "pytest", *workers, *others) or run(PYTHON, "-m", "pytest", *IN_HOSTS)


def types() -> int:
    """mypy, for nodes/ as a part of the package that ComfyUI makes of this folder."""
    failed = run(PYTHON, "-m", "mypy")
    if "." in ROOT.name:
        return failed or skipped("THE TYPES IN nodes/", f"a package's name can't have a dot, as {ROOT.name} has")
    return failed or run(PYTHON, "-m", "mypy", "-p", f"{ROOT.name}.nodes")


def scripts() -> int:
    """Biome on web/, where Node is installed and npm can get Biome."""
    # Under Windows npx is a script, which only its whole path starts.
    npx = shutil.which("npx")
    if npx is None:
        return skipped("THE SCRIPTS IN web/", "Node.js is not installed")
    # Where there is no network, retries take a minute.
    found = subprocess.run([npx, "--yes", "--fetch-retries=0", BIOME, "--version"], capture_output=True)
    if found.returncode != 0:
        return skipped("THE SCRIPTS IN web/", f"npx can't get {BIOME}")
    return run(npx, "--yes", BIOME, "check", "--error-on-warnings")


def skipped(what: str, why: str) -> int:
    print(f"run.py: {what} WERE NOT CHECKED: {why}", file=sys.stderr)
    return 0


def run(*command: str | Path) -> int:
    """Show and run a command in the root; its exit code.  Ctrl-C leaves it time to end by itself."""
    words = [str(word) for word in command]
    print("+", shlex.join(words), flush=True)
    child = subprocess.Popen(words, cwd=ROOT)
    try:
        return child.wait()
    except KeyboardInterrupt:
        # The terminal has interrupted the child as well.
        try:
            child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
        raise


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)

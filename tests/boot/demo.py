"""What tools/demo does once everything is set up: builds, checks and boots the demonstration kernel."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

from boot.boards import BOARDS
from boot.qemu import QemuError, boot
from matrix import ARCHITECTURES, Variant, toolchains

TOP = Path(__file__).resolve().parents[2]


def main() -> int:
    arguments = _parse()
    board = BOARDS[arguments.arch]
    if arguments.packages:
        print(*board.packages)
        return 0

    compiler, linker = toolchains(arguments.arch)[0]
    variant = Variant(arguments.arch, compiler, linker, cpus=arguments.cpus)
    kernel = Path("build", variant.name, "demo.elf")
    os.chdir(TOP)

    _heading(f"Building {kernel} for {variant.cpus} CPUs")
    if _run("scons", "-Q", f"ARCH={variant.arch}", f"CPU_NUM={variant.cpus}", str(kernel)) != 0:
        return _failed("the build failed")
    _heading("Checking it")
    status = _run("percpu-check", str(kernel))
    if status != 0:
        return _failed("percpu-check has findings" if status == 1 else f"percpu-check ended with status {status}")
    _heading(f"Booting it on {variant.cpus} CPUs of {board.qemu[0]}")
    result = boot(board, kernel, variant.cpus)
    print(result.output, end="")
    if result.problem:
        return _failed(result.problem)
    _heading(f"Passed: {variant.cpus} CPUs, {result.seconds:.1f} s", "32")
    return 0


def _parse() -> argparse.Namespace:
    # tools/demo prints the help itself, so that asking for it installs nothing.
    usage = "tools/demo [--arch ARCH] [--cpus N]"
    parser = argparse.ArgumentParser(prog="tools/demo", usage=usage, add_help=False)
    parser.add_argument("--arch", default=ARCHITECTURES[0], choices=ARCHITECTURES)
    parser.add_argument("--cpus", default=4, type=_cpus)
    parser.add_argument("--packages", action="store_true")
    arguments = parser.parse_args()
    most = BOARDS[arguments.arch].max_cpus
    if arguments.cpus > most:
        parser.error(f"argument --cpus: {arguments.cpus} is too many; the {arguments.arch} board has 1 to {most}")
    return arguments


def _cpus(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of CPUs; expected 1 to 64")
    return int(text)


def _run(command: str, *arguments: str) -> int:
    """Run a command of the virtual environment that this Python belongs to."""
    sys.stdout.flush()
    return subprocess.run([Path(sys.executable).parent / command, *arguments], check=False).returncode


def _heading(text: str, color: str = "1") -> None:
    print(f"\n{_colored(text, color)}", flush=True)


def _failed(why: str) -> int:
    sys.stdout.flush()
    print(f"tools/demo: {why}", file=sys.stderr)
    return 1


def _colored(text: str, color: str) -> str:
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\033[{color}m{text}\033[0m"


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as other commands do in `tools/demo | head`
    try:
        sys.exit(main())
    except QemuError as error:
        sys.exit(_failed(str(error)))
    except KeyboardInterrupt:
        sys.exit(130)

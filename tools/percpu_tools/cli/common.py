"""What the commands share: the parser's manners, and errors as one line on stderr with exit status 2."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from percpu_tools.errors import PercpuError
from percpu_tools.names import printable

# Findings are 1; everything that kept a command from doing its work is 2, as argparse has it.
OK, FINDINGS, FAILED = 0, 1, 2


def parser(prog: str, description: str, examples: str) -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog="examples:\n" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # A prefix that is unique today is ambiguous when the next option comes.
        allow_abbrev=False,
    )
    result.add_argument("--version", action=_Version, nargs=0, help="show program's version number and exit")
    return result


class _Version(argparse.Action):
    """As argparse's own, which wants the version at once: it is in another file, and few ask for it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from percpu_tools.version import __version__

        print(f"{parser.prog} {__version__}")
        parser.exit()


def run(prog: str, command: Callable[[], int]) -> int:
    """The exit status of `command`; no traceback reaches the user."""
    try:
        status = command()
        sys.stdout.flush()
        return status
    except PercpuError as error:
        complain(prog, error)
        return FAILED
    except BrokenPipeError:
        # The reader (`| head`) has gone. Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return 130


def complain(prog: str, error: PercpuError) -> None:
    print(f"{prog}: {printable(error.message)}", file=sys.stderr)
    for mend in error.fix:
        print(f"  mend: {printable(mend)}", file=sys.stderr)

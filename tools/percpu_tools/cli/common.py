"""What the commands share: the parser's manners, and errors as one line on stderr with exit status 2."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TextIO

from percpu_tools.errors import PercpuError
from percpu_tools.names import printable

# Findings are 1; everything that kept a command from doing its work is 2, as argparse has it.
OK, FINDINGS, FAILED = 0, 1, 2


class Parser(argparse.ArgumentParser):
    """argparse's, whose help and complaints are written as everything else is."""

    def print_help(self, file: Any = None) -> None:
        with stdout() as stream:
            print(self.format_help(), end="", file=file or stream)

    def error(self, message: str) -> NoReturn:
        _say(f"{self.format_usage()}{self.prog}: error: {message}")
        raise SystemExit(FAILED)


def parser(prog: str, description: str, examples: str) -> Parser:
    result = Parser(
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

        with stdout() as stream:
            print(f"{parser.prog} {__version__}", file=stream)
        parser.exit()


def run(prog: str, command: Callable[[], int]) -> int:
    """The exit status of `command`, which reads its arguments too; no traceback reaches the user."""
    if sys.stderr is None:
        # It is closed, and print() would take standard output in its place.
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    try:
        return command()
    except PercpuError as error:
        complain(prog, error)
        return FAILED
    except BrokenPipeError:
        # The reader (`| head`) has gone, and wants to hear no more.
        _silence(sys.stdout)
        return FAILED
    except KeyboardInterrupt:
        return 130


def is_same_file(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether to write both is to write one file twice; a device or a pipe takes both."""
    return os.path.realpath(one) == os.path.realpath(other) and (os.path.isfile(one) or not os.path.exists(one))


def refuse_replacing(option: str, path: str, read: Iterable[str | os.PathLike[str]], what: str) -> None:
    """Refuse to write over one of the files that were read."""
    file = next((os.fspath(file) for file in read if is_same_file(path, file)), None)
    if file is not None:
        raise PercpuError(
            f"{option} {path} would replace {what}" + (f": {file}" if file != path else ""), fix="name a file of its own"
        )


@contextmanager
def stdout() -> Iterator[TextIO]:
    """Standard output, to write to in a `with` statement: what could not be written is an error, as with any file."""
    if sys.stdout is None:
        raise PercpuError("standard output cannot be written: it is closed")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _silence(sys.stdout)
        raise PercpuError(f"standard output cannot be written: {error.strerror}") from error
    except UnicodeEncodeError as error:
        raise PercpuError(
            f"standard output cannot be written: its encoding, {error.encoding}, has no {ascii(error.object[error.start])}",
            fix="set PYTHONIOENCODING=utf-8",
        ) from error


def complain(prog: str, error: PercpuError) -> None:
    lines = [f"{prog}: {printable(error.message)}", *(f"  mend: {printable(mend)}" for mend in error.fix)]
    _say("\n".join(lines))


def _say(text: str) -> None:
    """Print to stderr; the exit status says the rest where that cannot be written either."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _silence(sys.stderr)


def _silence(stream: TextIO) -> None:
    """Send what Python still holds for `stream` nowhere: it tries once more at exit, and complains then."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)

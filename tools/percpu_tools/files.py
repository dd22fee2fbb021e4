"""Writing result files."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Mapping

from percpu_tools.errors import PercpuError

# As many links as Linux follows (path_resolution(7)).
_MOST_LINKS = 40


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write the whole file or leave what was there: a build tool must never see half of it."""
    write_together({path: text})


def write_together(texts: Mapping[str | os.PathLike[str], str]) -> None:
    """Write several files, each of them whole; where one cannot be written, none is replaced."""
    # Temporary files with the names that they are to have.
    made: list[tuple[str, str]] = []
    target = ""
    try:
        streams = []
        for path, text in texts.items():
            target = os.fspath(path)
            place = _resolved(target)
            if _is_stream(place):
                streams.append((target, text))
            elif os.path.isdir(place):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            else:
                made.append((_temporary(place, text), place))
        # What goes to a stream cannot be taken back, and what is replaced cannot fail any more.
        for target, text in streams:
            with open(target, "wb") as stream:
                stream.write(_encoded(text))
        while made:
            temporary, target = made[0]
            os.replace(temporary, target)
            del made[0]
    except OSError as error:
        raise PercpuError(f"{target}: cannot be written: {error.strerror}") from error
    finally:
        for temporary, _ in made:
            os.unlink(temporary)


def _resolved(target: str) -> str:
    """Where `target` leads if it is a link: to replace the link would take the file from whoever else goes by it."""
    for _ in range(_MOST_LINKS):
        if not os.path.islink(target) or _is_stream(target):
            return target
        target = os.path.join(os.path.dirname(target), os.readlink(target))
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _is_stream(place: str) -> bool:
    """Whether it is written to, and not replaced by a file: a device, a pipe, or what a process has open (/dev/stdout)."""
    if os.path.realpath(os.path.dirname(place)).startswith("/proc/"):
        return True
    return os.path.exists(place) and not os.path.isfile(place) and not os.path.isdir(place)


def _temporary(place: str, text: str) -> str:
    """A file with that text beside `place`."""
    handle, name = tempfile.mkstemp(dir=os.path.dirname(place) or ".", prefix=".percpu-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(_encoded(text))
        # mkstemp gives 0600; the result is an ordinary file, as open() would have made it.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
    except BaseException:
        os.unlink(name)
        raise
    return name


def _encoded(text: str) -> bytes:
    # A file's name that is no UTF-8 is written as it was read.
    return text.encode("utf-8", "surrogateescape")

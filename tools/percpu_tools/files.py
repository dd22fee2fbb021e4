"""Writing result files."""

from __future__ import annotations

import os
import tempfile

from percpu_tools.errors import PercpuError


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write the whole file or leave what was there: a build tool must never see half of it."""
    target = os.fspath(path)
    try:
        if os.path.exists(target) and not os.path.isfile(target) and not os.path.isdir(target):
            # A device or a pipe, as /dev/null or /dev/stdout: it is written to, and not replaced by a file.
            with open(target, "w", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
            return
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(target) or ".", prefix=".percpu-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
            # mkstemp gives 0600; the result is an ordinary file, as open() would have made it.
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise PercpuError(f"{target}: cannot be written: {error.strerror}") from error

"""How much memory percpu-check takes, by its own word.

What the system says of an ended process (ru_maxrss) is at least what its parent had when it started it: a worker of
pytest, which may have hundreds of megabytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

_CODE = """\
import sys
from percpu_tools.cli.check import main
place = sys.argv.pop(1)
status = main()
with open("/proc/self/status") as lines, open(place, "w") as result:
    result.write(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
sys.exit(status)
"""


def measured(place: Path) -> list[str]:
    """The command percpu-check, which at its end writes to `place` what `most_memory` reads."""
    return [sys.executable, "-c", _CODE, str(place)]


def most_memory(place: Path) -> int:
    """In bytes. VmHWM is in kibibytes (proc(5))."""
    return int(place.read_text()) * 1024

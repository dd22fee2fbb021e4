"""What is searched: each protocol in a few sizes, and with each fault that it must not have."""

from __future__ import annotations

from typing import Any

from model.explorer import Model
from model.making import Making
from model.reset import Reset
from model.restart import SEQUENCES, Restart

# Searched in plain runs: some seconds.
SMALL: dict[str, Model[Any]] = {
    **{f"restart, {sequence}": Restart(sequence, updates=2) for sequence in SEQUENCES},
    **{f"restart, {sequence}, two handlers": Restart(sequence, handlers=2) for sequence in SEQUENCES},
    **{f"restart, {sequence}, 3 CPUs": Restart(sequence, cpus=3) for sequence in SEQUENCES},
    **{f"init, {cpus} CPUs race": Making(cpus) for cpus in (2, 3, 4)},
    **{f"init again, {cpus} CPUs": Making(cpus, again=True) for cpus in (2, 3)},
    "reset": Reset(),
}
LARGE: dict[str, Model[Any]] = {
    **{f"restart, {sequence}, 3 threads": Restart(sequence, threads=3, handlers=2) for sequence in SEQUENCES},
    **{f"restart, {sequence}, 3 threads on 3 CPUs": Restart(sequence, threads=3, cpus=3) for sequence in SEQUENCES},
    "init, 5 CPUs race": Making(5),
    "init again, 5 CPUs": Making(5, again=True),
    "reset, many updates and reads": Reset(updates=8, reads=8),
}

# The faults, and what the search must find.
_FOUND_IN_RESTART = {
    "none": "an update is lost",
    "not at the commit": "an update is lost",
    "behind the commit too": "an update is made twice",
    "base register restored": "has written the copy of",
}
_FOUND_IN_MAKING = {
    "claim in two steps": "two CPUs make the areas at the same time",
    "base before constructors": "uses its area before it is made",
    "no waiting": "uses its area before it is made",
    "busy flag that is cleared": "is stopped for asking before init",
}
_FOUND_IN_RESET = {
    "from area 0": "comes back to an area that is not pristine",
    "by halves": "reads half a word",
    "of the next area": "the reset disturbs CPU 2",
    "back too early": "comes back to an area that is not pristine",
    "no constructors": "comes back to an area that is not pristine",
}
FAULTS: dict[str, tuple[Model[Any], str]] = {
    # On one CPU nothing but the loss is to be found; with the base register restored, two are needed.
    **{
        f"restart, {sequence}, fix-up: {fault}": (Restart(sequence, cpus=2 if "base" in fault else 1, fix=fault), found)
        for sequence in SEQUENCES
        for fault, found in _FOUND_IN_RESTART.items()
    },
    **{
        f"init, {fault}": (Making(again="flag" in fault, fault=fault), found)
        for fault, found in _FOUND_IN_MAKING.items()
    },
    **{f"reset, {fault}": (Reset(fault=fault), found) for fault, found in _FOUND_IN_RESET.items()},
}

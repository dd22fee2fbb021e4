"""Searches all interleavings of the protocols, and prints what was found.

    PYTHONPATH=tests .venv/bin/python -m model [--large] [--traces]

A fault is put in after each protocol: there the search must find what goes wrong.
"""

from __future__ import annotations

import argparse
import sys

from model.cases import FAULTS, LARGE, SMALL
from model.explorer import explore


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m model", description="Search all interleavings of the protocols.")
    parser.add_argument("--large", action="store_true", help="more CPUs, threads and updates")
    parser.add_argument("--traces", action="store_true", help="print the steps to each fault")
    arguments = parser.parse_args()

    right = True
    for name, model in {**SMALL, **(LARGE if arguments.large else {})}.items():
        outcome = explore(model)
        right = right and outcome.wrong is None
        print(f"{name}: {outcome.states} states, {outcome.steps} steps: {outcome.wrong or 'all properties hold'}", flush=True)
        if outcome.wrong is not None:
            print(*(f"    {step}" for step in outcome.trace), sep="\n")
    for name, (model, _) in FAULTS.items():
        outcome = explore(model)
        right = right and outcome.wrong is not None
        print(f"{name}: {outcome.wrong or 'NOT FOUND'}, after {len(outcome.trace)} steps")
        if arguments.traces:
            print(*(f"    {step}" for step in outcome.trace), sep="\n")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())

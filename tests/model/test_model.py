"""The protocols hold in every interleaving, and the search finds what is wrong with them where a part is left out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from model.cases import FAULTS, LARGE, SMALL
from model.explorer import explore
from model.making import Making
from model.reset import Reset
from model.restart import Restart


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "protocol" in metafunc.fixturenames:
        metafunc.parametrize("protocol", [*SMALL, *(LARGE if metafunc.config.getoption("--matrix") else ())])


def test_no_interleaving_is_wrong(protocol: str) -> None:
    outcome = explore({**SMALL, **LARGE}[protocol])
    print(f"{protocol}: {outcome.states} states, {outcome.steps} steps")
    assert outcome.wrong is None, "\n".join(outcome.trace)
    assert outcome.states > 30


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_fault_does_is_found(fault: str) -> None:
    model, expected = FAULTS[fault]
    outcome = explore(model)
    assert expected in (outcome.wrong or ""), outcome
    assert outcome.trace


def test_every_fault_of_a_model_is_searched() -> None:
    for kind, attribute in ((Restart, "fix"), (Making, "fault"), (Reset, "fault")):
        searched = {getattr(model, attribute) for model, _ in FAULTS.values() if isinstance(model, kind)}
        assert searched == set(kind.FAULTS)


def test_the_trace_of_a_lost_update() -> None:
    """What happens between the load and the store of a thread that nobody sends back to its start."""
    outcome = explore(Restart("near", cpus=1, fix="none"))
    assert outcome.trace == (
        "CPU 0: thread 0 goes on",
        "CPU 0: thread 0: load",
        "CPU 0: thread 0: change",
        "CPU 0: thread 0 is interrupted; the handler makes an update",
        "CPU 0: thread 0 goes on",
        "CPU 0: thread 0: store",
    ) or outcome.trace == (
        "CPU 0: thread 0 goes on",
        "CPU 0: thread 0: load",
        "CPU 0: thread 0 is interrupted; the handler makes an update",
        "CPU 0: thread 0 goes on",
        "CPU 0: thread 0: change",
        "CPU 0: thread 0: store",
    )


class Corridor:
    """Two who give way to each other for ever, if `polite`; else who wait for each other."""

    def __init__(self, polite: bool) -> None:
        self.polite = polite

    def initial(self) -> str:
        return "left left"

    def steps(self, state: str) -> list[tuple[str, str]]:
        if self.polite:
            return [("both step aside", "right right" if state == "left left" else "left left")]
        return []

    def wrong(self, state: str) -> None:
        return None

    def is_end(self, state: str) -> bool:
        return state == "passed"


@pytest.mark.parametrize("polite", [True, False])
def test_the_explorer_sees_that_nobody_gets_to_the_end(polite: bool) -> None:
    assert explore(Corridor(polite)).wrong == "nobody gets to the end any more"


def test_the_command_prints_the_states() -> None:
    command = [sys.executable, "-m", "model", "--traces"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" states, ") == len(SMALL) == done.stdout.count("all properties hold")
    assert "    CPU 0: thread 0: store\n" in done.stdout

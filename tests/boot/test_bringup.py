"""CPUs come in any order, late, twice or never, go and come back; areas are raced for, made again and reset."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from boot.boards import BOARDS
from boot.qemu import boot

LINKED_FOR = 5
RESETS_IN_A_ROW = 1000  # as in bringup.cpp
# board -> features, such that each layout occurs with and without them.
BUILDS = {
    "x86_64": ("pristine",),
    "aarch64": ("non-zero-vma", "pristine"),
    "arm": ("pristine", "restartable"),
    "riscv64": ("pristine",),
    "riscv32": ("non-zero-vma",),
    "loongarch64": ("pristine",),
}


@dataclass(frozen=True)
class Race:
    """What the kernel reported of CPUs that made areas at the same time."""

    place: str
    areas: int
    racers: int
    made: int
    turned_away: int


@dataclass(frozen=True)
class Report:
    """What the kernel reported of a boot."""

    races: tuple[Race, ...]
    entered: int
    again: int
    resets: int
    resets_of_their_own: int
    constructed: int
    words_read: int
    words_torn: int


def boot_and_read(board_name: str, kernel: Path, cpus: int) -> Report:
    result = boot(BOARDS[board_name], kernel, cpus, timeout=120)
    assert result.ok, f"{result.problem}\n{result.output}"
    race = r"^in (place|memory): (\d+) areas, (\d+) CPUs raced, made (\d+), turned away (\d+)$"
    races = [Race(place, *map(int, numbers)) for place, *numbers in re.findall(race, result.output, re.MULTILINE)]
    rest = re.search(
        r"^entered (\d+) times, (\d+) of them again; (\d+) resets, (\d+) asked for by the CPU itself; "
        r"constructed (\d+)\n"
        r"words read meanwhile (\d+), torn (\d+)$",
        result.output,
        re.MULTILINE,
    )
    assert rest, result.output
    return Report(tuple(races), *map(int, rest.groups()))


def check_boot(board_name: str, kernel: Path, cpus: int, pristine: bool) -> None:
    """Boot the kernel that is linked for LINKED_FOR CPUs on a machine of `cpus`."""
    report = boot_and_read(board_name, kernel, cpus)
    places = ["place", "memory", "place"] if pristine else ["memory", "place"]
    areas = {"place": LINKED_FOR, "memory": cpus}
    # One CPU comes late, after the first race; of 5 and more, one never comes.
    never, late = int(cpus >= 5), int(cpus > 1)
    racers = [cpus - never - late, *([cpus - never] * (len(places) - 1))]
    expected = [Race(place, areas[place], number, 1, number - 1) for place, number in zip(places, racers)]
    assert list(report.races) == expected

    # In each place, in two orders, every other CPU with an area comes, goes and comes again. In between, of three one
    # is reset by CPU 0, one by itself, and one not at all.
    resets = own = comings = 0
    for turn, place in enumerate(places):
        others = min(areas[place], cpus) - 1 - never
        comings += 4 * others
        kinds = [(i + order) % 3 for order in (2 * turn, 2 * turn + 1) for i in range(others)]
        if pristine or place == "memory":
            resets += kinds.count(0) + kinds.count(1)
        if place == "memory" and cpus >= 3:
            resets += RESETS_IN_A_ROW
            comings += 1
        own += kinds.count(1)
    assert report.entered == len(places) + late + comings
    assert (report.resets, report.resets_of_their_own) == (resets, own)
    assert report.constructed == sum(areas[place] for place in places) + resets
    assert cpus == 1 or (resets > 0 and report.again > 0 and report.words_read > 1000)
    assert report.words_torn == 0


@pytest.mark.parametrize("board_name", BUILDS)
def test_cpus_come_and_go_and_areas_are_reset(board_name: str, build_by_hand: Callable[..., Path]) -> None:
    features = BUILDS[board_name]
    kernel = build_by_hand(main="bringup.cpp", board_name=board_name, cpu_num=LINKED_FOR, features=features)
    # Fewer CPUs than CPU_NUM, and more.
    for cpus in (1, 4, 6) if board_name == "x86_64" else (4,):
        check_boot(board_name, kernel, cpus, "pristine" in features)


@pytest.mark.parametrize("features", [(), ("checked", "pristine"), ("non-zero-vma", "pristine")], ids="+".join)
def test_with_other_features(features: tuple[str, ...], build_by_hand: Callable[..., Path]) -> None:
    kernel = build_by_hand(main="bringup.cpp", cpu_num=LINKED_FOR, features=features)
    check_boot("x86_64", kernel, 4, "pristine" in features)


MOST_BOOTS = 10

# Changes to the runtime, and what the boot must say of them.
CLAIM = "if (__atomic_exchange_n(&progress, uint32_t{being_made}, __ATOMIC_ACQUIRE) == being_made) return size_t{0};"
FAULTS = {
    "no claim": (CLAIM, "progress = being_made;", "of the CPUs that race to make the areas one makes them"),
    "no waiting": (
        "== not_begun) {",
        "!= made) return reinterpret_cast<uintptr_t>(_percpu_start);\n        else {",
        "no CPU sees an area before",
    ),
    "copied from area 0": (
        "const char* loaded_template() noexcept { return _percpu_template; }",
        "const char* loaded_template() noexcept { return _percpu_start; }",
        "is pristine",
    ),
    "reset by bytes": (
        "detail::copy_words(area, source, detail::template_size());",
        "memcpy(reinterpret_cast<void*>(area), reinterpret_cast<const void*>(source), detail::template_size());",
        "no word is seen half reset",
    ),
    "reset of all areas": (
        "    detail::construct(area, 0, 1);\n",
        "    detail::construct(area, 0, 1);\n    detail::copy_words(base, source, detail::areas.stride);\n",
        "no update of a CPU is lost while others come, go and are reset",
    ),
    "constructed twice": (
        "    detail::construct(area, 0, 1);\n",
        "    detail::construct(area, 0, 2);\n",
        "each object is constructed once in each area that is made or reset",
    ),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "fault" in metafunc.fixturenames:
        usual = ("no claim", "copied from area 0", "reset by bytes")
        metafunc.parametrize("fault", FAULTS if metafunc.config.getoption("--matrix") else usual)


def test_a_faulty_runtime_fails(fault: str, build_by_hand: Callable[..., Path]) -> None:
    old, new, problem = FAULTS[fault]

    def change(text: str) -> str:
        assert text.count(old) == 1, f"the runtime has {old!r} {text.count(old)} times; expected once"
        return text.replace(old, new)

    kernel = build_by_hand(main="bringup.cpp", cpu_num=LINKED_FOR, features=("pristine",), change_runtime=change)
    # A race, which CPUs that the host runs one after the other need not meet in one boot.
    results = (boot(BOARDS["x86_64"], kernel, 4, timeout=60) for _ in range(MOST_BOOTS))
    result = next((each for each in results if not each.ok), None)
    assert result is not None, f"{MOST_BOOTS} boots held in spite of the fault"
    assert problem in result.output, f"{result.problem}\n{result.output}"

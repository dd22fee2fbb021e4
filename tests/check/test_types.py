"""--types: what DWARF says of the variables, as GCC and Clang write it."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest
import toolchain
from check.builds import BY_HAND, judge, script
from check.test_cli import run
from check.test_robustness import SPECIAL
from percpu_tools import check, includes, render_fragment
from percpu_tools.progress import listening

SOURCE = """\
#include <percpu/percpu.hpp>
namespace app {
struct Queue { int head; long words[2][3]; };
typedef unsigned long Ticks;
enum class State : unsigned char { idle };
template <class T> struct Box { T inside; };
namespace { struct Hidden { int x; }; }
using Handler = int (*)(const char*, unsigned);
PERCPU_DEFINE(Queue, queue);
PERCPU_DEFINE(Ticks, ticks, 7);
PERCPU_DEFINE(State, state, State::idle);
PERCPU_DEFINE_NEAR(const char*, label, nullptr);
PERCPU_DEFINE(Box<int>, box);
PERCPU_DEFINE_STATIC(Hidden, hidden);
PERCPU_DEFINE(Handler, handler, nullptr);
PERCPU_DEFINE(int[4][2], grid);
}
PERCPU_DEFINE(Queue*, next, nullptr);
struct Made { Made(); int x; };
PERCPU_DEFINE_CONSTRUCTED(Made, made);
extern "C" unsigned long _start() { return app::hidden.offset(); }
Made::Made() : x(1) {}
""".replace("PERCPU_DEFINE(Queue*, next", "PERCPU_DEFINE(app::Queue*, next")

# Template arguments have no aliases: of Storage<Ticks>, debug information knows Storage<unsigned long>.
EXPECTED = {
    "app::queue": "app::Queue",
    "app::ticks": "unsigned long",
    "app::state": "app::State",
    "app::label": "const char*",
    "app::box": "app::Box<int>",
    "app::hidden": "app::(anonymous namespace)::Hidden",
    "app::handler": "int (*)(const char*, unsigned int)",
    "app::grid": "int[4][2]",
    "next": "app::Queue*",
    "made": "Made",
}


def build(folder: Path, compiler: str, *flags: str, linker: str = "lld") -> Path:
    (folder / "kernel.cpp").write_text(SOURCE)
    machine = ("-std=c++20", "-O1", "-ffreestanding", "-fno-pic", "-mno-red-zone", "-fno-exceptions", "-fno-stack-protector")
    command = [compiler, *machine, *flags, f"-I{includes()}", "-c", "kernel.cpp", "-o", "kernel.o"]
    toolchain.run(command, cwd=folder)
    fragment = render_fragment(4, "x86_64", (), linker)
    quiet = ["--no-warn-rwx-segments"] if linker == "ld" else []
    return toolchain.link(folder, [folder / "kernel.o"], [fragment, toolchain.HIGHER_HALF], "--defsym=memcpy=0", "--defsym=memset=0", *quiet, linker=linker)


@pytest.mark.parametrize("version", ["4", "5"])
@pytest.mark.parametrize("compiler, linker", [("g++", "ld"), ("clang++-19", "lld")])
def test_types_of_the_runtimes_variables(tmp_path, compiler, linker, version):
    path = build(tmp_path, compiler, f"-gdwarf-{version}", linker=linker)
    report = check(path, types=True)
    assert report.types.problem is None
    types = {variable.name: source.type.replace("long unsigned int", "unsigned long") for variable, source in report.types.variables.items()}
    assert {name: types.get(name) for name in EXPECTED} == EXPECTED
    for variable, source in report.types.variables.items():
        name = variable.name.split("::")[-1]
        assert source.file == "kernel.cpp"
        assert f" {name}" in SOURCE.splitlines()[source.line - 1], variable.name


@pytest.mark.parametrize("flags", [("-gz",), ("-fdebug-types-section", "-gdwarf-4"), ("-fdebug-types-section", "-gdwarf-5"), ("-flto", "-ffat-lto-objects")])
def test_other_forms_of_debug_information(tmp_path, flags):
    report = check(build(tmp_path, "g++", "-g", *flags, linker="ld"), types=True)
    assert report.types.problem is None
    assert {"int[4][2]", "app::Queue*"} <= {source.type for source in report.types.variables.values()}


def test_dropped_variables_do_not_lend_their_types(tmp_path):
    """Linkers write 0 as the address of what --gc-sections drops, and 0 is where the template begins."""
    gone = "__attribute__((section(\".percpu.gone\"))) double percpu_storage_gone = 1;\n"
    kept = "__attribute__((section(\".percpu.kept\"), retain, used)) int percpu_storage_kept = 1;\n"
    kernel = toolchain.compile_c(tmp_path, toolchain.KERNEL + gone + kept, "-g")
    toolchain.link(tmp_path, [kernel], [script(BY_HAND)], "--gc-sections", "--no-warn-rwx-segments")
    report = check(tmp_path / "kernel.elf", types=True)
    assert [(variable.name, source.type) for variable, source in report.types.variables.items()] == [("kept", "int")]


def test_in_text_and_json(tmp_path):
    path = build(tmp_path, "g++", "-g", linker="ld")
    text = run("--types", path).stdout
    assert any(line.split()[-3:] == ["app::state", "app::State", "kernel.cpp:11"] for line in text.splitlines())
    (state,) = (one for one in json.loads(run("--types", "--format", "json", path).stdout)["variables"] if one["name"] == "app::state")
    assert (state["type"], state["file"], state["line"]) == ("app::State", "kernel.cpp", 11)
    assert "type" not in json.loads(run("--format", "json", path).stdout)["variables"][0]


def test_a_file_without_debug_information_says_so(tmp_path):
    judge(tmp_path)
    done = run("--types", tmp_path / "kernel.elf")
    assert done.returncode == 0
    assert "types: the file has no debug information: compile with -g and do not strip it" in done.stdout


def test_debug_information_is_not_read_unless_asked(tmp_path):
    judge(tmp_path)
    code = "import sys; from percpu_tools.cli.check import main; main(sys.argv[1:]); print('elftools.dwarf.die' in sys.modules, 'percpu_tools.dwarf' in sys.modules)"
    done = toolchain.run([sys.executable, "-c", code, str(tmp_path / "kernel.elf")])
    assert done.stdout.splitlines()[-1].endswith("False")


@pytest.mark.parametrize("compiler, version", [("g++", "5"), ("clang++-19", "5"), ("g++", "4")])
def test_damaged_debug_information(tmp_path, compiler, version):
    """No change to the debug sections makes it fail: at worst, types are missing."""
    path = build(tmp_path, compiler, f"-gdwarf-{version}")
    whole = path.read_bytes()
    expected = check(path).layout
    sections = [section for section in sections_of(path) if section[0].startswith(".debug_")]
    assert {".debug_info", ".debug_abbrev", ".debug_line"} <= {name for name, _, _ in sections}
    # The same changes in every run, so that a failure can be looked at.
    chance = random.Random(2026)
    for _ in range(60):
        changed = bytearray(whole)
        for _ in range(chance.choice((1, 4, 16))):
            _, offset, size = chance.choice(sections)
            place = offset + chance.randrange(min(size, chance.choice((64, 4096, 1 << 20))))
            end = min(place + chance.choice((1, 2, 8)), offset + size)
            changed[place:end] = chance.choice(SPECIAL) * (end - place)
        path.write_bytes(changed)
        assert check(path, types=True).layout.variables == expected.variables


def sections_of(path) -> list[tuple[str, int, int]]:
    from percpu_tools.image import Image

    with Image(path) as image:
        return [(section.name, section.offset, section.size) for section in image.sections if section.size]


def test_how_far_it_is(tmp_path):
    """Of a distribution's kernel it reads for minutes."""
    kernel = toolchain.compile_c(tmp_path, toolchain.KERNEL + toolchain.variable("x", 1), "-g")
    path = toolchain.link(tmp_path, [kernel], [script(BY_HAND)], "--no-warn-rwx-segments")
    heard: list[tuple[str, int, int]] = []
    with listening(lambda *told: heard.append(told)):
        check(path, types=True)
    steps = [(done, total) for what, done, total in heard if what == "types from debug information"]
    assert steps[0][0] == 0 and steps[-1][0] == steps[-1][1] > 0

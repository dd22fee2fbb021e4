"""What x86_64 kernels trip over: the stack protector's canary, addresses near 0, relocations of a PIE."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import percpu_tools
import pytest
from cxx.build import COMPILERS, FREESTANDING, HERE, compile_object, link_program
from cxx.test_counts import disassemble

KERNEL = ("-O2", "-mcmodel=kernel", *FREESTANDING)
COMPILER = pytest.mark.parametrize("compiler", COMPILERS.values(), ids=COMPILERS)


def tool(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def compiled(compiler: str, source: Path, folder: Path, *flags: str) -> Path:
    target = folder / f"{source.stem}.o"
    done = compile_object([compiler], source, target, *flags)
    assert done.returncode == 0, done.stderr
    return target


@COMPILER
def test_offset_40_is_kept_for_the_canary(tmp_path, compiler):
    """T03: gs:40 is offset 40 of the area, so nothing else may lie there in a build with the stack protector."""
    source = tmp_path / "deep.cpp"
    source.write_text("void use(char*);\nvoid deep() { char buffer[64]; use(buffer); }\n")
    flags = ("-fno-pic", "-fstack-protector-all", *KERNEL)
    assert "%gs:0x28" in tool("objdump", "-d", str(compiled(compiler, source, tmp_path, *flags)))

    area = percpu_tools.sources()[0]
    header = r"(\w+) D _ZN6percpu4arch21percpu_storage_headerE"
    for protector, size in (("-fstack-protector-all", 48), ("-fno-stack-protector", 8)):
        symbols = tool("nm", "-S", str(compiled(compiler, area, tmp_path, "-fno-pic", *KERNEL, protector)))
        assert int(re.search(header, symbols)[1], 16) == size
    notes = tool("readelf", "-p", ".note.percpu", str(compiled(compiler, area, tmp_path, *flags)))
    assert "stack-guard=1" in notes


@COMPILER
@pytest.mark.parametrize(
    "flags, canary",
    [
        (("-DPERCPU_BASE_REGISTER=fs",), "%fs:0x28"),
        (("-mstack-protector-guard=tls", "-mstack-protector-guard-reg=gs"), "%gs:0x28"),
    ],
    ids=["fs", "guard-reg"],
)
def test_it_is_kept_in_other_code_models_too(tmp_path, compiler, flags, canary):
    source = tmp_path / "deep.cpp"
    source.write_text("void use(char*);\nvoid deep() { char buffer[64]; use(buffer); }\n")
    flags = ("-O2", "-fno-pic", "-fstack-protector-all", *FREESTANDING, *flags)
    assert canary in tool("objdump", "-d", str(compiled(compiler, source, tmp_path, *flags)))
    area = compiled(compiler, percpu_tools.sources()[0], tmp_path, *flags)
    symbols = tool("nm", "-S", str(area))
    assert int(re.search(r"(\w+) D _ZN6percpu4arch21percpu_storage_headerE", symbols)[1], 16) == 48
    assert "stack-guard=1" in tool("readelf", "-p", ".note.percpu", str(area))


@COMPILER
@pytest.mark.parametrize("pic", ["-fno-pic", "-fpie", "-fPIC"])
def test_zero_vma_accesses_are_absolute(tmp_path, compiler, pic):
    """T08: from a higher-half kernel the program counter is too far from addresses near 0."""
    target = compiled(compiler, HERE / "counts.cpp", tmp_path, pic, "-O2", *FREESTANDING)
    relocations = tool("readelf", "-rW", str(target))
    to_storage = re.findall(r"(R_X86_64_\w+) .*percpu_(?:storage|near)_", relocations)
    assert to_storage and set(to_storage) <= {"R_X86_64_32S", "R_X86_64_32", "R_X86_64_64"}


@COMPILER
def test_no_compiler_takes_an_offset_for_other_than_0(tmp_path, compiler):
    """T12: the first variable's address is 0, which `&variable` never is to a compiler."""
    source = tmp_path / "zero.cpp"
    source.write_text(
        "#include <percpu/percpu.hpp>\nPERCPU_DEFINE(int, first, 1);\n"
        'extern "C" bool at_zero() { return first.offset() == 0; }\n'
        'extern "C" bool folded() { return reinterpret_cast<size_t>(&percpu_storage_first) == 0; }\n'
    )
    functions = disassemble("objdump", compiled(compiler, source, tmp_path, "-fno-pic", *KERNEL))
    assert any(instruction.startswith("test") for instruction in functions["at_zero"])
    assert not any(instruction.startswith("test") for instruction in functions["folded"])


@pytest.mark.parametrize("compiler, linker", [("gcc", "ld"), ("clang", "lld")])
def test_a_pie_relocates_nothing_in_the_template(tmp_path, compiler, linker):
    """T09: a relocation in or to the template would be applied to area 0 only, or to no address of it."""
    source = HERE / "host" / "areas.cpp"
    program = link_program(
        tmp_path, source, "-O2", "-static-pie", "-DEXPECTED_AREAS=4", compiler=compiler, linker=linker
    )
    symbols = tool("nm", str(program))
    start, end = (
        int(re.search(rf"(\w+) . _percpu_load_{name}$", symbols, re.MULTILINE)[1], 16) for name in ("start", "end")
    )
    relocations = re.findall(r"^([0-9a-f]{16})  \w+ R_X86_64", tool("readelf", "-rW", str(program)), re.MULTILINE)
    places = [int(place, 16) for place in relocations]
    assert places and not [place for place in places if start <= place < end]

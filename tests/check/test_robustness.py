"""Damaged files of every kind: judged or refused with PercpuError, quickly; never another exception."""

from __future__ import annotations

import random
import struct
import sys
import time

import pytest
import toolchain
from check import test_contents
from check.builds import BY_HAND, STRIDE, VARIABLES, judge
from elftools.elf.elffile import ELFFile
from percpu_tools import PercpuError, check
from percpu_tools.image import Image

# Values that headers do not expect: nothing, all bits, signs, sizes beyond the file.
SPECIAL = [b"\0", b"\xff", b"\x7f", b"\x80", b"\x01", b"\x40"]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("kernel")
    judge(folder, source=VARIABLES + toolchain.note(version="0.1.0", arch="x86_64", layout="zero-vma"))
    return (folder / "kernel.elf").read_bytes()


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> bytes:
    """A file of the other class: 32 bits."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "x.c").write_text("void _start(void) {}\n" + toolchain.variable("x", 1))
    toolchain.run(["arm-none-eabi-gcc", "-nostdlib", "-ffreestanding", str(folder / "x.c"), "-o", str(folder / "x.elf")])
    return (folder / "x.elf").read_bytes()


@pytest.fixture(scope="module")
def relocated(tmp_path_factory) -> bytes:
    """A file with everything that the rules about contents read: constructors, kept relocations."""
    folder = tmp_path_factory.mktemp("relocated")
    case = test_contents.TestT15ConstructorTouchesTemplate
    kernel = test_contents.compile_cxx(folder, case.SOURCE + test_contents.in_template("int *percpu_storage_p = &percpu_storage_x;", "p"))
    done = toolchain.try_link(folder, [kernel], [test_contents.in_image("0x200000").replace(*case.TABLE)], "--emit-relocs", linker="lld")
    assert done.returncode == 0, done.stderr
    assert {finding.rule for finding in check(folder / "kernel.elf").findings} == {"T15", "T30"}
    return (folder / "kernel.elf").read_bytes()


def judged_or_refused(path, data: bytes) -> None:
    path.write_bytes(data)
    started = time.monotonic()
    try:
        check(path, cpu_num=4)
    except PercpuError as error:
        assert str(path) in error.message
        assert "\n" not in error.message
    assert time.monotonic() - started < 5


def test_every_length(kernel, tmp_path):
    lengths = [*range(0, 300), *range(300, len(kernel), len(kernel) // 200)]
    for length in lengths:
        (tmp_path / "kernel.elf").write_bytes(kernel[:length])
        with pytest.raises(PercpuError):
            check(tmp_path / "kernel.elf")


@pytest.mark.parametrize("which", ["kernel", "small"])
def test_every_byte_of_the_headers(which, request, tmp_path):
    """The ELF header, the program headers and the section headers, a byte at a time."""
    data = request.getfixturevalue(which)
    path = tmp_path / "kernel.elf"
    for place in header_bytes(data, path):
        judged_or_refused(path, data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])


@pytest.mark.parametrize("which", ["kernel", "small", "relocated"])
def test_many_changes_at_once(which, request, tmp_path):
    data = request.getfixturevalue(which)
    path = tmp_path / "kernel.elf"
    places = [*header_bytes(data, path), *range(0, len(data), 7)]
    # The same changes in every run, so that a failure can be looked at.
    chance = random.Random(2026)
    for _ in range(500):
        changed = bytearray(data)
        for place in chance.choices(places, k=chance.choice((1, 2, 8, 32))):
            changed[place : place + 1] = chance.choice(SPECIAL) * chance.choice((1, 1, 2, 4, 8))
        judged_or_refused(path, bytes(changed[: len(data)]))


def header_bytes(data: bytes, path) -> list[int]:
    path.write_bytes(data)
    with path.open("rb") as stream:
        header = ELFFile(stream).header
    tables = [
        (header["e_phoff"], header["e_phnum"] * header["e_phentsize"]),
        (header["e_shoff"], header["e_shnum"] * header["e_shentsize"]),
    ]
    return [*range(4, header["e_ehsize"]), *(place for start, size in tables for place in range(start, start + size))]


def test_a_stride_of_nothing(tmp_path):
    """Found by tests/fuzz: T11 divided by it."""
    text = BY_HAND.replace("  _percpu_cpu_num = ABSOLUTE(4);\n", "").replace(f"ABSOLUTE({STRIDE})", "ABSOLUTE(0)")
    report = judge(tmp_path, text)
    assert {finding.rule for finding in report.findings} == {"T11"}
    assert "the stride is smaller than the template" in report.findings[0].message


# Bytes. The files below claim more, and take no room on the disk.
MEMORY = 1 << 30
CLAIMED = 6 << 30
_UNDER_A_LIMIT = f"""\
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, ({MEMORY}, {MEMORY}))
from percpu_tools.cli.check import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("name", [".symtab", ".strtab", ".note.percpu", ".rela.data", ".data", ".text", ".percpu"])
def test_sections_larger_than_memory(kernel, tmp_path, name):
    """A sparse file whose section claims gigabytes of zeros is judged or refused all the same."""
    path = tmp_path / "kernel.elf"
    path.write_bytes(kernel)
    with Image(path) as image:
        section = image.section(name) or image.section(".bss")
        headers = struct.unpack_from("<Q", kernel, 0x28)[0]
    offset = -(-len(kernel) // 4096) * 4096
    header = bytearray(kernel[headers + 64 * section.number : headers + 64 * (section.number + 1)])
    # Elf64_Shdr: sh_type at 4, sh_offset at 24, sh_size at 32, sh_link at 40, sh_info at 44, sh_entsize at 56.
    struct.pack_into("<QQ", header, 24, offset, CLAIMED)
    if name == ".rela.data":
        struct.pack_into("<I", header, 4, 4)
        struct.pack_into("<Q", header, 8, 0)
        with Image(path) as image:
            struct.pack_into("<II", header, 40, image.section(".symtab").number, image.section(".percpu").number)
        struct.pack_into("<Q", header, 56, 24)
    with path.open("r+b") as stream:
        stream.seek(headers + 64 * section.number)
        stream.write(header)
        stream.truncate(offset + CLAIMED)
    (tmp_path / "whole.toml").write_text('section = ".percpu"\n')
    for profile in ("percpu", str(tmp_path / "whole.toml")):
        started = time.monotonic()
        command = [sys.executable, "-c", _UNDER_A_LIMIT, "--profile", profile, str(path)]
        done = toolchain.run(command, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode in (0, 1, 2), done.stdout + done.stderr
        if name in (".symtab", ".strtab", ".note.percpu"):
            assert (done.returncode, f"section {name} has {CLAIMED} bytes: expected at most" in done.stderr) == (2, True), done.stderr
        assert time.monotonic() - started < 30

"""Of a PIE's relocations, those for some addresses: the same whether the table is sorted or not."""

from __future__ import annotations

import random
import struct

import toolchain
from percpu_tools.image import Image

POINTERS = "char bytes[64];\n" + "".join(f"char *pointer_{n} = bytes + {n};\n" for n in range(64))


def test_those_in_ranges(tmp_path):
    kernel = toolchain.compile_c(tmp_path, toolchain.KERNEL + POINTERS, "-fpie", "-mcmodel=small")
    path = toolchain.link(tmp_path, [kernel], [], "-pie", "--no-dynamic-linker", linker="lld")
    contents = path.read_bytes()
    with Image(path) as image:
        table = image.section(".rela.dyn")
        every = list(image.relocations(table))
    places = sorted(relocation.offset for relocation in every)
    assert len(places) >= 64
    ranges = [
        [(places[3], places[9]), (places[40] + 1, places[41])],
        [(places[5], places[30]), (places[10], places[20])],
        [(0, places[0]), (places[-1], places[-1] + 1)],
        [(places[7], places[7])],
        [],
    ]
    entries = list(struct.iter_unpack("<QQq", contents[table.offset : table.offset + table.size]))
    for chance in (None, random.Random(1)):
        if chance is None:
            entries.sort()
        else:
            chance.shuffle(entries)
        written = b"".join(struct.pack("<QQq", *entry) for entry in entries)
        path.write_bytes(contents[: table.offset] + written + contents[table.offset + table.size :])
        with Image(path) as image:
            for some in ranges:
                wanted = [one for one in every if any(start <= one.offset < end for start, end in some)]
                assert sorted(one.offset for one in image.relocations(table, some)) == sorted(one.offset for one in wanted)


def test_words_of_some_addresses(tmp_path):
    toolchain.link(tmp_path, [toolchain.compile_c(tmp_path, toolchain.KERNEL + POINTERS)], [toolchain.HIGHER_HALF])
    with Image(tmp_path / "kernel.elf") as image:
        data = image.section(".data")
        first, words = image.words(data)
        assert (first, len(words)) == (-(-data.address // 8) * 8, (data.end - first) // 8)
        stored = image.data(data, first, 8 * len(words))
        assert list(words) == [word for (word,) in struct.iter_unpack("<Q", stored)]
        for start, end in ((first + 8, first + 40), (first + 1, first + 17), (data.end, data.end + 64), (0, first + 8)):
            at, some = image.words(data, start, end)
            assert at == max(-(-start // 8) * 8, first)
            assert list(some) == [words[n] for n in range(len(words)) if start <= first + 8 * n and first + 8 * n + 8 <= end]

"""The area as SVG and HTML: every byte drawn once, right for few variables and many, harmless with hostile names."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
import toolchain
from check.builds import BY_HAND, judge
from check.test_cli import run
from percpu_tools import check, render_fragment
from percpu_tools.report.map import draw
from percpu_tools.report.svg import LEFT, WIDTH

SVG = "{http://www.w3.org/2000/svg}"


def array(name: str, size: int, section: str = "", alignment: int = 1, near: bool = False) -> str:
    prefix = "percpu_near_" if near else "percpu_storage_"
    attributes = f'section(".percpu{section}.{name}"), used, aligned({alignment})'
    return f"__attribute__(({attributes})) char {prefix}{name}[{size}] = {{1}};\n"


def build(folder: Path, source: str, cpus: int = 4) -> Path:
    text = BY_HAND.replace("* 4 -", f"* {cpus} -").replace("ABSOLUTE(4)", f"ABSOLUTE({cpus})")
    text = text.replace("*(.percpu .percpu.*)", "*(.percpu..near.*) *(.percpu .percpu.[!.]*)\n _percpu_read_mostly_start = .;\n *(.percpu..read_mostly.*)")
    judge(folder, text, source, "--no-warn-rwx-segments")
    return folder / "kernel.elf"


# GCC writes the last variable first.
MIXED = (
    array("hot", 8, "..near", 8, near=True)
    + array("apart", 4, alignment=64)
    + array("crossing", 40)
    + array("wide", 40)
    + array("table", 12, "..read_mostly", 4)
)


def rectangles(text: str) -> dict[str, list[tuple[float, float, str]]]:
    """By the variable's name: where each of its pieces begins, its width in bytes, and its class."""
    found: dict[str, list[tuple[float, float, str]]] = {}
    for piece in ElementTree.fromstring(text).iter(f"{SVG}svg"):
        if "data-variable" in piece.attrib:
            name = piece.find(f"{SVG}title").text.splitlines()[0].split()[-1]
            place = (float(piece.get("x")) - LEFT) * 64 / WIDTH
            shape = piece.find(f"{SVG}rect")
            found.setdefault(name, []).append((place, float(piece.get("width")) * 64 / WIDTH, shape.get("class")))
    return found


def test_pieces_lie_where_the_variables_lie(tmp_path):
    path = build(tmp_path, MIXED)
    done = run("--format", "svg", path)
    assert (done.returncode, done.stderr) == (0, "")
    drawn = rectangles(done.stdout)
    assert [(place, size) for place, size, _ in drawn["hot"]] == [(0, 8)]
    assert [(place, size) for place, size, _ in drawn["wide"]] == [(8, 40)]
    assert [(place, size) for place, size, _ in drawn["crossing"]] == [(48, 16), (0, 24)]
    assert [(place, size) for place, size, _ in drawn["table"]] == [(4, 12)]
    assert [drawn[name][0][2].split()[0] for name in ("hot", "wide", "table")] == ["near", "far", "read-mostly"]
    for said in ("crossing straddles", "read-mostly table beside apart", "40 bytes free", "192 bytes x 4 CPUs = 768 bytes of memory"):
        assert said in done.stdout, said


@pytest.mark.parametrize("number", [5, 500])
def test_every_byte_is_drawn_once(tmp_path, number):
    sizes = [1, 2, 4, 8, 8, 24, 40, 72, 200]
    source = "".join(array(f"v{i}", sizes[i % len(sizes)], alignment=min(sizes[i % len(sizes)] & -sizes[i % len(sizes)], 8)) for i in range(number))
    report = check(build(tmp_path, source, cpus=64))
    picture = draw(report)
    assert len(picture.entries) == number
    place = 0
    for row in picture.rows:
        assert row.offset == place
        for piece in row.pieces:
            assert row.offset + piece.start == place
            place += piece.size * max(row.folded, 1)
    assert place == report.layout.stride
    assert sum(picture.bytes.values()) == report.layout.stride
    assert {entry.name: entry.offset for entry in picture.entries} == {one.name: one.offset for one in report.layout.variables}


def test_large_objects_and_holes_are_folded(tmp_path):
    source = array("stack", 4096, alignment=4096) + array("small", 4) + array("page", 8192, alignment=4096)
    done = run("--format", "svg", build(tmp_path, source))
    picture = draw(check(tmp_path / "kernel.elf"))
    assert len(picture.rows) < 16
    assert "62 more lines, 3968 bytes of stack" in done.stdout
    assert picture.holes == 4092
    assert sum(row.folded or 1 for row in picture.rows) == picture.stride // 64


@pytest.mark.parametrize("form", ["svg", "html"])
def test_two_names_of_one_place(tmp_path, form):
    source = array("first", 8, alignment=8) + 'extern char percpu_storage_second[8] __attribute__((alias("percpu_storage_first")));\n'
    done = run("--format", form, build(tmp_path, source))
    assert "same bytes: second" in done.stdout
    assert len(draw(check(tmp_path / "kernel.elf")).entries) == 1


def test_svg_takes_one_file(tmp_path):
    path = build(tmp_path, MIXED)
    done = run("--format", "svg", path, path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--format svg draws one file, and 2 are named: name one, or use --format html" in done.stderr


@pytest.mark.parametrize("form", ["svg", "html"])
def test_a_file_without_areas(tmp_path, form):
    toolchain.link(tmp_path, [toolchain.compile_c(tmp_path, toolchain.KERNEL)], [toolchain.HIGHER_HALF])
    done = run("--format", form, tmp_path / "kernel.elf")
    assert done.returncode == 0
    assert "no areas to draw" in done.stdout


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_the_page_needs_nothing_else(tmp_path):
    path = build(tmp_path, MIXED)
    target = tmp_path / "area.html"
    done = run("--types", "--format", "html", "-o", target, path, path)
    assert (done.returncode, done.stdout) == (0, "")
    text = target.read_text(encoding="ascii")
    page = Page(text)
    assert sum(tag == "section" for tag, _ in page.tags) == 2
    assert not {"link", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not [attributes for _, attributes in page.tags if {"src", "href"} & set(attributes)]
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    assert not [name for name in tmp_path.iterdir() if name.name.startswith(".percpu-")]


HOSTILE = "</title><script>alert(1)</script>\"'&\033[31m\u202e]]>{{7*7}}"


@pytest.mark.parametrize("form", ["svg", "html"])
def test_names_are_text_and_nothing_else(tmp_path, form):
    """No assembler takes such names; a hostile file has them all the same."""
    tame = "n" * len(HOSTILE.encode())
    judge(tmp_path, source=toolchain.variable(tame, 1) + toolchain.variable(f"stray_{tame}", 1, ".data.stray"))
    path = tmp_path / "kernel.elf"
    path.write_bytes(path.read_bytes().replace(tame.encode(), HOSTILE.encode()))
    text = run("--format", form, path).stdout
    assert "alert(1)" in text
    assert not {"\033", "\u202e"} & set(text)
    shown = HOSTILE.replace("\033", "\\x1b").replace("\u202e", "\\u202e")
    if form == "svg":
        root = ElementTree.fromstring(text)
        assert not list(root.iter(f"{SVG}script"))
        assert any(shown in (title.text or "") for title in root.iter(f"{SVG}title"))
    else:
        page = Page(text)
        assert sum(tag == "script" for tag, _ in page.tags) == 1
        assert not [attributes for _, attributes in page.tags if any(name.startswith("on") for name in attributes)]


@pytest.mark.parametrize("form, unused", [("json", "jinja2"), ("sarif", "jinja2"), ("svg", "rich"), ("svg", "percpu_tools.report.sarif")])
def test_only_what_the_format_needs_is_imported(tmp_path, form, unused):
    path = build(tmp_path, MIXED)
    code = "import sys; from percpu_tools.cli.check import main; main(sys.argv[2:]); sys.exit(sys.argv[1] in sys.modules)"
    assert toolchain.run([sys.executable, "-c", code, unused, "--format", form, str(path)], check=False).returncode == 0


def test_a_fragment_of_ours(tmp_path):
    kernel = toolchain.compile_c(tmp_path, toolchain.KERNEL + MIXED)
    toolchain.link(tmp_path, [kernel], [render_fragment(1000, "x86_64", (), "lld"), toolchain.HIGHER_HALF], linker="lld")
    text = run("--format", "svg", tmp_path / "kernel.elf").stdout
    assert "989 more" in text and "CPU 999" in text

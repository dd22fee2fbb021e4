"""Answers of tools, kept in a file: given again while nothing has changed that could change them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from percpu_tools.answers import KeptAnswers

QUESTION = ["tool", "-version"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a program `tool`, which is the PATH of the build."""
    folder = tmp_path / "bin"
    folder.mkdir()
    compiled(folder / "tool", "the first")
    return folder


def compiled(path: Path, says: str) -> None:
    source = f'#include <stdio.h>\nint main(void) {{ puts("{says}"); }}\n'
    subprocess.run(["gcc", "-x", "c", "-", "-o", str(path)], input=source, text=True, check=True)


def kept(place: Path) -> Path:
    """The file in which the answer of `tool` is kept."""
    file = place.parent / "answers.json"
    KeptAnswers(file).put(QUESTION, {"PATH": str(place)}, "the answer\n")
    return file


def test_an_answer_is_given_again(place):
    assert KeptAnswers(kept(place)).get(QUESTION, {"PATH": str(place)}) == "the answer\n"


@pytest.mark.parametrize("chosen", [["-B{}"], ["-B", "{}"], ["--ld-path={}/ld"], []])
def test_a_linker_that_is_looked_for_elsewhere(place, chosen):
    folder = place.parent / "linkers"
    folder.mkdir()
    (folder / "ld").symlink_to("/bin/true")
    question = [*QUESTION, *(word.format(folder) for word in chosen)]
    environment = {"PATH": str(place), **({} if chosen else {"COMPILER_PATH": str(folder)})}
    answers = KeptAnswers(place.parent / "answers.json")
    answers.put(question, environment, "the answer\n")
    assert answers.get(question, environment) == "the answer\n"
    (folder / "ld").unlink()
    (folder / "ld").symlink_to("/bin/false")
    assert answers.get(question, environment) is None


def test_of_another_question_or_environment_nothing_is_known(place):
    answers = KeptAnswers(kept(place))
    assert answers.get([*QUESTION, "-m32"], {"PATH": str(place)}) is None
    assert answers.get(QUESTION, {"PATH": f"{place}:/bin"}) is None
    assert answers.get(QUESTION, {"PATH": str(place), "LANG": "C"}) is None


@pytest.mark.parametrize("change", ["replaced", "in place", "removed", "another program", "link"])
def test_what_could_change_the_answer(place, change):
    if change == "link":
        (place / "tool").rename(place.parent / "tool-1")
        (place / "tool").symlink_to("../tool-2")
        (place.parent / "tool-2").symlink_to("tool-1")
    file = kept(place)
    if change == "replaced":
        compiled(place / "new", "the second")
        (place / "new").replace(place / "tool")
    elif change == "in place":
        (place / "tool").write_bytes((place / "tool").read_bytes().replace(b"the first", b"the other"))
    elif change == "removed":
        (place / "tool").unlink()
    elif change == "another program":
        compiled(place / "ld", "a linker")
    else:
        compiled(place.parent / "tool-0", "the second")
        (place.parent / "tool-2").unlink()
        (place.parent / "tool-2").symlink_to("tool-0")
    assert KeptAnswers(file).get(QUESTION, {"PATH": str(place)}) is None


def test_a_launcher_and_what_it_launches_are_looked_at(place):
    compiled(place / "launcher", "nothing")
    file = place.parent / "answers.json"
    command = ["launcher", *QUESTION]
    elsewhere = {"PATH": f"{place}:/bin"}
    KeptAnswers(file).put(command, elsewhere, "the answer\n")
    assert KeptAnswers(file).get(command, elsewhere) == "the answer\n"
    (place / "tool").write_bytes((place / "tool").read_bytes() + b"\0")
    assert KeptAnswers(file).get(command, elsewhere) is None


def test_a_script_is_asked_each_time(place):
    (place / "tool").write_text("#!/bin/sh\ncat target\n")
    assert not kept(place).exists()


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": 1}', '[{"command": []}]', "\0\xff"])
def test_a_file_that_is_not_ours_is_no_error(place, text):
    file = kept(place)
    file.write_text(text, encoding="latin-1")
    answers = KeptAnswers(file)
    assert answers.get(QUESTION, {"PATH": str(place)}) is None
    answers.put(QUESTION, {"PATH": str(place)}, "again\n")
    assert KeptAnswers(file).get(QUESTION, {"PATH": str(place)}) == "again\n"


def test_a_file_that_cannot_be_written_is_no_error(place):
    answers = KeptAnswers(place.parent / "no such folder" / "answers.json")
    answers.put(QUESTION, {"PATH": str(place)}, "the answer\n")
    assert answers.get(QUESTION, {"PATH": str(place)}) == "the answer\n"
    assert sorted(os.listdir(place.parent)) == ["bin"]


def test_the_environment_is_not_left_in_the_file(place):
    file = place.parent / "answers.json"
    KeptAnswers(file).put(QUESTION, {"PATH": str(place), "TOKEN": "a secret"}, "the answer\n")
    assert "the answer" in file.read_text() and "secret" not in file.read_text()


def test_two_builds_keep_what_the_other_has_found(place):
    file = place.parent / "answers.json"
    one, other = KeptAnswers(file), KeptAnswers(file)
    one.put(QUESTION, {"PATH": str(place)}, "one\n")
    other.put([*QUESTION, "-m32"], {"PATH": str(place)}, "other\n")
    assert {record["answer"] for record in json.loads(file.read_text())} == {"one\n", "other\n"}


def test_the_file_does_not_grow_for_ever(place):
    answers = KeptAnswers(place.parent / "answers.json")
    for number in range(100):
        answers.put([*QUESTION, f"-m{number}"], {"PATH": str(place)}, "the answer\n")
    records = json.loads(Path(answers.file).read_text())
    assert [record["command"][-1] for record in records] == [f"-m{number}" for number in range(99, 35, -1)]

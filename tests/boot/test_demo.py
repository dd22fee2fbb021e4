"""tools/demo, as a user calls it, and what it sets up."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from boot.conftest import TOP, scons_alone

DEMO = TOP / "tools" / "demo"


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, **environment},
    )


def test_it_builds_checks_and_boots_from_any_folder(tmp_path: Path) -> None:
    with scons_alone():
        done = run("bash", "-c", 'cd "$1" && exec "$2" --cpus 3', "-", tmp_path, DEMO)
        again = run(DEMO, "--cpus", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cpu_id" in done.stdout  # a variable in percpu-check's table, and a column of the kernel's
    assert "3 areas of " in done.stdout
    assert "Passed: 3 CPUs" in done.stdout
    assert "\033" not in done.stdout
    assert again.returncode == 0
    assert "is up to date" in again.stdout
    assert "compile" not in again.stdout and "Install" not in again.stdout


def test_a_terminal_gets_color() -> None:
    with scons_alone():
        done = run("script", "--quiet", "--return", "--command", f"{DEMO} --cpus 2", "/dev/null")
    assert done.returncode == 0, done.stdout
    assert "\033[32mPassed: 2 CPUs" in done.stdout


def test_a_reader_that_leaves_gets_no_traceback() -> None:
    with scons_alone():
        done = run("bash", "-c", '"$1" | head -n 1', "-", DEMO)
    # Whichever of the commands writes next ends; SCons says so in a line of its own.
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--cpus", "0"), "argument --cpus: '0' is no number of CPUs; expected 1 to 64"),
        (("--cpus", "-1"), "argument --cpus: '-1' is no number of CPUs; expected 1 to 64"),
        (("--cpus", "65"), "argument --cpus: 65 is too many; the x86_64 board has 1 to 64"),
        (("--cpus", "1.5"), "argument --cpus: '1.5' is no number of CPUs; expected 1 to 64"),
        (("--cpus", "four"), "argument --cpus: 'four' is no number of CPUs; expected 1 to 64"),
        (("--cpus",), "argument --cpus: expected one argument"),
        (("--arch", "vax"), "argument --arch: invalid choice: 'vax'"),
        (("--fast",), "unrecognized arguments: --fast"),
    ],
)
def test_wrong_arguments_are_refused(arguments: tuple[str, ...], message: str) -> None:
    done = run(DEMO, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    usage, error = done.stderr.strip().splitlines()
    assert usage == "usage: tools/demo [--arch ARCH] [--cpus N]"
    assert error.startswith(f"tools/demo: error: {message}")


@pytest.mark.parametrize("tool", ["demo", "test"])
def test_help_is_printed_and_nothing_done(tool: str) -> None:
    done = run(TOP / "tools" / tool, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"tools/{tool} [")


def test_who_may_not_install_is_told_the_command() -> None:
    # no-new-privs: neither sudo nor a set-user-id program can help.
    unprivileged = ["setpriv", "--no-new-privs"]
    if os.geteuid() == 0:
        unprivileged += ["--reuid=65534", "--regid=65534", "--clear-groups"]
    script = (TOP / "tools" / "setup.bash").read_text()
    done = run(*unprivileged, "bash", "-euc", script + "setup_packages bash percpu-no-such-package", "tools/demo")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "tools/demo: these Debian packages are missing, and installing them needs root. Please run:",
        "    sudo apt-get update && sudo apt-get install --no-install-recommends percpu-no-such-package",
    ]


def test_what_is_there_is_not_installed_again() -> None:
    script = (TOP / "tools" / "setup.bash").read_text()
    done = run("bash", "-euc", script + "setup_packages bash coreutils", "tools/demo")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

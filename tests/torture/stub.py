"""A machine that QEMU runs under its debugger stub: memory, registers, and running up to an address.

Spoken to directly, in the protocol of the GDB manual (appendix "GDB Remote Serial Protocol"), because the
GDB of Debian 12 does not know LoongArch.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from boot.boards import Board


class Stub:
    """A connection to the stub. The machine stands still whenever no method is under way."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = b""
        self._ask("QStartNoAckMode")
        # QEMU gives single registers only to those who have asked for their description.
        self._ask("qXfer:features:read:target.xml:0,fff")

    def read(self, address: int, size: int) -> int:
        """The unsigned number of `size` bytes at `address`."""
        return int.from_bytes(bytes.fromhex(self._ask(f"m{address:x},{size:x}")), "little")

    def write(self, address: int, size: int, value: int) -> None:
        self._done(f"M{address:x},{size:x}:{value.to_bytes(size, 'little').hex()}")

    def register(self, number: int) -> int:
        return int.from_bytes(bytes.fromhex(self._ask(f"p{number:x}")), "little")

    def set_register(self, number: int, size: int, value: int) -> None:
        self._done(f"P{number:x}={value.to_bytes(size, 'little').hex()}")

    def registers(self) -> str:
        """All general registers, in a form that only set_registers reads."""
        return self._ask("g")

    def set_registers(self, all_registers: str) -> None:
        self._done(f"G{all_registers}")

    def run_to(self, address: int) -> None:
        """Goes on, until the instruction at `address` is the next one."""
        self._done(f"Z1,{address:x},4")
        stopped = self._ask("c")
        assert stopped[:1] in "ST", f"the machine ended, or the stub said {stopped!r}"
        self._done(f"z1,{address:x},4")

    def _done(self, request: str) -> None:
        answer = self._ask(request)
        assert answer == "OK", f"{request}: {answer!r}"

    def _ask(self, request: str) -> str:
        self._connection.sendall(f"${request}#{sum(request.encode()) & 0xFF:02x}".encode())
        while True:
            begin = self._received.find(b"$")
            end = self._received.find(b"#", begin)
            if 0 <= begin < end and end + 2 < len(self._received):
                answer = self._received[begin + 1 : end].decode()
                self._received = self._received[end + 3 :]
                return answer
            more = self._connection.recv(4096)
            assert more, "QEMU closed the connection"
            self._received += more


@contextmanager
def machine(board: Board, kernel: Path) -> Iterator[Stub]:
    """`kernel` on one CPU of `board`, held before its first instruction."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stub"
        command = [*board.qemu_command(str(kernel), 1), "-S", "-gdb", f"unix:{path},server=on,wait=off"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(60)
                _connect(connection, path)
                yield Stub(connection)
        finally:
            process.kill()
            process.wait()


def _connect(connection: socket.socket, path: Path) -> None:
    """Connects as soon as QEMU listens, which is some time after it is there, and again after the path is."""
    for _ in range(600):
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"QEMU does not listen at {path}")

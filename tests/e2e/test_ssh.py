"""The inspector over a real ssh connection that is lost: the process ends, and its edit is there at the next start."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT
from tests.e2e.terminal import PROMPT, Terminal, gone

Open = Callable[..., Terminal]

FAKE = f"{sys.executable} {ROOT / 'tests' / 'tui' / 'run_fake.py'}"
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
READY = "positions of held-out docstrings"

pytestmark = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh") is None, reason="openssh-server and its client are not installed"
)


@dataclass(frozen=True)
class Server:
    """A server of its own on loopback, for one key."""

    port: int
    key: Path

    def client(self, command: str) -> str:
        """The line that runs a command there, in a terminal."""
        options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes"
        return f"ssh -tt {options} -p {self.port} -i {self.key} {getpass.getuser()}@127.0.0.1 '{command}'"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    assert SSHD is not None
    folder = tmp_path / "sshd"
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "ListenAddress": f"127.0.0.1:{port}", "HostKey": folder / "host", "AuthorizedKeysFile": folder / "authorized",
        "PidFile": folder / "pid", "StrictModes": "no", "UsePAM": "no", "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
    }  # fmt: skip
    (folder / "config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    log = (folder / "log").open("wb")
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "config"], stdout=log, stderr=log)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield Server(port, folder / "user")
    finally:
        process.terminate()
        process.wait(10)
        log.close()


def test_a_killed_ssh_client_ends_the_inspector_and_the_next_start_brings_the_edit_back(
    terminal: Open, server: Server, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    pid_file = tmp_path / "inspector.pid"
    folders = " ".join(f"XDG_{name}_HOME={home / name.lower()}" for name in ("CACHE", "CONFIG", "STATE", "DATA"))
    remote = f"echo $$ >{pid_file}; exec env LC_ALL=C.UTF-8 {folders} {FAKE}"
    term = terminal(80, 24)
    term.start(server.client(remote).replace("'", '"'))
    term.wait(READY)
    term.wait(r"KL 0\.000")
    inspector = int(pid_file.read_text())
    term.keys("Space", "j", "Space")
    term.until(lambda: len(term.pruned()) == 2, "two dimensions are pruned")
    os.kill(term.pid(), signal.SIGKILL)
    term.wait(f"EXIT=|{PROMPT}")
    term.until(lambda: gone(inspector), "the inspector has ended", 20)
    again = terminal(80, 24)
    again.start(server.client(remote).replace("'", '"'))
    again.wait("brings back the unexported edit: 2 pruned")
    again.keys("u")
    again.until(lambda: len(again.pruned()) == 2, "the edit is back")
    again.keys("q")
    again.until(lambda: "leaves" in again.screen() or "EXIT=" in again.screen(), "it leaves or asks")
    if "EXIT=" not in again.screen():
        again.keys("y")
    assert again.exit_code() == 0
    again.assert_clean()

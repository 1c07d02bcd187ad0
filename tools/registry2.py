"""A real registry:2 on loopback, obtained without root, which always stops at the end.

For tests: ``with RegistryServer(folder) as registry: ... registry.address``.
For people: ``python3 tools/registry2.py`` starts one, prints its address, and runs until Ctrl-C.
Standard library only: tools/test.py uses it before anything is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from loopback import open_url

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["PASSWORD", "USER", "RegistryServer", "RegistryUnavailable", "obtain"]

WORK = Path(__file__).resolve().parent.parent / ".work"

IMAGE = "registry:2"

# The only account of a server started with ``guarded=True``. registry:2 reads only bcrypt, which the standard library
# cannot make, so the hash is a constant. It protects only test data.
USER = "cook"
PASSWORD = "correct horse battery staple"
HTPASSWD = "cook:$2b$05$TnrFO8p6QSPfarKBGm.u4OdBaUC1trxzLCHjat.a0ouvYGQJvbiCq\n"

START_SECONDS = 60  # enough for a loaded machine, and for Docker to fetch the image
STOP_SECONDS = 5


class RegistryUnavailable(Exception):
    """There is no registry:2, or it did not start; the text names the attempts."""


class RegistryServer:
    """A registry:2 that runs inside ``with`` and writes only to one folder.

    folder: made if missing; blobs in ``storage``, the log in ``registry.log``. Deletion is enabled.
    guarded: whether it wants USER and PASSWORD (htpasswd, Basic).
    program: the command line that serves, by default that of obtain().
    Raises: RegistryUnavailable.
    """

    def __init__(self, folder: Path, *, guarded: bool = False, program: list[str] | None = None) -> None:
        self.folder = folder
        self.storage = folder / "storage"
        self.address = ""  # host:port, once started
        self.username, self.password = (USER, PASSWORD) if guarded else ("", "")
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RegistryServer:
        program = self._program or obtain()
        self.storage.mkdir(parents=True, exist_ok=True)
        try:
            self.address = self._start_container() if program[0] == "docker" else self._start_program(program)
            self._wait_until(self._answers, "it to answer /v2/")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the server if it runs; its storage stays."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def collect_garbage(self) -> None:
        """Delete what no tag reaches, manifests too, and the blobs of neither. Nothing may be pushed meanwhile.

        Raises: RegistryUnavailable.
        """
        program, settings = self._program or obtain(), self.folder / "config.yml"
        if program[0] == "docker":
            owner, volume = f"{os.getuid()}:{os.getgid()}", f"{self.folder}:{self.folder}"
            program = ["docker", "run", "--rm", "--user", owner, "--volume", volume, IMAGE, "serve"]
        _run([*program[:-1], "garbage-collect", "--delete-untagged", str(settings)])

    def _start_program(self, program: list[str]) -> str:
        # The system chooses the port, which is read from the log: another process could take a port chosen here.
        self._spawn([*program, str(self._configure("127.0.0.1:0"))])
        return self._wait_until(lambda: _listening(self._log()), "its port")

    def _start_container(self) -> str:
        name = f"ctxpack-registry-{uuid.uuid4().hex[:12]}"
        run = ["docker", "run", "--rm", "--init", "--name", name, "--publish", "127.0.0.1::5000"]
        run += ["--user", f"{os.getuid()}:{os.getgid()}", "--volume", f"{self.folder}:{self.folder}"]
        self._spawn([*run, IMAGE, str(self._configure("0.0.0.0:5000"))])
        return self._wait_until(lambda: _published(name), "its port")

    def _configure(self, listen: str) -> Path:
        settings: dict[str, object] = {
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": str(self.storage)}, "delete": {"enabled": True}},
            "http": {"addr": listen, "secret": "only for tests"},
        }
        if self.username:
            accounts = self.folder / "htpasswd"
            accounts.write_text(HTPASSWD, encoding="ascii")
            settings["auth"] = {"htpasswd": {"realm": "ctxpack tests", "path": str(accounts)}}
        path = self.folder / "config.yml"
        path.write_text(json.dumps(settings, indent=2), encoding="utf-8")  # JSON is YAML
        return path

    def _spawn(self, command: list[str]) -> None:
        # A session of its own, so that Ctrl-C reaches only this process, which then stops the registry.
        with (self.folder / "registry.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _log(self) -> str:
        return (self.folder / "registry.log").read_text(encoding="utf-8", errors="replace")[-4000:]

    def _wait_until(self, ready: Callable[[], str], wanted: str) -> str:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            if found := ready():
                return found
            time.sleep(0.02)
        raise RegistryUnavailable(
            f"the registry ended, or took too long, before {wanted}; its log ends:\n{self._log()}"
        )

    def _answers(self) -> str:
        try:
            with open_url(f"http://{self.address}/v2/", timeout=5):
                return "open"
        except urllib.error.HTTPError as answer:
            answer.close()
            return "guarded" if answer.code == 401 else ""
        except OSError:
            return ""


def obtain() -> list[str]:
    """Return the command line that serves a registry:2; the caller appends the configuration file.

    Looks on PATH and in ``.work/registry``, then fetches the Debian package into that folder, then tries Docker.
    Raises: RegistryUnavailable, with the reason why each way failed.
    """
    unpacked = WORK / "registry" / "usr" / "bin" / "docker-registry"
    for binary in (shutil.which("docker-registry"), str(unpacked)):
        if binary and os.access(binary, os.X_OK):
            return [binary, "serve"]
    failures = ["docker-registry: not on PATH"]
    try:
        _fetch_debian_package(WORK / "registry")
        return [str(unpacked), "serve"]
    except RegistryUnavailable as error:
        failures.append(f"Debian package docker-registry: {error}")
    try:
        _run(["docker", "version", "--format", "{{.Server.Version}}"])
        return ["docker"]
    except RegistryUnavailable as error:
        failures.append(f"Docker: {error}")
    raise RegistryUnavailable(
        "no registry:2 to test against. Tried:\n"
        + "\n".join(f"  - {failure}" for failure in failures)
        + "\nInstall docker-registry (Debian, Ubuntu) or start Docker, then try again."
    )


def _fetch_debian_package(into: Path) -> None:
    """Fetch and unpack docker-registry without root, with package lists of its own if those of the system lack it."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise RegistryUnavailable(f"{tool}: not on PATH")
    WORK.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK, prefix="registry-") as scratch:
        staging = Path(scratch)
        try:
            package = _download(staging, [])
        except RegistryUnavailable:
            package = _download(staging, _private_lists(staging))
        _run(["dpkg-deb", "-x", str(package), str(staging / "unpacked")])
        with contextlib.suppress(OSError):  # another run was first, with the same result
            (staging / "unpacked").rename(into)


def _private_lists(staging: Path) -> list[str]:
    options = ["-o", f"Dir::State::Lists={staging}/lists", "-o", f"Dir::Cache={staging}/cache"]
    options += ["-o", "Acquire::Languages=none"]
    for folder in ("lists/partial", "cache/archives/partial"):
        (staging / folder).mkdir(parents=True)
    # apt fails if one third-party source is unreachable; only our package counts.
    with contextlib.suppress(RegistryUnavailable):
        _run(["apt-get", *options, "update"])
    return options


def _download(staging: Path, options: list[str]) -> Path:
    # As root, apt would switch to a user who may not write here, and warn.
    _run(["apt-get", *options, "-o", "APT::Sandbox::User=root", "download", "docker-registry"], cwd=staging)
    packages = sorted(staging.glob("docker-registry_*.deb"))
    if not packages:
        raise RegistryUnavailable("apt-get download left no file")
    return packages[-1]


def _run(command: list[str], cwd: Path | None = None) -> str:
    """Return the stdout of command. Raises: RegistryUnavailable, with the end of its output."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RegistryUnavailable(f"{command[0]}: {error}") from error
    if done.returncode:
        output = " ".join((done.stderr or done.stdout).split())[-300:]
        raise RegistryUnavailable(f"`{' '.join(command)}` ended with {done.returncode}: {output}")
    return done.stdout


def _listening(log: str) -> str:
    found = re.search(r"listening on (127\.0\.0\.1:\d+)", log)
    return found[1] if found else ""


def _published(container: str) -> str:
    try:
        return _run(["docker", "port", container, "5000/tcp"]).split()[0]
    except RegistryUnavailable:
        return ""  # not yet created


def main() -> int:
    parser = argparse.ArgumentParser(description="Start a registry:2 on loopback, until Ctrl-C.")
    parser.add_argument("--password", action="store_true", help=f"ask for user {USER!r}, password {PASSWORD!r}")
    parser.add_argument("--folder", type=Path, help="where to keep the blobs (default: a new temporary folder)")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM stops it like Ctrl-C
    with contextlib.ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ctxpack-registry-")))
        try:
            registry = stack.enter_context(RegistryServer(folder.resolve(), guarded=asked.password))
        except RegistryUnavailable as error:
            print(error, file=sys.stderr)
            return 1
        print(
            f"registry:2 answers on {registry.address}; try CTXPACK_REGISTRY={registry.address}/team/packs", flush=True
        )
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A disk with little room: a small filesystem or, where mounting is not allowed, a limit on the size of each file.

Run as a program, it prepares the disk, runs the commands from stdin one after the other, and prints how they ended. It
runs all of them, because a mount in a private namespace ends with the processes in it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["GROW", "KINDS", "Ended", "run_on_small_disk"]

KINDS = ("filesystem", "file size")

GROW = ("grow",)  # in the list of commands: from here on there is room

_NAMESPACE = ["unshare", "--map-root-user", "--mount"]
_DISK = 64 << 20  # bytes, most of them taken by ballast until GROW
_LIMIT = 60  # seconds for one command


class Ended(NamedTuple):
    """How one of the commands ended."""

    status: int
    stdout: str
    stderr: str


def run_on_small_disk(
    kind: str, folder: Path, size: int, commands: Sequence[Sequence[str]], environment: Mapping[str, str]
) -> list[Ended]:
    """Run the commands in folder, also after one of them failed; return how each of them but GROW ended.

    kind: one of KINDS; the filesystem at folder, or each file, has room for size bytes. Where this account may not
    mount, both kinds limit each file.
    """
    mounting = kind == "filesystem" and _can_mount()
    program = [*(_NAMESPACE if mounting else []), sys.executable, __file__]
    done = subprocess.run(
        [*program, "mount" if mounting else "limit", folder, str(size)],
        input=json.dumps(commands),
        env=dict(environment),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [Ended(*each) for each in json.loads(done.stdout)]


@functools.cache
def _can_mount() -> bool:
    """Whether this account may have a mount namespace. Containers and hardened machines often forbid it."""
    if shutil.which("unshare") is None:
        return False
    mount = [*_NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(mount, capture_output=True, check=False).returncode == 0


def main() -> None:
    how, folder, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    with contextlib.ExitStack() as ballast:
        if how == "mount":
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "none", folder], check=True)
            weight = ballast.enter_context(tempfile.TemporaryFile(dir=folder))
            os.posix_fallocate(weight.fileno(), 0, _DISK - size)
        limit = size if how == "limit" else resource.RLIM_INFINITY
        ended = []
        for command in json.load(sys.stdin):
            if tuple(command) == GROW:
                ballast.close()
                limit = resource.RLIM_INFINITY
            else:
                ended.append(_run(command, folder, limit))
    print(json.dumps(ended))


def _run(command: Sequence[str], folder: Path, limit: int) -> Ended:
    def restrict() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=_LIMIT, check=False, preexec_fn=restrict
    )
    return Ended(done.returncode, done.stdout, done.stderr)


if __name__ == "__main__":
    main()

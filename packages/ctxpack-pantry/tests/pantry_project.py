"""A small project on disk, as a user would have it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctxpack_identity import CtxUri, digest_of, resolve
from ctxpack_pantry import Settings, load_settings
from ctxpack_pantry.contractfile import LoadedContractFile, load_contract_file


class Project:
    """raw_docs/ (two files, an empty folder), ingest.sh, out/ (what ingest.sh made of them), contract.json.

    The contract has no weak points. command: of contracts that are written from now on; None is none.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.command: list[str] | None = ["sh", "ingest.sh"]
        self.inputs = root / "raw_docs"
        self.code = root / "ingest.sh"
        self.out = root / "out"
        self.contract = root / "contract.json"
        (self.inputs / "empty").mkdir(parents=True)
        (self.inputs / "a.txt").write_text("alpha")
        (self.inputs / "b.txt").write_text("beta")
        self.code.write_text("mkdir -p out && cat raw_docs/*.txt >out/joined\n")
        self.make_outputs()
        self.write_contract()

    def make_outputs(self, joined: str = "alphabeta") -> None:
        (self.out / "deep" / "empty").mkdir(parents=True, exist_ok=True)
        (self.out / "joined").write_text(joined)
        (self.out / "manifest.json").write_text("the user's own")
        (self.out / "tool").write_text("#!/bin/sh\n")
        (self.out / "tool").chmod(0o755)

    def write_contract(self, *, params: dict[str, Any] | None = None, **members: Any) -> None:
        """Write contract.json. params: of the transform; members: replace the usual ones or are added."""
        transform = {
            "tool": "cat",
            "tool_version": "9.1",
            "code": {"path": "./ingest.sh"},
            "environment_hash": digest_of(b"uv.lock"),
            "params": params or {},
        }
        document = {
            "inputs": [{"name": "raw_docs", "path": "./raw_docs"}],
            **({} if self.command is None else {"command": self.command}),
            "transforms": [transform],
            "outputs": [{"path": "./out"}],
            **members,
        }
        self.contract.write_text(json.dumps(document))

    def load(self) -> LoadedContractFile:
        return load_contract_file(str(self.contract))

    @property
    def settings(self) -> Settings:
        """With cache and registry in the folder of the project's folder."""
        above = self.root.parent
        return load_settings(registry=f"oci:{above / 'registry'}", cache=str(above / "cache"))

    @property
    def uri(self) -> CtxUri:
        return self.uri_of([])

    def uri_of(self, command: Sequence[str]) -> CtxUri:
        """Return the URI with a command that is given beside the contract file, unless it is empty."""
        loaded = self.load().with_command(command)
        return resolve(loaded.file, loaded.base).uri


def contents(folder: str | Path) -> dict[str, str]:
    """What a folder holds, by relative path: text, with a ``*`` before it when executable, or "/" for a folder."""
    return {
        str(path.relative_to(folder)): "/"
        if path.is_dir()
        else f"{'*' * bool(path.stat().st_mode & 0o100)}{_text(path)}"
        for path in sorted(Path(folder).rglob("*"))
    }


def state(path: str | Path) -> tuple[int, int, int]:
    """What changes when something is replaced or written, and not when it is read."""
    seen = os.lstat(path)
    return seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns


def _text(path: Path) -> str:
    return path.read_bytes().decode("latin-1")


def flip(path: Path) -> None:
    """Change one bit, and nothing else that stat(2) says but ctime."""
    before = path.stat()
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

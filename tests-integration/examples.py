"""Example contracts and outputs: small, the same in every run, with unusual names and contents."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from machine import Finished, Machine

__all__ = ["NOWHERE", "ask_registry", "content_of", "seed_pack", "write_contract", "write_outputs"]

NOWHERE = "ctx://sha256:" + "0" * 64  # no contract has this URI

# Random bytes, which do not compress. They make several layers: a layer has at most 8 MiB.
LARGE = random.Random(1).randbytes(9 << 20)

OUTPUTS: dict[str, bytes] = {
    "large.bin": LARGE,
    "manifest.json": b'{"not": "ours"}\n',
    "empty": b"",
    "sub/chunk 01.txt": b"one\n",
    "sub/größe/読む.txt": "日本語\n".encode(),
    "sub/e\u0301.txt": b"decomposed, and to stay so\n",
}


# The command of seed_pack. It fails, so that a run of the same contract succeeds only when it finds the pack.
COMMAND = ("false",)

DIGEST = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def write_contract(
    folder: Path, *, dpi: int = 300, inputs: list[dict[str, Any]] | None = None, command: Sequence[str] = ()
) -> Path:
    """Write a contract file without weak points and its input, a folder of documents; return the contract's path.

    command: none means that `run` is given one.
    """
    documents = folder / "raw_pdfs"
    documents.mkdir(exist_ok=True)
    (documents / "1.pdf").write_bytes(b"%PDF one")
    contract = {
        "inputs": [{"name": "raw_docs", "path": "./raw_pdfs"}] if inputs is None else inputs,
        **({"command": list(command)} if command else {}),
        "transforms": [
            {
                "tool": "vision-pro",
                "tool_version": "1.2",
                "code_hash": DIGEST,
                "environment_hash": DIGEST,
                "params": {"dpi": dpi},
            }
        ],
        "outputs": [{"path": "./processed_data"}],
    }
    path = folder / "contract.json"
    path.write_text(json.dumps(contract), encoding="utf-8")
    return path


def write_outputs(folder: Path, files: Mapping[str, bytes] = OUTPUTS) -> Path:
    """Write the folder that the contract declares: files, an executable, and empty folders."""
    root = folder / "processed_data"
    (root / "nothing" / "here").mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    tool = root / "tool.sh"
    tool.write_bytes(b"#!/bin/sh\n")
    tool.chmod(0o755)
    return root


def seed_pack(
    machine: Machine, *, dpi: int = 300, files: Mapping[str, bytes] = OUTPUTS, command: Sequence[str] = COMMAND
) -> str:
    """Write a contract file and its outputs on machine, seed them, and return the URI."""
    write_contract(machine.work, dpi=dpi, command=command)
    write_outputs(machine.work, files)
    return machine.succeed("seed").removeprefix("Seeded: ")


def ask_registry(machine: Machine, command: str) -> Finished:
    """Run pull, inspect, push or run so that the registry has to be asked; it has no pack of this machine.

    The command of the contract, should it run, leaves the file ``computed``.
    """
    uri = seed_pack(machine, command=["touch", "computed"])
    if command == "run":
        machine.succeed("rm", uri)
        return machine.run("run")
    return machine.run(command, uri if command == "push" else NOWHERE)


def content_of(folder: Path) -> dict[str, tuple[bytes, bool] | None]:
    """Return what a folder holds: content and executable bit of each file, None for each folder."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), bool(path.stat().st_mode & 0o100))
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }

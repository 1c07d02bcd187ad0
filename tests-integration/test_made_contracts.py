"""Random contract files and contracts, read and resolved by Python and by a second implementation in JavaScript."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_contracts import BASE, ENVIRON, HERE, MadeContract, make_contract, make_contract_file, spelled, with_faults
from node import WITHOUT_POINTER, Ask, Faults, faults_of, node, unrelated

from ctxpack_identity import (
    ContractInvalid,
    InvalidInput,
    TreeEntry,
    canonical_json,
    parse_canonical_contract,
    parse_contract_file,
    resolve,
    with_command,
)
from testmodules import load

Case = dict[str, Any]

fill = load(Path(__file__).parents[1] / "packages" / "ctxpack-identity" / "vectors", "fill")

MADE = 300  # of each kind, some seconds; the closing note of issue 10 has a run with more


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    with node() as asked:
        yield asked


@pytest.mark.parametrize("kind", ["contract file", "contract"])
def test_both_implementations_agree(ask: Ask, kind: str, tmp_path: Path) -> None:
    found = {seed: difference(ask, kind, seed, tmp_path / str(seed)) for seed in range(MADE)}
    assert {seed: text for seed, text in found.items() if text} == {}


def difference(ask: Ask, kind: str, seed: int, folder: Path) -> str:
    """Return how the answers about one random document differ, "" when they do not. folder: is made."""
    chance = random.Random(seed)
    made = make_contract_file(chance) if kind == "contract file" else make_contract(chance)
    made.value = with_faults(chance, made.value, chance.choice([0, 0, 0, 0, 0, 1, 1, 2, 3]))
    if kind == "contract" and (text := _difference_of_canonical(ask, canonical_json(made.value))):
        return text
    document = spelled(chance, made.value)
    if kind == "contract" and (text := _difference_of_canonical(ask, document)):
        return text
    return compare(ask, made, document, folder)


def _difference_of_canonical(ask: Ask, data: bytes) -> str:
    ours: Faults = set()
    try:
        parse_canonical_contract(data)
    except InvalidInput as error:
        ours = _faults_of_error(error)
    return _differ(ours, faults_of(ask("canonical_contract", document=data.hex())), data)


def compare(ask: Ask, made: MadeContract, document: bytes, folder: Path) -> str:
    """Return how the answers about a contract file differ, "" when they do not."""
    at_ours = document.replace(HERE.encode(), os.fsencode(folder))
    at_theirs = document.replace(HERE.encode(), b"/folder")
    ours: Faults = set()
    try:
        contract = parse_contract_file(at_ours)
    except InvalidInput as error:
        ours = _faults_of_error(error)
    theirs = faults_of(ask("contract_file", document=at_theirs.hex()))
    if ours or theirs:
        return _differ(ours, theirs, document)

    fill.make_nodes(_with(made.nodes, str(folder)), str(folder))
    beside = {"environ": ENVIRON, "packs": made.packs, "nodes": _with(made.nodes, "/folder"), "base": BASE}
    given = {} if made.given_command is None else {"given_command": made.given_command}
    answer = ask("contract", document=at_theirs.hex(), **beside, **given)
    entries: dict[str, list[Case]] = {}

    def note(listing: str, entry: TreeEntry) -> None:
        entries.setdefault(listing, []).append({"path": entry.path, "sha256": entry.sha256, "size": entry.size})

    try:
        if made.given_command is not None:
            contract = with_command(contract, made.given_command)
        resolution = resolve(
            contract,
            str(folder / BASE),
            environ=ENVIRON,
            pack_outputs=made.packs.__getitem__ if made.packs else None,
            on_entry=note,
        )
    except InvalidInput as error:
        codes = {code for code, _ in faults_of(answer)}
        return "" if error.code in codes else f"{document!r}, {made}: {error.code}, {answer}"
    if answer != {"canonical": resolution.canonical.decode(), "uri": resolution.uri}:
        return f"{document!r}, {made}: {resolution.canonical.decode()}, {answer}"
    over = json.loads(resolution.canonical).get("each", {}).get("input")
    if f"inputs/{over}" not in entries:
        return ""
    return _difference_of_items(ask, {"contract": answer["canonical"], "entries": entries[f"inputs/{over}"]})


def _difference_of_items(ask: Ask, case: Case) -> str:
    answer = ask("items", **case)
    try:
        ours = fill.answer_items(case)
    except InvalidInput as error:
        return "" if {error.code} == {code for code, _ in faults_of(answer)} else f"{case}: {error.code}, {answer}"
    return "" if ours == answer else f"{case}: {ours}, {answer}"


def _with(nodes: list[Case], here: str) -> list[Case]:
    found: list[Case] = json.loads(json.dumps(nodes).replace(HERE, here))
    return found


def _faults_of_error(error: InvalidInput) -> Faults:
    if isinstance(error, ContractInvalid):
        return {(fault.code, fault.pointer) for fault in error.faults}
    at = re.fullmatch(r"[a-z.]+, ((?:/.*)?)", error.where, re.DOTALL)
    return {(error.code, at[1] if at and error.code not in WITHOUT_POINTER else None)}


def _differ(ours: Faults, theirs: Faults, document: bytes) -> str:
    alone = unrelated(ours, theirs)
    return f"{document!r}: {sorted(map(str, ours))}, {sorted(map(str, theirs))}" if alone else ""

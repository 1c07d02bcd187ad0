"""Contract files on disk."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ctxpack_identity import ContractFile, InvalidInput, LocalFailure, parse_contract_file, with_command
from ctxpack_identity.contractfile import MAX_CONTRACT_FILE_BYTES
from ctxpack_identity.lighttyping import Any, NamedTuple, TypeAlias

__all__ = ["AnyContractFile", "LoadedContractFile", "any_contract_file", "as_contract_file", "load_contract_file"]


class LoadedContractFile(NamedTuple):
    """A contract file that was read. base: the folder that its relative paths start from, "" for the current one."""

    path: str
    base: str
    file: ContractFile

    @property
    def outputs(self) -> dict[str, str]:
        """Where the declared outputs lie on disk, by name."""
        return {output.name: os.path.join(self.base, output.path) for output in self.file.outputs}

    def with_command(self, command: Sequence[str]) -> LoadedContractFile:
        """Return the contract file with a command that was given beside it; none changes nothing.

        Raises: InvalidInput when the file has another command.
        """
        return self._replace(file=with_command(self.file, command, where=self.path)) if command else self

    def require_no_map(self, verb: str) -> None:
        """Raise InvalidInput when the contract goes over items, which verb cannot do."""
        if self.file.each is not None:
            raise InvalidInput(
                f"`{verb}` makes one result, and this contract goes over the items of an input",
                where=f"{self.path}, /each",
                fix="use `ctxpack map`, which makes a result for each item",
                code="E_EACH",
            )


AnyContractFile: TypeAlias = "str | os.PathLike[str] | Mapping[str, Any] | LoadedContractFile"


def any_contract_file(given: AnyContractFile) -> LoadedContractFile:
    """Return a contract file: one that was loaded, one at a path, or one that is given as a mapping.

    Raises: InvalidInput (E_REFERENCE) for anything else; as as_contract_file and load_contract_file do.
    """
    if isinstance(given, LoadedContractFile):
        return given
    if isinstance(given, Mapping):
        return as_contract_file(given)
    if isinstance(given, str | os.PathLike):
        return load_contract_file(os.fsdecode(given))
    raise InvalidInput(
        "names no contract",
        where=repr(given)[:160],
        expected="a text, a path, or a mapping",
        got=type(given).__name__,
        fix="give the contract file's path, or its content",
        code="E_REFERENCE",
    )


def as_contract_file(content: Mapping[str, Any], *, where: str = "the contract", base: str = "") -> LoadedContractFile:
    """Return a contract file with this content, as if it were in the folder base, by default the current one.

    where: its name in errors.
    Raises: InvalidInput when it is no contract, or holds what JSON does not.
    """
    import json  # a contract file at a path needs only the strict reader

    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False)
        data = text.encode()
    except (TypeError, ValueError, RecursionError) as error:  # UnicodeEncodeError too: a surrogate
        raise InvalidInput(
            f"not JSON: {error}", where=where, fix="use texts, numbers, lists and dicts only", code="E_JSON"
        ) from error
    return LoadedContractFile(where, base, parse_contract_file(data, where=where))


def load_contract_file(path: str) -> LoadedContractFile:
    """Return the contract in the file at path.

    Raises: InvalidInput when there is no such file or it is not a contract; LocalFailure when it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_CONTRACT_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidInput(
            "no such contract file", where=path, fix="`ctxpack init` writes one to fill in", code="E_NO_CONTRACT"
        ) from error
    except IsADirectoryError as error:
        raise InvalidInput(
            "a folder, not a contract file", where=path, fix="name the contract file in it", code="E_NO_CONTRACT"
        ) from error
    except OSError as error:
        raise LocalFailure(f"cannot be read: {error.strerror}", where=path, fix="check its permissions") from error
    return LoadedContractFile(path, os.path.dirname(path), parse_contract_file(data, where=path))

"""Contract files on disk."""

from __future__ import annotations

import os

from ctxpack_identity import ContractFile, InvalidInput, LocalFailure, parse_contract_file
from ctxpack_identity.contract import MAX_CONTRACT_BYTES
from ctxpack_identity.lighttyping import NamedTuple

__all__ = ["LoadedContractFile", "load_contract_file"]

_MAX_FILE_BYTES = 2 * MAX_CONTRACT_BYTES  # indentation is not part of the canonical form


class LoadedContractFile(NamedTuple):
    """A contract file that was read. base: the folder that its relative paths start from, "" for the current one."""

    path: str
    base: str
    file: ContractFile

    @property
    def outputs(self) -> list[str]:
        """The declared outputs, as paths on disk."""
        return [os.path.join(self.base, output) for output in self.file.outputs]


def load_contract_file(path: str) -> LoadedContractFile:
    """Return the contract in the file at path.

    Raises: InvalidInput when there is no such file or it is not a contract; LocalFailure when it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
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
    if len(data) > _MAX_FILE_BYTES:
        raise InvalidInput(
            "too large for a contract file",
            where=path,
            expected=f"at most {_MAX_FILE_BYTES} bytes",
            fix="move long lists or params into a file, and make that an input",
            code="E_TOO_LARGE",
        )
    return LoadedContractFile(path, os.path.dirname(path), parse_contract_file(data, where=path))

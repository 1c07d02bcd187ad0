"""The lock file ``ctxpack.lock`` of a project: which pack each name means there, and what its outputs are.

::

    {"names":{"rag-index":{"outputs":"sha256:…","uri":"ctx://sha256:…"}},"schema":"ctxpack/lock/v1"}

It is written as canonical JSON, without a line feed. It lies beside the project's ``ctxpack.toml``. It may be somebody
else's, as in a clone: it says which pack of the registry that is in use a name means, and nothing else.
"""

from __future__ import annotations

import os

from ctxpack_identity.canonical import canonical_json, parse_json, pointer
from ctxpack_identity.digest import Digest, parse_digest
from ctxpack_identity.disk import translated, write_all
from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.hashing.filehash import open_regular
from ctxpack_identity.lighttyping import TYPE_CHECKING, Any, NamedTuple
from ctxpack_identity.uri import CtxUri, parse_uri
from ctxpack_pantry.referencekind import parse_name
from ctxpack_pantry.settings import PROJECT_FILE

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LOCK_FILE", "Pin", "find_lock_file", "read_pins", "write_pin"]

LOCK_FILE = "ctxpack.lock"
SCHEMA = "ctxpack/lock/v1"
MAX_BYTES = 4 << 20  # some ten thousand names

_FIX = "correct it, or remove it; `ctxpack pull NAME --lock` writes it anew"


class Pin(NamedTuple):
    """What a name means. outputs: tree digest of the pack's outputs."""

    uri: CtxUri
    outputs: Digest


def find_lock_file(beside: str = ".") -> str:
    """Return the path of the project's lock file, which need not exist.

    It is in the nearest folder, from beside upwards, that has one or a ctxpack.toml; else in beside.
    """
    start = folder = os.path.abspath(beside)
    while True:
        path = os.path.join(folder, LOCK_FILE)
        if os.path.lexists(path) or os.path.isfile(os.path.join(folder, PROJECT_FILE)):
            return path
        parent = os.path.dirname(folder)
        if parent == folder:
            return os.path.join(start, LOCK_FILE)
        folder = parent


def read_pins(path: str) -> dict[str, Pin]:
    """Return the pins of a lock file by name; none when there is no such file.

    Raises: InvalidInput when it is anything but a lock file; LocalFailure when it cannot be read.
    """
    if not os.path.lexists(path):
        return {}
    try:
        fd = open_regular(path, follow=True)
    except InvalidInput as error:
        raise _fault(path, "", "a file", "a folder, a device, or a link that leads nowhere") from error
    with open(fd, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise _fault(path, "", f"at most {MAX_BYTES} bytes", "more")
    try:
        document = parse_json(data, where=path)
    except InvalidInput as error:
        raise InvalidInput(
            f"no lock file: {error.what}",
            where=error.where,
            expected=error.expected,
            got=error.got,
            fix=_FIX,
            code="E_LOCK_FILE",
        ) from error
    _require_members(path, "", document, ("names", "schema"))
    if document["schema"] != SCHEMA:
        raise _fault(path, "/schema", SCHEMA, document["schema"])
    if not isinstance(document["names"], dict):
        raise _fault(path, "/names", "an object", document["names"])
    return {name: _pin(path, name, value) for name, value in document["names"].items()}


def write_pin(path: str, name: str, pin: Pin, *, on_wait: Callable[[str], None] | None = None) -> Pin | None:
    """Let the lock file pin name, and keep its other names; return what it pinned before. Whole, or not at all.

    The file is made if there is none. A link at its place is replaced, not what it leads to. Other processes that
    write it wait; on_wait is called then, once. Raises: as read_pins; LocalFailure when it cannot be written.
    """
    from ctxpack_cache.pathlock import PathLocks  # a pinned hit writes nothing

    parse_name(name)
    with PathLocks([path], on_wait):
        pins = read_pins(path)
        before = pins.get(name)
        if before != pin:
            names = {each: dict(pinned._asdict()) for each, pinned in (pins | {name: pin}).items()}
            _write(path, canonical_json({"names": names, "schema": SCHEMA}))
    return before


def _write(path: str, data: bytes) -> None:
    draft = os.path.join(os.path.dirname(path), f".{LOCK_FILE}.{os.urandom(4).hex()}.new")
    with translated("the lock file cannot be written", path, elsewhere="pull without --lock"):
        try:
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            try:
                write_all(fd, data)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.replace(draft, path)
        except BaseException:
            if os.path.lexists(draft):
                os.unlink(draft)
            raise


def _pin(path: str, name: str, value: Any) -> Pin:
    at = pointer("/names", name)
    try:
        parse_name(name)
    except InvalidInput as error:
        raise _fault(path, at, "a name that `ctxpack tag` gives", name) from error
    _require_members(path, at, value, ("outputs", "uri"))
    try:
        uri = parse_uri(value["uri"])
    except InvalidInput as error:
        raise _fault(path, f"{at}/uri", error.expected, value["uri"]) from error
    try:
        return Pin(uri, parse_digest(value["outputs"]))
    except InvalidInput as error:
        raise _fault(path, f"{at}/outputs", error.expected, value["outputs"]) from error


def _require_members(path: str, at: str, value: Any, names: tuple[str, ...]) -> None:
    expected = f"an object with {' and '.join(names)}"
    if not isinstance(value, dict):
        raise _fault(path, at, expected, value)
    missing, unknown = sorted(set(names) - set(value)), sorted(set(value) - set(names))
    if missing or unknown:
        raise _fault(path, pointer(at, unknown[0]) if unknown else at, expected, f"no {missing[0]}" if missing else "")


def _fault(path: str, at: str, expected: str, got: Any) -> InvalidInput:
    text = got if isinstance(got, str) else repr(got)
    return InvalidInput(
        "no lock file that this version reads",
        where=f"{path}, {at}" if at else path,
        expected=expected,
        got=text[:120],
        fix=_FIX,
        code="E_LOCK_FILE",
    )

"""The signer: who signs claims. Its private key is made once, and opened before a command runs.

The key is the file of ``--key``, else the text in CTXPACK_KEY, else the file that the user's own settings name. Its
password is CTXPACK_KEY_PASSWORD, else it is asked for on the terminal, never on stdin. Neither is ever in a message.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ctxpack_identity import InvalidInput, LocalFailure, printable
from ctxpack_identity.disk import local_failure, translated, write_all
from ctxpack_identity.home import with_home
from ctxpack_identity.secrets import keep_from_children
from ctxpack_pantry.context import Notice, ignore
from ctxpack_pantry.settings import Settings
from ctxpack_trust import (
    PrivateKey,
    canonical_repository,
    generate_key,
    is_encrypted,
    is_within,
    parse_private_key,
)

__all__ = [
    "KEY",
    "PASSWORD",
    "KeyFiles",
    "Keygen",
    "PrivateKey",
    "key_files",
    "keygen",
    "open_signer",
    "signs_by_default",
]

KEY = "CTXPACK_KEY"
PASSWORD = "CTXPACK_KEY_PASSWORD"
_TRIES = 3  # at typing a password, as ssh gives
_MAX_KEY = 1 << 16  # bytes; a key in PEM has less than one KiB
_LONGEST = 1000  # bytes of a password; OpenSSL reads 1023
_PRIVATE, _PUBLIC = ".key", ".pub"
_ELSEWHERE = "name another folder"

AskPassword = Callable[[str], str]
"""Asks on the terminal for a password, with a prompt. Raises: InvalidInput (E_PASSWORD) when there is none."""


class KeyFiles(NamedTuple):
    """The paths of a private key and of its public key."""

    private: str
    public: str


class Keygen(NamedTuple):
    """A new key. private, public: the paths of its files; key_id: SHA-256 of the public key, 64 hexadecimal digits."""

    private: str
    public: str
    key_id: str
    algorithm: str = "ecdsa-p256"

    def as_json(self) -> dict[str, Any]:
        return {"schema": "ctxpack/keygen/v1", **self._asdict()}


def open_signer(
    settings: Settings,
    environ: Mapping[str, str],
    *,
    key: str | None = None,
    ask_password: AskPassword | None = None,
    notice: Notice = ignore,
) -> PrivateKey:
    """Return the private key to sign with. Other processes of this user cannot read this one from then on.

    key: path of a key file, of the option --key. ask_password: None where nobody can be asked. notice: is told of a key
    file without a password.
    Raises: InvalidInput: E_NO_KEY when no key is named; E_KEY when it is no private key, cannot be read, or is open to
    other users; E_PASSWORD when its password is wrong, or is not given and nobody can be asked.
    """
    keep_from_children()
    pem, where = _key_text(settings, environ, key)
    if not is_encrypted(pem):
        signer = parse_private_key(pem, None, where=where)
        notice(f"{where} has no password: whoever reads it can sign as you")
        return signer
    password = environ.get(PASSWORD, "")
    if password:
        return parse_private_key(pem, os.fsencode(password), where=where)
    if ask_password is None:
        raise InvalidInput(
            "the key needs a password, and there is no terminal to ask for it",
            where=where,
            fix=f"set {PASSWORD}",
            code="E_PASSWORD",
        )
    return _opened(pem, where, ask_password)


def key_files(name: str) -> KeyFiles:
    """Return the files of a new key called name, which is a path, with ``.key`` and ``.pub`` or without.

    Raises: InvalidInput when it is no name, or one of them exists.

    >>> key_files("team/ci") == key_files("team/ci.key") == KeyFiles("team/ci.key", "team/ci.pub")
    True
    """
    base = name.removesuffix(_PRIVATE) if name.endswith(_PRIVATE) else name.removesuffix(_PUBLIC)
    if os.path.basename(base) in ("", ".", "..") or not base.isprintable():
        raise InvalidInput(
            "not a name for a key",
            where=repr(name)[:120],
            expected="a path such as ci or keys/ci, of characters that print",
            fix="choose another one",
            code="E_KEY_NAME",
        )
    files = KeyFiles(base + _PRIVATE, base + _PUBLIC)
    for path in files:
        if os.path.lexists(path):
            raise _exists(files, path)
    return files


def keygen(name: str, password: bytes, *, algorithm: str = "ecdsa-p256") -> Keygen:
    """Make a key, and write ``NAME.key`` (PKCS #8 under the password, for this user alone) and ``NAME.pub``.

    name: see key_files; a folder that is missing is made. algorithm: one of ctxpack_trust.ALGORITHMS.
    Raises: InvalidInput as key_files does, when one of the files exists, or for a password that is empty or has more
    than 1,000 bytes; LocalFailure when the disk fails. Then neither file is left.
    """
    files = key_files(name)
    if not 0 < len(password) <= _LONGEST:
        raise InvalidInput(
            "the password is empty" if not password else f"the password has more than {_LONGEST} bytes",
            where=files.private,
            fix="choose a password" if not password else "choose a shorter one",
            code="E_PASSWORD",
        )
    keep_from_children()
    key = generate_key(algorithm)
    # The public key first: whoever is killed in between leaves no private key that looks whole, and nothing secret.
    texts = {files.public: (key.public.as_pem(), 0o644), files.private: (key.as_pem(password), 0o600)}
    made: list[str] = []
    with translated("the key cannot be written", files.private, elsewhere=_ELSEWHERE):
        os.makedirs(os.path.dirname(files.private) or ".", mode=0o700, exist_ok=True)
    try:
        for path, (text, mode) in texts.items():
            _write_new(path, text, mode, made)
    except BaseException as error:
        for path in made:
            os.unlink(path)
        if isinstance(error, FileExistsError):
            raise _exists(files, os.fsdecode(error.filename)) from error
        if isinstance(error, OSError):
            raise local_failure(error, "the key cannot be written", files.private, elsewhere=_ELSEWHERE) from error
        raise
    return Keygen(*files, key.public.key_id, key.public.algorithm)


def signs_by_default(settings: Settings, repository: str) -> bool:
    """Return whether the user's settings say that `push` signs what it pushes to a repository.

    repository: the name of a target. Raises: InvalidInput when the setting has what is no registry or repository.
    """
    name = _canonical(repository) if settings.sign else ""
    return any(is_within(_canonical(scope), name) for scope in settings.sign)


def _canonical(name: str) -> str:
    if name.startswith("oci:"):
        return f"oci:{os.path.realpath(name.removeprefix('oci:'))}"
    return canonical_repository(name)


def _key_text(settings: Settings, environ: Mapping[str, str], key: str | None) -> tuple[bytes, str]:
    """Return the text of the key that was named first, and where it is from."""
    if key is not None:
        path = with_home(key, environ) or key
        return _read(path), path
    text = environ.get(KEY, "")
    if text:
        if "-----BEGIN" not in text:
            raise InvalidInput(
                "not the text of a key",
                where=KEY,
                expected="what the file NAME.key holds",
                fix="name a file with --key instead",
                code="E_KEY",
            )
        # Some CI systems keep a secret on one line.
        return os.fsencode(text if "\n" in text else text.replace("\\n", "\n")), KEY
    if settings.key.value:
        return _read(settings.key.value), settings.key.value
    raise InvalidInput(
        "no key to sign with",
        where="--key",
        fix=f'name its file with --key, give its text in {KEY}, or write key = "…" in your own settings file; '
        "`ctxpack keygen NAME` makes one",
        code="E_NO_KEY",
    )


def _read(path: str) -> bytes:
    """Return the content of a key file, or of a pipe, as `--key <(…)` names it."""
    try:
        with open(path, "rb", buffering=0) as file:
            found = os.fstat(file.fileno())
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISFIFO(found.st_mode)):
                raise _unusable(path, "it is not a file")
            _require_private(path, found)
            data = b""
            while len(data) <= _MAX_KEY and (more := file.read(_MAX_KEY + 1 - len(data))):
                data += more
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else None
        raise _unusable(path, reason or "not a path") from error
    if len(data) > _MAX_KEY:
        raise _unusable(path, f"it has more than {_MAX_KEY} bytes")
    return data


def _unusable(path: str, reason: str) -> InvalidInput:
    return InvalidInput(
        f"the key cannot be read: {reason}",
        where=path,
        fix="name the file NAME.key that `ctxpack keygen` wrote",
        code="E_KEY",
    )


def _require_private(path: str, found: os.stat_result) -> None:
    """Raise InvalidInput when other users may read or write a key file, as ssh does.

    The group may read what another user owns: so container engines hand secrets over.
    """
    others = 0o077 if found.st_uid == os.geteuid() else 0o007
    if found.st_mode & others:
        raise InvalidInput(
            "other users may read or change the key",
            where=path,
            expected="mode 0600",
            got=f"{stat.S_IMODE(found.st_mode):04o}",
            fix=f"chmod 600 {path}; if others had access to it, make another key",
            code="E_KEY",
        )


def _opened(pem: bytes, where: str, ask_password: AskPassword) -> PrivateKey:
    prompt = f"Password of {printable(where)}: "
    for left in reversed(range(_TRIES)):
        password = ask_password(prompt).encode(errors="surrogateescape")
        try:
            return parse_private_key(pem, password, where=where)
        except InvalidInput as error:
            if error.code != "E_PASSWORD" or not left:
                raise
        prompt = f"Wrong. Password of {printable(where)}: "
    raise AssertionError("the last try returns or raises")


def _write_new(path: str, text: bytes, mode: int, made: list[str]) -> None:
    """Write a file that does not exist, and note its path in made as soon as it does. Raises: OSError."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    made.append(path)
    try:
        if os.fstat(file).st_mode & 0o777 & ~mode:
            raise LocalFailure("this file system keeps no file from other users", where=path, fix=_ELSEWHERE)
        write_all(file, text)
        os.fsync(file)
    finally:
        os.close(file)


def _exists(files: KeyFiles, path: str) -> InvalidInput:
    """Return the error for a file that is there; it says what may be missing beside it, as after a kill."""
    what, fix = "is there already", "choose another name, or move it away"
    if not os.path.lexists(files.private):
        what = f"is there already, without {os.path.basename(files.private)}"
        fix = f"{fix}; if there is no such key anywhere, since keygen was interrupted, remove it"
    elif not os.path.lexists(files.public):
        what = f"is there already, without {os.path.basename(files.public)}"
        command = shlex.join(["openssl", "pkey", "-in", files.private, "-pubout", "-out", files.public])
        fix = f"{fix}; `{command}` makes its public key anew"
    return InvalidInput(
        what, where=path, expected="nothing: a key that is overwritten is lost", fix=fix, code="E_KEY_EXISTS"
    )

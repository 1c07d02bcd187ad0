"""A key is made once, readable by its user alone; it is found in one order, and opened or refused at once."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as pem
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ctxpack_identity import CtxPackError, InvalidInput, LocalFailure
from ctxpack_pantry import Settings
from ctxpack_pantry.settings import Setting
from ctxpack_pantry.signer import Keygen, PrivateKey, key_files, keygen, open_signer, signs_by_default
from ctxpack_trust import generate_key, parse_private_key, parse_public_key

PASSWORD = b"correct horse"
WRONG = "wr0ng-s3cret"
NOTHING = Settings(Setting("a.test/x", ""), Setting("/c", ""))


@pytest.fixture(autouse=True)
def closed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Count the calls of keep_from_children, which would close the process of the tests for good."""
    calls: list[bool] = []
    monkeypatch.setattr("ctxpack_pantry.signer.keep_from_children", lambda: calls.append(True))
    return calls


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let passwords be cheap to try; ctxpack-trust tests what they really cost."""
    monkeypatch.setattr("ctxpack_trust.pkcs8._COST", 1 << 4)


@pytest.fixture
def name(tmp_path: Path) -> str:
    """The name of a key that does not exist."""
    return str(tmp_path / "ci")


@pytest.fixture
def made(name: str) -> Keygen:
    """A key under PASSWORD."""
    return keygen(name, PASSWORD)


def plain(path: Path, key: PrivateKey | None = None) -> str:
    """Write a key without a password, as openssl does, and return its path."""
    path.write_bytes(unprotected(key or generate_key()))
    path.chmod(0o600)
    return str(path)


def unprotected(key: PrivateKey) -> bytes:
    inner = key._key  # nothing else of ours writes one
    return inner.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption())


def typing(*passwords: str) -> tuple[Callable[[str], str], list[str]]:
    """Return what types these passwords one after the other, and the prompts it saw."""
    prompts: list[str] = []
    left = iter(passwords)

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return next(left)

    return ask, prompts


# -- keygen -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["ecdsa-p256", "ed25519"])
def test_a_new_key_is_two_files(name: str, algorithm: str) -> None:
    made = keygen(name, PASSWORD, algorithm=algorithm)
    assert (made.private, made.public, made.algorithm) == (f"{name}.key", f"{name}.pub", algorithm)
    private, public = Path(made.private).read_bytes(), Path(made.public).read_bytes()
    assert private.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    key = parse_private_key(private, PASSWORD, where="test")
    assert key.public == parse_public_key(public, where="test")
    assert key.public.key_id == made.key_id
    assert made.as_json() == {
        "schema": "ctxpack/keygen/v1",
        "private": f"{name}.key",
        "public": f"{name}.pub",
        "key_id": made.key_id,
        "algorithm": algorithm,
    }


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_only_the_user_can_read_the_private_key(name: str, mask: int) -> None:
    before = os.umask(mask)
    try:
        made = keygen(name, PASSWORD)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(made.private).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(made.public).st_mode) == 0o644 & ~mask


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("ci", "ci"),
        ("ci.key", "ci"),
        ("ci.pub", "ci"),
        ("team/ci", "team/ci"),
        ("team/deep/ci.key", "team/deep/ci"),
        ("ci.v2", "ci.v2"),
        ("ci.key.key", "ci.key"),
        ("./ci", "./ci"),
        (".hidden", ".hidden"),
        ("a b", "a b"),
    ],
)
def test_a_name_may_have_folders_and_a_suffix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, base: str
) -> None:
    monkeypatch.chdir(tmp_path)
    made = keygen(given, PASSWORD)
    assert (made.private, made.public) == (f"{base}.key", f"{base}.pub")
    assert all(map(os.path.isfile, (made.private, made.public)))


@pytest.mark.parametrize(
    "given", ["", "/", "keys/", ".", "..", "a/..", ".key", ".pub", "keys/.key", "a\0b", "a\nb", "\x1b[m"]
)
def test_what_is_no_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput) as caught:
        keygen(given, PASSWORD)
    assert caught.value.code == "E_KEY_NAME"
    assert list(tmp_path.iterdir()) == [tmp_path / "home"]


@pytest.mark.parametrize("suffix", [".key", ".pub"])
@pytest.mark.parametrize("there", ["file", "folder", "link"])
def test_nothing_is_overwritten(tmp_path: Path, name: str, suffix: str, there: str) -> None:
    path = Path(name + suffix)
    if there == "file":
        path.write_text("mine")
    elif there == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InvalidInput, match=r"is there already, without ci\.\w+: expected nothing") as caught:
        keygen(name, PASSWORD)
    assert ("openssl pkey -in" in caught.value.fix) is (suffix == ".key")
    assert ("keygen was interrupted, remove it" in caught.value.fix) is (suffix == ".pub")
    assert (caught.value.code, caught.value.where) == ("E_KEY_EXISTS", str(path))
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(["home", path.name])
    assert there != "file" or path.read_text() == "mine"


@pytest.mark.parametrize("suffix", [".key", ".pub"])
def test_a_file_that_comes_meanwhile_is_not_overwritten_and_nothing_is_left(
    tmp_path: Path, name: str, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = key_files(name)
    Path(name + suffix).write_text("mine")
    monkeypatch.setattr("ctxpack_pantry.signer.key_files", lambda name: files)
    with pytest.raises(InvalidInput) as caught:
        keygen(name, PASSWORD)
    assert (caught.value.code, caught.value.where) == ("E_KEY_EXISTS", name + suffix)
    assert [one.read_text() for one in tmp_path.iterdir() if one.is_file()] == ["mine"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("at", [1, 2])
def test_when_the_disk_fails_or_the_user_neither_file_is_left(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, error: BaseException, at: int
) -> None:
    calls = []

    def fail(file: int) -> None:
        calls.append(file)
        if len(calls) == at:
            raise error

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(LocalFailure if isinstance(error, OSError) else KeyboardInterrupt):
        keygen(name, PASSWORD)
    assert [one.name for one in tmp_path.iterdir()] == ["home"]


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocalFailure, match="the key cannot be written"):
        keygen(str(tmp_path / "file" / "ci"), PASSWORD)


@pytest.mark.parametrize(("password", "what"), [(b"", "is empty"), (b"x" * 1001, "has more than 1000 bytes")])
def test_a_password_that_protects_nothing_is_refused(name: str, password: bytes, what: str) -> None:
    with pytest.raises(InvalidInput, match=f"the password {what}") as caught:
        keygen(name, password)
    assert caught.value.code == "E_PASSWORD"
    assert not os.path.exists(f"{name}.key")


@given(st.binary(min_size=1, max_size=1000))
@hypothesis_settings(max_examples=8, deadline=None)
def test_any_other_password_opens_what_it_closed(tmp_path_factory: pytest.TempPathFactory, password: bytes) -> None:
    made = keygen(str(tmp_path_factory.mktemp("keys") / "ci"), password)
    assert parse_private_key(Path(made.private).read_bytes(), password, where="").public.key_id == made.key_id


# -- open_signer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("setting", [False, True])
def test_the_first_key_that_is_named_is_taken(tmp_path: Path, flag: bool, text: bool, setting: bool) -> None:
    keys = {name: generate_key() for name in ("flag", "text", "setting")}
    environ = {"CTXPACK_KEY": unprotected(keys["text"]).decode()} if text else {}
    of_user = NOTHING._replace(
        key=Setting(plain(tmp_path / "of_user", keys["setting"]), "file") if setting else NOTHING.key
    )
    given = plain(tmp_path / "given", keys["flag"]) if flag else None
    if not (flag or text or setting):
        with pytest.raises(InvalidInput, match="no key to sign with") as caught:
            open_signer(of_user, environ)
        assert caught.value.code == "E_NO_KEY"
        return
    signer = open_signer(of_user, environ, key=given)
    assert signer.public == keys["flag" if flag else "text" if text else "setting"].public


def test_the_password_comes_from_the_environment_or_is_asked_for(made: Keygen) -> None:
    given = {"CTXPACK_KEY_PASSWORD": PASSWORD.decode()}
    assert open_signer(NOTHING, given, key=made.private).public.key_id == made.key_id
    ask, prompts = typing(PASSWORD.decode())
    assert open_signer(NOTHING, {}, key=made.private, ask_password=ask).public.key_id == made.key_id
    assert prompts == [f"Password of {made.private}: "]
    with pytest.raises(InvalidInput, match="needs a password, and there is no terminal to ask for it") as caught:
        open_signer(NOTHING, {}, key=made.private)
    assert caught.value.code == "E_PASSWORD"


def test_with_a_password_in_the_environment_nobody_is_asked(made: Keygen) -> None:
    ask, prompts = typing()
    with pytest.raises(InvalidInput) as caught:
        open_signer(NOTHING, {"CTXPACK_KEY_PASSWORD": WRONG}, key=made.private, ask_password=ask)
    assert (caught.value.code, prompts) == ("E_PASSWORD", [])


def test_a_password_may_be_mistyped_twice(made: Keygen) -> None:
    ask, prompts = typing(WRONG, "", PASSWORD.decode())
    assert open_signer(NOTHING, {}, key=made.private, ask_password=ask).public.key_id == made.key_id
    assert len(prompts) == 3
    ask, prompts = typing(*[WRONG] * 5)
    with pytest.raises(InvalidInput) as caught:
        open_signer(NOTHING, {}, key=made.private, ask_password=ask)
    assert (caught.value.code, len(prompts)) == ("E_PASSWORD", 3)


def test_who_cannot_be_asked_is_asked_once(made: Keygen) -> None:
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        raise InvalidInput("there is no terminal", code="E_PASSWORD")

    with pytest.raises(InvalidInput, match="there is no terminal"):
        open_signer(NOTHING, {}, key=made.private, ask_password=ask)
    assert len(asked) == 1


@pytest.mark.parametrize("password", ["größe", "pw\udcff", " pw ", "pw\n"])
def test_the_bytes_of_a_password_are_those_of_the_variable(name: str, password: str) -> None:
    made = keygen(name, os.fsencode(password))
    assert open_signer(NOTHING, {"CTXPACK_KEY_PASSWORD": password}, key=made.private).public.key_id == made.key_id
    ask, _ = typing(password)
    assert open_signer(NOTHING, {}, key=made.private, ask_password=ask).public.key_id == made.key_id


def test_a_key_without_a_password_is_taken_and_said(tmp_path: Path) -> None:
    path, said = plain(tmp_path / "plain.key"), list[str]()
    open_signer(NOTHING, {"CTXPACK_KEY_PASSWORD": "x"}, key=path, notice=said.append)
    assert said == [f"{path} has no password: whoever reads it can sign as you"]


@pytest.mark.parametrize("form", ["{}", "\n{}\n\n", "one line"])
def test_ci_hands_the_text_of_a_key_over(made: Keygen, form: str) -> None:
    text = Path(made.private).read_text()
    text = text.replace("\n", "\\n") if form == "one line" else form.format(text)
    environ = {"CTXPACK_KEY": text, "CTXPACK_KEY_PASSWORD": PASSWORD.decode()}
    assert open_signer(NOTHING, environ).public.key_id == made.key_id


def test_a_home_folder_that_no_shell_saw_is_found(made: Keygen) -> None:
    environ = {"HOME": os.path.dirname(made.private), "CTXPACK_KEY_PASSWORD": PASSWORD.decode()}
    assert open_signer(NOTHING, environ, key="~/ci.key").public.key_id == made.key_id


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o601, 0o644, 0o660, 0o777])
def test_a_key_that_others_may_read_or_write_is_refused_as_ssh_does(made: Keygen, mode: int) -> None:
    os.chmod(made.private, mode)
    with pytest.raises(InvalidInput, match=f"expected mode 0600, got {mode:04o}; chmod 600") as caught:
        open_signer(NOTHING, {"CTXPACK_KEY_PASSWORD": PASSWORD.decode()}, key=made.private)
    assert caught.value.code == "E_KEY"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize(("mode", "taken"), [(0o440, True), (0o640, True), (0o444, False), (0o602, False)])
def test_a_container_engine_may_hand_a_key_over_to_a_group(made: Keygen, mode: int, taken: bool) -> None:
    os.chown(made.private, 65534, 65534)
    os.chmod(made.private, mode)
    given = {"CTXPACK_KEY_PASSWORD": PASSWORD.decode()}
    if taken:
        assert open_signer(NOTHING, given, key=made.private).public.key_id == made.key_id
        return
    with pytest.raises(InvalidInput, match="other users may read or change the key"):
        open_signer(NOTHING, given, key=made.private)


def test_a_key_may_come_through_a_pipe_or_a_link(tmp_path: Path, made: Keygen) -> None:
    reader, writer = os.pipe()
    os.write(writer, Path(made.private).read_bytes())
    os.close(writer)
    given = {"CTXPACK_KEY_PASSWORD": PASSWORD.decode()}
    assert open_signer(NOTHING, given, key=f"/dev/fd/{reader}").public.key_id == made.key_id
    os.close(reader)
    (tmp_path / "link").symlink_to(made.private)
    assert open_signer(NOTHING, given, key=str(tmp_path / "link")).public.key_id == made.key_id


@pytest.mark.parametrize("path", ["missing", "home", "a\0b", "", "home/x/y", "/dev/null", "public", "rubbish", "huge"])
def test_what_is_no_private_key_is_refused(tmp_path: Path, made: Keygen, path: str) -> None:
    for name, data in (
        ("rubbish", b"s3cret rubbish"),
        ("huge", b"x" * 70_000),
        ("public", Path(made.public).read_bytes()),
    ):
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o600)
    given = path if path.startswith("/") or not path else f"{tmp_path}/{path}"
    with pytest.raises(InvalidInput) as caught:
        open_signer(NOTHING, {}, key=given)
    assert caught.value.code == "E_KEY"
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["/home/ann/s3cret.key", "s3cret", "-----BEGIN s3cret-----", "-----BEGIN PRIVATE KEY-----\ns3cret\n"]
)
def test_no_error_shows_what_the_variable_holds(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        open_signer(NOTHING, {"CTXPACK_KEY": text})
    assert caught.value.code == "E_KEY"
    assert "s3cret" not in "".join(_texts(caught.value))


def test_no_error_and_no_value_shows_a_key_or_a_password(made: Keygen) -> None:
    text = Path(made.private).read_text()
    with pytest.raises(InvalidInput) as caught:
        open_signer(NOTHING, {"CTXPACK_KEY": text, "CTXPACK_KEY_PASSWORD": WRONG})
    signer = open_signer(NOTHING, {"CTXPACK_KEY": text, "CTXPACK_KEY_PASSWORD": PASSWORD.decode()})
    secrets = {WRONG, PASSWORD.decode(), re.sub(r"-----.*-----|\s", "", text)[:20]}
    for shown in (*_texts(caught.value), repr(signer), repr(made), str(made.as_json())):
        assert not [secret for secret in secrets if secret in shown]


def _texts(error: CtxPackError) -> list[str]:
    chain: list[str] = []
    at: BaseException | None = error
    while at is not None:
        chain += [str(at), repr(at)]
        at = at.__cause__ or at.__context__
    return [*chain, error.where, error.got, error.expected, error.fix]


def test_the_process_is_closed_before_a_key_is_read(closed: list[bool]) -> None:
    with pytest.raises(InvalidInput):
        open_signer(NOTHING, {})
    assert closed == [True]


def test_the_process_that_makes_a_key_is_closed(closed: list[bool], made: Keygen) -> None:
    assert closed == [True]


# -- sign by default --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "repository", "signed"),
    [
        ("ghcr.io/team", "ghcr.io/team/packs", True),
        ("ghcr.io/team", "ghcr.io/team", True),
        ("ghcr.io/team", "ghcr.io/teams/packs", False),
        ("ghcr.io", "ghcr.io/team/packs", True),
        ("GHCR.io/team/", "ghcr.io:443/team/packs", True),
        ("https://ghcr.io/team", "ghcr.io/team/packs", True),
        ("index.docker.io/team", "docker.io/team/packs", True),
        ("localhost:5000", "localhost:5000/packs", True),
        ("localhost:5000", "localhost:5001/packs", False),
        ("oci:/srv/packs", "oci:/srv/packs", True),
        ("oci:/srv/../srv/packs", "oci:/srv/packs/", True),
        ("oci:/srv/pack", "oci:/srv/packs", False),
    ],
)
def test_a_scope_is_matched_by_whole_segments(scope: str, repository: str, signed: bool) -> None:
    assert signs_by_default(NOTHING._replace(sign=("other.test/x", scope)), repository) is signed


def test_a_layout_is_the_folder_that_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert signs_by_default(NOTHING._replace(sign=(f"oci:{tmp_path}/link/packs",)), f"oci:{tmp_path}/packs")


def test_without_the_setting_nothing_is_signed() -> None:
    assert not signs_by_default(NOTHING, "any name")


def test_a_scope_that_is_no_name_is_an_error_and_not_unsigned() -> None:
    with pytest.raises(InvalidInput):
        signs_by_default(NOTHING._replace(sign=("Not A Name/",)), "ghcr.io/team")

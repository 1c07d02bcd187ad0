"""tools/test.py and the demo install from an index behind a private certificate authority, however it is known here."""

from __future__ import annotations

import io
import os
import shutil
import ssl
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from toolmodule import load_tool

import authorities
from loopback import LoopbackServer
from sandbox import private_environment

ROOT = Path(__file__).resolve().parent.parent
TLS = Path(__file__).with_name("tls")
AUTHORITY = TLS / "authority.pem"
SERVER = TLS / "server.pem"  # key and certificate of localhost and 127.0.0.1, which only AUTHORITY vouches for

WHEEL = "morsel-1.0-py3-none-any.whl"


def wheel() -> bytes:
    """Return a wheel with one empty module."""
    about = "morsel-1.0.dist-info"
    files = {
        "morsel.py": "",
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: morsel\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{about}/RECORD"])
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, text in [*files.items(), (f"{about}/RECORD", record)]:
            archive.writestr(name, text)
    return written.getvalue()


PAGES = {
    "/simple/morsel/": ("text/html", f'<!DOCTYPE html><a href="/{WHEEL}">{WHEEL}</a>'.encode()),
    f"/{WHEEL}": ("application/octet-stream", wheel()),
}


class Index(BaseHTTPRequestHandler):
    """A simple index of one project. Source: PEP 503."""

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(PAGES[self.path][1])

    def do_HEAD(self) -> None:
        kind, body = PAGES[self.path]
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that do not trust the certificate."""


@pytest.fixture(scope="module")
def index() -> Iterator[str]:
    """The URL of an index behind TLS."""
    server = QuietServer(("127.0.0.1", 0), Index)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(SERVER)
    # The handshake belongs to the thread of the connection: a client that refuses it must not end the server.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with LoopbackServer(server) as running:
        yield f"https://{running.address}/simple/"


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a new account, whose environment this process has."""
    home = tmp_path / "home"
    environment = private_environment(home)
    for name in os.environ:
        if name not in environment:
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return home


def contained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str = "test.py") -> dict[str, str]:
    """Return the environment in which a tool starts pip and uv, whose files shall be below tmp_path."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    module = load_tool(tool)
    monkeypatch.setattr(module, "WORK", tmp_path / ".work")
    environment: dict[str, str] = module.contained_environment()
    return environment


def program(name: str, environment: Mapping[str, str]) -> str:
    """Return the path of a program beside the uv that tools/test.py has installed."""
    uv = shutil.which("uv", path=environment["PATH"])
    assert uv, "uv is not on PATH: run this by `python3 tools/test.py integration`"
    return str(Path(uv).with_name(name))


def pip_downloads(index: str, environment: Mapping[str, str], into: Path) -> str:
    """Return what pip says when it cannot download the project, "" when it can."""
    pip = [program("python", environment), "-m", "pip", "--disable-pip-version-check", "-v"]
    options = ["--no-cache-dir", "--retries", "0", "--index-url", index, "--dest", str(into)]
    return failure([*pip, "download", *options, "morsel"], environment)


def uv_installs(index: str, environment: Mapping[str, str], into: Path) -> str:
    """Return what uv says when it cannot install the project, "" when it can."""
    options = ["--quiet", "--no-cache", "--python", sys.executable, "--index-url", index, "--target", str(into)]
    return failure([program("uv", environment), "pip", "install", *options, "morsel"], environment)


def failure(command: list[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, env={**environment, "UV_HTTP_RETRIES": "0"}, capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def settings(home: Path, place: str) -> Path:
    """Let a file of pip's settings name the authority; return it."""
    file = home / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"[global]\ncert = {AUTHORITY}\n", encoding="utf-8")
    return file


def known_by(how: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the account know the authority: by a variable, a file of pip's settings, or the store of the machine."""
    other = home / "other.pem"  # what a tool such as conda sets by itself
    shutil.copy(ROOT / "packages/ctxpack-oci/tests/tls/loopback.pem", other)
    match how.split():
        case ["SSL_CERT_DIR"]:
            (home / "authorities").mkdir()
            shutil.copy(AUTHORITY, home / "authorities" / "ours.crt")
            (home / "authorities" / "dead-link.pem").symlink_to("nowhere")
            (home / "authorities" / "broken.pem").write_text(AUTHORITY.read_text("ascii").replace("A", "B"))
            monkeypatch.setenv("SSL_CERT_DIR", f"{home / 'nowhere'}:{home / 'authorities'}")
        case ["PIP_CONFIG_FILE"]:
            monkeypatch.setenv("PIP_CONFIG_FILE", str(settings(home, "pip.ini")))
        case ["store"]:
            monkeypatch.setattr(authorities, "SYSTEM_STORES", (str(home / "nowhere"), str(AUTHORITY)))
        case [variable, "beside", another]:
            monkeypatch.setenv(variable, str(AUTHORITY))
            monkeypatch.setenv(another, str(other))
        case [variable] if variable.isupper():
            monkeypatch.setenv(variable, str(AUTHORITY))
        case [place]:
            settings(home, place)


WAYS = [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT beside SSL_CERT_FILE",
    "PIP_CERT beside REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE beside PIP_CERT",
    ".config/pip/pip.conf",
    ".pip/pip.conf",
    "PIP_CONFIG_FILE",
    "store",
]


@pytest.mark.parametrize("how", WAYS)
def test_pip_and_uv_trust_an_authority_that_is_known_by(
    how: str, account: Path, index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known_by(how, account, monkeypatch)
    environment = contained(tmp_path, monkeypatch)
    assert pip_downloads(index, environment, tmp_path / "pip") == ""
    assert (tmp_path / "pip" / WHEEL).exists()
    assert uv_installs(index, environment, tmp_path / "uv") == ""
    assert (tmp_path / "uv" / "morsel.py").exists()


def test_an_authority_that_nothing_names_is_trusted_by_neither(
    account: Path, index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = contained(tmp_path, monkeypatch)
    assert "CERTIFICATE_VERIFY_FAILED" in pip_downloads(index, environment, tmp_path / "pip")
    assert "invalid peer certificate: UnknownIssuer" in uv_installs(index, environment, tmp_path / "uv")


@pytest.mark.parametrize("how", ["SSL_CERT_FILE", "store"])  # those that an older pip does not know
def test_the_demo_trusts_it_too(
    how: str, account: Path, index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known_by(how, account, monkeypatch)
    environment = contained(tmp_path, monkeypatch, "demo/environment.py")
    assert pip_downloads(index, environment, tmp_path / "pip") == ""


def test_a_machine_without_any_authority_is_left_alone(
    account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authorities, "SYSTEM_STORES", ())
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    assert not set(contained(tmp_path, monkeypatch)) & {*authorities.FILE_VARIABLES, authorities.FOLDERS_VARIABLE}


def test_a_name_that_leads_nowhere_is_told(
    account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_CERT", "gone.pem")
    contained(tmp_path, monkeypatch)
    assert capsys.readouterr().err == "PIP_CERT names gone.pem, which cannot be read: No such file or directory\n"

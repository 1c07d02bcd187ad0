"""The programs that take part: CtxPack, as a user installs it, and its peers, as far as they can be had.

Everything that is fetched stays in one folder. Nothing is installed into the system.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

__all__ = ["DEBIAN", "GO", "PYTHON", "SYSTEM", "Absent", "Programs", "check_out", "install_commit", "install_ctxpack"]

CLONE = Path(__file__).resolve().parents[2]

# These must be on PATH; they are never fetched.
SYSTEM = ("curl", "git", "gzip", "openssl", "tar")

# Command -> Debian package, which is unpacked without root, with the libraries that the machine lacks.
DEBIAN = {"b3sum": "b3sum", "igzip": "isal", "nix-hash": "nix-bin", "pigz": "pigz", "skopeo": "skopeo"}

# Name -> what pip installs, each in an environment of its own.
PYTHON = {
    "oras-py": ("oras==0.2.43",),
    "dvc": ("dvc==3.67.1",),
    "joblib": ("joblib==1.6.0",),
    "model-signing": ("model-signing==1.1.1", "pyopenssl"),  # imports the latter without declaring it
}

GO = {"oras": "oras.land/oras/cmd/oras@v1.2.3"}

VERSION_WIDTH = 60  # characters; curl also lists its libraries


class Absent(Exception):
    """A program that cannot be had; the text gives the reason."""


class Programs:
    """Finds peers, and can fetch those that are missing.

    folder: for the fetched programs. fetch: if False, only programs on PATH or in folder are found.
    """

    def __init__(self, folder: Path, *, fetch: bool) -> None:
        self.folder = folder
        self._fetch = fetch
        self._known: dict[str, Path | Absent] = {}

    @property
    def path(self) -> str:
        """PATH for commands that call programs by their names."""
        own = (self.folder / "debian" / "usr" / "bin", self.folder / "go" / "bin")
        return os.pathsep.join([*map(str, own), os.environ.get("PATH", os.defpath)])

    @property
    def libraries(self) -> str:
        """LD_LIBRARY_PATH for the programs from Debian packages."""
        shared = (self.folder / "debian" / "usr" / "lib").glob("*/*.so*")
        return os.pathsep.join(sorted({str(library.parent) for library in shared}))

    def find(self, name: str) -> Path:
        """Return the path of a program; of a Python peer, its command or its interpreter. Raises: Absent."""
        if name not in self._known:
            try:
                self._known[name] = self._find(name)
            except Absent as reason:
                self._known[name] = reason
        found = self._known[name]
        if isinstance(found, Absent):
            raise found
        return found

    def version(self, name: str) -> str:
        """Return the version of a program in one line, or the reason why it is absent."""
        try:
            found = self.find(name)
        except Absent as reason:
            return f"absent: {reason}"
        if name in PYTHON:
            return PYTHON[name][0]
        asked = [str(found), "version"] if name in ("oras", "openssl") else [str(found), "--version"]
        done = subprocess.run(
            asked, env=os.environ | {"LD_LIBRARY_PATH": self.libraries}, capture_output=True, text=True, check=False
        )
        output = (done.stdout or done.stderr).strip().splitlines()
        return " ".join(output[0].split())[:VERSION_WIDTH] if output else "unknown"

    def _find(self, name: str) -> Path:
        if name in PYTHON:
            return self._python_peer(name)
        found = shutil.which(name, path=self.path)
        if found is None and name not in SYSTEM:
            if not self._fetch:
                raise Absent("not on PATH, and --no-fetch was given")
            self._unpack_debian(DEBIAN[name]) if name in DEBIAN else self._build_go(name)
            found = shutil.which(name, path=self.path)
        if found is None:
            raise Absent("not on PATH" if name in SYSTEM else "the fetched package has no such command")
        return Path(found)

    def _python_peer(self, name: str) -> Path:
        home = self.folder / f"python-{name}"
        command = home / "bin" / ("dvc" if name == "dvc" else "python")
        if not (home / "complete").exists():
            if not self._fetch:
                raise Absent("not installed, and --no-fetch was given")
            venv.create(home, clear=True, with_pip=True)
            run([home / "bin" / "python", "-m", "pip", "--quiet", "install", *PYTHON[name]])
            (home / "complete").touch()
        return command

    def _build_go(self, name: str) -> None:
        if shutil.which("go") is None:
            raise Absent("go, which builds it, is not on PATH")
        run(["go", "install", GO[name]], {"GOBIN": str(self.folder / "go" / "bin")})

    def _unpack_debian(self, package: str) -> None:
        """Fetch a package and the packages that it needs and this machine lacks, without root."""
        for tool in ("apt-get", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise Absent(f"{tool}, which fetches it, is not on PATH")
        downloads = self.folder / "debian-packages"
        downloads.mkdir(parents=True, exist_ok=True)
        plan = run(["apt-get", "install", "--simulate", "--no-install-recommends", package])
        new = re.findall(r"^Inst (\S+) \(", plan, re.MULTILINE)  # an upgrade has "[old version]" there
        # As root, apt would switch to a user who may not write here, and warn.
        run(["apt-get", "-o", "APT::Sandbox::User=root", "download", *new], cwd=downloads)
        for archive in downloads.glob("*.deb"):
            run(["dpkg-deb", "-x", archive, self.folder / "debian"])
            archive.unlink()


def install_commit(commit: str, folder: Path) -> Path:
    """Install the packages of an earlier commit, as those of this clone; return the path of ctxpack. Raises: Absent."""
    source = check_out(commit, folder)
    return install_ctxpack(source.with_name("installed"), source)


def check_out(commit: str, folder: Path, clone: Path = CLONE) -> Path:
    """Return a folder below folder that has the files of a commit; made unless it is there. Raises: Absent."""
    name = run(["git", "rev-parse", "--verify", "--end-of-options", f"{commit}^{{commit}}"], cwd=clone).strip()
    home = folder.absolute() / name
    source, archive, done = home / "source", home / "source.tar", home / "complete"
    if not done.exists():
        shutil.rmtree(home, ignore_errors=True)
        source.mkdir(parents=True)
        run(["git", "archive", "--output", archive, name], cwd=clone)
        run(["tar", "--extract", "--file", archive, "--directory", source])
        archive.unlink()
        done.touch()
    return source


def install_ctxpack(folder: Path, clone: Path = CLONE) -> Path:
    """Install the packages of a clone, again if a source has changed; return the path of ctxpack.

    Not editable: the import hooks of an editable installation cost time at every start. Raises: Absent.
    """
    packages = sorted(project.parent for project in clone.glob("packages/*/pyproject.toml"))
    constraints = clone / "constraints.txt"
    python = folder / "bin" / "python"
    needs = _digest([constraints, *(package / "pyproject.toml" for package in packages)])
    if not _stamped(folder / "needs", needs):
        venv.create(folder, clear=True, with_pip=True)
        pip_install: list[str | Path] = [python, "-m", "pip", "--quiet", "install", "--constraint", constraints]
        run([*pip_install, "hatchling"])
        run([*pip_install, "--no-build-isolation", *packages])
        (folder / "needs").write_text(needs)
    source = _digest(sorted(path for package in packages for path in (package / "src").rglob("*.py")))
    if not _stamped(folder / "source", source):
        again = ["--no-deps", "--no-build-isolation", "--force-reinstall"]
        run([python, "-m", "pip", "--quiet", "install", *again, *packages])
        (folder / "source").write_text(source)
    return folder / "bin" / "ctxpack"


def run(command: Sequence[str | Path], environment: Mapping[str, str] = {}, cwd: Path | None = None) -> str:
    """Return the stdout of a command. Raises: Absent with the end of its stderr."""
    settings = {"PIP_CACHE_DIR": str(CLONE / ".work" / "cache" / "pip"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        [str(word) for word in command],
        env=settings | os.environ | dict(environment),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        output = " ".join((done.stderr or done.stdout).split())[-300:]
        raise Absent(f"`{Path(command[0]).name} {command[1]} …` failed: {output}")
    return done.stdout


def _stamped(stamp: Path, text: str) -> bool:
    return stamp.exists() and stamp.read_text() == text


def _digest(files: Iterable[Path]) -> str:
    total = hashlib.sha256(f"{sys.version}\0{CLONE}\0".encode())
    for file in files:
        total.update(f"{file}\0".encode() + file.read_bytes() + b"\0")
    return total.hexdigest()

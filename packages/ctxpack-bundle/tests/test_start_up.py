"""A name of the package loads only what that name needs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import pytest

CODECS = ("isal", "pyfastcdc", "zlib")
# Modules that write, compress or unpack.
WORK = ("assembly", "chunk", "copying", "copyout", "cutting", "packing", "sidehash", "unpacking", "verifying")


@pytest.mark.parametrize(
    "name", ["PackManifest", "parse_pack_manifest", "read_entries", "read_pack_manifest", "root_digest"]
)
def test_reading_a_pack_folder_loads_no_codec_and_no_module_that_writes(
    name: str, environment: Mapping[str, str]
) -> None:
    assert loaded(name, [*CODECS, *(f"ctxpack_bundle.{module}" for module in WORK)], environment) == []


@pytest.mark.parametrize(
    "name",
    ["PackStream", "Selection", "assemble", "content_span", "copy_out", "outputs_digest", "unpack", "verify_pack"],
)
def test_the_tar_stream_needs_no_codec(name: str, environment: Mapping[str, str]) -> None:
    assert loaded(name, CODECS, environment) == []


@pytest.mark.parametrize("name", ["inflate_chunk", "make_chunk"])
def test_only_cutting_loads_the_chunker(name: str, environment: Mapping[str, str]) -> None:
    assert loaded(name, ["pyfastcdc", "ctxpack_bundle.packing"], environment) == []


def loaded(name: str, modules: list[str] | tuple[str, ...], environment: Mapping[str, str]) -> list[str]:
    """Return which of modules a new Python process has loaded after it imported name from the package."""
    script = f"import sys\nfrom ctxpack_bundle import {name}\nprint(*(sys.modules.keys() & {list(modules)}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()

"""Documents are decoded by several threads at once, also by the first ones of a process.

msgspec 0.22.0 looks at a class when it is first decoded. Two threads that do that at the same time crash the process:
a push decodes the list of kin while it decodes the notes of the cache.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = Path(__file__).resolve().parent.parent / "packages"
ATTEMPTS = 6  # more than half of them crashed before

THREADS = """
import sys, threading
{setup}
sys.setswitchinterval(1e-6)
barrier, failed = threading.Barrier(8), []
def decode():
    barrier.wait()
    try:
        {decode}
    except Exception as error:
        failed.append(error)
threads = [threading.Thread(target=decode) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert not failed, failed
"""

IMAGE = """
from ctxpack_oci import ImageManifest, describe, encode_image_manifest, parse_image_manifest
one = describe(b"{}", "a/b")
data = encode_image_manifest(ImageManifest(config=one, layers=(one,)))
"""
KIN = """
from ctxpack_identity import CtxUri, digest_of
from ctxpack_pantry.kin import Kin, encode_kin_list, parse_kin_list
one = Kin(image=digest_of(b""), pushed="2026-01-01T00:00:00Z", uri=CtxUri("ctx://sha256:" + "0" * 64))
data = encode_kin_list([one])
"""
PACK = """
from ctxpack_identity import canonical_json, digest_of, uri_for
from ctxpack_bundle import Listing, Outputs, PackManifest, Root, encode_pack_manifest, parse_pack_manifest
contract = {"inputs": {}, "schema": "any"}
outputs = Outputs(digest=digest_of(b""), empty_folders=0, files=0, roots=(), size=0)
listing = Listing(digest=digest_of(b""), path="files.jsonl", size=0)
data = encode_pack_manifest(PackManifest(contract=contract, listings=(listing,), outputs=outputs, provenance={},
                            schema="ctxpack/pack/v1", uri=uri_for(digest_of(canonical_json(contract)))))
"""


@pytest.mark.parametrize(
    ("setup", "decode"),
    [(IMAGE, "parse_image_manifest(data)"), (KIN, "parse_kin_list(data)"), (PACK, "parse_pack_manifest(data)")],
    ids=["image manifest", "kin", "pack manifest"],
)
def test_threads_that_decode_first_do_not_crash(setup: str, decode: str) -> None:
    program = THREADS.format(setup=setup, decode=decode)
    for _ in range(ATTEMPTS):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_every_class_that_is_decoded_has_a_decoder_from_the_import_on() -> None:
    """What threads decode depends on what a registry answers, so the rule holds for all of them."""
    for source in PACKAGES.glob("*/src/**/*.py"):
        text = source.read_text(encoding="utf-8")
        assert re.findall(r"json\.decode\([^\n]*type=(?!dict\b)", text) == [], source
        for name in re.findall(r"msgspec\.convert\(\w+, (\w+)\)", text):
            assert f"Decoder({name})" in text or name == "Descriptor", source  # that is part of an image manifest

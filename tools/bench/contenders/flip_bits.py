"""Flip each bit of a claim, one at a time: ``flip_bits.py FOLDER KEY URI``. Prints how many were tried and refused.

FOLDER: has bundle.json, a claim about image.json. KEY: path of the public key of its signer. Anything but a refusal,
which is an IntegrityError, or the claim itself ends the program.
"""

import base64
import hashlib
import json
import sys
import time
from pathlib import Path

from ctxpack_identity import IntegrityError
from ctxpack_trust import parse_public_key, read_claim

folder, key, uri = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
bundle, image = (folder / "bundle.json").read_bytes(), (folder / "image.json").read_bytes()
public = parse_public_key(key.read_bytes(), where=str(key))
text = json.loads(bundle)["dsseEnvelope"]["payload"].encode()
head, tail = bundle.split(text)


def digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def read(bundle, image):
    return read_claim(bundle, public, image=digest(image), uri=uri)


def flipped(data):
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


claim = read(bundle, image)
counts = {}
for what, whole, arguments in (
    ("bits of the bundle", bundle, lambda data: (data, image)),
    ("bits of its payload", base64.b64decode(text), lambda data: (head + base64.b64encode(data) + tail, image)),
    ("bits of the image manifest", image, lambda data: (bundle, data)),
):
    calls, refused, begun = 0, 0, time.process_time()
    for changed in flipped(whole):
        calls += 1
        try:
            same = read(*arguments(changed)) == claim
        except IntegrityError:
            refused += 1
        else:
            assert same, f"{what}: another claim was accepted, flip {calls - 1}"
    counts[what] = {"calls": calls, "refused": refused, "seconds": time.process_time() - begun}
print(json.dumps(counts))

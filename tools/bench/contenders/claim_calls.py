"""Sign a claim and check it, many times: ``claim_calls.py FOLDER KEY URI TIMES``. Prints the seconds of CPU of each.

FOLDER: has bundle.json, a claim about image.json. KEY: path of the key that signed it, without .key and .pub.
"""

import hashlib
import json
import os
import sys
import time
from pathlib import Path

from ctxpack_trust import parse_private_key, parse_public_key, read_claim, sign_claim

folder, key, uri, times = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
bundle = (folder / "bundle.json").read_bytes()
image = f"sha256:{hashlib.sha256((folder / 'image.json').read_bytes()).hexdigest()}"
password = os.environb[b"CTXPACK_KEY_PASSWORD"]
private = parse_private_key(Path(f"{key}.key").read_bytes(), password, where=key)
public = parse_public_key(Path(f"{key}.pub").read_bytes(), where=key)
claim = read_claim(bundle, public, image=image, uri=uri)
signature = private.sign(bundle)
assert public.verifies(signature, bundle)
assert read_claim(sign_claim(claim, private), public, image=image, uri=uri) == claim

seconds = {}
for what, call in {
    "sign a claim": lambda: sign_claim(claim, private),
    "check and read a claim": lambda: read_claim(bundle, public, image=image, uri=uri),
    "of it, the signature": lambda: private.sign(bundle),
    "of it, the check of the signature": lambda: public.verifies(signature, bundle),
}.items():
    begun = time.process_time()
    for _ in range(times):
        call()
    seconds[what] = time.process_time() - begun
print(json.dumps(seconds))

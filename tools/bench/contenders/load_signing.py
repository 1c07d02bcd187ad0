"""Load what signing needs: ``load_signing.py nothing|cryptography|key FILE``. Prints the first word again.

nothing: only what a push loads. cryptography: its modules that a claim needs too. key: and open the private key.
"""

import os
import sys

import ctxpack_pantry.push  # noqa: F401

what, path = sys.argv[1:]
assert "cryptography" not in sys.modules
if what != "nothing":
    from cryptography.exceptions import InvalidSignature  # noqa: F401
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: F401
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519  # noqa: F401
if what == "key":
    from ctxpack_trust import parse_private_key

    with open(path, "rb") as file:
        parse_private_key(file.read(), os.environb[b"CTXPACK_KEY_PASSWORD"], where=path)
print(what)

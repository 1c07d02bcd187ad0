"""Hash a folder as model-signing does before it signs: model_signing_hash.py FOLDER."""

import sys

import model_signing

for resource in model_signing.hashing.hash(sys.argv[1]).resource_descriptors():
    print(resource.digest.digest_hex, resource.identifier)

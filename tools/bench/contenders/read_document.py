"""Read a canonical JSON document and write it again, as readers of packs do. read_document.py FILE prints "same"."""

import sys

from ctxpack_identity import canonical_json, parse_json

with open(sys.argv[1], "rb") as file:
    data = file.read()
print("same" if canonical_json(parse_json(data)) == data else "differs")

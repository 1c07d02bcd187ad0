"""Print what is installed beside this interpreter: JSON, for each name its number of files, their bytes, its needs."""

import json
import re
from importlib.metadata import distributions


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


found = {}
for distribution in distributions():
    paths = [path for path in (file.locate() for file in distribution.files or ()) if path.is_file()]
    needs = [need for need in distribution.requires or () if "extra ==" not in need]
    found[plain(distribution.name)] = {
        "files": len(paths),
        "size": sum(path.stat().st_size for path in paths),
        "needs": [plain(re.match(r"[\w.-]+", need)[0]) for need in needs],
    }
print(json.dumps(found))

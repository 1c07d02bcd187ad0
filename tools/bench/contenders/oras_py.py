"""Push or pull a folder with oras-py: oras_py.py push|pull HOST/REPOSITORY FOLDER."""

import os
import sys

import oras.client

action, repository, folder = sys.argv[1:]
client = oras.client.OrasClient(insecure=True)
if action == "push":
    # The archive has the path as it is given, so it must be only the name of the folder.
    os.chdir(os.path.dirname(folder))
    client.push(target=f"{repository}:bench", files=[os.path.basename(folder)], quiet=True)
else:
    client.pull(target=f"{repository}:bench", outdir=folder)

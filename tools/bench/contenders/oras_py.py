"""Push or pull a folder with oras-py: oras_py.py push|pull HOST/REPOSITORY FOLDER."""

import os
import sys

import oras.client

action, repository, folder = sys.argv[1:]
client = oras.client.OrasClient(insecure=True)
if action == "push":
    # It takes the folder's name into the archive, so that is given relative to where it lies.
    os.chdir(os.path.dirname(folder))
    client.push(target=f"{repository}:bench", files=[os.path.basename(folder)], quiet=True)
else:
    client.pull(target=f"{repository}:bench", outdir=folder)

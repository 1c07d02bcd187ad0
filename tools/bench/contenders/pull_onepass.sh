#!/bin/bash
# Pull the one layer of push_onepass.sh into a new folder, in one pass: download, hash, decompress and unpack at once.
#   pull_onepass.sh http://HOST/v2/REPOSITORY FOLDER DECOMPRESSOR [ARGUMENT ...]
set -euo pipefail
repository=$1 folder=$2; shift 2
scratch=$(mktemp -d); trap 'rm -rf "$scratch"' EXIT
layer=$(curl --fail --silent --show-error --header 'Accept: application/vnd.oci.image.manifest.v1+json' \
    "$repository/manifests/bench" | sed -n 's/.*"layers".*"digest":"sha256:\([0-9a-f]\{64\}\)".*/\1/p')
mkdir "$folder.part"
mkfifo "$scratch/body"
"$@" <"$scratch/body" | tar --extract --directory "$folder.part" &
unpacked=$!
got=$(curl --fail --silent --show-error "$repository/blobs/sha256:$layer" | tee "$scratch/body" |
    openssl dgst -sha256 -r | cut -c1-64)
wait $unpacked
[ "$got" = "$layer" ]
mv "$folder.part" "$folder"

#!/bin/bash
# Pull what push_skopeo.sh pushed the way scripts do: let skopeo fetch the blobs, then unpack the layer.
#   pull_skopeo.sh HOST/REPOSITORY FOLDER SCRATCH
set -euo pipefail
repository=$1 folder=$2 blobs=$3/blobs
skopeo copy --quiet --insecure-policy --src-tls-verify=false "docker://$repository:bench" "dir:$blobs"
layer=$(sed -n 's/.*"layers".*"digest":"sha256:\([0-9a-f]\{64\}\)".*/\1/p' "$blobs/manifest.json")
mkdir "$folder"
tar --extract --gzip --file "$blobs/$layer" --directory "$folder"

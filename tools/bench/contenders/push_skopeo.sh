#!/bin/bash
# Push a folder the way scripts do: pack it into a file, describe that in an OCI layout, let skopeo copy the layout.
#   push_skopeo.sh FOLDER HOST/REPOSITORY SCRATCH COMPRESSOR [ARGUMENT ...]
set -euo pipefail
folder=$1 repository=$2 layout=$3/layout; shift 3
blobs=$layout/blobs/sha256
mkdir -p "$blobs"

# Moves a file to where the layout keeps it; prints its digest and size, as JSON members.
keep() {
    local digest size
    digest=$(openssl dgst -sha256 -r "$1" | cut -c1-64) size=$(stat --format %s "$1")
    mv "$1" "$blobs/$digest"
    printf '"digest":"sha256:%s","size":%s' "$digest" "$size"
}

tar --create --directory "$folder" . | "$@" >"$layout/layer"
layer=$(keep "$layout/layer")
printf '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}' >"$layout/config"
image=application/vnd.oci.image
printf '{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"%s",%s},"layers":[{"mediaType":"%s",%s}]}' \
    $image.manifest.v1+json $image.config.v1+json "$(keep "$layout/config")" $image.layer.v1.tar+gzip "$layer" \
    >"$layout/manifest"
printf '{"schemaVersion":2,"manifests":[{"mediaType":"%s",%s}]}' \
    $image.manifest.v1+json "$(keep "$layout/manifest")" >"$layout/index.json"
printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
skopeo copy --quiet --insecure-policy --dest-tls-verify=false "oci:$layout" "docker://$repository:bench"

#!/bin/bash
# Push a folder as one layer, in one pass and without a temporary file: read, pack, compress, hash and upload at once.
#   push_onepass.sh FOLDER http://HOST/v2/REPOSITORY COMPRESSOR [ARGUMENT ...]
set -euo pipefail
folder=$1 repository=$2; shift 2
scratch=$(mktemp -d); trap 'rm -rf "$scratch"' EXIT
quiet=(curl --fail --silent --show-error --output /dev/null)

location_in() { sed -n 's/\r$//; s/^[Ll]ocation: *//p' "$1" | tail -1; }
finish() { "${quiet[@]}" --request PUT "${@:3}" "$1&digest=sha256:$2"; }
begin() {
    "${quiet[@]}" --request POST --dump-header "$scratch/begun" "$repository/blobs/uploads/"
    location_in "$scratch/begun"
}

mkfifo "$scratch/body"
"${quiet[@]}" --request PATCH --header 'Content-Type: application/octet-stream' --header 'Expect:' \
    --upload-file - --dump-header "$scratch/sent" --write-out '%{size_upload}' "$(begin)" \
    <"$scratch/body" >"$scratch/size" &
upload=$!
layer=$(tar --create --directory "$folder" . | "$@" | tee "$scratch/body" | openssl dgst -sha256 -r |
    cut -c1-64)
wait $upload
finish "$(location_in "$scratch/sent")" "$layer" --header 'Content-Length: 0'

printf '{}' >"$scratch/config"
config=$(openssl dgst -sha256 -r "$scratch/config" | cut -c1-64)
finish "$(begin)" "$config" --data-binary "@$scratch/config" --header 'Content-Type: application/octet-stream'

image=application/vnd.oci.image
cat >"$scratch/manifest" <<END
{"schemaVersion":2,"mediaType":"$image.manifest.v1+json",
"config":{"mediaType":"$image.config.v1+json","digest":"sha256:$config","size":2},
"layers":[{"mediaType":"$image.layer.v1.tar+gzip","digest":"sha256:$layer","size":$(cat "$scratch/size")}]}
END
"${quiet[@]}" --upload-file "$scratch/manifest" --header "Content-Type: $image.manifest.v1+json" "$repository/manifests/bench"

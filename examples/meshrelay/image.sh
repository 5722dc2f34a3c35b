#!/bin/sh
# Builds a container image of nothing but meshrelay: image.sh [NAME], by default meshrelay. Nothing is pulled.
# With CONTEXT=DIR it only makes the directory that the image is built of.
set -eu
umask 022 # who runs the program in the image is not who owns it
here=$(cd "$(dirname "$0")" && pwd)
context=${CONTEXT:-$(mktemp -d)}
[ -n "${CONTEXT:-}" ] || trap 'rm -rf "$context"' EXIT
mkdir -p "$context/state"
chmod 700 "$context/state"
cp "$here/Dockerfile" "$context/"
(cd "$here" && GOOS=linux CGO_ENABLED=0 go build -trimpath -ldflags=-s -o "$context/meshrelay" .)
[ -n "${CONTEXT:-}" ] || docker build --tag "${1:-meshrelay}" "$context"

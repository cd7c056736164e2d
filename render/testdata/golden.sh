#!/bin/sh
# Makes golden/ from shop/ with kubectl and sops. See README.md.
set -eu
cd "$(dirname "$0")"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
GOBIN=$tmp go install github.com/getsops/sops/v3/cmd/sops@v3.13.3
cat ../../secrets/testdata/*.agekey > "$tmp/keys"
cp -r shop "$tmp/shop"
for f in $(grep -rlE '^sops_mac=|"mac": "ENC|^ +mac: ENC' "$tmp/shop"); do
	case $f in *.env|*.yaml|*.json) type= ;; *) type="--input-type binary --output-type binary" ;; esac
	SOPS_AGE_KEY_FILE=$tmp/keys "$tmp/sops" --disable-version-check decrypt --in-place $type "$f"
done
rm -rf golden
mkdir golden
for k in $(find "$tmp/shop" -name kustomization.yaml | sort); do
	grep -q '^kind: Component' "$k" && continue
	dir=$(dirname "${k#"$tmp/shop/"}")
	kubectl kustomize "$tmp/shop/$dir" 2>/dev/null > "golden/$(echo "$dir" | tr / .).yaml"
done

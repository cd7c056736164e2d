#!/bin/sh
# Makes sops/ from plain/ with the real sops command. Run it only to add a
# fixture: every run makes new data keys. See README.md.
set -eu
cd "$(dirname "$0")"
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
GOBIN=$bin go install github.com/getsops/sops/v3/cmd/sops@v3.13.3
dev=$(sed -n 's/^# public key: //p' development.agekey)
prod=$(sed -n 's/^# public key: //p' production.agekey)
enc() { name=$1; shift; src=$1; shift; "$bin/sops" --disable-version-check encrypt "$@" "plain/$src" > "sops/$name"; }

mkdir -p sops
enc secrets.env      secrets.env --age "$dev"
enc both.env         secrets.env --age "$dev,$prod"
enc production.env   secrets.env --age "$prod"
enc values.yaml      values.yaml --age "$dev"
enc secret.yaml      secret.yaml --age "$dev" --encrypted-regex '^(data|stringData)$'
enc config.json      config.json --age "$dev"
enc suffix.json      config.json --age "$dev" --encrypted-suffix word
enc app.ini          app.ini     --age "$dev"
enc token.bin        token.bin   --age "$dev"
# a dotenv file that was encrypted as a binary one
enc opaque.env       secrets.env --age "$dev" --input-type binary --output-type binary

# What only creation rules can say. Shamir: both key groups are needed.
rule() { name=$1; src=$2; { echo "creation_rules:"; cat; } > "$bin/rule.yaml"
	"$bin/sops" --disable-version-check --config "$bin/rule.yaml" encrypt "plain/$src" > "sops/$name"; }
rule maconly.yaml  values.yaml <<YAML
- {age: $dev, mac_only_encrypted: true}
YAML
rule comments.yaml values.yaml <<YAML
- {age: $dev, encrypted_comment_regex: first user}
YAML
rule shamir.env    secrets.env <<YAML
- {shamir_threshold: 2, key_groups: [{age: [$dev]}, {age: [$prod]}]}
YAML

# What the command itself makes of each file.
mkdir -p opened
for f in sops/*; do
	cat development.agekey production.agekey > "$bin/keys"
	set -- decrypt
	[ "$f" = sops/opaque.env ] && set -- decrypt --input-type binary --output-type binary
	SOPS_AGE_KEY_FILE=$bin/keys "$bin/sops" --disable-version-check "$@" "$f" > "opened/$(basename "$f")"
done

#!/usr/bin/env bash
# Installs the program with the features that an operator installs, and checks that it reads sessions of IAM Identity Center and of
# `aws login` from the configuration file of the AWS CLI, which itself is not needed. No session is open, so the program gets no
# credentials. It must fail in the session, and not for want of a feature of the SDK.
# Needs what `cargo install` needs: Rust, a C compiler, and crates.io or crates that were fetched before.
set -euo pipefail
cd "$(dirname "$0")/.."
# The README's command, without optimization and below target/: the place of the program does not depend on the settings of Cargo.
cargo install --path shared/local --profile dev --features aws --locked --root target/operator --target-dir target/operator --no-track --force
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/config" <<'CONFIG'
[profile sso]
region = eu-central-1
sso_session = clinic
sso_account_id = 111122223333
sso_role_name = Operator
[sso-session clinic]
sso_region = eu-central-1
sso_start_url = https://clinic.example/start
[profile login]
region = eu-central-1
login_session = arn:aws:iam::111122223333:user/ann
CONFIG
for profile in sso login; do
    if said=$(env -i HOME="$folder" PATH="$PATH" AWS_CONFIG_FILE="$folder/config" AWS_EC2_METADATA_DISABLED=true AWS_PROFILE=$profile \
        target/operator/bin/headrace clients list --table jobs 2>&1); then
        echo "$profile: the program has listed clients without credentials"
        exit 1
    fi
    case $said in
    *feature*) echo "$profile: a feature of the SDK is missing: $said" && exit 1 ;;
    *"credentials of this profile cannot be obtained"*) echo "$profile: $said" ;;
    *) echo "$profile: an unexpected error: $said" && exit 1 ;;
    esac
done

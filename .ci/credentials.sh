#!/usr/bin/env bash
# Builds the program as an operator installs it, and checks that it reads sessions of IAM Identity Center and of `aws login` from the
# configuration file of the AWS CLI. Without a network it gets no credentials, but it must fail in the session and not for want of a
# feature of the SDK.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --locked --package headrace-local --features aws --target-dir target/operator
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
        target/operator/debug/headrace clients list --table jobs 2>&1); then
        echo "$profile: the program has listed clients without credentials"
        exit 1
    fi
    case $said in
    *feature*) echo "$profile: a feature of the SDK is missing: $said" && exit 1 ;;
    *"credentials of this profile cannot be obtained"*) echo "$profile: $said" ;;
    *) echo "$profile: an unexpected error: $said" && exit 1 ;;
    esac
done

#!/usr/bin/env bash
# Installs the S3 clients that the integration tests use, where they are not there yet: rclone, restic and s3cmd by apt-get, the aws
# command line and boto3 by pip into a virtual environment.
#
#   scripts/install-clients.sh VENV
#
# What cannot be installed is named. That is an error with CI=true; otherwise the tests that need it are skipped, and say so.
set -euo pipefail
venv=${1:?usage: install-clients.sh VENV}
# Pinned: what clients send by default changes from release to release.
python_packages=(awscli==1.45.11 boto3==1.43.11)
missing=()

apt_install() {
	local as_root=()
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null && sudo -n true 2>/dev/null || return 1
		as_root=(sudo -n)
	fi
	command -v apt-get >/dev/null || return 1
	export DEBIAN_FRONTEND=noninteractive
	"${as_root[@]}" apt-get install -y -q --no-install-recommends "$@" >/dev/null 2>&1 && return 0
	"${as_root[@]}" apt-get update -q >/dev/null && "${as_root[@]}" apt-get install -y -q --no-install-recommends "$@" >/dev/null
}

for client in rclone restic s3cmd; do
	if ! command -v "$client" >/dev/null && ! apt_install "$client"; then
		missing+=("$client (apt-get install $client)")
	fi
done

# make_venv makes the environment, with ensurepip's package first where the system keeps that apart.
make_venv() {
	python3 -m venv --clear "$venv" >/dev/null 2>&1 && return 0
	apt_install python3-venv && /usr/bin/python3 -m venv --clear "$venv"
}

stamp=$venv/installed
if [ "$(cat "$stamp" 2>/dev/null)" != "${python_packages[*]}" ]; then
	if make_venv && "$venv/bin/python" -m pip install -q --disable-pip-version-check "${python_packages[@]}"; then
		echo "${python_packages[*]}" >"$stamp"
	else
		missing+=("aws and boto3 (python3 -m venv $venv && $venv/bin/pip install ${python_packages[*]})")
	fi
fi

if [ ${#missing[@]} -gt 0 ]; then
	printf 'install-clients: not installed: %s\n' "${missing[@]}" >&2
	if [ "${CI:-}" = true ]; then exit 1; fi
	echo "install-clients: the tests that need them are skipped" >&2
fi

#!/bin/sh
# Gets what the end-to-end tests need beside Rust: a Python with grpcio, in a folder of its own under target/.
# What cannot be had is named in one line, and the tests that need it say that they were skipped.
set -u
cd "$(dirname "$0")/../.." || exit 1
venv=target/test-python

skip() { echo "setup: the Python client tests will be skipped: $1" >&2; exit 0; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null 2>&1; then sudo -n "$@"; else return 1; fi
}

if "$venv/bin/python" -c 'import grpc, grpc_tools' >/dev/null 2>&1; then exit 0; fi
mkdir -p target
python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || {
    command -v apt-get >/dev/null 2>&1 || skip "python3 with venv is not installed and there is no apt-get"
    { as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends python3 python3-venv; } >target/test-setup.log 2>&1 \
        || skip "installing python3-venv failed, see target/test-setup.log"
}
rm -rf "$venv"
python3 -m venv "$venv" >>target/test-setup.log 2>&1 || skip "python3 -m venv failed, see target/test-setup.log"
"$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/clients/python/requirements.txt \
    >>target/test-setup.log 2>&1 || skip "pip could not install grpcio, see target/test-setup.log"

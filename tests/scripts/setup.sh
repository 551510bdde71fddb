#!/bin/sh
# Gets what the end-to-end tests need beside Rust, into folders of its own under target/: a Python with grpcio, and
# Debian's etcd (not installed, so that no service of that name starts). What cannot be had is named in one line, and
# the tests that need it say that they were skipped.
set -u
cd "$(dirname "$0")/../.." || exit 1
venv=target/test-python
etcd=target/test-etcd
log=target/test-setup.log
mkdir -p target

skip() { echo "setup: the $1 tests will be skipped: $2" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null 2>&1; then sudo -n "$@"; else return 1; fi
}

get_python() {
    if "$venv/bin/python" -c 'import grpc, grpc_tools' >/dev/null 2>&1; then return; fi
    python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || {
        command -v apt-get >/dev/null 2>&1 || {
            skip "Python client" "python3 with venv is not installed and there is no apt-get"
            return
        }
        { as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends python3 python3-venv; } >>"$log" 2>&1 || {
            skip "Python client" "installing python3-venv failed, see $log"
            return
        }
    }
    rm -rf "$venv"
    python3 -m venv "$venv" >>"$log" 2>&1 || {
        skip "Python client" "python3 -m venv failed, see $log"
        return
    }
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/clients/python/requirements.txt >>"$log" 2>&1 \
        || skip "Python client" "pip could not install grpcio, see $log"
}

get_etcd() {
    if [ -x /usr/bin/etcd ] || [ -x "$etcd/usr/bin/etcd" ]; then return; fi
    command -v apt-get >/dev/null 2>&1 || {
        skip etcd "etcd is not installed and there is no apt-get"
        return
    }
    rm -rf "$etcd" && mkdir -p "$etcd"
    # The package lists may be old or missing; only then root is needed.
    (cd "$etcd" && { apt-get download -q etcd-server || { as_root apt-get update -qq && apt-get download -q etcd-server; }; } \
        && dpkg-deb -x etcd-server_*.deb .) >>"$log" 2>&1 \
        || skip etcd "Debian's etcd-server could not be had, see $log"
}

get_python
get_etcd

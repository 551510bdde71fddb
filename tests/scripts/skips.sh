#!/bin/sh
# Prints the arguments that leave out the tests that this machine cannot run, and says each in one line on stderr.
cd "$(dirname "$0")/../.." || exit 1
target/test-python/bin/python -c 'import grpc, grpc_tools' >/dev/null 2>&1 || {
    echo "SKIPPED clients::a_python_client_publishes_and_consumes: no Python with grpcio, see target/test-setup.log" >&2
    echo "--skip a_python_client_publishes_and_consumes"
}
{ [ -x /usr/bin/etcd ] || [ -x target/test-etcd/usr/bin/etcd ]; } || {
    echo "SKIPPED etcd::*, coordinators::*: no etcd, see target/test-setup.log" >&2
    echo "--skip etcd:: --skip coordinators::"
}
command -v openssl >/dev/null 2>&1 || {
    echo "SKIPPED etcd::certificates_of_both_sides_are_shown_and_checked: no openssl to make certificates with" >&2
    echo "--skip certificates_of_both_sides_are_shown_and_checked"
}

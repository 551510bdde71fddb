#!/bin/sh
# Prints the arguments that leave out the tests that this machine cannot run, and says each in one line on stderr.
cd "$(dirname "$0")/../.." || exit 1
target/test-python/bin/python -c 'import grpc, grpc_tools' >/dev/null 2>&1 || {
    echo "SKIPPED clients::a_python_client_publishes_and_consumes: no Python with grpcio, see target/test-setup.log" >&2
    echo "--skip a_python_client_publishes_and_consumes"
}
{ [ -x /usr/bin/etcd ] || [ -x target/test-etcd/usr/bin/etcd ]; } || {
    echo "SKIPPED etcd::*, coordinators::*_etcd, transfers::*: no etcd, see target/test-setup.log" >&2
    echo "--skip etcd:: --skip _etcd"
}
{ [ -x /usr/bin/etcdctl ] || [ -x target/test-etcd/usr/bin/etcdctl ]; } || {
    echo "SKIPPED etcd::an_operator_sees_the_live_nodes_with_etcdctl: no etcdctl, see target/test-setup.log" >&2
    echo "--skip with_etcdctl"
}
[ -e target/test-zookeeper/complete ] || {
    echo "SKIPPED zookeeper::*, coordinators::*_zookeeper, transfers::*: no ZooKeeper, see target/test-setup.log" >&2
    echo "--skip zookeeper:: --skip _zookeeper"
}
[ -e target/test-jms/complete ] || {
    echo "SKIPPED jms::*: no ActiveMQ client with a Java compiler, see target/test-setup.log" >&2
    echo "--skip jms::"
}
command -v openssl >/dev/null 2>&1 || {
    echo "SKIPPED etcd::certificates_of_both_sides_are_shown_and_checked, zookeeper::secured::*: no openssl to make certificates with" >&2
    echo "--skip certificates_of_both_sides_are_shown_and_checked --skip zookeeper::secured"
}
[ "${1:-}" = zookeeper-tls ] ||
    echo "SKIPPED zookeeper::secured::*: built without TLS to ZooKeeper, see make test-zookeeper-tls" >&2

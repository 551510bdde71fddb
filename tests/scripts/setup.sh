#!/bin/sh
# Gets what the end-to-end tests need beside Rust, into folders of its own under target/: a Python with grpcio, and
# Debian's etcd, ZooKeeper and clients of ActiveMQ with a Java (not installed, so that no service of that name starts). What
# cannot be had is named in one line, and the tests that need it say that they were skipped.
set -u
cd "$(dirname "$0")/../.." || exit 1
venv=target/test-python
etcd=target/test-etcd
zookeeper=target/test-zookeeper
jms=target/test-jms
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

# Unpacks Debian's packages into a folder, without installing them.
unpack() {
    folder=$1 && shift
    command -v apt-get >/dev/null 2>&1 || return 1
    # The package lists may be old or missing; only then root is needed.
    (mkdir -p "$folder" && cd "$folder" && rm -f ./*.deb \
        && { apt-get download -q "$@" || { as_root apt-get update -qq && apt-get download -q "$@"; }; } \
        && for package in ./*.deb; do dpkg-deb -x "$package" . || exit 1; done && rm -f ./*.deb) >>"$log" 2>&1
}

get_etcd() {
    if [ -x /usr/bin/etcd ] || [ -x "$etcd/usr/bin/etcd" ]; then return; fi
    rm -rf "$etcd"
    unpack "$etcd" etcd-server || skip etcd "Debian's etcd-server could not be had, see $log"
}

get_etcdctl() {
    if [ -x /usr/bin/etcdctl ] || [ -x "$etcd/usr/bin/etcdctl" ]; then return; fi
    unpack "$etcd" etcd-client || skip etcdctl "Debian's etcd-client could not be had, see $log"
}

# ZooKeeper's own libraries and those that its server and its tool load; no more of what its packages depend on.
get_zookeeper() {
    if [ -e "$zookeeper/complete" ]; then return; fi
    rm -rf "$zookeeper"
    unpack "$zookeeper" libzookeeper-java libslf4j-java libdropwizard-metrics-java libcommons-io-java \
        libcommons-cli-java libnetty-java libsnappy-java || {
        skip ZooKeeper "Debian's libzookeeper-java could not be had, see $log"
        return
    }
    [ -x /usr/bin/java ] || get_java "$zookeeper" jre || {
        skip ZooKeeper "there is no Java, and Debian's could not be had, see $log"
        return
    }
    touch "$zookeeper/complete"
}

# The unchanged ActiveMQ client 5.x, Spring JMS, what they load, and a compiler.
get_jms() {
    if [ -e "$jms/complete" ]; then return; fi
    rm -rf "$jms"
    unpack "$jms" libactivemq-java libgeronimo-jms-1.1-spec-java libgeronimo-jta-1.2-spec-java \
        libgeronimo-j2ee-management-1.1-spec-java libhawtbuf-java libslf4j-java libspring-jms-java \
        libspring-messaging-java libspring-context-java libspring-beans-java libspring-core-java libspring-aop-java \
        libspring-expression-java libspring-transaction-java libcommons-logging-java libaopalliance-java || {
        skip JMS "Debian's libactivemq-java or libspring-jms-java could not be had, see $log"
        return
    }
    [ -x /usr/bin/javac ] || get_java "$jms" jre jdk || {
        skip JMS "there is no Java compiler, and Debian's could not be had, see $log"
        return
    }
    touch "$jms/complete"
}

# Unpacks Debian's Java without a desktop into a folder: its jre, or that and its jdk.
get_java() {
    folder=$1 && shift
    java=$(apt-cache depends default-jre-headless 2>>"$log" | sed -n 's/.*Depends: *\(openjdk-[0-9]*\)-jre-headless.*/\1/p' | head -n 1)
    for kind in "$@"; do
        unpack "$folder" "${java:-openjdk-17}-$kind-headless" || return 1
    done
    # Its files of configuration are links to where they would be installed.
    root=$(cd "$folder" && pwd)
    find "$root/usr/lib/jvm" -type l | while read -r link; do
        target=$(readlink "$link")
        if [ -e "$root$target" ]; then ln -sfn "$root$target" "$link"; fi
    done
    for program in "$root"/usr/lib/jvm/*/bin/java; do
        "$program" -version >>"$log" 2>&1
        return
    done
}

get_python
get_etcd
get_etcdctl
get_zookeeper
get_jms

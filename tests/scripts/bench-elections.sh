#!/bin/bash
# Times how long the shards of a killed storage node are without a leader: on each coordination store, with few shards and
# with many. etcd and ZooKeeper run with one server each, unpacked by setup.sh, with their data under target/.
# STORES and SHARDS say which, KILLS how often, BIN which programs.
set -eu
cd "$(dirname "$0")/../.."
bin=${BIN:-target/release}
data=target/bench-elections
url='failover:(tcp://127.0.0.1:60101)'
store_pid=
dev=

stop() {
    if [ -n "$1" ]; then
        kill -"$2" "$1" 2>/dev/null || true
        wait "$1" 2>/dev/null || true
    fi
}
trap 'stop "$dev" INT; stop "$store_pid" KILL' EXIT
trap 'exit 1' INT TERM

# Ends once the store listens on a port of this machine; gives up when it ended, or after a minute.
listens() {
    for _ in $(seq 300); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return; fi
        kill -0 "$store_pid" 2>/dev/null || break
        sleep 0.2
    done
    echo "the store does not listen on port $1; its log ends with:" >&2
    tail -n 5 "$data/store.log" >&2
    exit 1
}

start_store() {
    case "$1" in
    embedded) address=embedded ;;
    etcd)
        program=target/test-etcd/usr/bin/etcd
        [ -x /usr/bin/etcd ] && program=/usr/bin/etcd
        "$program" --data-dir "$data/store" --listen-client-urls http://127.0.0.1:23790 \
            --advertise-client-urls http://127.0.0.1:23790 --listen-peer-urls http://127.0.0.1:23800 \
            --initial-advertise-peer-urls http://127.0.0.1:23800 --initial-cluster default=http://127.0.0.1:23800 \
            --logger zap >"$data/store.log" 2>&1 &
        store_pid=$!
        port=23790 address=etcd://127.0.0.1:23790
        ;;
    zookeeper)
        jars=target/test-zookeeper/usr/share/java
        java=java
        command -v java >/dev/null 2>&1 || java=$(set -- target/test-zookeeper/usr/lib/jvm/*/bin/java; echo "$1")
        mkdir -p "$data/store"
        printf 'tickTime=2000\ndataDir=%s\nclientPort=21810\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n' \
            "$(pwd)/$data/store" >"$data/zoo.cfg"
        "$java" -Xmx256m -cp "$jars/*" org.apache.zookeeper.server.quorum.QuorumPeerMain "$data/zoo.cfg" \
            >"$data/store.log" 2>&1 &
        store_pid=$!
        port=21810 address=zookeeper://127.0.0.1:21810/quorate/dev
        ;;
    esac
    if [ -n "$store_pid" ]; then listens "$port"; fi
}

grep -m1 'model name' /proc/cpuinfo || true
for store in ${STORES:-embedded etcd zookeeper}; do
    for shards in ${SHARDS:-8 256}; do
        rm -rf "$data"
        mkdir -p "$data"
        start_store "$store"
        "$bin/quorate" dev --data "$data/dev" --gateways 1 --gateway-port 60101 --console-port 8261 --node-port 61701 \
            --node-health-port 9301 --coordinator-port 62101 --coordinator-health-port 9401 --store "$address" \
            --shards "$shards" >"$data/dev.log" 2>&1 &
        dev=$!
        until grep -qs 'quorate send' "$data/dev.log"; do
            kill -0 "$dev" 2>/dev/null || { cat "$data/dev.log"; exit 1; }
            sleep 0.2
        done
        echo "--- $store, $shards shards"
        "$bin/quorate" --url "$url" bench elections --kills "${KILLS:-10}"
        stop "$dev" INT
        dev=
        stop "$store_pid" KILL
        store_pid=
    done
done

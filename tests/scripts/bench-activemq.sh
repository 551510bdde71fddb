#!/bin/bash
# Times the unchanged Java client on Debian's ActiveMQ, one process with the configuration of its package (KahaDB), and on a
# Quorate cluster of three nodes and three gateways, in turn, on this machine: messages a second.
# ROUNDS says how often, SECONDS_EACH how long each measurement takes, THREADS how many send at once, SIZE how many bytes.
set -eu
cd "$(dirname "$0")/../.."
bin=${BIN:-target/release}
data=target/bench-activemq
port=61698
pid=
signal=

stop() {
    if [ -n "$pid" ]; then
        kill "-$signal" "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
        pid=
    fi
}
trap stop EXIT
trap 'exit 1' INT TERM

# Waits for a condition while what was started runs.
until_ready() {
    until "$@" 2>/dev/null; do
        kill -0 "$pid" 2>/dev/null || { cat "$data.log"; exit 1; }
        sleep 0.2
    done
}
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$port"); }

start() {
    case "$1" in
    activemq)
        sh tests/scripts/activemq.sh "$port" shipped >"$data.log" 2>&1 &
        pid=$! signal=TERM
        until_ready listens
        url="failover:(tcp://127.0.0.1:$port)"
        ;;
    quorate)
        "$bin/quorate" dev --fresh --data "$data" --gateway-port 60101 --console-port 8261 --node-port 61701 \
            --node-health-port 9301 --coordinator-port 62101 --coordinator-health-port 9401 >"$data.log" 2>&1 &
        pid=$! signal=INT
        until_ready grep -qs 'quorate send' "$data.log"
        url='failover:(tcp://127.0.0.1:60101,tcp://127.0.0.1:60102,tcp://127.0.0.1:60103)'
        ;;
    *)
        echo "no such broker: $1" >&2
        exit 2
        ;;
    esac
}

field() { sed -n "s/.*\"$1\": \([0-9]*\).*/\1/p" "$data.json"; }

sh tests/scripts/jms.sh compile
grep -m1 'model name' /proc/cpuinfo || true
echo "${THREADS:-4} senders, each waits for every confirmation; one consumer; transactions of 64; ${SIZE:-1024} bytes"
printf '%-10s %5s %10s %12s %18s %22s\n' broker round sends/s receipts/s 'sends/s in tx' 'receipts/s in tx'
for round in $(seq "${ROUNDS:-3}"); do
    for broker in ${BROKERS:-activemq quorate}; do
        start "$broker"
        sh tests/scripts/jms.sh bench.Bench --url "$url" --seconds "${SECONDS_EACH:-10}" --threads "${THREADS:-4}" \
            --size "${SIZE:-1024}" >"$data.json"
        stop
        printf '%-10s %5s %10s %12s %18s %22s\n' "$broker" "$round" "$(field sends)" "$(field receipts)" \
            "$(field transacted_sends)" "$(field transacted_receipts)"
    done
done

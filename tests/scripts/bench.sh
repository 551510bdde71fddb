#!/bin/sh
# Measures a cluster of its own on ports of its own, with its data under target/, with the binaries of BIN. usage: bench.sh throughput|failover|memory|drain
set -eu
cd "$(dirname "$0")/../.."
bin=${BIN:-target/release}
data=target/bench-data
url='failover:(tcp://127.0.0.1:60101,tcp://127.0.0.1:60102,tcp://127.0.0.1:60103)'
seconds=${SECONDS_EACH:-10}

"$bin/quorate" dev --fresh --data "$data" --gateway-port 60101 --console-port 8261 --node-port 61701 \
    --node-health-port 9301 --coordinator-port 62101 --coordinator-health-port 9401 ${DEV_FLAGS:-} >"$data.log" 2>&1 &
dev=$!
trap 'kill -INT $dev 2>/dev/null; wait $dev 2>/dev/null || true' EXIT INT TERM
until grep -q 'quorate send' "$data.log"; do
    kill -0 $dev 2>/dev/null || { cat "$data.log"; exit 1; }
    sleep 0.2
done

bench() { "$bin/quorate" --url "$url" bench "$@"; }

case "$1" in
throughput)
    grep -m1 'model name' /proc/cpuinfo || true
    echo "--- closed loop: 4 producers, window 256, 1 KiB"
    bench --producers 4 --window 256 --size 1024 --seconds "$seconds" --disk-dir "$data"
    echo "--- closed loop: 1 producer, window 1, 1 KiB"
    bench --producers 1 --window 1 --size 1024 --seconds "$seconds" --disk-dir "$data"
    echo "--- open loop: 10,000 a second, 1 KiB"
    bench --rate 10000 --producers 4 --size 1024 --seconds "$seconds" --disk-dir "$data"
    echo "--- end to end: 4 producers, 4 consumers, 1 KiB"
    bench --producers 4 --window 256 --consumers 4 --size 1024 --seconds "$seconds" --disk-dir "$data"
    ;;
failover)
    bench failover --kills "${KILLS:-50}"
    ;;
memory)
    messages=${MESSAGES:-10000000}
    bench --producers 4 --window 1024 --size 100 --messages "$messages" --keep ${MIXED:+--mixed}
    echo "--- memory of each storage node with $messages queued messages of 100 bytes${MIXED:+, priorities, expiries and delays mixed}"
    for pid in $(pgrep -P $dev -f quorate-storage-node); do
        grep -E '^(Name|VmRSS|VmHWM):' "/proc/$pid/status" | tr '\n' ' '
        echo
    done
    ;;
drain)
    bench drain --messages "${MESSAGES:-500000}"
    ;;
*)
    echo "usage: bench.sh throughput|failover|memory|drain" >&2
    exit 2
    ;;
esac

#!/bin/bash
# Runs the JMS checks against Debian's ActiveMQ: what they demand is what that does. Arguments are names of checks.
set -eu
cd "$(dirname "$0")/../.."
port=61699
broker=
trap '[ -z "$broker" ] || { kill "$broker" 2>/dev/null; wait "$broker" 2>/dev/null || true; }' EXIT
trap 'exit 1' INT TERM

sh tests/scripts/jms.sh compile
sh tests/scripts/activemq.sh "$port" checks >target/test-activemq.log 2>&1 &
broker=$!
until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
    kill -0 "$broker" 2>/dev/null || { cat target/test-activemq.log; exit 1; }
    sleep 0.2
done
sh tests/scripts/jms.sh checks.Checks --url "failover:(tcp://127.0.0.1:$port)" --second "tcp://127.0.0.1:$port" \
    --user user --password secret "$@"

#!/bin/sh
# Compiles the Java clients of the tests when their sources are newer, and runs one of them on the unchanged ActiveMQ client
# and Spring that setup.sh got. usage: jms.sh checks.Checks|app.App|bench.Bench ARGUMENTS; or jms.sh compile
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
sources=$root/tests/clients/jms
packages=$root/target/test-jms
classes=$root/target/test-jms-classes
jars=$packages/usr/share/java

javac=$(command -v javac || find "$packages"/usr/lib/jvm/*/bin/javac | head -n 1)
java=$(dirname "$javac")/java

path=
for jar in activemq-client geronimo-jms_1.1_spec geronimo-jta-1.2-spec geronimo-j2ee-management-1.1-spec hawtbuf slf4j-api \
    slf4j-nop spring3-jms spring3-messaging spring3-context spring3-beans spring3-core spring3-aop spring3-expression \
    spring3-transaction commons-logging aopalliance; do
    path=$path:$jars/$jar.jar
done
path=${path#:}

if [ ! -e "$classes/complete" ] || [ -n "$(find "$sources" -newer "$classes/complete" -name '*.java')" ]; then
    rm -rf "$classes"
    mkdir -p "$classes"
    "$javac" -J-Xmx256m -J-XX:+UseSerialGC --release 11 -proc:none -Xlint:all,-processing,-classfile,-path,-options -Werror \
        -d "$classes" -cp "$path" "$sources"/*/*.java
    touch "$classes/complete"
fi
if [ "$1" = compile ]; then exit; fi
# Spring's log has no place here, and its proxies of 2020 look into java.lang.
exec "$java" -Xmx"${HEAP:-192m}" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 --add-opens=java.base/java.lang=ALL-UNNAMED \
    -Dorg.apache.commons.logging.Log=org.apache.commons.logging.impl.NoOpLog -cp "$classes:$path" "$@"

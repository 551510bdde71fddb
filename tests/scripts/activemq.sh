#!/bin/sh
# Runs Debian's ActiveMQ on a port of the loopback interface until it is killed, with its data under target/: the control of
# the JMS checks, and what the benchmark compares with. Its packages are unpacked, not installed, on the first call.
# usage: activemq.sh PORT shipped|checks
# `shipped` is the configuration of the package with the port changed; `checks` also knows a user and schedules.
set -eu
cd "$(dirname "$0")/../.."
packages=target/test-activemq
data=target/test-activemq-data
jms=target/test-jms/usr/share/java
config=$data/activemq.xml

if [ ! -e "$packages/complete" ]; then
    rm -rf "$packages"
    mkdir -p "$packages"
    (cd "$packages" && apt-get download -q activemq libactivemq-java libactivemq-protobuf-java libactivemq-activeio-java \
        libxbean-java libgeronimo-annotation-1.3-spec-java libjackson2-annotations-java libjackson2-core-java \
        libjackson2-databind-java && for package in ./*.deb; do dpkg-deb -x "$package" .; done && rm -f ./*.deb) \
        >>target/test-setup.log 2>&1 || { echo "Debian's activemq could not be had, see target/test-setup.log" >&2; exit 1; }
    touch "$packages/complete"
fi

rm -rf "$data"
mkdir -p "$data"
sed "s|tcp://127.0.0.1:61616|tcp://127.0.0.1:$1|" "$packages/etc/activemq/instances-available/main/activemq.xml" >"$config"
if [ "$2" = checks ]; then
    sed -i -e 's|useJmx="false"|useJmx="false" schedulerSupport="true"|' -e '/<persistenceAdapter>/i \
        <plugins><simpleAuthenticationPlugin anonymousAccessAllowed="true"><users>\
            <authenticationUser username="user" password="secret" groups="users"/>\
        </users></simpleAuthenticationPlugin></plugins>' "$config"
fi

java=$(command -v java || find target/test-jms/usr/lib/jvm/*/bin/java | head -n 1)
path=
for jar in "$packages"/usr/share/java/*.jar "$jms"/*.jar; do
    case "$jar" in
    # Each jar is there a second time with its version in its name; these others are bindings that exclude each other.
    *-[0-9]*.[0-9]*.jar | *log4j* | *jcl* | *slf4j-jdk* | *slf4j-nop* | *slf4j-migrator* | *jul-to* | *spring3-*-3.x*) ;;
    *) path=$path:$jar ;;
    esac
done
for jar in "$jms"/geronimo-*.jar; do path=$path:$jar; done
# The package's own start gives it this heap and this task runner.
exec "$java" -Xms512M -Xmx512M -Dorg.apache.activemq.UseDedicatedTaskRunner=true -Dactivemq.base="$(pwd)/$data" \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn --add-opens=java.base/java.lang=ALL-UNNAMED \
    -cp "${path#:}" org.apache.activemq.console.Main start "xbean:file:$(pwd)/$config"

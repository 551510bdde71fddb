"""Publishes and consumes through the public gRPC API, with nothing but grpcio and the .proto files.

usage: roundtrip.py PROTO_DIR GATEWAY QUEUE COUNT

Prints one JSON object; exits 0 when every message was confirmed, received unchanged and in order, and settled.
"""

import importlib
import json
import os
import queue
import sys
import tempfile

import grpc
from grpc_tools import protoc


def generate(proto_dir):
    """Generates the stubs of the public API into a temporary folder and makes them importable."""
    out = tempfile.mkdtemp(prefix="quorate-stubs-")
    files = ["common", "messaging", "admin"]
    arguments = ["protoc", f"-I{proto_dir}", f"--python_out={out}", f"--grpc_python_out={out}"]
    arguments += [os.path.join(proto_dir, "quorate", "v1", name + ".proto") for name in files]
    if protoc.main(arguments) != 0:
        sys.exit("protoc could not compile the .proto files")
    sys.path.insert(0, out)
    return [importlib.import_module(f"quorate.v1.{name}") for name in
            ("common_pb2", "messaging_pb2", "messaging_pb2_grpc", "admin_pb2", "admin_pb2_grpc")]


def publish(common, messaging, stub, destination, count):
    """Publishes `count` messages over one stream; returns how many were confirmed as stored."""
    def requests():
        for start in range(0, count, 50):
            frame = messaging.PublishRequest(producer_id=producer if start == 0 else b"")
            for number in range(start, min(start + 50, count)):
                message = common.Message(message_id=f"py-{number}", content_type="text/plain",
                                         body=f"body {number}".encode())
                message.properties["number"].long = number
                frame.messages.add(destination=destination, number=number + 1).message.CopyFrom(message)
            yield frame

    producer = os.urandom(16)
    confirmed = 0
    for answer in stub.Publish(requests(), timeout=30):
        for confirm in answer.confirms:
            if confirm.outcome != common.OUTCOME_STORED:
                sys.exit(f"not stored: {confirm}")
            confirmed += confirm.count
    return confirmed


def consume(common, messaging, stub, destination, count):
    """Receives and accepts `count` messages; returns them."""
    up = queue.Queue()
    open_request = messaging.OpenConsumer(queue=destination, credit=messaging.Credit(messages=count, bytes=1 << 20))
    up.put(messaging.ConsumeRequest(open=open_request))
    received, settled = [], 0
    for answer in stub.Consume(iter(up.get, None), timeout=30):
        kind = answer.WhichOneof("kind")
        if kind == "deliveries":
            settle = messaging.Settle(settlement=messaging.SETTLEMENT_ACCEPT, token=len(received) + 1)
            for delivery in answer.deliveries.deliveries:
                received.append(delivery)
                settle.positions.append(delivery.position)
            up.put(messaging.ConsumeRequest(settle=settle))
        elif kind == "settled":
            if any(outcome != common.OUTCOME_APPLIED for outcome in answer.settled.outcomes):
                sys.exit(f"not settled: {answer.settled}")
            settled += len(answer.settled.outcomes)
            if settled == count:
                up.put(None)
    return received, settled


def main():
    proto_dir, gateway, destination, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    common, messaging, messaging_grpc, admin, admin_grpc = generate(proto_dir)
    with grpc.insecure_channel(gateway) as channel:
        stub = messaging_grpc.MessagingServiceStub(channel)
        confirmed = publish(common, messaging, stub, destination, count)
        received, settled = consume(common, messaging, stub, destination, count)
        bodies = [delivery.message.body.decode() for delivery in received]
        numbers = [delivery.message.properties["number"].long for delivery in received]
        queues = admin_grpc.AdminServiceStub(channel).ListQueues(admin.ListQueuesRequest(prefix=destination), timeout=10)
        left = sum(queue.messages for queue in queues.queues)
        ok = (confirmed == settled == count and numbers == list(range(count)) and left == 0
              and bodies == [f"body {number}" for number in range(count)])
    print(json.dumps({"confirmed": confirmed, "received": len(received), "settled": settled, "left": left, "ok": ok}))
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()

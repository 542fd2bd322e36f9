"""Creates services on a Muster cluster and outlives a change of leader while doing so.

    pip install -r requirements.txt
    python -m grpc_tools.protoc -I proto/api --python_out=. --grpc_python_out=. ecs.proto options.proto
    python create_service.py --identity ~/.muster --managers 10.0.1.10:7400,10.0.2.10:7400 \
        --task-definition web --prefix shop --count 3

The certificate is the one that `muster init` or `muster user create` wrote. Every manager takes
every call. A call that failed on the way may or may not have been carried out: it is made again
with the same client_token, so it takes effect once.
"""

import argparse
import pathlib
import time
import uuid

import grpc

import ecs_pb2
import ecs_pb2_grpc

# What any manager's certificate is for, whatever its address.
SERVER_NAME = "manager.muster"
# One manager's time for one try, and the whole call's, in seconds.
TRY_WAIT, CALL_WAIT = 3, 30
# Says nothing about the request: another manager, or the same one later, may answer it.
PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
}


class Cluster:
    """Managers that are asked in turn."""

    def __init__(self, managers, identity):
        directory = pathlib.Path(identity)
        credentials = grpc.ssl_channel_credentials(
            root_certificates=(directory / "ca.pem").read_bytes(),
            private_key=(directory / "key.pem").read_bytes(),
            certificate_chain=(directory / "cert.pem").read_bytes(),
        )
        options = [
            ("grpc.ssl_target_name_override", SERVER_NAME),
            # A manager that comes back is seen at once, not after a minute.
            ("grpc.max_reconnect_backoff_ms", 500),
        ]
        self.channels = [grpc.secure_channel(m, credentials, options=options) for m in managers]
        self.stubs = [ecs_pb2_grpc.EcsStub(channel) for channel in self.channels]
        self.turn = 0

    def call(self, rpc, request):
        """Asks managers until one answers; raises what the cluster answered."""
        deadline = time.monotonic() + CALL_WAIT
        while True:
            stub = self.stubs[self.turn % len(self.stubs)]
            try:
                return getattr(stub, rpc)(request, timeout=TRY_WAIT)
            except grpc.RpcError as error:
                if error.code() not in PASSING or time.monotonic() >= deadline:
                    raise
            self.turn += 1
            time.sleep(0.1)


def main():
    parser = argparse.ArgumentParser(description="Create services, each exactly once.")
    parser.add_argument("--identity", required=True, help="directory of ca.pem, cert.pem, key.pem")
    parser.add_argument("--managers", required=True, help="host:port,host:port,...")
    parser.add_argument("--task-definition", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--count", type=int, default=1)
    words = parser.parse_args()

    cluster = Cluster(words.managers.split(","), words.identity)
    for number in range(1, words.count + 1):
        request = ecs_pb2.CreateServiceRequest(
            service_name=f"{words.prefix}-{number}",
            task_definition=words.task_definition,
            client_token=str(uuid.uuid4()),
        )
        first = cluster.call("CreateService", request)
        # The same request again: the same answer, and no second effect.
        second = cluster.call("CreateService", request)
        assert first.service.service_arn == second.service.service_arn
        print(first.service.service_arn, flush=True)


if __name__ == "__main__":
    main()

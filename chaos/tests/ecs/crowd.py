"""Peers that mean no good, by the thousand, at the wire door of a manager's process.

crowd.py PID: the process behind AWS_ENDPOINT_URL_ECS. 1,000 peers connect and say nothing more,
others are slow, each at another place: in the handshake, in the headers, in a short body, in a
long one, and in taking their answers. While they are there, honest calls are answered; the process
grows by a bounded amount; and it cuts all of them off by itself, which gives the descriptors back.
"""

import os
import resource
import socket
import ssl
import sys
import time
from urllib.parse import urlsplit

from common import client, run

PID = sys.argv[1]
IDLE = 1000
SLOW = 60
UNREAD = 4
# Of one connection: TLS, HTTP's buffers, 64 KiB of a short body. Of a long body: 4 MiB, 32 at once.
PER_CONNECTION_MIB = 0.125
LONG_BODIES_MIB = 32 * 4
# One call of an honest client, on two busy cores.
ANSWERED_WITHIN = 10
# HEAD_READ_MAX of node/api/src/limits.rs, the longest that a peer may take for anything; and more.
CUT_WITHIN = 60 + 30

there = urlsplit(os.environ["AWS_ENDPOINT_URL_ECS"])
context = ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"])
ecs = client()

HEAD = (
    "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-amz-json-1.1\r\n"
    "x-amz-target: AmazonEC2ContainerServiceV20141113.ListClusters\r\n"
)


def tcp():
    return socket.create_connection((there.hostname, there.port), timeout=CUT_WITHIN)


def tls(said=""):
    peer = context.wrap_socket(tcp(), server_hostname=there.hostname)
    peer.sendall(said.encode())
    return peer


def in_the_handshake():
    peer = tcp()
    peer.sendall(b"\x16\x03")
    return peer


def in_the_headers():
    return tls(HEAD + "x-slow: a")


def in_a_short_body():
    return tls(HEAD + "content-length: 60000\r\n\r\n" + "a" * 30000)


def in_a_long_body():
    peer = tls(HEAD + f"content-length: {4 * 1024 * 1024}\r\n\r\n")
    # What is read waits for a place; what is not stays with the kernel.
    peer.setblocking(False)
    try:
        peer.send(b"a" * (1024 * 1024))
    except (ssl.SSLWantWriteError, BlockingIOError):
        pass
    peer.settimeout(CUT_WITHIN)
    return peer


def in_taking_its_answer():
    """Refused requests, more than buffers hold the answers of, and none of these is read."""
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.settimeout(CUT_WITHIN)
    peer.connect((there.hostname, there.port))
    peer = context.wrap_socket(peer, server_hostname=there.hostname)
    peer.settimeout(2)
    try:
        while True:
            peer.send(b"POST / HTTP/1.1\r\n\r\n" * 500)
    except TimeoutError:
        return peer


def memory():
    """MiB of the process that are resident."""
    with open(f"/proc/{PID}/status") as status:
        [line] = [line for line in status if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def descriptors():
    return len(os.listdir(f"/proc/{PID}/fd"))


def honest():
    """One call as any tool makes it; seconds until it was answered."""
    started = time.monotonic()
    assert ecs.list_clusters()["clusterArns"]
    took = time.monotonic() - started
    assert took < ANSWERED_WITHIN, f"an honest call took {took:.1f} s"
    return took


def a_crowd_neither_stops_the_door_nor_stays():
    """Honest calls go on, memory is bounded, and every descriptor comes back."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    slow = [
        *[in_the_handshake, in_the_headers, in_a_short_body, in_a_long_body] * SLOW,
        *[in_taking_its_answer] * UNREAD,
    ]
    honest()
    memory_before, before = memory(), descriptors()
    peers = []
    for number in range(IDLE):
        peers.append(tls())
        if number % 100 == 0:
            honest()
    for number, begin in enumerate(slow):
        peers.append(begin())
        if number % 50 == 0:
            honest()
    # Whoever came first is there still: a handshake that is not finished may be gone by now.
    crowd, grown = descriptors() - before, memory() - memory_before
    assert crowd >= IDLE, f"{crowd} connections of {len(peers)} are there"

    deadline, slowest = time.monotonic() + CUT_WITHIN, 0
    while (left := descriptors() - before) > 0:
        assert time.monotonic() < deadline, f"{left} descriptors were not given back"
        slowest = max(slowest, honest())
        grown = max(grown, memory() - memory_before)
    bound = PER_CONNECTION_MIB * len(peers) + LONG_BODIES_MIB
    assert grown < bound, f"{len(peers)} peers took {grown:.0f} MiB; allowed: {bound:.0f}"
    print(f"{crowd} peers at once took {grown:.0f} MiB of {bound:.0f}")
    print(f"the slowest honest call took {slowest:.2f} s")


run(a_crowd_neither_stops_the_door_nor_stays)

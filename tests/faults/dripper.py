"""Clients that send a byte every 250 ms, in a process of their own, so that they take no time of whoever measures.

    dripper.py PORT COUNT BEGUN BYTE      both in hexadecimal

Prints "begun" once all have, and, when each connection has ended, how many were answered 408 and how many otherwise.
"""

import itertools
import selectors
import socket
import sys
import time


def main() -> None:
    port, count = int(sys.argv[1]), int(sys.argv[2])
    begun, byte = bytes.fromhex(sys.argv[3]), bytes.fromhex(sys.argv[4])
    selector = selectors.DefaultSelector()
    answers: dict[socket.socket, bytes] = {}
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(begun)
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ)
        answers[connection] = b""
    print("begun", flush=True)
    left = set(answers)
    # A fiftieth of them every 5 ms: all at once they would be a burst each time.
    parts = itertools.cycle([list(answers)[number::50] for number in range(50)])
    while left:
        ends_s = time.monotonic() + 0.005
        while (wait_s := ends_s - time.monotonic()) > 0 and left:
            for key, _ in selector.select(wait_s):
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                try:
                    part = connection.recv(65_536)
                except ConnectionError:
                    part = b""
                answers[connection] += part
                if not part:
                    selector.unregister(connection)
                    connection.close()
                    left.discard(connection)
        for connection in left.intersection(next(parts)):
            try:
                connection.send(byte)
            except OSError:  # its end is read above
                continue
    told = sum(answer.startswith(b"HTTP/1.1 408 ") for answer in answers.values())
    print(told, sum(bool(answer) for answer in answers.values()) - told, flush=True)


if __name__ == "__main__":
    main()

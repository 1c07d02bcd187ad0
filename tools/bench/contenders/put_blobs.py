"""Give a registry new random blobs as fast as it takes them: put_blobs.py HOST:PORT REPOSITORY COUNT BYTES THREADS.

BYTES: of each. The client does next to nothing else: all blobs are one, but for the number at their head.
"""

import hashlib
import os
import sys
import threading
from http.client import HTTPConnection
from queue import Empty, SimpleQueue

OCTETS = {"Content-Type": "application/octet-stream"}


def put_all(host: str, repository: str, numbers: "SimpleQueue[int]", blob: bytes) -> None:
    connection = HTTPConnection(host)
    while True:
        try:
            head = numbers.get_nowait().to_bytes(8, "big")
        except Empty:
            return
        body = head + blob
        connection.request("POST", f"/v2/{repository}/blobs/uploads/", headers={"Content-Length": "0"})
        begun = connection.getresponse()
        begun.read()
        place = (begun.getheader("Location") or "").removeprefix(f"http://{host}")
        connection.request("PUT", f"{place}&digest=sha256:{hashlib.sha256(body).hexdigest()}", body, OCTETS)
        done = connection.getresponse()
        done.read()
        if done.status != 201:
            sys.stderr.write(f"blob refused: {done.status}\n")
            os._exit(1)


def main() -> None:
    host, repository = sys.argv[1:3]
    count, size, threads = map(int, sys.argv[3:])
    numbers: SimpleQueue[int] = SimpleQueue()
    for number in range(count):
        numbers.put(number)
    blob = os.urandom(size - 8)
    clients = [threading.Thread(target=put_all, args=(host, repository, numbers, blob)) for _ in range(threads)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    print(count - numbers.qsize())


if __name__ == "__main__":
    main()

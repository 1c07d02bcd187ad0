"""Send new random blobs to a registry as fast as it takes them: put_blobs.py HOST:PORT REPOSITORY COUNT BYTES THREADS.

BYTES: of each. Prints how many the registry took. To save time, the blobs differ only in the number at their start.
"""

import hashlib
import os
import sys
import threading
from http.client import HTTPConnection
from queue import Empty, SimpleQueue

OCTETS = {"Content-Type": "application/octet-stream"}


def put_all(host: str, repository: str, numbers: "SimpleQueue[int]", blob: bytes, taken: "list[int]") -> None:
    connection = HTTPConnection(host)
    while True:
        try:
            number = numbers.get_nowait()
        except Empty:
            return
        body = number.to_bytes(8, "big") + blob
        connection.request("POST", f"/v2/{repository}/blobs/uploads/", headers={"Content-Length": "0"})
        begun = connection.getresponse()
        begun.read()
        place = (begun.getheader("Location") or "").removeprefix(f"http://{host}")
        connection.request("PUT", f"{place}&digest=sha256:{hashlib.sha256(body).hexdigest()}", body, OCTETS)
        done = connection.getresponse()
        done.read()
        if done.status == 201:
            taken.append(number)


def main() -> None:
    host, repository = sys.argv[1:3]
    count, size, threads = map(int, sys.argv[3:])
    numbers: SimpleQueue[int] = SimpleQueue()
    for number in range(count):
        numbers.put(number)
    blob, taken = os.urandom(size - 8), list[int]()
    clients = [threading.Thread(target=put_all, args=(host, repository, numbers, blob, taken)) for _ in range(threads)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    print(len(taken))


if __name__ == "__main__":
    main()

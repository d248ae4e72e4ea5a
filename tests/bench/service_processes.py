"""Asks several services on one gallery, as one JSON line; nothing but Python's own library.

    python service_processes.py ADDRESSES TOKEN PICTURES SECONDS

ADDRESSES are divided by commas; 16 clients are spread over them, each of which asks anew when it has its answer. First they
send pictures to recognize, then an embedding to search, then the same while two more clients add an entry after the
other, at one service after the other.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

addresses, token, folder, seconds = sys.argv[1:5]
addresses = [(urlsplit(address).hostname, urlsplit(address).port) for address in addresses.split(",")]
seconds = float(seconds)
pictures = [file.read_bytes() for file in sorted(Path(folder).rglob("*")) if file.is_file()]
CLIENTS = 16
CHANGING = 2


class Client:
    """A connection to each service that stays open."""

    def __init__(self):
        self.open = {}

    async def ask(self, place, path, body, kind):
        host, port = address = addresses[place % len(addresses)]
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: {kind}\r\n"
            f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        if address not in self.open:
            self.open[address] = await asyncio.open_connection(host, port)
        reader, writer = self.open[address]
        writer.write(head.encode() + body)
        await writer.drain()
        told = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(told.split("content-length:")[1].split("\r\n")[0])
        answer = await reader.readexactly(length)
        if " 200 " not in told.split("\r\n")[0]:
            sys.exit(f"{path}: {told}{answer.decode()}")
        return json.loads(answer)


async def repeated(ask):
    """The times of asking over and over again."""
    begin, times = time.perf_counter(), []
    while time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        await ask(len(times))
        times.append(time.perf_counter() - start)
    return times


def percentile(times, share):
    times = sorted(times)
    return 1000 * times[min(len(times) - 1, int(share * len(times)))]


async def measured(asks, changes=()):
    """Answers a second and their times; of changes the same."""
    begin = time.perf_counter()
    times = await asyncio.gather(*(repeated(ask) for ask in [*asks, *changes]))
    took = time.perf_counter() - begin
    told = {}
    for name, all_times in (("", times[: len(asks)]), ("change_", times[len(asks) :])):
        flat = [one for some in all_times for one in some]
        if flat:
            told |= {
                f"{name}rate": len(flat) / took,
                f"{name}p50": percentile(flat, 0.5),
                f"{name}p99": percentile(flat, 0.99),
            }
    return told


async def main():
    clients = [Client() for _ in range(CLIENTS)]
    embedded = await clients[0].ask(0, "/v1/embed?part=entry", pictures[0], "application/octet-stream")
    embedding = json.dumps({"embedding": embedded["images"][0]["embedding"]}).encode()

    def recognizing(client, place):
        return lambda number: client.ask(
            place, "/v1/recognize", pictures[(7 * place + number) % len(pictures)], "application/octet-stream"
        )

    def searching(client, place):
        return lambda _: client.ask(place, "/v1/search", embedding, "application/json")

    def adding(client, place):
        # Other bytes of the same pixels are another image.
        def add(number):
            picture = pictures[number % len(pictures)] + f"{time.time_ns()} {place}".encode()
            return client.ask(place + number, f"/v1/entries?class=added-{place}", picture, "application/octet-stream")

        return add

    recognize = [recognizing(client, place) for place, client in enumerate(clients)]
    search = [searching(client, place) for place, client in enumerate(clients)]
    change = [adding(Client(), place) for place in range(CHANGING)]
    # What is set up at the first requests counts for nobody.
    for all_asks in (recognize, search):
        await asyncio.gather(*(ask(0) for ask in all_asks))
    print(
        json.dumps(
            {
                "processes": len(addresses),
                "recognize": await measured(recognize),
                "search": await measured(search),
                "changed": await measured(search, change),
            }
        ),
        flush=True,
    )


asyncio.run(main())

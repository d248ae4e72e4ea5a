"""Asks a service with pictures, as JSON lines; nothing but Python's own library.

    python service_load.py NAME ADDRESS PATH PICTURES SECONDS [RATE]

First as fast as it goes, with 1 and with 16 clients, each of which asks anew when it has its answer. Then with 16
clients at half of what these got: requests come at even times, and the time of one counts from when it was to come, so
that one that waits for a client is not forgotten. With RATE they come at that rate once more, so that two services are
asked alike. The answers of the first round are printed, so that services can be compared.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

service, address, path, folder, seconds = sys.argv[1:6]
alike = float(sys.argv[6]) if len(sys.argv) > 6 else None
seconds = float(seconds)
host, port = urlsplit(address).hostname, urlsplit(address).port
pictures = [file.read_bytes() for file in sorted(Path(folder).rglob("*")) if file.is_file()]


class Client:
    """A connection that stays open."""

    async def ask(self, picture):
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/octet-stream\r\n"
            f"Content-Length: {len(picture)}\r\n\r\n"
        )
        if not hasattr(self, "reader"):
            await self.connect()
        try:
            head = await self.head_of(head.encode() + picture)
        except (asyncio.IncompleteReadError, ConnectionError):
            # A service closes a connection that was still for long.
            await self.connect()
            head = await self.head_of(head.encode() + picture)
        length = int(head.split("content-length:")[1].split("\r\n")[0])
        body = await self.reader.readexactly(length)
        if " 200 " not in head.split("\r\n")[0]:
            sys.exit(f"{service}: {head}{body.decode()}")
        return json.loads(body)

    async def connect(self):
        self.reader, self.writer = await asyncio.open_connection(host, port)

    async def head_of(self, request):
        self.writer.write(request)
        await self.writer.drain()
        return (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()


def first_of(answer):
    answer = answer.get("images", [answer])[0]
    objects = answer["objects"]
    return objects[0]["matches"][0]["label"] if objects else None


async def closed(clients):
    """Pictures a second, and the times of all."""
    begin, times = time.perf_counter(), []

    async def one(client, number):
        while time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            await client.ask(pictures[number % len(pictures)])
            times.append(time.perf_counter() - start)
            number += 1

    await asyncio.gather(*(one(client, 7 * place) for place, client in enumerate(clients)))
    return len(times) / (time.perf_counter() - begin), times


async def even(clients, rate):
    """The times of requests that come at even times."""
    due, times = asyncio.Queue(), []

    async def one(client):
        while (asked := await due.get()) is not None:
            number, moment = asked
            await client.ask(pictures[number % len(pictures)])
            times.append(time.perf_counter() - moment)

    working = [asyncio.create_task(one(client)) for client in clients]
    begin = time.perf_counter()
    for number in range(max(1, int(rate * seconds))):
        moment = begin + number / rate
        await asyncio.sleep(max(0, moment - time.perf_counter()))
        due.put_nowait((number, moment))
    for _ in clients:
        due.put_nowait(None)
    await asyncio.gather(*working)
    return times


def percentile(times, share):
    times = sorted(times)
    return 1000 * times[min(len(times) - 1, int(share * len(times)))]


async def main():
    clients = [Client() for _ in range(16)]
    answers = [first_of(await clients[0].ask(picture)) for picture in pictures]
    print(json.dumps({"service": service, "answers": answers}), flush=True)
    # What is set up at the first requests counts for nobody.
    await asyncio.gather(*(client.ask(pictures[0]) for client in clients))
    one, times = await closed(clients[:1])
    many, _ = await closed(clients)
    rates = {"one": one, "many": many, "one_p50": percentile(times, 0.5)}
    times = await even(clients, many / 2)
    half = {"p50": percentile(times, 0.5), "p99": percentile(times, 0.99), "requests": len(times)}
    if alike is not None:
        times = await even(clients, alike)
        half |= {"alike_p50": percentile(times, 0.5), "alike_p99": percentile(times, 0.99)}
    print(json.dumps({"service": service, **rates, **half}), flush=True)


asyncio.run(main())

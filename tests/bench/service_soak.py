"""Holds a service at its capacity for a while, as JSON lines; nothing but Python's own library.

    python service_soak.py ADDRESS PICTURES TOKEN PID MINUTES KEPT
    python service_soak.py ADDRESS --check KEPT

Eight clients ask for names as fast as it goes. Beside them two break requests off at every point, two send rubbish, and
two change the gallery, each in classes of its own, so that each knows what its classes have to hold. What was answered is
written to KEPT; `--check` compares it with what a service says. The memory of the process PID is read every five seconds.
"""

import asyncio
import base64
import collections
import json
import random
import sys
import time
from pathlib import Path
from urllib.parse import quote, urlsplit

host, port = urlsplit(sys.argv[1]).hostname, urlsplit(sys.argv[1]).port
# Classes of a changing client at most; the oldest goes for the next one.
CLASSES = 12
# Within which a request is answered, by the service's own limits.
PATIENCE = 150


async def ask(method, path, body=b"", headers=(), stop=None):
    """Status, headers and body of an answer; with `stop` the connection ends after so many bytes were sent."""
    reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), PATIENCE)
    try:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}:{port}", "Connection: close", *headers]
        request = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body
        writer.write(request if stop is None else request[:stop])
        await asyncio.wait_for(writer.drain(), PATIENCE)
        if stop is not None:
            return None
        return parsed(await asyncio.wait_for(reader.read(), PATIENCE))
    finally:
        writer.close()


def parsed(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    named = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    return int(lines[0].split()[1]), named, body


async def classes_of(prefix):
    """The entries of all classes of a client, by class."""
    found, offset = {}, 0
    while offset is not None:
        _, _, body = await ask("GET", f"/v1/entries?limit=1000&offset={offset}")
        page = json.loads(body)
        for entry in page["entries"]:
            if entry["class"].startswith(prefix):
                found.setdefault(entry["class"], set()).add(entry["id"])
        offset = page["next"]
    return {label: sorted(ids) for label, ids in found.items()}


class Soak:
    def __init__(self):
        self.pictures = [f.read_bytes() for f in sorted(Path(sys.argv[2]).rglob("*")) if f.is_file()]
        self.token = f"Authorization: Bearer {Path(sys.argv[3]).read_text().strip()}"
        self.pid, self.end = sys.argv[4], time.monotonic() + 60 * float(sys.argv[5])
        self.statuses = collections.Counter()
        self.failures, self.broken, self.memory = [], 0, []

    def goes_on(self):
        return time.monotonic() < self.end

    async def count(self, kind, method, path, body=b"", headers=()):
        """Asks until the service has time; what it answers has to be 2xx or 4xx."""
        while True:
            try:
                status, named, answer = await ask(method, path, body, headers)
            except Exception as error:
                self.failures.append(f"{kind}: {method} {path}: {error!r}")
                return 0, b""
            self.statuses[kind, status] += 1
            if status >= 500 or status < 200:
                self.failures.append(f"{kind}: {method} {path}: {status} {answer[:300]!r}")
            if status != 429:
                return status, answer
            await asyncio.sleep(float(named.get("retry-after", 1)))

    async def asks(self, number):
        while self.goes_on():
            number += 1
            picture = self.pictures[number % len(self.pictures)]
            path = random.choice(["/v1/recognize", "/v1/recognize", "/v1/embed", "/v1/search?top_k=3"])
            status, _ = await self.count("asks", "POST", path, picture)
            if status not in (0, 200):
                self.failures.append(f"asks: {path}: {status} for a picture")

    async def breaks_off(self, draw):
        while self.goes_on():
            picture = draw.choice(self.pictures)
            stop = draw.choice([0, 10, 150, len(picture) // 2, len(picture) + 400])
            change = draw.random() < 0.2
            # A change that is broken off has a class of its own: nobody knows whether it was begun.
            path = "/v1/entries?class=broken%20off" if change else "/v1/recognize"
            try:
                await ask("POST", path, picture, [self.token] if change else [], stop)
                self.broken += 1
            except OSError:
                pass
            await asyncio.sleep(draw.random() * 0.2)

    async def sends_rubbish(self, draw):
        junk = draw.randbytes
        while self.goes_on():
            picture = bytearray(draw.choice(self.pictures))
            for _ in range(20):
                picture[draw.randrange(len(picture))] = draw.randrange(256)
            as_json = ["Content-Type: application/json"]
            method, path, body, headers = draw.choice([
                ("POST", "/v1/recognize", bytes(picture), []),
                ("POST", "/v1/recognize", junk(5000), []),
                ("POST", "/v1/search", junk(300), as_json),
                ("POST", "/v1/search", b'{"embedding": [' + b"1e999," * 9 + b"0]}", as_json),
                ("POST", "/v1/recognize", b"[" * 5000, as_json),
                ("POST", "/v1/entries?class=x", bytes(picture), ["Authorization: Bearer " + "a" * 64]),
                ("POST", "/v1/recognize?top_k=-1", bytes(picture), []),
                ("POST", "/v1/embed", junk(900), ["Content-Type: multipart/form-data; boundary=x"]),
                ("GET", "/v1/classes/" + quote(junk(12)), b"", []),
                ("DELETE", "/v1/entries/" + "f" * 32, b"", [self.token]),
                ("PUT", "/v1/gallery/file", junk(4000), [self.token]),
                ("PATCH", "/v1/gallery", b"", []),
                ("GET", "/../" * 20, b"", []),
            ])
            await self.count("rubbish", method, path, body, headers)

    async def changes(self, prefix, draw):
        """Adds, renames, moves and removes; returns what its classes hold by the answers."""
        held, count = {}, 0
        while self.goes_on():
            count += 1
            once = f"Idempotency-Key: {prefix}-{count}"
            kind = draw.choice(["add", "add", "add", "rename", "move", "remove", "entry"])
            if draw.random() < 0.02:
                learn = draw.choice(["adapt", "calibrate"])
                await self.changed("POST", f"/v1/gallery/{learn}", b"", once)
            elif kind == "add" or not held:
                label = draw.choice([*held, f"{prefix} {count}"])
                pictures = draw.sample(self.pictures, 3)
                images = [{"data": base64.b64encode(p).decode(), "class": label} for p in pictures]
                body = json.dumps({"images": images}).encode()
                status, answer = await self.changed("POST", "/v1/entries", body, once)
                if status == 200:
                    ids = await self.ids_of(label)
                    if len(ids) != len(held.get(label, ())) + json.loads(answer)["added"]:
                        self.failures.append(f"{label}: {len(ids)} entries after {answer[:200]!r}")
                    held[label] = ids
            elif kind == "rename":
                old, new = draw.choice([*held]), f"{prefix} {count}"
                body = json.dumps({"label": new}).encode()
                if (await self.changed("PATCH", f"/v1/classes/{quote(old)}", body, once))[0] == 200:
                    held[new] = held.pop(old)
            elif kind == "move":
                old, new = draw.choice([*held]), draw.choice([*held, f"{prefix} {count}"])
                some = sorted(held[old])[:1]
                body = json.dumps({"ids": some, "class": old, "to": new}).encode()
                if some and old != new:
                    if (await self.changed("POST", "/v1/entries/move", body, once))[0] == 200:
                        held[old] = held[old] - set(some)
                        held[new] = held.get(new, set()) | set(some)
            elif kind == "entry":
                old = draw.choice([*held])
                some = sorted(held[old])[:1]
                body = json.dumps({"ids": some, "class": old}).encode()
                if some and (await self.changed("POST", "/v1/entries/remove", body, once))[0] == 200:
                    held[old] = held[old] - set(some)
            elif len(held) > CLASSES or draw.random() < 0.2:
                old = next(iter(held))
                if (await self.changed("DELETE", f"/v1/classes/{quote(old)}", b"", once))[0] == 200:
                    del held[old]
        return {label: sorted(ids) for label, ids in held.items() if ids}

    async def changed(self, method, path, body, once):
        headers = [self.token, once] + (["Content-Type: application/json"] if body else [])
        answer = await self.count("changes", method, path, body, headers)
        if answer[0] != 200:
            self.failures.append(f"changes: {method} {path}: {answer[0]} {answer[1][:300]!r}")
        return answer

    async def ids_of(self, label):
        path = f"/v1/entries?limit=1000&class={quote(label)}"
        status, answer = await self.count("reads", "GET", path)
        return {entry["id"] for entry in json.loads(answer)["entries"]} if status == 200 else set()

    async def watches(self):
        while self.goes_on():
            status = Path(f"/proc/{self.pid}/status").read_text().split("\n")
            kb = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
            files = len(list(Path(f"/proc/{self.pid}/fd").iterdir()))
            self.memory.append((kb / 1024, files))
            await asyncio.sleep(5)

    async def run(self):
        begin, names = time.monotonic(), ["soak a", "soak b"]
        draws = [random.Random(seed) for seed in range(6)]
        changing = [asyncio.create_task(self.changes(n, d)) for n, d in zip(names, draws[:2])]
        await asyncio.gather(
            *(self.asks(37 * place) for place in range(8)),
            *(self.breaks_off(draw) for draw in draws[2:4]),
            *(self.sends_rubbish(draw) for draw in draws[4:]),
            self.watches(),
            *changing,
        )
        kept = {name: task.result() for name, task in zip(names, changing)}
        Path(sys.argv[6]).write_text(json.dumps(kept))
        # The first fifth is left out: what is set up once is no growth.
        fifth = max(1, len(self.memory) // 5)
        middle = lambda part, of: sorted(value[of] for value in part)[len(part) // 2]
        early, late = self.memory[fifth : 2 * fifth] or self.memory, self.memory[-fifth:]
        by = lambda kind: {s: n for (of, s), n in sorted(self.statuses.items()) if of == kind}
        print(json.dumps({
            "minutes": (time.monotonic() - begin) / 60,
            "asks": by("asks"), "rubbish": by("rubbish"), "changes": by("changes"),
            "broken_off": self.broken, "failures": len(self.failures),
            "memory_early_mb": middle(early, 0), "memory_late_mb": middle(late, 0),
            "memory_most_mb": max(mb for mb, _ in self.memory),
            "files_early": middle(early, 1), "files_late": middle(late, 1),
        }), flush=True)
        for failure in self.failures[:20]:
            print(failure, file=sys.stderr)


async def check():
    lost, entries = [], 0
    for prefix, kept in json.loads(Path(sys.argv[3]).read_text()).items():
        found = await classes_of(prefix)
        entries += sum(map(len, kept.values()))
        if found != kept:
            labels = [label for label in kept | found if kept.get(label) != found.get(label)]
            lost.append(f"{prefix}: {len(labels)} classes differ: {labels[:5]}")
    print(json.dumps({"entries": entries, "lost": len(lost)}), flush=True)
    for line in lost:
        print(line, file=sys.stderr)


asyncio.run(check() if sys.argv[2] == "--check" else Soak().run())

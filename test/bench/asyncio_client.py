"""A typical Python program that enriches many people at once: one kept connection
for each request in flight, with the standard library alone.

    asyncio_client.py PORT TOKEN FIRST COUNT CONCURRENCY
"""

import asyncio
import json
import sys


async def read_answer(reader):
    """Status and body of one answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split()[1])
    length = next(
        int(line.split(":")[1])
        for line in head[1:]
        if line.lower().startswith("content-length:")
    )
    return status, json.loads(await reader.readexactly(length))


async def ask_for(people, port, token, persons):
    """Request the remaining people one after the other."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in people:
        body = json.dumps({"person": {"email": f"person{number}@bench.example"}})
        writer.write(
            (
                "POST /v2/enrich/person HTTP/1.1\r\n"
                f"Host: 127.0.0.1:{port}\r\nx-api-token: {token}\r\n"
                "Content-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}"
            ).encode()
        )
        status, person = await read_answer(reader)
        if status != 200:
            raise RuntimeError(f"status {status}: {person}")
        persons[number] = person
    writer.close()


async def main():
    port, token, first, count, concurrency = sys.argv[1:]
    people = iter(range(int(first), int(first) + int(count)))
    persons = {}
    await asyncio.gather(
        *(ask_for(people, port, token, persons) for _ in range(int(concurrency)))
    )
    print(len(persons))


asyncio.run(main())

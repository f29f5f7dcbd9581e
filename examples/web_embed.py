"""Workers inside an application that is there already: here a small HTTP server on asyncio alone.

`python web_embed.py` runs it until Ctrl-C; try `curl --data 'to be or not to be' http://127.0.0.1:8080/`.
`async with engine.running()` around the server is all there is to it; leaving the block lets running jobs end.
"""

import asyncio
import json
import signal
import sys

from headrace import Engine, HeadraceError

engine = Engine()
BODY_MAX_BYTES = 64 * 1024


@engine.job(timeout="10s")
def count_words(text: str) -> dict[str, int]:
    """The work, off the event loop, so that requests are answered meanwhile."""
    words = text.split()
    return {word: words.count(word) for word in words}


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one request: submit its body as a job and answer with the result."""
    try:
        async with asyncio.timeout(10):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            lengths = [line.partition(":")[2] for line in head.split("\r\n") if line.startswith("content-length:")]
            body = await reader.readexactly(min(int(lengths[0]), BODY_MAX_BYTES) if lengths else 0)
            handle = await count_words.submit(body.decode(errors="replace"))
            status, payload = "200 OK", json.dumps(await handle.result(timeout=8)).encode()
    except HeadraceError as error:
        status, payload = "503 Service Unavailable", json.dumps({"error": str(error)}).encode()
    except (TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        status, payload = "400 Bad Request", b'{"error": "send a request with a Content-Length and a body"}'
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}\r\n"
    writer.write(f"{head}Connection: close\r\n\r\n".encode() + payload)
    await writer.drain()
    writer.close()


async def main(port: int) -> None:
    """Serve until SIGINT or SIGTERM, with the workers running beside."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with engine.running(), await asyncio.start_server(answer, "127.0.0.1", port) as server:
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
        await stop.wait()
    print("stopped")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8080))

"""A TCP proxy with one link per client and service, whose faults are set by lines on its standard input.

Run: python -m tests.histories.tcp_proxy TARGET... --links N; each target is HOST:PORT. It prints one JSON list of ports
per target. A command is `LINK TARGET MODE`, numbers from 0:

pass     bytes are passed on
cut      no byte is passed on, in either direction; the connections remain, as with a partition
deaf     the next request that writes is passed on, and its connection closed in place of the response; then `pass`
"""

import argparse
import asyncio
import contextlib
import json
import sys

_CHUNK = 65536
_WRITES = (b"PUT ", b"POST ", b"DELETE ", b"PATCH ")
_PAUSE_SECONDS = 0.02


class Link:
    """One listening port in front of a target."""

    def __init__(self, host: str, port: int) -> None:
        self._target, self.mode = (host, port), "pass"
        self._writing: set[asyncio.StreamWriter] = set()  # connections to the server whose last request writes

    async def listen(self) -> int:
        """Listen on a free port of the loopback interface; the port."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._until_passing("cut")
            server_reader, server_writer = await asyncio.open_connection(*self._target)
            both = (self._requests(reader, server_writer), self._replies(server_reader, writer, server_writer))
            tasks = [asyncio.ensure_future(one) for one in both]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            server_writer.close()
            self._writing.discard(server_writer)
        writer.close()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK):
            await self._until_passing("cut")
            if chunk.startswith((*_WRITES, b"GET ", b"HEAD ")):
                (self._writing.add if chunk.startswith(_WRITES) else self._writing.discard)(writer)
            writer.write(chunk)
            await writer.drain()

    async def _replies(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(_CHUNK):
            await self._until_passing("cut")
            # Before "100 Continue" the server has not received the body: only a later reply follows a write.
            if self.mode == "deaf" and server in self._writing and not chunk.startswith(b"HTTP/1.1 100"):
                self.mode = "pass"
                return
            writer.write(chunk)
            await writer.drain()

    async def _until_passing(self, blocked: str) -> None:
        while self.mode == blocked:
            await asyncio.sleep(_PAUSE_SECONDS)


async def serve(targets: list[str], links: int) -> None:
    """Serve until the standard input ends."""
    addresses = [(target.rpartition(":")[0], int(target.rpartition(":")[2])) for target in targets]
    table = [[Link(*address) for _ in range(links)] for address in addresses]
    ports = [[await link.listen() for link in row] for row in table]
    print(json.dumps(ports), flush=True)  # noqa: T201
    loop, commands = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        link, target, mode = line.decode().split()
        table[int(target)][int(link)].mode = mode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--links", type=int, required=True)
    options = parser.parse_args()
    asyncio.run(serve(options.targets, options.links))

"""ASGI middleware that limits requests before their body is parsed."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mcti.registry.http_errors import error_body

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

# Most clients read no response before they have sent their whole body. If the server closes earlier, the connection
# breaks and the client does not receive the reason. So up to this multiple of the limit is read and discarded; a still
# larger body is cut off.
_DISCARD_FACTOR = 16

# A parsed number takes 32 bytes, a list 64 and more: a body of `[],[],` grows to thirty times its size. A body of
# features has a comma every ten bytes and a list every few hundred; a denser body is refused.
_BYTES_PER_NUMBER, _BYTES_PER_LIST = 8, 64


class BodyLimit:
    """Refuses a request before its body is parsed.

    400  more than `max_bytes` bytes, or more numbers or lists than features of that size contain
    408  the body does not arrive within `seconds`
    415  a request to /invocations that is not JSON
    503  the bodies of all requests in progress exceed `max_bytes` bytes
    """

    def __init__(self, app: Any, max_bytes: int, seconds: float) -> None:
        self.app, self.max_bytes, self.seconds = app, max_bytes, seconds
        self.bytes_in_use = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body up to the limit, then pass it to the application or refuse the request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = bytearray()
        try:
            async with asyncio.timeout(self.seconds):
                status, message = await self._read(scope, receive, body)
        except TimeoutError:
            status, message = 408, f"the request did not arrive within {self.seconds:g} seconds"
        size, messages = len(body), [{"type": "http.request", "body": bytes(body), "more_body": False}]
        body.clear()  # otherwise the request is in memory twice during the prediction

        async def replay() -> dict[str, Any]:
            return messages.pop() if messages else await receive()

        try:
            await (_refuse(send, status, message) if status else self.app(scope, replay, send))
        finally:
            self.bytes_in_use -= size

    async def _read(self, scope: Scope, receive: Receive, body: bytearray) -> tuple[int, str]:
        """Fill `body`; status and message of a refusal, or (0, "")."""
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"0")
        # A chunked body declares no length, so the bytes that arrive are counted as well.
        arrived, more, refusal = 0, True, self._too_large(int(declared) if declared.isdigit() else 0)
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return 400, "the client closed the connection"
            part, more = message.get("body", b""), message.get("more_body", False)
            arrived += len(part)
            if not refusal[0]:
                refusal = self._too_large(arrived) if arrived > self.max_bytes else self._busy(part)
            if not refusal[0]:
                body += part
                self.bytes_in_use += len(part)
                continue
            self.bytes_in_use -= len(body)
            body.clear()  # released at once, so that a concurrent request can be accepted
            if arrived > _DISCARD_FACTOR * self.max_bytes:
                break
        return refusal if refusal[0] else self._unreadable(scope, headers, body)

    def _too_large(self, size: int) -> tuple[int, str]:
        message = f"the request is larger than {self.max_bytes} bytes: send fewer patients or patches per request"
        return (400, message) if size > self.max_bytes else (0, "")

    def _busy(self, part: bytes) -> tuple[int, str]:
        # A single request is always accepted, whatever its size; it waits only while others are in progress.
        full = self.bytes_in_use + len(part) > self.max_bytes
        return (503, "other requests fill the memory: try again") if full else (0, "")

    def _unreadable(self, scope: Scope, headers: Mapping[bytes, bytes], body: bytearray) -> tuple[int, str]:
        media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().decode("latin-1")
        # A Parquet table decompresses to any size; a CSV table cannot contain genes and features.
        if scope["path"] == "/invocations" and scope["method"] == "POST" and media_type != "application/json":
            return 415, f"content-type is {media_type or 'missing'}: send application/json"
        numbers, lists = body.count(b","), body.count(b"[") + body.count(b"{")
        if numbers > self.max_bytes // _BYTES_PER_NUMBER or lists > self.max_bytes // _BYTES_PER_LIST:
            hint = "send fewer patches per request, or features as base64"
            return 400, f"{numbers} numbers in {lists} lists: {hint}"
        return 0, ""


async def _refuse(send: Send, status: int, message: str) -> None:
    body = json.dumps(error_body(message)).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

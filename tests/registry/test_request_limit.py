"""Limits of a request before its body is parsed."""

import asyncio
import json
import urllib.error
import urllib.request

import pytest

from mcti.registry import request_limit


def _through(limit, *parts, path="/invocations"):
    """(status, body) of a request in parts through the limit; a part may be an async function that returns bytes."""

    async def receive():
        part = remaining.pop(0)
        part = await part() if callable(part) else part
        return {"type": "http.request", "body": part, "more_body": bool(remaining)}

    async def send(message):
        sent.append(message)

    remaining, sent = list(parts), []
    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "path": path, "method": "POST", "headers": headers}

    async def respond():
        await limit(scope, receive, send)
        return sent[0]["status"], sent[1]["body"]

    return respond() if any(callable(part) for part in parts) else asyncio.run(respond())


async def _echo(scope, receive, send):
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


def test_concurrent_bodies_stay_within_the_limit_and_one_is_always_accepted():
    """Memory is bounded for any number of concurrent requests, and one request is always accepted."""
    limit = request_limit.BodyLimit(_echo, 1000, 60)

    async def many():
        async def pause():
            await asyncio.sleep(0.01)
            return b"x" * 300

        return await asyncio.gather(*(_through(limit, b"x" * 300, pause, pause) for _ in range(5)))

    answers = asyncio.run(many())
    assert sorted(status for status, _ in answers) == [200, 503, 503, 503, 503]
    assert limit.bytes_in_use == 0
    assert _through(limit, b"x" * 600, b"x" * 400) == (200, b"x" * 1000)
    assert _through(limit, b"x" * 600, b"x" * 401)[0] == 400
    assert limit.bytes_in_use == 0


def test_a_body_that_does_not_arrive_times_out():
    limit = request_limit.BodyLimit(_echo, 1000, 0.05)

    async def slow():
        return await _through(limit, b"x", lambda: asyncio.sleep(600))

    status, body = asyncio.run(slow())
    assert status == 408
    assert b"did not arrive within 0.05 seconds" in body
    assert limit.bytes_in_use == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "media_type", ["text/csv", "application/vnd.apache.parquet", "application/x-www-form-urlencoded"]
)
def test_other_media_types_are_refused_before_parsing(server, media_type):
    """A megabyte of Parquet decompresses to any size."""
    request = urllib.request.Request(f"{server}/invocations", b"PAR1", {"content-type": media_type})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=600)
    assert caught.value.code == 415
    assert f"content-type is {media_type}: send application/json" in json.loads(caught.value.read())["error"]

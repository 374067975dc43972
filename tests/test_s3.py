"""The client of S3: times in its answers."""

import pytest
from botocore.utils import parse_timestamp

from mcti import s3


@pytest.mark.parametrize(
    "text",
    ["2026-11-30T09:00:00Z", "2026-11-30T09:00:00.123Z", "Thu, 12 Feb 2026 09:00:00 GMT", "1764493200", 1764493200],
)  # fmt: skip
def test_times_are_those_of_botocore(text):
    assert s3._timestamp(text) == parse_timestamp(text)
    assert s3._timestamp(text).tzinfo is not None


def test_the_client_uses_this_parser_and_probes_idle_connections(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    client = s3.client()
    parser = client._endpoint._response_parser_factory.create_parser("rest-xml")
    assert parser._timestamp_parser is s3._timestamp
    assert client.meta.config.tcp_keepalive is True

"""The client of S3: its settings, and its listings compared with those of an unmodified client."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.exceptions import ClientError

from mcti import s3

NAMESPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
FIELDS = "<Size>6</Size><Owner><ID>m</ID></Owner><LastModified>2026-11-30T12:41:54Z</LastModified>"
KEYS = [["p/1%26%C3%A9.json", "p/2%20b.json"], ["p/3.json"]]
"""Two pages of keys, encoded as S3 does for `EncodingType=url`: p/1&é.json, p/2 b.json, p/3.json."""


def listing(page, namespace):
    items = "".join(
        f"<Contents><Key>{key}</Key><ETag>&#34;e{key[2]}&#34;</ETag>{FIELDS}</Contents>" for key in KEYS[page]
    )
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>" if page == 0 else ""
    return f"<ListBucketResult{namespace}><EncodingType>url</EncodingType>{more}{items}</ListBucketResult>"


def versions(page, namespace):
    items = "".join(
        f"<Version><Key>{key}</Key><VersionId>v{n}</VersionId><IsLatest>false</IsLatest>{FIELDS}</Version>"
        for key in KEYS[page] for n in range(2)
    )  # fmt: skip
    deleted = "<DeleteMarker><Key>p/4.json</Key><VersionId>d</VersionId></DeleteMarker>"
    more = "<IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>" if page == 0 else ""
    return f"<ListVersionsResult{namespace}><EncodingType>url</EncodingType>{more}{items}{deleted}</ListVersionsResult>"


@contextlib.contextmanager
def serving(answer):
    """A server on loopback that answers every GET with (status, text) of its query; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, text = answer(parse_qs(urlsplit(self.path).query, keep_blank_values=True))
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Nothing on the terminal of the tests."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def keys(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.mark.parametrize("namespace", [NAMESPACE, ""])
def test_a_listing_has_the_keys_and_etags_of_an_unmodified_client(keys, monkeypatch, namespace):
    def answer(query):
        if "versions" in query:
            return 200, versions(int("key-marker" in query), namespace)
        return 200, listing(int("continuation-token" in query), namespace)

    with serving(answer) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        etags, all_versions = s3.etags("s3://b/p/"), s3.addresses_of_all_versions("s3://b/p/")
        plain = boto3.client("s3")
        pages = list(plain.get_paginator("list_objects_v2").paginate(Bucket="b", Prefix="p/"))
        items = [item for page in pages for item in page["Contents"]]
        marked = list(plain.get_paginator("list_object_versions").paginate(Bucket="b", Prefix="p/"))
        former = {item["Key"] for page in marked for item in page["Versions"]}
    assert etags == {f"s3://b/{item['Key']}": item["ETag"].strip('"') for item in items}
    assert etags == {"s3://b/p/1&é.json": "e1", "s3://b/p/2 b.json": "e2", "s3://b/p/3.json": "e3"}
    assert all_versions == sorted(f"s3://b/{key}" for key in former) == sorted(etags)


def test_a_refused_listing_is_the_error_of_the_store(keys, monkeypatch):
    with serving(lambda _: (403, "<Error><Code>AccessDenied</Code></Error>")) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        with pytest.raises(s3.OperationalError, match=r"S3 refused the credentials \(AccessDenied\)"):
            s3.etags("s3://b/p/")


def test_the_client_probes_idle_connections(keys, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    assert s3.client().meta.config.tcp_keepalive is True


@pytest.mark.parametrize(
    ("code", "conflict"), [("PreconditionFailed", s3.Conflict), ("ConditionalRequestConflict", s3.ConcurrentWrite)]
)
def test_a_write_that_has_ended_is_told_from_one_that_has_not(code, conflict):
    """RFC 9110, 412: the condition is false. S3 answers 409 while the other write is running."""
    with pytest.raises(s3.Conflict) as refused, s3.service("s3://bucket/key"):
        raise ClientError({"Error": {"Code": code}}, "PutObject")
    assert type(refused.value) is conflict

"""The lease under deletions between a read and a conditional write, with the responses of three servers.

If-Match on a missing key: AWS S3 and moto answer 404 NoSuchKey, SeaweedFS 4.48 answers 412 PreconditionFailed.
"""

import pytest
from botocore.exceptions import ClientError

from mcti import s3
from mcti.registry import lease

ADDRESS = "s3://bucket/leases/model.json"


class Body:
    def __init__(self, data):
        self.data = data

    def read(self):
        return self.data


class Server:
    """Objects in memory with conditional writes; `after_get` runs directly after a read."""

    def __init__(self, code):
        self.code, self.objects, self.number, self.after_get = code, {}, 0, lambda: None

    def get_object(self, Bucket, Key):
        if Key not in self.objects:
            raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
        body, etag = self.objects[Key]
        self.after_get()
        return {"Body": Body(body), "ETag": etag}

    def put_object(self, Bucket, Key, Body, IfMatch=None, IfNoneMatch=None):
        if IfMatch and Key not in self.objects:
            raise ClientError({"Error": {"Code": self.code}}, "PutObject")
        if (IfNoneMatch and Key in self.objects) or (IfMatch and self.objects[Key][1] != IfMatch):
            raise ClientError({"Error": {"Code": "PreconditionFailed"}}, "PutObject")
        self.number += 1
        self.objects[Key] = (Body, str(self.number))
        return {"ETag": str(self.number)}


@pytest.fixture(params=["NoSuchKey", "404", "PreconditionFailed"])
def server(request, monkeypatch):
    fake = Server(request.param)
    monkeypatch.setattr(s3, "client", lambda: fake)
    return fake


def deleted_once(server):
    def delete():
        server.after_get = lambda: None
        server.objects.clear()

    server.after_get = delete


def test_a_deletion_before_a_conditional_write_is_a_conflict(server):
    etag = s3.put(ADDRESS, b"1")
    server.objects.clear()
    with pytest.raises(s3.Conflict):
        s3.put(ADDRESS, b"2", only_if_etag=etag)
    assert server.objects == {}


def test_a_lease_that_is_deleted_during_an_acquisition_is_acquired_again(server):
    assert lease.acquire(ADDRESS, "one", 1).holder == "one"
    assert lease.acquire(ADDRESS, "two", 1).holder == "one"
    deleted_once(server)
    assert lease.acquire(ADDRESS, "one", 1).holder == "one"
    assert lease._find(ADDRESS)[0].holder == "one"


def test_a_lease_that_is_deleted_during_a_release_was_not_released(server):
    lease.acquire(ADDRESS, "one", 1)
    deleted_once(server)
    assert not lease.release(ADDRESS, "one")
    assert lease.acquire(ADDRESS, "two", 1).holder == "two"


def test_a_lease_that_is_deleted_at_every_attempt_is_a_conflict(server):
    server.after_get = server.objects.clear

    def refused(**arguments):
        raise ClientError({"Error": {"Code": "PreconditionFailed"}}, "PutObject")

    lease.acquire(ADDRESS, "one", 1)
    server.put_object = refused
    with pytest.raises(s3.Conflict):
        lease.acquire(ADDRESS, "one", 1)


def test_a_missing_bucket_is_no_conflict(server):
    server.put_object = lambda **_: (_ for _ in ()).throw(ClientError({"Error": {"Code": "NoSuchBucket"}}, "PutObject"))
    with pytest.raises(s3.NotFound):
        s3.put(ADDRESS, b"1", only_if_etag="x")

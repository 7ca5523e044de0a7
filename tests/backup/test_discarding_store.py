"""The store of the benchmarks that keeps everything except the parts of uploads."""

from backup.pipeline.sink import PartSink
from backup.store import PartSizes
from backup.store.options import S3Options
from backup.store.s3 import S3Store
from bench.pitr.discard import discarding
from stack.servers import ObjectStore


def test_uploads_are_discarded_and_everything_else_is_kept(object_store: ObjectStore) -> None:
    bucket = object_store.bucket("discarded")

    def at(endpoint: str) -> S3Store:
        options = S3Options(
            endpoint_url=endpoint,
            access_key_id=object_store.access_key,
            secret_access_key=object_store.secret_key,
        )
        return S3Store(bucket, "", options)

    real = at(object_store.endpoint)
    with discarding(object_store.port) as endpoint:
        front = at(endpoint)
        front.put("folder/small", b"small")
        sink = PartSink(front.begin("folder/large"), PartSizes(first=5 << 20))
        sink.write(bytes(12 << 20))
        sink.finish()
        sink.commit()
        large, small = front.head("folder/large"), front.head("folder/small")
        assert large is not None
        assert small is not None
        assert (large.size, small.size) == (12 << 20, 5)
        assert front.get("folder/small") == b"small"
        assert [info.key for info in front.walk("folder/")] == ["folder/small"]
        assert front.head("folder/none") is None
    assert real.get("folder/small") == b"small"
    assert real.delete(["folder/small"]) == []
    assert real.head("folder/large") is None

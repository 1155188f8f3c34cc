"""What programs do with boto3, against the endpoint and the bucket on the command line. Ends with "boto3: ok"."""

import hashlib
import io
import os
import sys

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

endpoint, bucket = sys.argv[1:]
s3 = boto3.client("s3", endpoint_url=endpoint)


def refused(code, call, **arguments):
    """Checks that the call is refused with the code."""
    try:
        call(Bucket=bucket, **arguments)
    except ClientError as e:
        assert e.response["Error"]["Code"] == code, (code, e)
        return
    raise AssertionError(f"not refused with {code}: {arguments}")


s3.create_bucket(Bucket=bucket)

# Put and get, with metadata, a range, and each checksum that boto3 computes without further packages.
body = os.urandom(100_000)
etag = s3.put_object(Bucket=bucket, Key="a/ü b", Body=body, Metadata={"who": "me"}, ContentType="text/x-test")["ETag"]
assert etag == '"' + hashlib.md5(body).hexdigest() + '"', etag
got = s3.get_object(Bucket=bucket, Key="a/ü b")
assert got["Body"].read() == body and got["Metadata"] == {"who": "me"} and got["ContentType"] == "text/x-test", got
part = s3.get_object(Bucket=bucket, Key="a/ü b", Range="bytes=99990-")
assert part["Body"].read() == body[99990:] and part["ContentRange"] == "bytes 99990-99999/100000", part
for algorithm in ("CRC32", "SHA1", "SHA256"):
    s3.put_object(Bucket=bucket, Key="summed/" + algorithm, Body=body, ChecksumAlgorithm=algorithm)
    assert "Checksum" + algorithm in s3.head_object(Bucket=bucket, Key="summed/" + algorithm, ChecksumMode="ENABLED")

# Conditions.
refused("PreconditionFailed", s3.put_object, Key="a/ü b", Body=b"x", IfNoneMatch="*")
refused("PreconditionFailed", s3.put_object, Key="a/ü b", Body=b"x", IfMatch='"00000000000000000000000000000000"')
refused("NoSuchKey", s3.put_object, Key="absent", Body=b"x", IfMatch=etag)
refused("PreconditionFailed", s3.get_object, Key="a/ü b", IfMatch='"00000000000000000000000000000000"')
refused("304", s3.get_object, Key="a/ü b", IfNoneMatch=etag)
refused("NoSuchKey", s3.get_object, Key="absent")
s3.put_object(Bucket=bucket, Key="a/ü b", Body=b"new", IfMatch=etag)
s3.put_object(Bucket=bucket, Key="fresh", Body=b"", IfNoneMatch="*")

# A multipart upload by the transfer manager, and a copy in parts.
large = os.urandom(21 << 20)
parts = TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=5 << 20)
s3.upload_fileobj(io.BytesIO(large), bucket, "large", Config=parts)
assert s3.head_object(Bucket=bucket, Key="large")["ETag"].endswith('-5"')
s3.copy({"Bucket": bucket, "Key": "large"}, bucket, "copy", Config=parts)
back = io.BytesIO()
s3.download_fileobj(bucket, "copy", back, Config=parts)
assert back.getvalue() == large, "the copy is different"
upload = s3.create_multipart_upload(Bucket=bucket, Key="given up")["UploadId"]
s3.upload_part(Bucket=bucket, Key="given up", UploadId=upload, PartNumber=1, Body=b"x" * (5 << 20))
assert [u["UploadId"] for u in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [upload]
s3.abort_multipart_upload(Bucket=bucket, Key="given up", UploadId=upload)
refused("NoSuchUpload", s3.list_parts, Key="given up", UploadId=upload)

# Listing: pages, prefixes and delimiters, in both versions.
for i in range(25):
    s3.put_object(Bucket=bucket, Key=f"list/{i % 5}/{i:02}", Body=b"x")
keys = [o["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="list/", PaginationConfig={"PageSize": 7}) for o in page["Contents"]]
assert keys == sorted(f"list/{i % 5}/{i:02}" for i in range(25)), keys
for operation in ("list_objects_v2", "list_objects"):
    prefixes = [p["Prefix"] for page in s3.get_paginator(operation).paginate(Bucket=bucket, Prefix="list/", Delimiter="/", PaginationConfig={"PageSize": 2})
                for p in page.get("CommonPrefixes", [])]
    assert prefixes == [f"list/{i}/" for i in range(5)], (operation, prefixes)

# What is not there is refused by name, and changes nothing.
refused("NotImplemented", s3.put_bucket_versioning, VersioningConfiguration={"Status": "Enabled"})

refused("BucketNotEmpty", s3.delete_bucket)
names = [o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]]
gone = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": k} for k in names]})
assert len(gone["Deleted"]) == len(names) and "Errors" not in gone, gone
s3.delete_bucket(Bucket=bucket)
refused("NoSuchBucket", s3.list_objects_v2)
print("boto3: ok")

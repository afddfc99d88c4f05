"""Everything between the mirror and its store that can go wrong, one fault a line."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mirror.aws.errors import S3Operation, bucket_error
from mirror.config.settings import PublishSettings
from mirror.errors import BucketError
from mirror.model import CommitId, ETag, ObjectKey, PublicObject
from mirror.ports import AccessSettings, PutConflict, PutStored
from mirror.publish.s3 import S3Bucket
from support.fault_proxy import Fault, FaultProxy, answer, error_answer, running_fault_proxy
from support.s3 import SECRET_KEY, S3Server, Store, aws_environment

pytestmark = [pytest.mark.s3, pytest.mark.unmeasured]  # unit tests reach the same lines

SNAPSHOT = CommitId("a" * 40)
WANTED = PublicObject(ObjectKey("id/jwks"), "https://unused", b"wanted", "application/jwk-set+json", "max-age=300")
BEFORE = replace(WANTED, body=b"before")
READ_SECONDS = 1.0

LOST = answer(500, b"")
SLOW_DOWN = error_answer(503, "SlowDown")
CONFLICT = error_answer(409, "ConditionalRequestConflict")
FAILED = error_answer(412, "PreconditionFailed")
WRONG_REGION = error_answer(301, "PermanentRedirect", header="x-amz-bucket-region: eu-west-1\r\n")
MALFORMED = error_answer(400, "AuthorizationHeaderMalformed", extra="<Region>eu-west-1</Region>")


@dataclass(frozen=True, slots=True)
class Line:
    """A store behind a proxy: `direct` reaches it, `faulty` goes through the faults."""

    publish: PublishSettings
    proxy: FaultProxy
    direct: S3Bucket
    faulty: S3Bucket

    def seen(self) -> ETag:
        outcome = self.direct.put(BEFORE, snapshot=SNAPSHOT, expected_etag=None)
        assert isinstance(outcome, PutStored)
        return outcome.etag

    def body(self) -> bytes | None:
        there = self.direct.get(WANTED.key)
        return None if there is None else there.body


@pytest.fixture(scope="module")
def publish(s3_server: S3Server) -> PublishSettings:
    """One bucket: no fault goes to it directly, and each test begins without its one object."""
    return s3_server.publish(s3_server.new_bucket())


@pytest.fixture(scope="module")
def direct(publish: PublishSettings) -> Iterator[S3Bucket]:
    """Its clients are made once: that takes longer than any test here."""
    bucket = S3Bucket(publish, puts=2)
    yield bucket
    bucket.close()


@pytest.fixture
def line(s3_server: S3Server, publish: PublishSettings, direct: S3Bucket, tmp_path: Path) -> Iterator[Line]:
    s3_server.delete(publish.bucket, WANTED.key)
    with (
        aws_environment(s3_server.certificates.ca_file, tmp_path),
        running_fault_proxy(s3_server.certificates, s3_server.port) as proxy,
    ):
        faulty = S3Bucket(replace(publish, endpoint_url=proxy.url), puts=2, read_seconds=READ_SECONDS)
        yield Line(publish, proxy, direct, faulty)
        faulty.close()


TOOK_EFFECT = {
    "answer-lost": Fault("PUT", effect=True, answer=b""),
    "answer-cut": Fault("PUT", effect=True, cut_after=20),
    "answer-late": Fault("PUT", effect=True, stall_seconds=READ_SECONDS + 0.5),
    "then-500": Fault("PUT", effect=True, answer=LOST),
    "then-503": Fault("PUT", effect=True, answer=SLOW_DOWN),
    "then-409": Fault("PUT", effect=True, answer=CONFLICT),
    "then-412": Fault("PUT", effect=True, answer=FAILED),
    "then-404": Fault("PUT", effect=True, answer=error_answer(404, "NoSuchKey")),
    "then-403": Fault("PUT", effect=True, answer=error_answer(403, "AccessDenied")),
    "then-501": Fault("PUT", effect=True, answer=error_answer(501, "NotImplemented")),
    "then-no-xml": Fault("PUT", effect=True, answer=answer(500, b"<html>")),
    "then-no-http": Fault("PUT", effect=True, answer=b"\x00\x01garbage\r\n\r\n"),
    "then-200-without-etag": Fault("PUT", effect=True, answer=answer(200, b"")),
}


@pytest.mark.parametrize("conditional", [True, False], ids=["conditional", "careful"])
@pytest.mark.parametrize("fault", TOOK_EFFECT.values(), ids=TOOK_EFFECT)
def test_put_took_effect_and_its_answer_did_not_arrive_landed(line: Line, fault: Fault, conditional: bool) -> None:
    """A write that took effect is success whatever was answered, and is never sent twice."""
    seen = line.seen()
    settings = replace(line.publish, endpoint_url=line.proxy.url, conditional_writes=conditional)
    bucket = S3Bucket(settings, puts=1, read_seconds=READ_SECONDS)
    line.proxy.faults.append(fault)
    assert isinstance(bucket.put(WANTED, snapshot=SNAPSHOT, expected_etag=seen), PutStored)
    bucket.close()
    assert line.body() == b"wanted"
    assert line.proxy.methods().count("PUT") == 1


PASSES_BY = {
    "reset": Fault("PUT", answer=b""),
    "no-answer-in-time": Fault("PUT", answer=b"", stall_seconds=READ_SECONDS + 0.5),
    "500": Fault("PUT", answer=LOST),
    "503-slow-down": Fault("PUT", answer=SLOW_DOWN),
    "409": Fault("PUT", answer=CONFLICT),
    "412": Fault("PUT", answer=FAILED),
}


@pytest.mark.parametrize("fault", PASSES_BY.values(), ids=PASSES_BY)
def test_put_without_effect_goes_through_at_the_second_try(line: Line, fault: Fault) -> None:
    """A transient failure that changed nothing is tried once more, under the same condition."""
    seen = line.seen()
    line.proxy.faults.append(fault)
    assert isinstance(line.faulty.put(WANTED, snapshot=SNAPSHOT, expected_etag=seen), PutStored)
    assert line.body() == b"wanted"
    puts = [head for head in line.proxy.requests if head.startswith(b"PUT")]
    assert len(puts) == 2
    assert all(f"if-match: {seen}\r\n".encode() in head.lower() for head in puts)


@pytest.mark.parametrize(
    ("fault", "reported", "puts"),
    [
        pytest.param(Fault("PUT", answer=SLOW_DOWN), ("SlowDown", "limits.puts"), 2, id="slow-down"),
        pytest.param(Fault("PUT", answer=CONFLICT), ("ConditionalRequestConflict", "next pass"), 2, id="conflict"),
        pytest.param(Fault("PUT", answer=b""), ("ConnectionClosed", "next pass"), 2, id="reset"),
        pytest.param(Fault("PUT", answer=FAILED), ("PreconditionFailed", "conditional_writes: false"), 2, id="412"),
        pytest.param(
            Fault("PUT", answer=error_answer(501, "NotImplemented")),
            ("NotImplemented", "conditional_writes: false"),
            1,
            id="501",
        ),
        pytest.param(
            Fault("PUT", answer=error_answer(403, "AccessDenied")), ("AccessDenied", "s3:PutObject"), 1, id="denied"
        ),
        pytest.param(Fault("PUT", answer=WRONG_REGION), ("PermanentRedirect", "region: eu-west-1"), 1, id="redirect"),
        pytest.param(Fault("PUT", answer=MALFORMED), ("PermanentRedirect", "region: eu-west-1"), 1, id="malformed"),
    ],
)
@pytest.mark.parametrize("absent", [True, False], ids=["create", "replace"])
def test_failing_put_is_an_error_and_changes_nothing(
    line: Line, fault: Fault, reported: tuple[str, str], puts: int, absent: bool
) -> None:
    """A put that fails for good says why, names the remedy, and leaves what was there."""
    seen = None if absent else line.seen()
    line.proxy.faults.extend([fault] * 4)
    with pytest.raises(BucketError) as caught:
        line.faulty.put(WANTED, snapshot=SNAPSHOT, expected_etag=seen)
    assert (caught.value.code, reported[1] in caught.value.remedy) == (reported[0], True)
    assert line.body() == (None if absent else b"before")
    assert line.proxy.methods().count("PUT") == puts


def test_answer_lost_and_another_writer_came_after_is_foreign(line: Line) -> None:
    """If another writer's object is there after a lost answer, it is reported and not overwritten."""
    seen = line.seen()
    third = line.direct.put(replace(BEFORE, body=b"third"), snapshot=SNAPSHOT, expected_etag=seen)
    assert isinstance(third, PutStored)
    line.proxy.faults.append(Fault("PUT", answer=b""))
    outcome = line.faulty.put(WANTED, snapshot=SNAPSHOT, expected_etag=seen)
    assert isinstance(outcome, PutConflict)
    assert outcome.stored is not None
    assert outcome.stored.body == b"third"
    assert line.proxy.methods().count("PUT") == 1


def test_put_and_reading_back_both_fail_gives_the_error_of_the_put(line: Line) -> None:
    """A put that cannot be read back is not a success, and the first error is the one reported."""
    seen = line.seen()
    denied = Fault("GET", answer=error_answer(403, "AccessDenied"))
    line.proxy.faults.extend([Fault("PUT", answer=SLOW_DOWN), denied, Fault("PUT", answer=SLOW_DOWN), denied])
    with pytest.raises(BucketError) as caught:
        line.faulty.put(WANTED, snapshot=SNAPSHOT, expected_etag=seen)
    assert caught.value.code == "SlowDown"


@dataclass(frozen=True, slots=True)
class Read:
    """One faulty read and what it must come to."""

    code: str
    answer: bytes | None = None
    stall_seconds: float = 0.0
    extra: str = ""


READS = {
    "denied": Read("AccessDenied", error_answer(403, "AccessDenied"), extra="s3:"),
    "head-like-denied": Read("AccessDenied", answer(403, b"")),
    "slow-down": Read("SlowDown", SLOW_DOWN),
    "500": Read("InternalError", LOST),
    "redirect": Read("PermanentRedirect", WRONG_REGION, extra="eu-west-1"),
    "wrong-region": Read("PermanentRedirect", MALFORMED, extra="eu-west-1"),
    "bad-region-name": Read(
        "PermanentRedirect",
        error_answer(400, "AuthorizationHeaderMalformed", extra="<Region>x; rm -rf</Region>"),
        extra="publish.region",
    ),
    "no-bucket": Read("NoSuchBucket", error_answer(404, "NoSuchBucket")),
    "bad-key-id": Read("InvalidAccessKeyId", error_answer(403, "InvalidAccessKeyId")),
    "bad-signature": Read("SignatureDoesNotMatch", error_answer(403, "SignatureDoesNotMatch")),
    "expired": Read("ExpiredToken", error_answer(400, "ExpiredToken")),
    "clock": Read("RequestTimeTooSkewed", error_answer(403, "RequestTimeTooSkewed"), extra="clock"),
    "kms": Read("AccessDenied", error_answer(403, "AccessDenied", "not authorized: kms:Decrypt"), extra="KMS"),
    "never-heard-of": Read("Whatever", error_answer(400, "Whatever"), extra="documentation"),
    "reset": Read("ConnectionClosed", b""),
    "late": Read("ReadTimeout", stall_seconds=READ_SECONDS + 0.5),
}


SLOW_TO_GIVE_UP = frozenset({"slow-down", "500", "reset", "late"})


@pytest.mark.parametrize(
    ("operation", "read"),
    [
        pytest.param(operation, read, id=f"{operation}-{name}")
        for operation in ("list", "get")
        for name, read in READS.items()
        if operation == "get" or name not in SLOW_TO_GIVE_UP
    ],
)
def test_failing_read_is_an_error(line: Line, read: Read, operation: str) -> None:
    """Every failing read is a BucketError with its code and remedy; none is taken for "absent"."""
    line.seen()
    line.proxy.faults.extend([Fault("GET", answer=read.answer, stall_seconds=read.stall_seconds)] * 3)
    with pytest.raises(BucketError) as caught:
        line.faulty.list("") if operation == "list" else line.faulty.get(WANTED.key)
    assert caught.value.code == read.code
    assert caught.value.remedy
    assert read.extra in caught.value.remedy


def test_archived_object_is_read_as_nothing_of_ours(line: Line) -> None:
    """A lifecycle rule archived it: it cannot be read, so it has no bytes, and is overwritten with its ETag."""
    seen = line.seen()
    line.proxy.faults.append(Fault("GET", answer=error_answer(403, "InvalidObjectState")))
    stored = line.faulty.get(WANTED.key)
    assert stored is not None
    assert (stored.body, stored.etag) == (b"", seen)


@pytest.mark.parametrize(
    ("status", "code", "header"),
    [
        (403, "AccessDenied", ""),
        (301, "PermanentRedirect", "x-amz-bucket-region: eu-west-1\r\n"),
        (400, "BadRequest", ""),
        (501, "NotImplemented", ""),
    ],
    ids=["denied", "redirect", "bad-request", "not-implemented"],
)
def test_failing_head_is_an_error(line: Line, status: int, code: str, header: str) -> None:
    """An answer to HEAD has no body that could name the cause: the status and the headers do."""
    line.seen()
    line.proxy.faults.append(Fault("HEAD", answer=answer(status, b"", header)))
    with pytest.raises(BucketError) as caught:
        line.faulty.head(WANTED.key)
    assert caught.value.code == code
    assert ("eu-west-1" in caught.value.remedy) == bool(header)


def _truncated(token: str) -> bytes:
    members = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"
    return f"<ListBucketResult>{members}</ListBucketResult>".encode()


# botocore reads a 200 whose body is no XML as an error of the store.
GARBAGE = {
    "listing-not-xml": (b"not xml", "InternalError"),
    "listing-cut": (b"<ListBucketResult><Contents><Key>a</Key>", "InternalError"),
    "listing-without-etag": (
        b"<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
        "MalformedAnswer",
    ),
    "listing-bad-size": (
        b"<ListBucketResult><Contents><Key>a</Key><ETag>b</ETag><Size>x</Size></Contents></ListBucketResult>",
        "MalformedAnswer",
    ),
    "listing-same-token-for-ever": (
        _truncated("t"),
        "MalformedAnswer",
    ),
}


@pytest.mark.parametrize(("body", "code"), GARBAGE.values(), ids=GARBAGE)
def test_listing_of_nonsense_is_an_error(line: Line, body: bytes, code: str) -> None:
    """A listing that is not whole must never look like an empty bucket."""
    line.proxy.faults.extend([Fault("GET", answer=answer(200, body, "Content-Type: application/xml\r\n"))] * 6)
    with pytest.raises(BucketError) as caught:
        line.faulty.list("")
    assert caught.value.code == code


def test_endless_listing_is_an_error(line: Line) -> None:
    """A store that always promises another page is given up after a bounded number of pages."""
    line.proxy.faults.extend(Fault("GET", answer=answer(200, _truncated(str(page)))) for page in range(60))
    bucket = S3Bucket(replace(line.publish, endpoint_url=line.proxy.url), puts=1, max_pages=50)
    with pytest.raises(BucketError) as caught:
        bucket.list("")
    bucket.close()
    assert caught.value.code == "TooManyObjects"


@pytest.mark.parametrize("cut_before_end", [1, 3, 6])
def test_body_that_breaks_off_is_an_error(line: Line, cut_before_end: int) -> None:
    """Half an object is no object."""
    body = b"before"
    headers = 'ETag: "x"\r\nLast-Modified: Mon, 23 Nov 2026 08:00:00 GMT\r\n'
    whole = answer(200, body, headers)
    line.proxy.faults.append(Fault("GET", answer=whole, cut_after=len(whole) - cut_before_end))
    with pytest.raises(BucketError) as caught:
        line.faulty.get(WANTED.key)
    assert caught.value.code == "IncompleteBody"


def test_body_that_stalls_is_an_error_in_time(line: Line) -> None:
    """A store that never answers costs two read timeouts and a pause."""
    began = time.monotonic()
    line.proxy.faults.extend([Fault("GET", answer=b"", stall_seconds=30)] * 3)
    with pytest.raises(BucketError) as caught:
        line.faulty.get(WANTED.key)
    assert caught.value.code == "ReadTimeout"
    assert time.monotonic() - began < 20  # far from the 30 s that the store takes each time, on a busy machine too
    assert line.proxy.methods().count("GET") == 2


SENDS = {"list": ["GET"], "get": ["GET"], "head": ["HEAD"], "put": ["PUT", "GET"] * 2}
"""The methods of the requests that an operation sends when none is answered."""


@pytest.mark.parametrize("operation", SENDS)
def test_request_that_drags_on_is_given_up_in_time(line: Line, operation: str) -> None:
    """However a store keeps the connection busy, no request takes longer than its limit."""
    # Whatever arrives: on a busy machine a request may be given up before the proxy has seen it.
    line.proxy.faults.extend([Fault("", answer=b"", stall_seconds=30)] * len(SENDS[operation]))
    settings = replace(line.publish, endpoint_url=line.proxy.url)
    # Long enough for a handshake on a machine that is busy; far from the 30 s that the store takes.
    bucket = S3Bucket(settings, puts=1, read_seconds=30, request_seconds=3.0)
    began = time.monotonic()
    with pytest.raises(BucketError) as caught:
        operate(bucket, operation)
    assert caught.value.code == "ReadTimeout"
    assert time.monotonic() - began < 20


def operate(bucket: S3Bucket, operation: str) -> None:
    """One of the four things that are done with a bucket."""
    if operation == "list":
        bucket.list("")
    elif operation == "put":
        bucket.put(WANTED, snapshot=SNAPSHOT, expected_etag=None)
    else:
        {"get": bucket.get, "head": bucket.head}[operation](WANTED.key)


@pytest.mark.parametrize("operation", SENDS)
def test_cancelled_request_ends_at_once(line: Line, operation: str) -> None:
    """An interrupt does not wait for a store that hangs, and begins nothing new."""
    line.proxy.faults.extend(Fault(method, answer=b"", stall_seconds=30) for method in SENDS[operation])
    bucket = S3Bucket(replace(line.publish, endpoint_url=line.proxy.url), puts=1)
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(operate, bucket, operation)
        while not line.proxy.requests and time.monotonic() - began < 5:
            time.sleep(0.01)
        bucket.cancel()
        error = running.exception()
    assert isinstance(error, BucketError)
    assert error.code == "Cancelled"
    assert time.monotonic() - began < 4
    with pytest.raises(BucketError):
        operate(bucket, operation)
    assert len(line.proxy.requests) == 1


def test_answer_without_the_headers_of_an_object_is_an_error(line: Line) -> None:
    """A 200 without ETag or date is no answer of S3."""
    line.proxy.faults.append(Fault("GET", answer=answer(200, b"before")))
    with pytest.raises(BucketError) as caught:
        line.faulty.get(WANTED.key)
    assert caught.value.code == "MalformedAnswer"


def test_foreign_owner_is_named(line: Line) -> None:
    """A bucket of another account answers 403, and the remedy names the owner that was expected (facts.md#38)."""
    settings = replace(line.publish, endpoint_url=line.proxy.url, expected_bucket_owner="123456789012")
    bucket = S3Bucket(settings, puts=1)
    line.proxy.faults.append(Fault("GET", answer=error_answer(403, "AccessDenied")))
    with pytest.raises(BucketError, match="123456789012"):
        bucket.list("")
    bucket.close()
    assert b"x-amz-expected-bucket-owner: 123456789012" in line.proxy.requests[0].lower()


def test_openness_is_what_the_bucket_says(line: Line) -> None:
    """An object that is there, in a bucket without policy and without Block Public Access."""
    line.seen()
    assert line.direct.access_settings(WANTED.key) == AccessSettings(exists=True, blocks=(), policy="")
    assert line.direct.access_settings(ObjectKey("absent")).exists is False


@pytest.mark.parametrize(("operation", "method"), [("get", "GET"), ("head", "HEAD")])
def test_refused_read_of_an_absent_object_says_absent(line: Line, operation: str, method: str) -> None:
    """A user who may list only a folder gets 403 for an absent object; a listing of the key shows the difference."""
    line.proxy.faults.append(Fault(method, answer=answer(403, b"")))
    assert {"get": line.faulty.get, "head": line.faulty.head}[operation](WANTED.key) is None


@pytest.mark.parametrize("listing", [None, Fault("GET", answer=error_answer(403, "AccessDenied"))], ids=["there", "no"])
def test_refused_read_of_what_may_be_there_is_an_error(line: Line, listing: Fault | None) -> None:
    """An object that is listed, or whose state is unknown, is never treated as absent."""
    line.seen()
    line.proxy.faults.append(Fault("HEAD", answer=answer(403, b"")))
    line.proxy.faults.extend([listing] if listing is not None else [])
    with pytest.raises(BucketError) as caught:
        line.faulty.head(WANTED.key)
    assert caught.value.code == "AccessDenied"


OPENNESS_FAULTS = {
    "denied": answer(403, b""),
    "not-implemented": error_answer(501, "NotImplemented"),
}


@pytest.mark.parametrize("said", OPENNESS_FAULTS.values(), ids=OPENNESS_FAULTS)
def test_openness_that_cannot_be_learned_is_unknown(line: Line, said: bytes) -> None:
    """Without the rights, or at a store that knows no such question, nothing is said about it and nothing raised."""
    line.seen()
    line.proxy.faults.extend([Fault("HEAD", answer=answer(403, b"")), *[Fault("GET", answer=said)] * 2])
    found = line.faulty.access_settings(WANTED.key)
    assert (found.exists, found.blocks, found.policy) == (None, None, None)


def test_openness_of_a_store_that_hangs_is_unknown_in_time(line: Line) -> None:
    """What only explains a failure does not hold a pass either."""
    line.proxy.faults.append(Fault("HEAD", answer=b"", stall_seconds=30))
    settings = replace(line.publish, endpoint_url=line.proxy.url)
    bucket = S3Bucket(settings, puts=1, read_seconds=30, request_seconds=3.0)
    began = time.monotonic()
    assert bucket.access_settings(WANTED.key) == AccessSettings()
    assert time.monotonic() - began < 20


UNREACHABLE = {
    "nobody-listens": ("https://localhost:1", "Unreachable"),
    "no-such-host": ("https://store.invalid", "NoSuchHost"),
    "no-url": ("store", "InvalidConfiguration"),
}


@pytest.mark.parametrize(("endpoint", "code"), UNREACHABLE.values(), ids=UNREACHABLE)
def test_unreachable_store_is_an_error_of_every_operation(store: Store, endpoint: str, code: str) -> None:
    """A store that cannot be asked is an error, and a put does not even try to read back."""
    bucket = S3Bucket(replace(store.publish, endpoint_url=endpoint), puts=1)
    operations = (
        lambda: bucket.list(""),
        lambda: bucket.get(WANTED.key),
        lambda: bucket.head(WANTED.key),
        lambda: bucket.put(WANTED, snapshot=SNAPSHOT, expected_etag=None),
    )
    for operation in operations:
        with pytest.raises(BucketError) as caught:
            operation()
        assert caught.value.code == code
    bucket.close()


def test_untrusted_certificate_is_an_error(store: Store) -> None:
    """Without our CA the store's certificate is refused, and the remedy names AWS_CA_BUNDLE."""
    with aws_environment(store.server.certificates.chain_file, store.home):
        bucket = S3Bucket(store.publish, puts=1)
        with pytest.raises(BucketError) as caught:
            bucket.list("")
        bucket.close()
    assert caught.value.code == "Tls"
    assert "AWS_CA_BUNDLE" in caught.value.remedy


def test_secrets_in_errors_of_the_store_are_not_printed(line: Line) -> None:
    """S3 repeats key id, session token and the signed string in its errors; ours never do."""
    secret = (
        "<AWSAccessKeyId>AKIASECRET</AWSAccessKeyId><Token-0>tokensecret</Token-0><StringToSign>signed</StringToSign>"
    )
    line.proxy.faults.append(Fault("GET", answer=error_answer(400, "ExpiredToken", "expired", extra=secret)))
    with pytest.raises(BucketError) as caught:
        line.faulty.get(WANTED.key)
    reported = f"{caught.value} {caught.value.__dict__}"
    assert not [word for word in ("AKIASECRET", "tokensecret", "signed", SECRET_KEY) if word in reported]


def test_user_in_an_url_is_not_printed(store: Store) -> None:
    """A password in the URL of an error's text is cut out."""
    error = OSError("cannot connect to https://user:pass@proxy.example.com/")
    reported = str(bucket_error(error, S3Operation("read", "s3:GetObject", store.publish, "k")))
    assert "user:pass" not in reported
    assert "proxy.example.com" in reported

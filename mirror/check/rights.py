"""What the writer may do: list the prefix, read and write exactly the published objects. Nothing is written to know."""

from collections.abc import Collection, Iterator

from mirror.addresses import common_folder
from mirror.aws.iam_policy import partition_of
from mirror.check.ports import Aws, BucketOf, Missed
from mirror.check.result import Finding, Place, Station
from mirror.config.settings import Publish
from mirror.errors import BucketError
from mirror.model import IssuerName, ObjectKey, Stored

_RENDER = "`oidc-mirror render writer-policy` prints what is needed"


def listing(publish: Publish, aws: Aws, keys: Collection[ObjectKey]) -> Iterator[Finding]:
    """Whether the mirror may list what a pass lists: below the folder that all `keys` of the bucket share."""
    prefix = common_folder(keys)
    place = Place(Station.RIGHTS, f"s3://{publish.bucket}/{prefix}")
    missed = aws.may_list(publish, prefix)
    if missed is None:
        yield place.ok("rights.list", "The mirror may list it (s3:ListBucket).")
    else:
        yield _missing(place, publish, "s3:ListBucket", _arn(publish), missed)


def objects(
    name: IssuerName, publish: Publish, keys: Collection[ObjectKey], bucket: BucketOf, aws: Aws
) -> Iterator[Finding]:
    """Whether the mirror may read and write the two objects of an issuer."""
    for key in keys:
        place = Place(Station.RIGHTS, f"s3://{publish.bucket}/{key}", name)
        there: Stored | None = None
        try:
            there = bucket(publish).get(key)
        except BucketError as error:
            missed = Missed(error.code, error.cause, error.remedy)
            yield _missing(place, publish, "s3:GetObject", _arn(publish, key), missed)
        else:
            yield _read(place, there)
        yield _put(place, publish, key, there, aws)


def _read(place: Place, there: Stored | None) -> Finding:
    if there is not None:
        return place.ok("rights.get", "The mirror may read it (s3:GetObject).")
    # What is absent is told by a listing where reading is refused, so it says nothing about the right to read.
    sentence = "It is not there yet, so whether the mirror may read it cannot be told."
    return place.note("rights.get_unknown", sentence, "Check again after the first pass.")


def _put(place: Place, publish: Publish, key: ObjectKey, there: Stored | None, aws: Aws) -> Finding:
    if not publish.conditional_writes:
        sentence = "Whether the mirror may write it shows only at a real write: `conditional_writes` is false."
        return place.note("rights.put_untested", sentence)
    verdict = aws.may_put(publish, key, there)
    if verdict == "allowed":
        return place.ok("rights.put", "The mirror may write it (s3:PutObject; asked by a write that cannot succeed).")
    if verdict == "wrote":
        sentence = "The store wrote although the ETag and the MD5 of the request were wrong."
        remedy = "Set `publish.conditional_writes: false`, run one mirror only, and think about another store."
        return place.failed("rights.put_unconditional", sentence, remedy)
    return _missing(place, publish, "s3:PutObject", _arn(publish, key), verdict)


def _missing(place: Place, publish: Publish, action: str, resource: str, missed: Missed) -> Finding:
    verb = _VERBS[action]
    code = f"rights.{_CODES[action]}"
    cause = f" ({missed.cause})" if missed.cause else ""
    if missed.code != "AccessDenied":
        return place.failed(code, f"{action} could not be tried: {missed.code}{cause}.", missed.remedy)
    remedy = f"Allow `{action}` on `{resource}` to the mirror's identity; {_RENDER}."
    if publish.expected_bucket_owner:
        remedy += " Or the bucket belongs to another account than `publish.expected_bucket_owner`."
    return place.failed(code, f"The mirror may not {verb}: {action} is denied.", remedy)


def _arn(publish: Publish, key: str = "") -> str:
    return f"arn:{partition_of(publish.region)}:s3:::{publish.bucket}" + (f"/{key}" if key else "")


_VERBS = {"s3:ListBucket": "list it", "s3:GetObject": "read it", "s3:PutObject": "write it"}
_CODES = {"s3:ListBucket": "list", "s3:GetObject": "get", "s3:PutObject": "put"}

"""The cache of a CloudFront distribution, which drops what has changed in the bucket behind it."""

from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from mirror.aws.errors import S3_ERRORS, cause_of, cloudfront_remedy, code_of
from mirror.aws.sessions import session, short_timeouts
from mirror.concurrency import DeadlineExecutor
from mirror.config.settings import PublishSettings
from mirror.model import Reason

if TYPE_CHECKING:
    from mypy_boto3_cloudfront import CloudFrontClient

REQUEST_SECONDS = 12.0
"""The longest that one invalidation takes to be accepted, its second attempt included."""

_WAIT = "Nothing is lost: the cache turns over by itself within max-age ({max_age} s)."


class CloudFront:
    """Every distribution that the configuration names; safe for many threads.

    The S3 server of `publish.endpoint_url` is never asked: what botocore reads of `AWS_ENDPOINT_URL_CLOUDFRONT` holds.
    """

    def __init__(self, *, request_seconds: float = REQUEST_SECONDS) -> None:
        self._bounded = DeadlineExecutor(request_seconds)
        self._lock = Lock()
        self._clients: list[CloudFrontClient] = []

    def close(self) -> None:
        """Give the connections back."""
        for client in tuple(self._clients):
            client.close()

    def cancel(self) -> None:
        """Make whatever runs end at once, and all that follows; callable from any thread."""
        self._bounded.cancel()

    def invalidate(self, publish: PublishSettings, paths: Sequence[str], *, reference: str) -> Reason | None:
        """See `mirror.ports.Cdn`. `paths` begin with a slash; `reference` is CloudFront's `CallerReference`."""
        try:
            self._bounded.call(lambda: self._invalidate(publish, paths, reference))
        except (*S3_ERRORS, ValueError, LookupError) as error:
            return _reason(error, publish)
        return None

    def _invalidate(self, publish: PublishSettings, paths: Sequence[str], reference: str) -> None:
        batch = {"Paths": {"Quantity": len(paths), "Items": list(paths)}, "CallerReference": reference}
        # Safe to send twice: CloudFront answers a known reference with the invalidation that it stands for.
        self._client(publish).create_invalidation(
            DistributionId=publish.cloudfront_distribution or "",
            InvalidationBatch=batch,  # type: ignore[arg-type]  # a plain dictionary of that shape
        )

    def _client(self, publish: PublishSettings) -> "CloudFrontClient":
        with self._lock:  # making clients is not thread-safe in botocore, using them is
            client = session(publish).client("cloudfront", region_name=publish.region, config=short_timeouts())
            self._clients.append(client)
            return client


def _reason(error: Exception, publish: PublishSettings) -> Reason:
    response = error.response if isinstance(error, ClientError) else {}
    code = code_of(error, response)
    distribution = publish.cloudfront_distribution or ""
    cause = cause_of(error, response, code)
    said = f" ({cause})" if cause else ""
    sentence = f"The CloudFront distribution `{distribution}` did not get the list of changed paths{said}."
    wait = _WAIT.format(max_age=publish.max_age_seconds)
    remedy = f"{cloudfront_remedy(code, distribution)} {wait}".strip()
    return Reason(f"cdn.{code}", sentence, remedy)

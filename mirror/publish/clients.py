"""The two S3 clients of one bucket: one that retries reads, one that sends every write exactly once."""

from threading import Lock
from typing import TYPE_CHECKING, Any

import boto3.session
from botocore.config import Config
from botocore.exceptions import InvalidConfigError

from mirror.aws.sessions import CONNECT_SECONDS, READ_ATTEMPTS, READ_SECONDS
from mirror.aws.sessions import session as session_of
from mirror.config.settings import Publish

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class S3Clients:
    """Makes the clients on first use and shares them; safe for many threads.

    Whatever botocore reads from the environment holds: credentials, `AWS_CA_BUNDLE`, `AWS_ENDPOINT_URL_S3`, proxies.
    """

    def __init__(self, publish: Publish, *, connections: int, read_seconds: float = READ_SECONDS) -> None:
        self._publish = publish
        self._connections = connections
        self._read_seconds = read_seconds
        self._lock = Lock()
        self._session: boto3.session.Session | None = None
        self._clients: dict[int, S3Client] = {}

    @property
    def reads(self) -> "S3Client":
        """The client for reads: up to two attempts. Raises what botocore raises."""
        return self._of(READ_ATTEMPTS)

    @property
    def writes(self) -> "S3Client":
        """The client for conditional writes: one attempt, because a replayed 412 misleads (fact 36)."""
        return self._of(1)

    def close(self) -> None:
        """Close the pooled connections; the clients are made again when they are needed."""
        with self._lock:
            clients, self._clients, self._session = tuple(self._clients.values()), {}, None
        for client in clients:
            client.close()

    def _of(self, attempts: int) -> "S3Client":
        with self._lock:  # making clients is not thread-safe in botocore, using them is
            # A session that assumes a role makes a client of its own whenever that expires: ours come before, both.
            for each in (attempts,) if self._publish.role_arn is None else (READ_ATTEMPTS, 1):
                if each not in self._clients:
                    self._clients[each] = self._made(each)
            return self._clients[attempts]

    def _made(self, attempts: int) -> "S3Client":
        self._session = self._session or session_of(self._publish)
        try:
            return self._client(self._session, attempts)
        except ValueError as error:  # all that botocore says of an endpoint that is no URL
            raise InvalidConfigError(error_msg=str(error)) from None

    def _client(self, session: boto3.session.Session, attempts: int) -> "S3Client":
        client = session.client(
            "s3",
            region_name=self._publish.region,
            endpoint_url=self._publish.endpoint_url,
            config=self._config(attempts),
        )
        client.meta.events.register("before-call.s3", _refuse_region_redirect)
        return client

    def _config(self, attempts: int) -> Config:
        return Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=self._read_seconds,
            max_pool_connections=self._connections,
            retries={"mode": "standard", "total_max_attempts": attempts},
            # A precomputed checksum is sent with each put; some stores refuse the trailing one (fact 39).
            request_checksum_calculation="when_required",
            s3={"addressing_style": "path"} if self._publish.endpoint_url else None,
            user_agent_extra="oidc-mirror",
        )


def _refuse_region_redirect(context: dict[str, Any], **_: object) -> None:
    """Keep botocore from replaying a request in another region: `publish.region` also makes the public address.

    botocore skips a request whose context says that it was redirected before.
    """
    context.setdefault("s3_redirect", {})["redirected"] = True

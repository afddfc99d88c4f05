"""Where an issuer's documents stand: at the issuer's own URL, in the bucket and in the git repository.

Pure: text in, text or every reason out. Nothing here asks the network or the disk.
"""

from mirror.addresses.issuer_urls import (
    UrlParts,
    is_host,
    is_port,
    is_safe_path,
    issuer_problems,
    issuer_warnings,
    split_url,
    url_problems,
)
from mirror.addresses.paths import (
    PathConflict,
    PublishLocation,
    RepositoryPaths,
    common_folder,
    discovery_url,
    is_inside,
    jwks_uri,
    object_key_of,
    object_keys,
    path_conflicts,
    repository_paths,
)
from mirror.addresses.s3_urls import (
    BucketUrl,
    bucket_url,
    canonical_url,
    default_base_url,
    is_aws_endpoint,
    is_global_url,
    is_legacy_url,
)

__all__ = [
    "BucketUrl",
    "PathConflict",
    "PublishLocation",
    "RepositoryPaths",
    "UrlParts",
    "bucket_url",
    "canonical_url",
    "common_folder",
    "default_base_url",
    "discovery_url",
    "is_aws_endpoint",
    "is_global_url",
    "is_host",
    "is_inside",
    "is_legacy_url",
    "is_port",
    "is_safe_path",
    "issuer_problems",
    "issuer_warnings",
    "jwks_uri",
    "object_key_of",
    "object_keys",
    "path_conflicts",
    "repository_paths",
    "split_url",
    "url_problems",
]

"""Every kind of `render`, in the order of the help."""

from collections.abc import Mapping

from mirror.federation.render import (
    apiserver_flags,
    aws,
    azure,
    bucket_policy,
    gcp,
    iam_provider,
    kubeadm,
    pod,
    rbac,
    service_account,
    writer_policy,
)
from mirror.federation.render.base import Kind

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        apiserver_flags.KIND,
        kubeadm.KIND,
        rbac.KIND,
        bucket_policy.KIND,
        writer_policy.KIND,
        iam_provider.KIND,
        aws.KIND,
        service_account.KIND,
        pod.KIND,
        gcp.KIND,
        azure.KIND,
    )
}
FORMATS = tuple(dict.fromkeys(name for kind in KINDS.values() for name in kind.formats))
"""Every format that at least one kind has."""

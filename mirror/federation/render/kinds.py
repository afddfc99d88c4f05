"""Every kind of `render`, in the order of the help."""

from collections.abc import Mapping

from mirror.federation.render import (
    apiserver_flags,
    bucket_policy,
    federated_credential,
    iam_provider,
    iam_role,
    kubeadm,
    pod,
    rbac,
    service_account,
    workload_identity_provider,
    writer_policy,
)
from mirror.federation.render.kind import Kind

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        apiserver_flags.KIND,
        kubeadm.KIND,
        rbac.KIND,
        bucket_policy.KIND,
        writer_policy.KIND,
        iam_provider.KIND,
        iam_role.KIND,
        service_account.KIND,
        pod.KIND,
        workload_identity_provider.KIND,
        federated_credential.KIND,
    )
}
FORMATS = tuple(dict.fromkeys(name for kind in KINDS.values() for name in kind.formats))
"""Every format that at least one kind has."""

"""Every kind of `render`, in the order of the help."""

from collections.abc import Mapping

from mirror.federation.render import apiserver, aws, azure, gcp, pod, rbac
from mirror.federation.render.base import Renderer

KINDS: Mapping[str, Renderer] = {
    kind.name: kind
    for kind in (
        apiserver.APISERVER_FLAGS,
        apiserver.KUBEADM,
        rbac.KIND,
        aws.BUCKET_POLICY,
        aws.WRITER_POLICY,
        aws.IAM_PROVIDER,
        aws.IAM_ROLE,
        pod.SERVICE_ACCOUNT_KIND,
        pod.POD,
        gcp.KIND,
        azure.KIND,
    )
}
FORMATS = tuple(dict.fromkeys(name for kind in KINDS.values() for name in kind.formats))
"""Every format that at least one kind has."""

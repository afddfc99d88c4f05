"""The pieces of a federation, filled in from the configuration: one file a kind, `KINDS` names them all. Pure.

A kind makes values; `base.py` writes them. So names, paths, audiences and ARNs cannot disagree.
"""

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

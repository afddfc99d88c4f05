"""Every way in which finding the apiservers can fail us: kubeconfig, pod, host name, EndpointSlices (design, 4.1)."""

from mirror.apiserver.errors import Entry, Told


class LookupFailure(Told):
    """The table; as `mirror.apiserver.errors.Failure`."""

    KUBECONFIG_UNREADABLE = Entry(
        "kubeconfig_unreadable",
        "The kubeconfig, or a file that it names, could not be read: {detail}.",
        "Correct auth.kubeconfig, the paths in that file (relative ones begin at its folder) or the rights on them.",
    )
    KUBECONFIG_INVALID = Entry(
        "kubeconfig_invalid",
        "The kubeconfig cannot be used: {detail}.",
        "Correct the file or auth.context; `kubectl --kubeconfig FILE config get-contexts` shows what is in it.",
    )
    KUBECONFIG_REFUSED = Entry(
        "kubeconfig_refused",
        "The kubeconfig asks for what this program never does: {detail}.",
        "Make one with the cluster's CA and a ServiceAccount token (`kubectl create token`) or a client certificate.",
    )
    NOT_IN_CLUSTER = Entry(
        "not_in_cluster",
        "This is no pod of a cluster: {detail}.",
        "auth.in_cluster needs a pod with a ServiceAccount; elsewhere use auth.kubeconfig or auth.token_file.",
    )
    LOOKUP_TIMEOUT = Entry(
        "timeout",
        "The replicas were not found within {detail} s (limits.total).",
        "Check the resolver of this machine, and the apiserver that is asked for the list.",
    )
    NOTHING_FOUND = Entry(
        "nothing_found",
        "No replica was found: {detail}.",
        "Check that the host name has addresses, or that the EndpointSlices of default/kubernetes have ready ones.",
    )
    TOO_MANY_REPLICAS = Entry(
        "too_many_replicas",
        "More replicas were found than a cluster has, so none was asked: {detail}.",
        "Check who writes the name's addresses, or the EndpointSlices of default/kubernetes.",
    )
    BAD_ENDPOINT = Entry(
        "bad_endpoint",
        "A replica was found where no apiserver can be, so it was not asked: {detail}.",
        "Find out who wrote it: `kubectl get endpointslices -n default -o yaml --show-managed-fields`.",
    )
    ENDPOINTSLICES_INVALID = Entry(
        "endpointslices_invalid",
        "The list of EndpointSlices is not as the Kubernetes API gives it: {detail}.",
        "Check that what answers under this address is an apiserver.",
    )
    FORBIDDEN_ENDPOINTSLICES = Entry(
        "forbidden",
        "The user may not list the EndpointSlices of the apiservers: {detail}.",
        "Run `kubectl create role oidc-mirror-endpointslices -n default --verb=list"
        " --resource=endpointslices.discovery.k8s.io` and `kubectl create rolebinding oidc-mirror-endpointslices"
        " -n default --role=oidc-mirror-endpointslices --serviceaccount=NAMESPACE:NAME` (or --user=NAME).",
    )
    NO_ENDPOINTSLICES = Entry(
        "not_found",
        "The apiserver knows no EndpointSlices: {detail}.",
        "Kubernetes 1.21 and later have them; for an older cluster use `discover: dns` or list every replica.",
    )

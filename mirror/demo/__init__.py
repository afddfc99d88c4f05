"""The small world of `oidc-mirror demo`: apiservers with TLS, an S3 server and a git repository, all on loopback."""

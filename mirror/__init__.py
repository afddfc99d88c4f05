"""Mirror the OIDC discovery documents of private Kubernetes clusters to a public S3 bucket."""

__version__ = "0.1.0"

"""Mirror the OIDC discovery documents of private Kubernetes clusters to a public S3 bucket."""

__version__ = "1.0.0"

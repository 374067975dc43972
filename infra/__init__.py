"""What runs `mcti` on Kubernetes."""

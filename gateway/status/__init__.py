"""The status page: what staff see, `/api/status`, `/healthz` and `/metrics`, on a thread of its own."""

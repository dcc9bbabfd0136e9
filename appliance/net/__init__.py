"""The wire: bytes, frames, the request table, and the connections that carry them."""

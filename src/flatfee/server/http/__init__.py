"""HTTP/1.1 as the gateway's callers speak it: connections, the requests on them, and the bytes of answers."""

"""Polling the apiservers: bytes and reasons out, nothing accepted yet (design, section 4.1).

`mirror.apiserver.poller.ApiserverPoller` is the way in. It imports httpx: import it where a pass begins.
"""

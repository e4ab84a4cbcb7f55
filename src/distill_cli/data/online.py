"""Is there a network? Answered within a few seconds, so that an offline run never hangs."""

import socket
import threading
from urllib.parse import urlsplit
from urllib.request import getproxies

DATA_HOST = "storage.googleapis.com"  # where TFDS keeps its catalogue files


def online(seconds: float = 4.0) -> bool:
    """Whether the host of TFDS (or the configured proxy) accepts a connection in time."""
    host, port = DATA_HOST, 443
    if proxy := getproxies().get("https"):
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host, port = parts.hostname or host, parts.port or 80
    answer: list[bool] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=seconds).close()
            answer.append(True)
        except OSError:
            pass

    # In a thread because name resolution does not honour the socket's time limit.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(answer)

"""TLS contexts: whom an upstream's link trusts, and as whom it appears."""

from __future__ import annotations

import os
import ssl

from polymux.errors import Failure
from polymux.types import Link

MOST = 64  # contexts kept

_Key = tuple[str, str, str, bool, tuple[int, ...]]


class Trust:
    """Makes contexts and keeps them. Files that have changed are read again for the next connection."""

    def __init__(self) -> None:
        self._contexts: dict[_Key, ssl.SSLContext] = {}

    def context(self, link: Link) -> ssl.SSLContext:
        """Raises `Failure` when a file cannot be used."""
        files = (link.ca_file, link.client_cert, link.client_key)
        try:
            key = (*files, link.verify, tuple(os.stat(path).st_mtime_ns for path in files if path))
            context = self._contexts.get(key)
            if context is None:
                context = _make(link)
                if len(self._contexts) >= MOST:
                    self._contexts.clear()
                self._contexts[key] = context
        except OSError as error:  # an SSLError is one
            text = f"the certificate files of this provider cannot be used: {error.strerror or error}"
            raise Failure("upstream_unavailable", text) from None
        return context


def _make(link: Link) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if link.ca_file:
        context.load_verify_locations(cafile=link.ca_file)
    if link.client_cert:  # the password: else OpenSSL asks for one on the terminal
        context.load_cert_chain(link.client_cert, link.client_key or None, password="")
    if not link.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context

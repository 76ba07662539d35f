"""Addresses of HTTP functions and HTTP destinations: what may be one, and what is shown of it. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit

HTTP_SCHEMES = ("http://", "https://")


class UrlError(ValueError):
    """Why a text is no address; for the user, without the text itself."""


def check_http_url(url: str) -> None:
    """Raises UrlError for what no request can be sent to as it stands."""
    if not url.startswith(HTTP_SCHEMES):
        raise UrlError("a URL begins with http:// or https://")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise UrlError("a URL has printable characters of ASCII without spaces only")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UrlError(f"this is no URL: {error}") from None
    if not host or port == 0:
        raise UrlError("a URL names a host, and a port other than 0 if any")
    if "@" in parts.netloc:
        raise UrlError("a URL must not hold a user's name or password: they would not be sent")
    if parts.fragment:
        raise UrlError("a URL must not have a fragment: it would not be sent")


def shown(url: str) -> str:
    """The address without its query, where webhooks keep their secrets: for logs and status pages."""
    bare, mark, _ = url.partition("?")
    return bare + "?..." if mark else bare

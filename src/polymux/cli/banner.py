"""What the gateway says when it is up."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Final

from polymux import __version__
from polymux.app import Setup
from polymux.config import Server
from polymux.types import Key

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_SHOWN: Final = 8  # model names on the screen; /v1/models has them all


def banner(setup: Setup, address: tuple[str, int] | str, data_dir: Path, *, fresh: bool) -> str:
    """Address, key, models, and a command that works when pasted.

    address: host and port, or the path of a Unix socket. fresh: the key was made just now, show it.
    """
    config = setup.config
    base, way = _base(config.server, address)
    file = data_dir / "first-run.key"
    if config.auth.keys:
        number = len(config.auth.keys)
        key, secret = f"{number} from the configuration" if number > 1 else "from the configuration", "YOUR_KEY"
    elif fresh:
        secret = file.read_text("ascii").strip()
        key = f"{secret}   (made now, kept in {_short(file)})"
    else:
        key = secret = f"$(cat {_short(file)})"
    names = [name for name, _ in setup.registry.names(Key("banner", "banner"))]
    models = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    asked = [source.name for source in setup.sources if source.discover]
    if asked:
        models += (
            f"{'; ' if models else ''}and what {', '.join(asked)} list{'s' if len(asked) == 1 else ''} (GET /v1/models)"
        )
    lines = [
        f"Polymux {__version__} is running at {base}/v1{way}   (Ctrl-C stops it)",
        "",
        f"  key     {key}",
        f"  models  {models or 'none: name a provider in the configuration'}",
        f"  config  {_sources(setup)}",
    ]
    if config.server.workers > 1:
        lines.append(f"  workers {config.server.workers}")
    lines += [f"  note    {warning}" for warning in _warnings(setup, "" if way else address[0])]
    if names:
        model = "meow" if "meow" in names else names[0]
        lines += [
            "",
            "  Try it:",
            *_curl(f"--unix-socket {quote(str(address))} {base}" if way else base, secret, model),
        ]
    return "\n".join([*lines, ""])


def _base(server: Server, address: tuple[str, int] | str) -> tuple[str, str]:
    """The URL to use, and how to get there when that is not plain."""
    scheme = "https" if server.tls_cert else "http"
    if isinstance(address, str):
        return f"{scheme}://localhost", f" on the Unix socket {address}"
    host, port = address
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host  # noqa: S104 - compared, not bound
    return f"{scheme}://{shown}:{port}", ""


def _curl(where: str, secret: str, model: str) -> list[str]:
    return [
        f"  curl {where}/v1/chat/completions \\",
        f'    -H "Authorization: Bearer {secret}" -H "Content-Type: application/json" \\',
        f'    -d \'{{"model": "{model}", "messages": [{{"role": "user", "content": "hello"}}]}}\'',
    ]


def _sources(setup: Setup) -> str:
    found = [setup.config.file, f"environment from {setup.dotenv}" if setup.dotenv else ""]
    return ", ".join(filter(None, found)) or "none; the environment alone (providers are on when their key is set)"


def _warnings(setup: Setup, host: str) -> list[str]:
    config = setup.config
    warnings = [
        f"TLS certificates of {one.name} are NOT verified (verify = false)"
        for one in config.providers.values()
        if not one.verify
    ]
    if host and host not in LOOPBACK and not config.server.tls_cert:
        warnings.append(f"listening on {host} without TLS: keys travel in the clear")
    return warnings + [f"not served: {why}" for why in setup.functions.broken.values()]


def _short(path: Path) -> str:
    """As a user would write it, fit for a shell."""
    if quote(str(path)) != str(path):
        return quote(str(path))
    try:
        return f"~/{path.relative_to(Path.home())}"
    except ValueError:
        return str(path)

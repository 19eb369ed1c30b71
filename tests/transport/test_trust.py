"""TLS contexts."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from polymux.errors import Failure
from polymux.transport.trust import Trust
from polymux.types import Link
from transport.lab import Certificates


def test_a_context_is_made_once(certificates: Certificates) -> None:
    trust = Trust()
    link = Link(certificates.ca, certificates.client_cert, certificates.client_key)
    context = trust.context(link)
    assert trust.context(Link(certificates.ca, link.client_cert, link.client_key)) is context
    assert trust.context(Link(certificates.ca)) is not context
    assert trust.context(Link(proxy="http://p", max_connections=1)) is trust.context(Link())


def test_whom_it_trusts(certificates: Certificates) -> None:
    trust = Trust()
    context = trust.context(Link(certificates.ca))
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert len(context.get_ca_certs()) > len(trust.context(Link()).get_ca_certs())
    context = trust.context(Link(certificates.ca, verify=False))
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


def test_renewed_files_are_read_again(certificates: Certificates, tmp_path: Path) -> None:
    trust, ca = Trust(), tmp_path / "ca.pem"
    ca.write_bytes(Path(certificates.ca).read_bytes())
    context = trust.context(Link(str(ca)))
    assert trust.context(Link(str(ca))) is context
    ca.write_bytes(Path(certificates.other).read_bytes())
    os.utime(ca, ns=(1, 1))
    assert trust.context(Link(str(ca))) is not context


def test_so_many_are_kept(certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polymux.transport.trust.MOST", 3)
    trust = Trust()
    for number in range(5):
        ca = tmp_path / f"{number}.pem"
        ca.write_bytes(Path(certificates.ca).read_bytes())
        trust.context(Link(str(ca)))
    assert len(trust._contexts) == 2


@pytest.mark.parametrize("field", ["ca_file", "client_cert"])
@pytest.mark.parametrize("name", ["note.pem", "absent.pem"])
def test_a_file_that_cannot_be_used_is_told_in_words(tmp_path: Path, field: str, name: str) -> None:
    (tmp_path / "note.pem").write_text("not a certificate")
    with pytest.raises(Failure, match=r"^the certificate files of this provider cannot be used: "):
        Trust().context(Link(**{field: str(tmp_path / name)}))


def test_an_encrypted_key_does_not_ask_on_the_terminal(certificates: Certificates, tmp_path: Path) -> None:
    key = serialization.load_pem_private_key(Path(certificates.client_key).read_bytes(), None)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    locked = key.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"secret"))
    (tmp_path / "locked.key").write_bytes(locked)
    with pytest.raises(Failure, match="cannot be used"):
        Trust().context(Link(client_cert=certificates.client_cert, client_key=str(tmp_path / "locked.key")))

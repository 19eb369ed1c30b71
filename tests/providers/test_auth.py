import pytest

from polymux.providers.auth import SCHEMES


@pytest.mark.parametrize(
    ("scheme", "key", "headers"),
    [
        ("bearer", "k", (("authorization", "Bearer k"),)),
        ("optional", "k", (("authorization", "Bearer k"),)),
        ("optional", "", ()),
        ("x-api-key", "k", (("x-api-key", "k"),)),
        ("api-key", "k", (("api-key", "k"),)),
        ("x-goog-api-key", "k", (("x-goog-api-key", "k"),)),
        ("api-key", "eyJk.no.token.of.three", (("api-key", "eyJk.no.token.of.three"),)),
        ("api-key", "eyJhbGciOi.J9.x1y2", (("authorization", "Bearer eyJhbGciOi.J9.x1y2"),)),
    ],
)
def test_a_credential_is_shown_as_the_provider_wants_it(scheme: str, key: str, headers: object) -> None:
    assert SCHEMES[scheme](key) == headers


def test_the_schemes() -> None:
    assert set(SCHEMES) == {"bearer", "optional", "x-api-key", "api-key", "x-goog-api-key"}

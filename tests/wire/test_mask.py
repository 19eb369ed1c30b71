import pytest

from polymux.wire.mask import LEAST, Known, mask

SECRETS = [
    ("Incorrect API key provided: sk-proj-abcdefgh12345678.", "Incorrect API key provided: sk-p…"),
    ("invalid x-api-key sk-ant-api03-AbC_dEf-123", "invalid x-api-key sk-a…"),
    ('{"key":"sk-ant-1234567890"}', '{"key":"sk-a…"}'),
    ("?key=AIzaSyA1234567890abcdefg&alt=sse", "?key=AIza…&alt=sse"),
    ("Authorization: Bearer eyJhbGciOi.J9.x1y2z3", "Authorization: Bearer eyJh…"),
    ("bearer abcdefghijklmnopqrstuvwxyz", "bearer abcd…"),
    ("token=0123456789abcdef0123456789abcdef rest", "token=0123… rest"),
    ("The secret 'bG9uZyBzZWNyZXQgMTIz' is wrong", "The secret 'bG9u…' is wrong"),
    ("API key is deadbeefdeadbeef1234", "API key is dead…"),
    ("audience of eyJhbGciOiJub25lIn0.eyJhIjoxfQ. is wrong", "audience of eyJh… is wrong"),
    ("two: sk-aaaaaaaa, sk-bbbbbbbb", "two: sk-a…, sk-b…"),
]

HARMLESS = [
    "",
    "max_tokens: Field required",
    "prompt is too long: 210000 tokens > 200000 maximum",
    "Bearer authentication is required",
    "a risk-based-approach to keys and tokens",
    "messages.0.content.1: unknown key 'temperature'",
    "密钥无效",
]


@pytest.mark.parametrize(("text", "masked"), SECRETS)
def test_secrets_keep_only_their_first_characters(text: str, masked: str) -> None:
    assert mask(text) == masked
    assert mask(masked) == masked


@pytest.mark.parametrize("text", HARMLESS)
def test_other_text_is_left_alone(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize(
    "unit", ["sk-", "key", "key-", "key: ", "bearer ", "bearer  x", "token is ", "AIza", "eyJ", "eyJ-", "a"]
)
def test_hostile_text_is_read_in_linear_time(unit: str) -> None:
    """Quadratic backtracking over a megabyte would not come back within the life of the test run."""
    assert mask(unit * (1_000_000 // len(unit))) is not None


CREDENTIAL = 'corp/"key"+é\\1'


@pytest.mark.parametrize(
    "form",
    [
        *(CREDENTIAL, 'corp/\\"key\\"+é\\\\1', 'corp\\/\\"key\\"+\\u00e9\\\\1', 'corp\\u002f\\"key\\"+é\\\\1'),
        *("corp/%22key%22%2B%C3%A9%5C1", "corp%2F%22key%22%2B%C3%A9%5C1"),
    ],
)
def test_a_known_secret_is_hidden_in_every_form(form: str) -> None:
    assert Known(["longer", CREDENTIAL]).hide(f"<{form}> and {form}") == "<…> and …"


def test_the_longest_of_secrets_is_hidden_first() -> None:
    assert Known(["Bearer 12345678", "12345678", "12345678/9"]).hide("Bearer 12345678, 12345678/9") == "…, …"


def test_short_words_are_no_secrets() -> None:
    assert Known(["", "a", "x" * (LEAST - 1)]).hide("a banana " + "x" * LEAST) == "a banana " + "x" * LEAST


def test_what_is_not_known_is_masked_all_the_same() -> None:
    assert Known([]).hide("the key sk-abcdefgh12345678") == "the key sk-a…"

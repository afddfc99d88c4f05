"""No credential, and no text of a foreign exception, reaches a user unfiltered."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import mirror
from mirror.redaction import MASK, describe, redact, redact_foreign, remember, remember_environment

PACKAGE = Path(mirror.__file__).parent
HEADER = (
    "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE\\n/20261128/ap-southeast-2/s3/aws4_request, SignedHeaders=host, Signature="
)


def test_remembered_value_is_masked_in_every_form() -> None:
    """As it is, without the line feed at its end, and as `repr` and JSON write it."""
    remember("first-secret/with+signs=\n", None, "")
    for form in ("first-secret/with+signs=", "first-secret/with+signs=\n", repr("first-secret/with+signs=\n")):
        assert "first-secret" not in redact(f"before {form} after")


def test_short_values_are_not_looked_for() -> None:
    """A secret of three letters would tear words apart; no service gives such a one."""
    remember("abc")
    assert redact("abcdef") == "abcdef"


def test_oldest_values_are_forgotten() -> None:
    """A daemon that renews its credentials for years keeps its memory; the credentials in use are the newest."""
    remember(*(f"forgotten-secret-{number}" for number in range(1500)))
    remember("forgotten-secret-1499")
    assert redact("forgotten-secret-1499") == MASK
    assert redact("forgotten-secret-0.") == "forgotten-secret-0."


def test_credentials_of_the_environment_are_known() -> None:
    """The variables that AWS's tools read, and a proxy's password."""
    remember_environment(
        {
            "AWS_SESSION_TOKEN": "token-of-a-session",
            "https_proxy": "http://me:pass%2Fword@proxy:3128",
            "HTTP_PROXY": "//[",
        }
    )
    assert redact("token-of-a-session, pass/word, pass%2Fword") == f"{MASK}, {MASK}, {MASK}"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        pytest.param(f"Invalid header value b'{HEADER}0123456789abcdef'", "0123456789abcdef", id="signature-4"),
        pytest.param("https://b/k?X-Amz-Signature=0a1b2c&x=y", "0a1b2c", id="presigned"),
        pytest.param("GET /?X-Amz-Security-Token=IQoJb3Jp HTTP/1.1", "IQoJb3Jp", id="presigned-token"),
    ],
)
def test_signatures_are_masked_in_every_output(text: str, secret: str) -> None:
    """Any output is redacted: the form of the secret identifies it."""
    assert secret in text
    assert secret not in redact(text)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        pytest.param("<SecretAccessKey>0a1b/2c</SecretAccessKey>", "0a1b/2c", id="answer-of-sts"),
        pytest.param('{"SessionToken": "0a1b2c"}', "0a1b2c", id="credential-process"),
        pytest.param("aws_secret_access_key = 0a1b2c", "0a1b2c", id="credentials-file"),
        pytest.param("Authorization: Bearer 0a1b2c3d4e", "0a1b2c3d4e", id="bearer"),
        pytest.param("Proxy-Authorization: Basic bWU6cGFzcw==", "bWU6cGFzcw==", id="basic"),
        pytest.param("got eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln", "eyJpc3MiOiJ4In0", id="jwt"),
        pytest.param("cannot reach https://me:pass@host/", "pass", id="user-info"),
        pytest.param("body WebIdentityToken=abc123&x", "abc123", id="sts-request"),
    ],
)
def test_what_looks_like_a_credential_is_masked_in_foreign_text(text: str, secret: str) -> None:
    """Libraries and programs repeat answers, headers and files."""
    assert secret not in redact_foreign(text)


@pytest.mark.parametrize("text", ["git@github.com:a/b.git", "Basic settings and Bearer tokens", "ssh://host/path"])
def test_ordinary_text_stays(text: str) -> None:
    """Nothing is masked that is no credential."""
    assert redact_foreign(text) == text


def test_exception_becomes_one_short_line() -> None:
    """Its class where it says nothing."""
    assert describe(ValueError("two\nlines:")) == "two lines"
    assert describe(TimeoutError()) == "TimeoutError"
    assert len(describe(ValueError("x" * 1000))) == 300


# Our own exceptions, whose texts are ours; each line was reviewed.
REVIEWED = {
    "apiserver/endpoints.py": 1,  # _WrongShapeError
    "apiserver/kubeconfig.py": 1,  # KeyError of our own table: the name of a setting
    "aws/sessions.py": 1,  # only compared
    "concurrency.py": 1,  # only compared
    "cli/key_commands.py": 1,  # BucketError
    "cli/operator_session.py": 1,  # RemoteError
    "cli/options.py": 1,  # read_by: our ValueError about the operator's own argument
    "config/rules.py": 1,  # public_base_url
    "history/ledger_store.py": 1,  # _ledger_file
    "history/objects.py": 1,  # BadTreeError
    "reconcile/controller.py": 2,  # MirrorError
    "reconcile/executor.py": 1,  # MirrorError
    "transport_errors.py": 1,  # only compared
    "trust/parsing.py": 1,  # DuplicateError: quoted, and the name of a member
}


@pytest.mark.unmeasured  # it reads the code
def test_text_of_an_exception_is_described_wherever_it_is_used() -> None:
    """`str(error)`, `{error}` and `error.args` appear only in the reviewed lines."""
    found = {str(path.relative_to(PACKAGE)): len(set(_raw_texts(path))) for path in PACKAGE.rglob("*.py")}
    found.pop("redaction.py")
    assert {path: count for path, count in found.items() if count} == REVIEWED


def _raw_texts(path: Path) -> Iterator[int]:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        names = {each.name for each in ast.walk(node) if isinstance(each, ast.ExceptHandler) and each.name}
        arguments = [*node.args.args, *node.args.kwonlyargs]
        names |= {each.arg for each in arguments if each.annotation and ast.unparse(each.annotation).endswith("Error")}
        names |= {each.arg for each in arguments if each.annotation and "Exception" in ast.unparse(each.annotation)}
        for each in ast.walk(node):
            if isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id in ("str", "repr"):
                yield from (each.lineno for word in each.args if isinstance(word, ast.Name) and word.id in names)
            elif (
                isinstance(each, ast.FormattedValue) and isinstance(each.value, ast.Name) and each.value.id in names
            ) or (isinstance(each, ast.Attribute) and each.attr == "args" and ast.unparse(each.value) in names):
                yield each.lineno

"""Hostile and broken configuration files: each is refused in words, quickly, and nothing else is ever raised."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.config import yaml_reader
from mirror.config.load import parse
from mirror.errors import UsageError

BASE = Path("/etc/oidc-mirror")
S3 = "https://oidc-bucket.s3.ap-southeast-2.amazonaws.com"
GOOD = {
    "publish": {"bucket": "oidc-bucket", "region": "ap-southeast-2"},
    "issuers": [{"name": "a", "issuer": f"{S3}/a", "apiservers": ["https://10.0.0.11:6443"]}],
}
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
)

ATTACKS = (  # name, text, words of the refusal
    ("billion laughs", LAUGHS, "An alias (*) is not allowed."),
    ("deep lists", "[" * 1_000_000, "nested deeper than 32 levels"),
    ("deep mappings", "{a: " * 1_000_000, "nested deeper than 32 levels"),
    ("deep blocks", "- " * 1_000_000, "nested deeper than 32 levels"),
    ("deep json", '{"a":' * 100_000 + "1" + "}" * 100_000, "nested deeper than 32 levels"),
    ("deep complex keys", "? " * 100_000, "A key is a list"),
    ("python object", "state_dir: !!python/object/apply:os.system [id]\n", "A tag (!) is not allowed."),
    ("python name", "!!python/name:os.system\n", "A tag (!) is not allowed."),
    ("own tag handle", "%TAG ! tag:example.com,2000:\n---\nstate_dir: !x a\n", "A tag (!) is not allowed."),
    ("binary", "state_dir: !!binary aGk=\n", "A tag (!) is not allowed."),
    ("huge number", f"max_failures: {'9' * 100_000}\n", "more than 18 digits"),
    ("huge json number", '{"max_failures": ' + "9" * 100_000 + "}", "more than 18 digits"),
    ("large number", "max_failures: 999999999999999999\n", "Write 1000000 or less."),
    ("fraction", "max_failures: 1.0\n", "This is not a whole number."),
    ("duplicate keys", "interval: 5m\n" * 100_000, "stands twice"),
    ("merge", "limits: {<<: {puts: 1}}\n", "A merge key"),
    ("second document", "a: b\n--- \nc: d\n", "A second document"),
    ("nul", "state_dir: a\0b\n", "not valid YAML"),
    ("escaped nul", 'state_dir: "a\\0b"\n', "control or invisible characters"),
    ("escape sequence", 'state_dir: "\\e[2Ja"\n', "control or invisible characters"),
    ("right to left", "state_dir: \u202egp.exe\n", "control or invisible characters"),
    ("bell in a key", '"a\\ab": 1\n', "There is no key 'a\\x07b' here."),
    ("long key", f"{'k' * 900}: 1\n", "'… here."),
    ("surrogate", "state_dir: \ud800\n", "The file is not UTF-8."),
    ("escaped surrogate", '{"state_dir": "\\ud800"}', "not valid YAML"),
    ("other byte order mark", "\ufffe: a\n", "not valid YAML"),
    ("tab", "limits:\n\tputs: 1\n", "not valid YAML"),
    ("unended quote", "state_dir: '" + "a\n" * 100_000, "not valid YAML"),
    ("too large", "#" * (yaml_reader.MAX_FILE_BYTES + 1), "larger than 16 MiB"),
    ("only comments", "# a\n" * 1000, "The file is empty."),
    ("not a mapping", "5\n", "not a mapping of keys"),
    ("null", "null\n", "not a mapping of keys"),
    ("long text", f"state_dir: {'a' * 1025}\n", "must have 1 to 1024 characters"),
    ("empty text", "state_dir: ''\n", "must have 1 to 1024 characters"),
    ("list as text", "state_dir: [a]\n", "This must be text."),
    ("number as prefix", "publish: {prefix: 0}\n", "This must be text."),
    ("list as section", "limits: [1]\n", "This is not a section."),
    ("text as section", "limits: many\n", "This is not a section."),
    ("list as members", "defaults: {discovery_extra: [1]}\n", "This is not a section."),
    ("text for true", "repository: {sign: 'true'}\n", "This is neither true nor false."),
    ("number for true", "repository: {sign: 1}\n", "This is neither true nor false."),
    ("unknown key below a list", "issuers: [{name: a, former_issuers: [{untl: 1}]}]\n", "Did you mean until?"),
    ("many members", f"defaults: {{discovery_extra: {json.dumps({f'm{n}': n for n in range(65)})}}}\n", "more than 64"),
    ("ssh option", "repository: {remote: 'ssh://-oProxyCommand=id/x'}\n", "This remote is not allowed"),
    ("ssh option as user", "repository: {remote: '-oProxyCommand=id@h:x'}\n", "This remote is not allowed"),
    ("ssh option as path", "repository: {remote: 'git@h:-x'}\n", "This remote is not allowed"),
    ("transport helper", "repository: {remote: 'ext::sh -c id% >&2'}\n", "This remote is not allowed"),
    ("file url", "repository: {remote: 'file:///srv/x.git'}\n", "This remote is not allowed"),
    ("plain http", "repository: {remote: 'http://h/x.git'}\n", "This remote is not allowed"),
    ("password in ssh", "repository: {remote: 'ssh://git:secret@h/x'}\n", "a user name or a password"),
    ("token as user", "repository: {remote: 'https://secret@h/x'}\n", "a user name or a password"),
    ("second line in remote", 'repository: {remote: "/srv/x\\ny"}\n', "control or invisible characters"),
    ("header in author", 'repository: {author: "A <a@b>\\ncommitter X <x@y> 1 +0000"}\n', "control or invisible"),
    ("brackets in author", "repository: {author: 'A <a@b> <c@d>'}\n", "This is not an author."),
    ("option as branch", "repository: {branch: --force}\n", "Git does not allow this name"),
    ("lock as branch", "repository: {branch: a.lock}\n", "Git does not allow this name"),
    ("ref as branch", "repository: {branch: refs/heads/main}\n", "Git does not allow this name"),
    ("header injection", 'publish: {cache_control: "max-age=300\\r\\nX: y"}\n', "control or invisible characters"),
    ("two max-ages", "publish: {cache_control: 'max-age=300, max-age=60'}\n", "exactly one max-age"),
    ("shared max-age", "publish: {cache_control: 'max-age=300, s-maxage=86400'}\n", "'s-maxage=86400'"),
    ("private", "publish: {cache_control: 'private, max-age=300'}\n", "'private'"),
    ("traversing prefix", "publish: {prefix: a/../../b}\n", "The prefix has a segment"),
    ("windows git folder", "publish: {prefix: GIT~1}\n", "The prefix has a segment"),
    ("listen beyond", "http: {listen: '127.0.0.1:65536'}\n", "This is not a host:port."),
    ("connect to port 0", "publish: {readback: {connect_to: 'h:0'}}\n", "The port is 0."),
    ("member without name", "defaults: {discovery_extra: {'': 1}}\n", "empty or unprintable name"),
)  # fmt: skip


@pytest.mark.parametrize(("text", "words"), [it[1:] for it in ATTACKS], ids=[it[0] for it in ATTACKS])
def test_hostile_file_is_refused_in_words(text: str, words: str) -> None:
    """The refusal says what is wrong, shows no secret and nothing unprintable, and comes soon."""
    started = time.process_time()
    with pytest.raises(UsageError) as caught:
        parse(text, base=BASE)
    reported = caught.value.problems
    assert any(words in problem for problem in reported), reported
    assert all(problem.isprintable() and "secret" not in problem for problem in reported)
    assert len(reported) <= yaml_reader.MAX_PROBLEMS + 10
    assert time.process_time() - started < 10


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda body: body.decode(errors="surrogateescape")))
def test_any_text_gives_settings_or_a_usage_error(text: str) -> None:
    """Only UsageError is raised, and it always has a problem to report."""
    with pytest.raises(UsageError) as caught:
        parse(text, base=BASE, issuer_files={"x.yaml": text})
    assert caught.value.problems


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10)
    | st.sampled_from(["5m", "1MiB", "https://a", "a", f"{S3}/a", "127.0.0.1:1", "publish", "dns", "2027-01-31"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
PATHS = (
    ("interval",), ("state_dir",), ("issuers_dir",), ("http",), ("http", "listen"), ("limits",), ("limits", "puts"),
    ("repository",), ("repository", "remote"), ("repository", "branch"), ("repository", "author"), ("publish",),
    ("publish", "bucket"), ("publish", "region"), ("publish", "base_url"), ("publish", "endpoint_url"),
    ("publish", "prefix"), ("publish", "cache_control"), ("publish", "readback"), ("defaults",), ("defaults", "tls"),
    ("defaults", "keys"), ("defaults", "publish"), ("issuers",), ("issuers", 0), ("issuers", 0, "name"),
    ("issuers", 0, "issuer"), ("issuers", 0, "apiservers"), ("issuers", 0, "apiservers", 0), ("issuers", 0, "tls"),
    ("issuers", 0, "auth"), ("issuers", 0, "keys"), ("issuers", 0, "former_issuers"), ("issuers", 0, "publish"),
    ("issuers", 0, "discovery_extra"), ("issuers", 0, "expect_replicas"), ("issuers", 0, "load_balancer"),
)  # fmt: skip


@settings(max_examples=4 * settings().max_examples)
@given(st.lists(st.tuples(st.sampled_from(PATHS), VALUES), min_size=1, max_size=4))
def test_any_values_give_settings_or_a_usage_error(changes: list[tuple[tuple[str | int, ...], object]]) -> None:
    """A good configuration with any values put anywhere is taken or refused in printable words."""
    data = json.loads(json.dumps(GOOD))
    for path, value in changes:
        _put(data, path, value)
    reported = _reported(json.dumps(data))
    assert reported is None or (reported and all(problem.isprintable() for problem in reported))


def _reported(text: str) -> tuple[str, ...] | None:
    """The problems of a refused text; None when it is taken."""
    try:
        parse(text, base=BASE)
    except UsageError as error:
        return error.problems
    return None


def _put(data: object, path: tuple[str | int, ...], value: object) -> None:
    """Put a value where its parents still are what they were."""
    for part in path[:-1]:
        if isinstance(data, dict):
            data = data.setdefault(part, {})
        elif isinstance(data, list) and data:
            data = data[0]
    if isinstance(data, dict):
        data[path[-1]] = value
    elif isinstance(data, list) and data:
        data[0] = value


def test_bad_configuration_is_refused_within_little_processor_time(tmp_path: Path) -> None:
    """Start, imports and refusal together stay within a ceiling that catches a heavy import by mistake."""
    path = tmp_path / "mirror.yaml"
    path.write_text("interval: 5\n")
    code = (
        "import sys, time, pathlib\n"
        "from mirror.errors import UsageError\n"
        "from mirror.config.load import load\n"
        "try:\n    load(pathlib.Path(sys.argv[1]))\n"
        "except UsageError as error:\n    assert error.problems\n"
        "assert not {'httpx', 'boto3', 'rich', 'jinja2', 'cryptography', 'jwcrypto'} & sys.modules.keys()\n"
        "assert time.process_time() < 1\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, cwd=Path(__file__).parents[2])

"""The results of `check` and `check --fleet` as text."""

from datetime import UTC, datetime

import pytest
from click import unstyle

from mirror.check.result import CheckCause, CheckReport, CheckResult, CheckTarget, Component
from mirror.cli.check import WIDTH, check_lines, distinct, findings, fleet_lines
from mirror.model import IssuerName, IssuerUrl, KeyName, Kid
from support.check_clients import reported
from support.keys import RSA_KEYS

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
NAME = IssuerName("syd-prod")
URLS = {NAME: IssuerUrl("https://oidc.example.com/syd")}
PLACE = CheckTarget(Component.APISERVERS, "https://10.0.0.11:6443", NAME)
COMMAND = "`kubectl create clusterrolebinding oidc-mirror --group=system:unauthenticated --clusterrole=long`"


def text(
    *findings: CheckResult,
    causes: tuple[CheckCause, ...] = (),
    urls: dict[IssuerName, IssuerUrl] = URLS,
    verbose: bool = False,
) -> str:
    return unstyle("\n".join(check_lines(CheckReport(NOW, findings, causes), urls, verbose=verbose)))


def fleet(number: int) -> dict[IssuerName, IssuerUrl]:
    return {IssuerName(f"syd-{at}"): IssuerUrl(f"https://oidc.example.com/{at}") for at in range(number)}


HEALTHY = (
    CheckTarget(Component.STATE, "/var/lib").ok("state.writable", "Good."),
    PLACE.note("public_ca", "Noted."),
    PLACE.ok("tls.valid", "Long."),
)


def test_only_what_is_wrong_is_printed_and_then_counted() -> None:
    """Each finding has level, code, sentence, place and remedy. Findings that are ok are only counted."""
    assert text(*HEALTHY, PLACE.failed("forbidden", "No.", "Bind it.")).splitlines() == [
        "failed   forbidden: No.",
        "         at: https://10.0.0.11:6443",
        "         1 issuer: syd-prod",
        "         remedy: Bind it.",
        "",
        "1 issuer: 0 healthy, 1 failed.",
        "1 failed, 0 warnings, 1 note, 2 ok",
    ]


def test_verbose_lists_what_is_in_order_before_it() -> None:
    """Heading, component, subject, finding. Problems are printed once, after the ok findings."""
    shown = text(*HEALTHY, PLACE.failed("forbidden", "No.", "Bind it."), verbose=True)
    assert shown.splitlines()[:10] == [
        "What all issuers share",
        " state",
        "  /var/lib",
        "   ok       Good.",
        "",
        "syd-prod  https://oidc.example.com/syd",
        " apiservers",
        "  https://10.0.0.11:6443",
        "   note     public_ca: Noted.",
        "   ok       Long.",
    ]
    assert shown.count("forbidden") == 1


@pytest.mark.parametrize("number", [5, 50, 500])
def test_healthy_fleet_of_any_size_is_two_lines(number: int) -> None:
    """The healthy result of a large fleet needs no further reading."""
    urls = fleet(number)
    fine = [CheckTarget(Component.KEYS, "x", name).ok("keys.same", "Same.") for name in urls for _ in range(20)]
    assert len(text(*fine, urls=urls).splitlines()) == 2


def test_one_cause_stands_once_with_all_who_share_it() -> None:
    """One expiring CA file in two settings of 50 issuers gives two warnings, each with all issuers."""
    urls = fleet(50)
    found = [
        CheckTarget(Component.CONFIGURATION, "/etc/ca.crt", name).warning(
            "file.certificate_expires", reported, "Renew it."
        )
        for name in urls
        for reported in ("tls.ca_file: it ends in 3 days.", "publish.readback.ca_file: it ends in 3 days.")
    ]
    shown = text(*found, urls=urls)
    assert shown.count("file.certificate_expires") == shown.count("50 issuers: syd-0, syd-1,") == 2
    assert "and 40 more; `--verbose` lists them." in shown
    assert len(shown.splitlines()) < 15
    assert "syd-49" in text(*found, urls=urls, verbose=True)


def test_words_that_differ_in_names_and_numbers_are_one_cause() -> None:
    """Four unreachable apiservers: the sentence of the first, as many places as fit, one remedy."""
    urls = fleet(50)
    found = [
        CheckTarget(Component.APISERVERS, f"https://10.0.0.{at}:6443", name).failed(
            "unreachable", f"10.0.0.{at}:6443 refused after {at} s.", f"Run `oidc-mirror status {name}`."
        )
        for at, name in enumerate(list(urls)[:4])
    ]
    shown = text(*found, urls=urls)
    assert shown.count("unreachable") == 1
    assert "at: syd-0: https://10.0.0.0:6443" in shown
    assert "4 issuers: syd-0, syd-1, syd-2, syd-3" in shown
    assert "remedy, for syd-0: Run `oidc-mirror status syd-0`." in shown
    assert shown.endswith("50 issuers: 46 healthy, 4 failed.\n4 failed (1 cause), 0 warnings, 0 notes, 0 ok")


def test_what_cannot_be_known_without_credentials_is_one_line() -> None:
    """The root cause comes first. The 201 permissions that depend on it are one line."""
    urls = fleet(50)
    root = CheckTarget(Component.CREDENTIALS, "credentials for bucket oidc").failed(
        "credentials.none", "None.", "Give."
    )
    bucket = CheckTarget(Component.BUCKET, "bucket oidc").failed("bucket.unreachable", "NoCredentials.", "Give.")
    rights = [
        CheckTarget(Component.RIGHTS, f"s3://oidc/{name}/{each}", name).failed(code, "NoCredentials.", "Give.")
        for name in urls
        for each in ("jwks", "openid")
        for code in ("rights.get", "rights.put")
    ]
    other = CheckTarget(Component.RIGHTS, "s3://elsewhere/x", IssuerName("syd-0")).failed("rights.get", "No.", "Allow.")
    shown = text(*rights, bucket, other, root, urls=urls).splitlines()
    assert shown[0] == "failed   credentials.none: None."
    assert [line for line in shown if line.startswith("unknown")] == [
        "unknown  rights, bucket could not be checked because of credentials.none (201"
    ]
    assert sum("rights.get" in line for line in shown) == 1
    assert shown[-2] == "50 issuers: 0 without a failure of their own, 49 unknown, 1 failed."
    assert len(shown) < 15


def test_warnings_come_before_failures() -> None:
    """The failures, which need repair first, are at the bottom of the screen."""
    shown = text(PLACE.failed("forbidden", "No.", "Bind it."), PLACE.warning("tls.expires_soon", "Soon.", "Renew."))
    assert shown.index("tls.expires_soon") < shown.index("forbidden")


def test_lines_fit_80_columns_and_commands_stay_whole() -> None:
    """Commands are never wrapped, so that they can be copied. All other text is wrapped."""
    shown = text(PLACE.failed("forbidden", "word " * 60, f"Run {COMMAND}, or set auth.token_file to a token of it."))
    assert COMMAND in shown
    assert all(len(line) <= WIDTH or COMMAND[:20] in line for line in shown.splitlines())


def test_text_from_outside_is_escaped() -> None:
    """No control character of the subject or the sentence reaches the terminal."""
    shown = text(CheckTarget(Component.GIT, "a\x1b[31m", NAME).warning("x", "b\x1b]0;title\x07 c\u202ed", "e\rf"))
    assert not [character for character in shown if not character.isprintable() and character != "\n"]


def test_causes_come_first_with_what_was_found_for_them() -> None:
    """Each cause comes before the findings, with its remedy and whether the findings show it."""
    causes = (
        CheckCause("hidden", "Hidden.", "Open it.", (Component.APISERVERS,)),
        CheckCause("role", "Denied.", "Ask.", ()),
        CheckCause("git", "Torn.", "Mend.", (Component.GIT, Component.STATE)),
    )
    shown = text(PLACE.failed("forbidden", "y", "z"), causes=causes)
    assert shown.splitlines()[:11] == [
        "What the error may come from, the likeliest first",
        " 1. hidden: Hidden.",
        "    remedy: Open it.",
        "    found:  forbidden (below).",
        " 2. role: Denied.",
        "    remedy: Ask.",
        "    found:  It is in the cloud's account, which this program does not read.",
        " 3. git: Torn.",
        "    remedy: Mend.",
        "    found:  Nothing is wrong at git, state.",
        "",
    ]


A, B = IssuerName("a"), IssuerName("b")


def test_weak_pair_is_named_with_both_issuers_and_the_remedy() -> None:
    """The finding names the two clusters that need new keys, and the remedy."""
    one, two = RSA_KEYS[0], RSA_KEYS[1]
    text = unstyle("\n".join(fleet_lines({A: (one,), B: (two,)}, ((one.thumbprint, two.thumbprint),))))
    for word in (one.thumbprint, two.thumbprint, "(a)", "(b)", "shared_prime", "oidc-mirror revoke", "1 pairs"):
        assert word in text


def test_shared_key_is_a_warning() -> None:
    """One key at two issuers is reported for both."""
    text = unstyle("\n".join(fleet_lines({A: (RSA_KEYS[0],), B: (RSA_KEYS[0],)}, ())))
    assert text.count("warning [key.shared]: ") == 2


def test_quiet_fleet_is_counted() -> None:
    """A result without problems still says what was compared."""
    assert list(fleet_lines({A: (RSA_KEYS[0],)}, ())) == ["1 keys of 1 issuers compared: 0 pairs share a prime."]


def test_findings_say_the_same_as_the_lines() -> None:
    """In `--output json`, a weak pair is failed, a shared key is a warning of each issuer, and the rest is ok."""
    one, two = RSA_KEYS[0], RSA_KEYS[1]
    shared = reported(findings({A: (one,), B: (one, two)}, ((one.thumbprint, two.thumbprint),)))
    assert shared == [("failed", "shared_prime"), ("warning", "key.shared"), ("warning", "key.shared")]
    assert reported(findings({A: (one,)}, ())) == [("ok", "fleet.compared")]


def test_key_that_one_record_has_kept_is_compared() -> None:
    """A former issuer may have dropped a key that the issuer still publishes."""
    key = RSA_KEYS[0]
    name = KeyName(Kid("k"), "RS256", key.thumbprint)
    gone = KeyName(Kid("gone"), "", RSA_KEYS[1].thumbprint)
    for order in ((name, key, gone), (gone, key, name)):
        assert set(distinct(order)) == {key, gone}

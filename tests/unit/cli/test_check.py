"""The results of `check` in words.

`check --fleet` in words.
"""

from datetime import UTC, datetime

from click import unstyle

from mirror.check.result import CheckCause, CheckReport, CheckResult, CheckTarget, Component
from mirror.cli.check import QUIET_FROM, WIDTH, check_lines, distinct, findings, fleet_lines
from mirror.model import IssuerName, IssuerUrl, KeyName, Kid
from support.check_clients import told
from support.keys import RSA_KEYS

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
NAME = IssuerName("syd-prod")
URLS = {NAME: IssuerUrl("https://oidc.example.com/syd")}
PLACE = CheckTarget(Component.APISERVERS, "https://10.0.0.11:6443", NAME)
COMMAND = "`kubectl create clusterrolebinding oidc-mirror --group=system:unauthenticated --clusterrole=long`"


def text(*findings: CheckResult, causes: tuple[CheckCause, ...] = ()) -> str:
    return unstyle("\n".join(check_lines(CheckReport(NOW, findings, causes), URLS)))


def test_findings_are_grouped_and_counted() -> None:
    """Heading, station, subject, then level, code, sentence and remedy; the counts at the end."""
    shown = text(
        CheckTarget(Component.STATE, "/var/lib").ok("state.writable", "Good."),
        PLACE.failed("forbidden", "No.", "Bind it."),
        PLACE.ok("tls.valid", "Long."),
    )
    assert shown.splitlines() == [
        "What all issuers share",
        " state",
        "  /var/lib",
        "   ok       Good.",
        "",
        "syd-prod  https://oidc.example.com/syd",
        " apiservers",
        "  https://10.0.0.11:6443",
        "   failed   forbidden: No.",
        "            remedy: Bind it.",
        "   ok       Long.",
        "",
        "1 failed, 0 warnings, 0 notes, 2 ok",
    ]


def test_lines_fit_80_columns_and_commands_stay_whole() -> None:
    """What is to be copied is in one piece; everything else is wrapped."""
    shown = text(PLACE.failed("forbidden", "word " * 60, f"Run {COMMAND}, or set auth.token_file to a token of it."))
    assert COMMAND in shown
    assert all(len(line) <= WIDTH or COMMAND[:20] in line for line in shown.splitlines())


def test_same_remedy_is_told_once() -> None:
    """Both documents are forbidden: one command mends it."""
    shown = text(PLACE.failed("a", "One.", f"Run {COMMAND}"), PLACE.failed("a", "Two.", f"Run {COMMAND}"))
    assert shown.count("kubectl") == 1
    assert shown.count("remedy: as above.") == 1


def test_text_from_outside_is_escaped() -> None:
    """No control character reaches the terminal, from the subject or the sentence."""
    shown = text(CheckTarget(Component.GIT, "a\x1b[31m", NAME).warning("x", "b\x1b]0;title\x07 c\u202ed", "e\rf"))
    assert not [character for character in shown if not character.isprintable() and character != "\n"]


def test_many_quiet_issuers_are_only_counted() -> None:
    """Of a fleet, those with something to mend are shown."""
    quiet = [
        CheckTarget(Component.KEYS, "x", IssuerName(f"n{number}")).ok("keys.same", "Same.")
        for number in range(QUIET_FROM)
    ]
    shown = text(*quiet, PLACE.failed("forbidden", "No.", "Bind it."))
    assert "n3" not in shown
    assert "syd-prod" in shown
    assert f"{QUIET_FROM} issuers more with nothing to mend." in shown


def test_causes_come_first_with_what_was_found_for_them() -> None:
    """Before the findings: each cause, its remedy, and whether it shows."""
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
        "    found:  It lies in the cloud's account, where this program does not look.",
        " 3. git: Torn.",
        "    remedy: Mend.",
        "    found:  Nothing is wrong at git, state.",
        "",
    ]


A, B = IssuerName("a"), IssuerName("b")


def test_weak_pair_is_named_with_both_issuers_and_the_remedy() -> None:
    """Whoever reads it knows which two clusters need new keys, and what to do."""
    one, two = RSA_KEYS[0], RSA_KEYS[1]
    text = unstyle("\n".join(fleet_lines({A: (one,), B: (two,)}, ((one.thumbprint, two.thumbprint),))))
    for word in (one.thumbprint, two.thumbprint, "(a)", "(b)", "shared_prime", "oidc-mirror revoke", "1 pairs"):
        assert word in text


def test_shared_key_is_a_warning() -> None:
    """One key at two issuers is told for both."""
    text = unstyle("\n".join(fleet_lines({A: (RSA_KEYS[0],), B: (RSA_KEYS[0],)}, ())))
    assert text.count("warning: ") == 2


def test_quiet_fleet_is_counted() -> None:
    """Nothing wrong still says what was compared."""
    assert list(fleet_lines({A: (RSA_KEYS[0],)}, ())) == ["1 keys of 1 issuers compared: 0 pairs share a prime."]


def test_findings_say_the_same_as_the_lines() -> None:
    """For `--output json`: a weak pair failed, a shared key is a warning of each issuer, else all is ok."""
    one, two = RSA_KEYS[0], RSA_KEYS[1]
    shared = told(findings({A: (one,), B: (one, two)}, ((one.thumbprint, two.thumbprint),)))
    assert shared == [("failed", "shared_prime"), ("warning", "key.shared"), ("warning", "key.shared")]
    assert told(findings({A: (one,)}, ())) == [("ok", "fleet.compared")]


def test_key_that_one_record_has_kept_is_compared() -> None:
    """A former issuer may have dropped what the issuer still publishes."""
    key = RSA_KEYS[0]
    name = KeyName(Kid("k"), "RS256", key.thumbprint)
    gone = KeyName(Kid("gone"), "", RSA_KEYS[1].thumbprint)
    for order in ((name, key, gone), (gone, key, name)):
        assert set(distinct(order)) == {key, gone}

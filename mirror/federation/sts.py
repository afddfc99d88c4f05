"""Ask AWS itself: AssumeRoleWithWebIdentity with a token, unsigned, as a pod's SDK does; it keeps no credentials."""

import boto3.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.parsers import ResponseParserError

from mirror.aws.errors import code_of
from mirror.aws.sessions import short_timeouts
from mirror.federation.causes import STS_SILENT
from mirror.federation.error_catalog import explain
from mirror.federation.verify import StsResult
from mirror.redaction import describe

SESSION_NAME = "oidc-mirror-verify"
SESSION_SECONDS = 900
"""The shortest that STS gives."""
MAX_MESSAGE_CHARACTERS = 500


def log_in(token: str, role_arn: str, region: str) -> StsResult:
    """What STS says to the token for `role_arn`; it never raises for what STS or the network does.

    Whatever botocore reads from the environment holds, such as `AWS_ENDPOINT_URL_STS` and `AWS_CA_BUNDLE`; credentials
    are neither needed nor used.

    Args:
        token: the token's text; it is sent to STS and nowhere else, and never printed.
        role_arn: the role's ARN.
        region: whose STS is asked.
    """
    try:
        config = short_timeouts().merge(Config(signature_version=UNSIGNED))
        client = boto3.session.Session(region_name=region).client("sts", config=config)
        answer = client.assume_role_with_web_identity(
            RoleArn=role_arn,
            RoleSessionName=SESSION_NAME,
            WebIdentityToken=token,
            DurationSeconds=SESSION_SECONDS,
        )
        arn = str(answer["AssumedRoleUser"]["Arn"])
    except ClientError as error:
        details = error.response.get("Error", {})
        code, message = str(details.get("Code", "Unknown")), str(details.get("Message", ""))
        safe = _safe(message, token)
        return StsResult(role_arn, region, error_code=code[:64], error=safe, causes=explain(f"{code}: {safe}"))
    except ResponseParserError:
        # Its text repeats the answer, which may be half of one with credentials in it.
        return StsResult(role_arn, region, error_code="BadAnswer", error="It is not XML.", causes=(STS_SILENT,))
    except (BotoCoreError, HTTPClientError, OSError, ValueError, LookupError) as error:
        # The last two: an endpoint that is no URL, an answer without the role.
        safe = _safe(describe(error), token)
        return StsResult(role_arn, region, error_code=code_of(error, {}), error=safe, causes=(STS_SILENT,))
    return StsResult(role_arn, region, assumed_role_arn=arn)


def _safe(message: str, token: str) -> str:
    # An error may repeat what was sent, or a part of it.
    return message.replace(token, "***").replace(token.rpartition(".")[2], "***")[:MAX_MESSAGE_CHARACTERS]

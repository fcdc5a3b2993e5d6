"""How clients of catalogues reach the files of a lake: fsspec's options, under their names."""

from __future__ import annotations

from collections.abc import Mapping

from ingestlab.core.settings import Settings

DELTA = {
    "key": "aws_access_key_id",
    "secret": "aws_secret_access_key",
    "token": "aws_session_token",
    "endpoint": "aws_endpoint_url",
    "region": "aws_region",
}
ICEBERG = {
    "key": "s3.access-key-id",
    "secret": "s3.secret-access-key",
    "token": "s3.session-token",
    "endpoint": "s3.endpoint",
    "region": "s3.region",
}
GLUE = {
    "key": "aws_access_key_id",
    "secret": "aws_secret_access_key",
    "token": "aws_session_token",
    "region": "region_name",
}  # its own endpoint is none of S3


def s3_options(settings: Settings, names: Mapping[str, str]) -> dict[str, str]:
    """Return what the lake's settings say of S3. What they leave out, clients find as AWS's own do.

    Args:
        settings: Where the lake is.
        names: What the client calls key, secret, token, endpoint and region; what is not named is left out.
    """
    if not settings.lake_url.startswith("s3://"):
        return {}
    options = settings.storage_options.get("s3", {})
    client = options.get("client_kwargs", {})
    said = {
        "key": options.get("key"),
        "secret": options.get("secret"),
        "token": options.get("token"),
        "endpoint": options.get("endpoint_url") or client.get("endpoint_url"),
        "region": client.get("region_name"),
    }
    if said["endpoint"] and not said["region"]:
        said["region"] = "us-east-1"  # servers other than AWS have none
    return {names[name]: str(value) for name, value in said.items() if value and name in names}

"""Credentials, region and endpoint of an AWS profile: the files that the AWS command line writes."""

from __future__ import annotations

import configparser
import os
from pathlib import Path

from scripts.errors import InputError

_KEYS = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
    "region": "region",
    "endpoint_url": "endpoint",
}
_OTHERS = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
_ENVIRONMENT = {"region": ("AWS_REGION", "AWS_DEFAULT_REGION"), "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")}


def aws_profile() -> dict[str, str]:
    """Return the options of the profile in AWS_PROFILE or of the default one, except those set in the environment.

    Raises
    ------
    InputError
        AWS_PROFILE names one that is not there, or whose credentials other programs make.
    """
    asked = os.environ.get("AWS_PROFILE")
    name = asked or "default"
    values: dict[str, str] = {}
    places = {"AWS_CONFIG_FILE": "~/.aws/config", "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials"}
    for variable, default in places.items():
        parser = configparser.RawConfigParser()
        try:
            parser.read(Path(os.environ.get(variable, default)).expanduser(), encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            raise InputError("is not a file of AWS profiles", os.environ.get(variable, default), "correct it") from None
        for section in (name, f"profile {name}"):
            if parser.has_section(section):
                values |= dict(parser.items(section))
    if any(variable in os.environ for variable in _OTHERS):
        values = {key: value for key, value in values.items() if not key.startswith("aws_")}
    elif asked and not values:
        raise InputError(f"profile {asked} not found", "AWS_PROFILE", "choose one of ~/.aws/config")
    elif asked and "aws_access_key_id" not in values:
        remedy = f'run eval "$(aws configure export-credentials --profile {asked} --format env)" first'
        raise InputError(f"profile {asked} has no keys of its own", "AWS_PROFILE", remedy)
    options = {_KEYS[key]: value for key, value in values.items() if key in _KEYS}
    for option, variables in _ENVIRONMENT.items():
        if any(variable in os.environ for variable in variables):
            options.pop(option, None)
    return options

"""What the scripts share: a client, refusals to compare, and one line per thing that held."""

import sys
import time
import traceback

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

SOON = {"Delay": 1, "MaxAttempts": 60}


def client():
    """ECS as the environment describes it: AWS_ENDPOINT_URL_ECS, keys, region, AWS_CA_BUNDLE."""
    return boto3.client("ecs", config=Config(retries={"mode": "standard", "max_attempts": 5}))


def eventually(what, look):
    """Looks until it is so, for a minute."""
    deadline = time.monotonic() + 60
    while not (seen := look()):
        assert time.monotonic() < deadline, what
        time.sleep(0.2)
    return seen


def refused(call, **words):
    """The exception's name and sentence of a call that must be refused."""
    try:
        answer = call(**words)
    except ClientError as error:
        return error.response["Error"]["Code"], error.response["Error"]["Message"]
    raise AssertionError(f"{words} was not refused: {answer}")


def every(ecs, operation, member, **words):
    """All pages of a list, each bounded as asked for."""
    found = []
    for page in ecs.get_paginator(operation).paginate(**words):
        size = words.get("PaginationConfig", {}).get("PageSize", 100)
        assert len(page[member]) <= size, f"{operation}: a page of {len(page[member])}"
        found += page[member]
    assert len(found) == len(set(found)), f"{operation}: something is listed twice"
    return found


def run(*checks):
    """Runs each check; says which failed, and fails if one did."""
    failed = 0
    for check in checks:
        try:
            check()
            print(f"ok {check.__name__}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED {check.__name__}: {check.__doc__}", flush=True)
            traceback.print_exc(file=sys.stdout)
    sys.exit(1 if failed else 0)

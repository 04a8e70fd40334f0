"""Answers of a server that break off within their body: asked for again, as MLflow does where none came at all."""

from __future__ import annotations

import functools
import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from requests.exceptions import ChunkedEncodingError, ContentDecodingError

from kdops.store.faults import texts_of

REQUEST = "_get_http_response_with_retries"
"""MLflow's function for every request (private to it, seen in 3.17.2); where it is missing nothing is asked again."""

LONGEST_SECONDS = 120.0
REMARK_SECONDS = 20.0
"""A request that takes longer is logged: MLflow asks again for minutes without a message."""

CUT_OFF = r"connection broken|incompleteread|ended prematurely"

logger = logging.getLogger(__name__)


def ask_again() -> None:
    """Send MLflow's requests of this process again where the answer breaks off, and log those that take long.

    What a request made twice is found as where an answer got lost, see :mod:`kdops.store.duplicates`.
    """
    from mlflow.utils import rest_utils

    real = getattr(rest_utils, REQUEST, None)
    if real is not None and not hasattr(real, "__wrapped__"):
        setattr(rest_utils, REQUEST, _patient(real))


def is_cut_off(error: BaseException) -> bool:
    """Return whether an error, or one that led to it, is that of an answer that broke off."""
    return re.search(CUT_OFF, texts_of(error), re.IGNORECASE) is not None


def _patient(real: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(real)
    def request(method: str, url: str, max_retries: int, *arguments: Any, **named: Any) -> Any:
        remark = threading.Timer(REMARK_SECONDS, _warn, (urlsplit(url).hostname,))
        remark.daemon = True
        remark.start()
        try:
            for number in range(max_retries + 1):
                try:
                    return real(method, url, max_retries, *arguments, **named)
                except (ChunkedEncodingError, ContentDecodingError):
                    if number == max_retries:
                        raise
                # As MLflow: after 0, 4, 8, ... seconds.
                time.sleep(min(LONGEST_SECONDS, 2.0 * 2**number) if number else 0)
        finally:
            remark.cancel()
        raise AssertionError("the last try returns or raises")

    return request


def _warn(host: str | None) -> None:
    logger.warning(
        "the server %s has not answered for %g s, or with errors; it is asked again, and its log says more",
        host,
        REMARK_SECONDS,
    )

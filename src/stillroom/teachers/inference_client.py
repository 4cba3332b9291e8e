"""Inference client: HTTP requests to a model server, repeated while the server is busy, restarts or is out of reach."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from stillroom.errors import InputError, Stopped, first_line
from stillroom.formatting import duration
from stillroom.runtime.signals import StopRequest
from stillroom.teachers.inference_protocol import ModelAddress, error_message

if TYPE_CHECKING:
    from tenacity import RetryCallState
    from urllib3 import BaseHTTPResponse

HEALTH = "/v2/health/ready"
# The server, or a gateway before it, will serve the same request later.
_BUSY = {408, 425, 429, 502, 503, 504}
_MISSING = {400, 404, 405, 501}  # for a path that the protocol has and a server lacks
_FAILURES = 5  # attempts at a request that the server fails at with another 5xx status, which often lasts
_POLL_SECONDS = 0.1


class UnavailableError(Exception):
    """The server cannot be reached, is busy, or failed; the same request may succeed later.

    Attributes:
        retry_after: seconds that the server asks to wait, or None.
        lasting: whether the server reported a failure of its own that is likely to last.
    """

    def __init__(self, reason: str, retry_after: float | None = None, *, lasting: bool = False) -> None:
        super().__init__(reason)
        self.retry_after, self.lasting = retry_after, lasting


def read_api_key(variable: str | None) -> str | None:
    """The API key in an environment variable; None without a variable.

    Raises:
        InputError: the variable is not set or holds no key. The message shows neither, because the user may have given
            the key in the place of the name.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip() if re.fullmatch(r"[A-Za-z_]\w*", variable) else ""
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise InputError(
            "teacher_api_key_env= names no environment variable that holds an API key; give the variable's name, not "
            "the key, and set the variable to a key of printable characters"
        )
    return key


class InferenceClient:
    """Sends requests to one server, from several threads at once.

    Args:
        address: of the model.
        key: sent as ``Authorization: Bearer``; it appears in no message.
        timeout: seconds until a request without a response fails.
        patience: seconds to repeat a request until the run ends with an error.
        connections: largest number of simultaneous requests.
        backoff: the first and the longest pause between two attempts in seconds; pauses double and are random, so that
            many clients do not come back at the same time.
        say: called with each message for the user, from any thread.
    """

    def __init__(
        self,
        address: ModelAddress,
        *,
        key: str | None,
        timeout: float,
        patience: float,
        connections: int,
        backoff: tuple[float, float],
        say: Callable[[str], None],
    ) -> None:
        import urllib3

        self.address, self._key, self._timeout = address, key, timeout
        self.patience, self._backoff, self._say = patience, backoff, say
        self._pool = urllib3.PoolManager(
            maxsize=connections, retries=False, timeout=urllib3.Timeout(connect=min(timeout, 10.0), read=timeout)
        )
        self.stop = StopRequest()
        self.cancelled = threading.Event()
        self._lock = threading.Lock()
        self._waiting_since: float | None = None

    def get_json(self, path: str, *, optional: bool = False) -> Any:
        """The JSON at a path; None if it is optional and the server does not have it.

        Raises:
            InputError: as :meth:`send`, or the response is no JSON.
        """
        response = self.send("GET", path, optional=optional)
        if response is None:
            return None
        try:
            return json.loads(response.data or b"null")
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self.address.server}{path} returned no JSON; is it a server of the Open Inference "
                             "Protocol v2?") from error  # fmt: skip

    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        optional: bool = False,
    ) -> BaseHTTPResponse | None:
        """Send a request until it succeeds.

        Args:
            method: GET or POST.
            path: on the server, from ``/v2``.
            headers: besides the API key.
            body: of the request.
            optional: return None where the server does not know the path.

        Raises:
            InputError: the server refuses the request, or it did not succeed within the patience.
            Stopped: the user asked to stop while the server was unavailable.
        """
        import tenacity

        first, longest = self._backoff
        pause = tenacity.wait_random_exponential(multiplier=first, max=longest)

        def wait(state: RetryCallState) -> float:
            asked = getattr(_failure(state), "retry_after", None)
            return pause(state) if asked is None else float(asked)

        def give_up(state: RetryCallState) -> bool:
            lasting = getattr(_failure(state), "lasting", False) and state.attempt_number >= _FAILURES
            return lasting or (state.seconds_since_start or 0) >= self.patience

        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(UnavailableError),
            wait=wait,
            stop=give_up,
            sleep=self._sleep,
            before_sleep=self._announce,
            reraise=True,
        )
        try:
            response: BaseHTTPResponse | None = attempts(self._try, method, path, headers or {}, body, optional)
        except UnavailableError as error:
            fix = "" if error.lasting else "; start it, or raise teacher_patience or teacher_timeout"
            raise InputError(f"teacher={self.address} is not available: {error}{fix}. What it has predicted is "
                             "stored: run the same command again to go on") from error  # fmt: skip
        self._announce_return()
        return response

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()

    def _try(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None, optional: bool
    ) -> BaseHTTPResponse | None:
        """Send a request once."""
        import urllib3

        identified = {} if self._key is None else {"Authorization": f"Bearer {self._key}"}
        try:
            response = self._pool.request(
                method, self.address.server + path, body=body, headers={**headers, **identified}, redirect=False
            )
        except urllib3.exceptions.SSLError as error:
            raise InputError(
                f"teacher={self.address}: no secure connection ({self._clean(first_line(error))})"
            ) from error
        except urllib3.exceptions.TimeoutError as error:
            raise UnavailableError(f"no response within {self._timeout:g} s") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnavailableError(self._clean(first_line(error))) from error
        if response.status == 200:
            return response
        if path == HEALTH and response.status == 400:  # Triton's status until all its models are loaded
            raise UnavailableError("it is not ready")
        if optional and response.status in _MISSING:
            return None
        raise self._failure_of(response)

    def _failure_of(self, response: BaseHTTPResponse) -> Exception:
        """The error for a response that is not 200."""
        import urllib3

        status, said = response.status, self._clean(error_message(response.data))
        reason = f"status {status}" + (f", {said}" if said else "")
        if status in _BUSY or status >= 500:
            try:
                seconds = urllib3.Retry().get_retry_after(response)
            except urllib3.exceptions.InvalidHeader:
                seconds = None
            return UnavailableError(reason, seconds, lasting=status not in _BUSY)
        fixes = {
            401: "; give the name of the environment variable that holds its API key as teacher_api_key_env=",
            403: "; check the API key that teacher_api_key_env= names",
            404: "; check the name of the model and its version",
            413: "; lower teacher_batch_size",
        }
        if 300 <= status < 400:
            reason, fixes = f"status {status}", {status: "; redirections are not followed, give the final address"}
        if status == 401 and self._key is not None:
            fixes[401] = fixes[403]
        return InputError(f"teacher={self.address} refused the request: {reason}{fixes.get(status, '')}")

    def _sleep(self, seconds: float) -> None:
        """Pause, unless the user asks to stop or another thread has failed."""
        end = time.monotonic() + min(seconds, self.patience)
        while (left := end - time.monotonic()) > 0:
            self.cancelled.wait(min(left, _POLL_SECONDS))
            if self.stop.signal_number or self.cancelled.is_set():
                raise Stopped(
                    f"stopped while waiting for teacher={self.address}; what it has predicted is stored: run the same "
                    "command again to go on",
                    self.stop.signal_number,
                )

    def _announce(self, state: RetryCallState) -> None:
        """Say once per outage that the run waits, from the second failure of a request on."""
        if state.attempt_number < 2:
            return
        with self._lock:
            known, self._waiting_since = self._waiting_since, self._waiting_since or time.monotonic()
        if known is None:
            self._say(f"waiting for teacher={self.address} ({_failure(state)}), for {duration(self.patience)} at most")

    def _announce_return(self) -> None:
        with self._lock:
            since, self._waiting_since = self._waiting_since, None
        if since is not None:
            self._say(f"teacher={self.address} is back after {duration(time.monotonic() - since)}")

    def _clean(self, text: str) -> str:
        """Text without the API key, which a server may repeat in a message."""
        return text if self._key is None else text.replace(self._key, "***")


def _failure(state: RetryCallState) -> BaseException | None:
    """What the latest attempt raised."""
    return None if state.outcome is None else state.outcome.exception()

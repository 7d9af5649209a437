"""The bytes of a web address: which are allowed, and how they are received.

`requests` and `pooch` do the work; added here are rules for addresses, also
those that a server redirects to, a second try where the line breaks, and the
reason of a failure in words. Left out: where the bytes are kept.
"""

import hashlib
import re
import urllib.parse

# Seconds: to reach a server, and between two pieces of its answer.
CONNECT_TIMEOUT = 10
READ_TIMEOUT = 60
# pooch takes pieces of 1 kB unless told; a file of 1 GB deserves larger ones.
CHUNK_SIZE = 2**20
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class DownloadError(OSError):
    """A file could not be downloaded or could not be kept in the cache.

    The message gives the address, the reason and the path in the cache.
    """


def broken_rule(url):
    """The rule for addresses that one breaks, or None."""
    # Programs disagree about what such characters mean, so that the host
    # which is checked may not be the host that is asked.
    if "\\" in url or re.search(r"[\x00-\x1f\x7f]", url):
        return "must hold no backslash and no control character"
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"must be a valid address ({error})"
    if parts.scheme != "https" and (
        parts.scheme != "http" or host not in LOOPBACK
    ):
        return (
            "must be a path or start with https://, gs:// or hf:// "
            f"(http:// for {', '.join(LOOPBACK)} only)"
        )
    path = urllib.parse.unquote(parts.path)
    if not host or not path.strip("/"):
        return "must name a host and a file on it"
    if "\\" in path or ".." in path.split("/"):
        return "must hold no backslash and no '..' in its path"
    return None


def receive(url, file):
    """Writes what an address holds, with a second try if the line breaks."""
    import requests

    try:
        _receive_once(url, file)
    except (
        requests.exceptions.ConnectionError,
        requests.exceptions.ChunkedEncodingError,
    ) as error:
        if _is_timeout(error):
            raise
        file.seek(0)
        file.truncate()
        _receive_once(url, file)


def _receive_once(url, file):
    import pooch
    import requests

    responses = []

    def check(response, **kwargs):
        responses.append(response)
        _check_response(response)

    bar = _ProgressBar(file)
    download = pooch.HTTPDownloader(
        progressbar=bar,
        chunk_size=CHUNK_SIZE,
        timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
        # The file itself, not compressed once more on its way.
        headers={"Accept-Encoding": "identity"},
        # Called for each response, before its redirect is followed.
        hooks={"response": check},
    )
    try:
        download(url, file, None)
        # urllib3 counts by itself since version 2.
        length = int(responses[-1].headers.get("content-length", 0))
        if responses[-1].raw.tell() < length:
            raise requests.exceptions.ChunkedEncodingError(
                f"{responses[-1].raw.tell()} of {length} bytes were received"
            )
    finally:
        bar.end()
        for response in responses:
            response.close()


def _check_response(response):
    import requests

    if response.is_redirect:
        target = urllib.parse.urljoin(
            response.url, response.headers["location"]
        )
        rule = broken_rule(target)
        if rule:
            raise requests.exceptions.InvalidURL(
                f"it redirects to {target!r}, but an address {rule}"
            )
    elif response.status_code != 200:
        # 204, 206 and others are no errors to `requests`, but no file either.
        raise requests.exceptions.HTTPError(response=response)


def _is_timeout(error):
    import requests
    import urllib3

    # In the middle of a body, `requests` calls a timeout a ConnectionError.
    return isinstance(error, requests.exceptions.Timeout) or any(
        isinstance(arg, urllib3.exceptions.ReadTimeoutError)
        for arg in error.args
    )


def network_reason(error):
    """Why an address could not be read, or None if something else failed."""
    import requests

    if not isinstance(error, requests.exceptions.RequestException):
        return None
    if isinstance(error, requests.exceptions.HTTPError):
        status = f"{error.response.status_code} {error.response.reason}"
        if error.response.status_code in (404, 410):
            return f"the address does not exist ({status})"
        return f"the server answered {status}"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return f"the server was not reached within {CONNECT_TIMEOUT} seconds"
    if _is_timeout(error):
        return f"the server sent nothing for {READ_TIMEOUT} seconds"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return f"the connection broke before the file was whole ({error})"
    return str(error)


class _ProgressBar:
    """The bar of Keras, in the form in which pooch drives one."""

    def __init__(self, file):
        self.file = file
        self.total = 0
        self.bar = None

    def update(self, size):
        if self.bar is None:
            # Here, because it starts a backend where none is running yet.
            from keras.utils import Progbar

            # Where output is a file, each update is a line.
            self.bar = Progbar(self.total or None, interval=1, unit_name="byte")
        # `size` is that of a full chunk even where the last one is shorter.
        self.bar.update(self.file.tell(), finalize=False)

    def reset(self):
        pass

    def close(self):
        pass

    def end(self):
        """Ends the line, also where pooch gave up and did not close."""
        if self.bar is not None:
            self.bar.update(self.file.tell(), finalize=True)


def sha256_of(path):
    """The hash of a file, or None if there is no file."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None

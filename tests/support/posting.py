"""Forms posted to Datasette in process, as a browser posts them."""

import asyncio
from urllib.parse import urlencode

from tests.support.browsing import cookies, fetched


def send(served, path, form, *, cookies=None, headers=None):
    """Post a form."""
    headers = {"content-type": "application/x-www-form-urlencoded"} | (headers or {})
    content = urlencode(form)
    return asyncio.run(
        served.client.post(path, content=content, cookies=cookies or {}, headers=headers)
    )


def posted(served, user, path, **form):
    """Post a form as a user, with the CSRF token of a page."""
    login = cookies(served, user)
    page = fetched(served, "/-/logout", user)
    token = page.cookies["ds_csrftoken"]
    return send(served, path, {"csrftoken": token} | form, cookies=login | {"ds_csrftoken": token})

"""Forms posted to Datasette in process, as a browser posts them."""

import asyncio
from urllib.parse import urlencode

from tests.support.browsing import session_of, session_of_admin


def cookies(served, user):
    """The login of a user, or of admin."""
    return {"ds_actor": session_of_admin(served) if user == "admin" else session_of(served, user)}


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
    page = asyncio.run(served.client.get("/-/logout", cookies=login))
    token = page.cookies["ds_csrftoken"]
    return send(served, path, {"csrftoken": token} | form, cookies=login | {"ds_csrftoken": token})

"""The demo's processes; `tests/test_end_to_end.py` runs it whole."""

from pathlib import Path

from receiver import config, demo


def test_demo_has_no_account_but_its_own(monkeypatch):
    monkeypatch.setenv("RETELL_API_KEY", "key_default")
    Path(".env").write_text("RETELL_API_KEY_ACME=key_acme\nRETELL_WEBHOOK_KEYS_B=key_b\n")
    settings = config.load()
    assert len(settings.accounts) == 3
    variables = demo.environment(settings, Path("x.db"), key="key_demo", password="secret")
    [account] = config.load(variables).accounts
    assert (account.name, account.webhook_keys) == ("default", ("key_demo",))

"""Products and their families."""

import pytest

from schema.products import FAMILIES, OTHER, family_sql, product_family, product_label


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("voice engine", "voice_engine retell_voice_engine"),
        ("voice", "elevenlabs_tts elevenlabs_tts_new elevenlabs_tts_03_2026 platform_tts"),
        ("model", "gpt_4_1 gpt-4o-mini gpt_4o_mini gemini_2_0_flash gpt_4_1_mini_high_priority"),
        ("model", "claude_4_sonnet gpt_4o_realtime llm_token_usage"),
        ("analysis", "gpt_4_1_text_testing gpt_5_nano_text_testing post_call_analysis"),
        ("telephony", "us_twilio_telephony us_telnyx"),
        ("surcharge", "llm_token_surcharge short_call_surcharge concurrency_burst_surcharge"),
        ("add-on", "background_voice_cancellation knowledge_base_usage knowledge_base guardrail"),
        ("add-on", "pii_scrubbing colloquial_mode stable_server quality_assurance"),
        ("per item", "branded_outbound_call batch_call sms_message"),
        (None, "mystery_fee voice tts gpt"),
    ],
)
def test_products_are_known_by_their_family(db, family, names):
    for name in names.split():
        assert product_family(name) == family, name
        product = name.upper().replace("-", "_")
        [found] = db.execute(f"SELECT {family_sql('p')} FROM (SELECT ? AS p) AS p", [product])
        assert found[0] == (family or OTHER), name


def test_every_family_has_its_place_in_lists(db):
    sql = family_sql("p")
    assert {name for name in FAMILIES if f"'{name}'" in sql} == {*FAMILIES}
    assert FAMILIES[-1] == OTHER


@pytest.mark.parametrize(
    ("product", "label"),
    [
        ("retell_voice_engine", "Retell voice engine"),
        ("gpt_4_1_mini_high_priority", "GPT 4.1 mini high priority"),
        ("gpt-4o-mini", "GPT 4o mini"),
        ("claude_4_5_sonnet", "Claude 4.5 sonnet"),
        ("elevenlabs_tts", "Elevenlabs TTS"),
        ("us_twilio_telephony", "US twilio telephony"),
        ("", ""),
    ],
)
def test_product_has_a_label(product, label):
    assert product_label(product) == label

"""割烹ふじなみ: tables at a small restaurant. Japanese, a conversation flow."""

from __future__ import annotations

from receiver.sandbox.script import (
    Ending,
    Node,
    Script,
    Slots,
    agent,
    extract,
    maybe,
    tool,
    user,
)
from receiver.sandbox.scripts import asides

_PARTIES: tuple[Slots, ...] = (
    {"party": "二名", "guests": 2, "more": "三名", "more_guests": 3},
    {"party": "四名", "guests": 4, "more": "六名", "more_guests": 6},
    {"party": "五名", "guests": 5, "more": "七名", "more_guests": 7},
)
_TIMES: tuple[Slots, ...] = (
    {"time": "夜七時", "hhmm": "19:00", "other": "夜八時半", "other_hhmm": "20:30"},
    {"time": "夕方五時半", "hhmm": "17:30", "other": "夜八時", "other_hhmm": "20:00"},
    {"time": "お昼の十二時", "hhmm": "12:00", "other": "一時半", "other_hhmm": "13:30"},
)
_SEATS: tuple[Slots, ...] = (
    {"seat": "カウンター", "deposit": 0},
    {"seat": "個室", "deposit": 3000},
)


def _analysis(booked: bool, **more: object) -> dict[str, object]:
    return {
        "予約名": "{last}様",
        "予約完了": booked,
        "人数": "{guests}",
        "アレルギー": "",
        "個室料（円）": "{deposit}",
    } | more


TABLE = Script(
    name="table reservation",
    language="ja-JP",
    goal="a table was found",
    choices=(_PARTIES, _TIMES, _SEATS),
    opening=(
        Node("ご挨拶"),
        agent(
            "お電話ありがとうございます。割烹ふじなみ、美月でございます。",
            "はい、割烹ふじなみでございます。ご予約でしょうか？",
        ),
        user(
            "すみません、{weekday}の{time}に{party}で予約したいのですが。",
            "もしもし、{last}と申します。{weekday}の{time}、{party}でお願いできますか？",
        ),
        Node("日時の確認"),
        extract(party_size="{guests}", reservation_date="{date}", customer_name=""),
        agent("ありがとうございます。{weekday}の{time}、{party}様ですね。空きを確認いたします。"),
        tool(
            "空席確認",
            {"date": "{date}", "time": "{hhmm}", "guests": "{guests}"},
            {"空席": True, "席": ["カウンター", "個室"]},
        ),
    ),
    endings=(
        Ending(
            name="reserved",
            steps=(
                agent("はい、ご用意できます。お席は{seat}でよろしいでしょうか？"),
                user("はい、{seat}でお願いします。", "{seat}がいいですね。"),
                agent("かしこまりました。苦手な食材やアレルギーはございますか？"),
                user("特にないです。", "一人だけ、海老が食べられません。"),
                Node("お名前とお電話番号"),
                agent("承知いたしました。お名前とお電話番号をお願いいたします。"),
                user("{customer}です。電話は{phone}です。"),
                tool(
                    "予約登録",
                    {"name": "{customer}", "phone": "{e164}", "seat": "{seat}"},
                    {"success": True, "予約番号": "F{ref}"},
                ),
                *asides.JAPANESE,
                agent("{last}様、{weekday}の{time}に{party}様で承りました。"),
                maybe(
                    0.5,
                    user("駅から近いですか？"),
                    agent("南口から歩いて五分ほどです。青い暖簾が目印です。"),
                ),
                user("わかりました。ありがとうございます。", "楽しみにしています。失礼します。"),
                agent("ご来店を心よりお待ちしております。"),
            ),
            summary="{customer} reserved a table for {guests} on {date} at {hhmm}, number F{ref}.",
            analysis=_analysis(True, **{"アレルギー": "なし"}),
        ),
        Ending(
            name="full",
            steps=(
                agent("申し訳ございません。確認しましたところ、その時間は先ほど満席になりました。"),
                tool(
                    "空席確認",
                    {"date": "{date}", "time": "{other_hhmm}"},
                    {"success": False, "message": "満席"},
                ),
                agent("{other}も満席でございます。キャンセル待ちはいかがでしょうか？"),
                user("そうですか。残念ですが、今回は結構です。"),
                agent("お役に立てず申し訳ございません。またのご連絡をお待ちしております。"),
                user("はい、失礼します。"),
            ),
            summary="A table for {guests} on {date} was not free at {hhmm} or {other_hhmm}; the "
            "caller did not want the waiting list.",
            analysis=_analysis(False, **{"個室料（円）": None, "アレルギー": "N/A"}),
            successful=False,
            sentiment="Neutral",
        ),
    ),
)

CHANGE = Script(
    name="table change",
    language="ja-JP",
    goal="the reservation was found",
    choices=(_PARTIES, _TIMES, _SEATS),
    opening=(
        Node("ご挨拶"),
        agent("お電話ありがとうございます。割烹ふじなみでございます。"),
        user("{weekday}に予約している{last}ですが、人数を変更したいんです。"),
        Node("予約の検索"),
        agent("{last}様、いつもありがとうございます。少々お待ちくださいませ。"),
        tool(
            "予約検索",
            {"name": "{last}", "date": "{date}"},
            {"found": True, "予約番号": "F{ref}", "guests": "{guests}"},
        ),
        agent("{weekday}の{time}、{party}様でございますね。何名様に変更なさいますか？"),
        user("{more}になりました。大丈夫でしょうか？"),
    ),
    endings=(
        Ending(
            name="changed",
            steps=(
                tool("予約変更", {"id": "F{ref}", "guests": "{more_guests}"}, {"success": True}),
                agent("はい、{more}様に変更いたしました。お時間はそのままでよろしいですか？"),
                user("はい、そのままで。助かりました。"),
                agent("では{weekday}にお待ちしております。"),
                user("よろしくお願いします。失礼します。"),
            ),
            summary="{customer} changed reservation F{ref} from {guests} to {more_guests} guests.",
            analysis=_analysis(True, **{"人数": "{more_guests}"}),
        ),
        Ending(
            name="no room",
            steps=(
                tool(
                    "予約変更",
                    {"id": "F{ref}", "guests": "{more_guests}"},
                    {"success": False, "error": "定員を超えています"},
                ),
                agent("申し訳ございません。{more}様ですと、お席が足りないようです。"),
                user("えっ、困りましたね。どうしても無理ですか？"),
                agent("店主に相談のうえ、{phone}に折り返しご連絡いたします。"),
                user("わかりました。なるべく早くお願いします。"),
            ),
            summary="{customer} asked for {more_guests} seats instead of {guests}; there is no "
            "room, and the owner will call back.",
            analysis=_analysis(False),
            successful=False,
            sentiment="Negative",
        ),
    ),
)

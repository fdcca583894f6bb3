"""The encodings a PostgreSQL database can have, each with a text that is typical of it."""

from __future__ import annotations

ENCODINGS = {
    "EUC_CN": "简体中文",
    "EUC_JIS_2004": "日本語 𠮟る",
    "EUC_JP": "日本語テスト",
    "EUC_KR": "한국어",
    "EUC_TW": "繁體中文",
    "ISO_8859_5": "Привет №",
    "ISO_8859_6": "العربية",
    "ISO_8859_7": "Ελληνικά ώ",
    "ISO_8859_8": "עברית",
    "KOI8R": "Привет ╬",
    "KOI8U": "Привіт ґ",
    "LATIN1": "Ærø ñ ÿ",
    "LATIN2": "Łódź žluťoučký",
    "LATIN3": "Ĉeĥa ħ",
    "LATIN4": "Īzaks ģ ŋ",
    "LATIN5": "İstanbul ğış",
    "LATIN6": "Þórr ŋ đ",
    "LATIN7": "Žemaitė ķ “ī",
    "LATIN8": "Ŵyŷ ḃ",
    "LATIN9": "Œuvre €",
    "LATIN10": "Ștefan ț €",
    "UTF8": "☃ 𝄞 سلام",
    "WIN1250": "Łódź ‰ €",
    "WIN1251": "Привет Ўў",
    "WIN1252": "“naïve” €",
    "WIN1253": "Ελληνικά €",
    "WIN1254": "İstanbul €",
    "WIN1255": "עברית ₪",
    "WIN1256": "العربية €",
    "WIN1257": "Žemaitė €",
    "WIN1258": "Viê\u0323t ₫",
    "WIN866": "Привет ░",
    "WIN874": "ไทย €",
}
#: The server cannot turn texts of these into UTF8: databases of them are refused.
REFUSED = {
    "MULE_INTERNAL": "no server turns it into UTF8",
    "SQL_ASCII": "the database does not know what its bytes mean",
}

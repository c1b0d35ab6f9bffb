"""Language tags as they stand in file names, containers and settings, made comparable."""

from __future__ import annotations

_TWO = """
aa ab af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv
dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi hr ht hu hy ia id ig ii ik
io is it iu iw ja jv jw ka kg ki kk kl km kn ko kr ks ku kv kw ky la lb lg ln lo lt lv mg mh mi mk ml
mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa
sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk
ur uz ve vi vo wa wo xh yi yo za zh zu
"""
_THREE = """
afr:af alb:sq sqi:sq ara:ar arm:hy hye:hy aze:az baq:eu eus:eu bel:be ben:bn bos:bs bul:bg bur:my
mya:my cat:ca chi:zh zho:zh cmn:zh cze:cs ces:cs dan:da dut:nl nld:nl eng:en est:et fin:fi fil:tl
fra:fr fre:fr geo:ka kat:ka ger:de deu:de gle:ga glg:gl gre:el ell:el guj:gu heb:he hin:hi hrv:hr
hun:hu ice:is isl:is ind:id ita:it jpn:ja kan:kn kaz:kk khm:km kor:ko lao:lo lav:lv lit:lt mac:mk
mkd:mk mal:ml mar:mr may:ms msa:ms mon:mn nep:ne nob:nb nno:nn nor:no per:fa fas:fa pol:pl por:pt
pan:pa ron:ro rum:ro rus:ru sin:si slo:sk slk:sk slv:sl spa:es srp:sr swa:sw swe:sv tam:ta tel:te
tha:th tgl:tl tur:tr ukr:uk urd:ur uzb:uz vie:vi wel:cy cym:cy yue:zh haw:haw
"""
_TWO_LETTER = frozenset(_TWO.split())
_THREE_LETTER = dict(pair.split(":") for pair in _THREE.split())
_NAMED = {
    "arabic": "ar", "bulgarian": "bg", "chinese": "zh", "croatian": "hr", "czech": "cs",
    "danish": "da", "deutsch": "de", "dutch": "nl", "english": "en", "español": "es",
    "finnish": "fi", "français": "fr", "french": "fr", "german": "de", "greek": "el",
    "hebrew": "he", "hindi": "hi", "hungarian": "hu", "indonesian": "id", "italian": "it",
    "italiano": "it", "japanese": "ja", "korean": "ko", "norwegian": "no", "polish": "pl",
    "portuguese": "pt", "romanian": "ro", "russian": "ru", "spanish": "es", "swedish": "sv",
    "thai": "th", "turkish": "tr", "ukrainian": "uk", "vietnamese": "vi",
}  # fmt: skip


def language_code(tag: str | None) -> str | None:
    """The two-letter code of ``en``, ``en-US``, ``eng`` or ``English``; ``None`` for no language.

    >>> language_code("pt_BR"), language_code("ger"), language_code("und")
    ('pt', 'de', None)
    """
    parts = (tag or "").casefold().replace("_", "-").split("-")
    head = parts[0]
    code = _NAMED.get(head) or _THREE_LETTER.get(head) or (head if head in _TWO_LETTER else None)
    return code if all(len(part) <= 8 and part.isalnum() for part in parts[1:]) else None

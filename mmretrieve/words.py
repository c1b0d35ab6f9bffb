"""English words that say how a sentence is built, not what it is about."""

from __future__ import annotations

import re

FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be by can did do does for from had has have he her his how i if in into "
        "is it its me my not of on one or our out over she so some that the their them then there "
        "they this to up us was we were what when where which while who why will with you your",
    )
)

"""Write ``lite_text.json``: ``python -m tests.golden.make_lite_text`` after the weights changed."""

from __future__ import annotations

import json
from pathlib import Path

from mmretrieve.encoders.lite import LiteEncoder

TEXTS = ("a red balloon over the harbour", "permission denied (publickey)", "how bees dance")
N_NUMBERS = 8
GOLDEN = Path(__file__).with_name("lite_text.json")


def main() -> None:
    """Embed the texts as queries and keep the first numbers of every token."""
    encoder, rows = LiteEncoder(), []
    for text in TEXTS:
        query = encoder.query(text)
        numbers = query.vectors["text"][:, :N_NUMBERS].round(4).astype(float).tolist()
        rows.append({"text": text, "tokens": list(query.texts), "numbers": numbers})
    GOLDEN.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

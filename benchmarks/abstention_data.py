"""What an abstention benchmark asks: queries that a library answers, and queries that it does not.

Every query belongs to one half, ``tune`` or ``test``, by a checksum of its text: what is fitted or chosen
looks at the first half alone.
"""

from __future__ import annotations

import csv
import json
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmretrieve.encoders.weights import weight_path

TUNE, TEST = "tune", "test"
OWN = "own"
OFF_TOPIC, WORDS, LETTERS, FOREIGN = "off topic", "random words", "letters", "foreign"
NONSENSE = (WORDS, LETTERS, FOREIGN)
"""Kinds of unanswerable queries beside those that another library answers, which bear its name."""

SCENES, EVENTS, RESEARCH = "scenes", "events", "research"
GENRES = {
    "videos": SCENES, "activitynet_asr": SCENES, "flickr8k": SCENES, "MSR-VTT": SCENES,
    "multivent1": EVENTS, "MultiVENT 2.0": EVENTS,
    "slides": RESEARCH, "cranfield": RESEARCH, "cisi": RESEARCH,
}  # fmt: skip
"""What a collection is about: what can be seen in everyday life, what was in the news, or science and
computing; by what it says of itself, not by result. A query of another collection of the same genre may well
have an answer, which nobody judged: such pairs are told apart, and nothing is fitted on them."""

_SEED = 11

_OFF_TOPIC = """\
how do I descale an espresso machine
best time of year to plant tulip bulbs
the siege of Constantinople in 1453
income tax deadline for freelancers in Portugal
symptoms of gluten intolerance in toddlers
replacing the drum of a washing machine
knots for climbing anchors
how to register a trademark in Canada
butter chicken without cream
Roman aqueduct engineering
when does the Suez canal toll increase
training a puppy to walk on a leash
history of the Ottoman navy
lawyer explaining the probate of a will
how to change a tyre on a motorway
gas boiler pressure keeps dropping
the poet reads a sonnet about autumn
wedding speech by the father of the bride
a submarine surfacing through arctic ice
nurses strike outside the hospital
elephants bathing in a river at sunset
how vaccines are stored in cold chains
opening bid at the cattle auction
recipe for sourdough pizza
refugees crossing the border on foot
the goalkeeper saves a penalty in extra time
volcano eruption in Iceland filmed from a helicopter
a couple signing mortgage papers
how to sharpen a chisel on a whetstone
marathon runners crossing a bridge
beehives damaged by a bear
the president lays a wreath at the tomb
sewing a zip into a skirt
orchestra rehearsing a symphony
earthquake survivors pulled from rubble
brewing beer at home for beginners
polar expedition diary of 1911
how to treat a jellyfish sting
the last samurai and the Meiji restoration
camels racing in the desert
glass blowing workshop in Murano
truffle hunting with dogs
making a paper lantern for the festival
a priest blessing fishing boats
cleaning solar panels on a farm roof
drought and failing maize harvests in Kenya
teaching a child to ride a horse
the court sentenced him to nine years
installing insulation in an attic
migraine treatment options
pottery glaze recipes with cobalt
the ferry to the islands was cancelled
how to prune apple trees in winter
tango lesson for couples
crocodile attack at the waterhole
exchange rate of the Turkish lira
yoga for lower back pain
cutting down a giant sequoia
antique clock auction results
space for parking a caravan
the monks chant before dawn
repairing a leaking roof gutter
dental implants cost comparison
diplomats sign a fishing treaty
fireworks over the harbour on new year
removing wine stains from a carpet
coronation of the young queen
a blind date in a sushi restaurant
how to write a will without a notary
sheepdog trials in Wales
Viking burial ship excavation
hospital bed shortage during the flu season
bungee jumping from a dam
a toddler blowing out birthday candles
steel mill workers pouring molten metal
grandmaster resigns after the queen sacrifice
snake charmer in the market of Marrakesh
how to fold a fitted sheet
kangaroo boxing a tourist
minister resigns over expenses scandal
growing mushrooms in a cellar
ice sculpture contest
shoemaker stitching leather boots
the trial of Galileo
penguin colony counted from satellite pictures
salsa verde with roasted tomatillos
bagpipe band at a funeral
hurricane evacuation routes in Florida
cost of raising twins
learning to juggle five balls
coal miners trapped underground
visa requirements for Mongolia
whale stranded on the beach
restoring a vintage motorcycle
pregnancy diet and iron
the opera singer forgot her lines
hedge trimming regulations
bullfight banned in Catalonia
how to bleed a radiator
gold prices and inflation
""".splitlines()

_FOREIGN = """\
wo ist der nächste Bahnhof bitte
la receta de mi abuela para el gazpacho
je voudrais réserver une table pour deux personnes
hyvää huomenta ja tervetuloa meille kotiin
hvor mye koster en tur til fjorden
el perro del vecino ladra toda la noche
die Steuererklärung muss bis Juli abgegeben werden
comment réparer une fuite sous l'évier
quanto costa un biglietto per Napoli
jak upiec chleb na zakwasie
minun koirani on vanha ja väsynyt
o pescador voltou sem peixe nenhum
kde je nejbližší lékárna
gravlax med senapssås till julbordet
mijn fiets is gisteren gestolen
kako se priprema domaći ajvar
buongiorno vorrei un caffè macchiato
der Zug nach Wien hat Verspätung
szép jó napot kívánok mindenkinek
les vendanges commencent en septembre
onde fica a praia mais bonita
evde taze ekmek yapmak kolay
unde pot cumpăra pâine proaspătă
gdzie mogę zaparkować samochód
""".splitlines()


@dataclass(frozen=True, slots=True)
class Asked:
    """A query of an abstention benchmark. ``kind`` is :data:`OWN` for one that the library answers."""

    text: str
    kind: str

    @property
    def half(self) -> str:
        """:data:`TUNE` or :data:`TEST`."""
        return TUNE if zlib.crc32(self.text.encode()) % 2 else TEST


def same_genre(library: str, kind: str) -> bool:
    """Whether queries of this kind come from another collection of the library's genre."""
    return kind in GENRES and GENRES[kind] == GENRES[library]


def off_topic() -> list[Asked]:
    """Questions written by hand on what no collection here is about."""
    return [Asked(text, OFF_TOPIC) for text in _OFF_TOPIC]


def nonsense(n: int) -> list[Asked]:
    """``n`` each of random English words and of random letters, and sentences in other languages."""
    rng = random.Random(_SEED)
    words = _vocabulary()
    found = [Asked(" ".join(rng.sample(words, rng.randint(2, 7))), WORDS) for _ in range(n)]
    found += [
        Asked(" ".join(_letters(rng) for _ in range(rng.randint(1, 5))), LETTERS) for _ in range(n)
    ]
    return found + [Asked(text, FOREIGN) for text in _FOREIGN]


def event_queries(layouts: Path) -> list[str]:
    """Queries of MultiVENT 2.0 for videos of events."""
    with (layouts / "multivent" / "multivent_2_q.csv").open(encoding="utf-8", newline="") as file:
        return [row["query"] for row in csv.DictReader(file)]


def captions(layouts: Path) -> list[str]:
    """Captions of MSR-VTT, one a video."""
    path = layouts / "msrvtt" / "MSRVTT_JSFUSION_test.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return [row["sentence"] for row in csv.DictReader(file, delimiter=";")]


def spread(texts: Sequence[str], n: int) -> list[str]:
    """At most ``n`` of them, by lot, always the same."""
    distinct = sorted(set(texts))
    return distinct if len(distinct) <= n else random.Random(_SEED).sample(distinct, n)


def _vocabulary() -> list[str]:
    """Whole words of the text encoder's vocabulary that are at least four letters long."""
    stored = json.loads(weight_path("bge_tokenizer.json").read_text(encoding="utf-8"))
    pieces = stored["model"]["vocab"]
    return sorted(p for p in pieces if p.isascii() and p.isalpha() and len(p) >= 4)


def _letters(rng: random.Random) -> str:
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(3, 10)))

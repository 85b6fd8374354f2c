"""Generators of what stands on printed paper, receipts above all. No text of any corpus is copied."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    Draw = Callable[[np.random.Generator], str]


def _listed(text: str) -> list[str]:
    return text.split()


WORDS = _listed(
    "account address amount and apple approved area article at auth avenue back bag balance bank bar barcode "
    "batch beef best bill bottle box bread building business by bus cafe cake card care cash cashier centre "
    "change charge check chicken choice city clean clerk close code coffee cold collect come company copy cost "
    "counter coupon credit cup customer daily date day debit delivery department deposit description details "
    "dinner discount dish drink drive due duty each east egg email end entry exchange exempt express extra fax "
    "fee fish floor food for free fresh from fruit fuel garden gift glass gold good goods grand green grill gross "
    "group guest hand hardware have head here home hot hotel hour house ice if in included inn invoice is item "
    "juice keep key kitchen large late less light limited line list litre lot lunch machine main manager market "
    "meal member menu milk mini mixed mobile month more name net new next north not note number of office oil on "
    "only open or orange order original our out outlet over owner pack page paid paper park parking part pay "
    "payment pen per phone piece plan plastic please point points policy post premium price print product "
    "promotion purchase quantity quick rate receipt red ref reference refund register remarks rent return rice "
    "road room round rounding sale sales salt save saving school sea seat section serial served service set shop "
    "size small smart snack soap soup south special spoon staff stamp standard star station stock store street "
    "subtotal sugar summary supplier supply table take tax tea telephone tender terminal thank the this ticket "
    "till time to today tomorrow total town trading transaction transfer type unit used value vat vehicle visit "
    "void voucher waiter water way web week welcome west white with within year you your zone"
)
"""Common in English shops and offices."""
ONSETS = _listed("b c d f g h j k l m n p r s t v w y z br ch cr dr fr gr kh ng ny pr sh sr st th tr")
VOWELS = _listed("a a a e e i i o o u ai ee ia oo ou")
CODAS = ["", "", "", *_listed("n r s t l m k h ng p")]
MONTHS = _listed("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec")
UNITS = _listed("kg g ml L pcs pc x ea cm mm oz lb %")
CURRENCIES = ["$", "RM", "USD", "EUR", "GBP", "Rs.", "S$"]
LEGAL = _listed("LTD INC LLC CO. BHD PLC GMBH AB CORP")
STREETS = _listed("Street St. Road Rd Avenue Lane Jalan Lorong Taman Square Drive Park")
DOMAINS = _listed("com net org co.uk my de se info")
SYMBOLS = "!#$%&'()*+,-./:;<=>?@[]^_|~"


def _one(rng: np.random.Generator, choices: list[str] | str) -> str:
    return choices[int(rng.integers(len(choices)))]


def _digits(rng: np.random.Generator, fewest: int, most: int) -> str:
    return "".join(map(str, rng.integers(0, 10, int(rng.integers(fewest, most + 1)))))


def _cased(rng: np.random.Generator, text: str) -> str:
    """Capitals are as frequent as on receipts."""
    which = rng.random()
    return text.upper() if which < 0.55 else text.title() if which < 0.8 else text.capitalize() if which < 0.9 else text


def name(rng: np.random.Generator) -> str:
    """Draw syllables, so that no list of words is learned by heart."""
    syllables = (_one(rng, ONSETS) + _one(rng, VOWELS) + _one(rng, CODAS) for _ in range(int(rng.integers(1, 4))))
    return "".join(syllables)


def words(rng: np.random.Generator) -> str:
    """Draw one to six words, a third of them invented."""
    count = 1 + min(5, int(rng.geometric(0.4)) - 1)
    found = [name(rng) if rng.random() < 0.35 else _one(rng, WORDS) for _ in range(count)]
    end = _one(rng, [":", ".", ",", "!", " :", "*"]) if rng.random() < 0.2 else ""
    return _cased(rng, " ".join(found)) + end


def price(rng: np.random.Generator) -> str:
    """Draw an amount of money."""
    value = f"{10 ** rng.uniform(-1, 3.6):{',' if rng.random() < 0.3 else ''}.2f}"
    kind = rng.random()
    if kind < 0.6:
        return value
    if kind < 0.8:
        return _one(rng, CURRENCIES) + (" " if rng.random() < 0.3 else "") + value
    return _one(rng, ["-" + value, value + " " + _one(rng, "ASTZX"), f"({value})", value + "-"])


def number(rng: np.random.Generator) -> str:
    """Draw a count, a weight or a share."""
    kind = rng.random()
    if kind < 0.5:
        return _digits(rng, 1, 14)
    if kind < 0.7:
        return f"{_digits(rng, 1, 2)} {_one(rng, UNITS)}"
    if kind < 0.85:
        return f"{_digits(rng, 1, 2)} {_one(rng, 'xX*@')} {price(rng)}"
    return f"{rng.integers(0, 101)}%" if kind < 0.93 else f"{rng.random() * 10:.3f}"


def date(rng: np.random.Generator) -> str:
    """Draw a day, a time of day, or both."""
    day, month, year = int(rng.integers(1, 29)), int(rng.integers(1, 13)), int(rng.integers(1998, 2030))
    mark = _one(rng, "//--. ")
    kind = rng.random()
    if kind < 0.55:
        written = f"{day:02d}{mark}{month:02d}{mark}{year if rng.random() < 0.7 else year % 100:02d}"
    elif kind < 0.75:
        written = f"{day:02d}{mark}{_one(rng, MONTHS)}{mark}{year}"
    else:
        written = f"{year}-{month:02d}-{day:02d}"
    clock = f"{rng.integers(0, 24):02d}:{rng.integers(0, 60):02d}"
    clock += f":{rng.integers(0, 60):02d}" if rng.random() < 0.5 else _one(rng, ["", " AM", "PM", " PM"])
    kind = rng.random()
    return written if kind < 0.45 else clock if kind < 0.7 else f"{written} {clock}"


def code(rng: np.random.Generator) -> str:
    """Draw a number of an article, an account or a licence."""
    letters = "".join(_one(rng, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(int(rng.integers(1, 4))))
    kind = rng.random()
    if kind < 0.3:
        return f"{letters}{_one(rng, ['', '-', ' ', '/'])}{_digits(rng, 2, 8)}"
    if kind < 0.5:
        return f"{_digits(rng, 2, 5)}-{_digits(rng, 3, 6)}" + _one(rng, ["", "-" + letters[0]])
    if kind < 0.7:
        return f"({_digits(rng, 5, 7)}-{letters[0]})"
    return "".join(_one(rng, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") for _ in range(int(rng.integers(3, 10))))


def labelled(rng: np.random.Generator) -> str:
    """Draw a name and its value."""
    what = _cased(rng, _one(rng, WORDS)) + _one(rng, ["", "", " No", " NO.", " #", " ID"])
    mark = _one(rng, [": ", " : ", ":", " ", "# ", " = "])
    return what + mark + _one_of(rng, (number, code, date, price, words))(rng)


def address(rng: np.random.Generator) -> str:
    """Draw a line of an address, or a company."""
    place = name(rng).title()
    kind = rng.random()
    if kind < 0.4:
        written = f"{_one(rng, ['', 'No. ', 'Lot '])}{_digits(rng, 1, 3)}, {place} {_one(rng, STREETS)}"
    elif kind < 0.7:
        written = f"{_digits(rng, 5, 5)} {place}, {name(rng).title()}"
    else:
        written = f"{place} {_one(rng, WORDS).title()} {_one(rng, LEGAL)}"
    return written.upper() if rng.random() < 0.6 else written


def contact(rng: np.random.Generator) -> str:
    """Draw an e-mail address, a site or a telephone number."""
    site = f"{name(rng)}{_one(rng, ['', '', '-', '.'])}{name(rng)}.{_one(rng, DOMAINS)}"
    kind = rng.random()
    if kind < 0.3:
        return f"{name(rng)}{_one(rng, ['', '.', '_'])}{_digits(rng, 0, 2)}@{site}"
    if kind < 0.5:
        return _one(rng, ["www.", "http://www.", "https://"]) + site
    what = _one(rng, ["Tel: ", "TEL ", "Fax: ", "", "+", "Phone "])
    return f"{what}{_digits(rng, 2, 3)}-{_digits(rng, 3, 4)} {_digits(rng, 4, 4)}"


def marks(rng: np.random.Generator) -> str:
    """Draw words between marks, or any characters at all: rare ones must be seen too."""
    if rng.random() < 0.5:
        mark = _one(rng, ["*", "**", "-", "=", "#", "~", "--", "***"])
        return f"{mark}{_one(rng, ['', ' '])}{words(rng)}{_one(rng, ['', ' '])}{mark}"
    letters = SYMBOLS + "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    return "".join(_one(rng, letters) for _ in range(int(rng.integers(1, 9))))


PHRASES: tuple[tuple[Draw, float], ...] = (
    (words, 0.36),
    (price, 0.18),
    (number, 0.08),
    (date, 0.08),
    (code, 0.07),
    (labelled, 0.09),
    (address, 0.07),
    (contact, 0.03),
    (marks, 0.04),
)
"""Kinds of texts, and the share of each."""


def _one_of(rng: np.random.Generator, draws: tuple[Draw, ...]) -> Draw:
    return draws[int(rng.integers(len(draws)))]


def phrase(rng: np.random.Generator) -> str:
    """Draw a text of any kind."""
    place = rng.random()
    for draw, share in PHRASES:
        place -= share
        if place < 0:
            return draw(rng)
    return words(rng)

"""Which of the older encodings a text is in, told by the letters that it then has.

A few accented letters look like any of a dozen encodings. So each is tried with the languages that were written
in it: letters of the language speak for it, others and letters where no word has them speak against it. Of those
that fit equally the commoner encoding counts, Western first. A multi-byte encoding needs many characters, nearly
all of them everyday ones.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import NamedTuple

MANY = 4  # characters of several bytes that make such an encoding believable, and a few of them different
_KINDS = 3
_USUAL = "cp1252"
_SIGNS_ALONE = 0.5  # signs speak for no alphabet: a cell "Ñ" is no dash in a Cyrillic encoding
_LATIN_RUN = 2  # letters beyond ASCII that stand together at most where the others are ASCII
_SYMBOLS = frozenset("€£¥§©®™°±²³´µ·¹º»«¼½¾¿¡×÷–—‘’“”„‚…•ª¬¦\u00a0¢‰†‡‹›")
_TONES = frozenset("่้๊๋์ًٌٍَُِّْ")  # may follow another mark above a letter
_OPENING = frozenset("“„‚«‹¿¡‘")  # of a word
_WESTERN = "äöüßéèêëàâçîïôûùñáíóúãõåøæœ"
_CYRILLIC = ("оеаинтсрвлкмдпу", "абвгдеёжзийклмнопрстуфхцчшщъыьэюяіїєўґјљњћђџ")
_KOREAN = (
    "이다는의에을가로고하지은한도를사기인대리시아자어정스일있그나원부주제수해전장상공보여국구세서라만오동화년산조무비소성진신마관경들간"
    "당위요안선중생용내양민했않없방과모개회연우드트미울특별광역시군읍면길"
)
_KANJI = (
    "日一国人年大十二本中長出三時行見月分後前生五間上東四今金九入学高円子外八六下来気小七山話女北午百書先名川千水半男西電校語土木聞食"
    "車何南万毎白天母火右読友左休父雨会同事自社発者地業方新場員立開手力問代明動京目通言理体田主題意不作用度強公持野以思家世多正安院心界"
    "教文元重近考画海売知道集別物使品計死特私始朝運終台広住真有口少町料工建急止送切転研足究楽起着店病質待試族銀早親験英医仕去味写字答夜"
    "音注帰古歌買図週室歩風紙黒花春赤青館屋色走秋夏習駅洋旅服市区県都府村阪島部株式"
)
_HANZI = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去法"
    "学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业"
    "外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿原东声"
    "提立及比员解水名真论处走义各入几口认条平系气题活更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市直德资命山金指"
    "许统区保至队形社便空决治展马科司五基书非则听白却界达光放强即像难且权思王象完设式色路记南品住告类求据程北京边张该交规万取格望领共确"
    "传师观清今切院让识候带导争运号省县吗华共"
)
_TRADITIONAL = (
    "這個們來為國說時會對於著過發後裡種經麼學現當沒動還進樣開從實軍無與長機關點業將兩間問並應戰頭體見產話內給門兒東聲員論處義幾認條氣題"
    "爾別變總電數報結務場計資許統區隊決馬書則聽卻達強難權設記類據邊張該規萬覺術領確傳師觀讓識帶導爭運號縣臺灣市嗎華"
)


class Language(NamedTuple):
    """Letters of a language beyond ASCII, or of several that share theirs."""

    letters: frozenset[str]
    common: frozenset[str]  # the others count less: a text in a wrong alphabet has rare letters everywhere
    latin: bool = True
    weight: float = 1.0


def _latin(letters: str, weight: float = 1.0) -> Language:
    return Language(frozenset(letters), frozenset(letters), weight=weight)


def _other(common: str, letters: str) -> Language:
    return Language(frozenset(letters), frozenset(common), latin=False)


_WEST = (
    *(
        _latin(letters)
        for letters in (
            "äöüß", "àâæçéèêëîïôœùûüÿ", "áéíñóúü", "ãõáâàçéêíóôúü", "àèéìíòóù", "åäöéü", "åæøéòó", "éëïóèüö",
        )
    ),
    _latin(_WESTERN, 0.6),
    Language(frozenset("áæðéíóöþúý"), frozenset("áæðéíóöþú")),
)  # fmt: skip
_CENTRAL = tuple(
    _latin(letters)
    for letters in (
        "ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "čćđšž", "ăâîşţșț", "äöüß",
    )
)  # fmt: skip
_SLAVIC = (_other(*_CYRILLIC),)
_GREEK = (_other("αοιετσνηυρπκλμςίάόέήώύδ", "αβγδεζηθικλμνξοπρστυφχψωςάέήίόύώϊϋΐΰ"),)
_HEBREW = (_other("יוהלאתרבמשנםדקח", "אבגדהוזחטיכךלמםנןסעפףצץקרשת"),)
_ARABIC = (_other("اليمنرتبوةعدسفهكقأح", "ابتثجحخدذرزسشصضطظعغفقكلمنهويىةأإآؤئءپچژگ،؛؟ـًٌٍَُِّْ"),)
_THAI = (_other("านรอกเงมยลวดทสตะปบคหแจพชไ่้ีัิ์็ุู", "".join(map(chr, range(0xE01, 0xE5C)))),)


@dataclass(frozen=True)
class Candidate:
    """Encoding, its languages, and its handicap against commoner ones."""

    encoding: str
    languages: tuple[Language, ...] = ()
    handicap: float = 0.0
    usual: Callable[[str], float] | None = None  # of several bytes: how usual a character is, from -1 to 1


def _usual(
    encoding: str, common: str, leads: range, marks: str = "、。，！？：；（）「」・ー々"
) -> Callable[[str], float]:
    """Score characters: everyday ones 1, others in use 0.6, the rest -1."""
    known = frozenset(common + marks)

    def points(c: str) -> float:
        if c in known or (common is _KANJI and "\u3041" <= c <= "\u30fe"):
            return 1.0
        return 0.6 if c.encode(encoding, errors="replace")[0] in leads else -1.0

    return cache(points)


_SHIFTED, _LEVEL_ONE = range(0x88, 0x98), range(0xB0, 0xD0)
CANDIDATES = (
    Candidate(_USUAL, _WEST),
    Candidate("cp1250", _CENTRAL, 0.15),
    Candidate("iso8859_2", _CENTRAL, 0.15),
    Candidate("cp1251", _SLAVIC),
    Candidate("koi8_r", _SLAVIC),
    Candidate("koi8_u", _SLAVIC, 0.05),
    Candidate("cp866", _SLAVIC),
    Candidate("iso8859_5", _SLAVIC),
    Candidate("mac_cyrillic", _SLAVIC, 0.05),
    Candidate("cp1253", _GREEK),
    Candidate("iso8859_7", _GREEK),
    Candidate("cp1254", (_latin("çğiıöşüâî"),), 0.15),
    Candidate("cp1255", _HEBREW),
    Candidate("cp1256", _ARABIC),
    Candidate("iso8859_6", _ARABIC),
    Candidate("cp1257", (_latin("ąčęėįšųūž"), _latin("āčēģīķļņšūž"), _latin("äõöüšž")), 0.15),
    Candidate("cp874", _THAI),
    Candidate("iso8859_15", _WEST, 0.3),
    Candidate("cp850", _WEST, 0.3),
    Candidate("cp852", _CENTRAL, 0.4),
    Candidate("mac_roman", _WEST, 0.3),
    Candidate("shift_jis", usual=_usual("shift_jis", _KANJI, _SHIFTED)),
    Candidate("cp932", usual=_usual("cp932", _KANJI, _SHIFTED), handicap=0.05),
    Candidate("euc_jp", usual=_usual("euc_jp", _KANJI, _LEVEL_ONE)),
    Candidate("gb18030", usual=_usual("gb18030", _HANZI, range(0xB0, 0xD8))),
    Candidate("big5", usual=_usual("big5", _HANZI + _TRADITIONAL, range(0xA4, 0xC7))),
    Candidate("euc_kr", usual=_usual("euc_kr", _KOREAN, range(0xB0, 0xC9))),
    Candidate("cp949", usual=_usual("cp949", _KOREAN, range(0xB0, 0xC9)), handicap=0.05),
)


def likeliest(sample: bytes) -> str | None:
    """Choose the encoding that fits some text best; None where none does.

    Args:
        sample: Lines that are not ASCII, and not UTF-8.
    """
    best: tuple[float, str] | None = None
    for candidate in CANDIDATES:
        score = _score(candidate, sample)
        if score is not None and (best is None or score > best[0] + 1e-9):
            best = score, candidate.encoding
    return best[1] if best else None


def _score(candidate: Candidate, sample: bytes) -> float | None:
    """Score how well a sample fits, at most 1. None where it cannot be read so, but for an odd byte or two."""
    text = sample.decode(candidate.encoding, errors="replace")
    odd = text.count("\ufffd")
    high = len(sample) - len(sample.decode("ascii", errors="ignore"))
    if odd and odd * 100 > high:
        return None
    score = _of_pairs(candidate, text, high) if candidate.usual else _of_letters(candidate, text)
    if score is not None and candidate.encoding != _USUAL and not any(c.isalpha() for c in text if not c.isascii()):
        score -= _SIGNS_ALONE
    return None if score is None else score - candidate.handicap - odd / high


def _of_pairs(candidate: Candidate, text: str, high: int) -> float | None:
    assert candidate.usual is not None
    letters = Counter(text[m.start()] for m in re.finditer(r"[^\x00-\x7f\uff61-\uff9f\ufffd]", text))
    narrow = sum(1 for c in text if "\uff61" <= c <= "\uff9f")  # half as wide, of one byte
    count = letters.total()
    if count < MANY or len(letters) < _KINDS or narrow > count:
        return None
    good = sum(times * candidate.usual(c) for c, times in letters.items())
    loose = max(0, 2 * count + narrow - high)  # with a second byte that is ASCII
    beside = len(re.findall(r"[A-Za-z][^\x00-\x7f]|[^\x00-\x7f][A-Za-z]", text))
    return (good - 0.5 * loose - beside) / count


def _of_letters(candidate: Candidate, text: str) -> float:
    around = Counter(
        text[max(0, m.start() - 1) : m.end() + 1] if m.start() else "\n" + text[: m.end() + 1]
        for m in re.finditer(r"[^\x00-\x7f]+", text)
    )
    return max(_fit(language, around) for language in candidate.languages)


def _fit(language: Language, around: Counter[str]) -> float:
    """Average the points of letters in runs beyond ASCII, with their neighbours."""
    total = weight = 0.0
    for run, times in around.items():
        before, (inner, after) = run[0], (run[1:-1], run[-1]) if run[-1].isascii() else (run[1:], "\n")
        marks = [*pairwise((before, *inner)), (inner[-1], after)]
        points = sum(_points(language, marks[i][0], c, marks[i + 1][1], len(inner)) for i, c in enumerate(inner))
        total += points * times
        weight += len(inner) * times
    return total / weight if weight else 0.0


def _points(language: Language, before: str, c: str, after: str, run: int) -> float:
    lower = c.lower()[0]  # of a Turkish capital there are two
    if lower not in language.letters:
        return _of_symbol(before, c, after, run)
    points = language.weight * (1.0 if lower in language.common else 0.6)
    if language.latin:
        if run > _LATIN_RUN:
            return -1.0
        if not (before.isalpha() or after.isalpha()):
            points = 0.65
    elif _misplaced(before, c, after):
        return -1.0
    elif run == 1:  # a single byte between ASCII is Western
        return 0.0
    if c != lower and before.isalpha():
        points = -1.0 if before.islower() else points - 0.2
    return points


def _of_symbol(before: str, c: str, after: str, run: int) -> float:
    """Score a character that is no letter of a language."""
    inside = before.isalpha() and after.isalpha() and c not in "’·–—"
    opens = c in _OPENING and before.isalpha()
    return -1.0 if c not in _SYMBOLS or run > _LATIN_RUN or inside or opens else 0.9


def _misplaced(before: str, c: str, after: str) -> bool:
    """Tell whether a letter neighbours ASCII, or a mark stands alone."""
    stray = bool(unicodedata.combining(c)) and not before.isalpha() and c not in _TONES
    return stray or _ascii_letter(before) or _ascii_letter(after)


@cache
def _ascii_letter(c: str) -> bool:
    return c.isascii() and unicodedata.category(c).startswith("L")

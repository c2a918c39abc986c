"""Splits SQL text into tokens as PostgreSQL or SQLite would, and refuses what the two could read differently.

Every later layer works on these tokens or on text without comments, so that no layer can be led to see a
comment, a string or an identifier where the engine sees something else.
"""

import re
from typing import Final, Literal, NamedTuple, TypeAlias

from sandboxd.database.worker.refusal import Layer, Reason, Refusal

Dialect: TypeAlias = Literal["postgres", "sqlite"]

MAX_SQL_BYTES = 64 * 1024
MAX_TOKENS = 4000
MAX_DEPTH = 32


class TokenKind:
    """What a token is; comments and blanks are not tokens. Letters, for the speed of comparing them."""

    WORD: Final = "w"
    QUOTED: Final = "i"
    STRING: Final = "s"
    NUMBER: Final = "n"
    NAMED: Final = ":"
    POSITIONAL: Final = "$"
    CAST: Final = "c"
    OPERATOR: Final = "o"
    PUNCTUATION: Final = "p"


class Token(NamedTuple):
    """One token: `name` is what it stands for (lower-case word, unquoted identifier, parameter name)."""

    kind: str
    name: str
    start: int
    end: int
    depth: int
    """How many square brackets are open."""


class LexedText(NamedTuple):
    """The tokens, and the text with comments blanked out: same length, same positions."""

    text: str
    tokens: list[Token]


_WORD = re.compile(r"[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*")
_POSTGRES_WORD = re.compile(r"[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*")
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]+|(?:[0-9][0-9_]*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_DIGITS = frozenset("0123456789")
_NAMED = re.compile(r":([A-Za-z_][A-Za-z0-9_]*)")
_NUMBERED = re.compile(r"\$([0-9]+)")
_DOLLAR_TAG = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*)?\$")
_BLANKS = re.compile(r"[ \t\r\n\f]+")
_SKIPPED = frozenset(" \t\r\n\f-/")
"""How a blank or a comment begins."""
_PLAIN_STRING = re.compile(r"'(?:[^']|'')*'")
_ESCAPE_STRING = re.compile(r"'(?:[^'\\]|''|\\.)*'", re.DOTALL)
_QUOTED = re.compile(r'"(?:[^"]|"")+"')
_BACKTICK = re.compile(r"`(?:[^`]|``)+`")
_BRACKET = re.compile(r"\[[^\]]+\]")
_LINE_COMMENT = re.compile(r"--[^\r\n]*")
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_OPERATOR_CHARACTERS = frozenset("+-*/<>=~!@#%^&|?")
_COMMON = re.compile(
    r"""[ \t\r\n\f]*(?:
    ([A-Za-z_][A-Za-z0-9_]*)(?![A-Za-z0-9_$'&\x80-\U0010ffff])
    | ([,()]|\.(?![0-9]))
    | ((?:[-+*<>=%]|<=|>=|<>|!=|\|\|)(?![-+*/<>=~!@#%^&|?]))
    | ([0-9]+(?:\.[0-9]+)?)(?![A-Za-z0-9_.$\x80-\U0010ffff])
    | ('[^']*')(?!')
    | :([A-Za-z_][A-Za-z0-9_]*)
    )""",
    re.VERBOSE,
)
"""The tokens that all dialects read alike, after blanks: most of any statement in one match each. What does
not match is looked at more closely."""
_KINDS = (
    "",
    TokenKind.WORD,
    TokenKind.PUNCTUATION,
    TokenKind.OPERATOR,
    TokenKind.NUMBER,
    TokenKind.STRING,
    TokenKind.NAMED,
)
_WORD_GROUP, _NAMED_GROUP = 1, 6
_ROUND = frozenset("()")
_ASCII_LOWER = {upper: upper + 32 for upper in range(65, 91)}


def ascii_lower(text: str) -> str:
    """Lower case as engines fold identifiers: ASCII only, or two names could become one here alone."""
    return text if text.islower() else text.translate(_ASCII_LOWER)


def check_text(sql: str) -> None:
    """Refuses text that no statement an agent writes needs: empty, huge, or with NUL or odd characters."""
    if not sql.strip():
        raise Refusal(Reason.SYNTAX, Layer.TEXT, "the statement is empty")
    try:
        size = len(sql) if len(sql) > MAX_SQL_BYTES or sql.isascii() else len(sql.encode())
    except UnicodeEncodeError:
        raise Refusal(Reason.SYNTAX, Layer.TEXT, "the statement is not valid Unicode") from None
    if size > MAX_SQL_BYTES:
        problem = f"the statement is longer than {MAX_SQL_BYTES} bytes"
        raise Refusal(Reason.TOO_COMPLEX, Layer.TEXT, problem, hint="pass values as parameters")
    if "\0" in sql:
        raise Refusal(Reason.SYNTAX, Layer.TEXT, "the statement contains a NUL character")


def lex(sql: str, dialect: Dialect) -> LexedText:
    """The tokens of `sql`, one trailing semicolon dropped; a second statement is refused."""
    check_text(sql)
    lexer = _Lexer(sql, dialect)
    tokens = lexer.tokens()
    text = lexer.blanked()
    while tokens and tokens[-1].name == ";" and tokens[-1].kind == TokenKind.PUNCTUATION:
        last = tokens.pop()
        text = text[: last.start] + " " + text[last.end :]
    if not tokens:
        raise Refusal(Reason.SYNTAX, Layer.TEXT, "the statement is empty")
    if any(token.name == ";" and token.kind == TokenKind.PUNCTUATION for token in tokens):
        problem = "the text holds several statements; send them one by one"
        raise Refusal(Reason.MULTIPLE_STATEMENTS, Layer.TEXT, problem)
    return LexedText(text.rstrip(), tokens)


class _Lexer:
    def __init__(self, sql: str, dialect: Dialect) -> None:
        self._sql = sql
        self._postgres = dialect == "postgres"
        self._word = _POSTGRES_WORD if self._postgres else _WORD
        self._comments: list[tuple[int, int, bool]] = []
        self._brackets: list[str] = []
        self._square = 0

    def blanked(self) -> str:
        """The text with spaces for comments; a line comment's end of line stays."""
        pieces, position = [], 0
        for start, end, _ in self._comments:
            pieces += [self._sql[position:start], " " * (end - start)]
            position = end
        return "".join([*pieces, self._sql[position:]])

    def tokens(self) -> list[Token]:
        tokens: list[Token] = []
        position, sql = 0, self._sql
        while True:
            match = _COMMON.match(sql, position)
            if match is not None:
                token = self._common(match)
            else:
                position = self._skip(position)
                if position >= len(sql):
                    break
                token = self._next(position)
            position = token.end
            tokens.append(token)
            if len(tokens) > MAX_TOKENS:
                problem = f"the statement has more than {MAX_TOKENS} words and signs"
                raise Refusal(Reason.TOO_COMPLEX, Layer.TEXT, problem, hint="pass lists as one parameter")
        if self._brackets:
            problem = f"a closing {')' if self._brackets[-1] == '(' else ']'} is missing"
            raise self._refusal(len(sql), problem)
        return tokens

    def _common(self, match: re.Match[str]) -> Token:
        group = match.lastindex or 0
        start, end = match.span(group)
        text = match[group]
        if text in _ROUND:
            return self._punctuation(text, start)
        if group == _WORD_GROUP:
            text = text.lower()
        elif group == _NAMED_GROUP:
            start -= 1
        return Token(_KINDS[group], text, start, end, self._square)

    def _skip(self, position: int) -> int:
        while self._sql[position : position + 1] in _SKIPPED:
            start = position
            if blanks := _BLANKS.match(self._sql, position):
                position = blanks.end()
            if comment := _LINE_COMMENT.match(self._sql, position):
                self._comments.append((position, comment.end(), False))
                position = comment.end()
            elif self._sql.startswith("/*", position):
                end = self._block_comment_end(position)
                self._comments.append((position, end, True))
                position = end
            if position == start:
                break
        return position

    def _block_comment_end(self, start: int) -> int:
        """PostgreSQL nests block comments, SQLite does not: there a nested one is refused."""
        depth, position = 1, start + 2
        while edge := _COMMENT_EDGE.search(self._sql, position):
            position = edge.end()
            if edge.group() == "/*":
                if not self._postgres:
                    raise self._refusal(edge.start(), "a comment inside a comment")
                depth += 1
            else:
                depth -= 1
            if depth == 0:
                return position
        raise self._refusal(start, "the comment is not closed")

    def _next(self, position: int) -> Token:
        character = self._sql[position]
        if character in _DIGITS or (character == "." and self._sql[position + 1 : position + 2] in _DIGITS):
            return self._number(position)
        if character == "'":
            return self._match(_PLAIN_STRING, TokenKind.STRING, position, "the string is not closed")
        if match := self._word.match(self._sql, position):
            return self._word_or_prefix(match)
        if character in '"`[' and (token := self._quoted(character, position)) is not None:
            return token
        if character in ":$?@" and (token := self._parameter(character, position)) is not None:
            return token
        if character in "()[]{},;.:":
            return self._punctuation(character, position)
        if character in _OPERATOR_CHARACTERS:
            return self._operator(position)
        raise self._refusal(position, f"unexpected character {character!r}")

    def _number(self, position: int) -> Token:
        match = _NUMBER.match(self._sql, position)
        if match is None or self._word.match(self._sql, match.end()):
            # `1FROM` and `1_a` end the number at different places in different parsers.
            raise self._refusal(position, "a number must be followed by a blank or a sign")
        return self._token(TokenKind.NUMBER, match.group(), position, match.end())

    def _word_or_prefix(self, match: re.Match[str]) -> Token:
        word, end = match.group(), match.end()
        if not word.isascii():
            self._check_letters(match)
        following = self._sql[end : end + 1]
        lowered = ascii_lower(word)
        if following == "'" and self._postgres and lowered in {"e", "b", "x", "n"}:
            pattern = _ESCAPE_STRING if lowered == "e" else _PLAIN_STRING
            string = pattern.match(self._sql, end)
            if string is None:
                raise self._refusal(match.start(), "the string is not closed")
            return self._token(TokenKind.STRING, string.group(), match.start(), string.end())
        if following == "'" and not (lowered == "x" and not self._postgres):
            raise self._refusal(end, "a blank is missing before the string")
        if lowered == "u" and following == "&" and self._sql[end + 1 : end + 2] in {"'", '"'}:
            # U&"pg\\005fsleep" names a function that no parser here would see.
            raise self._refusal(
                match.start(), "Unicode escapes (U&) are not supported; write the character itself"
            )
        return self._token(TokenKind.WORD, lowered, match.start(), end)

    def _check_letters(self, match: re.Match[str]) -> None:
        """PostgreSQL takes a no-break space for a letter, parsers take it for a blank."""
        for offset, character in enumerate(match.group()):
            if character > "\x7f" and not character.isalnum():
                raise self._refusal(match.start() + offset, f"unexpected character {character!r}")

    def _quoted(self, character: str, position: int) -> Token | None:
        if character == '"':
            return self._match(_QUOTED, TokenKind.QUOTED, position, "the quoted name is not closed or empty")
        if self._postgres:
            if character == "`":
                raise self._refusal(position, "unexpected character '`'; quote names with double quotes")
            return None
        pattern = _BACKTICK if character == "`" else _BRACKET
        return self._match(pattern, TokenKind.QUOTED, position, "the quoted name is not closed or empty")

    def _match(self, pattern: re.Pattern[str], kind: str, position: int, problem: str) -> Token:
        match = pattern.match(self._sql, position)
        if match is None:
            raise self._refusal(position, problem)
        text = match.group()
        if kind == TokenKind.QUOTED:
            quote = text[-1]
            text = text[1:-1].replace(quote * 2, quote)
        return self._token(kind, text, position, match.end())

    def _parameter(self, character: str, position: int) -> Token | None:
        if character == ":":
            if self._sql.startswith("::", position):
                return self._token(TokenKind.CAST, "::", position, position + 2)
            match = _NAMED.match(self._sql, position)
            if match is None:
                return None
            return self._token(TokenKind.NAMED, match.group(1), position, match.end())
        if character == "$":
            return self._dollar(position)
        if character == "?" and not self._postgres:
            return self._token(TokenKind.POSITIONAL, "?", position, position + 1)
        if character == "@" and not self._postgres and not self._sql.startswith("@>", position):
            raise self._refusal(position, "unexpected character '@'; write parameters as :name")
        return None

    def _dollar(self, position: int) -> Token:
        if match := _NUMBERED.match(self._sql, position):
            if self._word.match(self._sql, match.end()):
                raise self._refusal(position, "a parameter must be followed by a blank or a sign")
            return self._token(TokenKind.POSITIONAL, match.group(1), position, match.end())
        tag = _DOLLAR_TAG.match(self._sql, position) if self._postgres else None
        if tag is None:
            raise self._refusal(position, "unexpected character '$'; write parameters as :name")
        end = self._sql.find(tag.group(), tag.end())
        if end < 0:
            raise self._refusal(position, "the dollar-quoted string is not closed")
        text = self._sql[tag.end() : end]
        return self._token(TokenKind.STRING, text, position, end + len(tag.group()))

    def _punctuation(self, character: str, position: int) -> Token:
        if character in "{}":
            raise self._refusal(position, f"unexpected character {character!r}")
        if character in "([":
            self._brackets.append(character)
            self._square += character == "["
            if len(self._brackets) > MAX_DEPTH:
                problem = f"brackets are nested more than {MAX_DEPTH} deep"
                raise Refusal(Reason.TOO_COMPLEX, Layer.TEXT, problem)
        elif character in ")]":
            opening = "(" if character == ")" else "["
            if not self._brackets or self._brackets.pop() != opening:
                raise self._refusal(position, f"unexpected {character!r}")
            self._square -= character == "]"
        return self._token(TokenKind.PUNCTUATION, character, position, position + 1)

    def _operator(self, position: int) -> Token:
        end = position + 1
        while end < len(self._sql) and self._sql[end] in _OPERATOR_CHARACTERS:
            if self._sql.startswith(("--", "/*"), end) or (self._sql[end] == "?" and not self._postgres):
                break
            end += 1
        name = self._sql[position:end]
        is_array_operator = name == "@>" or (name == "<@" and not self._word.match(self._sql, end))
        if "@" in name and not self._postgres and not is_array_operator:
            # SQLite would read a parameter that nobody gave.
            raise self._refusal(position, "unexpected character '@'; write parameters as :name")
        return self._token(TokenKind.OPERATOR, name, position, end)

    def _token(self, kind: str, name: str, start: int, end: int) -> Token:
        return Token(kind, name, start, end, self._square)

    def _refusal(self, position: int, problem: str) -> Refusal:
        line = self._sql.count("\n", 0, position) + 1
        column = position - (self._sql.rfind("\n", 0, position) + 1) + 1
        text = f"line {line}, column {column}: {problem}"
        return Refusal(Reason.SYNTAX, Layer.TEXT, text, line=line, column=column)

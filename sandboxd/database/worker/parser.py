"""Owns sqlglot's parsers, one a dialect: to make one costs nearly as much as to parse a statement."""

from functools import cache

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect as Grammar
from sqlglot.parser import Parser
from sqlglot.tokens import Tokenizer

from sandboxd.database.worker.lexer import Dialect


def parse(text: str, dialect: Dialect) -> list[exp.Expr | None]:
    """The statements of `text`; raises `SqlglotError`, and on some texts that are no SQL other errors.

    Not for several threads: tokenizer and parser start anew with each text.
    """
    tokenizer, parser = _made(dialect)
    return parser.parse(tokenizer.tokenize(text), text)


@cache
def _made(dialect: Dialect) -> tuple[Tokenizer, Parser]:
    grammar = Grammar.get_or_raise(dialect)
    return grammar.tokenizer(), grammar.parser()

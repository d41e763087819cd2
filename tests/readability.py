"""How easy a page is to read: the grade of Flesch and Kincaid, and its longest sentences."""

import re


def prose(text: str) -> str:
    """Return the sentences of a Markdown page: no code, no tables, no addresses; an item of a list is a paragraph."""
    text = re.sub(r"^ *```.*?^ *```|\{%.*?%\}|<!--.*?-->", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^\|.*$|</?\w[^>]*>|<https?:[^>]*>", "", text, flags=re.MULTILINE)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`|\{\{.*?\}\}", "code", text)
    return re.sub(r"^ *(#+|[-*]|\d+\.) ", "\n\n", text, flags=re.MULTILINE)


def sentences(text: str) -> list[list[str]]:
    """Return the words of each sentence."""
    paragraphs = re.split(r"\n\s*\n", prose(text))
    found = [part for paragraph in paragraphs for part in re.split(r"[.!?:](?:\s+|$)", paragraph)]
    return [words for words in (re.findall(r"[^\W\d_]+(?:'\w+)?", part) for part in found) if words]


def syllables(word: str) -> int:
    """Return about how many syllables a word has: its groups of vowels, without a silent e."""
    return max(1, len(re.findall("[aeiouy]+", re.sub(r"(?<=[^aeiouyl])e$|(?<=[^dt])ed$", "", word.lower()))))


def grade(text: str) -> float:
    """Return the grade of Flesch and Kincaid: years of school that a page asks for."""
    found = sentences(text)
    words = [word for sentence in found for word in sentence]
    return 0.39 * len(words) / len(found) + 11.8 * sum(map(syllables, words)) / len(words) - 15.59


def long_sentences(text: str, limit: int) -> list[str]:
    """Return the sentences of more words than that."""
    return [" ".join(words) for words in sentences(text) if len(words) > limit]

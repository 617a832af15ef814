"""The Markdown pages: short front door, every page reached, no broken link, no name that is gone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])
FENCE = re.compile(r"^```.*?^```$", flags=re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PATH = re.compile(r"(?:examples|fedml_spurious|data_partition|fedml_configs|tests|docs)/[\w./-]*")
NAME = re.compile(r"(?:fedml_spurious|data_partition)(?:\.[A-Za-z_]\w*)+")


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def text_of(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> Iterator[str]:
    """Targets of the links and pictures of a page, without its code."""
    yield from LINK.findall(CODE.sub("", text_of(page)))


def anchors(page: Path) -> set[str]:
    """Anchors that GitHub gives to the headings of a page."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", text_of(page), flags=re.MULTILINE):
        slug = base = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 0
        while slug in found:
            number += 1
            slug = f"{base}-{number}"
        found.add(slug)
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for target in links(page):
        if target.startswith(("https://", "http://")):
            continue
        place, _, anchor = target.partition("#")
        file = page.parent / place if place else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert not broken


def test_the_front_door_is_short_and_leads_to_every_page() -> None:
    readme = REPOSITORY / "README.md"
    assert len(readme.read_text(encoding="utf-8").splitlines()) <= 150
    reached = {(REPOSITORY / target.partition("#")[0]).resolve() for target in links(readme)}
    assert {page for page in PAGES if page != readme} <= reached
    assert REPOSITORY / "LICENSE" in reached


# The changelog also names what is no longer there.
TRUE_TODAY = [page for page in PAGES if page.name != "CHANGELOG.md"]


@pytest.mark.parametrize("page", TRUE_TODAY, ids=name_of)
def test_files_and_names_in_code_exist(page: Path) -> None:
    codes = CODE.findall(text_of(page))
    paths = [code for code in codes if PATH.fullmatch(code)]
    names = [code for code in codes if NAME.fullmatch(code) and not code.endswith((".NAME", ".pth"))]
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []
    assert [name for name in names if not exists(name)] == []


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or stands in one; nothing is imported."""
    module = REPOSITORY / name.replace(".", "/")
    if module.with_suffix(".py").exists() or module.is_dir():
        return True
    places = (module.parent.with_suffix(".py"), module.parent / "__init__.py")
    words = [set(re.findall(r"\w+", place.read_text(encoding="utf-8"))) for place in places if place.exists()]
    return any(module.name in found for found in words)

"""A wrong word is answered with the one that was probably meant, and else with all that there are."""

from __future__ import annotations

import pytest

from streamseg.words import known_and_nearest, nearest


@pytest.mark.parametrize(
    ("word", "known", "answer"),
    [
        ("splsh", ["blur", "splash"], "; did you mean 'splash'?"),
        ("SPLASH", ["blur", "splash"], "; did you mean 'splash'?"),
        ("splash", ["Blur", "Splash"], "; did you mean 'Splash'?"),
        ("zebra", ["splash", "blur"], "; there is blur, splash"),
        ("zebra", [], "; there is none"),
    ],
)
def test_a_wrong_word_is_answered_with_the_nearest_or_with_all(word: str, known: list[str], answer: str) -> None:
    assert nearest(word, known) == answer


@pytest.mark.parametrize(
    ("word", "known", "answer"),
    [
        ("splsh", ["splash", "blur"], "; there is blur, splash; did you mean 'splash'?"),
        ("zebra", ["splash", "blur"], "; there is blur, splash"),
        ("zebra", [], "; there is none"),
    ],
)
def test_a_wrong_word_in_a_file_is_answered_with_all_and_the_nearest(word: str, known: list[str], answer: str) -> None:
    assert known_and_nearest(word, known) == answer

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from aiocarbon.errors import ConfigError
from aiocarbon.intensity.location import find, system_tz_name


def no_zone() -> None:
    return None


def test_the_users_word_is_taken_and_nothing_is_asked() -> None:
    def asked() -> str | None:
        pytest.fail("the system was asked although the user had said it")

    location = find("us-ca", environ={"TZ": "Europe/Berlin"}, tz_name=asked)
    assert (location.zone, location.how, location.is_guess) == ("US-CA", "given", False)


@pytest.mark.parametrize("how", ["environment", "pyproject.toml"])
def test_whose_word_it_was_is_told(how: str) -> None:
    for text, zone in (("us-ca", "US-CA"), ("55.67,12.57", "DK")):
        location = find(text, how=how, environ={}, tz_name=no_zone)
        assert (location.zone, location.how, location.is_guess) == (zone, how, False)
    assert find(None, how=how, environ={}, tz_name=no_zone).how == "world", "nobody said anything"


def test_a_word_that_is_no_zone_is_refused_and_not_guessed_around() -> None:
    with pytest.raises(ConfigError, match="location='Germany'"):
        find("Germany", environ={"TZ": "Europe/Berlin"}, tz_name=no_zone)


@pytest.mark.parametrize(
    ("tz", "zone"),
    [
        ("Europe/Berlin", "DE"),
        (":Europe/Copenhagen", "DK"),
        ("/usr/share/zoneinfo/America/New_York", "US"),
        (":/usr/share/zoneinfo/posix/Asia/Calcutta", "IN"),
        ("US/Eastern", "US"),
        ("Japan", "JP"),
        ("Iceland", "IS"),
        ("Africa/Windhoek", "NA"),
    ],
)
def test_the_zone_of_the_environment_gives_a_guess(tz: str, zone: str) -> None:
    location = find(None, environ={"TZ": tz}, tz_name=no_zone)
    assert (location.zone, location.how, location.is_guess) == (zone, "time zone", True)


@pytest.mark.parametrize(
    "tz", ["UTC", "Etc/UTC", "CET", "EST", "CET-1CEST", "GMT0", "", ":", "Nowhere/City", "../../etc/passwd"]
)
def test_a_zone_that_is_no_place_gives_the_world(tz: str) -> None:
    location = find(None, environ={"TZ": tz}, tz_name=lambda: tz)
    assert (location.zone, location.name, location.how, location.is_guess) == ("WORLD", "World", "world", True)


def test_a_service_that_runs_in_utc_is_still_found_by_the_systems_zone() -> None:
    location = find(None, environ={"TZ": "UTC"}, tz_name=lambda: "Europe/Stockholm")
    assert (location.zone, location.is_guess) == ("SE", True)


def test_the_system_is_asked_by_default() -> None:
    assert find(None, environ={}).is_guess


def test_the_link_is_not_followed_to_the_zone_it_shares(tmp_path: Path) -> None:
    zoneinfo = tmp_path / "usr/share/zoneinfo/Europe"
    zoneinfo.mkdir(parents=True)
    (zoneinfo / "Berlin").write_bytes(b"TZif2")
    (zoneinfo / "Copenhagen").symlink_to("Berlin")
    (tmp_path / "localtime").symlink_to(zoneinfo / "Copenhagen")
    assert system_tz_name(etc=tmp_path) == "Europe/Copenhagen"


def test_a_dangling_and_relative_link_still_has_a_name(tmp_path: Path) -> None:
    (tmp_path / "localtime").symlink_to("../usr/share/zoneinfo/Asia/Tokyo")
    assert system_tz_name(etc=tmp_path) == "Asia/Tokyo"


def test_the_other_file_is_read_where_the_link_is_a_copy(tmp_path: Path) -> None:
    (tmp_path / "localtime").write_bytes(b"TZif2")
    (tmp_path / "timezone").write_text("America/Toronto\n")
    assert system_tz_name(etc=tmp_path) == "America/Toronto"


def test_the_file_that_names_a_place_wins_over_utc(tmp_path: Path) -> None:
    (tmp_path / "localtime").symlink_to("/usr/share/zoneinfo/Etc/UTC")
    (tmp_path / "timezone").write_text("Europe/Oslo\n")
    assert system_tz_name(etc=tmp_path) == "Europe/Oslo"


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\x00"])
def test_files_that_say_nothing_are_no_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "timezone").write_bytes(content)
    assert find(None, environ={}, tz_name=lambda: system_tz_name(etc=tmp_path)).zone == "WORLD"


def test_a_missing_or_closed_folder_is_no_error(tmp_path: Path) -> None:
    assert system_tz_name(etc=tmp_path / "missing") is None
    (tmp_path / "timezone").mkdir()  # a folder where a file should be: reading it fails
    assert system_tz_name(etc=tmp_path) is None
    shutil.rmtree(tmp_path / "timezone")

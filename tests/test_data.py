"""Every bundled table carries its source, year and licence, repeats no key, and holds values that can be true."""

from __future__ import annotations

from importlib.resources import files

import pytest

from aiocarbon import data
from aiocarbon._core.intensity import FactorBasis
from aiocarbon.intensity.table import average, parse_zone

TABLES = sorted(entry.name.removesuffix(".csv") for entry in files(data).iterdir() if entry.name.endswith(".csv"))
OURS = {"cloud_regions", "countries", "equivalents", "pue", "subdivisions", "timezones"}
KEYS = {"cloud_regions": ("provider", "region")}
"""Where more than the first column makes a row's key."""


def header(name: str) -> str:
    lines = files(data).joinpath(f"{name}.csv").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if line.startswith("#"))


def test_the_tables_are_shipped_beside_the_loader() -> None:
    assert set(TABLES) >= OURS


@pytest.mark.parametrize("name", TABLES)
def test_a_table_says_where_it_comes_from(name: str) -> None:
    text = header(name).lower()
    assert text.startswith("# ")
    for word in ("source:", "year:", "licence:", "http"):
        assert word in text, f"{name}.csv does not say its {word}"


@pytest.mark.parametrize("name", TABLES)
def test_comment_lines_stand_only_at_the_top(name: str) -> None:
    lines = files(data).joinpath(f"{name}.csv").read_text(encoding="utf-8").splitlines()
    assert not any(line.startswith("#") for line in lines[len(header(name).splitlines()) :])
    assert all(len(line) <= 300 for line in lines)


@pytest.mark.parametrize("name", TABLES)
def test_no_key_is_repeated_and_no_row_is_ragged(name: str) -> None:
    rows = data.rows(name)
    assert rows
    keys = [tuple(row[column] for column in KEYS.get(name, (next(iter(row)),))) for row in rows]
    assert len(keys) == len(set(keys))
    for row in rows:
        assert all(isinstance(column, str) and isinstance(text, str) for column, text in row.items()), row
        assert all(text == text.strip() for text in row.values()), row


def test_a_table_is_read_once() -> None:
    assert data.rows("pue") is data.rows("pue")
    with pytest.raises(FileNotFoundError):
        data.rows("no_such_table")


@pytest.mark.parametrize("name", ["countries", "subdivisions"])
def test_an_intensity_is_plausible_and_has_a_year_and_a_source(name: str) -> None:
    for row in data.rows(name):
        if row["g_per_kwh"]:
            assert 1.0 <= float(row["g_per_kwh"]) <= 1500.0, row
            assert 2009 <= int(row["year"]) <= 2026, row
            assert row["source"], row
        else:
            assert not row["year"] + row["source"], row


def test_countries_have_the_codes_of_iso_3166() -> None:
    rows = [row for row in data.rows("countries") if row["alpha2"] != "WORLD"]
    assert len(rows) == 250  # the 249 of ISO 3166-1 and Kosovo
    assert all(len(row["alpha2"]) == 2 and row["alpha2"].isalpha() and row["alpha2"].isupper() for row in rows)
    assert len({row["alpha3"] for row in rows}) == len(rows)
    assert all(len(row["alpha3"]) == 3 and row["alpha3"].isupper() and row["name"] for row in rows)
    assert {"NA", "XK"} <= {row["alpha2"] for row in rows}, "Namibia is no missing value"
    assert sum(bool(row["g_per_kwh"]) for row in rows) >= 200


@pytest.mark.parametrize(
    ("zone", "low", "high"), [("SE", 15, 60), ("FR", 25, 90), ("PL", 450, 800), ("IN", 550, 850), ("WORLD", 400, 500)]
)
def test_known_grids_stand_where_they_should(zone: str, low: float, high: float) -> None:
    assert low < average(zone).g_per_kwh < high


def test_states_belong_to_countries_of_the_table() -> None:
    countries = {row["alpha2"] for row in data.rows("countries")}
    for row in data.rows("subdivisions"):
        assert row["country"] in countries, row
        assert row["code"][2] == "-", row
        assert row["name"], row
        FactorBasis(row["factor_basis"])
    assert sum(row["code"].startswith("US-") and bool(row["g_per_kwh"]) for row in data.rows("subdivisions")) == 51


def test_a_pue_is_at_least_one_and_has_a_year_and_an_address() -> None:
    for row in data.rows("pue"):
        assert 1.0 <= float(row["pue"]) <= 2.0, row
        assert 2023 <= int(row["year"]) <= 2026, row
        assert row["address"].startswith("https://"), row
        assert row["source"], row


def test_an_equivalent_has_a_factor_and_a_source() -> None:
    for row in data.rows("equivalents"):
        assert float(row["g_per_unit"]) > 0, row
        assert row["unit"], row
        assert row["source"], row
        assert not row["year"] or 2000 <= int(row["year"]) <= 2026, row


def test_every_time_zone_leads_to_a_value_and_the_worlds_is_told() -> None:
    for row in data.rows("timezones"):
        location = parse_zone(row["alpha2"])
        value = average(location.zone)
        assert value.zone == location.zone or (
            value.zone == "WORLD" and f"no value for {location.zone}" in value.note
        ), row


def test_a_time_zone_that_is_shared_keeps_the_country_of_its_name() -> None:
    country = {row["tz"]: row["alpha2"] for row in data.rows("timezones")}
    assert len(country) > 400
    assert country["Europe/Copenhagen"] == "DK"
    assert country["Europe/Berlin"] == "DE"
    assert country["Iceland"] == "IS"
    assert country["America/Montreal"] == "CA"
    assert not {"UTC", "Etc/UTC", "CET", "EST", "GMT"} & country.keys()


def test_time_zones_of_the_databases_table_have_coordinates_on_earth() -> None:
    placed = [row for row in data.rows("timezones") if row["latitude"]]
    assert len(placed) == 418, "as many as zone.tab has"
    for row in data.rows("timezones"):
        assert bool(row["latitude"]) == bool(row["longitude"]), row
    for row in placed:
        assert -90.0 <= float(row["latitude"]) <= 90.0, row
        assert -180.0 <= float(row["longitude"]) <= 180.0, row
    at = {row["tz"]: (float(row["latitude"]), float(row["longitude"])) for row in placed}
    assert at["America/Argentina/San_Luis"] == pytest.approx((-33.3167, -66.35))
    assert at["Antarctica/McMurdo"] == pytest.approx((-77.8333, 166.6))


def test_every_cloud_region_has_a_zone_that_leads_to_a_value() -> None:
    rows = data.rows("cloud_regions")
    assert {row["provider"] for row in rows} == {"aws", "azure", "gcp", "ovh"}
    for row in rows:
        location = parse_zone(row["zone"])
        assert location.zone == row["zone"], row
        assert location.country == row["country"], row
        assert average(location.zone).zone != "WORLD", row
        assert not row["pue"] or (1.0 < float(row["pue"]) < 1.6 and 2020 <= int(row["pue_year"]) <= 2026), row
        assert bool(row["pue"]) == bool(row["pue_year"]), row

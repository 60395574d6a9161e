from __future__ import annotations

import math

import pytest

from aiocarbon import data, intensity
from aiocarbon._core.intensity import FactorBasis, IntensityValue, Quality
from aiocarbon.errors import ConfigError
from aiocarbon.intensity.table import OWN_CODES, average, given, parse_zone


@pytest.mark.parametrize(
    ("text", "zone", "name"),
    [
        ("de", "DE", "Germany"),
        (" DEU ", "DE", "Germany"),
        ("NA", "NA", "Namibia"),
        ("us-ca", "US-CA", "California, United States"),
        ("us-pr", "PR", "Puerto Rico"),
        ("CN-HK", "HK", "Hong Kong"),
        ("FR-974", "RE", "Reunion"),
        ("fr-gf", "GF", "French Guiana"),
        ("NL-AW", "AW", "Aruba"),
        ("NL-BQ3", "BQ", "Bonaire, Sint Eustatius and Saba"),
        ("FI-01", "AX", "Åland Islands"),
        ("NO-21", "SJ", "Svalbard and Jan Mayen"),
        ("FR-HDF", "FR-HDF", "France, grid zone FR-HDF"),
        ("world", "WORLD", "World"),
        ("gb:n1", "GB:N1", "United Kingdom, postcode N1"),
        ("GB:SW1A", "GB:SW1A", "United Kingdom, postcode SW1A"),
        ("dk-dk1", "DK-DK1", "Denmark, grid zone DK-DK1"),
        ("US-CAL-CISO", "US-CAL-CISO", "United States, grid zone US-CAL-CISO"),
        ("MC", "MC", "Monaco"),
    ],
)
def test_a_zone_is_read_in_every_spelling(text: str, zone: str, name: str) -> None:
    location = parse_zone(text)
    assert (location.zone, location.name, location.how, location.is_guess) == (zone, name, "given", False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "XX",
        "Germany",
        "UK",
        "US-ZZ",
        "US-CAA",
        "XX-YY1",
        "DE:80331",
        "GB:",
        "GB:N1 9GU",
        "DE-",
        "D",
        "世界",
        None,
        5,
        math.nan,
    ],
)
def test_what_is_not_a_zone_is_refused_by_name(text: object) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_zone(text)  # type: ignore[arg-type]  # the user's file or environment may hold anything
    assert caught.value.field == "location"
    assert caught.value.value is text
    assert "ISO 3166" in caught.value.accepted


@pytest.mark.parametrize(
    ("text", "near"),
    [("Germany", "DE (Germany)"), ("UK", "GB (United Kingdom)"), ("US-CAA", "US-CA"), ("Califrnia", "US-CA")],
)
def test_a_near_miss_names_the_code_that_was_meant(text: str, near: str) -> None:
    with pytest.raises(ConfigError, match="near: ") as caught:
        parse_zone(text)
    assert near in str(caught.value)


def test_a_part_with_a_country_code_of_its_own_has_nothing_of_the_mainland() -> None:
    for part, code in OWN_CODES.items():
        assert parse_zone(part).zone == parse_zone(code).zone == code
        value = average(part)  # as older journals have it
        assert value.zone == average(code).zone != part[:2]
        assert f"no value for {part}" in value.note


def assert_sound(value: IntensityValue) -> None:
    assert 0 < value.low_g_per_kwh < value.g_per_kwh < value.high_g_per_kwh < 3000
    assert value.quality is Quality.AVERAGE
    assert value.valid_from_s is None
    assert value.valid_to_s is None
    assert value.source[-4:].isdigit(), "a table's year belongs to its source"


def test_a_country_has_its_own_average_with_an_assumed_range() -> None:
    value = average("DE")
    row = next(row for row in data.rows("countries") if row["alpha2"] == "DE")
    assert_sound(value)
    assert value.g_per_kwh == float(row["g_per_kwh"])
    assert value.zone == "DE"
    assert value.low_g_per_kwh == pytest.approx(0.85 * value.g_per_kwh)
    assert value.high_g_per_kwh == pytest.approx(1.15 * value.g_per_kwh)
    assert value.factor_basis is FactorBasis.LIFE_CYCLE
    assert value.source == f"Ember via Our World in Data, {row['year']}"
    assert "15 % assumed" in value.note


def test_a_state_has_its_own_average_and_factor_basis() -> None:
    california, ontario, shanghai = average("US-CA"), average("CA-ON"), average("CN-SH")
    assert california.zone == "US-CA"
    assert california.g_per_kwh == pytest.approx(179.064)
    assert california.factor_basis is FactorBasis.DIRECT
    assert ontario.factor_basis is FactorBasis.UNKNOWN
    assert "CO2 only" in shanghai.note


@pytest.mark.parametrize(
    ("zone", "used", "place"),
    [
        ("GB:N1", "GB", "United Kingdom"),
        ("DK-DK1", "DK", "Denmark"),
        ("US-CAL-CISO", "US", "United States"),
        ("US-HI-OA", "US-HI", "Hawaii"),
        ("CA-PE", "CA", "Canada"),
        ("AU-WA", "AU", "Australia"),
        ("CN-TW", "TW", "Taiwan"),
    ],
)
def test_what_the_tables_lack_falls_to_the_place_around_it_and_says_so(zone: str, used: str, place: str) -> None:
    value, around = average(zone), average(used)
    assert_sound(value)
    assert value.zone == used
    assert value.g_per_kwh == around.g_per_kwh
    assert f"no value for {zone}: that of {place}" in value.note
    assert "no value" not in around.note


@pytest.mark.parametrize("zone", ["MC", "CF", "FK", "AQ", "ZZ", "", "GB", "WORLD"])
def test_every_zone_gets_a_value_and_the_worlds_is_called_the_worlds(zone: str) -> None:
    value = average(zone)
    assert_sound(value)
    assert (value.zone == "WORLD") == (zone != "GB")
    if zone == "WORLD":
        assert "place not known" in value.note
    elif zone != "GB":
        assert f"no value for {zone}: the world's" in value.note


def test_the_worlds_range_is_that_of_the_countries() -> None:
    value = average("WORLD")
    known = [float(row["g_per_kwh"]) for row in data.rows("countries") if row["g_per_kwh"] and row["alpha2"] != "WORLD"]
    below = sum(g_per_kwh < value.low_g_per_kwh for g_per_kwh in known) / len(known)
    above = sum(g_per_kwh > value.high_g_per_kwh for g_per_kwh in known) / len(known)
    assert below == pytest.approx(0.05, abs=1 / len(known))
    assert above == pytest.approx(0.05, abs=1 / len(known))
    assert value.g_per_kwh == pytest.approx(472.94)


@pytest.mark.parametrize("number", [0, 0.0, 449.06, 3000])
def test_a_given_number_is_exact(number: float) -> None:
    value = given(number, zone="DE")
    assert (value.g_per_kwh, value.low_g_per_kwh, value.high_g_per_kwh) == (number, number, number)
    assert value.quality is Quality.GIVEN
    assert value.zone == "DE"
    assert isinstance(value.g_per_kwh, float)


@pytest.mark.parametrize("number", [-1, -1e-9, 3000.1, math.nan, math.inf, -math.inf, True, "449", None])
def test_a_number_that_is_no_intensity_is_refused(number: object) -> None:
    with pytest.raises(ConfigError, match="0 to 3000") as caught:
        given(number)  # type: ignore[arg-type]  # the user's file or environment may hold anything
    assert caught.value.field == "intensity"


def test_the_package_hands_out_its_public_names_on_use() -> None:
    for name in intensity.__all__:
        assert getattr(intensity, name) is not None
    assert set(intensity.__all__) <= set(dir(intensity))
    assert intensity.average is average
    with pytest.raises(AttributeError, match="no_such_name"):
        intensity.no_such_name  # noqa: B018  # the access is what fails


@pytest.mark.parametrize(
    ("text", "zone", "latitude", "longitude"),
    [
        ("55.67,12.57", "DK", 55.67, 12.57),
        (" +55.67 , 12.57 ", "DK", 55.67, 12.57),
        ("40.7,-74", "US", 40.7, -74.0),
        ("0,0", "GH", 0.0, 0.0),
        ("-36.8,179.99", "NZ", -36.8, 179.99),
        ("-15.5,-180", "FJ", -15.5, -180.0),
        ("-90,0", "AQ", -90.0, 0.0),
        ("22.3,114.2", "HK", 22.3, 114.2),
    ],
)
def test_coordinates_get_the_country_of_the_nearest_place_and_say_so(
    text: str, zone: str, latitude: float, longitude: float
) -> None:
    location = parse_zone(text)
    assert (location.zone, location.latitude, location.longitude) == (zone, latitude, longitude)
    assert (location.how, location.is_guess) == ("given", False)
    assert "nearest time zone city" in location.note
    assert "may be wrong near a border" in location.note
    assert location.name == parse_zone(zone).name


def test_coordinates_beside_a_border_name_the_neighbour_too() -> None:
    aachen = parse_zone("50.775,6.083")
    assert aachen.zone == "BE", "Aachen is in Germany: the case the note is for"
    assert "(Europe/Brussels, within 200 km)" in aachen.note
    assert "(next: Luxembourg, within 200 km)" in aachen.note
    assert parse_zone("50.77,6.05").note == aachen.note, "the note does not tell the place"


@pytest.mark.parametrize(
    "text",
    ["91,0", "0,181", "-90.01,0", "0,-180.5", "180,0", "nan,nan", "55.67", "55.67,", "55.67;12.57", "55,67,12,57",
     "1e1,2", "٥٥,١٢", "55.67 12.57", "inf,0", "5567,12"],
)  # fmt: skip
def test_what_is_no_place_on_earth_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_zone(text)
    assert caught.value.field == "location"
    assert caught.value.value == text


def test_a_name_alone_has_no_coordinates() -> None:
    assert (parse_zone("DK").latitude, parse_zone("DK").longitude, parse_zone("DK").note) == (None, None, "")

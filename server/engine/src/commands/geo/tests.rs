//! Searches against a plain walk over all members, and the replies of Redis's documentation.

use proptest::prelude::*;

use super::area::{Area, Shape};
use super::place::Place;
use crate::testing::Bench;

fn sicily() -> Bench {
    let mut bench = Bench::new();
    bench.check(&[("GEOADD Sicily 13.361389 38.115556 Palermo 15.087269 37.502669 Catania", "2")]);
    bench
}

#[test]
fn replies_are_those_of_the_documentation() {
    sicily().check(&[
        ("GEODIST Sicily Palermo Catania", "\"166274.1516\""),
        ("GEODIST Sicily Palermo Catania km", "\"166.2742\""),
        ("GEODIST Sicily Palermo none", "nil"),
        ("GEODIST none Palermo Catania", "nil"),
        ("GEOHASH Sicily Palermo Catania none", "[\"sqc8b49rny0\" \"sqdtr74hyu0\" nil]"),
        ("ZSCORE Sicily Palermo", "3479099956230698.0"),
        ("GEOPOS Sicily Palermo none", "[[\"13.36138933897018433\" \"38.11555639549629859\"] nil]"),
        ("GEORADIUS Sicily 15 37 200 km ASC", "[\"Catania\" \"Palermo\"]"),
        ("GEORADIUS Sicily 15 37 100 km", "[\"Catania\"]"),
        ("GEORADIUSBYMEMBER Sicily Palermo 100 km WITHDIST", "[[\"Palermo\" \"0.0000\"]]"),
        (
            "GEOSEARCH Sicily FROMLONLAT 15 37 BYBOX 400 400 km DESC WITHHASH",
            "[[\"Palermo\" 3479099956230698] [\"Catania\" 3479447370796909]]",
        ),
        ("GEOSEARCHSTORE to Sicily FROMLONLAT 15 37 BYRADIUS 200 km COUNT 1 STOREDIST", "1"),
        ("ZRANGE to 0 -1", "[\"Catania\"]"),
        ("GEORADIUS none 15 37 1 km STORE to", "0"),
        ("EXISTS to", "0"),
    ]);
}

#[test]
fn changes_and_events_are_those_of_redis() {
    sicily().check_events(&[
        ("GEOADD Sicily CH 13.361389 38.115556 Palermo", "", 0),
        ("GEOADD Sicily XX CH 13.4 38.1 Palermo", "0:zadd Sicily", 1),
        (
            "GEOSEARCHSTORE to Sicily FROMLONLAT 15 37 BYRADIUS 300 km",
            "0:new to, 0:geosearchstore to",
            2,
        ),
        ("GEORADIUS Sicily 15 37 300 km STOREDIST to", "0:georadiusstore to", 2),
        ("GEORADIUSBYMEMBER Sicily Palermo 1 m STORE to", "0:georadiusstore to", 1),
        ("GEORADIUS Sicily 0 0 1 m STORE to", "0:del to", 1),
    ]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_search_finds_what_a_walk_finds(
        places in prop::collection::vec((-175.0..175.0f64, -60.0..60.0f64), 1..200),
        middle in (-120.0..120.0f64, -50.0..50.0f64),
        width_km in 1.0..2000.0f64,
        height_km in 1.0..2000.0f64,
        circle: bool,
    ) {
        let mut bench = Bench::new();
        for (nth, (longitude, latitude)) in places.iter().enumerate() {
            bench.line(&format!("GEOADD g {longitude} {latitude} m{nth}"));
        }
        let (longitude, latitude) = middle;
        let by = if circle {
            format!("BYRADIUS {width_km} km")
        } else {
            format!("BYBOX {width_km} {height_km} km")
        };
        let found = bench.show(&format!("GEOSEARCH g FROMLONLAT {longitude} {latitude} {by} ASC"));
        let shape = match circle {
            true => Shape::Circle { radius_m: width_km * 1000.0 },
            false => Shape::Box { width_m: width_km * 1000.0, height_m: height_km * 1000.0 },
        };
        let area = Area { middle: Place { longitude, latitude }, shape };
        let mut inside: Vec<(f64, String)> = places
            .iter()
            .enumerate()
            .filter_map(|(nth, (longitude, latitude))| {
                let place = Place { longitude: *longitude, latitude: *latitude };
                let kept = Place::of_score(place.score());
                area.distance_m(kept).map(|distance| (distance, format!("\"m{nth}\"")))
            })
            .collect();
        inside.sort_by(|a, b| a.0.total_cmp(&b.0));
        let names: Vec<String> = inside.into_iter().map(|(_, name)| name).collect();
        prop_assert_eq!(found, format!("[{}]", names.join(" ")));
    }

    #[test]
    fn a_place_is_kept_within_a_metre(longitude in -180.0..180.0f64, latitude in -85.0..85.0f64) {
        let place = Place { longitude, latitude };
        let kept = Place::of_score(place.score());
        prop_assert!(place.distance_m(kept) < 1.0);
        prop_assert_eq!(kept.score(), place.score());
    }
}

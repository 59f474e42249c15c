//! Places on Earth, as scores of sorted sets: 52 bits in which longitude and latitude alternate,
//! so that what is near has scores near each other. The scores are Redis's to the bit.
//!
//! `place` turns places into scores and back and measures distances; `area` finds the ranges of
//! scores that cover an area; `add` and `read` hold the plain commands, `query` and `search` the
//! searches. Sines and square roots come from the crate libm, not from the platform: whatever
//! applies a command must compute the same bits.

pub mod add;
mod area;
mod place;
mod query;
pub mod read;
pub mod search;
#[cfg(test)]
mod tests;

use place::Place;

use crate::command::options::is;
use crate::error::CommandError;
use crate::reply::Reply;
use crate::value::number::parse_f64;

/// A longitude and a latitude.
///
/// # Errors
/// `ERR value is not a valid float`, or that the place cannot be kept.
fn place_of(longitude: &[u8], latitude: &[u8]) -> Result<Place, CommandError> {
    let longitude = parse_f64(longitude).ok_or(CommandError::NOT_A_FLOAT)?;
    let latitude = parse_f64(latitude).ok_or(CommandError::NOT_A_FLOAT)?;
    let place = Place { longitude, latitude };
    if place.is_valid() {
        return Ok(place);
    }
    Err(CommandError::new(format!(
        "ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}"
    )))
}

/// How many metres a unit is.
///
/// # Errors
/// `ERR unsupported unit provided. …`
fn unit(arg: &[u8]) -> Result<f64, CommandError> {
    [("M", 1.0), ("KM", 1000.0), ("FT", 0.3048), ("MI", 1609.34)]
        .into_iter()
        .find_map(|(name, metres)| is(arg, name).then_some(metres))
        .ok_or(CommandError::known("ERR unsupported unit provided. please use M, KM, FT, MI"))
}

/// A distance as it is answered: with four decimals.
fn distance_reply(distance: f64) -> Reply {
    /// Four decimals.
    const SCALE: f64 = 10_000.0;
    // Half to even, as the processor rounds.
    let scaled = (distance * SCALE).round_ties_even() as i64;
    let (whole, part) = (scaled / SCALE as i64, scaled % SCALE as i64);
    Reply::bulk(format!("{whole}.{part:04}").as_bytes())
}

/// A coordinate as it is answered: with up to 17 decimals.
fn coordinate_reply(degrees: f64) -> Reply {
    let text = format!("{degrees:.17}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    let text = if text == "-0" { "0" } else { text };
    Reply::Decimal(text.as_bytes().into())
}

/// Longitude and latitude.
fn place_reply(place: Place) -> Reply {
    Reply::Array(vec![coordinate_reply(place.longitude), coordinate_reply(place.latitude)])
}

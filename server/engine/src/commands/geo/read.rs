//! GEOPOS, GEODIST and GEOHASH.

use super::place::Place;
use super::{distance_reply, place_reply, unit};
use crate::command::{Access, Args, Command, Group, KeySpec};
use crate::commands::sorted_set::sorted_set_at;
use crate::error::CommandError;
use crate::keyspace::View;
use crate::reply::{CommandResult, Reply};

/// Answers for each of the members from index 2 on; `None` for those that are not there.
fn each(view: &View<'_>, args: Args<'_>, answer: impl Fn(Option<Place>) -> Reply) -> CommandResult {
    let set = sorted_set_at(view, args[1])?;
    let replies = args[2..].iter().map(|member| {
        let score = set.and_then(|set| set.score(member));
        answer(score.map(Place::of_score))
    });
    Ok(Reply::Array(replies.collect()))
}

/// `GEOPOS key [member [member ...]]`: where they are. O(1) each.
fn geopos(view: &View<'_>, args: Args<'_>) -> CommandResult {
    each(view, args, |place| place.map_or(Reply::NilArray, place_reply))
}

/// `GEOHASH key [member [member ...]]`: their geohashes of eleven letters. O(1) each.
fn geohash(view: &View<'_>, args: Args<'_>) -> CommandResult {
    each(view, args, |place| place.map_or(Reply::Nil, |place| Reply::bulk(&place.geohash())))
}

/// `GEODIST key member1 member2 [M | KM | FT | MI]`: the distance, nil if one is not there. O(1).
fn geodist(view: &View<'_>, args: Args<'_>) -> CommandResult {
    let unit = match args[4..] {
        [] => 1.0,
        [name] => unit(name)?,
        _ => return Err(CommandError::SYNTAX),
    };
    let Some(set) = sorted_set_at(view, args[1])? else { return Ok(Reply::Nil) };
    let place = |member: &[u8]| set.score(member).map(Place::of_score);
    Ok(match (place(args[2]), place(args[3])) {
        (Some(from), Some(to)) => distance_reply(from.distance_m(to) / unit),
        _ => Reply::Nil,
    })
}

const KEY: &[KeySpec] = &[KeySpec::one(1, Access::Read)];

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::read("geodist", -4, Group::Geo, geodist).keys(KEY).doc(
        "3.2.0",
        "O(1)",
        "key member1 member2 [M | KM | FT | MI]",
        "Returns the distance between two members of a geospatial index.",
    ),
    Command::read("geohash", -2, Group::Geo, geohash).keys(KEY).doc(
        "3.2.0",
        "O(1) for each member requested.",
        "key [member [member ...]]",
        "Returns members from a geospatial index as geohash strings.",
    ),
    Command::read("geopos", -2, Group::Geo, geopos).keys(KEY).doc(
        "3.2.0",
        "O(1) for each member requested.",
        "key [member [member ...]]",
        "Returns the longitude and latitude of members from a geospatial index.",
    ),
];

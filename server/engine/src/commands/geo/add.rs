//! GEOADD.

use super::place_of;
use crate::command::options::is;
use crate::command::{Access, Args, Command, Flags, Group, KeySpec};
use crate::commands::sorted_set::add::zadd;
use crate::effects::Effects;
use crate::error::CommandError;
use crate::keyspace::View;
use crate::reply::CommandResult;

/// `GEOADD key [NX | XX] [CH] longitude latitude member [longitude latitude member ...]`: as
/// ZADD with the places' scores. O(log N) each.
fn geoadd(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    let is_option = |arg: &&&[u8]| is(arg, "NX") || is(arg, "XX") || is(arg, "CH");
    let options = &args[2..2 + args[2..].iter().take_while(is_option).count()];
    let given = |word: &str| options.iter().any(|option| is(option, word));
    let (places, rest) = args[2 + options.len()..].as_chunks::<3>();
    if !rest.is_empty() || given("NX") && given("XX") {
        return Err(CommandError::SYNTAX);
    }
    let mut scores = Vec::with_capacity(places.len());
    for [longitude, latitude, _] in places {
        let score = place_of(longitude, latitude)?.score() as u64;
        scores.push(itoa::Buffer::new().format(score).as_bytes().to_vec());
    }
    let mut as_zadd: Vec<&[u8]> = vec![b"ZADD", args[1]];
    as_zadd.extend_from_slice(options);
    for (score, [_, _, member]) in scores.iter().zip(places) {
        as_zadd.extend([score.as_slice(), member]);
    }
    zadd(view, &as_zadd, effects)
}

/// The rows of this file.
pub const ROWS: &[Command] = &[Command::write("geoadd", -5, Group::Geo, geoadd)
    .keys(&[KeySpec::one(1, Access::Modify)])
    .flags(Flags::DENYOOM)
    .doc(
        "3.2.0",
        "O(log(N)) for each item added, where N is the number of elements in the sorted set.",
        "key [NX | XX] [CH] longitude latitude member [longitude latitude member ...]",
        "Adds one or more members to a geospatial index. The key is created if it doesn't exist.",
    )];

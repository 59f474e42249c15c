//! GEOSEARCH, GEOSEARCHSTORE, GEORADIUS, GEORADIUSBYMEMBER and their read-only forms.

use super::area::Area;
use super::place::Place;
use super::query::{Form, Order, Query};
use super::{distance_reply, place_reply};
use crate::command::options::is;
use crate::command::{Access, Args, Begin, Command, Find, Flags, Group, KeySpec};
use crate::commands::sorted_set::{sorted_set_at, store_counted};
use crate::effects::Effects;
use crate::error::CommandError;
use crate::keyspace::View;
use crate::reply::{CommandResult, Reply};
use crate::value::listpack::Entry;
use crate::value::sorted_set::{Accumulator, Bound, Direction, SortedSet};

/// A member that was found.
struct Found {
    member: Vec<u8>,
    score: f64,
    place: Place,
    /// From the middle.
    distance_m: f64,
}

/// Finds what lies in an area; with a limit, no more than that.
fn find(set: &SortedSet, area: &Area, limit: Option<usize>) -> Vec<Found> {
    /// A limited search looks at so many elements before it asks whether it has enough.
    const CHUNK: usize = 64;
    let limit = limit.unwrap_or(usize::MAX);
    let mut found = Vec::new();
    for cell in area.cells() {
        let (from, below) = cell.scores();
        let (mut at, end) = (set.rank(Bound::Below(from)), set.rank(Bound::Below(below)));
        while at < end && found.len() < limit {
            let count = if limit == usize::MAX { end - at } else { CHUNK.min(end - at) };
            set.visit(at, count, Direction::Ascending, |member, score| {
                let place = Place::of_score(score);
                if let Some(distance_m) = area.distance_m(place)
                    && found.len() < limit
                {
                    found.push(Found { member: member.to_vec(), score, place, distance_m });
                }
            });
            at += count;
        }
    }
    found
}

/// Runs a search on what the key holds: the results in their order, and what was asked for.
fn run<'a>(
    view: &View<'_>,
    args: Args<'a>,
    form: Form,
) -> Result<(Vec<Found>, Query<'a>), CommandError> {
    let set = sorted_set_at(view, args[form.source()])?;
    let query = Query::parse(args, form, set)?;
    let (Some(set), Some(area)) = (set, &query.area) else { return Ok((Vec::new(), query)) };
    let mut found = find(set, area, query.any.then_some(query.count));
    match query.order {
        Order::Any => {}
        Order::Ascending => found.sort_by(|a, b| a.distance_m.total_cmp(&b.distance_m)),
        Order::Descending => found.sort_by(|a, b| b.distance_m.total_cmp(&a.distance_m)),
    }
    if query.count > 0 {
        found.truncate(query.count);
    }
    Ok((found, query))
}

fn reply(found: Vec<Found>, query: &Query<'_>) -> Reply {
    let plain = !(query.with_distance || query.with_hash || query.with_place);
    let each = |one: Found| {
        let member = Reply::bulk(&one.member);
        if plain {
            return member;
        }
        let mut parts = vec![member];
        if query.with_distance {
            parts.push(distance_reply(one.distance_m / query.unit));
        }
        if query.with_hash {
            parts.push(Reply::Integer(one.score as i64));
        }
        if query.with_place {
            parts.push(place_reply(one.place));
        }
        Reply::Array(parts)
    };
    Reply::Array(found.into_iter().map(each).collect())
}

fn look(view: &View<'_>, args: Args<'_>, form: Form) -> CommandResult {
    let (found, query) = run(view, args, form)?;
    Ok(reply(found, &query))
}

fn look_or_store(
    view: &mut View<'_>,
    args: Args<'_>,
    effects: &mut Effects,
    (form, event): (Form, &'static str),
) -> CommandResult {
    let (found, query) = run(view, args, form)?;
    let Some(destination) = query.destination else { return Ok(reply(found, &query)) };
    let mut result = Accumulator::with_capacity(found.len());
    for one in &found {
        let score = if destination.distances { one.distance_m / query.unit } else { one.score };
        result.merge(Entry::Bytes(&one.member), score, |_| score);
    }
    let result = result.finish(view.limits());
    store_counted(view, destination.key, result, event, found.len().max(1), effects)
}

/// `GEOSEARCH key <FROMMEMBER member | FROMLONLAT longitude latitude> <BYRADIUS radius unit |
/// BYBOX width height unit> [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]`:
/// the members inside. O(N + log M), N the members of the cells around.
fn geosearch(view: &View<'_>, args: Args<'_>) -> CommandResult {
    look(view, args, Form::Search)
}

/// `GEORADIUS_RO key longitude latitude radius unit …`: as GEORADIUS, without STORE.
fn georadius_ro(view: &View<'_>, args: Args<'_>) -> CommandResult {
    look(view, args, Form::RadiusReadOnly)
}

/// `GEORADIUSBYMEMBER_RO key member radius unit …`: as GEORADIUSBYMEMBER, without STORE.
fn georadiusbymember_ro(view: &View<'_>, args: Args<'_>) -> CommandResult {
    look(view, args, Form::MemberReadOnly)
}

/// `GEORADIUS key longitude latitude radius unit … [STORE key | STOREDIST key]`: the members
/// inside, or how many were stored.
fn georadius(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    look_or_store(view, args, effects, (Form::Radius, "georadiusstore"))
}

/// `GEORADIUSBYMEMBER key member radius unit … [STORE key | STOREDIST key]`: as GEORADIUS,
/// around a member.
fn georadiusbymember(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    look_or_store(view, args, effects, (Form::Member, "georadiusstore"))
}

/// `GEOSEARCHSTORE destination source … [STOREDIST]`: as GEOSEARCH; how many were stored.
fn geosearchstore(view: &mut View<'_>, args: Args<'_>, effects: &mut Effects) -> CommandResult {
    look_or_store(view, args, effects, (Form::SearchStore, "geosearchstore"))
}

/// Where the key behind the last `word` stands, STORE or STOREDIST.
fn destination(args: Args<'_>, word: &str) -> Option<usize> {
    let (mut at, mut found) = (5, None);
    while at + 1 < args.len() {
        if is(args[at], "STORE") || is(args[at], "STOREDIST") {
            found = is(args[at], word).then_some(at + 1).or(found);
            at += 1;
        }
        at += 1;
    }
    found
}

fn store_key(args: Args<'_>) -> Option<usize> {
    destination(args, "STORE")
}

fn storedist_key(args: Args<'_>) -> Option<usize> {
    destination(args, "STOREDIST")
}

/// The key that is searched, and the one behind STORE or STOREDIST.
const fn keys(options_at: i64) -> [KeySpec; 3] {
    const ONE: Find = Find::Range { last: 0, step: 1, limit: 0 };
    [
        KeySpec::one(1, Access::Read),
        KeySpec {
            begin: Begin::Keyword("STORE", options_at, store_key),
            find: ONE,
            access: Access::Overwrite,
        },
        KeySpec {
            begin: Begin::Keyword("STOREDIST", options_at, storedist_key),
            find: ONE,
            access: Access::Overwrite,
        },
    ]
}

const RADIUS_KEYS: &[KeySpec] = &keys(6);
const MEMBER_KEYS: &[KeySpec] = &keys(5);
const KEY: &[KeySpec] = &[KeySpec::one(1, Access::Read)];

const RADIUS_COMPLEXITY: &str = "O(N+log(M)) where N is the number of elements inside the bounding box of the circular area delimited by center and radius and M is the number of items inside the index.";
const SEARCH_COMPLEXITY: &str = "O(N+log(M)) where N is the number of elements in the grid-aligned bounding box area around the shape provided as the filter and M is the number of items inside the shape";

/// The rows of this file.
pub const ROWS: &[Command] = &[
    Command::write("georadius", -6, Group::Geo, georadius)
        .keys(RADIUS_KEYS)
        .flags(Flags::DENYOOM.with(Flags::MOVABLE_KEYS))
        .doc(
            "3.2.0",
            RADIUS_COMPLEXITY,
            "key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC] [STORE key | STOREDIST key]",
            "Queries a geospatial index for members within a distance from a coordinate, optionally stores the result.",
        ),
    Command::read("georadius_ro", -6, Group::Geo, georadius_ro).keys(KEY).doc(
        "3.2.10",
        RADIUS_COMPLEXITY,
        "key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC]",
        "Returns members from a geospatial index that are within a distance from a coordinate.",
    ),
    Command::write("georadiusbymember", -5, Group::Geo, georadiusbymember)
        .keys(MEMBER_KEYS)
        .flags(Flags::DENYOOM.with(Flags::MOVABLE_KEYS))
        .doc(
            "3.2.0",
            RADIUS_COMPLEXITY,
            "key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC] [STORE key | STOREDIST key]",
            "Queries a geospatial index for members within a distance from a member, optionally stores the result.",
        ),
    Command::read("georadiusbymember_ro", -5, Group::Geo, georadiusbymember_ro).keys(KEY).doc(
        "3.2.10",
        RADIUS_COMPLEXITY,
        "key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC]",
        "Returns members from a geospatial index that are within a distance from a member.",
    ),
    Command::read("geosearch", -7, Group::Geo, geosearch).keys(KEY).doc(
        "6.2.0",
        SEARCH_COMPLEXITY,
        "key <FROMMEMBER member | FROMLONLAT longitude latitude> <BYRADIUS radius <M | KM | FT | MI> | BYBOX width height <M | KM | FT | MI>> [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]",
        "Queries a geospatial index for members inside an area of a box or a circle.",
    ),
    Command::write("geosearchstore", -8, Group::Geo, geosearchstore)
        .keys(&[KeySpec::one(1, Access::Overwrite), KeySpec::one(2, Access::Read)])
        .flags(Flags::DENYOOM)
        .doc(
            "6.2.0",
            SEARCH_COMPLEXITY,
            "destination source <FROMMEMBER member | FROMLONLAT longitude latitude> <BYRADIUS radius <M | KM | FT | MI> | BYBOX width height <M | KM | FT | MI>> [ASC | DESC] [COUNT count [ANY]] [STOREDIST]",
            "Queries a geospatial index for members inside an area of a box or a circle, optionally stores the result.",
        ),
];

//! What a search asks for, read from the arguments of its five commands.

use super::area::{Area, Shape};
use super::place::Place;
use super::{place_of, unit};
use crate::command::Args;
use crate::command::options::{Options, integer, is};
use crate::error::CommandError;
use crate::value::number::parse_f64;
use crate::value::sorted_set::SortedSet;

/// Which of the commands it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// GEORADIUS: around a place; may store.
    Radius,
    /// GEORADIUS_RO
    RadiusReadOnly,
    /// GEORADIUSBYMEMBER: around a member; may store.
    Member,
    /// GEORADIUSBYMEMBER_RO
    MemberReadOnly,
    /// GEOSEARCH
    Search,
    /// GEOSEARCHSTORE
    SearchStore,
}

impl Form {
    /// Where the key stands that is searched.
    pub(super) const fn source(self) -> usize {
        if matches!(self, Self::SearchStore) { 2 } else { 1 }
    }

    const fn is_search(self) -> bool {
        matches!(self, Self::Search | Self::SearchStore)
    }
}

/// The order of the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// That in which they are found.
    Any,
    /// The nearest first.
    Ascending,
    /// The farthest first.
    Descending,
}

/// Where the results go instead of into the reply.
#[derive(Debug, Clone, Copy)]
pub(super) struct Destination<'a> {
    pub(super) key: &'a [u8],
    /// The scores are distances rather than places.
    pub(super) distances: bool,
}

/// A search.
#[derive(Debug)]
pub(super) struct Query<'a> {
    /// `None` where there is no key to search.
    pub(super) area: Option<Area>,
    /// How many metres the unit of the answers is.
    pub(super) unit: f64,
    pub(super) with_distance: bool,
    pub(super) with_hash: bool,
    pub(super) with_place: bool,
    pub(super) order: Order,
    /// 0 for all.
    pub(super) count: usize,
    /// The first that are found will do.
    pub(super) any: bool,
    pub(super) destination: Option<Destination<'a>>,
}

const NO_MEMBER: CommandError = CommandError::known("ERR could not decode requested zset member");

fn number(arg: &[u8], error: &'static str) -> Result<f64, CommandError> {
    parse_f64(arg).ok_or(CommandError::known(error))
}

/// A radius in metres, and the metres of its unit.
fn circle(radius: &[u8], name: &[u8]) -> Result<(Shape, f64), CommandError> {
    let radius = number(radius, "ERR need numeric radius")?;
    if radius < 0.0 {
        return Err(CommandError::known("ERR radius cannot be negative"));
    }
    let unit = unit(name)?;
    Ok((Shape::Circle { radius_m: radius * unit }, unit))
}

fn rectangle(width: &[u8], height: &[u8], name: &[u8]) -> Result<(Shape, f64), CommandError> {
    let width = number(width, "ERR need numeric width")?;
    let height = number(height, "ERR need numeric height")?;
    if width < 0.0 || height < 0.0 {
        return Err(CommandError::known("ERR height or width cannot be negative"));
    }
    let unit = unit(name)?;
    Ok((Shape::Box { width_m: width * unit, height_m: height * unit }, unit))
}

fn member(set: &SortedSet, name: &[u8]) -> Result<Place, CommandError> {
    set.score(name).map(Place::of_score).ok_or(NO_MEMBER)
}

/// What FROMMEMBER and FROMLONLAT say.
#[derive(Debug, Clone, Copy)]
enum From {
    Nothing,
    Place(Place),
    /// A member of a key that is not there.
    Member(Option<Place>),
}

impl<'a> Query<'a> {
    /// Reads the arguments; `set` is what is to be searched.
    pub(super) fn parse(
        args: Args<'a>,
        form: Form,
        set: Option<&SortedSet>,
    ) -> Result<Self, CommandError> {
        let mut query = Self {
            area: None,
            unit: 1.0,
            with_distance: false,
            with_hash: false,
            with_place: false,
            order: Order::Any,
            count: 0,
            any: false,
            destination: None,
        };
        let (mut from, mut shape) = (From::Nothing, None);
        let first = match form {
            Form::Radius | Form::RadiusReadOnly => {
                from = From::Place(place_of(args[2], args[3])?);
                shape = Some(circle(args[4], args[5])?);
                6
            }
            Form::Member | Form::MemberReadOnly => {
                if let Some(set) = set {
                    from = From::Member(Some(member(set, args[2])?));
                    shape = Some(circle(args[3], args[4])?);
                }
                5
            }
            Form::Search => 2,
            Form::SearchStore => {
                query.destination = Some(Destination { key: args[1], distances: false });
                3
            }
        };
        let mut options = Options::after(args, first);
        while let Some(option) = options.next() {
            let left = options.left();
            if is(option, "WITHDIST") {
                query.with_distance = true;
            } else if is(option, "WITHHASH") {
                query.with_hash = true;
            } else if is(option, "WITHCOORD") {
                query.with_place = true;
            } else if is(option, "ANY") {
                query.any = true;
            } else if is(option, "ASC") {
                query.order = Order::Ascending;
            } else if is(option, "DESC") {
                query.order = Order::Descending;
            } else if is(option, "COUNT") && left >= 1 {
                query.count = usize::try_from(integer(options.value()?)?)
                    .ok()
                    .filter(|count| *count > 0)
                    .ok_or(CommandError::known("ERR COUNT must be > 0"))?;
            } else if form == Form::SearchStore && is(option, "STOREDIST") {
                query.destination = Some(Destination { key: args[1], distances: true });
            } else if matches!(form, Form::Radius | Form::Member)
                && left >= 1
                && (is(option, "STORE") || is(option, "STOREDIST"))
            {
                let distances = is(option, "STOREDIST");
                query.destination = Some(Destination { key: options.value()?, distances });
            } else if form.is_search() {
                search_option(option, &mut options, set, (&mut from, &mut shape))?;
            } else {
                return Err(CommandError::SYNTAX);
            }
        }
        query.check(args, form, (from, shape.is_some()))?;
        if query.count > 0 && query.order == Order::Any && !query.any {
            query.order = Order::Ascending;
        }
        if let (From::Place(middle) | From::Member(Some(middle)), Some((shape, unit))) =
            (from, shape)
        {
            query.area = Some(Area { middle, shape });
            query.unit = unit;
        }
        Ok(query)
    }

    /// Whether what was given goes together.
    fn check(
        &self,
        args: Args<'_>,
        form: Form,
        (from, has_shape): (From, bool),
    ) -> Result<(), CommandError> {
        let shows = self.with_distance || self.with_hash || self.with_place;
        if self.destination.is_some() && shows {
            return Err(CommandError::known(match form {
                Form::SearchStore => {
                    "ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD \
                     options"
                }
                _ => {
                    "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and \
                     WITHCOORD options"
                }
            }));
        }
        let name = || String::from_utf8_lossy(args[0]).into_owned();
        if form.is_search() && matches!(from, From::Nothing) {
            return Err(CommandError::new(format!(
                "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {}",
                name()
            )));
        }
        if form.is_search() && !has_shape {
            return Err(CommandError::new(format!(
                "ERR exactly one of BYRADIUS and BYBOX can be specified for {}",
                name()
            )));
        }
        if self.any && self.count == 0 {
            return Err(CommandError::known("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }
}

/// An option of GEOSEARCH alone: from where, and how far.
fn search_option(
    option: &[u8],
    options: &mut Options<'_>,
    set: Option<&SortedSet>,
    (from, shape): (&mut From, &mut Option<(Shape, f64)>),
) -> Result<(), CommandError> {
    let left = options.left();
    let is_box = matches!(shape, Some((Shape::Box { .. }, _)));
    let is_circle = matches!(shape, Some((Shape::Circle { .. }, _)));
    if is(option, "FROMMEMBER") && left >= 1 && !matches!(from, From::Place(_)) {
        let name = options.value()?;
        *from = From::Member(set.map(|set| member(set, name)).transpose()?);
    } else if is(option, "FROMLONLAT") && left >= 2 && !matches!(from, From::Member(_)) {
        *from = From::Place(place_of(options.value()?, options.value()?)?);
    } else if is(option, "BYRADIUS") && left >= 2 && !is_box {
        *shape = Some(circle(options.value()?, options.value()?)?);
    } else if is(option, "BYBOX") && left >= 3 && !is_circle {
        *shape = Some(rectangle(options.value()?, options.value()?, options.value()?)?);
    } else {
        return Err(CommandError::SYNTAX);
    }
    Ok(())
}

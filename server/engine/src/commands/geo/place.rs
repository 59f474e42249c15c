//! Places, the cells they lie in, and distances between them.

use std::f64::consts::PI;

/// A range of degrees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Degrees {
    pub(super) min: f64,
    pub(super) max: f64,
}

/// All longitudes.
pub(super) const LONGITUDES: Degrees = Degrees { min: -180.0, max: 180.0 };
/// The latitudes that can be kept: those of the square map of the world.
pub(super) const LATITUDES: Degrees = Degrees { min: -85.051_128_78, max: 85.051_128_78 };
/// The latitudes of the geohash that the rest of the world uses.
pub(super) const ALL_LATITUDES: Degrees = Degrees { min: -90.0, max: 90.0 };

/// Bits of each coordinate in a score.
pub(super) const STEPS_MAX: u32 = 26;

const EARTH_RADIUS_M: f64 = 6_372_797.560_856;

/// Radians of an angle in degrees.
pub(super) fn radians(degrees: f64) -> f64 {
    degrees * (PI / 180.0)
}

/// Degrees of an angle in radians.
pub(super) fn degrees(radians: f64) -> f64 {
    radians / (PI / 180.0)
}

/// Degrees of latitude that so many metres are.
pub(super) fn degrees_of_metres(metres: f64) -> f64 {
    degrees(metres / EARTH_RADIUS_M)
}

/// A place on Earth, in degrees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    pub(super) longitude: f64,
    pub(super) latitude: f64,
}

impl Place {
    /// Whether it can be kept.
    pub(super) fn is_valid(self) -> bool {
        (LONGITUDES.min..=LONGITUDES.max).contains(&self.longitude)
            && (LATITUDES.min..=LATITUDES.max).contains(&self.latitude)
    }

    /// The score it is kept under.
    pub(super) fn score(self) -> f64 {
        Cell::at(self, LATITUDES, STEPS_MAX).bits as f64
    }

    /// The place that a score stands for: the middle of its cell.
    pub(super) fn of_score(score: f64) -> Self {
        let area = Cell { bits: score as u64, steps: STEPS_MAX }.area();
        let middle =
            |range: Degrees, all: Degrees| ((range.min + range.max) / 2.0).clamp(all.min, all.max);
        Self {
            longitude: middle(area.longitudes, LONGITUDES),
            latitude: middle(area.latitudes, LATITUDES),
        }
    }

    /// Metres between two places, along the great circle.
    pub(super) fn distance_m(self, other: Self) -> f64 {
        let v = libm::sin((radians(other.longitude) - radians(self.longitude)) / 2.0);
        if v == 0.0 {
            return self.latitude_distance_m(other);
        }
        let (from, to) = (radians(self.latitude), radians(other.latitude));
        let u = libm::sin((to - from) / 2.0);
        let a = u * u + libm::cos(from) * libm::cos(to) * v * v;
        2.0 * EARTH_RADIUS_M * libm::asin(libm::sqrt(a))
    }

    /// Metres between the latitudes of two places.
    pub(super) fn latitude_distance_m(self, other: Self) -> f64 {
        EARTH_RADIUS_M * (radians(other.latitude) - radians(self.latitude)).abs()
    }

    /// The geohash that the rest of the world uses: eleven letters, of which the last is always
    /// `0`, for ten take all of the score's bits.
    pub(super) fn geohash(self) -> [u8; 11] {
        const LETTERS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        let bits = Cell::at(self, ALL_LATITUDES, STEPS_MAX).bits;
        let mut text = [b'0'; 11];
        for (nth, letter) in text.iter_mut().take(10).enumerate() {
            *letter = LETTERS[(bits >> (52 - 5 * (nth + 1)) & 31) as usize];
        }
        text
    }
}

/// A cell of the grid that halves each coordinate `steps` times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    /// Longitude and latitude in turn, the longitude's bits above.
    pub(super) bits: u64,
    pub(super) steps: u32,
}

/// The degrees that a cell spans.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Span {
    pub(super) longitudes: Degrees,
    pub(super) latitudes: Degrees,
}

/// Spreads the bits of a number out, a zero behind each.
fn spread(number: u32) -> u64 {
    let mut bits = u64::from(number);
    for (shift, mask) in [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555),
    ] {
        bits = (bits | bits << shift) & mask;
    }
    bits
}

/// Gathers every second bit.
fn gather(bits: u64) -> u32 {
    let mut bits = bits & 0x5555_5555_5555_5555;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0f0f_0f0f_0f0f_0f0f),
        (4, 0x00ff_00ff_00ff_00ff),
        (8, 0x0000_ffff_0000_ffff),
        (16, 0x0000_0000_ffff_ffff),
    ] {
        bits = (bits | bits >> shift) & mask;
    }
    bits as u32
}

impl Cell {
    /// The cell of a place, in the grid whose latitudes are these.
    pub(super) fn at(place: Place, latitudes: Degrees, steps: u32) -> Self {
        let index = |degrees: f64, all: Degrees| {
            let part = (degrees - all.min) / (all.max - all.min);
            (part * (1u64 << steps) as f64) as u32
        };
        let (x, y) = (index(place.longitude, LONGITUDES), index(place.latitude, latitudes));
        Self { bits: spread(y) | spread(x) << 1, steps }
    }

    /// What it spans.
    pub(super) fn area(self) -> Span {
        let range = |index: u32, all: Degrees| {
            let (cells, width) = ((1u64 << self.steps) as f64, all.max - all.min);
            Degrees {
                min: all.min + f64::from(index) / cells * width,
                max: all.min + (f64::from(index) + 1.0) / cells * width,
            }
        };
        Span {
            longitudes: range(gather(self.bits >> 1), LONGITUDES),
            latitudes: range(gather(self.bits), LATITUDES),
        }
    }

    /// The cell so many columns to the east and rows to the north; the grid goes round.
    pub(super) fn neighbour(self, east: i32, north: i32) -> Self {
        let mask = (1u32 << self.steps) - 1;
        let moved = |index: u32, by: i32| match by {
            0 => index,
            by => index.wrapping_add_signed(by) & mask,
        };
        let (x, y) = (moved(gather(self.bits >> 1), east), moved(gather(self.bits), north));
        Self { bits: spread(y) | spread(x) << 1, ..self }
    }

    /// The scores of the places in it: from the first on, and below the second.
    pub(super) fn scores(self) -> (f64, f64) {
        let shift = 2 * (STEPS_MAX - self.steps);
        ((self.bits << shift) as f64, ((self.bits + 1) << shift) as f64)
    }
}
